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
from acclimate.data.findings import Finding, finding
from acclimate.data.kinds.audio import AUDIO
from acclimate.data.kinds.base import Kind
from acclimate.data.kinds.files import empty
from acclimate.data.kinds.image import IMAGE
from acclimate.data.labels import as_text
from acclimate.data.rows import FILES, Columns, Data, Input, Table
from acclimate.keys import key_of
from acclimate.progress import Progress

KINDS: dict[str, Kind] = {kind.name: kind for kind in (IMAGE, AUDIO)}
_NAMED = 5  # files that a sentence names


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
    """Cells that name no file; files that several rows hold: on both sides of a split they are no news; and what the
    gate says of pictures and sounds by themselves."""
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
        keys = [None if empty(row[j]) else key_of(plain(row[j]), column.kind) for row in data.inputs]
        counts = Counter(key for key in keys if key is not None)
        lines = [n for key, n in zip(keys, data.lines, strict=False) if key is not None and counts[key] > 1]
        if lines:
            text = (
                f"column {column.name!r}: {len(lines):,} rows hold a file that another row holds too; if they belong "
                "together, name what they share as the group, so that no split parts them"
            )
            out.append(finding("shared_file", "info", text, len(lines), lines))
    return out


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
