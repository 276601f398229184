"""Truth and answers in, `Scores` out: every metric of the task with its interval, by class and by subgroup; and which
of two models is better on the same rows, where the rows can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acclimate.errors import UserError, plural, unknown
from acclimate.metrics.calibration import reliability
from acclimate.metrics.differences import apart, paired, paired_shares, within
from acclimate.metrics.digest import MANY_CLASSES, Digest, is_wide
from acclimate.metrics.estimate import COVERS, COVERS_CLUSTERS, Estimate, at_the_edge, too_few, with_interval
from acclimate.metrics.intervals import WORK, FloatArray, Interval, units_of
from acclimate.metrics.names import default_metric, metric_name
from acclimate.metrics.results import Difference, Scores
from acclimate.metrics.subgroups import by_subgroup, gaps
from acclimate.metrics.tables import (
    METRICS,
    RANKED,
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


def greater_is_better(task: str, metric: str) -> bool:
    """Whether more is better."""
    return task == "multitask" or METRICS[task][metric].greater_is_better


def value(
    task: str,
    metric: str,
    truth: ArrayLike,
    outputs: ArrayLike | Digest,
    predicted: ArrayLike,
    weights: ArrayLike | None = None,
) -> float:
    """One metric without its interval, NaN where undefined: for choosing settings on validation rows."""
    answers = _answers(task, truth, outputs, predicted, weights, None, 1)
    return value_of(answers, metric_name(metric, task, answers.k))


def score(
    task: str,
    truth: ArrayLike,
    outputs: ArrayLike | Digest,
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
    names them); outputs (n, K) probabilities, or their `Digest`; predicted (n,) codes. Above 100 classes only digests
    are kept, and nothing that ranks rows is measured. multilabel: truth and predicted (n, K) of 0 and 1 (truth NaN or
    -1 where it is not known: such a cell counts nowhere), outputs (n, K). regress: truth,
    outputs and predicted (n,) numbers. `clusters` (patient, document ...) widens the intervals to what so many
    independent clusters can tell. `positive` is the code of the class that average precision of two classes is about
    (1). The order of the rows does not matter.
    """
    names = tuple(str(c) for c in classes)
    answers = _answers(task, truth, outputs, predicted, weights, clusters, 1 if positive is None else positive)
    if answers.k and names and len(names) != answers.k:
        raise ValueError(f"{len(names)} classes were named for {answers.k} columns of probabilities")
    names = names or tuple(str(c) for c in range(answers.k))
    for column, values in (subgroups or {}).items():
        if len(values) != len(answers):
            raise ValueError(f"{len(values)} subgroup values of {column!r} for {plural(len(answers), 'row')}")
    order = np.lexsort(list(_marks(answers)))
    answers = answers.take(order)
    shares = None if task != "classify" else answers.support().astype(float).tolist()
    chosen = metric_name(metric, task, answers.k) if metric else default_metric(task, shares)
    wanted = [m for m in METRICS[task] if m != "quadratic_kappa" or task == "ordinal" or m == chosen]
    per_subgroup = {
        column: by_subgroup(answers, chosen, [values[i] for i in order], seed=seed, resamples=resamples)
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
    a: tuple[ArrayLike | Digest, ArrayLike],
    b: tuple[ArrayLike | Digest, ArrayLike],
    *,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Difference:
    """Whether model a is better than model b; each is given as (outputs, predicted) on the same rows.

    Accuracy: Tango's score interval; else the paired jackknife of rows (or clusters), so that rows hard for both models
    cancel; where one of the two makes no error, which no row left out can change, the square-and-add of both intervals.
    Where it covers 0, or there are too few rows for one, the verdict is "not decidable". The order of the rows does not
    matter.
    """
    one, two = (_answers(task, truth, o, p, weights, clusters, 1) for o, p in (a, b))
    name = metric_name(metric, task, one.k)
    marks = _marks(one), _marks(two)
    order = np.lexsort([*np.abs(marks[0] - marks[1]), *(marks[0] + marks[1])])  # the same for (b, a)
    one, two = one.take(order), two.take(order)
    n = len(one)
    if n == 0:
        return Difference(name, None, None, None, 0, "not decidable", note="no rows")
    kind = METRICS[task][name]
    groups = None if one.clusters is None else len(np.unique(one.clusters))
    note = "" if name in SHARES else too_few(smallest(one, name), groups)
    if name in RANKED and one.k > MANY_CLASSES:
        note = f"no interval above {MANY_CLASSES} classes"
    interval: Interval | None = None
    if name in SHARES:
        gap, interval = paired_shares(right(one), right(two), weights=one.weights, clusters=one.clusters)
    elif note:
        gap = value_of(one, name) - value_of(two, name)
    else:
        at = [kind.at(*answers.given(name)) for answers in (one, two)]
        gap, interval = paired(at[0], at[1], n, weights=one.weights, clusters=one.clusters, seed=seed)
        if (
            name != "calibration_error"
            and gap != 0
            and any(at_the_edge(value_of(answers, name), kind.scale, n) for answers in (one, two))
        ):
            # A score without error does not vary as rows are left out.
            interval = apart(*(estimates(answers, [name], seed=seed, resamples=0)[name] for answers in (one, two)))
        interval = within(interval, kind.scale)
        note = "" if interval else "no interval: the difference is the same whichever row is left out"
    found = with_interval(gap, interval, n, note=note, clustered=clusters is not None)
    return told(name, found, n, kind.greater_is_better)


def told(name: str, found: Estimate, n: int, greater: bool) -> Difference:
    """A difference with its verdict: "not decidable" where the interval covers 0, or there is none."""
    verdict = "not decidable"
    if found.low is not None and found.high is not None and (found.low > 0 or found.high < 0):
        verdict = "better" if (found.low > 0) == greater else "worse"
    return Difference(
        name, found.value, found.low, found.high, n, verdict, found.method, found.note, found.covers or COVERS
    )


def _answers(
    task: str,
    truth: ArrayLike,
    outputs: ArrayLike | Digest,
    predicted: ArrayLike,
    weights: ArrayLike | None,
    clusters: ArrayLike | None,
    positive: int,
) -> Answers:
    """The arrays in their types, checked to be of one length and finite."""
    if task not in METRICS:
        raise unknown("task", task, METRICS)
    kind: type = np.float64 if task == "regress" else np.int64
    t: NDArray[Any] = np.asarray(_known(truth) if task == "multilabel" else truth, dtype=kind)
    p: NDArray[Any] = np.asarray(predicted, dtype=kind)
    o = outputs if isinstance(outputs, Digest) else np.asarray(outputs)
    w = None if weights is None else np.asarray(weights, dtype=np.float64)
    c = None if clusters is None else units_of(len(t), np.asarray(clusters))
    given = (len(o), o.classes) if isinstance(o, Digest) else o.shape
    shape = (len(t),) if task == "regress" else (len(t), given[1] if len(given) == 2 else 0)
    answer_shape = shape if task == "multilabel" else (len(t),)
    if given != shape or p.shape != answer_shape or t.shape != answer_shape or (w is not None and w.shape != (len(t),)):
        raise ValueError(f"{task}: truth {t.shape}, outputs {given} and predicted {p.shape} do not fit each other")
    if not isinstance(o, Digest):
        o = Digest.of(t, o, p) if is_wide(task, shape[-1]) else np.asarray(o, dtype=np.float64)
    _finite(o.squares if isinstance(o, Digest) else o, "outputs")
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


def _known(truth: ArrayLike) -> NDArray[Any]:
    """Truth with -1 for NaN: what is not known."""
    t = np.asarray(truth)
    return np.where(np.isnan(t), -1.0, t) if t.dtype.kind == "f" else t


def _marks(answers: Answers) -> FloatArray:
    """(5, n): what a row says, in a few numbers. Rows are put in their order before any are drawn, so that the order in
    a file changes no digit of an interval; a row's many columns are told apart by a sum with uneven factors."""

    def mark(columns: NDArray[Any] | Digest) -> FloatArray:
        if isinstance(columns, Digest):
            columns = np.stack(columns.columns(), axis=1)
        many = np.asarray(columns, dtype=np.float64).reshape(len(columns), columns.shape[1] if columns.ndim == 2 else 1)
        return np.asarray((many * np.sin(1.0 + np.arange(many.shape[1]))).sum(axis=1))

    weights = np.zeros(len(answers)) if answers.weights is None else answers.weights
    clusters = np.zeros(len(answers)) if answers.clusters is None else answers.clusters
    return np.stack([weights, mark(answers.outputs), mark(answers.predicted), mark(answers.truth), clusters])


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
        if isinstance(answers.outputs, Digest):
            notes.append(
                f"{answers.k:,} classes: above {MANY_CLASSES}, ROC-AUC and average precision are not measured and no "
                "table of confusions is made; all other numbers rest on every row"
            )
    elif answers.task == "multilabel":
        gaps = int((answers.truth < 0).sum())
        if gaps:
            share = f"{gaps:,} of {answers.truth.size:,} cells ({gaps / answers.truth.size:.0%})"
            notes.append(f"{share} are not known and count neither as right nor as wrong")
        if len(unseen):
            named = ", ".join(dict.fromkeys(str(u) for u in unseen))
            notes.append(f"classes never seen in training ({named}) are left out of these scores")
    if answers.clusters is not None and n:
        notes.append(
            f"intervals treat the {plural(int(answers.clusters.max()) + 1, 'cluster')} of rows, not the "
            f"{plural(n, 'row')}, as independent"
        )
    if answers.weights is not None:
        notes.append("rows are weighted; n counts rows, confusion and support too")
    if n * 1000 > WORK:
        notes.append(
            f"{plural(n, 'row')} are many: where a formula is lacking, intervals come from the jackknife of 200 "
            f"blocks of rows"
        )
    return tuple(notes)
