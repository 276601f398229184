"""The number, the report, and the RUN folder."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from acclimate import ranks
from acclimate.api import collect, prompting, runs
from acclimate.api.again import COSTS, again
from acclimate.api.collect import SINGLE_TASK
from acclimate.api.finish import clusters_of, column_judged, gap_between, scores_of
from acclimate.api.model import Model
from acclimate.api.prepare import FEW, Prepared
from acclimate.api.request import Fitted, Request
from acclimate.data.rows import Data
from acclimate.data.split import hash_of
from acclimate.evaluate import Estimate, Scores
from acclimate.files import json_text
from acclimate.metrics.decisions import predictive_values
from acclimate.model import holds
from acclimate.report.data import ReportData
from acclimate.strategies import BASELINES, STRATEGIES, Problem
from acclimate.strategies.multitask import predictor_of, problem_of
from acclimate.tasks.base import Task
from acclimate.tasks.multitask import Multitask


def write(request: Request, prepared: Prepared, problem: Problem, fitted: Fitted, metric: str, seconds: float) -> Model:
    """Judge, gather the report and write the RUN folder, which appears whole or not at all."""
    task, decoder, run = problem.task, fitted.predictor.decoder, request.run
    scores, rows = _beside(fitted, scores_of(fitted.judged, task, decoder, metric, run.seed), task, run.seed)
    columns = []
    for name, single, one in _by_column(problem, fitted):
        scores.columns[name], mine = _beside(one, scores.columns[name], single.task, run.seed)
        columns.append(_report(request, _of_column(prepared, name), single, one, scores.columns[name], mine, seconds))
    data = _report(request, prepared, problem, fitted, scores, rows, seconds)
    data = dataclasses.replace(data, columns=[_part(column) for column in columns])
    if not ranks.first():
        where, split = request.folder, request.gate.split
        return Model(fitted.predictor, prepared.columns, run_dir=where, scores=scores, report_data=data, split=split)
    with runs.writing(request.folder, request.overwrite) as folder:
        if request.gate.private:
            folder.chmod(0o700)
        _write_files(folder, request, prepared, fitted, scores, rows, data)
        model = Model(
            fitted.predictor,
            prepared.columns,
            run_dir=request.folder,
            scores=scores,
            report_data=data,
            baselines={name: p for name, (p, _) in fitted.baselines.items()},
            split=request.gate.split,
        )
        model.save(folder / "model")
        model.report(folder / "report.html")
        model.report(folder / "report.md")
    if held := holds(fitted.predictor):
        run.progress.say(f"note: the saved model holds {held}; mind that when you share it")
    return model


def _beside(fitted: Fitted, scores: Scores, task: Task, seed: int) -> tuple[Scores, list[dict[str, Any]]]:
    """The scores with what stands beside them: baselines, and each label column trained alone; and their rows."""
    others = {name: (judged, predictor.decoder) for name, (predictor, judged) in fitted.baselines.items()}
    if fitted.alone is not None:
        others[SINGLE_TASK] = (fitted.alone, fitted.predictor.decoder)
    others |= {name: (judged, fitted.predictor.decoder) for name, judged in fitted.kinds.items()}
    entries = []
    for name, (judged, decoder) in others.items():
        theirs = scores_of(judged, task, decoder, scores.metric, seed)
        entries.append((name, theirs, gap_between(fitted.judged, judged, task, scores.metric, seed)))
    rows = collect.baseline_rows(entries, scores.metric, task.name)
    return dataclasses.replace(scores, baseline={row["key"]: row for row in rows}), rows


def _by_column(problem: Problem, fitted: Fitted) -> Iterator[tuple[str, Problem, Fitted]]:
    """What was found for each of several label columns, as if there were no other; those that no row judges are left
    out."""
    task = problem.task
    if not isinstance(task, Multitask):
        return
    for j, part in enumerate(task.parts):
        judged = column_judged(fitted.judged, task, j)
        if not len(judged.data):
            continue
        beside = {
            name: (predictor_of(predictor, j), column_judged(theirs, task, j))
            for name, (predictor, theirs) in fitted.baselines.items()
        }
        alone = None if fitted.alone is None else column_judged(fitted.alone, task, j)
        yield (
            part.name,
            problem_of(problem, j),
            Fitted(predictor_of(fitted.predictor, j), judged, beside, [], (), {}, "", alone=alone),
        )


def _of_column(prepared: Prepared, name: str) -> Prepared:
    """The same rows, with this label column alone."""
    at = prepared.columns.labels.index(name)
    columns = dataclasses.replace(prepared.columns, label=name, tasks=())
    return dataclasses.replace(prepared, columns=columns, task=prepared.columns.tasks[at])


def _part(data: ReportData) -> dict[str, Any]:
    """What a report says of one label column; the rest it says once."""
    return dataclasses.replace(data, audits=[], costs=[], decisions=[], history=[], splits={}, next_steps=[],
                               settings={}, versions={}, how_tested="").to_json()  # fmt: skip


def _transfers(problem: Problem, fitted: Fitted) -> bool:
    """Whether anything was carried over: pretrained weights, or rows of another domain."""
    adapted = fitted.predictor.strategy not in BASELINES and fitted.predictor.strategy not in STRATEGIES
    return adapted or problem.backbone is None or problem.backbone.pretrained


def _peak() -> int:
    """The most memory that this process has held, MB; on a GPU its own memory is not in it."""
    try:
        import resource
    except ImportError:  # not on Windows
        return round(psutil.Process().memory_info().rss / 1e6)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def _named(labels: tuple[str, ...]) -> str:
    return ", ".join(labels) if len(labels) <= 3 else f"{', '.join(labels[:2])} and {len(labels) - 2} more"


def _at_prevalence(request: Request, fitted: Fitted) -> dict[str, Any]:
    """PPV and NPV where the user stated the prevalence of the place of use."""
    decoder, judged = fitted.predictor.decoder, fitted.judged
    if request.choice.prevalence is None:
        return {}
    at = decoder.classes.index(decoder.positive)
    found = predictive_values(
        (judged.truth == at).astype(int),
        (judged.decisions == at).astype(int),
        request.choice.prevalence,
        weights=judged.data.weights,
        clusters=clusters_of(judged.data),
    )
    return {"at_prevalence": {name: e.to_json() for name, e in found.items()}}


def _write_files(
    folder: Path, request: Request, prepared: Prepared, fitted: Fitted, scores: Scores, rows: Any, data: ReportData
) -> None:
    runs.write_json(folder / "audit.json", [a.to_json() for a in prepared.audits])
    runs.write_json(folder / "metrics.json", {**scores.to_json(), **_at_prevalence(request, fitted)})
    runs.write_json(folder / "report.json", data.to_json())
    runs.write_text(folder / "history.jsonl", "".join(json_text(h) + "\n" for h in fitted.predictor.history))
    hashes = {"rows": hash_of(prepared.train), **request.sha256}
    runs.write_json(folder / "run.json", {
        "asked": dict(request.asked), "arguments": dict(request.arguments), "content": dict(request.content),
        "task": prepared.task, "columns": dataclasses.asdict(prepared.columns),
        "strategy": fitted.predictor.strategy, "settings": fitted.predictor.settings, "seed": request.run.seed,
        "metric": scores.metric, "decision": {**dataclasses.asdict(request.choice), **fitted.thresholds},
        "runtime": None if fitted.predictor.backbone is None else fitted.predictor.backbone.runtime,
        "preprocessing": None if fitted.predictor.backbone is None else fitted.predictor.backbone.settings(),
        "device": request.run.device, "versions": runs.versions(), "data_sha256": hashes,
        "rows": data.splits, "how_tested": data.how_tested, "finished": data.created,
        "costs": fitted.costs, "notes": list(fitted.predictor.notes),
    })  # fmt: skip
    if request.arguments.get("cost") is not None:  # which the commands that fit again name
        runs.write_json(folder / COSTS, request.arguments["cost"])
    for name, text in fitted.files.items():
        runs.write_text(folder / name, text)
    if not request.gate.private:  # a hash of a short text can be guessed
        few = [] if prepared.labelled is None else [prepared.labelled]
        runs.remember(folder, [prepared.train, *few])
        if fitted.adapted and prepared.target is not None:
            runs.remember(folder, [prepared.target], runs.ADAPTED)
    if prepared.test is not None and request.test is not None and "test" in hashes:
        runs.count_use(folder, hashes["test"], str(request.test))
    for name, (predictor, _) in fitted.baselines.items():
        if name in prompting.ROWS:
            continue  # a language model takes half a gigabyte
        if not request.gate.private or predictor.plain is None or not predictor.plain.holds:
            predictor.save(folder / "baselines" / name)


def _of_source(request: Request, prepared: Prepared) -> str:
    """A warning behind a number that is not of the rows where the model will be used."""
    if prepared.target is None or _is_of_target(request, prepared):
        return ""
    return " This number is of rows like the training ones, not of the target."


def _is_of_target(request: Request, prepared: Prepared) -> bool:
    """Whether the number is of rows that the user gave for it, or of labelled target rows."""
    return request.test is not None or prepared.labelled is not None


def _parts(prepared: Prepared) -> tuple[tuple[str, Data | None], ...]:
    return (
        ("train", prepared.train),
        ("valid", prepared.valid),
        ("test", prepared.test),
        ("target, without labels", prepared.target),
        ("target, labelled", prepared.labelled),
    )


def _report(
    request: Request, prepared: Prepared, problem: Problem, fitted: Fitted, scores: Scores, rows: Any, seconds: float
) -> ReportData:
    predictor, judged = fitted.predictor, fitted.judged
    base = predictor.backbone
    model_name = base.origin.name if base is not None else "no pretrained model"
    private = request.gate.private
    at_prevalence = _at_prevalence(request, fitted)
    kinds = {f.kind for a in prepared.audits for f in a.findings if f.severity != "info"}
    points = scatter = None
    if prepared.task == "regress" and not private:  # each point is a label as it stands in the data
        scatter = {"truth": judged.truth.tolist(), "predicted": judged.decisions.tolist()}
    several = bool(prepared.columns.tasks)
    known = problem.store is not None and not problem.store.missing(judged.data.inputs)
    shown = not (several or (private and prepared.task == "regress"))
    if known and shown and problem.store is not None and judged.data.labels is not None:
        points = collect.projection(problem.store.get(judged.data.inputs), judged.data.labels, request.run.seed)
    some = len(prepared.train) >= FEW or prepared.test is not None or prepared.valid is not None
    few = "" if some else " All rows took part in the last fit."
    return ReportData(
        title=f"{Path(str(prepared.train.source)).name}: {_named(prepared.columns.labels)}",
        verdict=collect.verdict(
            scores, predictor.strategy, model_name, rows, prepared.task, _transfers(problem, fitted)
        )
        + (collect.beside_source(rows) if _is_of_target(request, prepared) else "")
        + collect.one_class(prepared.task, fitted.judged)
        + _of_source(request, prepared)
        + "".join(f" {sentence}" for sentence in fitted.cut),
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        task=prepared.task,
        metric=scores.metric,
        strategy=predictor.strategy,
        model_name=model_name,
        licence=base.origin.licence if base is not None else "",
        settings={
            **predictor.settings,
            **({"pictures_read_at": base.read_at} if base is not None and base.read_at else {}),
            "seed": request.run.seed,
            "seconds": round(seconds, 1),
            "peak_memory_mb": _peak(),
        },
        audits=[a.to_json() for a in prepared.audits],
        scores=scores.to_json(),
        baselines=rows,
        candidates=fitted.candidates,
        costs=fitted.costs,
        decisions=[
            *prepared.reasons,
            *fitted.decisions,
            *predictor.notes,
            *([fitted.how_chosen] if fitted.how_chosen else []),
        ],
        history=[dict(h) for h in predictor.history],
        projection=points,
        mistakes=None if private or several else collect.mistakes(judged, predictor),
        splits={role: len(d) for role, d in _parts(prepared) if d is not None},
        how_tested=prepared.how + "." + few,
        next_steps=[
            *fitted.next_steps,
            *collect.next_steps(
                str(request.folder),
                judged,
                predictor,
                scores,
                rows,
                len(prepared.train),
                kinds,
                lambda change: again(request, prepared.columns.labels, change),
            ),
        ],
        target_verdict=fitted.verdict,
        calibration={"bins": scores.reliability, "temperature": predictor.decoder.temperature}
        if scores.reliability
        else None,
        thresholds={
            **fitted.thresholds,
            **{n: collect.estimate_text(Estimate(**e)) for n, e in at_prevalence.get("at_prevalence", {}).items()},
        },
        scatter=scatter,
        private=private,
        versions=runs.versions(),
    )
