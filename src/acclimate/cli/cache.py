"""`acclimate cache`: what lies in the cache, and removing it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from acclimate.cli import options
from acclimate.errors import UserError, unknown
from acclimate.files import json_text

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
REST = ("models", "datasets", "downloads")  # beside features


@app.callback(invoke_without_command=True)
def cache(
    ctx: typer.Context,
    limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Keep features within this size from now on: 5GB, 500MB, 0 for no limit."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the features that are kept: of which model, how many rows, their size, and when they were last used."""
    if ctx.invoked_subcommand is not None:
        if limit is not None:
            raise UserError(f"--limit stands alone: acclimate cache --limit {limit}")
        if as_json:
            raise UserError(f"--json stands after the command: acclimate cache {ctx.invoked_subcommand} --json")
        return
    from acclimate.catalogue import cache as places
    from acclimate.catalogue import feature_folders, store

    if limit is not None:
        places.set_limit(limit)
    rows, most = feature_folders.listing(), places.limit()
    other = {name: store.size(places.root() / name) for name in REST}
    if as_json:
        total = {"limit": most, "bytes": sum(row["bytes"] for row in rows)}
        answer = {"folder": str(places.root()), "features": rows, **total, "others": other}
        typer.echo(json_text(answer, indent=2))
        return
    _table(rows)
    taken = sum(row["bytes"] for row in rows)
    within = f" of at most {size(most)}" if most else ""
    rest = ", ".join(f"{name} {size(held)}" for name, held in other.items())
    typer.echo(f"features {size(taken)}{within}; {rest}")
    if limit is not None and places.VARIABLE in os.environ:
        typer.echo(f"The limit was kept, but {places.VARIABLE}={os.environ[places.VARIABLE]} comes before it.")
    if most and taken > most:
        typer.echo("More than the limit: the next run that adds features removes those that were used longest ago.")
    typer.echo(f"In {places.root()}; `acclimate cache clear` frees the features.")


@app.command("clear")
def clear(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Models, or fingerprints, as listed. All when absent."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only what was not used for so long, for example 30d or 12h.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also fetched models, data sets and downloads; they can be fetched again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Remove kept features, and say what was freed. They are computed again when they are needed."""
    from acclimate.catalogue import cache as places

    if everything and (names or older_than):
        raise UserError("--all removes everything; leave it out to choose by NAME or --older-than")
    rows = _chosen(names or [], older_than)
    rest = [f for part in REST for f in _folders(places.root() / part)] if everything else []
    if not rows and not rest:
        typer.echo("{}" if as_json else "nothing to remove")
        return
    _ask(rows, rest, yes)
    freed: dict[str, int | None] = {}
    for row in rows:
        name = f"{row['name']} {row['fingerprint']}"  # whole: fp32 and fp16 of one model begin alike
        freed[name] = _remove_features(row["fingerprint"])
    freed |= {f"{folder.parent.name}/{folder.name}": _remove_fetched(folder) for folder in rest}
    if as_json:
        typer.echo(json_text({name: {"freed_bytes": taken} for name, taken in freed.items()}, indent=2))
        return
    for name, taken in freed.items():
        typer.echo(f"{name}: in use by a process, left" if taken is None else f"{name}: {size(taken)} freed")
    if len(freed) > 1:
        typer.echo(f"{size(sum(taken or 0 for taken in freed.values()))} freed together")


def _chosen(names: list[str], older_than: str | None) -> list[dict[str, Any]]:
    from acclimate.catalogue import feature_folders
    from acclimate.settings import parse_duration

    rows = feature_folders.listing()
    for name in names:
        if not any(_is(row, name) for row in rows):
            raise unknown("name in the cache", name, dict.fromkeys(row["name"] for row in rows))
    days = 0.0 if older_than is None else parse_duration(older_than) / 86_400
    return [row for row in rows if row["days"] >= days and (not names or any(_is(row, name) for name in names))]


def _is(row: dict[str, Any], name: str) -> bool:
    return (
        row["name"].split(", ")[0] == name
        or row["name"] == name
        or (len(name) >= 4 and row["fingerprint"].startswith(name))
    )


def _ask(rows: list[dict[str, Any]], rest: list[Path], yes: bool) -> None:
    if yes:
        return
    total = size(sum(row["bytes"] for row in rows))
    what = f"the features of {', '.join(dict.fromkeys(row['name'] for row in rows))} ({total})" if rows else ""
    what += (" and " if rows and rest else "") + (", ".join(f"{f.parent.name}/{f.name}" for f in rest))
    if not sys.stdin.isatty():
        raise UserError(f"this would remove {what}; add --yes to remove it without being asked")
    typer.confirm(f"Remove {what}?", abort=True)


def _folders(place: Path) -> list[Path]:
    return sorted(f for f in place.iterdir() if f.is_dir() and not f.name.startswith(".")) if place.is_dir() else []


def _remove_features(fingerprint: str) -> int | None:
    from acclimate.catalogue import cache as places
    from acclimate.catalogue import feature_folders

    return feature_folders.remove(places.features() / fingerprint)


def _remove_fetched(folder: Path) -> int:
    from acclimate.catalogue import store

    return store.remove(folder)


def _table(rows: list[dict[str, Any]]) -> None:
    """At most 80 columns, whatever the names are: they are cut, and --json has them whole."""
    if not rows:
        typer.echo("no features are kept")
        return
    typer.echo(f"{'model':<24} {'fingerprint':<11} {'rows':>9} {'values':>9} {'size':>8}  last used")
    for row in rows:
        name = row["name"] if len(row["name"]) <= 24 else row["name"][:23] + "…"
        values = f"{row['width'] or '?'} {row['dtype'] or ''}"
        line = f"{name:<24} {row['fingerprint'][:8]:<11} {row['rows']:>9,} {values:>9} {size(row['bytes']):>8}"
        typer.echo(f"{line}  {ago(row['days'])}")
    typer.echo()


def size(taken: float) -> str:
    """Three digits and a unit.

    >>> size(0), size(15_360), size(2_345_678), size(10_000_000_000)
    ('0 kB', '15.4 kB', '2.35 MB', '10 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if taken >= unit:
            return f"{taken / unit:.3g} {name}"
    return f"{taken / 1e3:.3g} kB"


def ago(days: float) -> str:
    """In words.

    >>> ago(0.001), ago(0.2), ago(1.5), ago(40)
    ('just now', '5 h ago', '1 d ago', '40 d ago')
    """
    if days < 1 / 24:
        return "just now"
    return f"{days * 24:.0f} h ago" if days < 1 else f"{int(days)} d ago"
