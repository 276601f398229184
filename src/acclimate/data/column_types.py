"""What the columns of a table hold: numbers, dates, booleans, categories or free text, told from their cells and said
with a reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from acclimate.data.labels import as_text, is_blank, number
from acclimate.data.times import day_first, seconds
from acclimate.errors import UserError, unknown

KINDS = ("number", "category", "boolean", "date", "text", "none")  # none: the column is not read
_MARKS = frozenset(["na", "n/a", "nan", "null", "none", "?", "-", ".", "missing", "unknown"])  # beside numbers
_TRUE, _FALSE = frozenset(["true", "yes", "y", "t"]), frozenset(["false", "no", "n", "f"])
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?\Z")
_COMMA = re.compile(r"[+-]?\d+,\d+\Z")
_MOST = 0.95  # of the cells that hold something must be of a kind
_WORDS, _VARIED = 4.0, 0.5  # mean words a cell, and the share of different cells, from which a column is free text
_ID = re.compile(r"(^|[_\s])(id|idx|index|uid|uuid)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Held:
    """What one column holds."""

    name: str
    kind: str  # of KINDS
    why: str  # a sentence for the gate
    written: str = ""  # numbers: "thousands" or "comma"; dates: "day" or "month", whichever stands first

    @property
    def text(self) -> str:
        """Kind and way of writing as one word, "number:comma"; `Held.of` reads it."""
        return f"{self.kind}:{self.written}" if self.written else self.kind

    @staticmethod
    def of(name: str, text: str) -> Held:
        """The inverse of `text`."""
        kind, _, written = text.partition(":")
        return Held(name, kind, "", written)


class Row(tuple[object, ...]):
    """The cells of one row, which also knows what its columns hold; to all else it is a tuple."""

    columns: tuple[Held, ...]

    def __new__(cls, cells: Sequence[object], columns: tuple[Held, ...] = ()) -> Row:
        """Cells in the order of the columns."""
        row = super().__new__(cls, cells)
        row.columns = columns
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


def held(rows: Sequence[Sequence[object]], names: Sequence[str], asked: Mapping[str, str] | None = None) -> list[Held]:
    """What every column holds, in order; `asked` says so for some of them by name.

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
        raise UserError(f"row {odd + 1} has {len(rows[odd])} cells, and there are {len(names)} columns")
    return [_held(name, [row[j] for row in rows], asked.get(name)) for j, name in enumerate(names)]


def _held(name: str, cells: Sequence[object], asked: str | None) -> Held:
    here = [c for c in cells if not is_blank(c)]
    if asked == "none":
        return Held(name, "none", "left out, as asked")
    if not here:
        return Held(name, "none", "left out: no row holds anything")
    if asked in ("category", "text"):
        return Held(name, asked, f"read as {asked}, as asked")
    if asked is None and len(here) > 1 and len({as_text(c).strip() for c in here}) == 1:
        value = as_text(here[0]).strip()
        if len(here) == len(cells):
            return Held(name, "none", f"left out: every row holds {value!r}")
        return Held(name, "category", f"{value!r} in {len(here)} rows and nothing in the others")
    told = _boolean(name, here) or _number(name, here, asked) or _date(name, here) or _named(name, here)
    if asked is None or told.kind == asked:
        return told
    raise UserError(
        f"column {name!r} was to be read as {asked}, and most of its cells are none (such as {as_text(here[0])!r}); "
        f"it looks like {told.kind}"
    )


def _boolean(name: str, here: Sequence[object]) -> Held | None:
    texts = {as_text(c).strip().casefold() for c in here}
    if len(texts) == 2 and any(texts <= {yes, no} for yes in _TRUE for no in _FALSE):
        return Held(name, "boolean", f"boolean: {' and '.join(sorted(texts))}")
    return None


def _number(name: str, here: Sequence[object], asked: str | None) -> Held | None:
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
        why += f" with commas as {'a sign of thousands' if written == 'thousands' else 'the decimal sign'}"
    if odd:
        some = ", ".join(repr(text) for text, _ in odd.most_common(3))
        why += f"; {sum(odd.values())} cells that are none ({some}) count as missing"
    whole = all(v is not None and v.is_integer() for v in values if v is not None)
    if whole and 2 < len(set(values)) <= 10 and len(here) > 50:
        why += f"; {len(set(values) - {None})} whole numbers: --column-kind {name}=category if they are codes"
    return Held(name, "number", why, written)


def how_written(cells: Sequence[object]) -> str:
    """ "thousands" for 1,234,567; "comma" for 0,5; "" for what Python reads."""
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
    """
    if isinstance(cell, str) and written and "," in cell:
        bare = cell.strip()
        fits = _THOUSANDS.match(bare) if written == "thousands" else _COMMA.match(bare)
        cell = bare.replace(",", "" if written == "thousands" else ".") if fits else cell
    return None if is_blank(cell) else number(cell)


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
    return Held(name, "category", f"{len(set(texts))} different values")
