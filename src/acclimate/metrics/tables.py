"""Every metric of a task with its interval: for all rows, for each class."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from acclimate.errors import plural
from acclimate.metrics import classification, multilabel, regression
from acclimate.metrics.base import Metric, mean_of
from acclimate.metrics.calibration import calibration_floor, calibration_limits
from acclimate.metrics.digest import MANY_CLASSES, UNRANKED, Digest
from acclimate.metrics.estimate import Estimate, at_the_edge, from_draws, too_few, with_interval
from acclimate.metrics.intervals import (
    BLOCKS,
    WORK,
    FloatArray,
    IntArray,
    Interval,
    mean,
    mean_of_proportions,
    on_scale,
    proportion,
    resample,
    units_of,
)
from acclimate.metrics.ranks import area_influence

_STEPS = {
    name: replace(regression.METRICS[name], needs="labels", scale=scale)
    for name, scale in (("mae", "positive"), ("spearman", "signed"))
}
METRICS: dict[str, dict[str, Metric]] = {
    "classify": classification.METRICS,
    "ordinal": {"quadratic_kappa": classification.METRICS["quadratic_kappa"], **classification.METRICS, **_STEPS},
    "multilabel": multilabel.METRICS,
    "regress": regression.METRICS,
}
FEWEST_BLOCKS = 40  # the jackknife makes do with this many where a metric is costly
SHARES = ("accuracy", "subset_accuracy")  # the share of rows that are right
RANKED = ("roc_auc", "average_precision", "mean_average_precision")  # each class's rows are ranked, which is costly
IN_STEPS = ("quadratic_kappa", "mae", "spearman")  # these need a code for every row of truth


@dataclass(frozen=True)
class Answers:
    """What was asked of n rows and what came back, as arrays."""

    task: str
    truth: NDArray[Any]  # (n,) codes, -1 unseen; (n, K) 0/1, -1 not known, for multi-label; (n,) numbers for regression
    outputs: FloatArray | Digest  # (n, K) probabilities, or what is kept of them; (n,) numbers for regression
    predicted: NDArray[Any]  # like truth
    weights: FloatArray | None = None
    clusters: IntArray | None = None
    positive: int = 1  # the class of two that average precision is about

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def k(self) -> int:
        """How many classes; 0 for regression."""
        if isinstance(self.outputs, Digest):
            return self.outputs.classes
        return int(self.outputs.shape[1]) if self.outputs.ndim == 2 else 0

    @property
    def columns(self) -> FloatArray:
        """The probabilities (n, K), for what ranks the rows of each class."""
        if isinstance(self.outputs, Digest):
            raise TypeError(f"{self.k} classes: only digests of these rows were kept")
        return self.outputs

    def take(self, rows: NDArray[Any]) -> Answers:
        """The rows picked by a mask or by position."""
        return replace(
            self,
            truth=self.truth[rows],
            outputs=self.outputs[rows],
            predicted=self.predicted[rows],
            weights=None if self.weights is None else self.weights[rows],
            clusters=None if self.clusters is None else self.clusters[rows],
        )

    def given(self, name: str) -> tuple[NDArray[Any], NDArray[Any] | Digest]:
        """Truth and answers as this metric takes them."""
        truth = self.truth
        if self.task == "ordinal" and name in IN_STEPS:
            farthest = np.where(2 * self.predicted >= self.k - 1, 0, self.k - 1)
            truth = np.where(truth < 0, farthest, truth)
        if METRICS[self.task][name].needs == "proba":
            if name == "average_precision" and self.k == 2 and self.positive == 0:
                return np.where(truth >= 0, 1 - truth, truth), self.columns[:, ::-1]
            return truth, self.outputs
        return truth, self.predicted

    def support(self) -> IntArray:
        """Rows of each class in truth (of each label that occurs, for multi-label); no unseen class."""
        if self.task == "multilabel":
            return np.asarray((self.truth == 1).sum(axis=0))
        return np.bincount(self.truth[self.truth >= 0].astype(np.int64), minlength=self.k)


def value_of(answers: Answers, name: str) -> float:
    """One metric without its interval; NaN where undefined. Cheap enough to choose settings by."""
    return METRICS[answers.task][name](*answers.given(name), answers.weights)


def estimates(answers: Answers, names: list[str], *, seed: int = 0, resamples: int = 1000) -> dict[str, Estimate]:
    """The metrics with these names, each by the interval that suits it."""
    n = len(answers)
    if n == 0:
        return {name: Estimate(None, n=0, note="no rows") for name in names}
    found: dict[str, Estimate] = {}
    drawn: list[str] = []
    for name in names:
        if name in SHARES:
            found[name] = share(answers, right(answers), np.ones(n, dtype=bool), "no rows")
        elif name == "empty_rate":
            silent = (answers.predicted.sum(axis=1) == 0).astype(np.float64)
            found[name] = share(answers, silent, np.ones(n, dtype=bool), "no rows")
        elif name == "balanced_accuracy" and answers.clusters is None:
            found[name] = _mean_recall(answers)
        elif name == "calibration_error":
            found[name] = _calibration(answers, seed)
        elif METRICS[answers.task][name].rows is not None:
            found[name] = _mean_loss(answers, name)
        elif name in RANKED and isinstance(answers.outputs, Digest):
            found[name] = Estimate(None, n=n, note=UNRANKED)
        elif name == "roc_auc":
            found[name] = _mean_area(answers)
        elif name in RANKED and answers.k > MANY_CLASSES:
            note = f"no interval above {MANY_CLASSES} classes"
            found[name] = with_interval(value_of(answers, name), None, n, note=note)
        else:
            drawn.append(name)
    found.update(_by_resampling(answers, drawn, seed, resamples))
    return {name: found[name] for name in names}


def per_class(answers: Answers, classes: tuple[str, ...], *, seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """Precision, recall, F1, support and one-against-rest areas of each class."""
    n, many = len(answers), answers.task == "multilabel"
    if n == 0:
        return {}
    truth, predicted, support = answers.truth, answers.predicted, answers.support()
    by_class = multilabel.f1_by_class if many else classification.f1_by_class
    f1 = resample(
        [by_class(truth, predicted)], n, weights=answers.weights, clusters=answers.clusters, resamples=0, seed=seed
    )[0]
    clustered = answers.clusters is not None
    table: dict[str, dict[str, Estimate]] = {}
    for c, name in enumerate(classes):
        true = (truth[:, c] == 1) if many else truth == c
        known = int((truth[:, c] >= 0).sum()) if many else n
        called = ((predicted[:, c] == 1) & (truth[:, c] >= 0)) if many else predicted == c
        hits = (true & called).astype(np.float64)
        row = {
            "precision": share(answers, hits, called, "never predicted"),
            "recall": share(answers, hits, true, "not in truth"),
        }
        if c < len(f1.value) and (true.any() or called.any()):
            few = int(support[c])
            row["f1"] = from_draws(f1, c, known, scale="unit", smallest=few, clustered=clustered, score=True)
        else:
            row["f1"] = Estimate(None, n=known, note="neither in truth nor predicted")
        row["support"] = Estimate(float(support[c]), n=known)
        if len(classes) <= MANY_CLASSES:
            row["roc_auc"] = _area(answers, [c])
        table[name] = row
    return table


def right(answers: Answers) -> FloatArray:
    """1 for each row that is wholly right."""
    same = answers.truth == answers.predicted
    if answers.task == "multilabel":
        same |= answers.truth < 0
    return np.asarray(same.all(axis=1) if same.ndim == 2 else same, dtype=np.float64)


def share(answers: Answers, hits: FloatArray, of: NDArray[np.bool_], empty: str) -> Estimate:
    """Hits among the rows picked by `of`, with Wilson's interval; n is the rows picked."""
    w = np.ones(len(hits)) if answers.weights is None else answers.weights
    total = float(w[of].sum())
    if not total > 0:
        return Estimate(None, n=int(of.sum()), note=empty)
    interval = proportion(
        hits[of],
        weights=None if answers.weights is None else w[of],
        clusters=None if answers.clusters is None else answers.clusters[of],
    )
    value = min(1.0, float((w * hits)[of].sum()) / total)
    note = "" if interval else "n too small for an interval (a single cluster)"
    return with_interval(value, interval, int(of.sum()), note=note, clustered=answers.clusters is not None)


