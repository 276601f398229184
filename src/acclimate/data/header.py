"""Whether the first record names the columns, and what the columns are called."""

from __future__ import annotations

import re
from collections import Counter

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*\Z")
_SAMPLE = 5_000
# A first record that holds one of these is a header, whatever stands below.
KNOWN = frozenset(
    [
        "text",
        "texts",
        "sentence",
        "sentence1",
        "sentence2",
        "review",
        "reviews",
        "comment",
        "comments",
        "content",
        "message",
        "document",
        "doc",
        "tweet",
        "title",
        "body",
        "abstract",
        "question",
        "answer",
        "premise",
        "hypothesis",
        "description",
        "headline",
        "query",
        "passage",
        "input",
        "smiles",
        "label",
        "labels",
        "target",
        "class",
        "category",
        "sentiment",
        "rating",
        "score",
        "stars",
        "polarity",
        "intent",
        "topic",
        "y",
        "id",
        "idx",
        "index",
        "uid",
        "name",
        "date",
        "time",
        "timestamp",
        "year",
        "age",
        "sex",
        "gender",
        "split",
        "group",
        "weight",
        "user",
        "author",
        "source",
        "lang",
        "language",
        "patient",
        "customer",
        "student",
    ]
)
_ORANGE = frozenset(
    ["c", "d", "s", "t", "m", "continuous", "discrete", "string", "time", "class", "meta", "ignore", "i"]
)


def has_header(rows: list[list[str]]) -> bool:
    """True unless there is strong evidence that the first record is data: a lost name costs less than a lost header.

    Evidence is a number above numbers, a value that comes back often in its own short-valued column, or, in a file
    with one
    column, a whole sentence.

    >>> has_header([["text", "label"], ["good", "1"], ["bad", "0"]])
    True
    >>> has_header([["Crust is not good.", "0"], ["Loved it.", "1"], ["Fine.", "1"]])
    False
    """
    first = [cell.strip() for cell in rows[0]]
    body = [row for row in rows[1 : _SAMPLE + 1] if len(row) == len(first)]
    if {cell.casefold() for cell in first} & KNOWN:
        return True
    if len(first) == 1:
        return not _is_sentence(first[0]) and not (
            body and is_number(first[0]) and all(is_number(row[0]) for row in body)
        )
    if not body or _counts_up(first):
        return True
    return not any(_is_data(first[j], [row[j] for row in body]) for j in range(len(first)))


def _is_data(cell: str, below: list[str]) -> bool:
    values = [v.strip() for v in below if v.strip()]
    if not cell or not values:
        return False
    if is_number(cell):
        return sum(is_number(v) for v in values) >= 0.95 * len(values)
    counts = Counter(values)
    few = len(counts) <= max(2, min(50, len(values) // 5))
    return few and counts[cell] >= max(2, 0.02 * len(values)) and len(values) >= 4


def _counts_up(first: list[str]) -> bool:
    """Names such as 0, 1, 2 (a frame saved without names) or 2019, 2020 (one column a year)."""
    numbers = [int(cell) for cell in first if re.fullmatch(r"\d{1,4}", cell)]
    if len(numbers) < 2 or any(is_number(c) and not re.fullmatch(r"\d{1,4}", c) for c in first):
        return False
    steps = {b - a for a, b in zip(numbers, numbers[1:], strict=False)}
    return steps == {1} and (
        numbers[0] in (0, 1) and len(numbers) + (not first[0]) == len(first) or 1900 <= numbers[0] <= 2100
    )


def is_number(text: str) -> bool:
    """A number as spreadsheets write it."""
    return _NUMBER.match(text) is not None


def _is_sentence(text: str) -> bool:
    return len(text) > 40 or (len(text.split()) > 3 and text[-1:] in ".!?\"'") or any(c in text for c in "。！？")


def names_of(header: list[str]) -> tuple[list[str], list[str]]:
    """Unique names, and sentences on what was changed: blank names are numbered, repeated ones get a suffix."""
    out: list[str] = []
    notes: list[str] = []
    taken = {cell.strip() for cell in header}
    used: set[str] = set()
    for at, cell in enumerate(header, 1):
        name = cell.strip()
        if not name:
            name = _free(f"column_{at}", taken | used)
            notes.append(f"column {at} has no name; called {name!r}")
        elif name in used:
            name = _free(name, taken | used)
            notes.append(f"the name {cell.strip()!r} occurs twice; column {at} is called {name!r}")
        out.append(name)
        used.add(name)
    return out, notes


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(f"{name}_{i}" for i in range(2, len(taken) + 3) if f"{name}_{i}" not in taken)


def invented(rows: list[list[str]], width: int) -> list[str]:
    """Names for a file without header: `text` for the one column of prose, `label` for the other of two, else
    column_1 ..."""
    sample = [row for row in rows[:_SAMPLE] if len(row) == width]
    prose = [j for j in range(width) if _is_prose([row[j] for row in sample])]
    names = [f"column_{j + 1}" for j in range(width)]
    if width == 1:
        return ["text"]
    if len(prose) == 1:
        names[prose[0]] = "text"
        if width == 2:
            names[1 - prose[0]] = "label"
    return names


def _is_prose(cells: list[str]) -> bool:
    values = [c for c in cells if c.strip()]
    if not values or sum(is_number(v) for v in values) > 0.5 * len(values):
        return False
    spaced = sum(1 for v in values if " " in v.strip() or any("\u3040" <= c <= "\ud7a3" for c in v))
    return spaced >= 0.5 * len(values) and len(set(values)) > 0.3 * len(values)


def orange_note(rows: list[list[str]]) -> str | None:
    """A word on Orange's .tab files, whose second and third line give types and roles."""
    if len(rows) < 4 or len(rows[1]) < 2:
        return None
    types, roles = ([cell.strip() for cell in row] for row in rows[1:3])
    if any(types) and all(t in _ORANGE or not t for t in types) and all(r in _ORANGE or not r for r in roles):
        return (
            "lines 2 and 3 look like the type and role rows of an Orange file; they are read as rows: delete them first"
        )
    return None
