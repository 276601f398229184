"""The commands together, and what becomes of an error.

Exit codes: 0 done; 1 the machine failed (disk full, no permission, a bug); 2 something the user can put right;
75 another process of the same run ended; 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from acclimate import __version__, ranks
from acclimate.cli import (
    cache,
    compare,
    correct,
    datasets_cmd,
    demo,
    evaluate,
    fit,
    inspect,
    methods,
    models_cmd,
    predict,
    report,
    shift,
)
from acclimate.cli.options import Aliased
from acclimate.errors import MachineFailed, UserError
from acclimate.interrupt import Interrupted


class Commands(TyperGroup):
    """The group of all commands: it turns exceptions into one clear block and an exit code."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run the command that was asked for."""
        try:
            result: object = super().invoke(ctx)
            return result
        except UserError as error:
            _say(f"error: {error}")
            raise typer.Exit(1 if isinstance(error, MachineFailed) else 2) from None
        except Interrupted as stop:
            _say(str(stop))
            raise typer.Exit(stop.code) from None
        except KeyboardInterrupt:
            _say("stopped by Ctrl-C; nothing half-written was left under a final name")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise  # the reader went away (`| head`): typer ends the process without a word
        except ranks.Lost as error:
            if ranks.WATCHED not in os.environ:
                _say(f"error: {error}")
            raise typer.Exit(ranks.LOST) from None
        except OSError as error:
            _say(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
            raise typer.Exit(1) from None


def _say(text: str) -> None:
    sys.stdout.flush()
    typer.echo(text, err=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"acclimate {__version__}")
        raise typer.Exit()


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: quick to start, and the same text in every terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def acclimate(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Learn from your own data with a pretrained model, and say what the result is worth.

    Start with: acclimate fit train.csv --label COLUMN
    """


app.command("fit", cls=Aliased)(fit.fit)
app.command("train", cls=Aliased, hidden=True)(fit.fit)
app.command("predict", cls=Aliased)(predict.predict)
app.command("evaluate", cls=Aliased)(evaluate.evaluate)
app.command("score", cls=Aliased, hidden=True)(evaluate.evaluate)
app.command("compare", cls=Aliased)(compare.compare)
app.command("correct", cls=Aliased)(correct.correct)
app.command("report", cls=Aliased)(report.report)
app.command("inspect", cls=Aliased)(inspect.inspect)
app.command("shift", cls=Aliased)(shift.shift)
app.command("methods", cls=Aliased)(methods.methods)
app.command("demo", cls=Aliased)(demo.demo)
app.add_typer(models_cmd.app, name="models", help="Pretrained models that ship inside registry packages.")
app.add_typer(datasets_cmd.app, name="datasets", help="Data sets that ship inside registry packages.")
app.add_typer(cache.app, name="cache")


def main() -> None:
    """The entry point of the `acclimate` command."""
    # Threads that wait for each other spin by default. Where another program holds a core, that slows training tenfold;
    # waking up after a short spin costs nothing measurable where none does. Read when torch is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # Products in bf16 keep code for every shape of batch, in oneDNN and once more in what stands between it and
    # PyTorch: 1,024 of them each, if nothing is said, which are hundreds of megabytes.
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")
    app(prog_name="acclimate")
