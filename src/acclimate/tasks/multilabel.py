"""Any number of classes a row; where a cell of several label columns is empty, it counts nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate.data.label_columns import Marks, classes_of
from acclimate.data.rows import Label
from acclimate.errors import UserError
from acclimate.tasks.base import Floats, Task, ordered
from acclimate.tasks.decoder import Decoder


@dataclass(frozen=True)
class MultiLabel(Task):
    """Loss: the sum over the classes that are known of binary cross-entropy. Decision: one tuned threshold a class."""

    name: str = "multilabel"

    def decoder(self, labels: Sequence[Label], kind: str, order: tuple[Any, ...] | None = None) -> Decoder:
        """Classes in sorted order; label columns in the user's."""
        classes = classes_of(labels)
        if not classes:
            raise UserError("no row has any label; a multi-label column needs at least one class")
        return Decoder(self.name, classes if order is None else ordered(order, set(classes)), "list")

    def targets(self, labels: Sequence[Label], decoder: Decoder) -> Floats:
        """Multi-hot (n, k), NaN where it is not known. Classes never seen in training have no column; `evaluate` counts
        them."""
        code = {c: i for i, c in enumerate(decoder.classes)}
        out = np.zeros((len(labels), len(code)))
        for i, row in enumerate(labels):
            for c in _row(row):
                if c in code:
                    out[i, code[c]] = 1.0
            for c in row.unknown if isinstance(row, Marks) else ():
                if c in code:
                    out[i, code[c]] = np.nan
        return out

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Σ_k binary cross-entropy over what is known, (n,)."""
        known = ~torch.isnan(targets)
        truth = targets.where(known, 0.0).to(logits.dtype)
        return (F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * known).sum(1)

    def outputs(self, logits: Floats, decoder: Decoder) -> Floats:
        """σ(z / T), (n, k)."""
        z = np.clip(np.asarray(logits, np.float64) / decoder.temperature, -500, 500)
        return np.asarray(1 / (1 + np.exp(-z)))

    def decide(self, outputs: Floats, decoder: Decoder) -> Floats:
        """Multi-hot (n, k)."""
        return (outputs >= np.asarray(decoder.thresholds or [0.5] * outputs.shape[1])).astype(float)

    def answers(self, decisions: Floats, decoder: Decoder) -> list[Any]:
        """A tuple of class names for every row, possibly empty."""
        return [tuple(decoder.classes[j] for j in np.flatnonzero(row)) for row in decisions]

    def confidence(self, outputs: Floats, decisions: Floats) -> Floats:
        """The probability that every class of the row is decided right, taking them as independent, (n,)."""
        return np.asarray(np.where(decisions > 0, outputs, 1 - outputs).prod(1))


def _row(value: Label) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
