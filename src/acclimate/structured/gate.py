"""The account of rows with structured answers: read = kept + dropped, with the lines of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from acclimate.data.account import Audit
from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.rows import Data, IntArray, Table

if TYPE_CHECKING:
    from acclimate.structured.base import Structured


def accounted(
    task: Structured,
    table: Table,
    role: str,
    reasons: Sequence[str | None],
    findings: Sequence[Finding],
    labels: Mapping[str, int],
) -> Audit:
    """The account of one source: `reasons` holds None for every row that was kept."""
    dropped: dict[str, tuple[int, ...]] = {}
    for line, reason in zip(table.lines, reasons, strict=True):
        if reason is not None:
            dropped[reason] = (*dropped.get(reason, ()), line)
    kept = sum(reason is None for reason in reasons)
    return Audit(table.source, role, len(reasons), kept, dropped, tuple(findings), dict(table.facts), dict(labels))


def clustered(keys: Sequence[str]) -> IntArray:
    """The number of the content of each row: equal keys, equal numbers."""
    return np.unique(np.asarray(keys, dtype=object).astype(str), return_inverse=True)[1].reshape(-1).astype(np.int64)


def clusters_of(data: Data) -> IntArray | None:
    """What intervals draw: the groups where they are named, else rows that are copies of each other as one case; None
    where every row is one of its own."""
    if data.groups is not None:
        return clustered(data.groups)
    return data.clusters if data.clusters is not None and len(np.unique(data.clusters)) < len(data) else None


def repeats(keys: Sequence[str], data: Data, noun: str) -> list[Finding]:
    """Rows whose content stands in an earlier row."""
    seen: set[str] = set()
    again = []
    for key, line in zip(keys, data.lines, strict=True):
        if key in seen:
            again.append(line)
        seen.add(key)
    if not again:
        return []
    message = (
        f"{rows_text(len(again))} {verb(len(again), 'repeat')} an earlier {noun}; copies stay on one side of the split"
    )
    return [finding("duplicate", "info", message, len(again), again)]


def leaks(train: Sequence[str], test: Sequence[str], data: Data, noun: str) -> list[Finding]:
    """Rows of a test file whose content was learned from."""
    known = set(train)
    found = [line for key, line in zip(test, data.lines, strict=True) if key in known]
    if not found:
        return []
    message = (
        f"{rows_text(len(found))} of {data.source} {verb(len(found), 'are')} in the training data too: its "
        "numbers are too good"
    )
    return [finding("leak", "warning", message, len(found), found)]
