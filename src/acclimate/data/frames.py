"""Tables from what is already in memory: pandas, Arrow, Hugging Face datasets, dicts and lists. Nothing given is
changed."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from acclimate.data.header import names_of
from acclimate.data.rows import Table
from acclimate.errors import UserError


def make(columns: dict[str, list[object]], source: str, facts: dict[str, object]) -> Table:
    """A typed table of whole columns, rows numbered from 1."""
    sizes = {name: len(cells) for name, cells in columns.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(f"the columns differ in length: {sizes}; give every column the same number of rows")
    rows = next(iter(sizes.values()), 0)
    facts.setdefault("notes", [])
    return Table(columns, tuple(range(1, rows + 1)), (None,) * rows, source, True, facts)


def plain(value: Any) -> object:
    """A cell as a Python object; None for every way in which a frame says "nothing here" (None, NaN, NaT, pd.NA)."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    kind = type(value).__name__
    if kind in ("NAType", "NaTType"):
        return None
    if getattr(value, "ndim", 0) >= 2:  # a picture or a sound as an array: one cell, not many
        return value
    if kind == "Timestamp":
        return value.to_pydatetime(warn=False)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        inner = value.tolist()
        return (
            [plain(v) for v in inner]
            if isinstance(inner, list)
            else plain(inner)
            if type(inner) is not type(value)
            else inner
        )
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in (sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, (datetime.datetime, datetime.date, Mapping)):
        return value
    return value


def from_pandas(frame: Any) -> Table:
    """pandas 2 and 3; the index is not a column."""
    names = ["_".join(str(part) for part in c) if isinstance(c, tuple) else str(c) for c in frame.columns]
    unique, notes = names_of(names)
    columns = {name: [plain(v) for v in frame.iloc[:, j].tolist()] for j, name in enumerate(unique)}
    return make(columns, "<frame>", {"format": "pandas", "notes": notes})


def from_arrow(table: Any, source: str, kind: str = "arrow") -> Table:
    """A pyarrow.Table; whole numbers that Hugging Face stored as class codes come back as class names."""
    unique, notes = names_of([str(name) for name in table.column_names])
    columns = {name: [plain(v) for v in table.column(j).to_pylist()] for j, name in enumerate(unique)}
    for name, classes in _stored_classes(table.schema.metadata or {}).items():
        if name in columns:
            columns[name] = [_class_name(v, classes) for v in columns[name]]
            notes.append(f"column {name!r}: class codes replaced by the names that the file stores")
    return make(columns, source, {"format": kind, "notes": notes})


def _stored_classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    out = {}
    for name, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            out[str(name)] = [str(n) for n in inner["names"]]
    return out


def _class_name(value: object, classes: Sequence[str]) -> object:
    if isinstance(value, list):
        return [_class_name(v, classes) for v in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return classes[value] if 0 <= value < len(classes) else None  # -1 is how unlabelled rows are written
    return value


def from_dataset(dataset: Any) -> Table:
    """datasets.Dataset; ClassLabel features come back as class names."""
    kind = type(dataset).__name__
    if kind == "DatasetDict":
        raise UserError(
            f"this is a DatasetDict with the parts {', '.join(dataset)}; give one of them, such as data['train']"
        )
    if kind != "Dataset":
        raise UserError(
            f"a {kind} has no length; give a datasets.Dataset (for example Dataset.from_list(list(data.take(1000))))"
        )
    bare = dataset.with_format(None)
    columns: dict[str, list[object]] = {}
    notes: list[str] = []
    for name in bare.column_names:
        cells = [plain(v) for v in list(bare[name])]
        feature = bare.features[name]
        inner = getattr(feature, "feature", feature)
        if type(inner).__name__ == "ClassLabel" and inner.names:
            cells = [_class_name(v, inner.names) for v in cells]
            notes.append(f"column {name!r}: class codes replaced by their names")
        columns[str(name)] = cells
    return make(columns, "<dataset>", {"format": "datasets", "notes": notes})


def from_columns(columns: Mapping[str, Any]) -> Table:
    """A dict of columns."""
    out: dict[str, list[object]] = {}
    for name, cells in columns.items():
        if isinstance(cells, (str, bytes)) or not hasattr(cells, "__len__"):
            raise UserError(f"column {name!r} is a {type(cells).__name__}; give a list with one value a row")
        out[str(name)] = [plain(v) for v in (cells.tolist() if hasattr(cells, "tolist") else list(cells))]
    return make(out, "<dict>", {"format": "dict"})


def from_rows(rows: Sequence[Any], source: str = "<list>", kind: str = "list") -> Table:
    """A list of dicts (a missing key is an empty cell), or of texts."""
    if all(isinstance(row, str) for row in rows):
        return make({"text": list(rows)}, source, {"format": kind})
    if not all(isinstance(row, Mapping) for row in rows):
        odd = next(i for i, row in enumerate(rows) if not isinstance(row, Mapping))
        raise UserError(
            f"row {odd + 1} of {source} is a {type(rows[odd]).__name__}; give a list of dicts (or a list of texts)"
        )
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return make({str(n): [plain(row.get(n)) for row in rows] for n in names}, source, {"format": kind})
