"""Problems whose features are known: rows are numbers of a table, and no network is run. Nothing is run here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pairs import Domain

from acclimate.data.rows import Data
from acclimate.strategies import Problem
from acclimate.tasks import TASKS


class Width:
    """What a frozen strategy asks of a backbone that it never calls."""

    modality = "text"  # inputs are numbers as text
    untrained, pretrained = False, True

    def __init__(self, width: int) -> None:
        self.width = width


class Fixed:
    """A store of features by number."""

    def __init__(self, backbone: Width, features: Any) -> None:
        self.backbone, self.features = backbone, features

    def prepare(self, inputs: Any) -> None:
        """All are there."""

    def get(self, inputs: Any) -> Any:
        """In the order of `inputs`."""
        return self.features[[int(x) for x in inputs]]


def problem_of(x: Any, classes: Sequence[int]) -> Problem:
    """Classification of the rows of `x`, named by their numbers as text."""
    task, backbone = TASKS["classify"], Width(x.shape[1])
    return Problem(task, task.decoder(tuple(classes), "int"), backbone, Fixed(backbone, x))  # type: ignore[arg-type]


def adaptation(source: Domain, target: Domain) -> tuple[Problem, Data, Data]:
    """The problem, all source rows with their labels, and all target rows without."""
    n = len(source.y)
    x = np.concatenate([source.x, target.x]).astype(np.float32)
    ours, theirs = np.arange(n), np.arange(n, len(x))
    train = Data(tuple(map(str, ours)), tuple(int(v) for v in source.y), clusters=ours)
    return problem_of(x, sorted({int(v) for v in source.y})), train, Data(tuple(map(str, theirs)), clusters=theirs)
