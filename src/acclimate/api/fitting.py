"""The main job, step by step: read, choose, fit, calibrate, judge once, report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.advise.crossfit import Pairs, Trial, crossfit
from acclimate.advise.race import Race, race
from acclimate.api import collect, runs
from acclimate.api.finish import (
    Choice,
    Judged,
    finished,
    gap_between,
    judged_on,
    judged_out_of_fold,
    positive_class,
    scores_of,
)
from acclimate.api.model import Model
from acclimate.api.prepare import FEW, Gate, Prepared, folds_of, prepare
from acclimate.backbones import load as load_backbone
from acclimate.backbones.base import Backbone
from acclimate.catalogue import cache
from acclimate.data.rows import Columns, Data
from acclimate.data.split import hash_of, holdout
from acclimate.errors import UserError
from acclimate.evaluate import Scores, default_metric, metric_name
from acclimate.features import Store
from acclimate.model import Predictor
from acclimate.report.data import ReportData
from acclimate.run import Run
from acclimate.strategies import BASELINES, Problem, Splits, Strategy, named
from acclimate.tasks import TASKS

SHARE_TO_CHOOSE = 0.15  # of the training rows, for the epoch and the temperature where a strategy is too dear for folds


@dataclass(frozen=True)
class Request:
    """What the user asked of one fit, after names were checked."""

    train: Any
    model: str
    strategy: str
    columns: Columns
    gate: Gate
    choice: Choice
    folder: Path
    run: Run
    task: str | None = None
    valid: Any = None
    test: Any = None
    metric: str | None = None
    class_weight: object = None
    class_order: tuple[Any, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)  # pooling, max_length, truncation
    asked: Mapping[str, Any] = field(default_factory=dict)  # everything as given, for run.json


@dataclass(frozen=True)
class Fitted:
    """The outcome of choosing and fitting, before the number is taken."""

    predictor: Predictor
    judged: Judged
    baselines: dict[str, tuple[Predictor, Judged]]
    candidates: list[dict[str, Any]]
    decisions: tuple[str, ...]
    thresholds: dict[str, Any]
    how_chosen: str


def fit(request: Request) -> Model:
    """Everything from the user's file to a RUN folder."""
    start = time.monotonic()
    say = request.run.progress.say
    strategy = None if request.strategy == "auto" else named(request.strategy, dict(request.settings))
    wanted = request.strategy == "auto" or strategy is None or strategy[1].needs_backbone
    backbone = _backbone(request) if wanted else None
    prepared = prepare(
        request.train,
        request.columns,
        request.task,
        backbone,
        request.gate,
        valid_source=request.valid,
        test_source=request.test,
        seed=request.run.seed,
    )
    for reason in prepared.reasons:
        say(reason)
    for report in prepared.audits:
        say(f"{report.source}: {report.read:,} rows read, {report.kept:,} kept, {report.read - report.kept:,} dropped")
    problem = _problem(request, prepared, backbone)
    choice = request.choice.check(problem.decoder)
    metric = _metric(request, prepared, problem)
    if problem.store is not None:
        problem.store.get(prepared.everything)
    fitted = _choose_and_fit(request, prepared, problem, strategy, choice, metric)
    return _write(request, prepared, problem, fitted, metric, time.monotonic() - start)


def _backbone(request: Request) -> Backbone:
    request.run.progress.say(f"loading {request.model}")
    backbone = load_backbone(request.model, **request.reading)
    if backbone.modality != "text":
        raise UserError(
            f"{request.model!r} reads {backbone.modality}, and the inputs here are text; "
            "`acclimate models list` shows the text models"
        )
    return backbone.requires_grad_(False).eval()


def _problem(request: Request, prepared: Prepared, backbone: Backbone | None) -> Problem:
    task = TASKS[prepared.task]
    labels = prepared.train.labels or ()
    decoder = task.decoder(labels, _kind(labels), request.class_order)
    if task.name == "classify" and len(decoder.classes) == 2:
        decoder = replace(decoder, positive=request.choice.check(decoder).positive or positive_class(decoder))
    decoder = replace(decoder, delimiter=request.gate.label_delimiter or ("|" if task.name == "multilabel" else None))
    store = None if backbone is None else Store(backbone, request.run)
    return Problem(task, decoder, backbone, store, _class_weight(request.class_weight, decoder.column_names()))


