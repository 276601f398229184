"""The gate: every row read is kept or dropped for one stated reason, and what is odd about the rest is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from acclimate.data import findings, label_cells, label_columns, leaks
from acclimate.data.account import REASONS, Audit, by_file, has_no_lines, named_files, render
from acclimate.data.column_types import label_numbers
from acclimate.data.columns import check, index_like
from acclimate.data.cross import cross_check
from acclimate.data.findings import Finding, finding, lines_text, rows_text, verb
from acclimate.data.kinds import Kind, Reading, kind_of
from acclimate.data.labels import (
    as_text,
    check_kind,
    find_label_delimiter,
    is_blank,
    label_set,
    match_classes,
    number,
    respelled,
    task_name,
    typed_labels,
)
from acclimate.data.lengths import Lengths, Seconds, too_long
from acclimate.data.rows import Columns, Data, FloatArray, Input, IntArray, Label, Table
from acclimate.data.times import to_numbers
from acclimate.errors import UserError
from acclimate.progress import Progress

__all__ = ["Audit", "Finding", "Lengths", "Seconds", "audit", "by_file", "cross_check", "render"]


def audit(
    table: Table,
    columns: Columns,
    task: str,
    *,
    on_bad: str = "skip",
    label_delimiter: str | None = None,
    classes: tuple[Label, ...] | None = None,
    measure: Callable[[list[Input]], Lengths | Seconds] | None = None,
    private: bool = False,
    role: str = "train",
    progress: Progress | None = None,
    split: str | None = None,
) -> tuple[Data, Audit]:
    """The usable rows of a table, and the account of all of them.

    `classes` are those that a model knows, for valid and test data: labels take their type, others are named in a
    finding and kept.
    `measure` counts tokens. `on_bad="fail"` refuses a source with any row to drop. `private` keeps text and labels
    out of messages. Where the user names no group, the kind's own (scaffolds of molecules) stay together, unless
    `split` is "random".

    >>> from acclimate.data.read import read
    >>> table = read({"text": ["good", " ", "bad", "fine"], "label": ["pos", "neg", "neg", None]})
    >>> data, account = audit(table, Columns(label="label", text=("text",)), "classify")
    >>> data.inputs, account.read, account.kept, account.dropped
    (('good', 'bad'), 4, 2, {'blank_input': (2,), 'missing_label': (4,)})
    """
    task = task_name(task)
    if on_bad not in ("skip", "fail"):
        raise UserError(f"on_bad must be 'skip' or 'fail', got {on_bad!r}")
    check(table, columns)
    kind = kind_of(columns)
    read = kind.read(table, columns, progress or Progress())
    labels, notes = _labels(table, columns, task, label_delimiter, classes, on_bad == "fail", private)
    times = None if columns.time is None else to_numbers(table.columns[columns.time], columns.time)
    if kind.name == "series" and times is not None and len(set(times)) == 1:
        times = None  # steps counted from the start of each series: no row is later than another
    reasons = [_reason(table, columns, task, i, read, labels, times) for i in range(len(table))]
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    dropped: dict[str, tuple[int, ...]] = {
        reason: tuple(table.lines[i] for i, r in enumerate(reasons) if r == reason)
        for reason in REASONS
        if reason in set(reasons)
    }
    said = {**REASONS, "blank_input": kind.blank}
    _refuse(table, columns, dropped, len(kept), on_bad, said, private)
    inputs = tuple(read.inputs[i] for i in kept)
    keys = kind.keys(inputs)
    owners = _owners(columns, kind, split, inputs)
    data = _data(table, columns, kept, inputs, labels, times, kind.clusters(inputs, keys), owners)
    data = replace(data, shared=kind.shared(inputs))
    found = [
        finding(
            reason,
            "warning",
            f"{rows_text(len(lines))} dropped: {said[reason]}{named_files(table, columns, lines, private)}",
            len(lines),
            lines,
        )
        for reason, lines in dropped.items()
    ]
    found += _of_rows(data, keys, columns, task, classes, kind, private=private, role=role)
    found += _of_columns(table, columns, kept, data, task)
    if owners is not None:
        found.append(_split_by(kind.owner, owners))
    facts = _facts(table, columns, task, data, notes, private)
    if columns.file is not None and dropped and not private:
        files = {r: named_files(table, columns, lines, private) for r, lines in dropped.items()}
        facts["dropped_files"] = {r: names.removeprefix(": ") for r, names in files.items()}
    if measure is not None:
        found += too_long(data, measure(list(data.inputs)), facts)
    order = {"error": 0, "warning": 1, "info": 2}
    found = by_file(found, table, columns, private, but=dropped)
    found.sort(key=lambda f: order[f.severity])
    return data, Audit(table.source, role, len(table), len(kept), dropped, tuple(found), facts, _counts(data, task))


def _labels(
    table: Table,
    columns: Columns,
    task: str,
    label_delimiter: str | None,
    classes: tuple[Label, ...] | None,
    strict: bool,
    private: bool,
) -> tuple[list[Label | None] | None, list[str]]:
    """One label a row (None where missing), and sentences on how they were read."""
    if columns.label is None:
        return None, []
    if columns.tasks:
        return label_cells.read_cells(table, columns, classes, strict=strict, private=private)
    if isinstance(columns.label, tuple):
        cells_of = {name: table.columns[name] for name in columns.label}
        rows, odd = label_columns.read_marks(cells_of, table.source, private=private)
        return rows, findings.odd_notes(odd, table.lines, strict)
    cells = table.columns[columns.label]
    if task == "multilabel":
        sign = label_delimiter or (None if table.typed else find_label_delimiter(cells))
        notes = [] if label_delimiter or sign is None else [f"labels are split at {sign!r}"]
        return [None if is_blank(cell) else label_set(cell, sign) for cell in cells], notes
    if task == "regress":
        numbers, note = label_numbers(cells, columns.label, private=private)
        return list(numbers), [note] if note else []
    values, kind = typed_labels(cells, table.typed)
    check_kind(task, kind)
    if classes is None:
        return values, [note] if (note := respelled(cells, table.typed, private=private)) else []
    matched, changed = match_classes(values, classes)
    return matched, [f"{rows_text(changed)}: labels read in the type of the model's classes"] if changed else []


def _reason(
    table: Table,
    columns: Columns,
    task: str,
    i: int,
    read: Reading,
    labels: Sequence[Label | None] | None,
    times: Sequence[float | None] | None,
) -> str | None:
    """Why row i cannot be used: the first reason that holds."""
    if table.problems[i] is not None:
        return "unparsed"
    if read.inputs[i] is None:
        return read.reasons[i]
    if labels is not None and labels[i] is None:
        return "missing_label"
    if labels is not None and task == "regress" and isinstance(labels[i], str):
        return "bad_label"
    if times is not None and times[i] is None:
        return "bad_time"
    if columns.weight is not None:
        weight = number(table.columns[columns.weight][i])
        if weight is None or weight < 0:
            return "bad_weight"
    if columns.domain is not None and is_blank(table.columns[columns.domain][i]):
        return "missing_domain"
    return None


def _refuse(
    table: Table,
    columns: Columns,
    dropped: dict[str, tuple[int, ...]],
    kept: int,
    on_bad: str,
    said: dict[str, str],
    private: bool,
) -> None:
    if not dropped and kept:
        return
    told = "; ".join(
        f"{rows_text(len(lines))} {said[r]}{'' if has_no_lines(table.facts) else f' ({lines_text(lines)})'}"
        f"{named_files(table, columns, lines, private)}"
        for r, lines in dropped.items()
    )
    if on_bad == "fail" and dropped:
        raise UserError(f"{table.source}: {told}. Correct these rows, or pass --on-bad skip to leave them out")
    if not kept:
        hint = ""
        if "bad_label" in dropped:
            hint = (
                f"; column {columns.label!r} does not hold numbers: write them as 1234.5, use --task classify, or name "
                "another label column"
            )
        elif "missing_label" in dropped:
            named = " or ".join(map(repr, columns.labels))
            hint = f"; is {named} the right label column, and has it been filled in?"
        elif "bad_time" in dropped:
            hint = f"; write the times in {columns.time!r} as YYYY-MM-DD or as numbers"
        raise UserError(f"{table.source} has no usable row: {told or 'it has no rows'}{hint}")


def _owners(columns: Columns, kind: Kind, split: str | None, inputs: tuple[Input, ...]) -> tuple[str, ...] | None:
    """The kind's own groups, where it has some and no column says what is to be kept apart."""
    named = columns.group or columns.time or columns.domain
    if split not in (None, "random"):
        if kind.owners is None or kind.owner != split:
            raise UserError(f"a split by {split} is for molecules that rdkit reads, and the inputs are {kind.plural}")
        if named is not None:
            raise UserError(f"a split by {split} and column {named!r} both say what is kept apart; give one of the two")
    return None if kind.owners is None or split == "random" or named is not None else kind.owners(inputs)


