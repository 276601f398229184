"""How a delimited text file is written: line ends, delimiter, quoting. Every physical line ends up in exactly one
record."""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from acclimate.data.header import KNOWN

DELIMITERS = (",", ";", "\t", "|")
_LONE_RETURN = re.compile(r"\r(?!\r*\n)")
_SAMPLE_LINES = 2_000
Record = tuple[int, int, list[str]]  # first line, one past the last line, fields
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclass(frozen=True)
class Dialect:
    """One reading of quotes. `quotes=False` takes every character as it stands."""

    delimiter: str | None  # None: the file has one column
    quotes: bool = True
    escape: bool = False  # \" inside quotes instead of ""
    skip_space: bool = False  # a, "b"

    def rows(self, lines: list[str], first: int = 0, *, strict: bool = False) -> Iterator[Record]:
        """(first line, one past the last line, fields) of each record from line `first` on, 0-based; blank lines:
        no fields."""
        if not self.quotes or (self.delimiter is None and not any('"' in line for line in lines)):
            for at in range(first, len(lines)):
                body = lines[at].rstrip("\r\n")
                yield at, at + 1, ([] if not body else [body] if self.delimiter is None else body.split(self.delimiter))
            return
        reader = csv.reader(
            itertools.islice(lines, first, None),
            delimiter=self.delimiter or "\x1f",  # a character that no text uses: one column
            quotechar='"',
            doublequote=not self.escape,
            escapechar="\\" if self.escape else None,
            skipinitialspace=self.skip_space,
            strict=strict,
        )
        start = first
        for fields in reader:
            yield start, first + reader.line_num, fields
            start = first + reader.line_num


@dataclass(frozen=True)
class _Shape:
    """What a usual record looks like: how many fields, which columns hold few values (labels, ratings), with those
    values, and which hold numbers."""

    width: int
    codes: dict[int, set[str]]
    numbers: frozenset[int]

    def is_row(self, line: str, delimiter: str | None) -> bool:
        """Whether one physical line, taken as it stands, reads like a whole record."""
        cells = line.rstrip("\r\n").split(delimiter)
        return (
            len(cells) == self.width
            and all(cells[j] in seen for j, seen in self.codes.items())
            and all(_is_number(cells[j]) for j in self.numbers)
        )

    def swallowed(self, record: Record, lines: list[str], delimiter: str | None) -> bool:
        """Whether a record over several lines is several records: an opening quote ate the line ends between them."""
        start, end, fields = record
        if end - start < 2 or delimiter is None or self.width < 2:
            return False
        if len(fields) != self.width and (end - start > 20 or self.is_row(lines[start], delimiter)):
            return True
        open_end = end == len(lines) and len(fields) != self.width
        whole = sum(self.is_row(line, delimiter) for line in lines[start:end])
        return bool(self.codes or self.numbers or open_end) and whole >= 0.8 * (end - start)


@dataclass(frozen=True)
class Records:
    """The records of a file, header included, and what was noticed while cutting it up."""

    rows: list[list[str]]
    lines: list[int]  # 1-based line of the file where each record starts
    dialect: Dialect
    facts: dict[str, object]
    notes: tuple[str, ...]


def cut(text: str, suffix: str, delimiter: str | None = None) -> Records:
    """Records of a delimited text. Delimiter and quoting are those under which most lines belong to well-formed
    records."""
    raise_field_limit()
    notes: list[str] = []
    lines, newline, hidden = physical_lines(text)
    if hidden:
        notes.append("carriage returns inside the text are kept as characters; lines end with a line feed")
    first = 0
    told = re.match(r"sep=(.)\r?\n?\Z", lines[0]) if lines else None
    if told:  # Excel's own first line
        first, delimiter = 1, delimiter or told[1]
    if delimiter is None:
        delimiter = find_delimiter(lines[first:], suffix)
    rows, starts, dialect, repaired = _read(lines[first:], delimiter or None)
    if hidden:
        rows = [[field.replace(hidden, "\r") for field in row] for row in rows]
    blank = sum(1 for row in rows if not row)
    kept = [i for i, row in enumerate(rows) if row]
    if blank:
        notes.append(f"{blank} blank line{'s' if blank > 1 else ''} skipped")
    if not dialect.quotes and any('"' in line for line in lines):
        notes.append(
            "quotation marks do not pair up as CSV quoting, so they are read as ordinary characters, one row a line"
        )
    if repaired:
        shown = ", ".join(str(n + first + 1) for n in repaired[:5])
        notes.append(
            f"{len(repaired)} row{'s open' if len(repaired) > 1 else ' opens'} a quotation mark that is never "
            f"closed (line {shown}); read as one line each"
        )
    facts: dict[str, object] = {
        "delimiter": _NAMES.get(dialect.delimiter or "", dialect.delimiter or "none"),
        "quoting": "none" if not dialect.quotes else "backslash" if dialect.escape else "double",
        "newline": newline,
        "blank_lines": blank,
    }
    return Records([rows[i] for i in kept], [starts[i] + first + 1 for i in kept], dialect, facts, tuple(notes))


