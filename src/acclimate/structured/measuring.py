"""Answers of a structured task in, `Scores` out: every metric with its interval; and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from acclimate.data.rows import IntArray
from acclimate.errors import unknown
from acclimate.evaluate import Difference, Scores, told
from acclimate.metrics.differences import apart, paired, within
from acclimate.metrics.estimate import (
    COVERS,
    COVERS_CLUSTERS,
    Estimate,
    at_the_edge,
    from_draws,
    too_few,
    with_interval,
)
from acclimate.metrics.intervals import resample, units_of
from acclimate.structured.base import Measure, State, Structured

_RESAMPLES = 1000


def scores_of(
    task: Structured,
    truth: Sequence[Any],
    answers: Sequence[Any],
    state: State,
    *,
    metric: str | None = None,
    clusters: IntArray | None = None,
    seed: int = 0,
) -> Scores:
    """Every metric of the task on these rows; clusters of rows, where there are some, are what is drawn."""
    measures = task.measures(truth, answers, state)
    chosen = metric_of(task, measures, metric)
    of_classes = task.per_class(truth, answers, state)
    flat: list[tuple[str, Measure, int | None]] = [(name, measure, None) for name, measure in measures.items()]
    flat += [(name, m, n) for row in of_classes.values() for name, (m, n) in row.items()]
    found = _estimates(flat, len(truth), clusters, seed)
    per_class: dict[str, dict[str, Estimate]] = {}
    at = len(measures)
    for label, row in of_classes.items():
        per_class[label] = dict(zip(row, found[at : at + len(row)], strict=True))
        cases = max((n for _, n in row.values()), default=0)
        per_class[label]["support"] = Estimate(float(cases), n=cases)
        at += len(row)
    return Scores(
        task=task.name,
        metric=chosen,
        n=len(truth),
        estimates=dict(zip(measures, found[: len(measures)], strict=True)),
        per_class=per_class,
        per_subgroup={},
        gaps={},
        confusion=None,
        classes=tuple(of_classes),
        reliability=None,
        notes=task.notes(truth, answers, state),
        covers=COVERS if clusters is None else COVERS_CLUSTERS,
    )


def metric_of(task: Structured, measures: dict[str, Measure], asked: str | None) -> str:
    """The metric that decides."""
    usual = task.metric if task.metric in measures else next(iter(measures))
    name = usual if asked is None else asked.strip().lower().replace("-", "_").replace(" ", "_")
    if name not in measures:
        raise unknown(f"metric for {task.name}", name, measures)
    return name


def value(measure: Measure, n: int) -> float:
    """The metric on these rows, without an interval."""
    return float(np.asarray(measure.at(np.ones((1, n)))).reshape(-1)[0]) if n else float("nan")


def difference(
    task: Structured,
    metric: str,
    truth: Sequence[Any],
    a: Sequence[Any],
    b: Sequence[Any],
    state: State,
    *,
    clusters: IntArray | None = None,
    seed: int = 0,
) -> Difference:
    """Whether answers a are better than answers b to the same rows, by the paired jackknife of rows or clusters."""
    one, two = (task.measures(truth, answers, state)[metric] for answers in (a, b))
    n = len(truth)
    if n == 0:
        return Difference(metric, None, None, None, 0, "not decidable", note="no rows")
    rows = n if one.rows is None else one.rows
    note = too_few(rows, None if clusters is None else len(np.unique(clusters)), "that count")
    gap, interval = value(one, n) - value(two, n), None
    if not note:
        gap, interval = paired(one.at, two.at, n, clusters=clusters, seed=seed)
        if gap != 0 and any(at_the_edge(value(m, n), one.scale, n) for m in (one, two)):
            # A score without error, or without a hit, does not vary as rows are left out.
            interval = apart(*_estimates([(metric, m, None) for m in (one, two)], n, clusters, seed))
        interval = within(interval, one.scale)
        note = "" if interval else "no interval: the difference is the same whichever row is left out"
    found = with_interval(gap, interval, n, note=note, clustered=clusters is not None)
    return told(metric, found, n, one.greater_is_better)


def _estimates(
    measures: Sequence[tuple[str, Measure, int | None]], n: int, clusters: IntArray | None, seed: int
) -> list[Estimate]:
    if n == 0:
        return [Estimate(None, n=0, note="no rows") for _ in measures]
    unit = None if clusters is None else units_of(n, clusters)
    draws = resample([m.at for _, m, _ in measures], n, clusters=unit, resamples=_RESAMPLES, seed=seed)
    found = []
    for (_, measure, cases), one in zip(measures, draws, strict=True):
        rows = cases if cases is not None else n if measure.rows is None else measure.rows
        found.append(
            from_draws(
                one,
                0,
                n if cases is None else cases,
                scale=measure.scale,
                smallest=rows,
                clustered=unit is not None,
                of="of this class" if cases is not None else "that count",
            )  # fmt: skip
        )
    return found
