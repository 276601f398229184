"""Pictures and sounds among the columns of a table: looked at in the gate, missing where they cannot be read."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acclimate.data.account import why
from acclimate.data.column_types import Held, Lost
from acclimate.data.duplicates import connected
from acclimate.data.findings import Finding, finding, rows_text
from acclimate.data.kinds.audio import AUDIO
from acclimate.data.kinds.base import Kind
from acclimate.data.kinds.files import empty
from acclimate.data.kinds.image import IMAGE
from acclimate.data.labels import as_text
from acclimate.data.rows import FILES, Columns, Data, Input, IntArray, Table
from acclimate.progress import Progress

KINDS: dict[str, Kind] = {kind.name: kind for kind in (IMAGE, AUDIO)}
_NAMED = 5  # files that a sentence names
_PLACEHOLDER = 0.2  # of the rows hold a file: it says nothing of whose they are
_FEW = 10  # rows may hold a file in any case


@dataclass(frozen=True)
class Looked:
    """The cells of every column of files, None where they cannot be read; and what was there, by row."""

    cells: dict[str, list[object]]
    lost: dict[int, tuple[Lost, ...]]


def looked_at(table: Table, columns: Columns, progress: Progress) -> Looked:
    """Every file that a column of pictures or sounds names, opened once. Paths are relative to the table's folder."""
    cells: dict[str, list[object]] = {}
    lost: dict[int, tuple[Lost, ...]] = {}
    for name, kind in zip(columns.features, columns.holds, strict=True):
        if kind not in FILES:
            continue
        read = KINDS[kind].read(table, replace(columns, file=name), progress)
        cells[name] = [_as_path(value) for value in read.inputs]
        for i, reason in enumerate(read.reasons):
            if reason not in (None, "blank_input"):
                lost[i] = (*lost.get(i, ()), Lost(name, str(reason), _called(table.columns[name][i])))
    return Looked(cells, lost)


def given(cells: Sequence[object], known: Sequence[Held], position: int) -> list[object]:
    """The same cells with files opened; a file that cannot be read is an error, since Python gave it by itself."""
    out = list(cells)
    for j, column in enumerate(known):
        if column.kind in FILES:
            out[j] = _as_path(KINDS[column.kind].given(cells[j], Columns(), position))
    return out


def _as_path(value: Any) -> Any:
    """A path as a Path, so that a row counts as what its files hold and not as what they are called."""
    return Path(value) if isinstance(value, str) else value


def _called(cell: object) -> str:
    return as_text(cell) if isinstance(cell, (str, os.PathLike)) else f"in memory ({type(cell).__name__})"


def plain(value: Any) -> Any:
    """A cell as a backbone takes it: a path as text."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def named(cell: object, column: Held) -> str:
    """A cell in words."""
    return str(KINDS[column.kind].shown(plain(cell))) if column.kind in FILES else as_text(cell)


def unreadable(data: Data, private: bool) -> list[Finding]:
    """Files that cannot be read, by column and reason, with their lines."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for i, row in enumerate(data.inputs):
        for one in getattr(row, "lost", ()):
            found[one.column, one.reason].append((data.lines[i] if data.lines else i + 1, one.name))
    out = []
    for (column, reason), rows in found.items():
        names = "" if private else f" ({', '.join(name for _, name in rows[:_NAMED])}{', ...' * (len(rows) > _NAMED)})"
        count = "1 cell counts" if len(rows) == 1 else f"{len(rows):,} cells count"
        text = f"column {column!r}: {count} as missing: {why(reason)}{names}"
        severity = "warning"
        if not any(_there(row, column) for row in data.inputs):
            severity, text = "error", f"{text}; no row has a file that can be read: correct the paths, or leave it out"
        out.append(finding("lost_file", severity, text, len(rows), [line for line, _ in rows]))
    return out


def _there(row: Input, column: str) -> bool:
    return any(held.name == column and not empty(cell) for cell, held in zip(row, row.columns, strict=True))


