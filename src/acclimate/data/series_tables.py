"""Tables of series: an NPZ file of many, and long tables with a line a step, gathered to a row a series."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from acclimate.data.header import is_number
from acclimate.data.labels import as_text, is_blank
from acclimate.data.rows import Columns, Table
from acclimate.data.series import Series, array_in, arrays_of, rate_in
from acclimate.data.times import to_numbers
from acclimate.errors import UserError, plural

COLUMN = "series"  # of the table that an NPZ file becomes
UNEVEN = "uneven"  # of the facts of a table: what stands in an NPZ file and has not one entry a series, in words
_WORDS = ("nan", "inf", "infinity")
_SAMPLE = 200  # rows by which columns are told
_LEAST = 8  # numbers that a cell of one channel holds where nobody says that it is a series


def of_npz(path: Path, name: str) -> Table:
    """An NPZ file of one array (n, channels, steps), or (channels, steps) for a single one, as a table.

    Further arrays of n entries are columns under their own names: y, label, group ...; `rate` is that of all.
    """
    try:
        arrays = arrays_of(path)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(
            f"{name} is no NPZ file of arrays that can be read ({error}); write it again with numpy.savez"
        ) from None
    held = array_in(arrays)
    if held is None:
        listed = ", ".join(f"{key} {array.shape} {array.dtype}" for key, array in arrays.items())
        raise UserError(
            f"{name} holds no one array of numbers to read series from ({listed or 'none'}); call it values, with the "
            "shape (n, channels, steps)"
        )
    values, rate = arrays[held], rate_in(arrays)
    if values.ndim not in (2, 3) or not len(values):
        raise UserError(f"{name}: {held} has the shape {values.shape}; give (n, channels, steps)")
    rows = values if values.ndim == 3 else values[None]
    columns: dict[str, list[object]] = {COLUMN: [Series(np.asarray(row, np.float64), rate) for row in rows]}
    notes = [] if values.ndim == 3 else [f"{held} has two axes and is read as one series (channels, steps)"]
    uneven: dict[str, str] = {}
    for key, array in arrays.items():
        if key != held and array.shape in ((len(rows),), (len(rows), 1)):
            columns[key] = [cell.item() if hasattr(cell, "item") else cell for cell in array.reshape(-1)]
        elif key != held and array.ndim:
            notes.append(f"{key} {array.shape} has not one entry a series and is left out")
            size = f"{len(array):,} entries" if array.ndim == 1 else f"the shape {array.shape}"
            uneven[key] = f"{key} has {size} and {held} {values.shape} holds {plural(len(rows), 'series', 'series')}"
    lines = tuple(range(1, len(rows) + 1))
    facts: dict[str, object] = {"format": "npz", "notes": notes, **({UNEVEN: uneven} if uneven else {})}
    return Table(columns, lines, (None,) * len(rows), name, True, facts)


def refuse_uneven(table: Table, names: Sequence[str]) -> None:
    """One error for a column that is wanted, where the NPZ file holds it with another number of entries than series."""
    uneven, wanted = table.facts.get(UNEVEN), {name.casefold() for name in names}
    for name, said in uneven.items() if isinstance(uneven, dict) else ():
        if name.casefold() in wanted:
            raise UserError(f"{table.source}: {said}; give it one entry a series, in their order")


def listed(table: Table, free: Sequence[str], *, asked: bool) -> tuple[str, ...]:
    """The columns whose cells are lists of numbers, each a channel; not `asked` only where they can be nothing else.

    One such column of lists that are all of one length may be an embedding, and is no series unless asked.
    """
    found = [name for name in free if _is_listed(table.columns[name], 1)]
    if asked or not found:
        return tuple(found)
    lengths = [[len(cell) for cell in table.columns[name][:_SAMPLE] if _is_list(cell)] for name in found]
    together = len(found) > 1 and all(one == lengths[0] for one in lengths)
    if not (together and len(set(lengths[0])) > 1) and min(map(min, lengths)) < _LEAST:
        return ()
    nested = any(_is_list(part) for cell in table.columns[found[0]][:_SAMPLE] if _is_list(cell) for part in cell[:1])
    return tuple(found) if together or nested or (len(found) == 1 and len(set(lengths[0])) > 1) else ()


def _is_list(cell: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(cell, (list, tuple)) and not isinstance(cell, Series)


def _is_listed(cells: Sequence[Any], least: int) -> bool:
    some = [cell for cell in cells[: 50 * _SAMPLE] if not is_blank(cell)][:_SAMPLE]
    return bool(some) and all(_is_list(cell) and _numbers(cell, least) for cell in some)


def _numbers(cell: Sequence[Any], least: int) -> bool:
    if cell and all(_is_list(part) for part in cell):  # a list of channels
        return all(_numbers(part, least) for part in cell)
    head = cell[:_LEAST]
    return len(cell) >= least and all(
        v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in head
    )


def is_long(table: Table, columns: Columns) -> bool:
    """Whether this is a long table of series: the user says series, names the column of their names, and it repeats."""
    if columns.kind != "series" or columns.id is None or columns.id not in table.columns or columns.file is not None:
        return False
    cells = [as_text(cell) for cell in table.columns[columns.id] if not is_blank(cell)]
    return len(set(cells)) < len(cells)


def gathered(table: Table, columns: Columns) -> Table:
    """A long table as one row a series, its channels as lists; every other table as it is.

    Lines of one `id` are a series, in the order of `time` where that is named, else as they stand. Columns of numbers
    are channels (`columns.features`, where they are known); what is the same in every line of a series stays a cell.
    """
    if not is_long(table, columns):
        return table
    assert columns.id is not None
    ids = table.columns[columns.id]
    members: dict[str, list[int]] = {}
    lost = 0
    for i, (cell, problem) in enumerate(zip(ids, table.problems, strict=True)):
        if is_blank(cell) or problem is not None:
            lost += 1
        else:
            members.setdefault(as_text(cell), []).append(i)
    times = None if columns.time is None else to_numbers(table.columns[columns.time], columns.time)
    order = [_in_time(rows, times) for rows in members.values()]
    channels = columns.features or _channels(table, columns, order)
    out: dict[str, list[object]] = {}
    for name, cells in table.columns.items():
        if name in channels:
            out[name] = [[_number(cells[i]) for i in rows] for rows in order]
        elif name == columns.time or all(len({as_text(cells[i]) for i in rows}) == 1 for rows in order):
            out[name] = [cells[rows[0]] for rows in order]
        elif name in columns.labels:
            odd = next(key for key, rows in members.items() if len({as_text(cells[i]) for i in rows}) > 1)
            raise UserError(
                f"{table.source}: {name!r} has several values in the lines of {odd!r}; give each series one"
            )
    total = len(table)
    notes = table.facts.get("notes", [])
    said = (
        f"{plural(total, 'line')} are {plural(len(order), 'series', 'series')} by column {columns.id!r}, with "
        f"the channels {', '.join(channels)}"
    )
    said += (
        f"; {plural(lost, 'line')} without it, or that cannot be read, {'is' if lost == 1 else 'are'} in none"
        if lost
        else ""
    )
    words = sum(_number(c) is None and not is_missing(c) for name in channels for c in table.columns[name])
    said += f"; {words:,} of their cells hold no number and count as missing" if words else ""
    undated = len([i for rows in members.values() for i in rows]) - sum(map(len, order))
    said += (
        f"; {plural(undated, 'line')} whose {columns.time} cannot be read {'is' if undated == 1 else 'are'} left out"
        if undated
        else ""
    )
    uneven = 0 if times is None else sum(_uneven([times[i] for i in rows]) for rows in order)
    more = [f"{uneven:,} of {len(order):,} series have steps of unlike length and are read as if they were even"]
    facts = {**table.facts, "notes": [*(notes if isinstance(notes, list) else []), said, *(more if uneven else [])]}
    lines = tuple(table.lines[rows[0]] for rows in order)
    return replace(table, columns=out, lines=lines, problems=(None,) * len(order), typed=table.typed, facts=facts)


def _in_time(rows: list[int], times: Sequence[float | None] | None) -> list[int]:
    if times is None:
        return rows
    known = [i for i in rows if times[i] is not None]
    return sorted(known, key=lambda i: (times[i], i)) or rows


def _uneven(times: Sequence[float | None]) -> bool:
    steps = np.diff([t for t in times if t is not None])
    return len(steps) > 0 and bool(np.ptp(steps) > 0.1 * abs(float(np.median(steps))))


def _channels(table: Table, columns: Columns, order: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Columns of numbers without another part that change within a series."""
    used = set(columns.used)
    found = []
    for name, cells in table.columns.items():
        some = [cells[i] for rows in order[:20] for i in rows[:_SAMPLE] if not is_missing(cells[i])]
        changes = any(len({as_text(cells[i]) for i in rows}) > 1 for rows in order)
        if name not in used and some and changes and all(is_number(as_text(cell)) for cell in some):
            found.append(name)
    if not found:
        raise UserError(
            f"{table.source} has no column of numbers that change within the series that {columns.id!r} names; is it "
            "the right column?"
        )
    return tuple(found)


def is_missing(cell: object) -> bool:
    """Whether nothing was measured: an empty cell, or a word that programs write for that.

    >>> is_missing(""), is_missing("NaN"), is_missing("-inf"), is_missing("0")
    (True, True, True, False)
    """
    return is_blank(cell) or as_text(cell).strip().lstrip("+-").lower() in _WORDS


def _number(cell: object) -> float | None:
    if is_missing(cell):
        return None
    try:
        return float(cell if isinstance(cell, (int, float)) else as_text(cell))
    except ValueError:
        return None


def as_values(cells: Mapping[str, object] | Sequence[object]) -> Any:
    """The list cells of one row as one list of channels; None where nothing stands in any of them."""
    parts = list(cells.values() if isinstance(cells, Mapping) else cells)
    if all(is_blank(part) for part in parts):
        return None
    if len(parts) == 1 and isinstance(parts[0], (list, tuple)) and parts[0] and all(map(_is_list, parts[0])):
        parts = list(parts[0])
    return [[np.nan if v is None else v for v in part] if _is_list(part) else part for part in parts]
