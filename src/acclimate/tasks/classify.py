"""One class a row: binary, many, or ordered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate.data.rows import Label
from acclimate.errors import UserError
from acclimate.tasks.base import Floats, Task, ordered
from acclimate.tasks.decoder import Decoder
from acclimate.tasks.heads import Head, OrdinalHead


def softmax(logits: Floats) -> Floats:
    """Row-wise softmax, shifted so that it cannot overflow."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


@dataclass(frozen=True)
class Classify(Task):
    """Loss: cross-entropy −log softmax(z)_y. Decision: the largest probability, or a threshold, or the least cost."""

    name: str = "classify"

    def decoder(self, labels: Sequence[Label], kind: str, order: tuple[Any, ...] | None = None) -> Decoder:
        """Classes sorted by value (numbers by size, text by code point), or in the order given."""
        found = set(labels)
        classes = tuple(sorted(found)) if order is None else ordered(order, found)
        if len(classes) < 2:
            held = f"holds a single class ({classes[0]!r})" if classes else "is empty"
            raise UserError(f"the label column {held}; at least two classes are needed to learn from")
        return Decoder(self.name, classes, kind)

    def targets(self, labels: Sequence[Label], decoder: Decoder) -> Floats:
        """Codes into `classes`; −1 for a class that training never saw."""
        code = {c: i for i, c in enumerate(decoder.classes)}
        return np.array([code.get(y, -1) for y in labels], dtype=np.int64)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of every row, (n,)."""
        return F.cross_entropy(logits, targets.long(), reduction="none")

    def outputs(self, logits: Floats, decoder: Decoder) -> Floats:
        """softmax(z / T), (n, k)."""
        return softmax(np.asarray(logits, np.float64) / decoder.temperature)

    def decide(self, outputs: Floats, decoder: Decoder) -> Floats:
        """Codes (n,)."""
        if decoder.cost is not None:
            return np.asarray(np.argmin(outputs @ np.asarray(decoder.cost), axis=1))
        if decoder.threshold is not None and len(decoder.classes) == 2:
            at = decoder.classes.index(decoder.positive)
            return np.where(outputs[:, at] >= decoder.threshold, at, 1 - at)
        return np.asarray(np.argmax(outputs, axis=1))

    def answers(self, decisions: Floats, decoder: Decoder) -> list[Any]:
        """Class names in the user's own type."""
        return [decoder.classes[int(i)] for i in decisions]


@dataclass(frozen=True)
class Ordinal(Classify):
    """Ordered classes (grades, severities): proportional odds, one direction and K−1 thresholds.

    Use when: being off by two is worse than by one. Prefer `classify` if the classes do not lie on one scale.
    """

    name: str = "ordinal"

    def head(self, width: int, decoder: Decoder, words: int = 0) -> Head:
        """An `OrdinalHead`: its outputs are log-probabilities, so that the loss and decoding above hold unchanged."""
        return OrdinalHead(width, len(decoder.classes), words)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """−log P(y), (n,)."""
        return -logits[torch.arange(len(logits), device=logits.device), targets.long()]

    def decide(self, outputs: Floats, decoder: Decoder) -> Floats:
        """The median class: it minimises the expected distance in ranks, unlike the mode."""
        if decoder.cost is not None:
            return super().decide(outputs, decoder)
        return np.asarray((np.cumsum(outputs, axis=1) < 0.5).sum(1))
