"""The RUN folder and the report of a task with structured answers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from acclimate.api import runs
from acclimate.api.collect import estimate_text
from acclimate.api.request import Request
from acclimate.api.structured_model import StructuredModel
from acclimate.data.account import Audit
from acclimate.data.rows import Data
from acclimate.errors import plural
from acclimate.evaluate import Difference, Scores
from acclimate.files import json_text
from acclimate.report.data import ReportData
from acclimate.structured.base import Structured, labels_of
from acclimate.structured.bundle import Learned

_SHOWN = 20  # rows with the most errors


@dataclass(frozen=True)
class Found:
    """What came out of a fit."""

    learned: Learned
    scores: Scores
    test: Data
    answers: list[Any]
    baselines: dict[str, Scores]
    gaps: dict[str, Difference]
    candidates: list[dict[str, Any]]
    untested: str  # why the strategy was not compared with the others, where it was not
    decisions: tuple[str, ...]
    audits: tuple[Audit, ...]
    how: str
    splits: dict[str, int]
    seconds: float


def write(request: Request, task: Structured, train: Data, found: Found) -> StructuredModel:
    """Gather the report and write the RUN folder, which appears whole or not at all."""
    rows = baseline_rows(found.scores, found.baselines, found.gaps)
    scores = dataclasses.replace(found.scores, baseline={row["key"]: row for row in rows})
    data = _report(request, task, found, scores, rows)
    with runs.writing(request.folder, request.overwrite) as folder:
        if request.gate.private:
            folder.chmod(0o700)
        model = StructuredModel(found.learned, request.columns, request.folder, scores, data, request.gate.private)
        _files(folder, request, task, train, found, scores, data)
        model.save(folder / "model")
        model.report(folder / "report.html")
        model.report(folder / "report.md")
    return model


def baseline_rows(scores: Scores, baselines: dict[str, Scores], gaps: dict[str, Difference]) -> list[dict[str, Any]]:
    """Baselines with their estimate and the paired difference of the model to them."""
    rows = []
    for name, theirs in baselines.items():
        one = theirs.estimates[scores.metric]
        numbers = {"value": one.value, "low": one.low, "high": one.high, "n": one.n}
        rows.append({"key": name, "name": name.replace("_", " "), **numbers, "difference": gaps[name].to_json()})
    return rows


def verdict(scores: Scores, learned: Learned, rows: list[dict[str, Any]], greater: bool) -> str:
    """One sentence: the number, and whether it beats doing without transfer. A baseline that wins comes first."""
    metric = scores.metric.replace("_", " ")
    number = f"{metric} {estimate_text(scores.estimates[scores.metric])} on {plural(scores.n, 'row')}"
    using = f"{learned.strategy} on {learned.network.backbone.origin.name}"
    known = [r for r in rows if r["value"] is not None]
    if not known:
        return f"{using}: {number}."
    rival = (max if greater else min)(known, key=lambda r: r["value"])
    other = f"{rival['name']} ({rival['value']:.3f})"
    if not learned.network.backbone.pretrained:
        return f"{using} reaches {number}; {other} is beside it. Nothing here was pretrained, so this is no transfer."
    told = rival["difference"]["verdict"]
    if told == "worse":
        return f"No gain from transfer: {other} without a pretrained model is better than {using}: {number}."
    if told == "better":
        return f"Transfer helps: {using} reaches {number}; better than {other}, the best without transfer."
    return f"Not decidable: {using} reaches {number}; these rows cannot tell it from {other}, which needs no transfer."


def _report(request: Request, task: Structured, found: Found, scores: Scores, rows: list[dict[str, Any]]) -> ReportData:
    learned = found.learned
    origin = learned.network.backbone.origin
    greater = task.measures([], [], learned.state)[scores.metric].greater_is_better
    read_at = learned.network.backbone.read_at
    size = {"pictures_read_at": read_at} if read_at else {}
    said = [s for s in (*found.decisions, *learned.notes) if s]
    return ReportData(
        title=f"{Path(str(found.audits[0].source)).name}: {task.name}",
        verdict=f"{verdict(scores, learned, rows, greater)} {found.untested}".strip(),
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        task=task.name,
        metric=scores.metric,
        strategy=learned.strategy,
        model_name=origin.name,
        licence=origin.licence,
        settings={
            **task.settings(),
            **learned.settings,
            **size,
            "seed": request.run.seed,
            "seconds": round(found.seconds, 1),
        },
        audits=[a.to_json() for a in found.audits],
        scores=scores.to_json(),
        baselines=rows,
        candidates=found.candidates,
        decisions=said,
        history=[dict(h) for h in learned.history],
        mistakes=None if request.gate.private else _mistakes(task, found),
        mistakes_note="Rows with the most errors come first.",
        splits={name: n for name, n in found.splits.items() if n},
        how_tested=found.how + ".",
        next_steps=_next(request, task, found),
        private=request.gate.private,
        versions=runs.versions(),
    )


def _mistakes(task: Structured, found: Found) -> list[dict[str, Any]]:
    """The rows with the most errors, as the task shows them."""
    truth = labels_of(found.test)
    errors = task.errors(truth, found.answers)
    worst = [i for i in sorted(range(len(errors)), key=lambda i: (-errors[i], i)) if errors[i] > 0][:_SHOWN]
    shown = task.shown(
        [found.test.inputs[i] for i in worst], [truth[i] for i in worst], [found.answers[i] for i in worst]
    )
    for one, i in zip(shown, worst, strict=True):
        one["line"] = found.test.lines[i] if found.test.lines else None
    return shown


def _next(request: Request, task: Structured, found: Found) -> list[dict[str, Any]]:
    folder = str(request.folder)
    steps = [{"text": "Answer new rows.", "command": f"acclimate predict {folder} NEW"}]
    if request.test is None:
        text = "Judge it on rows from where it will be used, which it has never seen."
        steps.append({"text": text, "command": f"acclimate evaluate {folder} TEST"})
    return steps


def _files(
    folder: Path, request: Request, task: Structured, train: Data, found: Found, scores: Scores, data: ReportData
) -> None:
    learned = found.learned
    runs.write_json(folder / "audit.json", [a.to_json() for a in found.audits])
    runs.write_json(folder / "metrics.json", scores.to_json())
    runs.write_json(folder / "report.json", data.to_json())
    runs.write_text(folder / "history.jsonl", "".join(json_text(h) + "\n" for h in learned.history))
    runs.write_json(folder / "run.json", {
        "asked": dict(request.asked), "arguments": dict(request.arguments), "content": dict(request.content),
        "task": task.name, "task_settings": task.settings(), "columns": dataclasses.asdict(request.columns),
        "strategy": learned.strategy, "settings": learned.settings, "seed": request.run.seed, "metric": scores.metric,
        "preprocessing": learned.network.backbone.settings(), "device": request.run.device,
        "versions": runs.versions(), "data_sha256": dict(request.sha256), "rows": data.splits,
        "how_tested": data.how_tested, "finished": data.created, "notes": list(learned.notes),
    })  # fmt: skip
    if not request.gate.private:
        runs.remember_keys(folder, task.keys(train.inputs))
    if request.test is not None and "test" in request.sha256:
        runs.count_use(folder, request.sha256["test"], str(request.test))
