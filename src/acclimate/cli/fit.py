"""`acclimate fit`: rows in, a model and a report out."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from acclimate import ranks
from acclimate.cli import options
from acclimate.cli.processes import launch
from acclimate.errors import UserError
from acclimate.settings import parse_duration, parse_settings


def fit(
    train: Annotated[
        str | None,
        typer.Argument(
            metavar="TRAIN", help="CSV, TSV, Parquet, JSONL, JSON, NPZ, or a folder of pictures, sounds or series."
        ),
    ] = None,
    label: options.Labels = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A name of `acclimate models list`, a Hugging Face name, timm:NAME or a folder. When absent minilm "
            "for texts, mobilenetv2 for pictures, whisper-tiny for sounds, rxn-albert for molecules, series-cnn "
            "for series, columns for tables (mlp is a network on them; columns+minilm+mobilenetv2 reads text and "
            "pictures, too).",
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(metavar="NAME", help="How to transfer; `acclimate methods` lists them. auto: measure and choose."),
    ] = "auto",
    candidates: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="What auto compares, between commas: knn,linear_probe,lora,full."),
    ] = None,
    task: options.Task = None,
    valid_data: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows to choose settings by. Split from TRAIN when absent.")
    ] = None,
    test_data: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows that give the number. Held out from TRAIN when absent.")
    ] = None,
    target_data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Rows from where it will be used, to adapt to. Labels there are not read."),
    ] = None,
    target_labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="A few labelled rows from where it will be used, to learn from.")
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="The loss between training and target rows: mcc, dann, coral:..., or a sum, mcc+0.5*coral. On frozen "
            "features, or as a strategy that tunes (full, lora, bitfit ...) moves them.",
        ),
    ] = None,
    lambda_: Annotated[
        str | None,
        typer.Option(
            "--lambda",
            metavar="VALUE",
            help="How much that loss (or that of self_train) weighs: a number, rise, rise:MAX, or auto: along a path, "
            "without labels.",
        ),
    ] = None,
    pretrain: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="Before a strategy tunes (full, lora ...): mlm goes on guessing hidden words of the target's texts.",
        ),
    ] = None,
    hold: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:WEIGHT]",
            help="What ties a tuned encoder to the pretrained one: l2_sp:0.01, bss, features, lwf; a sum: l2_sp+bss.",
        ),
    ] = None,
    text_column: options.TextColumn = None,
    file_column: options.FileColumn = None,
    modality: options.Modality = None,
    column_kind: options.ColumnKind = None,
    group_column: options.GroupColumn = None,
    time_column: options.TimeColumn = None,
    id_column: options.IdColumn = None,
    subgroup_column: options.SubgroupColumn = None,
    domain_column: options.DomainColumn = None,
    rate: options.Rate = None,
    weight_column: options.WeightColumn = None,
    drop: options.Drop = None,
    label_delimiter: options.LabelDelimiter = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to choose by; `acclimate methods` lists them.")
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When to stop: 90, 10m, 1h30m. None when absent; auto stops at 10m."),
    ] = None,
    output_dir: Annotated[
        str | None,
        typer.Option(
            "--output-dir", "-o", metavar="RUN", help="The folder to write. A new dated one under runs/ when absent."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace RUN if it is there.")] = False,
    horizon: Annotated[
        int | None,
        typer.Option(metavar="STEPS", min=1, help="For --task forecast: how many steps ahead. 24 when absent."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="The strategy's own when absent.")
    ] = None,
    num_train_epochs: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Passes over the rows. The strategy's own when absent.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="ROWS", min=1, help="Rows of one step.")] = None,
    max_length: options.MaxLength = None,
    max_seconds: options.MaxSeconds = None,
    image_size: options.ImageSize = None,
    truncation: options.Truncation = "head",
    pooling: Annotated[
        str | None, typer.Option(metavar="NAME", help="mean, cls, pooler or last. The model's own when absent.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How two text columns are read: apart (usual for frozen ones), or joint, as one sequence.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of frozen text models: fp32; or sooner, with fewer digits: int8, bf16, fp16. The cost is measured.",
        ),
    ] = None,
    class_weight: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help='balanced, or JSON: \'{"spam": 3, "ham": 1}\'.')
    ] = None,
    class_order: Annotated[
        str | None, typer.Option(metavar="CLASSES", help="For --task ordinal, lowest first: low,medium,high, or JSON.")
    ] = None,
    label_weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=NUMBER", help="Of several label columns: what one weighs in the loss. Repeatable."
        ),
    ] = None,
    single_task: Annotated[
        bool | None,
        typer.Option(
            "--single-task/--no-single-task",
            help="Of several label columns: train each alone, too, to show the gain or loss. When absent: if that is "
            "soon done.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting of the strategy. Repeatable."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Of classes of texts: also ask this language model (smollm2), without and with examples, to compare.",
        ),
    ] = None,
    positive: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The class that a threshold is for, where there are two.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="P", min=0, max=1, help="Predict the positive class from this probability on."),
    ] = None,
    cost: Annotated[
        str | None, typer.Option(metavar="FILE", help='JSON: what errors cost, {"truth": {"predicted": cost}}.')
    ] = None,
    specificity: Annotated[
        float | None, typer.Option(metavar="P", min=0, max=1, help="Choose the threshold that keeps this specificity.")
    ] = None,
    alert_budget: Annotated[
        float | None,
        typer.Option(metavar="SHARE", min=0, max=1, help="Choose the threshold that flags this share of rows."),
    ] = None,
    prevalence: Annotated[
        float | None, typer.Option(metavar="P", min=0, max=1, help="Report the predictive value at this prevalence.")
    ] = None,
    on_bad: options.OnBad = "skip",
    split: options.Split = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="NUMBER",
            help="The same seed gives the same result (long tuning too, with --set mixed_precision=no).",
        ),
    ] = 0,
    num_workers: Annotated[int, typer.Option(metavar="NUMBER", min=0, help="Processes that prepare batches.")] = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the unfinished RUN, the newest under runs/ when none is named. TRAIN may be absent.",
        ),
    ] = False,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="At least so long between checkpoints of the training; 0: after every step."
        ),
    ] = 30.0,
    feature_dtype: Annotated[
        str,
        typer.Option(metavar="NAME", help="Of features kept on disk: fp32, or fp16 (half the space, 3 digits)."),
    ] = "fp32",
    processes: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, help="Share training steps among so many processes here.")
    ] = 1,
    private: options.Private = False,
    quiet: options.Quiet = False,
    train_data: Annotated[str | None, typer.Option("--train-data", hidden=True)] = None,
) -> None:
    """Learn from TRAIN and write a folder with the model, the numbers and a report."""
    if processes > 1 and not ranks.launched():
        raise typer.Exit(launch(processes, sys.argv[1:]))
    alone = resume and train is None and train_data is None
    source = None if alone else options.one_of("TRAIN", train, "--train-data", train_data)
    seconds = None if time_limit is None else parse_duration(time_limit)
    settings = parse_settings(setting or ())
    costs = None if cost is None else _json_file(cost)
    weights = _class_weight(class_weight)
    order = None if class_order is None else _class_order(class_order)

    from acclimate.cli import early
    from acclimate.data.rows import Columns

    early.strategy(strategy, task)
    if source is not None:
        early.files(source, valid_data, test_data, target_data, target_labels)
        wanted = Columns(
            label=options.one_or_many(label),
            text=tuple(text_column or ()),
            group=group_column,
            time=time_column,
            id=id_column,
            subgroup=tuple(subgroup_column or ()),
            weight=weight_column,
            drop=tuple(drop or ()),
            domain=domain_column,
            file=file_column,
        )
        early.columns(source, wanted, task)

    from acclimate import api

    fitted = api.fit(
        source,
        label=options.one_or_many(label),
        model=model,
        strategy=strategy,
        task=task,
        valid_data=valid_data,
        test_data=test_data,
        target_data=target_data,
        target_labels=target_labels,
        align=align,
        lambda_=lambda_,
        pretrain=pretrain,
        hold=hold,
        text_column=options.one_or_many(text_column),
        file_column=file_column,
        modality=modality,
        column_kinds=options.kinds(column_kind),
        group_column=group_column,
        time_column=time_column,
        id_column=id_column,
        subgroup_column=options.one_or_many(subgroup_column),
        domain_column=domain_column,
        rate=rate,
        weight_column=weight_column,
        drop=tuple(drop or ()),
        metric=metric,
        time_limit=seconds,
        output_dir=output_dir,
        overwrite=overwrite,
        seed=seed,
        on_bad=on_bad,
        split=split,
        truncation=truncation,
        max_length=max_length,
        max_seconds=max_seconds,
        image_size=image_size,
        pooling=pooling,
        pairs=pairs,
        precision=precision,
        class_weight=weights,
        class_order=order,
        label_weight=options.numbers("--label-weight", label_weight),
        single_task=single_task,
        prompt=prompt,
        label_delimiter=label_delimiter,
        horizon=horizon,
        learning_rate=learning_rate,
        num_train_epochs=num_train_epochs,
        batch_size=batch_size,
        positive=positive,
        threshold=threshold,
        cost=costs,
        specificity=specificity,
        alert_budget=alert_budget,
        prevalence=prevalence,
        private=private,
        quiet=quiet,
        settings=settings,
        num_workers=num_workers,
        resume=resume,
        checkpoint_every=checkpoint_every,
        feature_dtype=feature_dtype,
        candidates=None if candidates is None else [name.strip() for name in candidates.split(",") if name.strip()],
    )
    if not ranks.first():
        return
    from rich.console import Console

    from acclimate.report import summary

    assert fitted.report_data is not None  # what is fitted here has a run, and a run has a report
    # Not cropped: a command is one line, however long, so that it can be copied.
    Console().print(summary(fitted.report_data, f"{fitted.run_dir}/report.html"), crop=False)


def _json_file(path: str) -> dict[str, dict[str, float]]:
    """The costs in a JSON file: {"truth": {"predicted": cost}}."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            value = json.load(file)
    except FileNotFoundError:
        raise UserError(f"there is no cost file {path!r}; write one such as {_COST_EXAMPLE}") from None
    except ValueError as error:
        raise UserError(f"the cost file {path!r} is not JSON ({error}); write one such as {_COST_EXAMPLE}") from None
    rows = value.values() if isinstance(value, dict) else [None]
    numbers = [cost for row in rows for cost in (row.values() if isinstance(row, dict) else [None])]
    if not numbers or any(isinstance(cost, bool) or not isinstance(cost, (int, float)) for cost in numbers):
        raise UserError(f"the cost file {path!r} does not hold costs by truth and prediction, such as {_COST_EXAMPLE}")
    return {truth: {predicted: float(cost) for predicted, cost in row.items()} for truth, row in value.items()}


_COST_EXAMPLE = '{"ill": {"healthy": 10}, "healthy": {"ill": 1}}'


def _class_weight(text: str | None) -> str | dict[str, float] | None:
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        value = json.loads(text)
        return {str(name): float(weight) for name, weight in value.items()}
    except (ValueError, TypeError) as error:
        raise UserError(f"cannot read the class weights {text!r} as JSON ({error}); write '{{\"spam\": 3}}'") from None


def _class_order(text: str) -> tuple[str, ...]:
    """Classes between commas, or in a JSON list where their names hold commas."""
    if not text.lstrip().startswith("["):
        return tuple(name.strip() for name in text.split(","))
    try:
        return tuple(str(name) for name in json.loads(text))
    except ValueError as error:
        raise UserError(f"cannot read the class order {text!r} as JSON ({error}); write low,medium,high") from None
