"""Rows that are their own features: a problem of classes without a network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from acclimate.strategies import Problem
from acclimate.tasks import TASKS


def feature_problem(width: int, classes: int) -> Problem:
    """Inputs are tuples of `width` numbers, labels 0 ... `classes` - 1."""
    backbone: Any = SimpleNamespace(modality="table", width=width, groups=())
    store: Any = SimpleNamespace(
        backbone=backbone, prepare=len, get=lambda inputs: np.array(inputs, np.float32).reshape(-1, width)
    )
    task = TASKS["classify"]
    return Problem(task, task.decoder(tuple(range(classes)), "int"), backbone, store)
