"""Truth and answers in, `Scores` out: every metric of the task with its interval, by class and by subgroup; and which
of two models is better on the same rows, where the rows can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acclimate.errors import UserError, unknown
from acclimate.metrics.calibration import reliability
from acclimate.metrics.differences import paired, paired_shares
from acclimate.metrics.estimate import COVERS, COVERS_CLUSTERS, Estimate, too_few, with_interval
from acclimate.metrics.intervals import WORK, units_of
from acclimate.metrics.subgroups import by_subgroup, gaps
from acclimate.metrics.tables import (
    MANY_CLASSES,
    METRICS,
    SHARES,
    Answers,
    estimates,
    per_class,
    right,
    smallest,
    value_of,
)

__all__ = [
    "Difference",
    "Estimate",
    "Scores",
    "default_metric",
    "difference",
    "greater_is_better",
    "metric_name",
    "score",
    "value",
]

DOMINANT = 0.8  # a class with a greater share than this makes accuracy say little
ALIASES = {
    "acc": "accuracy",
    "bacc": "balanced_accuracy",
    "average_recall": "balanced_accuracy",
    "macro_recall": "balanced_accuracy",
    "f1": "macro_f1",
    "f1_macro": "macro_f1",
    "f1_weighted": "weighted_f1",
    "f1_micro": "micro_f1",
    "matthews": "mcc",
    "matthews_correlation": "mcc",
    "matthews_corrcoef": "mcc",
    "kappa": "quadratic_kappa",
    "qwk": "quadratic_kappa",
    "quadratic_weighted_kappa": "quadratic_kappa",
    "cohen_kappa": "quadratic_kappa",
    "auc": "roc_auc",
    "auroc": "roc_auc",
    "roc_auc_ovr": "roc_auc",
    "ap": "average_precision",
    "auprc": "average_precision",
    "pr_auc": "average_precision",
    "neg_log_loss": "log_loss",
    "cross_entropy": "log_loss",
    "nll": "log_loss",
    "ece": "calibration_error",
    "expected_calibration_error": "calibration_error",
    "brier_score": "brier",
    "brier_score_loss": "brier",
    "mean_absolute_error": "mae",
    "root_mean_squared_error": "rmse",
    "r_2": "r2",
    "r2_score": "r2",
    "r_squared": "r2",
    "spearmanr": "spearman",
    "map": "mean_average_precision",
    "hamming_loss": "hamming",
    "exact_match": "subset_accuracy",
}


@dataclass(frozen=True)
class Scores:
    """How well a model did on some rows. Every interval is at 95 %; `covers` says what it speaks about."""

    task: str
    metric: str  # the one that decides
    n: int
    estimates: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    per_subgroup: dict[str, dict[str, dict[str, Estimate]]] = field(default_factory=dict)  # column, value, metric
    gaps: dict[str, dict[str, Estimate]] = field(default_factory=dict)  # column, metric: best less worst subgroup
    confusion: list[list[int]] | None = None  # row: truth, column: predicted
    classes: tuple[str, ...] = ()
    reliability: list[dict[str, Any]] | None = None
    notes: tuple[str, ...] = ()
    covers: str = COVERS

    @property
    def value(self) -> float | None:
        """The deciding metric."""
        return self.estimates[self.metric].value

    @property
    def low(self) -> float | None:
        """Its lower limit, None where the rows are too few."""
        return self.estimates[self.metric].low

    @property
    def high(self) -> float | None:
        """Its upper limit, None where the rows are too few."""
        return self.estimates[self.metric].high

    def to_json(self) -> dict[str, Any]:
        """Plain values: {"metric", "value", "low", "high", "n", "metrics": {name: {...}}, "per_class", ...}."""
        return {
            "task": self.task,
            "metric": self.metric,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "level": 0.95,
            "covers": self.covers,
            "metrics": {name: e.to_json() for name, e in self.estimates.items()},
            "per_class": {c: {m: e.to_json() for m, e in row.items()} for c, row in self.per_class.items()},
            "per_subgroup": {
                s: {v: {m: e.to_json() for m, e in row.items()} for v, row in rows.items()}
                for s, rows in self.per_subgroup.items()
            },
            "gaps": {s: {m: e.to_json() for m, e in row.items()} for s, row in self.gaps.items()},
            "confusion": self.confusion,
            "classes": list(self.classes),
            "reliability": self.reliability,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scores:
        """What `to_json` wrote."""

        def row(estimates: Mapping[str, Any]) -> dict[str, Estimate]:
            return {name: Estimate(**e) for name, e in estimates.items()}

        return cls(
            task=data["task"],
            metric=data["metric"],
            n=data["n"],
            estimates=row(data["metrics"]),
            per_class={c: row(r) for c, r in data["per_class"].items()},
            per_subgroup={s: {v: row(r) for v, r in rows.items()} for s, rows in data["per_subgroup"].items()},
            gaps={s: row(r) for s, r in data["gaps"].items()},
            confusion=data["confusion"],
            classes=tuple(data["classes"]),
            reliability=data["reliability"],
            notes=tuple(data["notes"]),
            covers=data["covers"],
        )


@dataclass(frozen=True)
class Difference:
    """a less b in a metric's own units on the same rows; `verdict` is about a: "better", "worse" or "not decidable"."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    verdict: str
    method: str = ""
    note: str = ""
    covers: str = COVERS

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return dict(vars(self))


