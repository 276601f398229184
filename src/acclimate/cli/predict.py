"""`acclimate predict`: one row out for every row in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acclimate.cli import options
from acclimate.cli.write import check, free_names, write
from acclimate.errors import UserError, plural
from acclimate.files import json_text, write_text
from acclimate.progress import Progress


def predict(
    run: options.Run,
    new: Annotated[
        str | None, typer.Argument(metavar="NEW", help="The rows to predict, with the columns that it learned from.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help=".csv, .tsv, .jsonl or .parquet; - prints CSV. In RUN when absent."
        ),
    ] = None,
    conformal: Annotated[
        float | None,
        typer.Option(metavar="LEVEL", min=0, max=1, help="Add sets that hold the truth this often, for example 0.9."),
    ] = None,
    abstain_below: Annotated[
        float | None,
        typer.Option(metavar="P", min=0, max=1, help="Leave the prediction blank where the confidence is lower."),
    ] = None,
    adapt: options.Adapt = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it is there.")] = False,
    test_data: Annotated[str | None, typer.Option("--test-data", hidden=True)] = None,
) -> None:
    """Write NEW's own columns, then prediction, confidence and p_<class>: one row for each of NEW's, in order."""
    source = options.one_of("NEW", new, "--test-data", test_data)
    target = Path(run, f"predictions-{Path(source).stem}.csv") if output is None else Path(output)
    if output != "-" and target.is_file() and not overwrite:
        raise UserError(f"{str(target)!r} is already there; add --overwrite to replace it, or name another with -o")

    from acclimate.cli import early

    early.files(source)

    from acclimate import api
    from acclimate.data.account import how_read

    model = api.load(run)
    model.progress = Progress.on_terminal()
    found = model.predict_parts(source, conformal=conformal, abstain_below=abstain_below, adapt=adapt)
    table = found.table
    for line in found.said:
        typer.echo(f"note: {source}: {line}", err=True)
    if table.facts.get("encoding_guessed"):
        typer.echo(f"note: {source} was read as {how_read(table.facts)}", err=True)
    names = free_names(table.columns, found.kinds)
    for old, name in names.items():
        if old != name:
            typer.echo(f"note: {source} has a column {old!r} already; the new one is {name!r}", err=True)
    kinds = {names[old]: kind for old, kind in found.kinds.items()}
    parts = ({names[old]: values for old, values in part.items()} for part in found.parts)
    if found.files and output == "-":
        raise UserError("what this model answers is files, which lie beside a table; name the table with -o")
    if output != "-":
        check(target)  # before files are written beside it
    for name, content in found.files.items():
        target.parent.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        target.parent.joinpath(name).write_bytes(content)
    write(table.columns, kinds, parts, None if output == "-" else target)
    for line in () if found.told is None else found.told.lines():
        typer.echo(line, err=True)
    if output != "-" and found.told is not None:
        beside = target.with_name(f"{target.name}.adapted.json")
        write_text(beside, json_text(found.told.to_json(), indent=2) + "\n")
        typer.echo(f"how it was adapted: {beside}", err=True)
    if output != "-":
        typer.echo(f"{plural(len(table), 'row')} in, {plural(len(table), 'row')} out: {target}", err=True)
