"""`fit` for tasks with structured answers: read, split, tune, choose, judge once, report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from acclimate import ranks
from acclimate.api import state
from acclimate.api.budget import TO_FINISH, before_the_end
from acclimate.api.request import Request
from acclimate.api.structured_model import StructuredModel
from acclimate.api.structured_report import Found, write
from acclimate.api.structured_rows import (
    FEWEST_TO_CHOOSE_BY,
    TEST_SHARE,
    VALID_SHARE,
    Parts,
    content_of,
    read_parts,
)
from acclimate.data.account import how_read
from acclimate.errors import UserError, plural, unknown
from acclimate.evaluate import Difference, Scores
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.settings import check_type
from acclimate.strategies import SETTING_ALIASES
from acclimate.strategies.tune import Tune
from acclimate.structured import task_named
from acclimate.structured.answering import answers_to
from acclimate.structured.base import Asked, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.bundle import Learned
from acclimate.structured.gate import clusters_of, refuse_unread
from acclimate.structured.measuring import difference, metric_of, scores_of
from acclimate.structured.tuning import tuned

PROBE = "linear_probe"
_PARTS = ("weight", "subgroup", "domain", "drop", "group", "time")  # that a column may play for labels of whole rows
_OTHERS_ONLY = (  # what speaks of labels of whole rows
    "target", "target_labels", "class_weight", "class_order", "single_task", "prompt",
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A strategy that was fitted, and what it reached on the rows to choose by."""

    learned: Learned
    scores: Scores | None
    answers: list[Any] = field(default_factory=list)
    seconds: float = 0.0


def fit(request: Request) -> StructuredModel:
    """Everything from the user's file to a RUN folder."""
    start = time.monotonic()
    assert request.task is not None
    task, tunes = _settled(task_named(request.task), request)
    _refuse(request, task)
    names = _strategies(request, task)
    asked = Asked(request.columns, request.gate.private, request.run.progress)
    parts = read_parts(task, request.sources(), asked, request.gate.on_bad, request.run.seed)
    request = replace(
        request,
        model=request.model or task.model,
        sha256=state.sha256_of({k: v for k, v in request.sources().items() if v is not None}),
        content={
            role: content_of(task, data)
            for role, data in (("train", parts.train), ("valid", parts.valid), ("test", parts.test))
            if data is not None
        },
    )
    with state.kept(request) as (request, used):
        return _fit(request, task, tunes, names, parts, start - used)


def _fit(
    request: Request,
    task: Structured,
    tunes: Mapping[str, Tune | None],
    names: tuple[str, ...],
    parts: Parts,
    start: float,
) -> StructuredModel:
    run, say = request.run, request.run.progress.say
    for report in parts.audits:
        say(f"{report.source} ({how_read(report.facts)}): {plural(report.read, 'row')} read, {report.kept:,} kept, "
            f"{report.read - report.kept:,} dropped")  # fmt: skip
    say(f"loading {request.model}")
    loading = time.monotonic()
    fitted_state = task.learn(parts.train)
    network = _loaded(request, task, fitted_state)
    if network.backbone.read_at:
        say(f"pictures are read at {network.backbone.read_at}")
    if run.deadline is not None:
        run = replace(run, deadline=run.deadline + time.monotonic() - loading)
    if not state.same_model(request.folder, run, network.backbone.fingerprint()):
        raise UserError(
            f"{request.model!r} is not the model that the unfinished run {request.folder} was begun with; put it back, "
            "or start anew with --overwrite"
        )
    for part in (parts.train, parts.valid, parts.test):
        if part is not None:
            refuse_unread(network, part)
    names = _possible(request, task, names, network)
    few = _too_few(names, parts)
    names = names[:1] if few else names
    if few:
        say(few)
    inner = before_the_end(run, TO_FINISH + 2 * _seconds_to_answer(network, parts, run))
    candidates = [
        _candidate(request, task, name, tunes[name], network, fitted_state, parts, _share_of(inner, len(names) - i))
        for i, name in enumerate(names)
    ]
    best = _best(task, candidates, fitted_state)
    if len(candidates) > 1:
        say(f"chosen: {best.learned.strategy}")
    truth = labels_of(parts.test)
    answers = task.judged(best.learned.network, parts.test, run)
    metric = metric_of(task, task.measures(truth, answers, fitted_state), request.metric)
    others: dict[str, list[Any]] = {}
    for name, make in task.baselines(parts.train, fitted_state, run).items():
        say(f"baseline {name}")
        others[name] = task.judged_by(make(), parts.test)
    clusters = clusters_of(parts.test)
    scores = scores_of(task, truth, answers, fitted_state, metric=metric, clusters=clusters, seed=run.seed)
    gaps: dict[str, Difference] = {}
    theirs: dict[str, Scores] = {}
    for name, said in others.items():
        theirs[name] = scores_of(task, truth, said, fitted_state, metric=metric, clusters=clusters, seed=run.seed)
        gaps[name] = difference(task, metric, truth, answers, said, fitted_state, clusters=clusters, seed=run.seed)
    found = Found(
        best.learned, scores, parts.test, answers, theirs, gaps, _rows(candidates, best),
        few, (few, *_why(task, candidates, best, parts)), parts.audits, parts.how,
        {"train": len(parts.train), "valid": len(parts.valid or ()), "test": len(parts.test)},
        time.monotonic() - start,
    )  # fmt: skip
    return write(request, task, parts.train, found)


