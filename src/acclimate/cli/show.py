"""Scores as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acclimate.evaluate import Scores
from acclimate.report.words import estimate


def scores_text(scores: Scores, beside: Mapping[str, Mapping[str, Any]]) -> str:
    """Every metric with its interval and n, the deciding one first; then baselines, classes, and what to know."""
    ordered = dict(sorted(scores.estimates.items(), key=lambda item: item[0] != scores.metric))
    lines = [f"{name:<24} {value}" for name, value in ordered.items()]
    if beside:
        lines += ["", f"beside it ({scores.metric}), and this model minus it on the same rows"]
        lines += [f"  {name:<22} {_beside(row)}" for name, row in beside.items()]
    if scores.per_class:
        lines += ["", "by class"]
        for name, row in scores.per_class.items():
            values = [
                f"{metric} {estimate(e.value, e.low, e.high)}" for metric, e in row.items() if metric != "support"
            ]
            if "support" in row:
                values.append(f"n = {row['support'].value or 0:g}")
            lines.append(f"  {name:<22} {', '.join(values)}")
    for column, groups in scores.per_subgroup.items():
        lines += ["", f"by {column}"]
        lines += [f"  {name:<22} {row[scores.metric]}" for name, row in groups.items() if scores.metric in row]
    lines += ["", f"Intervals are at 95 %; they cover {scores.covers}."]
    return "\n".join([*lines, *scores.notes])


def _beside(row: Mapping[str, Any]) -> str:
    text = estimate(row.get("value"), row.get("low"), row.get("high"))
    gap = row.get("difference")
    if not gap:
        return text
    return f"{text}   {estimate(gap['value'], gap['low'], gap['high'], sign=True)} {gap['verdict']}"
