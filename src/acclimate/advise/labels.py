"""A few labelled rows of the target: every way to learn from them judged on rows left out, and what they bought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from acclimate import ranks
from acclimate.advise.crossfit import Pairs, Trial, crossfit, held, put
from acclimate.advise.race import Race, compare, gap_text, value_of
from acclimate.data.rows import Data, IntArray
from acclimate.data.split import folds, units
from acclimate.errors import UserError, plural
from acclimate.evaluate import greater_is_better
from acclimate.metrics.differences import paired_shares
from acclimate.metrics.estimate import Estimate
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, FEW_LABELS, Problem, Splits, Strategy, adapts, source_alone
from acclimate.tasks.answered import answered, rows_of
from acclimate.tasks.base import Floats
from acclimate.usage import watched

SOURCE_ONLY = "source_only"  # the linear probe that saw no target row
# From what departs least from the source to what departs most: of equal ones the first is taken. Before them come the
# source alone and, where there are rows for it, an adaptation that reads no label.
ORDER = ("last_layer", "adapted_last_layer", "pooled", "augmented", "target_only")
NEEDS_EVERY_CLASS = ("last_layer", "adapted_last_layer", "target_only")  # they never answer a class that no row has
FEWEST = 10  # labelled rows below which nothing is judged
# Below so many rows a lead of one standard error is hardly ever there, and to ask for it cost more than it saved; and
# the other ways gained no more than `last_layer`, for many times its time (development pairs of benchmarks/twenty.py).
MANY = 30
AT_FIRST = ("last_layer", "adapted_last_layer")
FOLDS = 5
_DRAWS = 500


@dataclass(frozen=True)
class OnTarget:
    """A strategy whose labelled target rows vary from fold to fold while the source stays."""

    inner: Strategy
    source: Splits
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """`splits.train` holds the labelled target rows of this fold."""
        return self.inner.fit(problem, replace(self.source, target_labelled=splits.train), run)


def label_folds(few: Data, task: str, seed: int, *, dear: bool = False) -> Pairs:
    """Stratified folds of the labelled target rows; below 100 of them three times over, unless a fit is dear."""
    if len(few) < FEWEST:
        raise UserError(
            f"{few.source} holds {plural(len(few), 'labelled row')} that can be used; with fewer than {FEWEST} "
            f"nothing can be "
            "judged: label more of them"
        )
    if task != "regress" and len(set(few.labels or ())) < 2:
        raise UserError(
            f"every labelled row of {few.source} is {(few.labels or ('?',))[0]!r}; label rows until a second class is "
            "among them, since nothing can be learned from one"
        )
    return list(folds(few, task, k=FOLDS, seed=seed, repeats=3 if len(few) < 100 and not dear else 1))


def contest(problem: Problem, source: Splits, few: Data, pairs: Pairs, metric: str, run: Run, free: str | None) -> Race:
    """The source alone, the adaptation `free` that reads no label, and ways of `FEW_LABELS`, judged on the same rows.

    Below `MANY` rows these are `AT_FIRST`, from there on all. Which one is taken: `chosen_of`.
    """
    said: list[str] = []
    trials = [once(SOURCE_ONLY, source_alone(problem), problem, source, few, run)]
    lacking = missing_classes(problem, few)
    for name in ORDER if free is None else (free, *ORDER):
        strategy = {**ADAPTATIONS, **FEW_LABELS}[name]
        if (adapts(strategy) and source.target is None) or (name in FEW_LABELS and not asked_of(name, len(few))):
            continue
        try:
            if name == free:
                trials.append(once(name, strategy, problem, source, few, run))
            elif lacking and name in NEEDS_EVERY_CLASS:
                said.append(f"{name} was not run: no labelled target row is {', '.join(map(repr, lacking[:5]))}.")
            else:
                trials.append(crossfit(name, OnTarget(strategy, source), problem, few, pairs, run, True))
        except UserError as error:
            said.append(f"{name} was not run: {error}")
    for text in said:
        run.progress.say(text)
    chosen, why = chosen_of(problem, few, metric, trials)
    against = {
        t.name: f"{gap_text(compare(problem, few, metric, t, chosen))} against {chosen.name}"
        for t in trials
        if t.name != chosen.name
    }
    return Race(tuple(trials), ranks.agreed(chosen.name), (*said, why), None, against)


def asked_of(name: str, labels: int) -> bool:
    """Whether this way of learning from labels is judged where there are so many."""
    return labels >= MANY or name in AT_FIRST


def once(name: str, strategy: Strategy, problem: Problem, source: Splits, few: Data, run: Run) -> Trial:
    """A model that reads no label of `few`, so that one fit serves every row there."""
    with watched(run.device) as used:
        fitted = strategy.fit(problem, source, run)
        logits = held(problem, len(few), run)
        put(fitted, few.inputs, run, problem.store, logits, np.arange(len(few)))
    return Trial(name, strategy, logits, used.seconds, 1, fitted.notes[0] if fitted.notes else "", used.memory)


def missing_classes(problem: Problem, few: Data) -> list[str]:
    """Classes of the source that no labelled target row has."""
    if problem.task.name != "classify":
        return []
    there = set(few.labels or ())
    return [str(c) for c in problem.decoder.classes if c not in there]


def chosen_of(problem: Problem, few: Data, metric: str, trials: Sequence[Trial]) -> tuple[Trial, str]:
    """The way to take, and why; `trials` from what departs least from the source to what departs most (`ORDER`).

    Rule: below `MANY` rows the best out-of-fold value; from there on, of it and all that it leads by no more than one
    standard error of the paired difference, the first. Breiman et al. (1984), section 3.4.3.
    """
    sign = 1 if greater_is_better(problem.task.name, metric) else -1
    best = max(trials, key=lambda t: sign * value_of(problem, few, metric, t))
    for trial in trials if len(few) >= MANY else [best]:
        gap = compare(problem, few, metric, best, trial)
        error = math.inf if gap.low is None or gap.high is None else (gap.high - gap.low) / (2 * 1.96)
        if trial is best:
            return best, f"{best.name} has the best {metric} on the labelled target rows left out."
        if sign * (gap.value or 0.0) <= error:
            why = (
                f"{best.name} has the best {metric} on the labelled target rows left out, and leads {trial.name} by no "
                f"more than one standard error ({gap_text(gap)}): {trial.name}, which departs less from the source, "
                "was taken."
            )
            return trial, why
    raise AssertionError("the best is among the trials")


@dataclass(frozen=True)
class Bought:
    """What n labelled rows of the target changed in the share of right answers, against the source alone."""

    n: int
    way: str
    gain: Estimate
    taken: bool  # whether this way was chosen: where it was not, the labels changed nothing
    free: str | None  # the adaptation that reads no label, where it was run
    over_label_free: Estimate | None  # the gain over that one

    def text(self) -> str:
        """In one sentence."""
        if self.taken:
            said = (
                f"{plural(self.n, 'label')} bought {_points(self.gain)} of right answers over the source alone "
                f"({self.way})"
            )
        else:
            said = (
                f"{plural(self.n, 'label')} show no way of learning from them to be better"
                f"{' by more than a standard error' if self.n >= MANY else ''}: "
                f"{_points(self.gain)} of right answers over the source alone for {self.way}"
            )
        if self.over_label_free is None:
            return said + "."
        low, high = self.over_label_free.low, self.over_label_free.high
        verdict = "this cannot tell the two apart"
        if low is not None and high is not None and (low > 0 or high < 0):
            verdict = "the labels beat the label-free method" if low > 0 else "the label-free method beats the labels"
        return f"{said}, and {_points(self.over_label_free)} over {self.free}, which reads no label: {verdict}."


def bought(problem: Problem, few: Data, race: Race, free: str | None, *, chosen: bool) -> Bought | None:
    """The gain of the way that the labels chose, less what choosing flatters it by; nothing for numbers.

    Formula: ĝ = mean over bootstrap draws b of the rows of [right by the way that b chooses − right by the source],
    on the rows that b left out (Tsamardinos, Greasidou and Borboudakis 2018, Machine Learning 107: out-of-sample
    predictions are resampled, so that nothing is fitted again). The interval is Tango's for the paired shares of the
    chosen way, moved to ĝ; `chosen` False: the way was named, and nothing is taken off.
    `benchmarks/few_labels_coverage.py` counts how often it holds the truth.
    """
    if problem.task.name not in ("classify", "ordinal"):
        return None
    names = [t.name for t in race.trials]
    right = np.stack([_right(problem, few, t) for t in race.trials])
    weights = np.ones(len(few)) if few.weights is None else few.weights
    way = names.index(race.chosen)
    labelled = [i for i, name in enumerate(names) if name != free] if chosen else [way]
    theirs = [i for i, name in enumerate(names) if name not in (SOURCE_ONLY, free)]
    if way not in theirs:  # the labels chose none: what the best of theirs would have brought
        if not theirs:
            return None
        way = max(theirs, key=lambda i: float(right[i] @ weights))
    unit = units(few)
    beside = free if free in names else None
    over = None if beside is None else honest_gain(right, labelled, way, names.index(beside), unit, few.weights)
    gain = honest_gain(right, labelled, way, 0, unit, few.weights)
    return Bought(len(few), names[way], gain, names[way] == race.chosen, beside, over)


def honest_gain(
    right: Floats, among: Sequence[int], chosen: int, base: int, unit: IntArray, weights: Floats | None = None
) -> Estimate:
    """The gain of a chosen row of `right` (ways, n) over another one, with what choosing among some flatters it by
    taken off."""
    n = right.shape[1]
    clusters = None if len(set(unit)) == n else unit
    gap, interval = paired_shares(right[chosen], right[base], weights=weights, clusters=clusters)
    w = np.ones(n) if weights is None else weights
    rng, found = np.random.default_rng(0), []
    blocks = int(unit.max()) + 1
    for _ in range(_DRAWS):
        count = np.bincount(rng.integers(0, blocks, blocks), minlength=blocks)[unit]
        out = np.flatnonzero(count == 0)
        if len(out):
            way = among[taken(right[list(among)], count * w, blocks)]
            found.append(float(np.average(right[way, out] - right[base, out], weights=w[out])))
    value = float(np.mean(found)) if found else gap
    if interval is None:
        return Estimate(value, None, None, n, "too few rows for an interval")
    off = value - gap
    return Estimate(value, max(-1.0, interval.low + off), min(1.0, interval.high + off), n)


def taken(right: Floats, count: Floats, size: int) -> int:
    """The way that `chosen_of` takes, each row counted so often."""
    return int(np.argmax(np.round(right @ count, 9))) if right.shape[1] < MANY else one_error(right, count, size)


def one_error(right: Floats, count: Floats, size: int) -> int:
    """The first way within one standard error of the best, each row counted so often; `size` rows are independent."""
    weight = count / count.sum()
    means = right @ weight
    best = int(np.argmax(means))
    for way in range(len(right)):
        apart = right[best] - right[way]
        gap = float(apart @ weight)
        error = math.sqrt(max(0.0, float(apart**2 @ weight) - gap**2) / max(1, size - 1))
        if gap <= error + 1e-12:
            return way
    return best


def _right(problem: Problem, few: Data, trial: Trial) -> Floats:
    """1 where the answer of a row left out is its label, (n,)."""
    truth = problem.task.truth(few.labels or (), problem.decoder)
    found = answered(problem.task, problem.decoder, truth, rows_of(trial.logits, np.arange(len(few))))
    return np.asarray(np.asarray(found.decisions) == truth, np.float64)


def _points(e: Estimate) -> str:
    if e.value is None or e.low is None or e.high is None:
        return "an unknown share"
    text = f"{100 * e.value:+.1f} points [{100 * e.low:+.1f}, {100 * e.high:+.1f}]"
    return text.replace("-", "−")