def smallest(answers: Answers, name: str) -> int:
    """The rows that decide whether there are enough: of the rarest class where the metric averages over classes."""
    if not METRICS[answers.task][name].per_class:
        return len(answers)
    support = answers.support()
    if answers.task == "multilabel":
        support = np.minimum(support, len(answers))
    present = support[support > 0]
    return int(present.min()) if len(present) else 0


def _mean_recall(answers: Answers) -> Estimate:
    """Balanced accuracy from the Wilson interval of each class's recall."""
    value, n = value_of(answers, "balanced_accuracy"), len(answers)
    few = too_few(smallest(answers, "balanced_accuracy"))
    if few:
        return with_interval(value, None, n, note=few)
    parts: list[tuple[float, Interval]] = []
    for c in np.unique(answers.truth):
        part = share(answers, (answers.predicted == c).astype(np.float64), answers.truth == c, "")
        if part.value is not None and part.low is not None and part.high is not None:
            parts.append((part.value, Interval(part.low, part.high, "")))
    return with_interval(value, mean_of_proportions(parts), n)


def _mean_area(answers: Answers) -> Estimate:
    """The area of class 1 of two, else the mean over the classes in truth."""
    if answers.k == 2 and answers.task != "multilabel":
        return _area(answers, [1])
    present = [int(c) for c in np.flatnonzero(answers.support())]
    if len(present) > MANY_CLASSES:
        note = f"no interval above {MANY_CLASSES} classes"
        return with_interval(value_of(answers, "roc_auc"), None, len(answers), note=note)
    return _area(answers, present)


