"""From files to series and from series to windows: a context, and the steps that follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from acclimate.data.find_kind import spotted
from acclimate.data.header import is_number
from acclimate.data.kinds.series import SERIES
from acclimate.data.labels import as_text, is_blank
from acclimate.data.read import read
from acclimate.data.rows import Columns, Table
from acclimate.data.series import Series, Values
from acclimate.data.series_tables import gathered, is_missing, listed
from acclimate.data.times import to_numbers
from acclimate.errors import UserError
from acclimate.keys import key_of
from acclimate.progress import Progress

LONGEST = 2048  # steps of a context that are kept
LEAST = 8  # known steps that each channel of a context has


class Window(NamedTuple):
    """A context that ends where a forecast begins."""

    values: Values  # (channels, steps), the last one is now; NaN where nothing was measured
    series: str = ""  # its name
    origin: int = 0  # the number of steps of the series up to now
    channels: tuple[str, ...] = ()  # their names, where the source has some

    def __repr__(self) -> str:
        return f"{self.series or 'series'} up to step {self.origin:,}"

    def known(self) -> int:
        """The number of known steps of the channel that has the fewest."""
        return int(np.isfinite(self.values).sum(1).min()) if self.values.size else 0


def key(window: Window) -> str:
    """By what is known and how far the series had come."""
    return f"{key_of(window.values, 'series').hex()}-{window.origin}"


@dataclass(frozen=True)
class Found:
    """The series of a source."""

    series: tuple[Series | None, ...]  # None where there is none that can be read
    problems: tuple[str, ...]  # the gate's reason for each; empty where it can be read
    names: tuple[str, ...]
    channels: tuple[str, ...]
    table: Table  # a line a series

    @property
    def named(self) -> tuple[str, ...]:
        """The names of the channels where the source has some."""
        return () if self.channels == _numbered(len(self.channels)) else self.channels


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"channel {j + 1}" for j in range(count))


def series_of(source: Any, columns: Columns, progress: Progress) -> Found:
    """The series that a source holds: an NPZ file, sounds, lists in cells, or a table with a line a step.

    Of a table with a line a step, the columns of numbers are the channels, or those that `label` names; `id` names the
    series where there are several, `time` the order.
    """
    table = read(source)
    asked = replace(
        columns, kind="series", label=None, features=columns.labels, holds=("numbers",) * len(columns.labels)
    )
    free = [name for name in table.columns if name not in asked.used]
    of_cells = columns.file is not None or table.facts.get("kind") in ("series", "audio") or any(
        isinstance(cell, Series) for name in free for cell in table.columns[name][:1]
    )  # fmt: skip
    if not of_cells and not (columns.labels or listed(table, free, asked=False)):
        asked = replace(asked, features=(), holds=())
    if of_cells:
        found = spotted(table, replace(asked, features=(), holds=()))[0]
    elif listed(table, columns.labels or free, asked=True):
        names = columns.labels or listed(table, free, asked=True)
        found = replace(asked, features=names, holds=("numbers",) * len(names))
    else:
        table, found = _of_steps(table, asked)
    reading = SERIES.read(table, found, progress)
    ids = None if columns.id is None else table.columns.get(columns.id)
    called = [f"series {n}" for n in range(1, len(table) + 1)] if ids is None else [as_text(cell) for cell in ids]
    first = next((one for one in reading.inputs if one is not None), None)
    count = 0 if first is None else len(first.values)
    channels = found.features if len(found.features) == count else _numbered(count)
    problems = tuple(reason or "" for reason in reading.reasons)
    return Found(reading.inputs, problems, tuple(called), channels, table)


def _of_steps(table: Table, columns: Columns) -> tuple[Table, Columns]:
    """A table with a line a step as a table with a line a series, and the columns of its channels."""
    if columns.id is None:
        columns = replace(columns, id="series")
        cells: list[object] = ["all"] * len(table)
        table = replace(table, columns={**table.columns, "series": cells})
    if not columns.features:
        used = set(columns.used)
        _of_numbers_alone(table, [name for name in table.columns if name not in used])
        names = [name for name, cells in table.columns.items() if name not in used and _numbers(cells)]
        if columns.time is None:  # a count of steps or a date is no channel
            names = [name for name in names if not _counts(table.columns[name])]
        if not names:
            raise UserError(
                f"{table.source} has no column of numbers to forecast (columns: "
                f"{', '.join(list(table.columns)[:20])}); name it with --label"
            )
        columns = replace(columns, features=tuple(names), holds=("numbers",) * len(names))
    lacking = [name for name in columns.features if name not in table.columns]
    if lacking:
        raise UserError(f"{table.source} has no column {lacking[0]!r} (columns: {', '.join(list(table.columns)[:20])})")
    return gathered(table, columns), columns


def _numbers(cells: Sequence[object]) -> bool:
    some = [cell for cell in cells if not is_missing(cell)]
    return bool(some) and all(_is_number(c) for c in some[:10_000])


def _is_number(cell: object) -> bool:
    return isinstance(cell, (int, float)) or is_number(as_text(cell))


def _of_numbers_alone(table: Table, names: Sequence[str]) -> None:
    """Refuse a column in which a few cells are no numbers: as a channel it would be lost without a word."""
    for name in names:
        cells = table.columns[name]
        some = [i for i, cell in enumerate(cells) if not is_missing(cell)][:10_000]
        odd = [i for i in some if not _is_number(cells[i])]
        if odd and len(odd) <= 0.1 * len(some):
            raise UserError(
                f"{table.source}: column {name!r} holds {as_text(cells[odd[0]])!r} in line {table.lines[odd[0]]} and "
                f"numbers in most others; mend it or leave the cell empty, or name the channels with --label"
            )


def _counts(cells: Sequence[object]) -> bool:
    """Whether these are whole numbers, each one more than the last: the number of the step."""
    found = to_numbers(cells[:1000], "step") if cells and not is_blank(cells[0]) else []
    known = [n for n in found if n is not None]
    return len(known) == len(found) > 1 and all(b - a == 1 for a, b in zip(known, known[1:], strict=False))


@dataclass(frozen=True)
class Cut:
    """A window with what followed, how far along its series it lies, and the gate's reason to leave it out."""

    window: Window
    future: Values  # (channels, horizon)
    share: float
    line: int
    reason: str | None


def windows(found: Found, horizon: int) -> list[Cut]:
    """Windows whose futures follow each other without overlap, the last one ending with its series.

    The first context has as many steps as a forecast at least. Contexts hold `LONGEST` steps, and as many more as the
    horizon, by which training may move the start of a forecast back.
    """
    cuts = []
    for at, (one, reason) in enumerate(zip(found.series, found.problems, strict=True)):
        if one is None:
            cuts.append(_none(found, at, reason))
            continue
        steps = one.values.shape[1]
        first = max(horizon, LEAST)
        origins = range(steps - horizon, first - 1, -horizon)
        if not origins:
            cuts.append(_none(found, at, "short_context"))
        for origin in reversed(origins):
            context = one.values[:, max(0, origin - LONGEST - horizon) : origin]
            future = one.values[:, origin : origin + horizon]
            window = Window(context, found.names[at], origin, found.named)
            why = "short_context" if window.known() < LEAST else None if np.isfinite(future).any() else "no_future"
            line = found.table.lines[at] + (origin if len(found.table) == 1 else 0)
            cuts.append(Cut(window, future, origin / steps, line, why))
    return cuts


def _none(found: Found, at: int, reason: str) -> Cut:
    nothing = np.zeros((0, 0))
    return Cut(Window(nothing, found.names[at]), nothing, 0.0, found.table.lines[at], reason)
