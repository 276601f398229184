"""What an adapter is: a model, rows without labels, and the answers that the model would give at home among them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import UserError
from acclimate.features import Features, Store
from acclimate.keys import key_of
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.tasks.base import Floats


@dataclass(frozen=True)
class Adapted:
    """Answers to the rows in their order. `task.outputs` of either logits gives probabilities, as of any model."""

    logits: Floats  # (n, K)
    plain: Floats  # (n, K), without adapting
    notes: tuple[str, ...] = ()  # what happened on the way, in sentences

    def changed(self, predictor: Predictor) -> int:
        """How many rows are answered otherwise than without adapting."""
        task, decoder = predictor.task, predictor.decoder
        new, old = (task.decide(task.outputs(z, decoder), decoder) for z in (self.logits, self.plain))
        return int((new != old).sum())


@dataclass(frozen=True)
class Adapter(ABC):
    """Settings of one way to adapt a fitted classifier to the rows that it is to judge. The model is left as it is."""

    order_matters: ClassVar[bool]  # whether the answers depend on the order of the rows

    def adapt(
        self, predictor: Predictor, inputs: Sequence[Any], run: Run | None = None, store: Store | None = None
    ) -> Adapted:
        """The answers to these rows, which are all there is of the target. `store` may hold their features."""
        self.check(predictor)
        if not len(inputs):
            raise UserError(f"{self.name} adapts to the rows it is given, and there is none to judge; give some")
        return self._adapted(predictor, inputs, run or Run(), store)

    @property
    def name(self) -> str:
        """As the user calls it."""
        return type(self).__name__.lower()

    def check(self, predictor: Predictor) -> None:
        """Refuse a model that this cannot adapt, saying why."""
        if predictor.task.name not in ("classify", "ordinal"):
            raise UserError(
                f"{self.name} adapts the probabilities of one class a row, and this model's task is "
                f"{predictor.task.name}; predict without --adapt"
            )
        if predictor.backbone is None:
            raise UserError(
                f"{self.name} needs the features of a pretrained network, and this model ({predictor.strategy}) has "
                "none; predict without --adapt"
            )

    @abstractmethod
    def _adapted(self, predictor: Predictor, inputs: Sequence[Any], run: Run, store: Store | None) -> Adapted:
        """The work, after the checks."""


def by_content(inputs: Sequence[Any], modality: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the distinct inputs in an order that content alone gives, and which of them each input is.

    >>> first, which = by_content(["b", "a", "b"], "text")
    >>> sorted(first.tolist()), bool(which[0] == which[2])
    ([0, 1], True)
    """
    keys = np.frombuffer(b"".join(key_of(value, modality) for value in inputs), "V16")
    order = np.argsort(keys, kind="stable")
    new = np.ones(len(keys), bool)
    new[1:] = keys[order][1:] != keys[order][:-1]
    which = np.empty(len(keys), np.intp)
    which[order] = np.cumsum(new) - 1
    return order[new], which


def seen(predictor: Predictor, inputs: Sequence[Any], run: Run, store: Store | None) -> tuple[Features, Floats]:
    """Features (n, d) and plain logits (n, K) of all rows."""
    features, logits = zip(*predictor.seen(inputs, run, store), strict=True)
    return np.concatenate(features), np.concatenate(logits)
