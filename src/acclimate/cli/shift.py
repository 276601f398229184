"""`acclimate shift`: how far one set of rows is from another."""

from __future__ import annotations

from typing import Annotated

import typer

from acclimate.cli import options
from acclimate.files import json_text


def shift(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Rows that a model learns from.")],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Rows from where it will be used; labels are not read.")
    ],
    label: options.Label = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The pretrained model whose features are compared.")
    ] = None,
    text_column: options.TextColumn = None,
    file_column: options.FileColumn = None,
    modality: options.Modality = None,
    column_kind: options.ColumnKind = None,
    rate: options.Rate = None,
    group_column: options.GroupColumn = None,
    max_length: options.MaxLength = None,
    max_seconds: options.MaxSeconds = None,
    image_size: options.ImageSize = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Of everything random.")] = 0,
    on_bad: options.OnBad = "skip",
    private: options.Private = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write a report: .html with a picture, or .md.")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Show how far TARGET is from SOURCE: can they be told apart, by what, and have class shares moved.

    No label of TARGET is looked at.
    """
    from acclimate.cli import early

    early.files(source, target)

    from acclimate.api.shifting import measure_shift

    found = measure_shift(
        source,
        target,
        label=label,
        model=model,
        text_column=options.one_or_many(text_column),
        file_column=file_column,
        modality=modality,
        column_kinds=options.kinds(column_kind),
        rate=rate,
        group_column=group_column,
        max_length=max_length,
        max_seconds=max_seconds,
        image_size=image_size,
        seed=seed,
        on_bad=on_bad,
        private=private,
        quiet=quiet,
    )
    if output is not None:
        found.report(output)
    typer.echo(json_text(found.to_json(), indent=2) if as_json else str(found))
    if output is not None and not as_json:
        typer.echo(f"report: {output}")
