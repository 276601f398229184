"""Words with a tag each, as people keep them: CoNLL, lists in JSONL or Parquet, spans, a word a row.

A row is a sentence: a tuple of words, or a text whose words `words_of` finds. Its tags are one a word.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acclimate.data.encoding import decode
from acclimate.data.read import read
from acclimate.data.rows import Columns, Table
from acclimate.errors import UserError

_WORD = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"\d+([-.]\d+)?")  # of a word in a treebank
_TOKENS = ("tokens", "words")
_TAGS = ("tags", "ner_tags", "pos_tags", "labels", "label")
_SPANS = ("spans", "entities", "label")
_TEXT = ("text", "sentence", "content")
_WORDS = ("word", "token")  # what the column of a table with a word a row is called
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True)
class Sentence:
    """One row as it was read: its words or text, its tags if it has some, and why it cannot be used if it cannot."""

    given: tuple[str, ...] | str | None
    tags: tuple[str, ...] | None
    line: int
    reason: str | None = None
    group: str | None = None  # of its document, where a column says so
    widened: int = 0  # spans whose ends lay inside words and were moved to the ends of those


def words_of(given: tuple[str, ...] | str) -> list[tuple[str, int, int]]:
    """The words of a row with the places where they begin and end: in the text, or in the words joined by spaces.

    >>> words_of("It's 5 km.")
    [('It', 0, 2), ("'", 2, 3), ('s', 3, 4), ('5', 5, 6), ('km', 7, 9), ('.', 9, 10)]
    >>> words_of(("New", "York"))
    [('New', 0, 3), ('York', 4, 8)]
    """
    if isinstance(given, str):
        return [(m[0], m.start(), m.end()) for m in _WORD.finditer(given)]
    found, at = [], 0
    for word in given:
        found.append((word, at, at + len(word)))
        at += len(word) + 1
    return found


def spans_of(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Entities (first word, word after the last, type) of B-, I- and O tags (S-, E- and L-, U- too); as in conlleval
    an I- that continues nothing begins an entity.

    >>> spans_of(["B-person", "I-person", "O", "I-place"]), spans_of(["B-x", "B-x"])
    ([(0, 2, 'person'), (3, 4, 'place')], [(0, 1, 'x'), (1, 2, 'x')])
    """
    found: list[tuple[int, int, str]] = []
    start, kind = 0, ""
    for i, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        goes_on = mark in ("I", "E", "L", "M") and name == kind and bool(kind)
        if kind and not goes_on:
            found.append((start, i, kind))
            kind = ""
        if not goes_on and mark in ("B", "I", "S", "U", "E", "L", "M") and name:
            start, kind = i, name
        if kind and mark in ("E", "S", "L", "U") and name == kind:
            found.append((start, i + 1, kind))
            kind = ""
    return found


def is_entities(tags: Sequence[str]) -> bool:
    """Whether these tags mark spans, rather than one class a word.

    >>> is_entities(["O", "B-person"]), is_entities(["NOUN", "VERB"])
    (True, False)
    """
    marked = [t for t in tags if t != "O"]
    return bool(marked) and all(re.match(r"[BILUESM]-.", t) for t in marked)


def sentences(source: Any, columns: Columns, *, grouped: bool = False) -> tuple[list[Sentence], Table]:
    """Every sentence of a source, and a table of them, one a row: `text`, and `tags` where there are some.

    `grouped`: where a column of groups is named it must be there, as it is for rows that are split.
    """
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if path.is_file() and path.suffix.lower() not in _TABLES:
            found, facts = _conll(path, str(source))
            return found, _table(found, str(source), facts)
    table = read(source, may_be_empty=True)
    tokens, tags, spans, text = (_column(table, columns, names) for names in (_TOKENS, _TAGS, _SPANS, _TEXT))
    if tokens is None and columns.text and not _of_words(table, columns):
        text = columns.text[0]
    if tokens is not None:
        found = _grouped([_listed(table, i, tokens, tags) for i in range(len(table))], table, columns, grouped)
        return found, _table(found, table.source, table.facts)
    if _of_words(table, columns):
        found = list(_by_word(table, columns))
        return found, _table(found, table.source, {**table.facts, "format": "a word a row"})
    word = next((n for n in table.columns if n.casefold() in _WORDS), None)
    if word is not None and not columns.text:
        raise UserError(
            f"{table.source} seems to have a word a row (column {word!r}), and nothing says which sentence each is of: "
            f"fit such a table with --id-column SENTENCE --text-column {word} --label TAG, or give it as CoNLL"
        )
    if text is None:
        raise UserError(
            f"{table.source} has neither a column of words ({', '.join(_TOKENS)}) nor one of "
            f"texts ({', '.join(_TEXT)}); name one with --text-column (its columns: {', '.join(table.columns)})"
        )
    spans = columns.labels[0] if columns.labels and columns.labels[0] in table.columns else spans
    return _grouped([_spanned(table, i, text, spans) for i in range(len(table))], table, columns, grouped), table


