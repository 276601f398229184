"""Rows of a table as numbers: everything that is learned for it comes from the rows that it was fitted on, and is
plain JSON."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acclimate.data.column_types import Held, columns_of, to_boolean, to_category, to_number
from acclimate.data.labels import is_blank
from acclimate.data.rows import FILES
from acclimate.data.times import seconds
from acclimate.errors import UserError

Floats32: TypeAlias = NDArray[np.float32]
MOST_VALUES = 50  # of one category, the most frequent ones; the others count as rare
READ = ("text", *FILES)  # kinds of columns whose cells a network of their own reads
_PARTS = ("year", "month", "weekday", "days")  # of a date; days since 1970, with the time of day as their fraction


@dataclass(frozen=True)
class Numeric:
    """How one number is written: (x − centre)/spread, and as if it were `fill` where it is missing."""

    fill: float
    centre: float
    spread: float
    missing: bool = False  # whether a further column says what was missing


@dataclass(frozen=True)
class Coded:
    """What was learned of one column."""

    held: Held
    numbers: tuple[Numeric, ...] = ()  # one for a number, four for a date
    values: tuple[str, ...] = ()  # of a category, in the order of their columns
    rare: bool = False  # whether rare values were there to learn from; they and unseen ones then have a column
    missing: bool = False  # the same of missing cells of a category, a text, a picture or a sound


@dataclass(frozen=True)
class Coding:
    """A table's columns as numbers, in two forms.

    `dense`: nothing is missing, all on one scale. Of numbers the median is taken off, and the distance between the
    quartiles is 1 (or the deviation, where these are equal), so that one far value does not press the others together;
    what is missing is the median, and where any was missing among the fitted rows a column says so. Categories have one
    column a value, rare ones one together.
    `plain`: numbers as they are, NaN where they are missing; categories as above. For trees.

    A value of a category that was not seen has zeros in all its columns, or 1 in that of the rare ones where there is
    one. Of free text, pictures and sounds nothing is in `plain`, and in `dense` whether they are missing: networks read
    them.
    """

    columns: tuple[Coded, ...]

    @staticmethod
    def of(rows: Sequence[Sequence[object]]) -> Coding:
        """Learn from these rows, which should be training rows alone.

        >>> from acclimate.data.column_types import rows_of
        >>> coding = Coding.of(rows_of([(1.0, "a"), (None, "b"), (3.0, "a"), (5.0, "b")], ("x", "y")))
        >>> coding.names("dense"), coding.dense([(7.0, "a"), (None, "new")]).tolist()
        (('x', 'x is missing', 'y = a', 'y = b'), [[2.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
        """
        found = [replace(column, why="") for column in columns_of(rows)]  # reasons are for the gate
        if all(column.kind == "none" for column in found):
            raise UserError(
                f"no column of the table is left to learn from ({', '.join(repr(c.name) for c in found[:5])})"
            )
        coded = [_coded(column, [row[j] for row in rows]) for j, column in enumerate(found)]
        return Coding(tuple(coded))

    @property
    def held(self) -> tuple[Held, ...]:
        """What the columns hold."""
        return tuple(column.held for column in self.columns)

    def places(self, kind: str) -> tuple[int, ...]:
        """The places of the columns that hold this: "text", for example."""
        return tuple(j for j, column in enumerate(self.columns) if column.held.kind == kind)

    def dense(self, rows: Sequence[Sequence[object]]) -> Floats32:
        """Every row as numbers on one scale, (n, d)."""
        return self._stacked(rows, plain=False)

    def plain(self, rows: Sequence[Sequence[object]]) -> Floats32:
        """Every row as numbers as they are, NaN where they are missing, (n, p)."""
        return self._stacked(rows, plain=True)

    def names(self, form: str) -> tuple[str, ...]:
        """What each number is, in the form "dense" or "plain"."""
        return tuple(name for column in self.columns for name in _names(column, plain=form == "plain"))

    def _stacked(self, rows: Sequence[Sequence[object]], plain: bool) -> Floats32:
        wide = len(self.columns)
        odd = next((i for i, row in enumerate(rows) if isinstance(row, str) or len(row) != wide), None)
        if odd is not None:
            raise UserError(f"row {odd + 1} is no tuple of {wide} cells, one for each column that was learned from")
        parts = [_written(c, [row[j] for row in rows], plain) for j, c in enumerate(self.columns)]
        most = float(np.finfo(np.float32).max) ** 0.5  # beyond it squares, which every fit takes, are infinite
        return np.clip(np.concatenate(parts, axis=1), -most, most).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Coding:
        """The inverse of `to_json`."""
        columns = []
        for column in values["columns"]:
            numbers = tuple(Numeric(**number) for number in column["numbers"])
            columns.append(
                Coded(Held(**column["held"]), numbers, tuple(column["values"]), column["rare"], column["missing"])
            )
        return Coding(tuple(columns))


def _coded(column: Held, cells: Sequence[object]) -> Coded:
    if column.kind == "none":
        return Coded(column)
    if column.kind in READ:
        return Coded(column, missing=any(is_blank(c) for c in cells))
    if column.kind != "category":
        return Coded(column, tuple(_numeric(part, column.kind) for part in _numbers(column, cells).T))
    texts = [to_category(c) for c in cells]
    counts = Counter(t for t in texts if t is not None)
    few = max(2, round(0.005 * len(cells)))
    kept = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES]
    values = tuple(sorted(value for value, n in kept if n >= few)) or tuple(sorted(value for value, _ in kept))
    return Coded(column, (), values, len(values) < len(counts), None in texts)


def _numbers(column: Held, cells: Sequence[object]) -> NDArray[np.float64]:
    """The numbers of a column, NaN where there are none, (n, 1), or (n, 4) of dates."""
    if column.kind == "date":
        moments = [seconds(c, column.written == "day") if isinstance(c, str) else None for c in cells]
        return np.array([_date(m) for m in moments], float).reshape(-1, len(_PARTS))
    read = [to_boolean(c) if column.kind == "boolean" else to_number(c, column.written) for c in cells]
    return np.array([np.nan if v is None else v for v in read], float)[:, None]


def _date(moment: float | None) -> tuple[float, ...]:
    if moment is None:
        return (np.nan,) * len(_PARTS)
    then = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=moment)  # also before 1970, on every system
    return then.year, then.month, then.isoweekday(), moment / 86400


def _numeric(values: NDArray[np.float64], kind: str) -> Numeric:
    here = values[np.isfinite(values)]
    missing = len(here) < len(values)
    if kind == "boolean":  # 0 and 1, and between them what is missing
        return Numeric(0.5, 0.0, 1.0, missing)
    if not len(here):  # as the whole table holds numbers, and these rows none
        return Numeric(0.0, 0.0, 1.0, missing)
    low, middle, high = map(float, np.quantile(here, [0.25, 0.5, 0.75]))
    spread = high - low or float(here.std())
    steady = not spread > 1e-12 * max(abs(middle), 1e-300)
    return Numeric(middle, middle, 1.0 if steady else spread, missing)


def _written(column: Coded, cells: Sequence[object], plain: bool) -> NDArray[np.float64]:
    """The numbers of one column's cells, (n, k); k may be 0."""
    if column.held.kind == "none" or (column.held.kind in READ and (plain or not column.missing)):
        return np.zeros((len(cells), 0))
    if column.held.kind in READ:
        return np.array([float(is_blank(c)) for c in cells])[:, None]
    if column.held.kind == "category":
        return _one_hot(column, cells)
    values = _numbers(column.held, cells)
    if plain:
        return values
    parts = [
        (np.where(np.isnan(part), number.fill, part) - number.centre) / number.spread
        for number, part in zip(column.numbers, values.T, strict=True)
    ]
    if column.numbers[0].missing:
        parts.append(np.isnan(values[:, 0]).astype(float))
    return np.stack(parts, axis=1)


def _one_hot(column: Coded, cells: Sequence[object]) -> NDArray[np.float64]:
    places = {value: at for at, value in enumerate(column.values)}
    width, rare = len(column.values), len(column.values) if column.rare else None
    missing = width + column.rare if column.missing else None
    out = np.zeros((len(cells), width + column.rare + column.missing))
    for i, cell in enumerate(cells):
        text = to_category(cell)
        at = missing if text is None else places.get(text, rare)
        if at is not None:
            out[i, at] = 1.0
    return out


def _names(column: Coded, plain: bool) -> list[str]:
    name = column.held.name
    if column.held.kind in ("none", *READ):
        return [f"{name} is missing"] if column.missing and not plain else []
    if column.held.kind == "category":
        ends = [*(f"{name} = {v}" for v in column.values), *([f"{name}: rare or unseen"] if column.rare else [])]
        return ends + ([f"{name} is missing"] if column.missing else [])
    found = [f"{name}: {part}" for part in _PARTS] if column.held.kind == "date" else [name]
    return found + ([f"{name} is missing"] if column.numbers[0].missing and not plain else [])