def _split_by(owner: str, owners: tuple[str, ...]) -> Finding:
    count = len(set(owners))
    text = (
        f"rows that share a {owner} stay on one side of every split, and count as one in intervals: {count:,} for "
        f"{rows_text(len(owners))} (--split random lifts this)"
    )
    return finding(f"split_by_{owner}", "info", text, count)


def _data(
    table: Table,
    columns: Columns,
    kept: list[int],
    inputs: tuple[Input, ...],
    labels: Sequence[Label | None] | None,
    times: Sequence[float | None] | None,
    clusters: IntArray,
    owners: tuple[str, ...] | None,
) -> Data:
    def cells(name: str) -> list[object]:
        column = table.columns[name]
        return [column[i] for i in kept]

    lines = tuple(table.lines[i] for i in kept)
    groups = owners
    if columns.group is not None:
        # a row without group is a group of its own: nothing says whose it is
        groups = tuple(
            f"(none, line {n})" if is_blank(g) else as_text(g).strip()
            for g, n in zip(cells(columns.group), lines, strict=True)
        )
    return Data(
        inputs=inputs,
        labels=None if labels is None else tuple(v for v in (labels[i] for i in kept) if v is not None),
        weights=None if columns.weight is None else _weights(cells(columns.weight)),
        groups=groups,
        times=None if times is None else np.array([times[i] for i in kept], dtype=np.float64),
        ids=None if columns.id is None else tuple(cells(columns.id)),
        subgroups={
            n: tuple("(none)" if is_blank(c) else as_text(c).strip() for c in cells(n))
            for n in dict.fromkeys((*columns.subgroup, *filter(None, [columns.domain])))
        },
        domains=None if columns.domain is None else tuple(as_text(c).strip() for c in cells(columns.domain)),
        clusters=clusters,
        lines=lines,
        source=table.source,
        kind=columns.kind or "text",
    )