def _area(answers: Answers, columns: list[int]) -> Estimate:
    """The mean one-against-rest area of some classes: DeLong's variance, on the logit scale."""
    n = len(answers)
    w = np.ones(n) if answers.weights is None else answers.weights
    values, pulls, least, judged = [], np.zeros(n), n, np.zeros(n, dtype=bool)
    for c in columns:
        many = answers.task == "multilabel"
        is_class = (answers.truth[:, c] == 1) if many else answers.truth == c
        known = answers.truth[:, c] >= 0 if many else np.ones(n, dtype=bool)
        judged |= known
        value, pull = area_influence(is_class, answers.columns[:, c], w * known)
        if np.isfinite(value):
            values.append(value)
            pulls += pull
            least = min(least, int(is_class.sum()), int((known & ~is_class).sum()))
    counts = int(judged.sum())
    if not values:
        return Estimate(None, n=counts, note="undefined: truth has one class only")
    value = float(np.mean(values))
    unit = units_of(n, answers.clusters)
    units = int(unit.max()) + 1
    few = too_few(least, None if answers.clusters is None else units)
    if few:
        return with_interval(value, None, counts, note=few)
    sums = np.bincount(unit, pulls / len(values))
    error = float(np.sqrt((sums**2).sum() * units / (units - 1)))
    span = on_scale(value, error, float(stdtrit(units - 1, 0.975)), "unit")
    interval = Interval(*span, "DeLong on the logit scale") if span else at_the_edge(value, "unit", least)
    return with_interval(value, interval, counts, clustered=answers.clusters is not None)


