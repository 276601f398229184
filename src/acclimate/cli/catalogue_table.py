"""The table that `acclimate models list` and `acclimate datasets list` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def show(columns: Mapping[str, str], rows: Sequence[Mapping[str, object]], folder: Path) -> None:
    """Prints the named columns, key to heading, and below where the folders lie."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # in a file or a pipe there is no edge to fold at
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key, heading in columns.items():
        number = all(isinstance(row[key], float) for row in rows)
        table.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=key == "name")
    for row in rows:
        table.add_row(*(cell(row[key]) for key in columns))
    console.print(table)
    console.print(f"\nIn {folder}; set ACCLIMATE_CACHE to have it elsewhere.", highlight=False, soft_wrap=True)


def cell(value: object) -> str:
    """One cell as text; `here` is yes or nothing, so that what is there stands out."""
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:g}" if isinstance(value, float) else str(value)
