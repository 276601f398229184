"""`acclimate evaluate`: the numbers of a run on labelled rows."""

from __future__ import annotations

from typing import Annotated

import typer

from acclimate.cli import options
from acclimate.errors import plural
from acclimate.files import json_text
from acclimate.progress import Progress


def evaluate(
    run: options.Run,
    test: Annotated[
        str | None, typer.Argument(metavar="TEST", help="Labelled rows that it has not learned from.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="The metric to put first. The one RUN was chosen by when absent.")
    ] = None,
    adapt: options.Adapt = None,
    as_json: options.AsJson = False,
    test_data: Annotated[str | None, typer.Option("--test-data", hidden=True)] = None,
) -> None:
    """Judge RUN on the labelled rows of TEST: each metric with its interval and n, and the baselines beside it (of
    boxes, transcripts ... they are learned anew from RUN's training rows, where these are still there)."""
    source = options.one_of("TEST", test, "--test-data", test_data)

    from acclimate.cli import early

    early.files(source)

    from acclimate import api

    model = api.load(run)
    model.progress = Progress.on_terminal()
    scores, beside = model.evaluation(source, metric=metric, adapt=adapt)
    if as_json:
        typer.echo(json_text({**scores.to_json(), **beside}, indent=2))
        return
    from acclimate.cli.show import scores_text

    for line in beside.get("adapted", {}).get("notes", ()):
        typer.echo(f"note: {line}")
    typer.echo(scores_text(scores, beside["baseline"]))
    if beside.get("uses", 1) > 1:
        typer.echo(
            f"{source} has been used {plural(beside['uses'], 'time')} to judge this run; choosing after a look "
            f"flatters it."
        )
