"""Several label columns that are a task each: their tasks, the cells of every row, and the rows that a column knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from acclimate.data import findings, leaks
from acclimate.data.column_types import label_numbers
from acclimate.data.find_task import find_task
from acclimate.data.findings import Finding, finding, lines_text, verb
from acclimate.data.label_columns import Cells, yes_or_no
from acclimate.data.labels import as_text, check_kind, is_blank, match_classes, respelled, typed_labels
from acclimate.data.rows import Columns, Data, IntArray, Label, Table
from acclimate.errors import UserError, plural, unknown

MULTITASK = "multitask"
SINGLE = ("classify", "ordinal", "regress")  # what a column of several can be


def tasks_of(table: Table, names: Sequence[str], asked: str | None) -> tuple[tuple[str, ...], list[str]]:
    """The task of each label column, and why; none where all together are one multi-label task.

    `asked`: one task for all, "multitask" (each its own, also where all say yes or no), or "stars=regress,topic=..."
    for some of them.
    """
    if asked == "multilabel" or (asked is None and all(yes_or_no(table.columns[name]) for name in names)):
        return (), []
    given = dict.fromkeys(names, asked) if asked in SINGLE else _by_name(asked, names)
    tasks, reasons = [], []
    for name in names:
        cells = table.columns[name]
        task, why = given.get(name), "as asked"
        if task is None:
            task, why = find_task(cells, table.typed)
            why = why.partition(": ")[2].replace("--task ", f"--task {name}=")
        if task not in SINGLE:
            raise UserError(
                f"label column {name!r} is {task}; of several label columns each is one of {', '.join(SINGLE)}: learn "
                "it alone, with one --label"
            )
        if task != "regress":
            check_kind(task, typed_labels(cells, table.typed)[1])
        tasks.append(task)
        reasons.append(f"label column {name}: {task}, {why}")
    return tuple(tasks), reasons


def _by_name(asked: str | None, names: Sequence[str]) -> dict[str, str | None]:
    """What was asked of single columns."""
    found: dict[str, str | None] = {}
    for part in (asked or "").split(",") if "=" in (asked or "") else ():
        name, _, task = part.rpartition("=")
        if name not in names:
            raise unknown("label column in --task", name, names)
        found[name] = task
    return found


def read_cells(
    table: Table, columns: Columns, classes: tuple[Any, ...] | None, *, strict: bool, private: bool = False
) -> tuple[list[Label | None], list[str]]:
    """The `Cells` of every row, None where all are empty, and sentences on how they were read.

    `classes`: for each column those that a model knows, or None.
    """
    read: list[list[Label | None]] = []
    notes: list[str] = []
    for j, (name, task) in enumerate(zip(columns.labels, columns.tasks, strict=True)):
        cells = table.columns[name]
        if task == "regress":
            numbers, note = label_numbers(cells, name, private=private)
            values: list[Label | None] = [None if isinstance(one, str) else one for one in numbers]
            notes += [*([note] if note else []), *_odd(name, cells, values, table, strict)]
        else:
            values, _ = typed_labels(cells, table.typed)
            known = None if classes is None else classes[j]
            note = respelled(cells, table.typed, private=private) if known is None else ""
            notes += [f"{name}: {note}"] if note else []
            values = values if known is None else match_classes(values, known)[0]
        read.append(values)
    rows = [Cells(row) for row in zip(*read, strict=True)]
    return [row if any(cell is not None for cell in row) else None for row in rows], notes


def _odd(name: str, cells: Sequence[object], values: Sequence[object], table: Table, strict: bool) -> list[str]:
    """What is said of cells of a number's column that hold none; an error where they are many, or nothing may be."""
    odd = [i for i, (cell, value) in enumerate(zip(cells, values, strict=True)) if value is None and not is_blank(cell)]
    if not odd:
        return []
    what = plural(len(odd), "cell")
    where = lines_text([table.lines[i] for i in odd])
    text = f"{what} of label column {name!r} {verb(len(odd), 'hold')} no number ({where})"
    if strict or len(odd) > sum(value is not None for value in values):
        raise UserError(f"{text}; correct them, leave them empty, or give --task {name}=classify")
    return [f"{text} and {verb(len(odd), 'count')} as not known"]


