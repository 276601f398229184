"""Feature extraction without a fitted weight: nearest neighbours and nearest class means."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate.errors import UserError, plural
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.tasks.base import Floats
from acclimate.tasks.heads import CentroidHead, KnnHead, neighbours

NEIGHBOURS = (1, 3, 5, 10, 20, 40)


@dataclass(frozen=True)
class Knn:
    """k nearest neighbours by cosine on frozen features; k by leave-one-out on the training rows (exact, no refit).

    Cover & Hart 1967. L(θ) = 0 · θ: nothing is fitted, so it shows what the pretrained features know by themselves.

    Use when: many classes with few rows each, or as a check on the others. Prefer `linear_probe` otherwise. The bundle
    holds the features of every training row.
    """

    k: int | None = None
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise UserError(f"k={self.k!r} must be 1 or more; without it, k is chosen by leave-one-out")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Store the training features; choose k."""
        backbone, store = problem.network()
        train = splits.train
        targets = problem.targets(train)
        answers = as_answers(problem, targets)
        mode = {"regress": "mean", "multilabel": "odds"}.get(problem.task.name, "log")
        head = KnnHead(backbone.width, answers.shape[1], len(train), self.k or 1, mode)
        features = torch.from_numpy(store.get(train.inputs))
        head.center.copy_(features.mean(0))
        head.bank.copy_(head.unit(features))
        head.answers.copy_(answers)
        head.weight.copy_(torch.from_numpy(problem.weights(train, targets)))
        k = min(self.k or _choose(head, problem, targets, train.clusters), len(train))
        lowered = (
            f" ({self.k} asked, but only {plural(k, 'row')} are there)" if self.k is not None and self.k > k else ""
        )
        head.shape["k"] = k
        return Predictor(
            problem.task, problem.decoder, head, backbone, None, "knn", {"k": k}, (), notes=(f"knn: k = {k}{lowered}",)
        )


def as_answers(problem: Problem, targets: Floats) -> Tensor:
    """One-hot, multi-hot (NaN where it is not known) or a single column of values, (n, k) float32."""
    if problem.task.name == "multilabel":
        return torch.from_numpy(targets).float()
    if problem.task.name == "regress":
        return torch.from_numpy(targets).float()[:, None]
    return F.one_hot(torch.from_numpy(targets.astype(np.int64)), len(problem.decoder.classes)).float()


def _choose(head: KnnHead, problem: Problem, targets: Floats, clusters: object) -> int:
    """The k with the least leave-one-out loss. Duplicates of a row would answer for it, so one row a cluster asks."""
    rows = len(head.bank)
    if rows < 4:
        return 1
    ask = np.arange(rows) if clusters is None else np.unique(np.asarray(clusters), return_index=True)[1]
    whole = targets.dtype.kind in "iu"
    truth = torch.as_tensor(targets, dtype=torch.long if whole else torch.float32)[ask]
    best, best_loss = 1, float("inf")
    for k in [k for k in NEIGHBOURS if k < rows]:
        logits = neighbours(head, head.bank, exclude_self=True, k=k)[ask]
        loss = float((head.weight[ask] * problem.task.losses(logits, truth)).mean())
        if loss < best_loss:
            best, best_loss = k, loss
    return best


@dataclass(frozen=True)
class Centroid:
    """Nearest class mean by cosine: z_k = s · cos(f − m, c_k); s by leave-one-out over a short list.

    Snell et al. 2017 (arXiv:1703.05175), without episodes. Use when: one to five rows a class. Prefer `linear_probe`
    from there on. Not defined for regression.
    """

    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Average the unit features of every class."""
        if problem.task.name == "regress":
            raise UserError(
                "strategy 'centroid' averages the rows of a class, and regression has none; use linear_probe or knn"
            )
        backbone, store = problem.network()
        targets = problem.targets(splits.train)
        answers = as_answers(problem, targets)
        known = ~answers.isnan()
        answers = answers.nan_to_num()
        weights = torch.from_numpy(problem.weights(splits.train, targets)).float()[:, None]
        head = CentroidHead(backbone.width, answers.shape[1])
        features = torch.from_numpy(store.get(splits.train.inputs))
        head.center.copy_(features.mean(0))
        unit = F.normalize(features - head.center, dim=1)
        share = answers * weights
        head.centroids.copy_(F.normalize(share.T @ unit, dim=1))
        if problem.task.name == "multilabel":
            rate = (share.sum(0) + 0.5) / ((weights * known).sum(0) + 1)
            head.bias.copy_(torch.log(rate) - torch.log1p(-rate))
        head.scale.copy_(torch.tensor(_scale(head, problem, unit, targets, share)))
        return Predictor(problem.task, problem.decoder, head, backbone, None, "centroid", {}, ())


def _scale(head: CentroidHead, problem: Problem, unit: Tensor, targets: Floats, share: Tensor) -> float:
    """s by leave-one-out: a row is taken out of the means of its own classes before it is judged by them."""
    sums = share.T @ unit  # (k, d)
    own = torch.stack(
        [(unit * F.normalize(sums[c] - share[:, c : c + 1] * unit, dim=1)).sum(1) for c in range(len(sums))], 1
    )
    whole = targets.dtype.kind in "iu"
    truth = torch.as_tensor(targets, dtype=torch.long if whole else torch.float32)
    scales = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    if problem.task.name == "ordinal":  # its losses read log-probabilities
        losses = [float(F.cross_entropy(s * own, truth)) for s in scales]
    else:
        losses = [float(problem.task.losses(s * own + head.bias, truth).mean()) for s in scales]
    return scales[int(np.argmin(losses))]
