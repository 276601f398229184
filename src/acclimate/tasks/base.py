"""A task is one kind of answer: its head, its loss, its decoding. `Network` is a backbone with a head on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch
from acclimate.data.rows import Label
from acclimate.errors import UserError
from acclimate.tasks.decoder import Decoder
from acclimate.tasks.heads import Head, LinearHead

Floats: TypeAlias = NDArray[Any]  # float64 values, or int64 codes


class Output(NamedTuple):
    """What one forward gives."""

    features: Tensor  # (n, d)
    logits: Tensor  # (n, k)


class Network(nn.Module):
    """`forward(batch) -> Output`. Call it whole: under several processes a part called alone skips synchronisation."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, batch: Batch) -> Output:
        """Features and logits of one batch."""
        features = self.backbone(batch)
        return Output(features, self.head(features))


@dataclass(frozen=True)
class Task(ABC):
    """Settings of one kind of answer. Nothing learned is stored here; that is the `Decoder`."""

    name: str = ""

    @abstractmethod
    def decoder(self, labels: Sequence[Label], kind: str, order: tuple[Any, ...] | None = None) -> Decoder:
        """Classes (or the scale of the target) from the training labels."""

    @abstractmethod
    def targets(self, labels: Sequence[Label], decoder: Decoder) -> Floats:
        """Labels as numbers: codes (n,), −1 for a class never seen; multi-hot (n, k); standardised values (n,)."""

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of every row, (n,)."""

    @abstractmethod
    def outputs(self, logits: Floats, decoder: Decoder) -> Floats:
        """Probabilities (n, k), or values (n,)."""

    @abstractmethod
    def decide(self, outputs: Floats, decoder: Decoder) -> Floats:
        """Codes (n,), multi-hot (n, k) or values (n,)."""

    @abstractmethod
    def answers(self, decisions: Floats, decoder: Decoder) -> list[Any]:
        """Decisions in the user's own label type."""

    def width(self, decoder: Decoder) -> int:
        """How many logits a row has."""
        return max(1, len(decoder.classes))

    def head(self, width: int, decoder: Decoder, words: int = 0) -> Head:
        """A fresh trainable head, all zero."""
        return LinearHead(width, self.width(decoder), words)

    def attach(self, backbone: Backbone, decoder: Decoder) -> Network:
        """A network of this backbone (not copied) and a fresh head."""
        return Network(backbone, self.head(backbone.width, decoder))

    def confidence(self, outputs: Floats, decisions: Floats) -> Floats:
        """The probability of the answer given, (n,); NaN where the task has none."""
        return np.asarray(outputs[np.arange(len(outputs)), decisions.astype(int)])

    def truth(self, labels: Sequence[Label], decoder: Decoder) -> Floats:
        """Labels as `evaluate.score` reads them: codes, multi-hot, or values on the user's own scale."""
        return self.targets(labels, decoder)


def label_kind(labels: Sequence[Label]) -> str:
    """int, float, bool, list or str: the type of these labels."""
    first = labels[0] if labels else ""
    for kind, type_ in (("bool", bool), ("int", int), ("float", float), ("list", tuple)):
        if isinstance(first, type_):
            return kind
    return "str"


def row_weights(targets: Floats, outputs: int, class_weight: object, weights: Floats | None) -> Floats:
    """Row weights of mean one: the user's own, times n / (K · n_class) where `class_weight="balanced"`.

    Refused for multi-label targets (n, k), where balance is the thresholds' work, and for regression.
    """
    if class_weight is not None and targets.ndim == 2:
        raise UserError("class_weight has no use where a row has several labels: their thresholds are tuned instead")
    if class_weight is not None and targets.ndim == 1 and targets.dtype.kind == "f":
        raise UserError("class_weight speaks of classes, and regression has none; leave it out, or use a weight column")
    n = len(targets)
    out = np.ones(n) if weights is None else np.asarray(weights, float)
    if class_weight == "balanced" and targets.ndim == 1:
        codes = targets.astype(int)
        counts = np.bincount(codes, weights=out, minlength=outputs).astype(float)
        out = out * (out.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1e-12)))[codes]
    elif isinstance(class_weight, (tuple, list)) and targets.ndim == 1:
        out = out * np.asarray(class_weight, float)[targets.astype(int)]
    mean = out.mean()
    return out / mean if mean > 0 else np.ones(n)


def as_tensor(targets: Floats, dtype: torch.dtype) -> Tensor:
    """Targets as a tensor: whole-number codes become int64."""
    whole = targets.ndim == 1 and targets.dtype.kind in "iu"
    return torch.as_tensor(targets, dtype=torch.long if whole else dtype)


def ordered(order: tuple[Any, ...], found: set[Any]) -> tuple[Any, ...]:
    """The classes in the order given (as text or in their own type), which must name every one found."""
    by_text = {str(c): c for c in found}
    missing = sorted(set(by_text) - {str(c) for c in order})
    if missing:
        raise UserError(f"the class order lacks {', '.join(map(repr, missing))}; list every class once, lowest first")
    without = sorted({str(c) for c in order} - set(by_text))
    if without:
        raise UserError(
            f"the class order names {', '.join(map(repr, without))}, which no row has; leave out what cannot be "
            f"learned (the rows have {', '.join(map(repr, sorted(by_text)))})"
        )
    return tuple(by_text[str(c)] for c in order)
