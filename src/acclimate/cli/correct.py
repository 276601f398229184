"""`acclimate correct`: a person's corrections go into the head of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from acclimate.cli import options
from acclimate.files import json_text
from acclimate.progress import Progress


def correct(
    run: options.Run,
    corrections: Annotated[
        str, typer.Argument(metavar="FILE", help="Rows with the columns that RUN learned from, and the right label.")
    ],
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column of right labels; blank: not corrected. RUN's own when absent."),
    ] = None,
    output_dir: Annotated[
        str | None, typer.Option("-o", "--output-dir", metavar="DIR", help="The new run. RUN-corrected when absent.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take the corrections even where what was known suffers.")
    ] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn from corrections at once: the head is fitted anew on cached features, and what was known is measured."""
    from acclimate.cli import early

    early.files(corrections)

    from acclimate.api.correcting import correct as learn

    done = learn(
        run, corrections, label=label, output_dir=output_dir, force=force,
        quiet=quiet or Progress.on_terminal().quiet,
    )  # fmt: skip
    typer.echo(json_text(done.to_json(), indent=2) if as_json else str(done))
    if done.taken and not as_json:
        typer.echo(f"new run  {done.model.run_dir}\nnext     acclimate predict {done.model.run_dir} NEW.csv")