def _kind(labels: Any) -> str:
    first = labels[0]
    for kind, type_ in (("bool", bool), ("int", int), ("float", float), ("list", tuple)):
        if isinstance(first, type_):
            return kind
    return "str"


def _class_weight(value: object, names: tuple[str, ...]) -> object:
    if value is None or value == "balanced":
        return value
    if not isinstance(value, Mapping):
        raise UserError(
            f"class_weight {value!r} is not understood; give 'balanced' or one weight a class, {{'spam': 3}}"
        )
    from acclimate.errors import unknown

    for name in value:
        if str(name) not in names:
            raise unknown("class in class_weight", str(name), names)
    weights = {str(k): float(v) for k, v in value.items()}
    return tuple(weights.get(name, 1.0) for name in names)


def _metric(request: Request, prepared: Prepared, problem: Problem) -> str:
    if request.metric is not None:
        return metric_name(request.metric, problem.task.name)
    if problem.task.name != "classify":
        return default_metric(problem.task.name)
    counts = np.bincount(problem.targets(prepared.train).astype(int))
    return default_metric("classify", (counts / counts.sum()).tolist())


def _choose_and_fit(
    request: Request,
    prepared: Prepared,
    problem: Problem,
    strategy: tuple[str, Strategy] | None,
    choice: Choice,
    metric: str,
) -> Fitted:
    run = request.run
    data, pairs = _rows_to_choose_by(prepared, run.seed)
    trial: Trial | None
    if strategy is None:
        contest = race(problem, data, pairs, metric, run, request.settings)
        name, chosen, trial = contest.chosen, contest.trial(contest.chosen).strategy, contest.trial(contest.chosen)
    else:
        name, chosen = strategy
        contest = Race((), name, ())
        cheap = chosen.frozen or prepared.test is None
        trial = crossfit(name, chosen, problem, data, pairs, run) if cheap else None
    run.progress.say(f"fitting {name} on {len(prepared.train):,} rows")
    fitted, logits, rows, how = _last_fit(prepared, problem, name, chosen, trial, data, run)
    fitted, thresholds = finished(problem, fitted, logits, rows, choice)
    fitted = replace(fitted, strategy=name)
    if prepared.test is not None:
        judged = judged_on(fitted, prepared.test, run, problem)
    else:
        assert trial is not None
        judged = judged_out_of_fold(problem, trial, data, pairs, choice)
    baselines = _baselines(prepared, problem, contest, data, pairs, run, judged)
    return Fitted(
        fitted,
        judged,
        baselines,
        _candidates(contest, problem, data, metric, run.seed),
        contest.decisions,
        thresholds,
        how,
    )


def _rows_to_choose_by(prepared: Prepared, seed: int) -> tuple[Data, Pairs]:
    """Training rows and their folds; or, where the user gave rows to choose by, both together with one split."""
    if prepared.valid is None:
        return prepared.train, folds_of(prepared, seed)
    n, m = len(prepared.train), len(prepared.valid)
    both = joined(prepared.train, prepared.valid)
    return both, [(np.arange(n), np.arange(n, n + m))]


def joined(a: Data, b: Data) -> Data:
    """The rows of both; a part that one of them lacks is left out."""

    def both(x: Any, y: Any) -> Any:
        if x is None or y is None:
            return None
        return np.concatenate([x, y]) if isinstance(x, np.ndarray) else (*x, *y)

    return Data(
        inputs=(*a.inputs, *b.inputs),
        labels=both(a.labels, b.labels),
        weights=both(a.weights, b.weights),
        groups=both(a.groups, b.groups),
        subgroups={k: both(v, b.subgroups[k]) for k, v in a.subgroups.items() if k in b.subgroups},
        lines=(*a.lines, *b.lines),
        source=f"{a.source}, {b.source}",
    )


