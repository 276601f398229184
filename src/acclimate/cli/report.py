"""`acclimate report`: write the report of a run anew."""

from __future__ import annotations

from pathlib import Path

import typer

from acclimate.cli import options


def report(run: options.Run) -> None:
    """Write report.html and report.md into RUN."""
    from acclimate import api

    model = api.load(run)
    for name in ("report.html", "report.md"):
        typer.echo(str(model.report(Path(run, name))))