def column_of(data: Data, j: int) -> tuple[IntArray, Data]:
    """The places of the rows whose cell of column j is known, and these rows with that label alone."""
    assert data.labels is not None
    labels: tuple[Any, ...] = data.labels
    known = np.array([i for i, row in enumerate(labels) if row[j] is not None], dtype=np.int64)
    part = data if len(known) == len(data) else data.take(known)
    return known, replace(part, labels=tuple(labels[i][j] for i in known))


def classes_of(data: Data, columns: Columns) -> tuple[tuple[Any, ...] | None, ...]:
    """The classes of each label column; None of a number's."""
    found = []
    for j, task in enumerate(columns.tasks):
        labels: Any = column_of(data, j)[1].labels
        found.append(None if task == "regress" else tuple(sorted(set(labels))))
    return tuple(found)


def noticed(
    data: Data,
    keys: Sequence[str],
    columns: Columns,
    classes: tuple[Any, ...] | None,
    *,
    has_words: bool,
    of_train: bool,
    private: bool,
) -> list[Finding]:
    """What is odd about each label column, the name of the column before each sentence."""
    out: list[Finding] = []
    for j, (name, task) in enumerate(zip(columns.labels, columns.tasks, strict=True)):
        known, part = column_of(data, j)
        if not len(part):
            out.append(finding("thin_label", "error", f"{name}: no row has a label", len(data)))
            continue
        assert part.labels is not None and part.clusters is not None
        found = findings.conflicting(part.clusters, part.labels, part.lines, task)
        if task != "regress":
            found += findings.near_labels(part.labels, part.lines, private=private)
            found += findings.class_sizes(part.labels, part.lines, task, of_train=of_train)
            if has_words:
                found += leaks.label_in_text([keys[i] for i in known], part.labels, part.lines, private=private)
            if classes is not None:
                found += findings.unseen(part, classes[j], private=private)
        if empty := len(data) - len(part):
            text = f"{empty:,} of {len(data):,} cells ({empty / len(data):.0%}) are not known and count nowhere"
            found.append(finding("unknown_labels", "info", text, empty))
        out += [replace(one, message=f"{name}: {one.message}") for one in found]
    return out


def leaking(free: dict[str, list[object]], kept: Sequence[int], data: Data, columns: Columns) -> list[Finding]:
    """Columns from which one of the labels can be read off."""
    out: list[Finding] = []
    for j, (name, task) in enumerate(zip(columns.labels, columns.tasks, strict=True)):
        known, part = column_of(data, j)
        found = leaks.leaking_columns(free, [kept[i] for i in known], part.labels or (), task, columns.features)
        out += [replace(one, message=f"{name}: {one.message}") for one in found]
    return out


def told(data: Data, columns: Columns, *, private: bool = False) -> dict[str, dict[str, Any]]:
    """For each label column its task, how many kept rows know it and do not, and its classes or its spread.

    `private`: no number's range, whose ends are cells.
    """
    out: dict[str, dict[str, Any]] = {}
    for j, (name, task) in enumerate(zip(columns.labels, columns.tasks, strict=True)):
        _, part = column_of(data, j)
        out[name] = {"task": task, "known": len(part), "not known": len(data) - len(part)}
        if task == "regress":
            if private or not len(part):
                continue
            values = np.array(part.labels, dtype=np.float64)
            out[name]["target"] = {"mean": float(values.mean()), "sd": float(values.std()),
                                   "min": float(values.min()), "max": float(values.max())}  # fmt: skip
        else:
            counts = Counter(map(as_text, part.labels or ()))
            out[name]["classes"] = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return out
