"""The main job, step by step: read, choose, fit, calibrate, judge once, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from acclimate.advise.costs import Cost, announce, folds_text, foretold, on_folds, over_sessions, say_long_folds
from acclimate.advise.crossfit import Pairs, Trial, crossfit, held, put
from acclimate.advise.labels import SOURCE_ONLY
from acclimate.advise.precision import precision_cost
from acclimate.advise.race import CANDIDATES, OF_DOMAINS, OF_PARTS, Race, race
from acclimate.api import adapting, deciding, fusing, labelled, over_domains, prompting, state
from acclimate.api import multitask as columns
from acclimate.api.alongside import fitted_beside
from acclimate.api.budget import TO_FINISH, Plan, before_the_end, plan
from acclimate.api.classes import class_weights
from acclimate.api.encoder_too import encoder_too, refuse_unused
from acclimate.api.finish import Choice, Judged, candidate_rows, finished, judged_on, judged_out_of_fold
from acclimate.api.loading import backbone_for, refuse_unread
from acclimate.api.model import Model
from acclimate.api.prepare import Prepared, Sources, folds_of, gather, prepare
from acclimate.api.reading import unread
from acclimate.api.request import Fitted, Request
from acclimate.api.weighing import weighed
from acclimate.api.writing import write
from acclimate.backbones.base import Backbone
from acclimate.backbones.quantise import check as check_precision
from acclimate.data.account import how_read
from acclimate.data.columns import Guess
from acclimate.data.kinds import kind_of, model_for
from acclimate.data.kinds.table import needs_networks
from acclimate.data.rows import Data, joined
from acclimate.data.split import holdout
from acclimate.errors import UserError, plural
from acclimate.evaluate import default_metric, metric_name
from acclimate.features import Store
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import (
    BASELINES,
    EVERY,
    OVER_DOMAINS,
    STRATEGIES,
    Problem,
    Splits,
    Strategy,
    adapts,
    multitask,
    named,
    opened,
    source_alone,
    tunes,
    without_transfer,
)
from acclimate.strategies.foresee import Foreseen
from acclimate.strategies.tune import Tune, cut_short
from acclimate.tasks import TASKS, Multitask
from acclimate.tasks.base import label_kind
from acclimate.tasks.decoder import positive_class
from acclimate.usage import Usage

SHARE_TO_CHOOSE = 0.15  # of the training rows, for the epoch and the temperature where a strategy is too dear for folds


def fit(request: Request) -> Model:
    """Everything from the user's file to a RUN folder."""
    start = time.monotonic()
    strategy = None if request.strategy == "auto" else named(request.strategy, dict(request.settings))
    adapting.check(strategy, request)
    given = request.sources()
    sources = gather(columns=request.columns, task=request.task, gate=request.gate, **given)
    _early(request, sources.guessed, strategy)
    found = sources.guessed.columns
    usual, why = model_for([t for r, t in sources.tables.items() if r in ("train", "target")], found)
    if not request.model and why:
        request.run.progress.say(why)
    request = replace(
        request,
        model=request.model or usual,
        sha256=state.sha256_of(given),
        content=state.content_of(sources.tables, found.files),
    )
    with state.kept(request) as (request, used):
        return _fit(request, sources, strategy, start - used)