def mean_estimate(
    answers: Answers, rows: FloatArray, *, root: bool = False, least: float = 0.0, note: str = ""
) -> Estimate:
    """The mean of one number a row, which is never below `least`, or its root."""
    counted = np.isfinite(rows)
    weights = None if answers.weights is None else answers.weights[counted]
    clusters = None if answers.clusters is None else answers.clusters[counted]
    rows = rows[counted]
    value = float(mean_of(rows)(np.ones((1, len(rows))) if weights is None else weights[None, :])[0])
    interval = mean(rows, weights=weights, clusters=clusters)
    few = too_few(len(rows), None if clusters is None else len(np.unique(clusters)))
    if few or interval is None:
        note = "; ".join(filter(None, [few or "no interval: every row gives the same value", note]))
        interval = None
    else:
        interval = Interval(max(least, interval.low), interval.high, interval.method)
        if root:
            interval = Interval(math.sqrt(interval.low), math.sqrt(interval.high), interval.method)
    value = math.sqrt(value) if root and value >= 0 else value
    return with_interval(value, interval, len(rows), note=note, clustered=clusters is not None)


def _calibration(answers: Answers, seed: int) -> Estimate:
    """Calibration error with limits that know its bias."""
    value, n, note = value_of(answers, "calibration_error"), len(answers), _note(answers, "calibration_error")
    clustered = answers.clusters is not None
    few = too_few(n, len(np.unique(answers.clusters)) if answers.clusters is not None else None)
    if few:
        return with_interval(value, None, n, note=f"{few}; {note}")
    interval = calibration_limits(answers.truth, answers.outputs, answers.weights, answers.clusters, seed=seed)
    return with_interval(value, interval, n, note=note, clustered=clustered, inside=False)


def _mean_loss(answers: Answers, name: str) -> Estimate:
    """A metric that is the mean of a loss, or the root of one."""
    rows = METRICS[answers.task][name].rows
    assert rows is not None
    return mean_estimate(answers, rows(*answers.given(name)), root=name == "rmse", note=_note(answers, name))


def _by_resampling(answers: Answers, names: list[str], seed: int, resamples: int) -> dict[str, Estimate]:
    """Metrics that need resamples share them; those that the jackknife serves, or whose ranking would cost too much,
    need none."""
    n, found = len(answers), {}

    def plan(name: str) -> tuple[int, int]:
        """How many resamples and how many blocks."""
        cost = n * (max(1, answers.k) if name in RANKED else 1)
        drawn = resamples if METRICS[answers.task][name].interval == "bca" and cost * resamples <= WORK else 0
        return drawn, min(BLOCKS, max(FEWEST_BLOCKS, WORK // cost))

    for count, blocks in sorted({plan(name) for name in names}):
        group = [name for name in names if plan(name) == (count, blocks)]
        metrics = [METRICS[answers.task][name] for name in group]
        draws = resample(
            [metric.at(*answers.given(name)) for metric, name in zip(metrics, group, strict=True)],
            n,
            weights=answers.weights,
            clusters=answers.clusters,
            resamples=count,
            seed=seed,
            blocks=blocks,
        )
        for name, metric, draw in zip(group, metrics, draws, strict=True):
            found[name] = from_draws(
                draw,
                0,
                n,
                scale=metric.scale,
                smallest=smallest(answers, name),
                clustered=answers.clusters is not None,
                score=metric.interval == "score",
                edge=_worth(answers, name),
                note=_note(answers, name),
            )
    return found


def _worth(answers: Answers, name: str) -> float:
    """How many rows a mean over classes is worth: K² / Σ 1/n_k, which is n where the classes are equally large."""
    if not METRICS[answers.task][name].per_class:
        return len(answers)
    support = answers.support()
    support = support[support > 0]
    return float(len(support) ** 2 / (1 / support).sum()) if len(support) else 0.0


def _note(answers: Answers, name: str) -> str:
    """What a reader of this number should know."""
    if name == "calibration_error":
        floor = calibration_floor(answers.truth, answers.outputs)
        return f"biased upwards: perfect calibration would show about {floor:.3f} at this n"
    if answers.task in ("classify", "ordinal"):
        unseen = int((answers.truth < 0).sum())
        if name == "log_loss" and unseen:
            return f"{plural(unseen, 'row')} of unseen classes left out"
        if name == "mcc" and len(np.unique(answers.truth)) < 2:
            return "truth has one class only"
    return ""
