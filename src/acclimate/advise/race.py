"""`auto`: the candidates are judged on the same folds, and the dearer one must show that it is better."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from acclimate import ranks
from acclimate.advise.crossfit import Pairs, Trial, crossfit
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.evaluate import difference, greater_is_better, value
from acclimate.run import Run
from acclimate.strategies import BASELINES, STRATEGIES, Problem, Splits
from acclimate.strategies.tune import Tune
from acclimate.tasks.answered import Answered, answered, rows_of
from acclimate.train.loop import Diverged

FROZEN = ("linear_probe", "centroid", "knn", "hybrid")  # the most useful first, should time run out
MOVING = "lp_ft"
LEAST = 4.0  # seconds that finding out what tuning costs takes by itself


@dataclass(frozen=True)
class Race:
    """Every trial, which one was chosen, and why, in words."""

    trials: tuple[Trial, ...]
    chosen: str
    decisions: tuple[str, ...]

    def trial(self, name: str) -> Trial:
        """The trial of this name."""
        return next(t for t in self.trials if t.name == name)


def seconds_a_fit(tune: Tune, problem: Problem, data: Data, run: Run) -> float:
    """Predicted seconds of one fit on all rows, from a few real steps on rows of typical length.

    Four batches less one batch: what a fit costs once (copying weights, first use of a kernel) is not taken for speed.
    """
    order = np.random.default_rng(0).permutation(len(data))
    trial = replace(tune, num_train_epochs=1, start="zero")
    quiet = replace(run, progress=type(run.progress)(quiet=True), deadline=None, state=None)

    def seconds(batches: int) -> tuple[float, int]:
        few = data.take(np.sort(order[: batches * tune.batch_size]))
        start = time.monotonic()
        trial.fit(problem, Splits(few), quiet)
        return time.monotonic() - start, len(few)

    seconds(1)
    once, rows_once = seconds(1)
    more, rows_more = seconds(5)
    a_row = max(more - once, 1e-3) / max(1, rows_more - rows_once)
    return once + a_row * len(data) * tune.epochs(len(data))


def compare(problem: Problem, data: Data, metric: str, a: Trial, b: Trial) -> Any:
    """The paired difference a − b on rows that both judged, with its interval."""
    at = np.intersect1d(a.judged, b.judged)
    truth = problem.task.truth(data.take(at).labels or (), problem.decoder)

    def view(trial: Trial) -> Answered:
        return answered(problem.task, problem.decoder, truth, rows_of(trial.logits, at))

    weights = None if data.weights is None else data.weights[at]
    clusters = None if data.groups is None else np.unique(np.array(data.groups)[at], return_inverse=True)[1]
    return difference(problem.task.name, metric, truth, view(a), view(b), weights=weights, clusters=clusters, seed=0)


def race(
    problem: Problem,
    data: Data,
    pairs: Pairs,
    metric: str,
    run: Run,
    overrides: Mapping[str, Any] | None = None,
    *,
    every_fold: bool = False,
) -> Race:
    """Judge baselines, frozen candidates, and within the time left `lp_ft`; choose.

    Rule: the frozen candidate with the best out-of-fold value, unless tuning the backbone is better by an interval that
    does not cover 0: the dearer choice, which also holds less well under shift, has to show its worth.
    """
    decisions: list[str] = []
    trials: list[Trial] = []

    def cut(text: str) -> None:
        """What the time limit took away is said at once, and reported."""
        run.progress.say(text)
        decisions.append(text)

    for name in ("majority", FROZEN[0], "tfidf", *FROZEN[1:]):
        strategy = {**BASELINES, **STRATEGIES}[name]
        if strategy.needs_backbone and problem.backbone is None:
            continue
        some = any(t.name in FROZEN for t in trials)
        if run.once(f"late/{name}", partial(_late, run, some)):
            cut(f"{name} was not run: the time limit was reached before.")
            continue
        if run.private and name == "hybrid":
            decisions.append(
                "hybrid was not run: its bundle holds words of the training texts, and the run is private."
            )
            continue
        if name == "centroid" and problem.task.name == "regress":
            continue
        try:
            trials.append(crossfit(name, strategy, problem, data, pairs, run, every_fold))
            if trials[-1].folds < len(pairs):
                cut(f"{name} was judged on {trials[-1].folds} of the {len(pairs)} folds: the time was up.")
        except UserError as error:
            decisions.append(f"{name} was not run: {error}")
    best = _best(problem, data, metric, [t for t in trials if t.name in FROZEN])
    decisions.append(f"{best.name} has the best out-of-fold {metric} of the strategies with a frozen backbone.")
    second = [t for t in trials if t.name in FROZEN and t.name != best.name]
    for other in second:
        gap = compare(problem, data, metric, best, other)
        if gap.verdict == "not decidable":
            decisions.append(f"{best.name} against {other.name}: {gap_text(gap)}; these rows cannot tell them apart.")
    tuned, why = _moving(problem, data, pairs, run, overrides or {})
    for text in why:
        cut(text)
    chosen = best.name
    if tuned is not None:
        trials.append(tuned)
        gap = compare(problem, data, metric, tuned, best)
        if gap.verdict == "better":
            chosen = tuned.name
            decisions.append(f"{tuned.name} was chosen: better than {best.name} by {gap_text(gap)}.")
        else:
            decisions.append(
                f"{tuned.name} was not chosen: {gap_text(gap)} against {best.name}; tuning must show a gain."
            )
    return Race(tuple(trials), ranks.agreed(chosen), tuple(decisions))


def _late(run: Run, some: bool) -> bool:
    """Whether a candidate is passed over: the time is up, and there is one to choose already."""
    return run.left() <= 0 and some


def gap_text(gap: Any) -> str:
    """A difference with its interval and verdict."""
    if gap.low is None or gap.high is None:
        return f"{gap.value:+.3f}".replace("-", "−") + f" (n = {gap.n}: {gap.verdict})"
    numbers = f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]".replace("-", "−")
    return f"{numbers} ({gap.verdict}, n = {gap.n})"


def _best(problem: Problem, data: Data, metric: str, trials: list[Trial]) -> Trial:
    if not trials:
        raise UserError(
            "none of the strategies could be run on this data; see the reasons above or name one by --strategy"
        )
    sign = 1 if greater_is_better(problem.task.name, metric) else -1
    return max(trials, key=lambda trial: sign * value_of(problem, data, metric, trial))


def value_of(problem: Problem, data: Data, metric: str, trial: Trial) -> float:
    """The metric on the rows that this trial judged."""
    at = trial.judged
    part = data.take(at)
    truth = problem.task.truth(part.labels or (), problem.decoder)
    found = answered(problem.task, problem.decoder, truth, rows_of(trial.logits, at))
    return value(problem.task.name, metric, truth, found.outputs, found.decisions, part.weights)


def _moving(
    problem: Problem, data: Data, pairs: Pairs, run: Run, overrides: Mapping[str, Any]
) -> tuple[Trial | None, list[str]]:
    """`lp_ft` on as many of the folds as the time allows, leaving room for the last fit."""
    if problem.backbone is None:
        return None, []
    if problem.backbone.fixed:
        return None, [f"{MOVING} was not run: {problem.backbone.fixed}."]
    tune: Any = replace(STRATEGIES[MOVING], **overrides)  # type: ignore[type-var]
    share = float(np.mean([len(a) for a, _ in pairs])) / len(data)

    def affordable() -> dict[str, float]:
        if run.left() < LEAST:
            return {"folds": 0, "seconds": 0.0, "left": max(0.0, run.left())}
        one = seconds_a_fit(tune, problem, data, run)
        left = 0.8 * run.left()
        folds = len(pairs) if np.isinf(left) else int((left - one) / max(1e-6, one * share))
        return {
            "folds": min(len(pairs), folds, 5),
            "fold": one * share,
            "seconds": one * (1 + share),
            "left": max(0.0, left),
        }

    found = run.once(f"{MOVING}/affordable", affordable)
    folds = int(found["folds"])
    if folds < 1:
        if not found["seconds"]:
            return None, [
                f"{MOVING} was not run: {found['left']:.0f} s were left; raise --time-limit to have it judged."
            ]
        return None, [
            f"{MOVING} was not run: a fold and the last fit take about {found['seconds']:.1f} s here, and "
            f"{found['left']:.1f} s of the time limit are left; raise --time-limit to have it judged."
        ]
    said = [] if folds == len(pairs) else [f"{MOVING} was judged on {folds} of the {len(pairs)} folds."]
    try:
        tuned = crossfit(MOVING, tune, problem, data, pairs[:folds], run)
        took = tuned.seconds / tuned.folds
        return tuned, [*said, f"A fold of {MOVING} was foreseen to take {found['fold']:.0f} s, and took {took:.0f} s."]
    except Diverged as error:
        return None, [f"{MOVING} was not run to its end: {error}"]
