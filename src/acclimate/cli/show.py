"""Scores as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acclimate.evaluate import Estimate, Scores
from acclimate.report.words import breadth, estimate, one_line, readable


def scores_text(scores: Scores, beside: Mapping[str, Mapping[str, Any]]) -> str:
    """What to know of the rows; every metric with its interval and n, the deciding one first; baselines; classes."""
    known = [*scores.notes, ""] if scores.notes else []
    ordered = dict(sorted(scores.estimates.items(), key=lambda item: item[0] != scores.metric))
    lines = [*known, *(f"{name:<24} {value}" for name, value in ordered.items())]
    if beside:
        lines += ["", f"beside it ({scores.metric}), and this model minus it on the same rows"]
        lines += [f"  {name:<22} {_beside(row)}" for name, row in beside.items()]
    if scores.per_class:
        lines += ["", *_by_class(scores)]
    for column, groups in scores.per_subgroup.items():
        lines += ["", f"by {column}"]
        lines += [f"  {name:<22} {row[scores.metric]}" for name, row in groups.items() if scores.metric in row]
    lines += ["", f"Intervals are at 95 %; they cover {scores.covers}."]
    return "\n".join(lines)


def _by_class(scores: Scores) -> list[str]:
    """A table: a line a class, a column a metric, each with its interval."""
    metrics = [m for m in next(iter(scores.per_class.values())) if m != "support"]
    rows = [["by class", "n", *map(readable, metrics)]]
    for name, row in scores.per_class.items():
        n = f"{row['support'].value or 0:g}" if "support" in row else ""
        values = [estimate(e.value, e.low, e.high) for e in (row.get(m, Estimate(None)) for m in metrics)]
        rows.append([f"  {one_line(name, 20)}", n, *values])
    widths = [max(map(breadth, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text + " " * round(w - breadth(text)) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _beside(row: Mapping[str, Any]) -> str:
    text = estimate(row.get("value"), row.get("low"), row.get("high"))
    gap = row.get("difference")
    if not gap:
        return text
    return f"{text}   {estimate(gap['value'], gap['low'], gap['high'], sign=True)} {gap['verdict']}"
