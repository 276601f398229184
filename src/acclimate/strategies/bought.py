"""What n labelled rows of the target bought over the source alone, from those labelled rows themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from acclimate.data.rows import Data
from acclimate.data.split import units
from acclimate.errors import UserError
from acclimate.metrics.base import mean_of
from acclimate.metrics.differences import paired
from acclimate.metrics.estimate import Estimate, with_interval
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits, Strategy
from acclimate.strategies.probe import Probe
from acclimate.tasks.base import Floats

FEWEST = 10  # rows left to judge on


@dataclass(frozen=True)
class Bought:
    """Accuracy with n target labels, without any, and the difference on the same rows."""

    n: int
    accuracy: float
    source_only: float
    gain: Estimate  # paired; its interval speaks of which rows judge, and of the draws only in their mean
    repeats: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return asdict(self)


def bought(
    strategy: Strategy,
    problem: Problem,
    splits: Splits,
    run: Run,
    counts: Sequence[int] = (20, 50, 200),
    *,
    repeats: int = 10,
) -> list[Bought]:
    """Accuracy at n labels for every n that leaves rows to judge on: n rows drawn, the others judge; `repeats` times.

    Formula: of each row the mean over draws in which it judged, of right answers by `strategy` with the n rows less
    right answers by the `linear_probe` of the source; then the mean over rows, with the paired jackknife's interval.
    Copies of a row, and its group, are never on both sides.
    Source: repeated learning-testing (Burman 1989, Biometrika 76).
    Use when: it is to be decided whether more rows are worth their labels. The rows must be drawn at random: those of
    `label_next` lie where the models differ, and show more than was bought.
    """
    if splits.target_labelled is None or problem.task.name not in ("classify", "ordinal"):
        raise UserError("what labels bought is counted in right answers: it needs labelled target rows and classes")
    labelled = splits.target_labelled
    unit = units(labelled)
    without = _right(Probe().fit(problem, Splits(splits.train, splits.valid), run), problem, labelled, run)
    found = []
    for n in sorted(set(counts)):
        if not 0 < n <= len(labelled) - FEWEST:
            continue
        hits = np.full((repeats, len(labelled)), np.nan)
        for r in range(repeats):
            drawn = np.random.default_rng([run.seed, n, r]).permutation(len(labelled))[:n]
            fitted = strategy.fit(
                problem, Splits(splits.train, splits.valid, target_labelled=labelled.take(drawn)), run
            )
            judge = np.flatnonzero(~np.isin(unit, unit[drawn]))
            hits[r, judge] = _right(fitted, problem, labelled.take(judge), run)
        judged = np.flatnonzero(np.isfinite(hits).any(0))
        if len(judged) < FEWEST:
            continue
        mine, theirs = np.nanmean(hits[:, judged], axis=0), without[judged]
        gain, interval = paired(mean_of(mine), mean_of(theirs), len(judged), clusters=unit[judged], seed=run.seed)
        estimate = with_interval(gain, interval, len(judged))
        found.append(Bought(n, float(mine.mean()), float(theirs.mean()), estimate, repeats))
    return found


def _right(fitted: Predictor, problem: Problem, data: Data, run: Run) -> Floats:
    """1 where the answer is the label, else 0, (n,)."""
    answers = problem.task.decide(fitted.outputs(data.inputs, run, problem.network()[1]), problem.decoder)
    return np.asarray(answers == problem.targets(data), np.float64)