def _weights(cells: list[object]) -> FloatArray:
    """Weights as they are; only their ratios count, so that those whose sum would overflow are scaled down together."""
    values = np.array([number(c) for c in cells], dtype=np.float64)
    largest = float(values.max(initial=0.0))
    return values / largest if largest > 1e100 else values


def _of_columns(table: Table, columns: Columns, kept: list[int], data: Data, task: str) -> list[Finding]:
    taken = set(columns.used)
    free = {n: c for n, c in table.columns.items() if n not in taken}
    out = findings.odd_columns(free, kept)
    # Looked at, too, though they are learned from; of files the names are not.
    free |= {name: table.columns[name] for name in columns.features if name not in columns.files}
    if columns.group is None:
        out += findings.group_like(free, kept)
    if data.labels is None:
        return out
    candidates = {n: c for n, c in free.items() if not index_like(c)}
    if columns.tasks:
        return label_cells.leaking(candidates, kept, data, columns) + out
    return leaks.leaking_columns(candidates, kept, data.labels, task, columns.features) + out


def _of_rows(
    data: Data,
    keys: list[str],
    columns: Columns,
    task: str,
    classes: tuple[Label, ...] | None,
    kind: Kind,
    *,
    private: bool,
    role: str,
) -> list[Finding]:
    assert data.clusters is not None
    out = findings.repeated(
        keys if kind.exact is kind.keys else kind.exact(data.inputs), data.clusters, data.lines, kind.near
    )
    if len(data) > 1 and len(set(data.clusters.tolist())) == 1:
        what = f"all {len(data):,} {kind.plural} are alike; is what differs in another column?"
        out.append(finding("constant", "error", what, len(data)))
    out += kind.findings(data, private)
    pairs = [(one, n) for one, n in zip(data.inputs, data.lines, strict=True) if isinstance(one, tuple)]
    half = [n for one, n in pairs if not all(one)] if kind.has_words else []
    if half:
        out.append(
            finding(
                "half_blank",
                "warning",
                f"{rows_text(len(half))} {verb(len(half), 'have')} one of the two texts only; the other is "
                "read as empty",
                len(half),
                half,
            )
        )
    alone = [n for g, n in zip(data.groups or (), data.lines, strict=False) if g == f"(none, line {n})"]
    if alone:
        out.append(
            finding(
                "missing_group",
                "warning",
                f"{rows_text(len(alone))} {verb(len(alone), 'name')} no group and are treated as a group each",
                len(alone),
                alone,
            )
        )
    if data.labels is None:
        return out
    of_train = classes is None and role == "train"
    if columns.tasks:
        return out + label_cells.noticed(
            data, keys, columns, classes, has_words=kind.has_words, of_train=of_train, private=private
        )
    out += findings.conflicting(data.clusters, data.labels, data.lines, task)
    if task == "regress":
        return out
    out += findings.near_labels(data.labels, data.lines, private=private)
    if isinstance(data.labels[0], label_columns.Marks):
        out += findings.yes_no(data, of_train=of_train)
    else:
        out += findings.class_sizes(data.labels, data.lines, task, of_train=of_train, private=private)
    if task != "multilabel" and kind.has_words:
        out += leaks.label_in_text(keys, data.labels, data.lines, private=private)
    return out + ([] if classes is None else findings.unseen(data, classes, private=private))


