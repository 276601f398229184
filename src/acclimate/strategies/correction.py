"""A person's corrections: the head learned anew with them, or moved as little as they ask for.

Both ways also give answers to the corrections from fits that had not seen them, which is what they are judged by.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.data.rows import Data, IntArray, joined
from acclimate.errors import UserError, plural
from acclimate.model import Predictor
from acclimate.plain import sparse
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits, Strategy
from acclimate.tasks.base import Floats, as_tensor
from acclimate.tasks.decoder import Decoder

WEIGHTS = (1.0, 3.0, 10.0)  # of a correction, beside a training row
PULLS = (10.0, 1.0, 0.1, 0.01)  # towards the former head
FOLDS = 5


@dataclass(frozen=True)
class Corrected:
    """A model that learned from corrections, and logits (n, k) for them of fits that had not seen them (NaN where there
    are too few to leave some out)."""

    predictor: Predictor
    left_out: Floats
    how: str
    weight: float = 1.0  # of a correction, beside a known row


def refit(strategy: Strategy, problem: Problem, known: Data, corrections: Data, run: Run) -> Corrected:
    """min over heads of Σ_known w_i ℓ_i + c Σ_corrections ℓ_i as the strategy itself has it, with the least c of
    `WEIGHTS` whose fits have a loss on corrections left out that is within a standard error of the best: corrections
    are hard cases, and what counts them more than they gain leans away from what was known.

    Use where the training rows are there: everything that was known takes part, on features that are in the cache.
    """
    fold = folds_of(corrections, run.seed)

    def fitted(rows: IntArray, weight: float) -> Predictor:
        ours = np.ones(len(known)) if known.weights is None else known.weights
        theirs = replace(corrections.take(rows), weights=np.full(len(rows), weight * float(ours.mean())))
        return strategy.fit(problem, Splits(joined(replace(known, weights=ours), theirs)), run)

    def logits(predictor: Predictor, rows: IntArray) -> Floats:
        return predictor.logits(corrections.take(rows).inputs, run, problem.store)

    weight, left_out = _best(WEIGHTS, 1, fold, problem, corrections, lambda at, w: fitted(at, w), logits)
    found = fitted(np.arange(len(corrections)), weight)
    how = f"the head was fitted on {plural(len(known), 'known row')} and {plural(len(corrections), 'correction')}"
    return Corrected(found, left_out, f"{how}, each {weight:g} times the weight of a known row", weight)


def moved(predictor: Predictor, problem: Problem, corrections: Data, run: Run) -> Corrected:
    """min_θ (1/n) Σ ℓ_i(θ) + ρ ‖s·(θ − θ₀)‖² over the corrections alone, θ₀ the former head, s the root mean square of
    the features; ρ of `PULLS` by corrections left out. A proximal step: what they do not speak of stays.

    Use where the training rows are not there, or the backbone moved with them.
    """
    if not list(predictor.head.parameters()):
        raise UserError(
            f"a head of strategy {predictor.strategy!r} holds its training rows and has nothing that could move; give "
            "the training data back to its place, so that it can be fitted anew"
        )
    fold = folds_of(corrections, run.seed)
    features, words = _read(predictor, corrections, run, problem)
    targets = problem.targets(corrections)

    def fitted(rows: IntArray, pull: float) -> Predictor:
        head = copy.deepcopy(predictor.head).double()
        _step(head, features[rows], None if words is None else words[rows], targets[rows], problem, pull)
        return replace(predictor, head=head.float().eval())

    def logits(one: Predictor, rows: IntArray) -> Floats:
        with torch.no_grad():
            mine = None if words is None else sparse(words[rows], torch.float32)
            return np.asarray(one.head.float()(torch.from_numpy(features[rows]).float(), mine).double().numpy())

    pull, left_out = _best(PULLS, 1, fold, problem, corrections, fitted, logits)
    found = fitted(np.arange(len(corrections)), pull)
    how = f"the head was moved by {plural(len(corrections), 'correction')}, held to what it was by {pull:g}"
    return Corrected(found, left_out, how)


def folds_of(data: Data, seed: int) -> IntArray | None:
    """The fold of each correction, copies together; None where there are fewer than two different ones."""
    unit = np.arange(len(data)) if data.clusters is None else np.unique(data.clusters, return_inverse=True)[1]
    units = int(unit.max(initial=-1)) + 1
    if units < 2:
        return None
    return np.asarray((np.random.default_rng(seed).permutation(units) % min(FOLDS, units))[unit.reshape(-1)])


def _best(
    choices: Sequence[float],
    usual: int,
    fold: IntArray | None,
    problem: Problem,
    corrections: Data,
    fitted: Callable[[IntArray, float], Predictor],
    logits: Callable[[Predictor, IntArray], Floats],
) -> tuple[float, Floats]:
    """The choice with the least loss on corrections left out, and their logits by it."""
    n, width = len(corrections), problem.task.width(problem.decoder)
    if fold is None:
        return choices[usual], np.full((n, width), np.nan)
    targets = problem.targets(corrections)
    losses: list[Floats] = []
    found: list[Floats] = []
    for choice in choices:
        out = np.zeros((n, width))
        for k in np.unique(fold):
            rows = np.flatnonzero(fold == k)
            out[rows] = logits(fitted(np.flatnonzero(fold != k), choice), rows)
        each = problem.task.losses(torch.from_numpy(out), as_tensor(targets, torch.float64))
        losses.append(each.numpy())
        found.append(out)
    best = int(np.argmin([one.mean() for one in losses]))
    for at, one in enumerate(losses):  # the first that cannot be told from the best
        more = one - losses[best]
        if more.mean() <= more.std() / np.sqrt(n):
            return choices[at], found[at]
    return choices[best], found[best]


def _read(predictor: Predictor, data: Data, run: Run, problem: Problem) -> tuple[Floats, Any]:
    """Features (n, d), and words where the head reads some."""
    parts = [features for features, _ in predictor.seen(data.inputs, run, problem.store)]
    words = None if predictor.plain is None else predictor.plain.transform(list(data.inputs)).tocsr()
    return np.concatenate(parts).astype(np.float64), words


def _step(head: nn.Module, features: Floats, words: Any, targets: Floats, problem: Problem, pull: float) -> None:
    """Minimise in place by L-BFGS, double precision."""
    moving = [p for p in head.parameters()]
    for p in moving:
        p.requires_grad_(True)
    start = [p.detach().clone() for p in moving]
    rms = torch.from_numpy(np.sqrt((features**2).mean(0))).clamp_min(1e-12)
    scales = [rms if p.ndim == 2 and p.shape[1] == len(rms) else torch.ones((), dtype=torch.float64) for p in moving]
    x, truth = torch.from_numpy(features), as_tensor(targets, torch.float64)
    beside = None if words is None else sparse(words, torch.float64)
    solver = torch.optim.LBFGS(moving, max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        solver.zero_grad()
        loss = problem.task.losses(head(x, beside), truth).mean()
        for p, p0, s in zip(moving, start, scales, strict=True):
            loss = loss + pull * (s * (p - p0)).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        found: Tensor = loss.detach()
        return found

    solver.step(closure)  # type: ignore[no-untyped-call]
    for p in moving:
        p.requires_grad_(False)


def with_classes(decoder: Decoder, new: Sequence[Any]) -> Decoder:
    """The decoder with further classes at the end: what was fitted for the former ones alone is dropped."""
    if not new:
        return decoder
    return replace(
        decoder, classes=(*decoder.classes, *new), temperature=1.0, thresholds=(), threshold=None, positive=None,
        cost=None, conformal=(),
    )  # fmt: skip
