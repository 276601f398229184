"""A column of dates or numbers to floats that can be compared."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

from acclimate.data.labels import is_blank, number
from acclimate.errors import UserError

_PLAIN = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2}))?)?\Z")
_SLASHED = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})(.*)\Z")


def to_numbers(cells: Sequence[object], name: str) -> list[float | None]:
    """Seconds since 1970 (UTC where no zone is given) for dates, the number itself for numbers, None where neither.

    >>> to_numbers(["1970-01-02", "1970-01-01T00:00:10", "", "soon"], "when")
    [86400.0, 10.0, None, None]
    >>> to_numbers(["31.01.1970", "01.02.1970"], "when")
    [2592000.0, 2678400.0]
    """
    day = day_first([c for c in cells if isinstance(c, str)], name)
    return [seconds(cell, day) for cell in cells]


def day_first(texts: Sequence[str], name: str) -> bool:
    """Whether 03/04/2020 is in April; refused where no row of the column decides."""
    found = [m for m in (_PLAIN.match(t.strip()) for t in texts) if m]
    if not found:
        return True
    day = any(int(m[1]) > 12 for m in found)
    month = any(int(m[3]) > 12 for m in found)
    if day and month:
        raise UserError(f"column {name!r} mixes day-first and month-first dates; write dates as YYYY-MM-DD")
    if not day and not month and any(m[2] != "." for m in found) and any(m[1] != m[3] for m in found):
        raise UserError(f"the dates in column {name!r} can be read day-first or month-first; write dates as YYYY-MM-DD")
    return not month


def seconds(cell: object, day_first: bool) -> float | None:
    """Of one cell: see `to_numbers`."""
    if is_blank(cell) or isinstance(cell, bool):
        return None
    if isinstance(cell, datetime.datetime):
        return _stamp(cell)
    if isinstance(cell, datetime.date):
        return _stamp(datetime.datetime(cell.year, cell.month, cell.day))
    value = number(cell)
    if value is not None:
        return value
    return _parse(str(cell).strip(), day_first)


def _parse(text: str, day_first: bool) -> float | None:
    dotted = _PLAIN.match(text)
    try:
        if dotted:
            one, two, year = int(dotted[1]), int(dotted[3]), int(dotted[4])
            day, month = (one, two) if day_first else (two, one)
            return _stamp(
                datetime.datetime(year, month, day, int(dotted[5] or 0), int(dotted[6] or 0), int(dotted[7] or 0))
            )
        slashed = _SLASHED.match(text)
        if slashed:
            text = f"{slashed[1]}-{int(slashed[2]):02d}-{int(slashed[3]):02d}{slashed[4]}"
        if re.fullmatch(r"\d{4}-\d{2}", text):
            text += "-01"
        return _stamp(datetime.datetime.fromisoformat(text))
    except ValueError:
        return None


def _stamp(moment: datetime.datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