def _facts(table: Table, columns: Columns, task: str, data: Data, notes: list[str], private: bool) -> dict[str, object]:
    said = table.facts.get("notes", [])
    facts = {**table.facts, "notes": [*(said if isinstance(said, list) else []), *notes], "task": task}
    parts = {
        "label": columns.label if columns.label is None or isinstance(columns.label, str) else list(columns.label),
        "text": list(columns.text),
        "file": columns.file,
        "group": columns.group,
        "time": columns.time,
        "id": columns.id,
        "domain": columns.domain,
    }
    parts |= {"subgroup": list(columns.subgroup), "weight": columns.weight, "drop": list(columns.drop)}
    facts["columns"] = {part: name for part, name in parts.items() if name}
    facts["all_columns"] = list(table.columns)
    facts["kind"] = columns.kind or "text"
    facts["distinct_inputs"] = len(set(data.clusters.tolist())) if data.clusters is not None else len(data)
    if data.groups is not None:
        facts["groups"] = len(set(data.groups))
    if told := label_columns.counted(data.labels or ()):
        facts["label_columns"] = told
    if columns.tasks:
        facts["label_tasks"] = label_cells.told(data, columns, private=private)
    if task == "regress" and data.labels and not private:  # the least and the greatest label are cells
        values = np.array([float(str(v)) for v in data.labels])
        facts["target"] = {
            "mean": float(values.mean()),
            "sd": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
        }
    return facts


def _counts(data: Data, task: str) -> dict[str, int]:
    """Rows of each class, the largest first, ties in the order of the names; nothing for numbers."""
    if data.labels is None or task in ("regress", label_cells.MULTITASK):  # of several columns the facts tell them
        return {}
    counts = Counter({name: 0 for name in label_columns.counted(data.labels)})
    counts.update(as_text(c) for label in data.labels for c in (label if isinstance(label, tuple) else (label,)))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