def _grouped(found: list[Sentence], table: Table, columns: Columns, needed: bool) -> list[Sentence]:
    """The rows with their groups, which never stand on both sides of a split."""
    if columns.group is None or (columns.group not in table.columns and not needed):
        return found
    if columns.group not in table.columns:
        raise UserError(
            f"{table.source} has no column {columns.group!r} of groups; its columns: {', '.join(table.columns)}"
        )
    cells = table.columns[columns.group]
    return [replace(one, group=str(cell)) for one, cell in zip(found, cells, strict=True)]


def _column(table: Table, columns: Columns, names: Sequence[str]) -> str | None:
    asked = {*columns.text, *columns.labels} & set(table.columns)
    lists = [n for n in asked if _listy(table.columns[n])]
    if names is _TOKENS:
        found = [n for n in columns.text if n in lists]
    elif names in (_TAGS, _SPANS):
        found = [n for n in columns.labels if n in asked]
    else:
        found = [n for n in columns.text if n in asked and n not in lists]
    usual = [n for n in names if n in table.columns]
    return next(iter(found or usual), None)


def _listy(cells: Sequence[object]) -> bool:
    some = [c for c in cells[:50] if c is not None]
    return bool(some) and all(isinstance(c, (list, tuple)) or str(c).lstrip().startswith("[") for c in some)


def _list(cell: object) -> list[Any] | None:
    """A list in a cell, as it is or as JSON."""
    if isinstance(cell, (list, tuple)):
        return list(cell)
    if hasattr(cell, "tolist"):
        return list(cell.tolist())
    if not isinstance(cell, str):
        return None
    try:
        value = json.loads(cell)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _listed(table: Table, i: int, tokens: str, tags: str | None) -> Sentence:
    line = table.lines[i]
    words = _list(table.columns[tokens][i])
    if not words or not any(str(w).strip() for w in words):
        return Sentence(None, None, line, "no_words")
    given = tuple(str(w) for w in words)
    cell = None if tags is None else table.columns[tags][i]
    if cell is None:
        return Sentence(given, None, line)
    found = _list(cell)
    if found is None or len(found) != len(given):
        return Sentence(given, None, line, "out_of_step")
    return Sentence(given, tuple(str(t) for t in found), line)


def _spanned(table: Table, i: int, text: str, spans: str | None) -> Sentence:
    line, cell = table.lines[i], table.columns[text][i]
    if cell is None or not words_of(str(cell)):
        return Sentence(None, None, line, "no_words")
    given = str(cell)
    held = None if spans is None else table.columns[spans][i]
    if held is None:
        return Sentence(given, None, line)
    found = _list(held)
    if found is None:
        return Sentence(given, None, line, "no_tags")
    words, tags, widened = words_of(given), ["O"] * len(words_of(given)), 0
    for one in found:
        start, end, name = _span(one)
        if start is None or end is None or not name or not 0 <= start < end <= len(given):
            return Sentence(given, None, line, "bad_span")
        inside = [k for k, (_, a, b) in enumerate(words) if a < end and b > start]
        if not inside:
            return Sentence(given, None, line, "bad_span")
        if any(tags[k] != "O" for k in inside):
            return Sentence(given, None, line, "overlap")
        widened += words[inside[0]][1] < start or words[inside[-1]][2] > end
        for k in inside:
            tags[k] = f"{'B' if k == inside[0] else 'I'}-{name}"
    return Sentence(given, tuple(tags), line, widened=widened)


def _span(one: Any) -> tuple[int | None, int | None, str]:
    """{"start", "end", "label"}, as spaCy, doccano, Label Studio and Prodigy write it, or [start, end, label]."""
    if isinstance(one, Mapping):
        name = next((one[k] for k in ("label", "type", "entity", "entity_group", "tag") if k in one), "")
        if isinstance(name, list):
            name = name[0] if name else ""
        start = next((one[k] for k in ("start", "start_offset", "begin") if k in one), None)
        end = next((one[k] for k in ("end", "end_offset") if k in one), None)
    elif isinstance(one, (list, tuple)) and len(one) == 3:
        start, end, name = one
    else:
        return None, None, ""
    whole = all(isinstance(x, int) and not isinstance(x, bool) for x in (start, end))
    return (start, end, str(name)) if whole else (None, None, "")