def metric_name(text: str, task: str | None = None) -> str:
    """The canonical name of a metric; with a task, one that the task has.

    >>> metric_name("F1-macro")
    'macro_f1'
    """
    name = text.strip().lower().replace("-", "_").replace(" ", "_").replace("²", "2")
    name = ALIASES.get(name, name)
    if task == "multilabel" and name == "average_precision":
        name = "mean_average_precision"
    if task == "multilabel" and name == "accuracy":
        name = "subset_accuracy"
    known = list(METRICS[task]) if task else list(dict.fromkeys(m for metrics in METRICS.values() for m in metrics))
    if name not in known:
        raise unknown("metric" if task is None else f"metric for {task}", text, known)
    return name


def default_metric(task: str, class_shares: Mapping[Any, float] | Sequence[float] | None = None) -> str:
    """The metric that decides where the user named none.

    >>> default_metric("classify", {"spam": 0.5, "ham": 0.5}), default_metric("classify", [0.95, 0.05])
    ('accuracy', 'balanced_accuracy')
    """
    fixed = {"ordinal": "quadratic_kappa", "multilabel": "macro_f1", "regress": "rmse"}
    if task in fixed:
        return fixed[task]
    if task != "classify":
        raise unknown("task", task, METRICS)
    shares = list(class_shares.values() if isinstance(class_shares, Mapping) else class_shares or ())
    total = sum(shares)
    return "balanced_accuracy" if total > 0 and max(shares) / total > DOMINANT else "accuracy"


def greater_is_better(task: str, metric: str) -> bool:
    """Whether more is better."""
    return METRICS[task][metric].greater_is_better


