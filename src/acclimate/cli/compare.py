"""`acclimate compare`: several runs on the same rows."""

from __future__ import annotations

from typing import Annotated

import typer

from acclimate.cli import options
from acclimate.errors import UserError
from acclimate.files import json_text


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN...", help="Two or more folders; the first is compared to.")
    ],
    data: Annotated[str, typer.Option("--data", "--test-data", metavar="FILE", help="Labelled rows to judge them on.")],
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="The metric to compare by. The first run's own when absent.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Differences on the same rows, with intervals; "not decidable" where an interval covers 0."""
    if len(runs) < 2:
        raise UserError(f"one run is given, {runs[0]!r}; name at least two to compare")

    from acclimate.cli import early

    early.files(data)

    from acclimate import api

    comparison = api.compare(runs, data, metric=metric)
    typer.echo(json_text(comparison.to_json(), indent=2) if as_json else str(comparison))
