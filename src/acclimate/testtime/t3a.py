"""T3A: the head's class vectors give way to the means of the rows that it is most sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from acclimate.errors import UserError
from acclimate.features import Store
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.tasks.base import Floats
from acclimate.tasks.classify import softmax
from acclimate.tasks.heads import LinearHead
from acclimate.testtime.base import Adapted, Adapter, seen


@dataclass(frozen=True)
class T3A(Adapter):
    """Each class is judged by the mean of its surest rows so far, which starts as the head's own vector.

    Formula: S_k = {w_k}; a batch adds each row z to S_ŷ, ŷ = argmax of the head's logits, and then each S_k keeps the
    `keep` members with the least entropy of the head's softmax; c_k = Σ_{z ∈ S_k} z/‖z‖ and the logits of the batch
    are z·c_k/‖c_k‖, times the mean of ‖w_k‖, which leaves the answers alone and lets confidence start where the
    head's is. Rows are taken from the point nearest to 0 at which the head's logits are all equal: without a bias
    that is 0, as in the paper, and with one the bias counts. The model's temperature is applied after.
    Source: Iwasawa and Matsuo (2021), Test-Time Classifier Adjustment Module for Model-Agnostic Domain
    Generalization, NeurIPS, algorithm 1.
    Use when: the head is linear and the network must not move; it takes no time. It is online: batches are taken in
    the order of the file, and another order gives other answers.
    Prefer lame if the order must not matter or rows come in groups that look alike; prefer nothing if there are only
    a few dozen rows.
    """

    keep: int | None = 100  # members of each class, the paper's M; None: all
    batch_size: int = 64

    order_matters: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.keep is not None and self.keep < 1:
            raise UserError(f"keep is {self.keep}; give how many rows a class keeps, from 1 on, or null for all")
        if self.batch_size < 1:
            raise UserError(f"batch_size is {self.batch_size}; give a whole number from 1 on")

    def check(self, predictor: Predictor) -> None:
        """Refuse a head that has no vector a class in the space of the features."""
        super().check(predictor)
        if not isinstance(predictor.head, LinearHead) or predictor.head.shape["words"]:
            what = "reads words beside features" if isinstance(predictor.head, LinearHead) else "is not linear"
            raise UserError(
                f"t3a starts from a linear head's class vectors, and the head of this model ({predictor.strategy}, "
                f"{predictor.head.kind}) {what}; use lame"
            )

    def _adapted(self, predictor: Predictor, inputs: Sequence[Any], run: Run, store: Store | None) -> Adapted:
        features, plain = seen(predictor, inputs, run, store)
        state = predictor.head.state_dict()
        weight, bias = (state[name].double().cpu().numpy() for name in ("weight", "bias"))
        rows = features.astype(np.float64) - level_point(weight, bias)
        return Adapted(templates(rows, plain, weight, self.keep, self.batch_size), plain)


def level_point(weight: Floats, bias: Floats) -> Floats:
    """The point of least length at which the logits W z + b are all equal (as nearly as may be), (d,).

    >>> level_point(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([3.0, 1.0])).round(9).tolist()
    [-1.0, 0.0]
    """
    found: Floats = np.linalg.lstsq(weight - weight.mean(0), bias.mean() - bias, rcond=None)[0]
    return found


def templates(rows: Floats, logits: Floats, weight: Floats, keep: int | None, batch_size: int) -> Floats:
    """The logits that the growing sets give, (n, K); `rows` (n, d) and the head's `logits` (n, K) in their order."""
    classes = len(weight)
    members = [_unit(weight[k : k + 1]) for k in range(classes)]
    doubts = [_entropies(weight[k : k + 1] @ weight.T) for k in range(classes)]
    labels, doubt, units = logits.argmax(1), _entropies(logits), _unit(rows)
    scale = np.linalg.norm(weight, axis=1).mean()
    out = np.empty((len(rows), classes))
    for start in range(0, len(rows), batch_size):
        at = np.arange(start, min(start + batch_size, len(rows)))
        for k in np.unique(labels[at]):
            mine = at[labels[at] == k]
            known = np.concatenate([doubts[k], doubt[mine]])
            best = np.argsort(known, kind="stable")[:keep]  # of equal ones the earlier
            members[k], doubts[k] = np.concatenate([members[k], units[mine]])[best], known[best]
        centres = _unit(np.stack([m.sum(0) for m in members]))
        out[at] = scale * (rows[at] @ centres.T)
    return out


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0))


def _entropies(logits: Floats) -> Floats:
    p = softmax(logits)
    return np.asarray(-(p * np.log(np.maximum(p, 1e-300))).sum(1))