def _fit(request: Request, sources: Sources, strategy: tuple[str, Strategy] | None, start: float) -> Model:
    say = request.run.progress.say
    wanted = strategy is None or strategy[1].needs_backbone
    loading = time.monotonic()
    backbone = None
    if wanted:
        say(f"loading {request.model}")
        backbone = backbone_for(sources.guessed.columns, request.model, **request.reading)
        if left_out := unread(sources.guessed.columns, backbone):
            say(left_out)
        if backbone.read_at:
            say(f"pictures are read at {backbone.read_at}")
    if request.run.deadline is not None:  # the limit counts from here: the first use of a model imports much code
        later = request.run.deadline + time.monotonic() - loading
        request = replace(request, run=replace(request.run, deadline=later))
    may = [(name, EVERY[name]) for name in request.candidates] if strategy is None else [strategy]
    prepared = prepare(sources, backbone, request.gate, request.run, [name for name, one in may if tunes(one)])
    for reason in prepared.reasons:
        say(reason)
    for report in prepared.audits:
        say(
            f"{report.source} ({how_read(report.facts)}): {plural(report.read, 'row')} read, {report.kept:,} kept, "
            f"{report.read - report.kept:,} dropped"
        )
    if backbone is not None:  # the columns of a table are learned from the rows that labels are learned from
        learned = [prepared.train, *([] if prepared.labelled is None else [prepared.labelled])]
        backbone = backbone.fit_rows([x for part in learned for x in part.inputs]).requires_grad_(False)
    problem = opened(None if strategy is None else strategy[1], _problem(request, prepared, backbone))
    _same_model(request, backbone)
    refuse_unused(request, problem)
    choice = request.choice.check(problem.decoder)
    metric = _metric(request, prepared, problem)
    foreseen = Plan(prepared, 0.0)
    if problem.store is not None and (prepared.labelled is not None or _reads_features(strategy)):
        only = strategy is not None and tunes(strategy[1]) and not adapts(strategy[1]) and prepared.labelled is None
        base, store = (problem.to_tune() if only else problem).network()
        foreseen = plan(prepared, replace(problem, backbone=base, store=store), request.run)
        prepared = foreseen.prepared
        with over_sessions(request.run.at("reading")) as read:
            store.prepare(prepared.everything)
    said = foreseen.said and (*foreseen.said, f"Those of the rows used took {read.seconds:.0f} s.")
    notes = _precision(request, prepared, problem, metric)
    reserve = TO_FINISH + foreseen.seconds_a_row * len(prepared.test or ())
    if prepared.labelled is None:
        fitted = _choose_and_fit(request, prepared, problem, strategy, choice, metric, reserve)
    else:
        fitted = labelled.learn(request, prepared, problem, strategy, choice, metric)
    if foreseen.said:
        cost = Cost("features", f"{len(prepared.everything):,} inputs", read, Usage(foreseen.seconds, 0))
        fitted = replace(fitted, costs=[cost.to_json(), *fitted.costs])
    fitted = replace(fitted, decisions=(*said, *notes, *fitted.decisions), cut=(*foreseen.cut, *fitted.cut))
    return write(request, prepared, problem, fitted, metric, time.monotonic() - start)


def _reads_features(strategy: tuple[str, Strategy] | None) -> bool:
    """Whether features of the pretrained network are of use: to learn from, to start from, or beside what adapts."""
    if strategy is None or strategy[1].frozen or adapts(strategy[1]):
        return True
    return getattr(strategy[1], "start", "") == "probe"


def _early(request: Request, guessed: Guess, strategy: tuple[str, Strategy] | None) -> None:
    """What can be told wrong before a model is loaded, and perhaps fetched."""
    kind = kind_of(guessed.columns)
    columns.check(request, guessed.columns)
    prompting.check(request, guessed)
    if strategy is not None and strategy[0] in BASELINES and strategy[0] not in without_transfer(guessed.columns):
        raise UserError(
            f"{strategy[0]} is no baseline of {kind.plural}: without transfer they are read by "
            f"{' or '.join((kind.baseline, *kind.also))}"
        )
    if strategy is not None and not strategy[1].needs_backbone:
        refuse_unread(strategy[0], request.reading)
    precision = request.reading["precision"]
    if precision is not None and check_precision(precision) == "int8" and strategy and not strategy[1].frozen:
        raise UserError(
            f"strategy {strategy[0]!r} moves weights, and precision 'int8' is for weights that stay; "
            "use --precision fp32, or a strategy such as linear_probe"
        )
    if request.metric is not None:
        metric_name(request.metric, guessed.task)
    if not (request.class_weight in (None, "balanced") or isinstance(request.class_weight, Mapping)):
        raise UserError(
            f"class_weight {request.class_weight!r} is not understood; give 'balanced' or one weight a class, "
            "{'spam': 3}"
        )


def _same_model(request: Request, backbone: Backbone | None) -> None:
    """A run that goes on needs the weights that it was begun with."""
    now = None if backbone is None else backbone.fingerprint()
    if not state.same_model(request.folder, request.run, now):
        raise UserError(
            f"{request.model!r} is not the model that the unfinished run {request.folder} was begun with (its weights "
            "or settings differ); put it back, or start anew with --overwrite"
        )


def _precision(request: Request, prepared: Prepared, problem: Problem, metric: str) -> tuple[str, ...]:
    """What fewer digits cost on these rows, said and reported; nothing in full precision."""
    if problem.backbone is None or problem.backbone.settings().get("precision", "fp32") == "fp32":
        return ()
    note = precision_cost(problem, prepared.train, metric, request.run)
    request.run.progress.say(note)
    return (note,)


