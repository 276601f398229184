"""The same metrics for each subgroup, and how far apart the subgroups are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtri

from acclimate.metrics.estimate import COVERS_CLUSTERS, FEWEST, Estimate, with_interval
from acclimate.metrics.intervals import Interval
from acclimate.metrics.tables import METRICS, Answers, estimates, mean_estimate, share

TOO_FEW = "too few"


def by_subgroup(
    answers: Answers, chosen: str, values: Sequence[object], *, seed: int = 0, resamples: int = 1000
) -> dict[str, dict[str, Estimate]]:
    """Estimates of each subgroup; below ten rows the note begins with "too few"."""
    column = np.array(["" if v is None else str(v) for v in values])
    if len(column) != len(answers):
        raise ValueError(f"{len(column)} subgroup values for {len(answers)} rows")
    table = {}
    for name in np.unique(column).tolist():
        rows = answers.take(column == name)
        row = estimates(rows, _metrics(answers.task, chosen), seed=seed, resamples=resamples)
        row.update(_extra(rows))
        if len(rows) < FEWEST:
            row = {m: Estimate(e.value, e.low, e.high, e.n, TOO_FEW, e.method, e.covers) for m, e in row.items()}
        table[name or "(blank)"] = row
    return table


def gaps(table: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Estimate]:
    """For each metric the greatest less the least value among subgroups that are not too few, with its interval.

    d ± by square-and-add of the two subgroups' intervals (Newcombe 1998), each widened from 95 % to Bonferroni's level
    for all pairs of m subgroups, since the two extremes are picked after looking; not below 0. Use to ask whether the
    gap could be chance.
    """
    names: dict[str, None] = {metric: None for row in table.values() for metric in row}
    found = {}
    for metric in names:
        rows = {
            name: row[metric]
            for name, row in table.items()
            if metric in row and row[metric].value is not None and row[metric].note != TOO_FEW
        }
        if len(rows) >= 2:
            found[metric] = _gap(rows)
    return found


def _gap(rows: Mapping[str, Estimate]) -> Estimate:
    values = {name: e.value for name, e in rows.items() if e.value is not None}
    top, bottom = max(values, key=lambda v: values[v]), min(values, key=lambda v: values[v])
    a, b = rows[top], rows[bottom]
    gap, n = values[top] - values[bottom], sum(e.n for e in rows.values())
    note = f"{top} against {bottom}"
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return with_interval(gap, None, n, note=f"{note}; n too small for an interval")
    pairs = len(rows) * (len(rows) - 1) / 2
    widen = float(ndtri(1 - 0.025 / pairs) / ndtri(0.975))
    down = widen * math.hypot(values[top] - a.low, b.high - values[bottom])
    up = widen * math.hypot(a.high - values[top], values[bottom] - b.low)
    interval = Interval(max(0.0, gap - down), gap + up, "square-and-add, all pairs")
    return with_interval(gap, interval, n, note=note, clustered=a.covers == COVERS_CLUSTERS)


def _metrics(task: str, chosen: str) -> list[str]:
    """The deciding metric first, then what is read beside it."""
    beside = {
        "classify": ["accuracy", "macro_f1", "brier", "calibration_error"],
        "ordinal": ["accuracy", "mae", "brier", "calibration_error"],
        "multilabel": ["micro_f1", "empty_rate"],
        "regress": ["mae"],
    }[task]
    return [name for name in dict.fromkeys([chosen, *beside]) if name in METRICS[task]]


def _extra(rows: Answers) -> dict[str, Estimate]:
    """Two classes: how often the positive one is found, is spared, is called. Regression: which way the errors lean."""
    n = len(rows)
    if rows.task == "regress":
        return {"mean_error": mean_estimate(rows, rows.predicted - rows.truth, least=-math.inf)}
    if rows.task != "classify" or rows.k != 2:
        return {}
    called = rows.predicted == rows.positive
    is_positive = rows.truth == rows.positive
    everyone = np.ones(n, dtype=bool)
    return {
        "sensitivity": share(rows, called.astype(np.float64), is_positive, "no positive rows"),
        "specificity": share(rows, (~called).astype(np.float64), ~is_positive, "no negative rows"),
        "called_positive": share(rows, called.astype(np.float64), everyone, "no rows"),
    }