def _of_words(table: Table, columns: Columns) -> bool:
    """Whether a row holds one word: an id (or group) says which sentence it is of, and the label is its tag."""
    return bool((columns.id or columns.group) and columns.text and columns.labels)


def _by_word(table: Table, columns: Columns) -> Iterator[Sentence]:
    key, text, label = columns.id or columns.group or "", columns.text[0], columns.labels[0]
    for name in (key, text, label):
        if name not in table.columns:
            raise UserError(f"{table.source} has no column {name!r}; its columns: {', '.join(table.columns)}")
    rows: dict[object, list[int]] = {}
    last: object = None
    for i, cell in enumerate(table.columns[key]):
        last = last if cell is None else cell  # many such files name the sentence in its first row alone
        rows.setdefault(last, []).append(i)
    for at in rows.values():
        words = tuple("" if table.columns[text][i] is None else str(table.columns[text][i]) for i in at)
        tags = [table.columns[label][i] for i in at]
        line = table.lines[at[0]]
        if not any(w.strip() for w in words):
            yield Sentence(None, None, line, "no_words")
        elif any(t is None for t in tags):
            yield Sentence(words, None, line, "bad_line" if any(t is not None for t in tags) else None)
        else:
            yield Sentence(words, tuple(str(t) for t in tags), line)


def _conll(path: Path, name: str) -> tuple[list[Sentence], dict[str, object]]:
    """A word a line, its tag in the last column (of CoNLL-U: form and part of speech), blank lines between
    sentences; and how the file was read."""
    try:
        decoded = decode(path.read_bytes(), name, None)
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from None
    lines = [_fields(line) for line in re.split(r"\r\n|\r|\n", decoded.text)]
    plain = [fields for fields in lines if fields and not fields[0].startswith("#")]
    widths = Counter(map(len, plain))
    width = widths.most_common(1)[0][0] if widths else 1
    treebank = width == 10 and all(_NUMBER.fullmatch(fields[0]) for fields in plain)
    known = {"O"} | {fields[-1] for fields in plain if len(fields) == width > 1}
    found: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    first = 1
    for number, fields in enumerate([*lines, []], 1):
        if (
            not fields
            or fields[0] == "-DOCSTART-"
            or (fields[0].startswith("#") and not _is_word(fields, width, known))
        ):
            if words:
                found.append(_closed(words, tags, first))
            words, tags = [], []
            continue
        if treebank and not fields[0].isdigit():
            continue  # 3-4 is written apart as 3 and 4 in the lines that follow, and 5.1 is not in the text
        first = first if words else number
        words.append(fields[1 if treebank else 0])
        tags.append((fields[3] if treebank else fields[-1]) if len(fields) > 1 else "")
    facts: dict[str, object] = {"format": "CoNLL-U" if treebank else "CoNLL", "encoding": decoded.encoding}
    return found, facts | {"encoding_guessed": decoded.guessed, "notes": list(decoded.notes)}


def _fields(line: str) -> list[str]:
    """Split at tabs where there are some, else at spaces: of ASCII alone, since words may hold others."""
    if not line.strip():
        return []
    return [f.strip(" ") for f in (line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))) if f.strip()]


def _is_word(fields: list[str], width: int, known: set[str]) -> bool:
    """Whether a line that begins with # is a word (#, #hashtag) and no comment: it looks like the other lines, and its
    tag is one of theirs."""
    return len(fields) == width and (width == 1 or fields[-1] in known)


def _closed(words: list[str], tags: list[str], line: int) -> Sentence:
    if not any(tags):
        return Sentence(tuple(words), None, line)
    if not all(tags):
        return Sentence(tuple(words), None, line, "bad_line")
    return Sentence(tuple(words), tuple(tags), line)


def _table(found: Sequence[Sentence], source: str, facts: Mapping[str, object]) -> Table:
    """The sentences as a table that can be written: their words joined by spaces."""
    texts: list[object] = [
        None if s.given is None else s.given if isinstance(s.given, str) else " ".join(s.given) for s in found
    ]
    columns: dict[str, list[object]] = {"text": texts}
    if any(s.tags is not None for s in found):
        columns["tags"] = [None if s.tags is None else " ".join(s.tags) for s in found]
    return Table(columns, tuple(s.line for s in found), (None,) * len(found), source, True, dict(facts))
