"""`acclimate inspect`: the gate alone."""

from __future__ import annotations

from typing import Annotated

import typer

from acclimate.cli import options
from acclimate.files import json_text


def inspect(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV, TSV, Parquet, JSONL, JSON, or a folder of pictures or sounds.")
    ],
    label: options.Labels = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Look at the rows as this model would read them: texts or sounds that are too long, another kind.",
        ),
    ] = None,
    task: options.Task = None,
    text_column: options.TextColumn = None,
    file_column: options.FileColumn = None,
    modality: options.Modality = None,
    column_kind: options.ColumnKind = None,
    group_column: options.GroupColumn = None,
    time_column: options.TimeColumn = None,
    id_column: options.IdColumn = None,
    subgroup_column: options.SubgroupColumn = None,
    domain_column: options.DomainColumn = None,
    rate: options.Rate = None,
    weight_column: options.WeightColumn = None,
    drop: options.Drop = None,
    label_delimiter: options.LabelDelimiter = None,
    max_length: options.MaxLength = None,
    max_seconds: options.MaxSeconds = None,
    image_size: options.ImageSize = None,
    on_bad: options.OnBad = "skip",
    split: options.Split = None,
    private: options.Private = False,
    as_json: options.AsJson = False,
) -> None:
    """Show how FILE is read, which rows can be used, and what looks wrong with them. Nothing is learned."""
    from acclimate.cli import early

    early.files(file)

    from acclimate import api

    inspection = api.inspect(
        file,
        label=options.one_or_many(label),
        model=model,
        task=task,
        text_column=options.one_or_many(text_column),
        file_column=file_column,
        modality=modality,
        column_kinds=options.kinds(column_kind),
        group_column=group_column,
        time_column=time_column,
        id_column=id_column,
        subgroup_column=options.one_or_many(subgroup_column),
        domain_column=domain_column,
        rate=rate,
        weight_column=weight_column,
        drop=tuple(drop or ()),
        label_delimiter=label_delimiter,
        max_length=max_length,
        max_seconds=max_seconds,
        image_size=image_size,
        on_bad=on_bad,
        split=split,
        private=private,
    )
    typer.echo(json_text(inspection.to_json(), indent=2) if as_json else str(inspection))
