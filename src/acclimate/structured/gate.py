"""The account of rows with structured answers: read = kept + dropped, with the lines of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from acclimate.data.account import Audit
from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.rows import Data, IntArray, Table
from acclimate.data.split import holdout, units
from acclimate.errors import UserError, plural

if TYPE_CHECKING:
    from acclimate.structured.base import Structured, StructuredNetwork

FEWEST_APART = 3  # rows that are no copies of each other and of unlike groups: fewer cannot be dealt out to two sides
JUDGE, CHOOSE = "to judge by", "to choose by"
_OWN_ROWS = {JUDGE: "rows of their own to judge by (--test-data)", CHOOSE: "rows to choose by (--valid-data)"}


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


def held_out(task: Structured, data: Data, share: float, seed: int, what: str) -> tuple[IntArray, IntArray]:
    """The rows to learn from and those that are held out, alike on both sides as far as they can be.

    Raises where too few rows differ: with how many there are, how many are needed, and what to do.
    """
    apart = len(np.unique(units(data)))
    if apart < FEWEST_APART:
        grouped = "" if data.groups is None else ", or are of unlike groups"
        raise UserError(
            f"{data.source}: {plural(len(data), task.noun)} can be learned from, and {apart} of them "
            f"{'differs' if apart == 1 else 'differ'}{grouped}: "
            f"{FEWEST_APART} are needed to hold some out {what}; give more that differ, or {_OWN_ROWS[what]}"
        )
    try:
        return holdout(replace(data, labels=task.strata(data)), "classify", share=share, seed=seed)
    except UserError:  # what should stand on both sides is too rare for that
        return holdout(replace(data, labels=("",) * len(data)), "classify", share=share, seed=seed)


def refuse_unread(network: StructuredNetwork, data: Data) -> None:
    """One error for rows that this network cannot read, or whose answers it cannot write, before anything is computed:
    which, why, and what to do."""
    for i, (given, answer) in enumerate(zip(data.inputs, data.labels or (None,) * len(data), strict=True)):
        if reason := network.refused(given) or ("" if answer is None else network.refused_answer(answer)):
            line = f", line {data.lines[i]}" if data.lines else f", row {i + 1}"
            raise UserError(f"{data.source}{line}: {reason}")


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
