"""Texts, or two texts that are read together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acclimate.data.columns import texts_of
from acclimate.data.duplicates import keys
from acclimate.data.kinds.base import Kind, Reading
from acclimate.data.labels import is_blank
from acclimate.data.rows import Columns, Input, Table
from acclimate.errors import UserError
from acclimate.progress import Progress

TABLES = {".csv", ".tsv", ".tab", ".txt", ".parquet", ".jsonl", ".json", ".ndjson"}  # endings of files of rows


def read(table: Table, columns: Columns, progress: Progress) -> Reading:
    """The text column or columns; a row is blank where all of its texts are."""
    inputs = tuple(texts_of(table, columns))
    return Reading(inputs, tuple("blank_input" if one is None else None for one in inputs))


def given(value: Any, columns: Columns, position: int) -> Input | None:
    """A string, or a pair of them where the model reads two columns."""
    parts = len(columns.text)
    if _nothing(value):
        return None
    if isinstance(value, str):
        if parts == 2:
            raise UserError(f"input {position + 1} is one text, and this model reads two; give pairs (first, second)")
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, str) or _nothing(v) for v in value):
        if parts != 2:
            raise UserError(f"input {position + 1} is a pair, and this model reads one text; give that alone")
        first, second = ("" if _nothing(v) else v for v in value)  # as in a file, where one may be blank
        return (first, second) if first or second else None
    raise UserError(
        f"input {position + 1} is {type(value).__name__}, not text: {str(value)[:60]!r}; give strings"
        + (" in pairs" if parts == 2 else "")
    )


def _nothing(value: Any) -> bool:
    """Blank, or a null."""
    return is_blank(value) or type(value).__name__ == "NAType"  # the null of pandas, which equals nothing


def _exact(inputs: Sequence[Input]) -> Sequence[Any]:
    return inputs


def _shown(value: Input) -> Any:
    return value if isinstance(value, str) else list(value)


def _cells(value: Input) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def is_text(value: Any) -> bool:
    """Whether this is one text, and not the name of a file of them."""
    return isinstance(value, (str, Path)) and Path(value).suffix.lower() not in TABLES


TEXT = Kind(
    name="text",
    noun="text",
    plural="texts",
    models=("text",),
    model="minilm",
    baseline="tfidf",
    blank="no text to read (blank or null)",
    near="but for case, spaces or punctuation",
    read=read,
    given=given,
    keys=keys,
    exact=_exact,
    shown=_shown,
    cells=_cells,
    single=is_text,
    beside=True,
    has_words=True,
)