def raise_field_limit() -> None:
    """Fields may be of any length; the standard limit of 128 KiB would refuse a long document."""
    if csv.field_size_limit() < 2**31 - 1:
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


def physical_lines(text: str) -> tuple[list[str], str, str]:
    """Lines with their ends, the name of the line end, and the stand-in for carriage returns that are part of the
    text ('' if none)."""
    feeds, lone = text.count("\n"), len(_LONE_RETURN.findall(text))
    windows = text.count("\r\n")
    name = "crlf" if windows and windows >= feeds / 2 else "lf" if feeds else "cr" if lone else "none"
    if lone and lone >= feeds:  # old Macintosh files, or both kinds: each ends a line
        return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", text), "cr" if lone > feeds else name, ""
    hidden = ""
    if lone:
        hidden = next(chr(c) for c in range(0xE000, 0xF8FF) if chr(c) not in text)
        text = _LONE_RETURN.sub(hidden, text)
    lines = text.split("\n")
    last = lines.pop()
    return [line + "\n" for line in lines] + ([last] if last else []), name, hidden


def find_delimiter(lines: list[str], suffix: str) -> str:
    """The delimiter under which the most lines of the beginning form records of one width; '' for a file with one
    column."""
    sample = lines[:_SAMPLE_LINES]
    best, best_score = "", 0.0
    for candidate in DELIMITERS:
        header, mode, share = max(_regularity(sample, Dialect(candidate, quotes)) for quotes in (True, False))
        if mode < 2:
            continue
        score = share + (0.1 if header else 0) + (0.05 if candidate == "\t" and suffix in (".tsv", ".tab") else 0)
        # a .csv whose cells hold unquoted commas is still a .csv when its first line reads like names
        needed = 0.3 if header and suffix in (".csv", ".tsv", ".tab") else 0.75
        if share >= needed and (score > best_score + 1e-9):
            best, best_score = candidate, score
    return best


def _regularity(sample: list[str], dialect: Dialect) -> tuple[bool, int, float]:
    """(the first record has the usual width and reads like names, usual width, share of lines in such records)."""
    spans = [(end - start, fields) for start, end, fields in dialect.rows(sample) if fields]
    if len(spans) < 2:  # of one line only familiar names can tell where to split it
        cells = [cell.strip().casefold() for _, fields in spans for cell in fields]
        return (True, len(cells), 1.0) if len(cells) > 1 and KNOWN & set(cells) else (False, 0, 0.0)
    widths: Counter[int] = Counter()
    for height, fields in spans:
        widths[len(fields)] += 1 if height < 50 else 0
    first = spans[0][1]
    brief = len(first) > 1 and all(len(f) <= 100 and len(f.split()) <= 10 for f in first)
    named = brief and len(set(first)) == len(first)
    mode = len(first) if named and widths[len(first)] >= 0.3 * len(spans) else max(widths, key=lambda w: (widths[w], w))
    inside = sum(height for height, fields in spans if len(fields) == mode and height < 50)
    total = sum(height for height, _ in spans)
    return named and len(first) == mode, mode, inside / total


