"""Columns to a file that spreadsheets and programs read: CSV, TSV, JSONL or Parquet, by the ending of its name."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from acclimate.errors import UserError

Column = Sequence[object]
DELIMITERS = {".csv": ",", ".txt": ",", ".tsv": "\t", ".tab": "\t"}


def with_columns(own: Mapping[str, Column], new: Mapping[str, Column]) -> tuple[dict[str, Column], dict[str, str]]:
    """Both sets of columns, `own` first. A new name that is taken gets a number; the second result says which.

    >>> with_columns({"text": ["a"], "prediction": ["x"]}, {"prediction": ["y"]})
    ({'text': ['a'], 'prediction': ['x'], 'prediction_2': ['y']}, {'prediction': 'prediction_2'})
    """
    columns, renamed = dict(own), {}
    for name, values in new.items():
        free, number = name, 2
        while free in columns:
            free, number = f"{name}_{number}", number + 1
        if free != name:
            renamed[name] = free
        columns[free] = values
    return columns, renamed


def write(columns: Mapping[str, Column], path: Path | None) -> None:
    """Write the columns to `path`, whole or not at all; to standard output as CSV where it is None."""
    if path is None:
        text = io.StringIO()
        _write_csv(columns, text, ",")
        try:
            sys.stdout.write(text.getvalue())
        except UnicodeEncodeError:  # a terminal of another encoding: what it cannot show is written as UTF-8
            sys.stdout.buffer.write(text.getvalue().encode("utf-8"))
        return
    ending = path.suffix.lower()
    if ending not in (*DELIMITERS, ".jsonl", ".parquet"):
        raise UserError(f"cannot tell the format of {str(path)!r}; end its name in .csv, .tsv, .jsonl or .parquet")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {str(path.parent)!r} to write {path.name!r} into; make it first")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if ending == ".parquet":
            _write_parquet(columns, beside)
        else:
            with beside.open("w", encoding="utf-8", newline="") as file:
                if ending == ".jsonl":
                    _write_jsonl(columns, file)
                else:
                    _write_csv(columns, file, DELIMITERS[ending])
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _write_csv(columns: Mapping[str, Column], file: IO[str], delimiter: str) -> None:
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    # A row of one empty cell would be read back as a blank line, so it is written in quotes.
    alone = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in zip(*columns.values(), strict=True):
        cells = [_cell(value) for value in row]
        (alone if cells == [""] else writer).writerow(cells)


def _cell(value: object) -> str:
    plain = _plain(value)
    if plain is None:
        return ""
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, (list, dict)):
        return json.dumps(plain, ensure_ascii=False)
    return str(plain)


def _plain(value: object) -> object:
    """A value as JSON knows it: numpy scalars and arrays unwrapped, NaN as nothing, what is unknown as its text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, (tuple, list, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _write_jsonl(columns: Mapping[str, Column], file: IO[str]) -> None:
    for row in zip(*columns.values(), strict=True):
        cells = {name: _plain(value) for name, value in zip(columns, row, strict=True)}
        file.write(json.dumps(cells, ensure_ascii=False) + "\n")


def _write_parquet(columns: Mapping[str, Column], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    arrays = {name: pyarrow.array([_plain(value) for value in values]) for name, values in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)
