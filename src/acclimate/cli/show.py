"""Scores as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acclimate.api.collect import baseline_name
from acclimate.errors import plural
from acclimate.evaluate import Estimate, Scores
from acclimate.report.words import breadth, estimate, one_line, readable

WIDTH = 80  # of the narrowest usual screen


def scores_text(scores: Scores, beside: Mapping[str, Mapping[str, Any]]) -> str:
    """What to know of the rows; every metric with its interval and n, the deciding one first; baselines; classes."""
    known = [*scores.notes, ""] if scores.notes else []
    ordered = dict(sorted(scores.estimates.items(), key=lambda item: item[0] != scores.metric))
    lines = [*known, *(f"{name:<24} {value}" for name, value in ordered.items())]
    if beside:
        lines += ["", f"beside it ({scores.metric}), and this model minus it on the same rows"]
        names = _column([baseline_name(name, scores.task) for name in beside])
        lines += [f"  {name:<22} {_beside(row)}" for name, row in zip(names, beside.values(), strict=True)]
    if scores.per_class:
        lines += ["", *_by_class(scores)]
    for column, groups in scores.per_subgroup.items():
        lines += ["", f"by {column}"]
        lines += [f"  {name:<22} {row[scores.metric]}" for name, row in groups.items() if scores.metric in row]
    for name, one in scores.columns.items():
        told = scores_text(one, one.baseline).rpartition("\n\nIntervals ")[0]
        lines += ["", f"label column {one_line(name, 40)}: {one.task}, {plural(one.n, 'row')}", *told.split("\n")]
    lines += ["", f"Intervals are at 95 %; they cover {scores.covers}."]
    return "\n".join(lines)


def _by_class(scores: Scores) -> list[str]:
    """A table: a line a class, a column a metric, each with its interval."""
    metrics = [m for m in next(iter(scores.per_class.values())) if m != "support"]
    per_class = scores.per_class
    counts = [f"{row['support'].value or 0:g}" if "support" in row else "" for row in per_class.values()]
    names = _column(["by class", *(f"  {one_line(name, 20)}" for name in per_class)])
    first = [f"{name}  {n}" for name, n in zip(names, _column(["n", *counts]), strict=True)]
    lines, block = [], first
    for metric in metrics:  # a block of lines holds as many metrics as are no wider than the screen
        found = (row.get(metric, Estimate(None)) for row in per_class.values())
        column = _column([readable(metric), *(estimate(e.value, e.low, e.high) for e in found)])
        if block is not first and breadth(block[0]) + 2 + breadth(column[0]) > WIDTH:
            lines += [*block, ""]
            block = first
        block = [f"{line}  {cell}" for line, cell in zip(block, column, strict=True)]
    return [line.rstrip() for line in (*lines, *block)]


def _column(cells: list[str]) -> list[str]:
    """The cells, filled up to one width."""
    width = max(map(breadth, cells))
    return [cell + " " * round(width - breadth(cell)) for cell in cells]


def _beside(row: Mapping[str, Any]) -> str:
    text = estimate(row.get("value"), row.get("low"), row.get("high"))
    gap = row.get("difference")
    if not gap:
        return text
    return f"{text}   {estimate(gap['value'], gap['low'], gap['high'], sign=True)} {gap['verdict']}"