def _problem(request: Request, prepared: Prepared, backbone: Backbone | None) -> Problem:
    labels, store = prepared.train.labels or (), None if backbone is None else Store(backbone, request.run)
    if prepared.columns.tasks:
        names, tasks = prepared.columns.labels, prepared.columns.tasks
        several, decoder = Multitask.of(names, tasks, labels, prepared.train.weights, request.label_weight)
        return Problem(several, decoder, backbone, store)
    task = TASKS[prepared.task]
    decoder = task.decoder(labels, label_kind(labels), request.class_order)
    if task.name == "classify" and len(decoder.classes) == 2:
        decoder = replace(decoder, positive=request.choice.check(decoder).positive or positive_class(decoder))
    decoder = replace(decoder, delimiter=request.gate.label_delimiter or ("|" if task.name == "multilabel" else None))
    return Problem(task, decoder, backbone, store, class_weights(request.class_weight, decoder.column_names()))


def _metric(request: Request, prepared: Prepared, problem: Problem) -> str:
    if request.metric is not None:
        return metric_name(request.metric, problem.task.name, len(problem.decoder.classes))
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
    reserve: float,
) -> Fitted:
    run = before_the_end(request.run, reserve)
    data, pairs = _rows_to_choose_by(prepared, run.seed)
    trial: Trial | None
    one: Foreseen | None
    weighing: tuple[str, ...] = ()
    decided = deciding.judge(request, prepared, problem) if strategy is None else None
    if decided is not None and decided.adapt is not None:
        decided, moving, pairs = encoder_too(decided, request, prepared, problem, pairs, run)
        strategy = moving or named(str(decided.adapt))
    if strategy is None:
        few, every = request.candidates, prepared.test is None
        if few == CANDIDATES:
            few = (*few, *(OF_DOMAINS if data.domains is not None else ()), *(OF_PARTS if needs_networks(data) else ()))
        asked = request.asked.get("candidates") is not None
        contest = race(
            problem, data, pairs, metric, run, request.settings, candidates=few, every_fold=every, asked=asked
        )
        name, one, trial = contest.chosen, contest.one, contest.trial(contest.chosen)
        chosen = trial.strategy
    else:
        name, chosen = strategy
        if request.auto_weight:
            chosen, why = weighed(name, chosen, prepared, problem, run)
            run.progress.say(why)
            weighing = (why,)
        contest = Race((), name, ())
        cheap = chosen.frozen or prepared.test is None
        last = _last_rows(prepared, problem, name, chosen, cheap, run.seed)[0]
        one = foretold(name, chosen, problem, last, run)
        if one is not None:  # judging what moved costs a pass over these rows, whatever features took
            judging = one.a_row * (len(prepared.test or ()) + len(last.valid or ()))
            run = before_the_end(request.run, max(reserve, TO_FINISH + judging))
        folds = on_folds(one, len(last.train), pairs) if one is not None and cheap else None
        announce(name, [folds, None if one is None else one.usage], run)
        if prepared.test is None and folds is not None and one is not None:
            say_long_folds(folds, one, len(pairs), run)
        trial = None
        if cheap:
            judged_on_folds = crossfit(
                name, chosen, problem, data, pairs, run, prepared.test is None, target=prepared.target
            )
            trial = replace(judged_on_folds, foreseen=folds)
    run.progress.say(f"fitting {name} on {plural(len(prepared.train), 'row')}")
    with over_sessions(run.at("final")) as taken:
        fitted, logits, at, rows, how = _last_fit(prepared, problem, name, chosen, trial, data, run.at("final"))
    last_fit = Cost(name, "last fit", taken, None if one is None else one.usage)
    costs = _costs(contest.trials or ([trial] if trial else []), last_fit, run)
    fitted, thresholds = finished(problem, fitted, logits, at, rows, choice)
    fitted = replace(fitted, strategy=name)
    if prepared.test is not None:
        judged = judged_on(fitted, prepared.test, run, problem)
    else:
        assert trial is not None
        judged = judged_out_of_fold(problem, trial, data, pairs, choice)
    baselines = _baselines(prepared, problem, contest, data, pairs, run, adapts(chosen))
    baselines |= prompting.beside(request, prepared, problem, data, pairs, run)
    fused = fusing.alone(prepared, problem, (name, chosen), judged, (data, pairs), metric, taken.seconds, run)
    beside = baselines.get(SOURCE_ONLY)
    only = None if beside is None else beside[1]
    given = request.test is not None
    if decided is None:
        decided = adapting.said(request, prepared, problem, (name, chosen), judged, only, metric)
    elif decided.adapt is not None and given:
        measured = adapting.said(request, prepared, problem, (name, chosen), judged, only, metric)
        decided = replace(decided, said=(*decided.said, *measured.said))
    over = over_domains.said(prepared, problem, judged, metric, run.seed)
    adapted, apart = (*over, *decided.said), None
    if prepared.columns.tasks:
        splits = _last_rows(prepared, problem, name, chosen, trial is not None, run.seed)[0]
        took = taken.seconds if prepared.test is not None or trial is None else trial.seconds
        apart, told = columns.alone(
            request, problem, (name, chosen), judged, splits, prepared.test, (data, pairs), took, run
        )
        adapted = (told,)
    for sentence in adapted:
        run.progress.say(sentence)
    return Fitted(
        fitted,
        judged,
        baselines,
        candidate_rows(contest, problem, data, metric, run.seed),
        (*contest.decisions, *weighing, *adapted, *fused.said),
        thresholds,
        how,
        verdict=adapted[-1] if adapted else "",
        files=dict(decided.files),
        next_steps=decided.next_steps,
        adapted=adapts(chosen),
        costs=costs,
        alone=apart,
        kinds=fused.alone,
        cut=tuple(filter(None, [cut_short(list(fitted.history))])),
    )


