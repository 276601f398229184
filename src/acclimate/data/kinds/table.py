"""Rows of a table: every column that has no other part is one that is learned from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

from acclimate.data.column_types import Held, Row, to_boolean, to_category, to_number
from acclimate.data.findings import Finding, finding, rows_text
from acclimate.data.kinds import table_files
from acclimate.data.kinds.audio import AUDIO
from acclimate.data.kinds.base import Kind, Reading
from acclimate.data.kinds.files import empty
from acclimate.data.kinds.image import IMAGE
from acclimate.data.labels import as_text, is_blank
from acclimate.data.rows import FILES, Columns, Data, Input, Table
from acclimate.errors import UserError, plural
from acclimate.keys import key_of
from acclimate.progress import Progress

_MUCH = 0.2  # of the cells of a column are missing: worth a word
_NAMED = 8  # columns that a sentence names
MODELS = {"text": "minilm", "image": IMAGE.model, "audio": AUDIO.model}  # that read such columns where none is named


def columns_held(columns: Columns) -> tuple[Held, ...]:
    """What the columns that are learned from hold."""
    return tuple(Held.of(name, text) for name, text in zip(columns.features, columns.holds, strict=True))


def read(table: Table, columns: Columns, progress: Progress) -> Reading:
    """One tuple of cells a row; a row is blank where nothing stands in any column that is read. Files are looked at,
    and one that cannot be read is a missing cell, of which the row knows why."""
    known, files = columns_held(columns), table_files.looked_at(table, columns, progress)
    cells = zip(*(files.cells.get(name, table.columns[name]) for name in columns.features), strict=True)
    rows: list[Row | None] = []
    for i, (row, problem) in enumerate(zip(cells, table.problems, strict=True)):
        made = None if problem else _row(row, known)
        if made is not None:
            made.lost = files.lost.get(i, ())
        rows.append(made)
    return Reading(tuple(rows), tuple("blank_input" if row is None else None for row in rows))


def given(value: Any, columns: Columns, position: int) -> Input | None:
    """A tuple or list of cells in the order of the columns."""
    known = columns_held(columns)
    if hasattr(value, "tolist"):  # a row of an array
        value = value.tolist()
    if not isinstance(value, (tuple, list)) or len(value) != len(known):
        raise UserError(
            f"input {position + 1} is no row of this table: {str(value)[:60]!r}; give {plural(len(known), 'cell')} "
            f"in the order "
            f"{', '.join(columns.features[:_NAMED])}{', ...' if len(known) > _NAMED else ''}, or dicts by name"
        )
    return _row(table_files.given(value, known, position), known)


def _row(cells: Sequence[object], known: tuple[Held, ...]) -> Row | None:
    if all(is_blank(cell) for cell, column in zip(cells, known, strict=True) if column.kind != "none"):
        return None
    return Row([c if h.kind in FILES else _plain(c) for c, h in zip(cells, known, strict=True)], known)


def _plain(cell: object) -> object:
    """Nothing, a number, a boolean or text: dates and what else frames hold as they stand in a file."""
    if is_blank(cell):
        return None
    return cell if isinstance(cell, (str, bool, int, float)) else as_text(cell)


def value_of(cell: object, column: Held) -> float | str | None:
    """What is read of a cell; None where it is missing or cannot be read. Of a file a hash of its content."""
    if column.kind in FILES:
        return None if empty(cell) else key_of(cell, column.kind).hex()
    if column.kind == "number":
        return to_number(cell, column.written)
    return to_boolean(cell) if column.kind == "boolean" else to_category(cell)


def keys(inputs: Sequence[Input]) -> list[str]:
    """The values that are read: 1, 1.0 and "1" are one, and columns that are left out do not count."""
    return [
        json.dumps([value_of(c, h) for c, h in zip(row, row.columns, strict=True) if h.kind != "none"])
        for row in inputs
    ]


def findings(data: Data, private: bool) -> list[Finding]:
    """Columns where much is missing, and cells that hold something which cannot be read."""
    out, much = [*odd(data, private), *table_files.noticed(data, private)], []
    for at, column in enumerate(_columns(data)):
        gone = empty if column.kind in FILES else partial(_unread, column)
        lost = sum(gone(row[at]) for row in data.inputs) if column.kind != "none" else 0
        if lost and lost >= _MUCH * len(data):
            much.append((lost / len(data), column.name))
    if much:
        named = ", ".join(f"{name} {share:.0%}" for share, name in sorted(much, reverse=True)[:_NAMED])
        more = f" and {len(much) - _NAMED} more" if len(much) > _NAMED else ""
        text = f"much is missing in {rows_text(len(data))}: {named}{more}"
        out.append(finding("missing_cells", "info", text, len(much)))
    return out


def odd(data: Data, private: bool) -> list[Finding]:
    """Cells that hold something which cannot be read, by column."""
    out = table_files.unreadable(data, private)
    for at, column in enumerate(_columns(data)):
        if column.kind == "none" or column.kind in FILES:
            continue
        cells = [row[at] for row in data.inputs]
        lost = [i for i, cell in enumerate(cells) if not is_blank(cell) and _unread(column, cell)]
        if lost:
            some = "" if private else f" ({', '.join(repr(as_text(cells[i])) for i in lost[:3])})"
            count = "1 cell is" if len(lost) == 1 else f"{len(lost):,} cells are"
            text = f"column {column.name!r} holds a {column.kind}, and {count} none{some}: missing"
            out.append(finding("odd_cell", "info", text, len(lost), [data.lines[i] for i in lost if data.lines]))
    return out


def _unread(column: Held, cell: object) -> bool:
    return value_of(cell, column) is None


def _columns(data: Data) -> tuple[Held, ...]:
    return data.inputs[0].columns if data.inputs else ()


def _shown(value: Input) -> Any:
    """The cells by name, on one line."""
    return "; ".join(
        f"{column.name}: {'(missing)' if cell is None else table_files.named(cell, column)}"
        for cell, column in zip(value, value.columns, strict=True)
    )


def _cells(value: Input) -> tuple[Any, ...] | None:
    """The cells, files by their paths; None where one lies in memory."""
    cells = zip(value, value.columns, strict=True)
    if any(column.kind in FILES and not isinstance(cell, (Path, NoneType)) for cell, column in cells):
        return None
    return tuple("" if cell is None else str(cell) if isinstance(cell, Path) else cell for cell in value)


def texts_of(value: Input) -> list[str]:
    """What stands in the free text of a row, column by column."""
    cells = zip(value, getattr(value, "columns", ()), strict=False)
    return [as_text(cell) for cell, column in cells if column.kind == "text" and not is_blank(cell)]


def sounds_of(value: Input) -> list[Any]:
    """The sounds of a row."""
    cells = zip(value, value.columns, strict=True)
    return [table_files.plain(cell) for cell, column in cells if column.kind == "audio" and not empty(cell)]


def holds_text(what: Columns | Data) -> bool:
    """Whether these are rows of a table of which a column holds free text."""
    if isinstance(what, Columns):
        return "text" in what.holds
    first = what.inputs[0] if what.kind == "table" and what.inputs else ()
    return any(column.kind == "text" for column in getattr(first, "columns", ()))


def needs_networks(data: Data) -> bool:
    """Whether these are rows of a table of which a column holds text, pictures or sounds."""
    first = data.inputs[0] if data.kind == "table" and data.inputs else ()
    return any(column.kind in MODELS for column in getattr(first, "columns", ()))


def choose(tables: Sequence[Table], columns: Columns) -> tuple[str, str]:
    """The columns alone, or beside a small network for each kind of column that only a network can read."""
    name, said = "columns", []
    for kind, model in MODELS.items():
        if mine := [column.name for column in columns_held(columns) if column.kind == kind]:
            name += f"+{model}"
            said.append(f"{', '.join(mine[:_NAMED])}: read through {model}")
    if not said:
        return name, ""
    what = "text" if name == "columns+minilm" else "what networks read"
    return name, f"{'; '.join(said)}, beside the other columns (--model columns leaves {what} out)"


TABLE = Kind(
    name="table",
    noun="row",
    plural="rows of a table",
    models=("table",),
    model="columns",
    baseline="boosting",
    blank="nothing in any column",
    near="but for how numbers are written",
    read=read,
    given=given,
    keys=keys,
    exact=keys,
    shared=table_files.shared,
    choose=choose,
    findings=findings,
    odd=odd,
    shown=_shown,
    cells=_cells,
    picture=table_files.picture,
    played=table_files.played,
)