def noticed(data: Data, private: bool) -> list[Finding]:
    """Cells that name no file; files that several rows hold, which stay together; and what the gate
    says of pictures and sounds by themselves."""
    out = []
    for j, column in enumerate(data.inputs[0].columns if data.inputs else ()):
        if column.kind not in FILES:
            continue
        of_none = [n for row, n in zip(data.inputs, data.lines, strict=False) if _names_none(row, j, column.name)]
        if of_none:
            count = "1 cell names" if len(of_none) == 1 else f"{len(of_none):,} cells name"
            text = f"column {column.name!r}: {count} no file: missing"
            out.append(finding("no_file", "info", text, len(of_none), of_none))
        there = [i for i, row in enumerate(data.inputs) if not empty(row[j])]
        files = Data(tuple(plain(data.inputs[i][j]) for i in there), lines=tuple(data.lines[i] for i in there))
        for one in KINDS[column.kind].findings(files, private):
            out.append(replace(one, message=f"column {column.name!r}: {one.message}"))
        out += _of_one_file(data, j, column)
    return out


def _of_one_file(data: Data, j: int, column: Held) -> list[Finding]:
    """Rows that hold one file in this column: those that stay together, and those that it would make no sense of."""
    of_row, counts = _files(data.inputs, j, column)
    together = [n for c, n in zip(of_row, data.lines, strict=False) if 1 < counts[c] <= _most(len(data))]
    apart = [n for c, n in zip(of_row, data.lines, strict=False) if counts[c] > _most(len(data))]
    out = []
    if together:
        files = sum(1 < n <= _most(len(data)) for n in counts.values())
        text = (
            f"column {column.name!r}: {rows_text(len(together))} hold {files:,} "
            f"{'files' if files > 1 else 'file'} that other rows hold too, exactly or nearly; rows of one file stay on "
            "one side of every split"
        )
        out.append(finding("shared_file", "warning", text, len(together), together))
    if apart:
        text = (
            f"column {column.name!r}: {rows_text(len(apart))} hold a file that more than {_most(len(data)):,} hold; it "
            "is taken for a placeholder, and they are not kept together for it"
        )
        out.append(finding("placeholder_file", "info", text, len(apart), apart))
    return out


def shared(inputs: Sequence[Input]) -> IntArray | None:
    """Rows that have a file in common, exactly or nearly, in whichever column; also by way of other rows.  # (n,)"""
    pairs: list[tuple[int, int]] = []
    for j, column in enumerate(inputs[0].columns if inputs else ()):
        if column.kind not in FILES:
            continue
        of_row, counts = _files(inputs, j, column)
        first: dict[int, int] = {}
        held = ((i, c) for i, c in enumerate(of_row) if 1 < counts[c] <= _most(len(inputs)))
        pairs += [(first[c], i) for i, c in held if first.setdefault(c, i) != i]
    return connected(range(len(inputs)), pairs) if pairs else None


def _files(inputs: Sequence[Input], j: int, column: Held) -> tuple[list[int], Counter[int]]:
    """A number for the file of each row, -1 where there is none, and how many rows hold each."""
    kind, there = KINDS[column.kind], [i for i, row in enumerate(inputs) if not empty(row[j])]
    files = [plain(inputs[i][j]) for i in there]
    of_row = [-1] * len(inputs)
    for i, c in zip(there, kind.clusters(files, kind.keys(files)).tolist() if files else (), strict=True):
        of_row[i] = c
    return of_row, Counter(c for c in of_row if c >= 0)


def _most(rows: int) -> int:
    """The most rows that one file keeps together: a picture that stands for "none" would put most of them on one
    side."""
    return max(_FEW, int(_PLACEHOLDER * rows))


def _names_none(row: Input, j: int, column: str) -> bool:
    return empty(row[j]) and all(one.column != column for one in row.lost)


def picture(value: Input) -> str:
    """The first picture of a row, else a drawing of its first sound; empty where it has none."""
    return _first(value, lambda kind: kind.picture)


def played(value: Input) -> str:
    """The first sound of a row."""
    return _first(value, lambda kind: kind.played)


def _first(value: Input, of: Callable[[Kind], Callable[[Any], str] | None]) -> str:
    for name in FILES:
        make = of(KINDS[name])
        for cell, column in zip(value, value.columns, strict=True):
            if make is not None and column.kind == name and not empty(cell):
                return make(plain(cell))
    return ""
