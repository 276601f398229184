"""What `acclimate models` and `acclimate datasets` share: the list, and fetching by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from acclimate.files import json_text

WIDE = 130  # columns that the table needs; on a narrower screen each entry is a paragraph


def show(columns: Mapping[str, str], rows: Sequence[Mapping[str, object]], folder: Path, as_json: bool) -> None:
    """Prints the named columns, key to heading, and below where the folders lie; or the rows as they are, as JSON."""
    import typer
    from rich.console import Console

    if as_json:
        typer.echo(json_text(list(rows), indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # in a file or a pipe there is no edge to fold at
    (_table if console.width >= WIDE else _paragraphs)(console, columns, rows)
    console.print(f"\nIn {folder}; set ACCLIMATE_CACHE to have it elsewhere.", highlight=False, soft_wrap=True)


def pull(
    names: Sequence[str],
    check: Callable[[str], object],
    fetch: Callable[[str, Callable[[str], None]], Path],
    as_json: bool,
) -> None:
    """Fetch each and print its folder. A wrong name is told before the first download, not after it."""
    import typer

    for name in names:
        check(name)
    folders = {name: str(fetch(name, lambda text: typer.echo(text, err=True))) for name in names}
    typer.echo(json_text(folders, indent=2) if as_json else "\n".join(folders.values()))


def _table(console: object, columns: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    assert isinstance(console, Console)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key, heading in columns.items():
        number = all(isinstance(row[key], float) for row in rows)
        table.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=key == "name")
    for row in rows:
        table.add_row(*(cell(row[key]) for key in columns))
    console.print(table)


def _paragraphs(console: object, columns: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> None:
    """Name and what it is; below, the rest with its headings."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    assert isinstance(console, Console)
    for row in rows:
        here = ("  here", "green") if row.get("here") else ""
        console.print(Text.assemble((str(row["name"]), "bold"), here))
        console.print(Padding(Text(str(row["notes"])), (0, 0, 0, 2)))
        rest = [f"{columns[key]} {cell(row[key])}" for key in columns if key not in ("name", "here", "notes")]
        console.print(Padding(Text(" · ".join(rest), style="dim"), (0, 0, 0, 2)))


def cell(value: object) -> str:
    """One cell as text; `here` is yes or nothing, so that what is there stands out."""
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:g}" if isinstance(value, float) else str(value)
