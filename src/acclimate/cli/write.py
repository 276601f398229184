"""Columns to a file that spreadsheets and programs read: CSV, TSV, JSONL or Parquet, by the ending of its name."""

from __future__ import annotations

import csv
import io
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from acclimate.errors import UserError
from acclimate.files import json_text, plain

Column: TypeAlias = Sequence[object]
Columns: TypeAlias = Mapping[str, Column]
DELIMITERS = {".csv": ",", ".txt": ",", ".tsv": "\t", ".tab": "\t"}
ROWS_A_GROUP = 8192


def free_names(own: Iterable[str], new: Iterable[str]) -> dict[str, str]:
    """What each new column is called beside the own ones: its name, with a number where that is taken.

    >>> free_names(["text", "prediction"], ["prediction", "confidence"])
    {'prediction': 'prediction_2', 'confidence': 'confidence'}
    """
    taken, names = set(own), {}
    for name in new:
        free, number = name, 2
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        names[name] = free
        taken.add(free)
    return names


def check(path: Path) -> None:
    """Refuse a table of no known format, or in a folder that is not there."""
    if path.suffix.lower() not in (*DELIMITERS, ".jsonl", ".parquet"):
        raise UserError(f"cannot tell the format of {str(path)!r}; end its name in .csv, .tsv, .jsonl or .parquet")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {str(path.parent)!r} to write {path.name!r} into; make it first")


def write(own: Columns, kinds: Mapping[str, type], parts: Iterable[Columns], path: Path | None) -> None:
    """Write the own columns and beside them the new ones, of these types, which come in parts of consecutive rows.

    To `path`, whole or not at all; to standard output as CSV where it is None.
    """
    whole = _beside(own, parts)
    names = [*own, *kinds]
    if path is None:
        for text in _csv(names, whole, ","):
            try:
                sys.stdout.write(text)
            except UnicodeEncodeError:  # a terminal of another encoding: what it cannot show is written as UTF-8
                sys.stdout.flush()
                sys.stdout.buffer.write(text.encode("utf-8"))
                sys.stdout.buffer.flush()
        return
    check(path)
    ending = path.suffix.lower()
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if ending == ".parquet":
            _write_parquet(own, kinds, parts, beside)
        else:
            with beside.open("w", encoding="utf-8", newline="") as file:
                file.writelines(_jsonl(whole) if ending == ".jsonl" else _csv(names, whole, DELIMITERS[ending]))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _beside(own: Columns, parts: Iterable[Columns]) -> Iterator[dict[str, Column]]:
    """Each part with the same rows of the own columns before it."""
    start = 0
    for part in parts:
        end = start + len(next(iter(part.values())))
        yield {**{name: values[start:end] for name, values in own.items()}, **part}
        start = end


def _csv(names: Sequence[str], parts: Iterable[Columns], delimiter: str) -> Iterator[str]:
    """Lines, those of one part at a time."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    # A row of one empty cell would be read back as a blank line, so it is written in quotes.
    alone = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for columns in parts:
        for row in zip(*columns.values(), strict=True):
            cells = [_cell(value) for value in row]
            (alone if cells == [""] else writer).writerow(cells)
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _cell(value: object) -> str:
    if type(value) is float:  # most cells by far
        return "" if math.isnan(value) else repr(value)
    known = plain(value)
    if known is None:
        return ""
    if isinstance(known, bool):
        return "true" if known else "false"
    if isinstance(known, (list, dict)):
        return json_text(known)
    return str(known)


def _jsonl(parts: Iterable[Columns]) -> Iterator[str]:
    """A line a row."""
    for columns in parts:
        for row in zip(*columns.values(), strict=True):
            yield json_text(dict(zip(columns, row, strict=True))) + "\n"


def _held(value: object) -> object:
    """A cell as Parquet holds it, which knows infinite numbers, unlike JSON; NaN is no value."""
    return (None if math.isnan(value) else value) if isinstance(value, float) else plain(value)


def _write_parquet(own: Columns, kinds: Mapping[str, type], parts: Iterable[Columns], path: Path) -> None:
    """As groups of about 8,192 rows: smaller ones cost a reader time, and larger ones memory here."""
    import pyarrow
    import pyarrow.parquet

    types = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64(), bool: pyarrow.bool_()}
    given = pyarrow.table({name: pyarrow.array([_held(value) for value in values]) for name, values in own.items()})
    schema = pyarrow.schema([*given.schema, *((name, types[kind]) for name, kind in kinds.items())])
    start, waiting = 0, []
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for part in parts:
            new = [
                pyarrow.array(part[name], types[kind], from_pandas=True)  # NaN is no value
                if kind is float
                else pyarrow.array([plain(v) for v in part[name]], types[kind])
                for name, kind in kinds.items()
            ]
            mine = given.slice(start, len(new[0])).columns
            start += len(new[0])
            waiting.append(pyarrow.table([*mine, *new], schema=schema))
            if sum(len(table) for table in waiting) >= ROWS_A_GROUP:
                writer.write_table(pyarrow.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pyarrow.concat_tables(waiting))
