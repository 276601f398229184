"""Options that several commands share, and the other names under which users know them."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperCommand

from acclimate.errors import UserError

# Names from other tools. An alias is followed only where the command has the option that it stands for.
ALIASES = {
    "--train-file": "--train-data",
    "--train-dataset": "--train-data",
    "--data-path": "--train-data",
    "--dataset": "--train-data",
    "--valid-file": "--valid-data",
    "--validation-file": "--valid-data",
    "--validation-data": "--valid-data",
    "--tuning-data": "--valid-data",
    "--eval-dataset": "--valid-data",
    "--test-file": "--test-data",
    "--test-dataset": "--test-data",
    "--label-column": "--label",
    "--label-column-name": "--label",
    "--label-col": "--label",
    "--target": "--label",
    "--target-column": "--label",
    "--text": "--text-column",
    "--text-col": "--text-column",
    "--text-column-name": "--text-column",
    "--input-field": "--text-column",
    "--image-column": "--file-column",
    "--image-col": "--file-column",
    "--audio-column": "--file-column",
    "--path-column": "--file-column",
    "--label-delim": "--label-delimiter",
    "--model-name-or-path": "--model",
    "--base-model": "--model",
    "--backbone": "--model",
    "--checkpoint-name": "--model",
    "--problem-type": "--task",
    "--task-type": "--task",
    "--eval-metric": "--metric",
    "--scoring": "--metric",
    "--metric-for-best-model": "--metric",
    "--finetuning-type": "--strategy",
    "--alignment": "--align",
    "--trade-off": "--lambda",
    "--lr": "--learning-rate",
    "--epochs": "--num-train-epochs",
    "--max-epochs": "--num-train-epochs",
    "--num-epochs": "--num-train-epochs",
    "--per-device-train-batch-size": "--batch-size",
    "--max-seq-length": "--max-length",
    "--max-seq-len": "--max-length",
    "--cutoff-len": "--max-length",
    "--random-state": "--seed",
    "--max-time": "--time-limit",
    "--time-limit-s": "--time-limit",
    "--path": "--output-dir",
    "--save-path": "--output-dir",
    "--project-name": "--output-dir",
    "--output": "--output-dir",
    "--dataloader-num-workers": "--num-workers",
}


class Aliased(TyperCommand):
    """A command that also understands the names in `ALIASES`, and underscores where its options have hyphens."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Put the command's own names in place of the aliases, then parse."""
        own = {name for parameter in self.params for name in parameter.opts}
        return super().parse_args(ctx, native(args, own))


def native(args: list[str], own: set[str]) -> list[str]:
    """The arguments with aliases replaced by the names in `own`; what follows a bare `--` is left alone.

    >>> native(["--lr=1e-4", "--label_column", "y"], {"--learning-rate", "--label"})
    ['--learning-rate=1e-4', '--label', 'y']
    """
    renamed: list[str] = []
    for at, arg in enumerate(args):
        if arg == "--":
            return renamed + args[at:]
        name, equals, value = arg.partition("=")
        hyphened = name.replace("_", "-")
        if name.startswith("--") and name not in own:
            name = hyphened if hyphened in own else ALIASES.get(hyphened, name)
        renamed.append(name + equals + value if name in own else arg)
    return renamed


Label = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The column to learn. Guessed, and said, when absent.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="The column to learn; guessed, and said, when absent. Repeated: yes/no questions, or a task each.",
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="classify, ordinal, multilabel or regress; of several labels stars=regress,... Inferred, and said, when "
        "absent.",
    ),
]
TextColumn = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="The text to learn from; give it twice for two texts read together."),
]
FileColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The paths of pictures or sounds, where inputs are files named in a table; with --text-column both are "
        "read, and all other columns.",
    ),
]
Modality = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What the inputs are: text, image, audio, series, table or molecule. Told by the data when absent.",
    ),
]
ColumnKind = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=KIND",
        help="What a column of a table holds: number, category, boolean, date, text, image, audio, or none to leave "
        "it out. May be repeated.",
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(metavar="HZ", help="Steps a second of series (sensors), where their files do not say."),
]
GroupColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Patient, customer, student: rows of one group stay on one side of a split."),
]
TimeColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="When a row was made: train on the past, test on the future.")
]
IdColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Names the row; never learned from.")]
SubgroupColumn = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Report the numbers for each of its values; never learned from. Repeatable."),
]
DomainColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Where a row comes from (hospital, site, year): each is judged by what was learned from the others.",
    ),
]
WeightColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="How much a row counts.")]
Drop = Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Leave this column alone. Repeatable.")]
LabelDelimiter = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="What separates the classes of one multi-label cell, for example ';'."),
]
OnBad = Annotated[
    str, typer.Option(metavar="POLICY", help="skip: leave rows out that cannot be used, and list them. fail: stop.")
]
Truncation = Annotated[
    str,
    typer.Option(
        metavar="POLICY",
        help="For texts and sounds beyond what the model reads at once: head, head-tail (texts), chunk or fail.",
    ),
]
MaxLength = Annotated[
    int | None, typer.Option(metavar="TOKENS", min=1, help="Tokens read of a text. The model's own limit when absent.")
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.1,
        help="Seconds read of a sound; Whisper fills shorter ones up to it with silence. The model's own (30) when "
        "absent: most of the silence is then read in groups.",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        min=8,
        help="Side at which pictures are read: smaller is quicker, larger sees finer things. The model's own when "
        "absent.",
    ),
]
Split = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of molecules: scaffold (the usual one, where rdkit is there) or random."),
]
Private = Annotated[
    bool,
    typer.Option("--private", help="No raw input in the report, the audit or the log; folders readable by you alone."),
]
Adapt = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:KEY=VALUE,...]",
        help="Adapt to these very rows, without labels, before answering: t3a, lame, adabn or tent.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The folder that `acclimate fit` wrote.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


def one_of(argument: str, first: str | None, option: str, second: str | None) -> str:
    """The file given as an argument or by its option: one of the two, not both."""
    if first is not None and second is not None:
        raise UserError(f"{argument} is given twice: {first!r}, and {second!r} by {option}; keep one")
    value = first if first is not None else second
    if value is None:
        raise UserError(f"no file is given; name it as {argument}")
    return value


def kinds(pairs: list[str] | None) -> dict[str, str] | None:
    """Column names and what they hold, from COLUMN=KIND."""
    found = {}
    for pair in pairs or ():
        name, equals, kind = pair.rpartition("=")
        if not equals or not name:
            raise UserError(f"cannot read the column kind {pair!r}; write COLUMN=KIND, for example cp=category")
        found[name] = kind
    return found or None


def numbers(option: str, pairs: list[str] | None) -> dict[str, float] | None:
    """Column names and numbers, from COLUMN=NUMBER."""
    found = {}
    for pair in pairs or ():
        name, equals, value = pair.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise UserError(f"cannot read {option} {pair!r}; write COLUMN=NUMBER, for example stars=0.5")
    return found or None


def one_or_many(values: list[str] | None) -> str | tuple[str, ...] | None:
    """Nothing, one name, or several, as the Python functions take them."""
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)
