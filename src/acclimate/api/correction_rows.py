"""The rows of corrections: read, checked against the model and each other, and joined with earlier ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from acclimate.api.model import Model
from acclimate.api.runs import damaged
from acclimate.data.audit import audit
from acclimate.data.findings import lines_text
from acclimate.data.kinds import kind_of
from acclimate.data.labels import is_blank
from acclimate.data.rows import Data, Table
from acclimate.errors import UserError, plural

KEPT = "corrections.jsonl"  # of the folder of a corrected run
_NAMED = 20  # columns that an error lists


def rows_of(model: Model, table: Table, label: str | None) -> tuple[Data, dict[str, int]]:
    """The usable corrections, and what became of all rows."""
    own = model.columns.labels[0]
    column = label or own
    _need(table, model.columns.inputs, column)
    if all(is_blank(cell) for cell in table.columns[column]):
        raise UserError(f"{table.source}: every cell of {column!r} is blank, so nothing was corrected")
    renamed = {**{n: v for n, v in table.columns.items() if n != own}, own: table.columns[column]}
    task, decoder = model.predictor.task, model.predictor.decoder
    columns = dataclasses.replace(
        model.columns, group=None, time=None, weight=None, domain=None, subgroup=(), id=None, drop=()
    )
    known = decoder.classes or None
    data, account = audit(
        replace(table, columns=renamed), columns, task.name, label_delimiter=decoder.delimiter, classes=known,
        private=model._private, role="test", progress=model.progress, split=model.split,
    )  # fmt: skip
    blank = len(account.dropped.get("missing_label", ()))
    if not len(data):
        raise UserError(
            f"{table.source}: none of its {plural(account.read, 'row')} holds a correction that can be used"
        )
    kept = _agreeing(data)
    agreeing = set(kept)
    against = [n for i, n in enumerate(data.lines) if i not in agreeing]
    data = data.take(kept)
    if not len(data):
        raise UserError(f"{table.source}: its rows contradict each other ({lines_text(against)}); correct each once")
    old = model.predict(list(data.inputs))
    same = sum(a == b for a, b in zip(old, data.labels or (), strict=True))
    counts = {
        "read": account.read, "corrected": len(data) - same, "confirmed": same, "blank": blank,
        "unusable": account.read - account.kept - blank, "contradicting": len(against),
    }  # fmt: skip
    return data, counts


def _need(table: Table, inputs: Sequence[str], label: str) -> None:
    """Refuse a source that lacks any of the columns an input is read from, or that of the right labels."""
    wanting = []
    if lacking := [name for name in inputs if name not in table.columns]:
        plural = "s" if len(lacking) > 1 else ""
        wanting.append(f"no column{plural} {_listed([repr(name) for name in lacking])}, which the model reads")
    if label not in table.columns:
        wanting.append(f"no column {label!r} of right labels (--label names another)")
    if wanting:
        raise UserError(
            f"{table.source} has {', and '.join(wanting)}; give the rows as the model reads them, beside their right "
            f"labels (its columns: {_listed(list(table.columns))})"
        )


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _agreeing(data: Data) -> list[int]:
    """The rows that no other row of the same content gives another label."""
    keys = kind_of(data).keys(data.inputs)
    labels: dict[Any, set[Any]] = {}
    for key, label in zip(keys, data.labels or (), strict=True):
        labels.setdefault(key, set()).add(label)
    return [i for i, key in enumerate(keys) if len(labels[key]) == 1]


def _kept(path: Path) -> list[dict[str, Any]]:
    """The rows in the file of a corrected run."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not all(isinstance(row, dict) and row.keys() >= {"input", "label"} for row in rows):
        raise damaged(path, "a line of it holds no input with its label")
    return rows


def with_earlier(model: Model, data: Data) -> tuple[Data, int]:
    """The corrections with those of the run itself, where it is a corrected one; a newer one of the same row counts."""
    assert model.run_dir is not None
    path = model.run_dir / KEPT
    if not path.is_file():
        return data, 0
    lines = _kept(path)
    kind = kind_of(data)
    inputs = tuple(tuple(row["input"]) if isinstance(row["input"], list) else row["input"] for row in lines)
    inputs = tuple(kind.given(x, model.columns, i) for i, x in enumerate(inputs)) if kind.name == "table" else inputs
    labels = tuple(tuple(row["label"]) if isinstance(row["label"], list) else row["label"] for row in lines)
    keys = kind.keys((*data.inputs, *inputs))
    fresh = set(keys[: len(data)])
    at = [i for i, key in enumerate(keys[len(data) :]) if key not in fresh]
    both = Data(
        (*data.inputs, *(inputs[i] for i in at)), (*(data.labels or ()), *(labels[i] for i in at)), kind=data.kind,
        source=data.source,
    )  # fmt: skip
    return replace(both, clusters=kind.clusters(both.inputs, kind.keys(both.inputs))), len(at)