def _settled(task: Structured, request: Request) -> tuple[Structured, dict[str, Tune | None]]:
    """The task and its strategies with the settings that the user gave: those of the task's own name first."""
    own = {f.name: f for f in dataclasses.fields(task)}
    every = {f.name: f for f in dataclasses.fields(Tune) if f.init}
    mine: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    for asked, value in request.settings.items():
        name = asked if asked in own else SETTING_ALIASES.get(asked, asked)
        if name in own:
            check_type(task.name, name, value, getattr(task, name), str(own[name].type))
            mine[name] = value
        elif name in every:
            check_type(task.name, name, value, every[name].default, str(every[name].type))
            theirs[name] = value
        else:
            raise unknown(f"setting of {task.name}", asked, sorted({*own, *every}))
    if theirs and task.strategies.get(request.strategy, Tune()) is None:
        raise UserError(
            f"{request.strategy} has no setting {next(iter(theirs))!r}: nothing is trained step by step there; leave "
            "it out, or choose another --strategy"
        )
    tunes = {n: None if t is None else dataclasses.replace(t, **theirs) for n, t in task.strategies.items()}
    return dataclasses.replace(task, **mine), tunes


def _refuse(request: Request, task: Structured) -> None:
    """What is asked and cannot be had for this task."""
    if ranks.world() > 1:
        raise UserError(f"task {task.name!r} runs in one process; leave --processes out")
    for name in _OTHERS_ONLY:
        if getattr(request, name) not in (None, (), {}):
            option = "--" + {"target": "target-data"}.get(name, name.replace("_", "-"))
            raise UserError(f"{option} is for labels of whole rows, and task {task.name!r} has structured answers")
    for part in _PARTS:
        if part not in task.parts and getattr(request.columns, part) not in (None, ()):
            option = "--drop" if part == "drop" else f"--{part}-column"
            raise UserError(f"{option}: task {task.name!r} reads no such column; leave it out")
    if request.reading.get("pooling") is not None or request.gate.split is not None:
        option = "--pooling" if request.gate.split is None else "--split"
        raise UserError(f"{option} is for labels of whole rows, and task {task.name!r} has structured answers")
    task.refuse(request.reading)
    if any(getattr(request.choice, f.name) is not None for f in dataclasses.fields(request.choice)):
        raise UserError(f"thresholds, costs and positive classes are for classification, not for task {task.name!r}")


def _strategies(request: Request, task: Structured) -> tuple[str, ...]:
    """The strategies to fit: the one named, or those that `auto` compares."""
    names: tuple[str, ...] = (request.strategy,)
    if request.strategy == "auto":
        asked = request.asked.get("candidates")
        names = tuple(request.candidates) if asked is not None else task.candidates
    for name in names:
        if name not in task.strategies:
            raise unknown(f"strategy for task {task.name}", name, task.strategies)
    kept = [name for name in names if name in task.keeps_rows] if request.gate.private else []
    if kept and request.strategy == "auto" and request.asked.get("candidates") is None:
        request.run.progress.say(f"{kept[0]} is left out: its bundle holds training rows, and the run is private")
        return tuple(name for name in names if name not in kept)
    if kept:
        raise UserError(f"{kept[0]} keeps training rows in its bundle, and the run is private; choose another strategy")
    return names


def _loaded(request: Request, task: Structured, fitted_state: State) -> StructuredNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.run.seed)
        return task.network(request.model, fitted_state, request.reading).eval()


def _possible(
    request: Request, task: Structured, names: tuple[str, ...], network: StructuredNetwork
) -> tuple[str, ...]:
    """The strategies that this network can have; one that was asked for by name and cannot be had is an error."""
    reasons = {name: task.refuses(name, network) for name in names}
    left = tuple(name for name in names if not reasons[name])
    if not left or (request.strategy != "auto" and len(left) < len(names)):
        raise UserError("; ".join(reason for reason in reasons.values() if reason))
    for name in names:
        if reasons[name]:
            request.run.progress.say(f"{name} is left out: {reasons[name]}")
    return left


