"""Feature extraction: the backbone is frozen and a linear head is fitted on its cached features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from acclimate.data.rows import Data
from acclimate.data.split import folds
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.tasks.base import Floats
from acclimate.tasks.heads import Csr, Head, LinearHead
from acclimate.threads import few
from acclimate.train.batched import KINDS, Basis, fit_head, losses_by_fold
from acclimate.train.solve import Rows, Scaling, minimise, path
from acclimate.words import WordFeatures, fit_words

STRENGTHS = tuple(float(f"{10 ** (k / 4):.3g}") for k in range(-10, 13))  # C from 0.003 to 1000
FEWER = STRENGTHS[::2]  # for heads whose every fit takes its time


@dataclass(frozen=True)
class Probe:
    """A penalised linear head on frozen features: min_W Σ w_i ℓ(W f_i, y_i) + ‖W‖²/(2C), C chosen by folds.

    Alain & Bengio 2016 (arXiv:1610.01644). L(θ) = L_source(θ) with only the head's θ moving.

    Use when: always, first; up to about 16 rows a class it usually beats fine-tuning, and it resists shift better.
    Prefer `lp_ft` if there are hundreds of rows a class and new rows look like the training ones. With `words` the
    head reads TF-IDF words beside the features (`hybrid`); with `features=False` words alone (`tfidf`, no transfer).
    """

    features: bool = True
    words: bool = False
    strength: float | None = None  # C; None: chosen from a path by folds
    inner_folds: int = 4
    max_words: int = 50_000
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs_backbone", self.features)
        if not (self.features or self.words):
            raise UserError("a probe reads features, words or both; at least one must be on")
        if self.strength is not None and not self.strength > 0:
            raise UserError(f"strength {self.strength!r} must be above 0; it is C in Σ loss + ‖W‖²/(2C)")
        for name, least in (("inner_folds", 2), ("max_words", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)!r} must be {least} or more")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Choose C on folds inside the training rows (or on `splits.valid`), then fit on all of them."""
        train = splits.train
        words = fit_words(train.inputs, self.max_words) if self.words else None
        if words is None and not self.features:
            raise UserError("no text holds a single word, so there is nothing for tfidf to learn from")
        raw = self._features(problem, train)
        scaling = Scaling.of(raw)
        rows = self._rows(problem, train, scaling, words)
        head = self._head(problem, words)
        with few(4.0 * len(rows) * sum(p.numel() for p in head.parameters()) + 1.0):
            strength = self._fit_head(head, problem, splits, rows, scaling, words, run)
        scaling.fold_into(head)
        name = {(True, False): "linear_probe", (True, True): "hybrid", (False, True): "tfidf"}[
            (self.features, self.words)
        ]
        settings = {
            "features": self.features,
            "words": self.words,
            "strength": strength,
            "inner_folds": self.inner_folds,
            "max_words": self.max_words,
        }
        return Predictor(
            problem.task,
            problem.decoder,
            head.float(),
            problem.backbone if self.features else None,
            words,
            name,
            settings,
            tuple(f"head.{n}" for n, _ in head.named_parameters()),
            notes=(f"{name}: C = {strength:g}",),
        )

    def _head(self, problem: Problem, words: WordFeatures | None) -> Head:
        width = problem.network()[0].width if self.features else 0
        return problem.task.head(width, problem.decoder, words.width if words else 0).double()

    def _features(self, problem: Problem, data: Data) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        if not self.features:
            return np.zeros((len(data), 0), np.float32)
        return problem.network()[1].get(data.inputs)

    def _rows(self, problem: Problem, data: Data, scaling: Scaling, words: WordFeatures | None) -> Rows:
        targets = problem.targets(data)
        whole = targets.dtype.kind in "iu"
        return Rows(
            scaling.apply(self._features(problem, data)),
            Csr(words.transform(data.inputs)) if words else None,
            torch.as_tensor(targets, dtype=torch.long if whole else torch.float64),
            torch.from_numpy(problem.weights(data, targets)),
        )

    def _fit_head(
        self,
        head: Head,
        problem: Problem,
        splits: Splits,
        rows: Rows,
        scaling: Scaling,
        words: WordFeatures | None,
        run: Run,
    ) -> float:
        """Fit in place at the C with the least mean loss on rows that its head was not fitted on; that C."""
        kind = KINDS.get(problem.task.name)
        valid = problem.held_out(splits) if self.strength is None else None
        held_out = None if valid is None else self._rows(problem, valid, scaling, words)
        pairs: Sequence[tuple[Any, Any]] = []
        if self.strength is None and held_out is None:
            pairs = inner(splits.train, problem.task.name, self.inner_folds, run.seed)
        if kind is not None:
            assert isinstance(head, LinearHead)
            outputs, basis = len(head.weight), Basis(rows)
            strength = self.strength or 1.0
            if held_out is not None:
                ends = [(range(len(rows)), range(len(rows), len(rows) + len(held_out)))]
                both = Basis(rows.joined(held_out))
                strength = _least(losses_by_fold(both, kind, outputs, STRENGTHS, ends).sum(0), STRENGTHS)
            elif pairs:
                sizes = np.array([[len(judge_at)] for _, judge_at in pairs])
                scores = losses_by_fold(basis, kind, outputs, STRENGTHS, pairs)
                strength = _least((scores * sizes).sum(0), STRENGTHS)
            fit_head(head, basis, kind, strength)
            return strength
        strength = self.strength or self._walk(problem, rows, words, held_out, pairs)
        for step in [*[s for s in FEWER if s < strength][-3:], strength]:  # a warm start is quicker than a cold one
            minimise(head, rows, problem.task.losses, step)
        return strength

    def _walk(
        self,
        problem: Problem,
        rows: Rows,
        words: WordFeatures | None,
        held_out: Rows | None,
        pairs: Sequence[tuple[Any, Any]],
    ) -> float:
        """The best C of a head that only the general solver can fit: one fold after the other."""
        losses = problem.task.losses
        if held_out is not None:
            return _least(path(self._head(problem, words), rows, losses, FEWER, held_out), FEWER)
        total = np.zeros(len(FEWER))
        for fit_at, valid_at in pairs:
            head = self._head(problem, words)
            total += path(head, rows.take(fit_at), losses, FEWER, rows.take(valid_at)) * len(valid_at)
        return _least(total, FEWER) if len(pairs) else 1.0


def _least(scores: Floats, strengths: Sequence[float]) -> float:
    return strengths[int(np.argmin(scores))]


def inner(data: Data, task: str, k: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Folds for choosing a setting; none where the rows are too few or too tied together to be folded."""
    if len(data) < 8:
        return []
    try:
        pairs = folds(data, task, k=k, seed=seed)
    except UserError:
        return []
    return [(list(map(int, a)), list(map(int, b))) for a, b in pairs]


def with_words(probe: Probe) -> Probe:
    """The same probe, reading words too."""
    return replace(probe, words=True)
