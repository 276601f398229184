"""The verbs: `fit`, `load`, `compare`, `inspect`, and the `Model` that they give."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acclimate import ranks
from acclimate.advise.race import CANDIDATES, check_candidates
from acclimate.api import runs, state
from acclimate.api.comparing import Comparison, compare
from acclimate.api.encoder_too import BY, moving
from acclimate.api.finish import Choice
from acclimate.api.fitting import fit as _fit
from acclimate.api.inspecting import Inspection, columns_of, inspect, many
from acclimate.api.model import Model
from acclimate.api.objective import asked as asked_for_objective
from acclimate.api.objective import is_auto
from acclimate.api.opening import load, not_structured
from acclimate.api.prepare import Gate
from acclimate.api.request import Request
from acclimate.api.structured_model import StructuredModel
from acclimate.catalogue import cache
from acclimate.data.columns import task_name
from acclimate.data.labels import STRUCTURED
from acclimate.errors import UserError, unknown
from acclimate.features import DTYPES
from acclimate.interrupt import terminable
from acclimate.progress import Progress
from acclimate.run import Run, pick_device
from acclimate.settings import check_seed, parse_duration

__all__ = ["Comparison", "Inspection", "Model", "compare", "fit", "inspect", "load"]

# What users of other libraries call our arguments; named in the error, so that nobody has to look them up.
ALIASES = {
    "lr": "learning_rate", "epochs": "num_train_epochs", "max_epochs": "num_train_epochs",
    "per_device_train_batch_size": "batch_size", "max_seq_length": "max_length", "cutoff_len": "max_length",
    "random_state": "seed", "target": "label", "label_column": "label", "target_column": "label",
    "text_col": "text_column", "image_column": "file_column", "audio_column": "file_column",
    "path_column": "file_column", "image_col": "file_column",
    "base_model": "model", "backbone": "model", "model_name_or_path": "model", "checkpoint_name": "model",
    "problem_type": "task", "task_type": "task", "eval_metric": "metric", "scoring": "metric",
    "metric_for_best_model": "metric", "max_time": "time_limit", "time_limit_s": "time_limit", "path": "output_dir",
    "save_path": "output_dir", "project_name": "output_dir", "tuning_data": "valid_data", "eval_dataset": "valid_data",
    "validation_data": "valid_data", "train_file": "train_data", "train_dataset": "train_data",
    "finetuning_type": "strategy",
    "label_delim": "label_delimiter", "hyperparameters": "settings",
}  # fmt: skip


def fit(
    train_data: Any = None,
    *,
    label: str | Sequence[str] | None = None,
    model: str | None = None,
    strategy: str = "auto",
    task: str | None = None,
    valid_data: Any = None,
    test_data: Any = None,
    target_data: Any = None,
    target_labels: Any = None,
    align: str | None = None,
    lambda_: str | float | None = None,
    pretrain: str | None = None,
    hold: str | None = None,
    text_column: str | Sequence[str] | None = None,
    file_column: str | None = None,
    modality: str | None = None,
    column_kinds: Mapping[str, str] | None = None,
    group_column: str | None = None,
    time_column: str | None = None,
    id_column: str | None = None,
    subgroup_column: str | Sequence[str] | None = None,
    domain_column: str | None = None,
    rate: float | None = None,
    weight_column: str | None = None,
    drop: Sequence[str] = (),
    metric: str | None = None,
    time_limit: str | float | None = None,
    output_dir: str | Path | None = None,
    overwrite: bool = False,
    seed: int = 0,
    on_bad: str = "skip",
    split: str | None = None,
    truncation: str = "head",
    max_length: int | None = None,
    max_seconds: float | None = None,
    image_size: int | None = None,
    pooling: str | None = None,
    pairs: str | None = None,
    precision: str | None = None,
    class_weight: object = None,
    class_order: Sequence[Any] | None = None,
    label_weight: Mapping[str, float] | None = None,
    single_task: bool | None = None,
    label_delimiter: str | None = None,
    horizon: int | None = None,
    learning_rate: float | None = None,
    num_train_epochs: float | None = None,
    batch_size: int | None = None,
    positive: Any = None,
    threshold: float | None = None,
    cost: Mapping[str, Mapping[str, float]] | None = None,
    specificity: float | None = None,
    alert_budget: float | None = None,
    prevalence: float | None = None,
    private: bool = False,
    quiet: bool = False,
    settings: Mapping[str, Any] | None = None,
    num_workers: int = 0,
    resume: bool = False,
    checkpoint_every: float = 30.0,
    feature_dtype: str = "fp32",
    candidates: Sequence[str] | None = None,
    prompt: str | None = None,
    **others: Any,
) -> Model | StructuredModel:
    """Learn from `train_data` (a path, frame, Dataset, list of dicts or dict of lists) and return a `Model`.

    Several `label` columns, each yes or no and empty where it is not known, are one multi-label task. Others are a task
    each, on one backbone with a head a column and one loss in which they weigh alike, or as `label_weight` says
    ({"stars": 0.5}); `task` "stars=regress,topic=classify" says what some of them are. With a strategy that moves the
    backbone each column is also trained alone, to show the gain or loss, where that takes ten minutes or the time limit
    at most; `single_task` True or False says whether, whatever it takes.
    A path may be a folder of pictures or sounds in class folders; `image_size` is the side in pixels at which a model
    of pictures reads them, where that is not to be its own. `modality` says what the inputs are where that is
    not told by the data; `model` is one for such inputs where none is named. Of a table without text every column that
    has no other part is learned from; `column_kinds` says of some what they hold, {"cp": "category"}, where that is
    guessed wrong. Molecules are split by scaffold, unless `split` is "random". Two columns in `text_column` are a pair:
    frozen models with mean pooling read both "apart" (their vectors, the difference and the product), the others, and
    those whose weights move, as one sequence, "joint", unless `pairs` says which.

    The number comes from `test_data`, else from a fifth of the rows held out at the start, else (under 200 rows) from
    out-of-fold predictions; with `domain_column` from leaving each domain out. `target_data` holds rows from where the
    model will be used: a strategy such as "self_train" adapts to them, "auto" says whether it would help, and their
    labels are not read; `target_labels` a few labelled rows from there, to learn from. With `align`, a name of
    `acclimate.align`, L_source + λ·L_target is trained: on frozen features, or, with a strategy that tunes ("full",
    "lora" ...), by the weights that move. `lambda_` is λ, a number, "rise", "rise:MAX", or
    "auto" on frozen features: chosen without labels. With `pretrain` "mlm" those
    strategies start from a network that first went on guessing hidden words of the target's texts; `hold`, a name of
    `acclimate.hold` with its weight such as "l2_sp:0.01", ties what moves to the pretrained network. Everything is also
    written to `output_dir`, a new dated folder under runs/ by default.
    With `prompt`, a causal language model such as "smollm2", the report shows beside a classifier of texts what that
    model answers when it is asked, without and with 8 examples: transfer without training, and slow on a CPU.
    A run that was killed or stopped goes on with `resume`: alone with `output_dir`, or with the same arguments again.
    """
    arguments = {name: value for name, value in locals().items() if name not in state.HOW}
    if others:
        _refuse(others)
    ranks.join(pick_device())
    if resume:
        asked_for = output_dir
        finished = None if overwrite else ranks.by_first(lambda: state.done(asked_for, arguments, _defaults()))
        if finished is not None:
            ranks.leave()
            Progress(quiet or not ranks.first()).say(f"{finished} is finished; its model is {finished / 'model'}")
            return load(finished)
        output_dir, before = ranks.by_first(lambda: state.go_on(asked_for, arguments, _defaults()))
        if before is not None:
            how = {"quiet": quiet, "num_workers": num_workers, "checkpoint_every": checkpoint_every}
            return fit(**{**before, **how}, output_dir=output_dir, resume=True)
    if train_data is None:
        raise UserError("no training data was given; give a path, a frame, or a list of dicts as the first argument")
    seed = check_seed(seed)
    if not isinstance(checkpoint_every, (int, float)) or not checkpoint_every >= 0:
        raise UserError(f"checkpoint_every {checkpoint_every!r} must be a number of seconds, 0 for every step")
    if feature_dtype not in DTYPES:
        raise unknown("feature_dtype", feature_dtype, DTYPES)
    own = {
        "horizon": horizon,
        "learning_rate": learning_rate,
        "num_train_epochs": num_train_epochs,
        "batch_size": batch_size,
    }
    every = {**{k: v for k, v in own.items() if v is not None}, **(settings or {})}
    name = None if task is None else task_name(task)
    if name in STRUCTURED:
        not_structured(name, align=align, lambda_=lambda_, pretrain=pretrain, hold=hold)
    else:
        strategy, every = asked_for_objective(
            strategy, every, align, lambda_, target_data, target_labels, pretrain, hold
        )
    if candidates is not None and strategy != "auto":
        raise UserError(f"candidates are what strategy 'auto' compares, and the strategy here is {strategy!r}")
    compared = tuple(many(candidates) or ())
    if name not in STRUCTURED:
        beside = (BY,) if target_data is not None else ()  # the encoder may move where the verdict is to adapt
        compared = check_candidates(compared or CANDIDATES, every, beside) if strategy == "auto" else ()
        if strategy == "auto" and beside:
            moving(every)  # what it cannot have is refused before anything is computed
    limit = None if time_limit is None else parse_duration(time_limit)
    # Without a limit of the user's own, `auto` may spend ten minutes on finding out whether tuning pays.
    budget = limit if limit is not None or strategy != "auto" else 600.0
    stem = Path(train_data).stem if isinstance(train_data, (str, Path)) else "data"
    asked = {"train_data": _name(train_data), "valid_data": _name(valid_data), "test_data": _name(test_data),
             "target_data": _name(target_data), "target_labels": _name(target_labels), "align": align,
             "lambda": lambda_, "pretrain": pretrain, "hold": hold, "model": model,
             "strategy": strategy, "task": task, "metric": metric, "time_limit": limit, "truncation": truncation,
             "max_length": max_length, "max_seconds": max_seconds, "image_size": image_size,
             "pooling": pooling, "pairs": pairs, "precision": precision,
             "class_weight": class_weight, "label_weight": label_weight, "private": private,
             "split": split, "feature_dtype": feature_dtype, "single_task": single_task,
             "candidates": candidates, "prompt": prompt, **own,
             "settings": dict(settings or {})}  # fmt: skip
    return _carried_out(
        Request(
            train=train_data,
            model=model or "",
            strategy=strategy,
            columns=columns_of(
                label=label,
                text=text_column,
                group=group_column,
                time=time_column,
                id=id_column,
                subgroup=subgroup_column,
                weight=weight_column,
                drop=drop,
                domain=domain_column,
                file=file_column,
                modality=modality,
                kinds=column_kinds,
                rate=rate,
            ),
            gate=Gate(on_bad, label_delimiter, private, split),
            choice=Choice(positive, threshold, cost, specificity, alert_budget, prevalence),
            folder=ranks.by_first(lambda: runs.new_folder(output_dir, stem, overwrite, resume)),
            run=Run(
                seed=seed,
                device=pick_device(),
                deadline=None if budget is None else time.monotonic() + budget,
                cache=cache.features(),
                feature_dtype=feature_dtype,
                num_workers=num_workers,
                private=private,
                checkpoint_every=checkpoint_every,
                progress=Progress(quiet or not ranks.first()),
            ),
            overwrite=overwrite,
            resume=resume,
            task=name,
            valid=valid_data,
            test=test_data,
            target=target_data,
            target_labels=target_labels,
            metric=metric,
            class_weight=class_weight,
            class_order=None if class_order is None else tuple(class_order),
            label_weight=dict(label_weight or {}),
            single_task=single_task,
            candidates=compared,
            prompt=prompt,
            settings=every,
            auto_weight=is_auto(lambda_),
            reading={
                "pooling": pooling,
                "pairs": pairs,
                "max_length": max_length,
                "seconds": max_seconds,
                "image_size": image_size,
                "truncation": truncation,
                "precision": precision,
            },
            asked=asked,
            arguments={name: state.same_form(name, value) for name, value in arguments.items()},
        )
    )


def _carried_out(request: Request) -> Model | StructuredModel:
    try:
        with terminable():
            if request.task in STRUCTURED:
                from acclimate.api.structured import fit as fit_structured

                return fit_structured(request)
            return _fit(request)
    except KeyboardInterrupt as stop:
        raise state.interrupted(request.folder, stop) from None
    finally:
        ranks.leave()


def _defaults() -> dict[str, Any]:
    import inspect as python_inspect

    return {p.name: p.default for p in python_inspect.signature(fit).parameters.values()}


def _refuse(others: Mapping[str, Any]) -> None:
    known = [name for name in _defaults() if name != "others"]
    for name in others:
        if name in ALIASES:
            raise UserError(f"fit has no argument {name!r}: it is called {ALIASES[name]!r} here")
        raise unknown("argument of fit", name, known)


def _name(source: Any) -> str | None:
    return None if source is None else str(source) if isinstance(source, (str, Path)) else f"<{type(source).__name__}>"
