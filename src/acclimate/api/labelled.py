"""A fit that learns from a few labelled rows of the target: they choose the way, and they give the number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from acclimate.advise.costs import Cost, folds_text, over_sessions
from acclimate.advise.crossfit import Pairs, Trial, crossfit
from acclimate.advise.labels import SOURCE_ONLY, OnTarget, bought, contest, label_folds, once
from acclimate.advise.race import Race
from acclimate.api import deciding
from acclimate.api.finish import Choice, Judged, candidate_rows, finished, judged_on, judged_out_of_fold
from acclimate.api.prepare import Prepared
from acclimate.api.request import Fitted, Request
from acclimate.data.rows import Data
from acclimate.errors import UserError, plural
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import (
    ADAPTATIONS,
    FEW_LABELS,
    Problem,
    Splits,
    Strategy,
    adapts,
    source_alone,
    without_transfer,
)
from acclimate.usage import Usage


def learn(
    request: Request,
    prepared: Prepared,
    problem: Problem,
    strategy: tuple[str, Strategy] | None,
    choice: Choice,
    metric: str,
) -> Fitted:
    """Judge the ways on labelled target rows left out, fit the chosen one with all of them; say what they bought."""
    few, run = prepared.labelled, request.run
    assert few is not None
    source = Splits(prepared.train, prepared.valid, prepared.target)
    pairs = label_folds(few, problem.task.name, run.seed, dear=strategy is not None and not strategy[1].frozen)
    free = deciding.label_free(prepared, problem, run)
    race = _race(strategy, problem, source, few, pairs, metric, run, free)
    name, trial = race.chosen, race.trial(race.chosen)
    learned = "" if name in (SOURCE_ONLY, free) else f" and {len(few):,} labelled target rows"
    run.progress.say(f"fitting {name} on {plural(len(prepared.train), 'row')}{learned}")
    with over_sessions(run.at("final")) as taken:
        fitted = _kept(name, strategy, problem).fit(problem, replace(source, target_labelled=few), run.at("final"))
    at = trial.judged
    fitted, thresholds = finished(problem, fitted, trial.logits, at, few.take(at), choice)
    fitted = replace(fitted, strategy=name)
    judged = _judged(prepared, problem, fitted, trial, few, pairs, choice, run)
    baselines = _baselines(prepared, problem, race, source, few, pairs, run)
    models = {**{n: p for n, (p, _) in baselines.items()}, name: fitted}
    decided = _decided(request, prepared, problem, race, models, free)
    said = (*_said(problem, few, race, free, strategy is None), *decided.said)  # the last one ends with a command
    for sentence in said:
        run.progress.say(sentence)
    return Fitted(
        fitted,
        judged,
        baselines,
        candidate_rows(race, problem, few, metric, run.seed) if strategy is None else [],
        (*race.decisions, *said),
        thresholds,
        f"temperature and thresholds come from the {len(few):,} labelled target rows, each left out",
        verdict=" ".join(said),
        files=dict(decided.files),
        next_steps=decided.next_steps,
        adapted=adapts(_kept(name, strategy, problem)),
        costs=[cost.to_json() for cost in _costs(race, Cost(name, "last fit", taken))],
    )


def _race(
    strategy: tuple[str, Strategy] | None,
    problem: Problem,
    source: Splits,
    few: Data,
    pairs: Pairs,
    metric: str,
    run: Run,
    free: str | None,
) -> Race:
    if strategy is None:
        return contest(problem, source, few, pairs, metric, run, free)
    name, chosen = strategy
    trials = [once(SOURCE_ONLY, source_alone(problem), problem, source, few, run)]
    trials.append(crossfit(name, OnTarget(chosen, source), problem, few, pairs, run, True))
    if free is not None and free != name:
        trials.append(once(free, ADAPTATIONS[free], problem, source, few, run))
    return Race(tuple(trials), name, ())


def _kept(name: str, strategy: tuple[str, Strategy] | None, problem: Problem) -> Strategy:
    if strategy is not None:
        return strategy[1]
    every = {**ADAPTATIONS, **FEW_LABELS, SOURCE_ONLY: source_alone(problem)}
    return every[name]


def _judged(
    prepared: Prepared,
    problem: Problem,
    fitted: Predictor,
    trial: Trial,
    few: Data,
    pairs: Pairs,
    choice: Choice,
    run: Run,
) -> Judged:
    if prepared.test is not None:
        return judged_on(fitted, prepared.test, run, problem)
    return judged_out_of_fold(problem, trial, few, pairs, choice)


def _said(problem: Problem, few: Data, race: Race, free: str | None, auto: bool) -> tuple[str, ...]:
    found = bought(problem, few, race, free, chosen=auto)
    return () if found is None else (found.text(),)


def _decided(
    request: Request, prepared: Prepared, problem: Problem, race: Race, models: dict[str, Predictor], free: str | None
) -> deciding.Decided:
    """The answer to whether to adapt, where both were run; nothing where not."""
    if free is None or all(t.name != free for t in race.trials):
        return deciding.Decided(())
    return deciding.settled(request, prepared, problem, race, models, free)


def _baselines(
    prepared: Prepared, problem: Problem, race: Race, source: Splits, few: Data, pairs: Pairs, run: Run
) -> dict[str, tuple[Predictor, Judged]]:
    """What does without the labels of the target, on the rows that give the number."""
    every = {**without_transfer(few), SOURCE_ONLY: source_alone(problem)}
    every |= {t.name: ADAPTATIONS[t.name] for t in race.trials if t.name in ADAPTATIONS}
    ran = {t.name: t for t in race.trials}
    usual, found = Choice(positive=problem.decoder.positive), {}
    for name, strategy in every.items():
        if name == race.chosen:
            continue  # the model itself
        try:
            trial = ran.get(name) or once(name, strategy, problem, source, few, run)
            fitted = replace(strategy.fit(problem, source, run), strategy=name)
        except UserError:
            continue  # texts without a single word have no TF-IDF
        fitted, _ = finished(problem, fitted, trial.logits, trial.judged, few.take(trial.judged), usual)
        found[name] = (fitted, _judged(prepared, problem, fitted, trial, few, pairs, usual, run))
    return found


def _costs(race: Race, last: Cost) -> Sequence[Cost]:
    parts = [Cost(t.name, folds_text(t.folds), Usage(t.seconds, t.memory), t.foreseen) for t in race.trials]
    return [*parts, last]
