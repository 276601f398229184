"""What the columns of a table hold: numbers, dates, booleans, categories, free text, pictures or sounds, told from
their cells and said with a reason."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from acclimate.data.file_cells import holds_files
from acclimate.data.labels import as_text, is_blank, number
from acclimate.data.rows import FILES
from acclimate.data.times import day_first, seconds
from acclimate.errors import UserError, plural, unknown

KINDS = ("number", "category", "boolean", "date", "text", "image", "audio", "none")  # none: the column is not read
_MARKS = frozenset(["na", "n/a", "nan", "null", "none", "?", "-", ".", "missing", "unknown"])  # beside numbers
_TRUE, _FALSE = frozenset(["true", "yes", "y", "t"]), frozenset(["false", "no", "n", "f"])
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?\Z")
_COMMA = re.compile(r"[+-]?\d+,\d+\Z")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.\d+)?)?\Z")
_MOST = 0.95  # of the cells that hold something must be of a kind
_WORDS, _VARIED = 4.0, 0.5  # mean words a cell, and the share of different cells, from which a column is free text
_LARGEST = 1e150  # of a label: sums of squares stay finite
_ID = re.compile(r"(^|[_\s])(id|idx|index|uid|uuid)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Held:
    """What one column holds."""

    name: str
    kind: str  # of KINDS
    why: str  # a sentence for the gate
    written: str = ""  # numbers: "thousands", "comma" or "clock"; dates: "day" or "month", whichever stands first

    @property
    def text(self) -> str:
        """Kind and way of writing as one word, "number:comma"; `Held.of` reads it."""
        return f"{self.kind}:{self.written}" if self.written else self.kind

    @staticmethod
    def of(name: str, text: str) -> Held:
        """The inverse of `text`."""
        kind, _, written = text.partition(":")
        return Held(name, kind, "", written)


@dataclass(frozen=True)
class Lost:
    """A file among the cells of a row that cannot be read."""

    column: str
    reason: str  # of the gate
    name: str  # what the cell held


class Row(tuple[object, ...]):
    """The cells of one row, which also knows what its columns hold; to all else it is a tuple.

    A cell of pictures or sounds is the Path of a file, or what Python holds of one.
    """

    columns: tuple[Held, ...]
    lost: tuple[Lost, ...]  # files that cannot be read, whose cells are None

    def __new__(cls, cells: Sequence[object], columns: tuple[Held, ...] = ()) -> Row:
        """Cells in the order of the columns."""
        row = super().__new__(cls, cells)
        row.columns, row.lost = columns, ()
        return row


def rows_of(
    cells: Sequence[Sequence[object]], names: Sequence[str], asked: Mapping[str, str] | None = None
) -> list[Row]:
    """Rows whose columns are told from all of them; `asked` says for some columns, by name, what they hold."""
    columns = tuple(held(cells, names, asked))
    return [Row(row, columns) for row in cells]


def columns_of(rows: Sequence[Sequence[object]]) -> tuple[Held, ...]:
    """What the columns of these rows hold: as the rows know it, else as their cells say, under numbers for names."""
    if not rows:
        raise UserError("a table without a row says nothing about its columns")
    first = rows[0]
    if isinstance(first, Row) and first.columns:
        return first.columns
    return tuple(held(rows, [f"column {j + 1}" for j in range(len(first))]))


def held(
    rows: Sequence[Sequence[object]],
    names: Sequence[str],
    asked: Mapping[str, str] | None = None,
    *,
    private: bool = False,
) -> list[Held]:
    """What every column holds, in order; `asked` says so for some of them by name. `private`: no reason quotes a cell.

    >>> rows = [("1.5", "a", "2020-01-31"), ("?", "b", "2020-02-01"), ("2", "a", None)]
    >>> [(c.name, c.kind) for c in held(rows, ("x", "y", "z"))]
    [('x', 'number'), ('y', 'category'), ('z', 'date')]
    """
    asked = asked or {}
    for name, kind in asked.items():
        if name not in names:
            raise unknown("column", name, names)
        if kind not in KINDS:
            raise unknown(f"kind of column {name!r}", kind, KINDS)
    odd = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if odd is not None:
        raise UserError(
            f"row {odd + 1} has {plural(len(rows[odd]), 'cell')}, and there are {plural(len(names), 'column')}"
        )
    return [_held(name, [row[j] for row in rows], asked.get(name), private) for j, name in enumerate(names)]


def _held(name: str, cells: Sequence[object], asked: str | None, private: bool) -> Held:
    here = [c for c in cells if not is_blank(c)]
    if asked == "none":
        return Held(name, "none", "left out, as asked")
    if not here:
        return Held(name, "none", "left out: no row holds anything")
    if asked in ("category", "text", *FILES):
        return Held(name, asked, f"read as {asked}, as asked")
    for kind in FILES:
        if asked is None and holds_files(kind, here):
            return Held(name, kind, f"{kind} files, by their endings")
    if asked is None and len(here) > 1 and len({as_text(c).strip() for c in here}) == 1:
        value = "the same" if private else repr(as_text(here[0]).strip())
        if len(here) == len(cells):
            return Held(name, "none", f"left out: every row holds {value}")
        return Held(name, "category", f"{value} in {plural(len(here), 'row')} and nothing in the others")
    told = _boolean(name, here) or _number(name, here, asked, private) or _date(name, here) or _named(name, here)
    if asked is None or told.kind == asked:
        return told
    such = "" if private else f" (such as {as_text(here[0])!r})"
    raise UserError(
        f"column {name!r} was to be read as {asked}, and most of its cells are none{such}; it looks like {told.kind}: "
        f"correct them, or say --column-kind {name}={told.kind}"
    )


def _boolean(name: str, here: Sequence[object]) -> Held | None:
    texts = {as_text(c).strip().casefold() for c in here}
    if len(texts) == 2 and any(texts <= {yes, no} for yes in _TRUE for no in _FALSE):
        return Held(name, "boolean", f"boolean: {' and '.join(sorted(texts))}")
    return None


def _number(name: str, here: Sequence[object], asked: str | None, private: bool) -> Held | None:
    written = how_written(here)
    values = [to_number(c, written) for c in here]
    odd = Counter(as_text(c).strip() for c, v in zip(here, values, strict=True) if v is None)
    rest = len(here) - sum(n for text, n in odd.items() if text.casefold() in _MARKS)
    good = sum(v is not None for v in values)
    if not good or good < _MOST * rest:
        return None
    if len(here) > 2 and _ID.search(name) and not odd and len(set(values)) == len(here) and asked is None:
        return Held(name, "none", "left out: by its name and its different values it numbers the rows")
    why = "numbers"
    if written:
        why += f" {_WRITTEN[written]}"
    if odd:
        some = "" if private else f" ({', '.join(repr(text) for text, _ in odd.most_common(3))})"
        lost = sum(odd.values())
        why += (
            f"; 1 cell that is none{some} counts as missing"
            if lost == 1
            else (f"; {lost:,} cells that are none{some} count as missing")
        )
    whole = all(v is not None and v.is_integer() for v in values if v is not None)
    if whole and 2 < len(set(values)) <= 10 and len(here) > 50:
        why += f"; {len(set(values) - {None})} whole numbers: --column-kind {name}=category if they are codes"
    return Held(name, "number", why, written)


_WRITTEN = {
    "thousands": "with commas as a sign of thousands",
    "comma": "with commas as the decimal sign",
    "clock": "of minutes since midnight, from times of day",
}


def how_written(cells: Sequence[object]) -> str:
    """ "thousands" for 1,234,567; "comma" for 0,5; "clock" for 12:07; "" for what Python reads."""
    times = [as_text(c).strip() for c in cells if isinstance(c, (str, datetime.time)) and ":" in as_text(c)]
    if times and sum(bool(_CLOCK.match(t)) for t in times) >= _MOST * len(times):
        return "clock"
    texts = [c.strip() for c in cells if isinstance(c, str) and "," in c]
    if texts and sum(bool(_THOUSANDS.match(t)) for t in texts) >= _MOST * len(texts):
        return "thousands"
    if texts and sum(bool(_COMMA.match(t)) for t in texts) >= _MOST * len(texts):
        return "comma"
    return ""


def to_number(cell: object, written: str = "") -> float | None:
    """A finite number, or None.

    >>> to_number("1,234.5", "thousands"), to_number("0,5", "comma"), to_number("?"), to_number(True)
    (1234.5, 0.5, None, 1.0)
    >>> to_number("12:07", "clock"), to_number("0:00:30", "clock")
    (727.0, 0.5)
    """
    if written == "clock":
        fits = _CLOCK.match(as_text(cell).strip())
        return 60.0 * int(fits[1]) + int(fits[2]) + int(fits[3] or 0) / 60 if fits else None
    if isinstance(cell, str) and written and "," in cell:
        bare = cell.strip()
        fits = _THOUSANDS.match(bare) if written == "thousands" else _COMMA.match(bare)
        cell = bare.replace(",", "" if written == "thousands" else ".") if fits else cell
    return None if is_blank(cell) else number(cell)


def label_numbers(cells: Sequence[object], name: str, *, private: bool = False) -> tuple[list[float | str | None], str]:
    """Labels that are numbers: None where a cell is blank, its text where it is no number; and how they are written.

    >>> label_numbers(["3,5", "4", None, "?"], "grade")
    ([3.5, 4.0, None, '?'], "the numbers in 'grade' are read with commas as the decimal sign")
    """
    here = [cell for cell in cells if not is_blank(cell)]
    written = how_written(here)
    texts = [c.strip() for c in here if isinstance(c, str) and "," in c]
    if texts and all(_THOUSANDS.match(t) and _COMMA.match(t) for t in texts):
        such = "" if private else f" (such as {texts[0]!r})"
        raise UserError(
            f"label column {name!r}: the commas{such} can be decimal signs or signs of thousands; write 3.125 or 3125"
        )
    found: list[float | str | None] = []
    for cell in cells:
        value = to_number(cell, written)
        found.append(None if is_blank(cell) else as_text(cell) if value is None else value)
        if value is not None and abs(value) > _LARGEST:
            such = "a number" if private else f"{value:g}"
            raise UserError(
                f"label column {name!r} holds {such}, whose square is beyond what can be computed with (numbers up to "
                f"{_LARGEST:g} can); correct it, or divide the labels by a constant"
            )
    return found, f"the numbers in {name!r} are read {_WRITTEN[written].removeprefix('of ')}" if written else ""


def to_boolean(cell: object) -> float | None:
    """1 for true and yes, 0 for false and no, else None."""
    text = "" if is_blank(cell) else as_text(cell).strip().casefold()
    return 1.0 if text in _TRUE else 0.0 if text in _FALSE else None


def to_category(cell: object) -> str | None:
    """A value as text, so that 1, 1.0 and "1" are one."""
    return None if is_blank(cell) else as_text(cell).strip()


def _date(name: str, here: Sequence[object]) -> Held | None:
    """Dates by what most cells are; which of 03/04 is the month is settled by the whole column."""
    if any(isinstance(c, (bool, int, float)) for c in here):
        return None
    if sum(seconds(c, True) is not None or seconds(c, False) is not None for c in here) < _MOST * len(here):
        return None
    try:
        first = day_first([c for c in here if isinstance(c, str)], name)
    except UserError as error:
        raise UserError(f"{error}; or leave the column out") from error
    return Held(name, "date", "dates: read as year, month, day of the week and time", "day" if first else "month")


def _named(name: str, here: Sequence[object]) -> Held:
    texts = [as_text(c).strip() for c in here]
    different, words = len(set(texts)) / len(texts), sum(len(t.split()) for t in texts) / len(texts)
    if len(texts) > 20 and different > _VARIED and words >= _WORDS:
        return Held(name, "text", f"free text, {words:.0f} words in a cell on average")
    if len(texts) > 20 and different == 1:
        return Held(name, "none", "left out: every row has another value, so that none can be learned from")
    return Held(name, "category", f"{plural(len(set(texts)), 'different value')}")
