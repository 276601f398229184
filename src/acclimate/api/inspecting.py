"""`inspect`: the gate alone; and which column plays which part."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acclimate.api.prepare import Gate
from acclimate.api.reading import measure_with
from acclimate.data.columns import task_name
from acclimate.data.kinds import named
from acclimate.data.labels import STRUCTURED
from acclimate.data.rows import Columns
from acclimate.errors import UserError


def many(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Nothing, one or several names as a tuple."""
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def columns_of(
    *,
    label: str | Sequence[str] | None = None,
    text: str | Sequence[str] | None = None,
    group: str | None = None,
    time: str | None = None,
    id: str | None = None,
    subgroup: str | Sequence[str] | None = None,
    weight: str | None = None,
    drop: Sequence[str] = (),
    domain: str | None = None,
    file: str | None = None,
    modality: str | None = None,
    kinds: Mapping[str, str] | None = None,
    rate: float | None = None,
) -> Columns:
    """Which column plays which part, as the arguments of `fit`, `inspect` and `shift` name them."""
    labels = many(label)
    return Columns(
        label=labels[0] if len(labels) == 1 else labels or None,
        text=many(text),
        group=group,
        time=time,
        id=id,
        subgroup=many(subgroup),
        weight=weight,
        drop=many(drop),
        domain=domain,
        file=file,
        kind=kind_named(modality, kinds),
        features=tuple(kinds or ()),
        holds=tuple((kinds or {}).values()),
        rate=rate_of(rate),
    )


def rate_of(rate: float | None) -> float | None:
    """Steps a second as the user says, or an error in words."""
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise UserError(f"rate {rate!r} is how many steps of a series a second has: give a number above 0")
    return rate


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
    rate: float | None = None,
    weight_column: str | None = None,
    drop: Sequence[str] = (),
    label_delimiter: str | None = None,
    max_length: int | None = None,
    max_seconds: float | None = None,
    image_size: int | None = None,
    on_bad: str = "skip",
    split: str | None = None,
    private: bool = False,
) -> Inspection:
    """Run the gate alone: how the file was read, which rows can be used, what looks wrong. Nothing is learned."""
    from acclimate.api.loading import backbone_for
    from acclimate.data.audit import audit
    from acclimate.data.columns import guess
    from acclimate.data.read import read
    from acclimate.data.series_tables import gathered

    columns = columns_of(
        label=label, text=text_column, group=group_column, time=time_column, id=id_column, subgroup=subgroup_column,
        weight=weight_column, drop=drop, domain=domain_column, file=file_column, modality=modality, kinds=column_kinds,
        rate=rate,
    )  # fmt: skip
    name = None if task is None else task_name(task)
    if name in STRUCTURED:
        from acclimate.structured import task_named
        from acclimate.structured.base import Asked

        _, report = task_named(name).read(data, Asked(columns, private), "train")
        return Inspection(report, ())
    table = gathered(read(data), columns)
    found = guess(table, columns, name, label_delimiter, private=private)
    gate = Gate(on_bad, label_delimiter, private, split)
    measure, reasons = None, list(found.reasons)
    if model is not None:
        backbone = backbone_for(found.columns, model, max_length=max_length, seconds=max_seconds, image_size=image_size)
        measure = measure_with(backbone)
        reasons += [f"pictures are read at {backbone.read_at}"] if backbone.read_at else []
    _, report = audit(
        table,
        found.columns,
        found.task,
        on_bad=gate.on_bad,
        label_delimiter=gate.label_delimiter,
        measure=measure,
        private=gate.private,
        split=gate.split,
    )
    return Inspection(report, tuple(reasons))