def _last_fit(
    prepared: Prepared, problem: Problem, name: str, strategy: Strategy, trial: Trial | None, data: Data, run: Run
) -> tuple[Predictor, Any, Data, str]:
    """The model to keep, and logits of rows that it (or its folds) did not learn from, for temperature and thresholds."""
    if trial is not None:
        fitted = strategy.fit(problem, Splits(prepared.train, prepared.valid), run)
        at = trial.judged
        return fitted, trial.logits[at], data.take(at), "temperature and thresholds come from out-of-fold predictions"
    splits, how = (
        Splits(prepared.train, prepared.valid),
        "the epoch, temperature and thresholds come from the validation rows",
    )
    if prepared.valid is None:
        learn, choose = holdout(prepared.train, problem.task.name, share=SHARE_TO_CHOOSE, seed=run.seed + 1)
        splits = Splits(prepared.train.take(learn), prepared.train.take(choose))
        how = f"the epoch, temperature and thresholds come from {len(choose):,} training rows that {name} did not learn from"
    fitted = strategy.fit(problem, splits, run)
    assert splits.valid is not None
    return fitted, fitted.logits(splits.valid.inputs, run, problem.store), splits.valid, how


def _baselines(
    prepared: Prepared, problem: Problem, contest: Race, data: Data, pairs: Pairs, run: Run, judged: Judged
) -> dict[str, tuple[Predictor, Judged]]:
    """What does without transfer, on the same rows as the model."""
    found: dict[str, tuple[Predictor, Judged]] = {}
    ran = {t.name: t for t in contest.trials}
    for name, strategy in BASELINES.items():
        if contest.chosen == name:
            continue  # the model itself
        try:
            fitted = replace(strategy.fit(problem, Splits(prepared.train, prepared.valid), run), strategy=name)
            trial = ran.get(name) or crossfit(name, strategy, problem, data, pairs, run)
            at = trial.judged
            fitted, _ = finished(
                problem, fitted, trial.logits[at], data.take(at), Choice(positive=problem.decoder.positive)
            )
            if prepared.test is not None:
                found[name] = (fitted, judged_on(fitted, prepared.test, run, problem))
            else:
                found[name] = (
                    fitted,
                    judged_out_of_fold(problem, trial, data, pairs, Choice(positive=problem.decoder.positive)),
                )
        except UserError:
            continue  # texts without a single word have no TF-IDF
    return found


def _candidates(contest: Race, problem: Problem, data: Data, metric: str, seed: int) -> list[dict[str, Any]]:
    rows = []
    for trial in contest.trials:
        at = trial.judged
        part = data.take(at)
        outputs = problem.task.outputs(trial.logits[at], problem.decoder)
        truth = problem.task.truth(part.labels or (), problem.decoder)
        judged = Judged(part, truth, outputs, problem.task.decide(outputs, problem.decoder))
        e = scores_of(judged, problem.task, problem.decoder, metric, seed).estimates[metric]
        rows.append(
            {
                "name": trial.name,
                "value": e.value,
                "low": e.low,
                "high": e.high,
                "n": e.n,
                "seconds": trial.seconds,
                "chosen": trial.name == contest.chosen,
                "note": trial.note,
            }
        )
    return rows


def _write(
    request: Request, prepared: Prepared, problem: Problem, fitted: Fitted, metric: str, seconds: float
) -> Model:
    """Judge, gather the report and write the RUN folder, which appears whole or not at all."""
    task, decoder, run = problem.task, fitted.predictor.decoder, request.run
    scores = scores_of(fitted.judged, task, decoder, metric, run.seed)
    entries = []
    for name, (predictor, judged) in fitted.baselines.items():
        theirs = scores_of(judged, task, predictor.decoder, metric, run.seed)
        entries.append((name, theirs, gap_between(fitted.judged, judged, task, metric, run.seed)))
    rows = collect.baseline_rows(entries, metric, task.name)
    data = _report(request, prepared, problem, fitted, scores, rows, seconds)
    with runs.writing(request.folder) as folder:
        _write_files(folder, request, prepared, fitted, scores, rows, data)
        model = Model(
            fitted.predictor,
            prepared.columns,
            run_dir=request.folder,
            scores=scores,
            report_data=data,
            baselines={name: p for name, (p, _) in fitted.baselines.items()},
        )
        model.save(folder / "model")
        model.report(folder / "report.html")
        model.report(folder / "report.md")
    return model