def _too_few(names: tuple[str, ...], parts: Parts) -> str:
    """Why nothing is compared, where no rows are there to choose by; empty where some are."""
    if len(names) < 2 or parts.valid is not None:
        return ""
    needed = math.ceil(FEWEST_TO_CHOOSE_BY / VALID_SHARE)
    return (
        f"{names[0]} was taken without comparing it with {' and '.join(names[1:])}: "
        f"{plural(len(parts.train), 'row')} to learn "
        f"from are too few to hold some out to choose by, and {needed} are needed (without test data of its own some "
        f"{math.ceil(needed / (1 - TEST_SHARE))} in all). Give more, or rows to choose by (--valid-data), or name a "
        "strategy (--strategy)."
    )


def _seconds_to_answer(network: StructuredNetwork, parts: Parts, run: Run) -> float:
    """What answering the test rows takes, by a few of them; 0 without a time limit."""
    if run.deadline is None:
        return 0.0
    some = parts.test.inputs[:8]
    began = time.monotonic()
    answers_to(network, some, replace(run, progress=Progress()))
    return float(run.once("answering", lambda: (time.monotonic() - began) / len(some) * len(parts.test)))


def _share_of(run: Run, left: int) -> Run:
    """The run with an equal share of the time that is left for each of the strategies to come."""
    if run.deadline is None or left <= 1:
        return run
    return replace(run, deadline=time.monotonic() + max(0.0, run.left()) / left)


def _candidate(
    request: Request,
    task: Structured,
    name: str,
    tune: Tune | None,
    network: StructuredNetwork,
    fitted_state: State,
    parts: Parts,
    run: Run,
) -> Candidate:
    """Fit one strategy and judge it on the rows to choose by."""
    began = time.monotonic()
    run.progress.say(f"fitting {name} on {plural(len(parts.train), 'row')}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.run.seed)
        network = task.network_of(name, network, fitted_state)
    said: tuple[str, ...] = ()
    if (name == PROBE and tune is None) or (tune is not None and tune.start == "probe"):
        network, told = task.probe(network, parts.train, parts.valid, run)
        said = (told,)
    if tune is None:
        if name != PROBE:
            network = task.untrained(name, network, parts.train)
        found = Learned(task, fitted_state, network, name, notes=said)
    else:
        one = tuned(name, tune, network, parts.train, parts.valid, run.at(name), request.content["train"])
        notes = (*said, *one.notes)
        found = Learned(task, fitted_state, one.network, name, one.settings, one.trained, tuple(one.history), notes)
    trained, own = task.finished(found.network, found.state, parts.valid, run)
    found = replace(found, network=trained, state=own)
    if parts.valid is None or request.strategy != "auto":
        return Candidate(found, None, [], time.monotonic() - began)
    answers = task.judged(found.network, parts.valid, run, f"judging {name}")
    scores = scores_of(
        task, labels_of(parts.valid), answers, fitted_state, metric=request.metric,
        clusters=clusters_of(parts.valid), seed=run.seed,
    )  # fmt: skip
    run.progress.say(f"{name}: {scores.metric} {scores.estimates[scores.metric]} on rows to choose by")
    return Candidate(found, scores, answers, time.monotonic() - began)


def _best(task: Structured, candidates: list[Candidate], fitted_state: State) -> Candidate:
    """The best value on the rows to choose by; the first, and cheapest, of equals."""
    judged = [c for c in candidates if c.scores is not None and c.scores.value is not None]
    if not judged:
        return candidates[0]
    measure = task.measures([], [], fitted_state)[judged[0].scores.metric] if judged[0].scores else None
    sign = 1.0 if measure is None or measure.greater_is_better else -1.0
    return max(judged, key=lambda c: sign * float(c.scores.value or 0.0) if c.scores else -np.inf)


def _rows(candidates: list[Candidate], best: Candidate) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for one in candidates:
        seen: Any = None if one.scores is None else one.scores.estimates[one.scores.metric]
        numbers = {name: getattr(seen, name, None) for name in ("value", "low", "high", "n")}
        about = {"seconds": round(one.seconds, 1), "chosen": one is best, "note": ""}
        rows.append({"name": one.learned.strategy, **numbers, **about})
    return rows if len(rows) > 1 else []


def _why(task: Structured, candidates: list[Candidate], best: Candidate, parts: Parts) -> tuple[str, ...]:
    """Whether the rows to choose by can tell the chosen strategy from the others."""
    if len(candidates) < 2 or parts.valid is None or best.scores is None:
        return ()
    truth, metric = labels_of(parts.valid), best.scores.metric
    said = []
    for one in candidates:
        if one is best or one.scores is None:
            continue
        gap = difference(task, metric, truth, best.answers, one.answers, best.learned.state)
        told = {"better": "better than", "worse": "worse than"}.get(gap.verdict, "not to be told from")
        said.append(f"{told} {one.learned.strategy}")
    name = best.learned.strategy
    return (f"{name} has the best {metric} on {plural(len(truth), 'row')} held out to choose by: {', '.join(said)}.",)
