"""What pictures and sounds share: inputs that are files named in a column, or what Python holds of such."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from acclimate.data.folders import base_of
from acclimate.data.kinds.base import Reading
from acclimate.data.labels import is_blank
from acclimate.data.rows import Columns, Table
from acclimate.progress import Progress

T = TypeVar("T")


def read_files(
    table: Table,
    columns: Columns,
    progress: Progress,
    what: str,
    one: Callable[[Any, Path], Any],
    examine: Callable[[Any], T],
    reason: Callable[[T], str],
) -> Reading:
    """What the file column names, each looked at once to see whether it can be used.

    `one` makes a cell an input, with paths relative to the table's folder. `examine` runs in threads, since decoding
    runs beside Python; `reason` says of what it found why the gate drops it, empty where it does not.
    """
    assert columns.file is not None
    base = base_of(table)
    cells = [None if p else c for c, p in zip(table.columns[columns.file], table.problems, strict=True)]
    inputs = [None if empty(cell) else one(cell, base) for cell in cells]
    there = [i for i, value in enumerate(inputs) if value is not None]
    found: dict[int, str] = {}
    with (
        progress.steps(what, len(there)) as advance,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for i, seen in zip(there, pool.map(examine, [inputs[i] for i in there]), strict=True):
            found[i] = reason(seen)
            advance(1)
    reasons = tuple(found[i] or None if i in found else "blank_input" for i in range(len(inputs)))
    return Reading(tuple(v if r is None else None for v, r in zip(inputs, reasons, strict=True)), reasons)


def path_cells(value: Any) -> tuple[Any, ...] | None:
    """The path alone; None for what lies in memory, which no CSV can name."""
    return (value,) if isinstance(value, str) else None


def empty(cell: Any) -> bool:
    """Whether a cell, or what Python gives, names nothing; NAType is the null of pandas, which equals nothing."""
    return cell is None or type(cell).__name__ == "NAType" or (isinstance(cell, str) and is_blank(cell))
