"""`inspect`: the gate alone; and which column plays which part."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acclimate.api.reading import backbone_for, measure_with
from acclimate.data.columns import task_name
from acclimate.data.kinds import named
from acclimate.data.rows import Columns
from acclimate.errors import UserError


def many(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Nothing, one or several names as a tuple."""
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def columns_of(
    label: str | Sequence[str] | None,
    text: str | Sequence[str] | None,
    group: str | None,
    when: str | None,
    row_id: str | None,
    subgroup: str | Sequence[str] | None,
    weight: str | None,
    drop: Sequence[str],
    domain: str | None,
    file: str | None = None,
    modality: str | None = None,
    kinds: Mapping[str, str] | None = None,
) -> Columns:
    """Which column plays which part, as the arguments of `fit` and `inspect` name them."""
    labels = many(label)
    return Columns(
        labels[0] if len(labels) == 1 else labels or None,
        many(text),
        group,
        when,
        row_id,
        many(subgroup),
        weight,
        many(drop),
        domain,
        file,
        kind_named(modality, kinds),
        tuple(kinds or ()),
        tuple((kinds or {}).values()),
    )


def kind_named(modality: str | None, kinds: Mapping[str, str] | None) -> str:
    """The kind of input that was asked for, if one was; what columns hold is said of a table alone."""
    if kinds and modality not in (None, "table"):
        raise UserError(f"column kinds are said of the columns of a table, and the modality is {modality!r}")
    return "table" if kinds else "" if modality is None else named(modality).name


@dataclass(frozen=True)
class Inspection:
    """What the gate found in one file."""

    audit: Any
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**self.audit.to_json(), "inferred": list(self.reasons)}

    def __str__(self) -> str:
        from rich.console import Console

        from acclimate.data.audit import render

        console = Console(width=max(72, min(120, shutil.get_terminal_size((100, 24)).columns)))
        with console.capture() as captured:
            for reason in self.reasons:
                console.print(reason, markup=False, highlight=False)
            console.print(render(self.audit))
        return captured.get().rstrip()


def inspect(
    data: Any,
    *,
    label: str | Sequence[str] | None = None,
    model: str | None = None,
    task: str | None = None,
    text_column: str | Sequence[str] | None = None,
    file_column: str | None = None,
    modality: str | None = None,
    column_kinds: Mapping[str, str] | None = None,
    group_column: str | None = None,
    time_column: str | None = None,
    id_column: str | None = None,
    subgroup_column: str | Sequence[str] | None = None,
    domain_column: str | None = None,
    weight_column: str | None = None,
    drop: Sequence[str] = (),
    label_delimiter: str | None = None,
    max_length: int | None = None,
    on_bad: str = "skip",
    private: bool = False,
) -> Inspection:
    """Run the gate alone: how the file was read, which rows can be used, what looks wrong. Nothing is learned."""
    from acclimate.data.audit import audit
    from acclimate.data.columns import guess
    from acclimate.data.read import read

    columns = columns_of(
        label, text_column, group_column, time_column, id_column, subgroup_column, weight_column, drop, domain_column,
        file_column, modality, column_kinds,
    )  # fmt: skip
    table = read(data)
    found = guess(table, columns, None if task is None else task_name(task), label_delimiter)
    measure = None if model is None else measure_with(backbone_for(found.columns, model, {"max_length": max_length}))
    _, report = audit(
        table,
        found.columns,
        found.task,
        on_bad=on_bad,
        label_delimiter=label_delimiter,
        measure=measure,
        private=private,
    )
    return Inspection(report, tuple(found.reasons))