def _read(lines: list[str], delimiter: str | None) -> tuple[list[list[str]], list[int], Dialect, list[int]]:
    """Rows and their first lines under the best reading of quotes, and the lines where an open quote had to be
    undone."""
    default = Dialect(delimiter)
    strict = _try_strict(lines, default)
    if strict is not None:
        shape = _shape(strict)
        if len({len(r) for _, _, r in strict if r}) <= 1 and not any(
            shape.swallowed(r, lines, delimiter) for r in strict
        ):
            return [r for _, _, r in strict], [start for start, _, _ in strict], default, []
    candidates = [default]
    if delimiter and any(delimiter + ' "' in line for line in lines):
        candidates.append(replace(default, skip_space=True))
    if any('\\"' in line for line in lines):
        candidates.append(replace(default, escape=True))
    candidates.append(replace(default, quotes=False))
    chosen = max(candidates, key=lambda c: _score(lines, c))  # the first of equals: the default leads
    return _repair(lines, chosen)


def _try_strict(lines: list[str], dialect: Dialect) -> list[Record] | None:
    try:
        return list(dialect.rows(lines, strict=True))
    except csv.Error:
        return None


def _score(lines: list[str], dialect: Dialect) -> tuple[float, bool, bool]:
    """(share of lines in well-formed records, quoting obeys its own rules, quoting is what the cells look like)."""
    found = [record for record in dialect.rows(lines) if record[2]]
    if not found:
        return 0.0, False, False
    shape = _shape(found)
    good = sum(
        end - start
        for start, end, fields in found
        if len(fields) == shape.width and not shape.swallowed((start, end, fields), lines, dialect.delimiter)
    )
    share = good / sum(end - start for start, end, _ in found)
    if not dialect.quotes:
        wrapped, loose = _quote_census([fields for _, _, fields in found])
        # where most fields with a quote are wrapped in two, quoting is in use, however the widths come out
        return (share if wrapped <= 3 * loose else share / 2), loose >= wrapped, loose >= wrapped
    return share, _try_strict(lines, dialect) is not None, True


def _quote_census(rows: list[list[str]]) -> tuple[int, int]:
    """How many raw fields open and close a quote, if need be some delimiters later, and how many have stray quotes."""
    wrapped = loose = 0
    for row in rows:
        closing = [i for i, cell in enumerate(row) if cell.rstrip().endswith('"')]
        inside = -1
        for i, cell in enumerate(row):
            if '"' not in cell or i <= inside:
                continue
            bare = cell.strip()
            ends = [j for j in closing if j > i or (j == i and len(bare) > 1)]
            if bare.startswith('"') and ends:
                wrapped, inside = wrapped + 1, ends[0]
            else:
                loose += 1
    return wrapped, loose


def _shape(records: list[Record]) -> _Shape:
    width = Counter(len(fields) for _, _, fields in records if fields).most_common(1)[0][0]
    rows = [f for start, end, f in records if len(f) == width and end - start == 1]
    body = rows[1:]  # the first may be a header
    numbers = frozenset(j for j in range(width) if body and all(_is_number(row[j]) for row in body))
    return _Shape(width, _code_columns(rows, width), numbers)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _code_columns(rows: list[list[str]], width: int) -> dict[int, set[str]]:
    """Columns with few values (labels, ratings) and those values: the sign that a line is a row of its own."""
    out = {}
    for j in range(width):
        seen = {row[j] for row in rows}
        if rows and len(seen) <= max(2, min(50, len(rows) // 5)) and max(len(v) for v in seen) <= 40:
            out[j] = seen
    return out


def _repair(lines: list[str], dialect: Dialect) -> tuple[list[list[str]], list[int], Dialect, list[int]]:
    """The rows, where a record that swallowed others gives up its first line and reading resumes after it."""
    shape = _shape(list(dialect.rows(lines)))
    plain = replace(dialect, quotes=False)
    rows: list[list[str]] = []
    starts: list[int] = []
    undone: list[int] = []
    resume: int | None = 0
    while resume is not None:
        offset, resume = resume, None
        for start, end, fields in dialect.rows(lines, offset):
            starts.append(start)
            if dialect.quotes and shape.swallowed((start, end, fields), lines, dialect.delimiter):
                rows += [f for _, _, f in plain.rows(lines[start : start + 1])]
                undone.append(start)
                resume = start + 1
                break
            rows.append(fields)
    return rows, starts, dialect, undone