def _costs(trials: Sequence[Trial], last: Cost, run: Run) -> list[dict[str, Any]]:
    """What every part took; of what was foretold it is said, too."""
    found = [Cost(t.name, folds_text(t.folds), Usage(t.seconds, t.memory), t.foreseen) for t in trials]
    for cost in (*found, last):
        if cost.foreseen is not None:
            run.progress.say(cost.text())
    return [cost.to_json() for cost in (*found, last)]


def _rows_to_choose_by(prepared: Prepared, seed: int) -> tuple[Data, Pairs]:
    """Training rows and their folds; or, where the user gave rows to choose by, both together with one split."""
    if prepared.valid is None:
        return prepared.train, folds_of(prepared, seed)
    n, m = len(prepared.train), len(prepared.valid)
    both = joined(prepared.train, prepared.valid)
    return both, [(np.arange(n), np.arange(n, n + m))]


def _last_rows(
    prepared: Prepared, problem: Problem, name: str, strategy: Strategy, judged: bool, seed: int
) -> tuple[Splits, str]:
    """Rows of the last fit, and what chooses epoch, temperature and thresholds; `judged`: on folds before."""
    every = Splits(prepared.train, prepared.valid, prepared.target)
    if judged:
        rows = "out-of-fold predictions" if prepared.valid is None else "the validation rows"
        return every, f"temperature and thresholds come from {rows}"
    last = strategy.aligned if isinstance(strategy, Tune) else adapts(strategy)
    what = "temperature and thresholds" if last else "epoch, temperature and thresholds"
    if prepared.valid is not None:
        return every, f"{what} come from the validation rows"
    learn, choose = holdout(prepared.train, problem.task.name, share=SHARE_TO_CHOOSE, seed=seed + 1)
    how = f"{what} come from {plural(len(choose), 'training row')} kept apart from {name}"
    return Splits(prepared.train.take(learn), prepared.train.take(choose), prepared.target), how


def _last_fit(
    prepared: Prepared, problem: Problem, name: str, strategy: Strategy, trial: Trial | None, data: Data, run: Run
) -> tuple[Predictor, Any, Any, Data, str]:
    """The model to keep, and logits of rows that it (or its folds) did not learn from, and which, to calibrate by."""
    splits, how = _last_rows(prepared, problem, name, strategy, trial is not None, run.seed)
    fitted = multitask.fit(strategy, problem, splits, run)
    if trial is not None:
        return fitted, trial.logits, trial.judged, data.take(trial.judged), how
    assert splits.valid is not None
    logits = held(problem, len(splits.valid), run)
    put(fitted, splits.valid.inputs, run, problem.store, logits, np.arange(len(logits)))
    return fitted, logits, np.arange(len(logits)), splits.valid, how


def _baselines(
    prepared: Prepared, problem: Problem, contest: Race, data: Data, pairs: Pairs, run: Run, adapted: bool
) -> dict[str, tuple[Predictor, Judged]]:
    """What does without transfer, on the same rows as the model; with a model that adapted what does without that."""
    found: dict[str, tuple[Predictor, Judged]] = {}
    ran = {t.name: t for t in contest.trials}
    compared = without_transfer(prepared.train)
    if adapted and problem.backbone is not None:  # without one, boosting alone stands beside what adapts it
        compared[SOURCE_ONLY] = source_alone(problem)
    elif contest.chosen in OVER_DOMAINS:
        compared["linear_probe"] = STRATEGIES["linear_probe"]
    for name, strategy in compared.items():
        if contest.chosen == name:
            continue  # the model itself
        try:
            found[name] = fitted_beside(name, strategy, prepared, problem, (data, pairs), run, ran.get(name))
        except UserError:
            continue  # texts without a single word have no TF-IDF
    return found
