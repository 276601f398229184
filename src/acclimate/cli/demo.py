"""`acclimate demo`: the main job on real data with real pretrained weights."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    output_dir: Annotated[
        str | None,
        typer.Option(
            "--output-dir", "-o", metavar="RUN", help="The folder to write. A new dated one under runs/ when absent."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rows and strategies: a first look.")] = False,
) -> None:
    """Fetch a small model and sentiment data, transfer, and show where it helps and where it does not."""
    from acclimate.demo import run

    run(output_dir, quick)