def _write_files(
    folder: Path, request: Request, prepared: Prepared, fitted: Fitted, scores: Scores, rows: Any, data: ReportData
) -> None:
    import json

    runs.write_json(folder / "audit.json", [a.to_json() for a in prepared.audits])
    runs.write_json(folder / "metrics.json", {**scores.to_json(), "baseline": rows})
    runs.write_json(folder / "report.json", data.to_json())
    runs.write_text(
        folder / "history.jsonl", "".join(json.dumps(runs.plain(h)) + "\n" for h in fitted.predictor.history)
    )
    hashes = {
        role: hash_of(source)
        for role, source in (("train", request.train), ("valid", request.valid), ("test", request.test))
        if isinstance(source, (str, Path))
    }
    hashes = {"rows": hash_of(prepared.train), **hashes}
    runs.write_json(folder / "run.json", {
        "asked": dict(request.asked), "task": prepared.task, "columns": dataclasses.asdict(prepared.columns),
        "strategy": fitted.predictor.strategy, "settings": fitted.predictor.settings, "seed": request.run.seed,
        "device": request.run.device, "versions": runs.versions(), "data_sha256": hashes,
        "rows": data.splits, "how_tested": data.how_tested, "finished": data.created,
    })  # fmt: skip
    if prepared.test is not None and request.test is not None and "test" in hashes:
        runs.count_use(folder, hashes["test"], str(request.test))
    for name, (predictor, _) in fitted.baselines.items():
        if predictor.words is None or not request.gate.private:  # a vocabulary is made of the training texts
            predictor.save(folder / "baselines" / name)


def _report(
    request: Request, prepared: Prepared, problem: Problem, fitted: Fitted, scores: Scores, rows: Any, seconds: float
) -> ReportData:
    predictor, judged = fitted.predictor, fitted.judged
    base = predictor.backbone
    model_name = base.origin.name if base is not None else "no pretrained model"
    private = request.gate.private
    kinds = {f.kind for a in prepared.audits for f in a.findings}
    points = None
    if problem.store is not None and judged.data.labels is not None:
        points = collect.projection(problem.store.get(judged.data.inputs), judged.data.labels, request.run.seed)
    few = "" if len(prepared.train) >= FEW or prepared.test is not None else " All rows took part in the last fit."
    return ReportData(
        title=f"{Path(str(prepared.train.source)).name}: {prepared.columns.label}",
        verdict=collect.verdict(scores, predictor.strategy, model_name, rows, prepared.task),
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        task=prepared.task,
        metric=scores.metric,
        strategy=predictor.strategy,
        model_name=model_name,
        licence=base.origin.licence if base is not None else "",
        settings={**predictor.settings, "seed": request.run.seed, "seconds": round(seconds, 1)},
        audits=[a.to_json() for a in prepared.audits],
        scores=scores.to_json(),
        baselines=rows,
        candidates=fitted.candidates,
        decisions=[
            *prepared.reasons,
            *fitted.decisions,
            *predictor.notes,
            *([fitted.how_chosen] if fitted.how_chosen else []),
        ],
        history=[dict(h) for h in predictor.history],
        projection=points,
        mistakes=None if private else collect.mistakes(judged, predictor),
        splits={
            role: len(d)
            for role, d in (("train", prepared.train), ("valid", prepared.valid), ("test", prepared.test))
            if d is not None
        },
        how_tested=prepared.how + "." + few,
        next_steps=collect.next_steps(str(request.folder), judged, predictor, scores, rows, len(prepared.train), kinds),
        calibration={"bins": scores.reliability, "temperature": predictor.decoder.temperature}
        if scores.reliability
        else None,
        thresholds=fitted.thresholds,
        scatter={"truth": judged.truth.tolist(), "predicted": judged.outputs.tolist()}
        if prepared.task == "regress"
        else None,
        private=private,
        versions=runs.versions(),
    )


def cache_folder(private: bool) -> Path:
    """Where features are kept."""
    return cache.root() / "features"