def value(
    task: str, metric: str, truth: ArrayLike, outputs: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """One metric without its interval, NaN where undefined: for choosing settings on validation rows."""
    return value_of(_answers(task, truth, outputs, predicted, weights, None, 1), metric_name(metric, task))


def score(
    task: str,
    truth: ArrayLike,
    outputs: ArrayLike,
    predicted: ArrayLike,
    classes: Sequence[object] = (),
    *,
    metric: str | None = None,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    subgroups: Mapping[str, Sequence[object]] | None = None,
    positive: int | None = None,
    unseen: Sequence[object] = (),
    seed: int = 0,
    resamples: int = 1000,
) -> Scores:
    """Every metric of the task on these rows, with n and 95 % intervals.

    classify, ordinal: truth (n,) codes into `classes`, -1 for a class never seen in training (counted wrong; `unseen`
    names them); outputs (n, K) probabilities; predicted (n,) codes. multilabel: truth and predicted (n, K) of 0 and 1,
    outputs (n, K). regress: truth, outputs and predicted (n,) numbers. `clusters` (patient, document ...) widens the
    intervals to what so many independent clusters can tell. `positive` is the code of the class that average precision
    of two classes is about (1).
    """
    names = tuple(str(c) for c in classes)
    answers = _answers(task, truth, outputs, predicted, weights, clusters, 1 if positive is None else positive)
    if answers.k and names and len(names) != answers.k:
        raise ValueError(f"{len(names)} classes were named for {answers.k} columns of probabilities")
    names = names or tuple(str(c) for c in range(answers.k))
    shares = None if task != "classify" else answers.support().astype(float).tolist()
    chosen = metric_name(metric, task) if metric else default_metric(task, shares)
    wanted = [m for m in METRICS[task] if m != "quadratic_kappa" or task == "ordinal" or m == chosen]
    per_subgroup = {
        column: by_subgroup(answers, chosen, values, seed=seed, resamples=resamples)
        for column, values in (subgroups or {}).items()
    }
    return Scores(
        task=task,
        metric=chosen,
        n=len(answers),
        estimates=estimates(answers, wanted, seed=seed, resamples=resamples),
        per_class=per_class(answers, names, seed=seed) if answers.k else {},
        per_subgroup=per_subgroup,
        gaps={column: gaps(table) for column, table in per_subgroup.items()},
        confusion=_confusion(answers),
        classes=names,
        reliability=_reliability(answers),
        notes=_notes(answers, names, unseen),
        covers=COVERS if clusters is None else COVERS_CLUSTERS,
    )


def difference(
    task: str,
    metric: str,
    truth: ArrayLike,
    a: tuple[ArrayLike, ArrayLike],
    b: tuple[ArrayLike, ArrayLike],
    *,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Difference:
    """Whether model a is better than model b; each is given as (outputs, predicted) on the same rows.

    Accuracy: Tango's score interval; else the paired jackknife of rows (or clusters), so that rows hard for both models
    cancel. Where it covers 0, or there are too few rows for one, the verdict is "not decidable".
    """
    name = metric_name(metric, task)
    one, two = (_answers(task, truth, o, p, weights, clusters, 1) for o, p in (a, b))
    n = len(one)
    if n == 0:
        return Difference(name, None, None, None, 0, "not decidable", note="no rows")
    kind = METRICS[task][name]
    note = (
        ""
        if name in SHARES
        else too_few(smallest(one, name), None if one.clusters is None else len(np.unique(one.clusters)))
    )
    if name in SHARES:
        gap, interval = paired_shares(right(one), right(two), weights=one.weights, clusters=one.clusters)
    else:
        at = [kind.at(*answers.given(name)) for answers in (one, two)]
        gap, interval = paired(at[0], at[1], n, weights=one.weights, clusters=one.clusters, seed=seed)
    if note:
        interval = None
    elif interval is None:
        note = "the two cannot be told apart on these rows"
    found = with_interval(gap, interval, n, note=note, clustered=clusters is not None)
    verdict = "not decidable"
    if found.low is not None and found.high is not None and (found.low > 0 or found.high < 0):
        verdict = "better" if (found.low > 0) == kind.greater_is_better else "worse"
    return Difference(
        name, found.value, found.low, found.high, n, verdict, found.method, found.note, found.covers or COVERS
    )


def _answers(
    task: str,
    truth: ArrayLike,
    outputs: ArrayLike,
    predicted: ArrayLike,
    weights: ArrayLike | None,
    clusters: ArrayLike | None,
    positive: int,
) -> Answers:
    """The arrays in their types, checked to be of one length and finite."""
    if task not in METRICS:
        raise unknown("task", task, METRICS)
    kind: type = np.float64 if task == "regress" else np.int64
    t: NDArray[Any] = np.asarray(truth, dtype=kind)
    p: NDArray[Any] = np.asarray(predicted, dtype=kind)
    o = np.asarray(outputs, dtype=np.float64)
    w = None if weights is None else np.asarray(weights, dtype=np.float64)
    c = None if clusters is None else units_of(len(t), np.asarray(clusters))
    shape = (len(t),) if task == "regress" else (len(t), o.shape[-1] if o.ndim == 2 else 0)
    answer_shape = shape if task == "multilabel" else (len(t),)
    if (
        o.shape != shape
        or p.shape != answer_shape
        or t.shape != answer_shape
        or (w is not None and w.shape != (len(t),))
    ):
        raise ValueError(f"{task}: truth {t.shape}, outputs {o.shape} and predicted {p.shape} do not fit each other")
    _finite(o, "outputs")
    if task == "regress":
        _finite(t, "truth")
        _finite(p, "predicted")
    if w is not None:
        _finite(w, "weights")
        if len(w) and ((w < 0).any() or not w.sum() > 0):
            raise UserError("row weights must not be negative, and some must be above 0")
        if len(w) and np.ptp(w) == 0:
            w = None
    return Answers(task, t, o, p, w, c, positive)


def _finite(values: NDArray[Any], what: str) -> None:
    """A NaN must not pass for a score."""
    bad = int((~np.isfinite(values.reshape(len(values), -1)).all(axis=1)).sum()) if len(values) else 0
    if bad:
        raise UserError(
            f"{bad} of {len(values)} rows have {what} that are not finite numbers: the model or the data diverged"
        )


def _confusion(answers: Answers) -> list[list[int]] | None:
    """Rows by true and predicted class; rows of unseen classes are in none of its rows."""
    k = answers.k
    if answers.task not in ("classify", "ordinal") or k > MANY_CLASSES or not len(answers):
        return None
    seen = answers.truth >= 0
    table = np.bincount(answers.truth[seen] * k + answers.predicted[seen], minlength=k * k)
    return [[int(v) for v in row] for row in table.reshape(k, k)]


def _reliability(answers: Answers) -> list[dict[str, Any]] | None:
    if answers.task == "regress" or not len(answers):
        return None
    return [b.to_json() for b in reliability(answers.truth, answers.outputs, answers.weights, answers.clusters)]


def _notes(answers: Answers, classes: tuple[str, ...], unseen: Sequence[object]) -> tuple[str, ...]:
    """What a reader of these scores should know."""
    notes = []
    n = len(answers)
    if answers.task in ("classify", "ordinal"):
        missing = int((answers.truth < 0).sum())
        if missing:
            named = ", ".join(dict.fromkeys(str(u) for u in unseen))
            notes.append(
                f"{missing} of {n} rows have a class that was never seen in training{f' ({named})' if named else ''}; "
                "they are counted as wrong, and as one class with score 0 in averages over classes"
            )
        absent = [name for name, rows in zip(classes, answers.support(), strict=True) if not rows]
        if absent and n:
            shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
            notes.append(
                f"not in these rows: {shown}; averages over classes leave out what occurs in no row and no prediction"
            )
        if n and len(np.unique(answers.truth)) == 1:
            notes.append("these rows hold one class only; ranking and correlation cannot be measured on them")
    if answers.clusters is not None and n:
        notes.append(
            f"intervals treat the {int(answers.clusters.max()) + 1} clusters of rows, not the {n} rows, as independent"
        )
    if answers.weights is not None:
        notes.append("rows are weighted; n counts rows, confusion and support too")
    if n * 1000 > WORK:
        notes.append(
            f"{n} rows are many: where a formula is lacking, intervals come from the jackknife of 200 blocks of rows"
        )
    return tuple(notes)
