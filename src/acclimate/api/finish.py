"""After the choice: temperature, thresholds and conformal scores from rows not fitted on; then the number, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from acclimate.advise.crossfit import Pairs, Trial, honest_outputs, temperature
from acclimate.advise.race import Race
from acclimate.data.label_cells import column_of
from acclimate.data.rows import Data, IntArray
from acclimate.data.split import units
from acclimate.errors import UserError, unknown
from acclimate.evaluate import Difference, Scores, difference, score
from acclimate.metrics import decisions as rules
from acclimate.metrics.digest import Digest, own_of
from acclimate.metrics.estimate import COVERS, COVERS_CLUSTERS
from acclimate.metrics.skill import NAME, skill, skill_difference
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import Problem
from acclimate.strategies.multitask import predictor_of, problem_of
from acclimate.tasks.answered import Outputs, answered, rows_of
from acclimate.tasks.base import Floats, Task
from acclimate.tasks.decoder import Decoder, positive_class
from acclimate.tasks.multitask import Multitask

MOST_CONFORMAL = 5000  # scores kept in a bundle; more would not narrow a set that anyone can see


@dataclass(frozen=True)
class Choice:
    """How probabilities become decisions, as the user asked for it."""

    positive: Any = None
    threshold: float | None = None
    cost: Mapping[str, Mapping[str, float]] | None = None
    specificity: float | None = None
    alert_budget: float | None = None
    prevalence: float | None = None

    def check(self, decoder: Decoder) -> Choice:
        """Resolved to the decoder's own classes, or one clear error."""
        asked = [n for n in ("threshold", "cost", "specificity", "alert_budget") if getattr(self, n) is not None]
        if decoder.task == "multitask":
            given = [n for n in (*asked, "positive", "prevalence") if getattr(self, n) is not None]
            if given:
                raise UserError(
                    f"{given[0]} speaks of the classes of one label, and there are {len(decoder.labels)} label "
                    "columns; learn that one alone, or decide by the p_ columns of predict"
                )
            return self
        if len(asked) > 1:
            raise UserError(f"{' and '.join(asked)} each set the decision; give one of them")
        if decoder.task == "regress" and (asked or self.positive is not None):
            raise UserError(f"{(asked or ['positive'])[0]} speaks of classes, and the task is regression")
        binary = decoder.task == "classify" and len(decoder.classes) == 2
        if not binary and any(
            getattr(self, n) is not None for n in ("threshold", "specificity", "alert_budget", "prevalence")
        ):
            raise UserError(
                "a threshold (given or chosen) needs a task of two classes; "
                f"this one is {decoder.task} with {len(decoder.classes)}"
            )
        for name in ("threshold", "specificity", "alert_budget", "prevalence"):
            value = getattr(self, name)
            if value is not None and not _share(value, open_ended=name == "prevalence"):
                raise UserError(f"{name} {value!r} is not a share; give a number between 0 and 1")
        if self.cost is not None and decoder.task == "multilabel":
            raise UserError("a cost table speaks of one class a row; multilabel rows have a threshold a class instead")
        if self.cost is not None:
            cost_rows(self.cost, decoder)
        if self.positive is not None and not binary:
            raise UserError(
                f"positive {self.positive!r} is the class that a threshold is for, where there are two; "
                f"this task is {decoder.task} with {len(decoder.classes)}"
            )
        if self.positive is None:
            return replace(self, positive=positive_class(decoder)) if binary else self
        by_text = {str(c): c for c in decoder.classes}
        if str(self.positive) not in by_text:
            raise unknown("class for --positive", str(self.positive), by_text)
        return replace(self, positive=by_text[str(self.positive)])


def _share(value: Any, *, open_ended: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 < value < 1 if open_ended else 0 <= value <= 1


def tuned(decoder: Decoder, outputs: Outputs, truth: Floats, choice: Choice, weights: Floats | None = None) -> Decoder:
    """The decoder with thresholds that these (not fitted on) rows ask for; none where only digests are kept."""
    if isinstance(outputs, Digest):
        return decoder if choice.cost is None else replace(decoder, cost=cost_rows(choice.cost, decoder))
    if decoder.task == "multilabel":
        found_each = rules.multilabel_thresholds(truth, outputs, weights)
        return replace(decoder, thresholds=tuple(float(t) for t in found_each))
    if choice.cost is not None:
        return replace(decoder, cost=cost_rows(choice.cost, decoder))
    if decoder.task != "classify" or len(decoder.classes) != 2:
        return decoder
    decoder = replace(decoder, positive=choice.positive)
    if choice.threshold is not None:
        return replace(decoder, threshold=float(choice.threshold))
    at = decoder.classes.index(choice.positive)
    hit = (np.asarray(truth) == at).astype(int)
    p = outputs[:, at]
    if choice.specificity is not None:
        found = rules.threshold_at_specificity(hit, p, choice.specificity, weights)
    elif choice.alert_budget is not None:
        found = rules.threshold_for_budget(p, choice.alert_budget, weights)
    else:
        return decoder
    return replace(decoder, threshold=float(found))


def cost_rows(cost: Mapping[str, Mapping[str, float]], decoder: Decoder) -> tuple[tuple[float, ...], ...]:
    """cost[truth][predicted] in the order of the classes; what is not named costs 0 where right and 1 where wrong."""
    return tuple(tuple(row) for row in rules.read_cost(cost, decoder.classes).tolist())


def finished(
    problem: Problem, fitted: Predictor, logits: Floats, at: IntArray, data: Data, choice: Choice
) -> tuple[Predictor, dict[str, Any]]:
    """The predictor with temperature, thresholds and conformal scores from `logits` of rows it was not fitted on: those
    at these places, of these rows of data."""
    if isinstance(problem.task, Multitask):
        return _each_finished(problem.task, problem, fitted, logits, at, data)
    if data.labels is not None and problem.task.name in ("classify", "ordinal"):
        known = np.flatnonzero(problem.targets(data) >= 0)  # a class never seen has no probability to learn from
        at, data = at[known], data.take(known)
    truth = problem.targets(data)
    heat = temperature(problem, logits, at, truth, data.weights) if len(data) else 1.0
    decoder = replace(fitted.decoder, temperature=heat)
    outputs = answered(problem.task, decoder, truth, rows_of(logits, at)).outputs
    decoder = tuned(decoder, outputs, truth, choice, data.weights)
    decoder = replace(decoder, conformal=_conformal(problem.task, outputs, data, decoder))
    facts: dict[str, Any] = {}
    if decoder.threshold is not None:
        facts = {"positive": decoder.positive, "threshold": decoder.threshold}
    if decoder.thresholds:
        facts = {"per_class": dict(zip(decoder.column_names(), decoder.thresholds, strict=True))}
    if decoder.cost is not None:
        facts = {"cost": [list(row) for row in decoder.cost], "classes": list(decoder.column_names())}
    return fitted.with_decoder(decoder), facts


def _each_finished(
    task: Multitask, problem: Problem, fitted: Predictor, logits: Floats, at: IntArray, data: Data
) -> tuple[Predictor, dict[str, Any]]:
    """The same for each label column, by the rows that know it."""
    decoders = list(fitted.decoder.parts)
    for j, part in enumerate(task.parts):
        known, own = column_of(data, j)
        if len(own):
            one, choice = predictor_of(fitted, j), Choice(positive=decoders[j].positive)
            one, _ = finished(problem_of(problem, j), one, logits[:, part.logits], at[known], own, choice)
            decoders[j] = one.decoder
    return fitted.with_decoder(replace(fitted.decoder, parts=tuple(decoders))), {}


def _conformal(task: Task, outputs: Outputs, data: Data, decoder: Decoder) -> tuple[float, ...]:
    """Sorted nonconformity scores: 1 − p(true class), or |y − prediction|."""
    if task.name == "multilabel" or data.labels is None:
        return ()
    truth = task.truth(data.labels, decoder)
    if task.name == "regress":
        assert not isinstance(outputs, Digest)
        scores = np.abs(truth - outputs)
    else:
        scores = 1 - own_of(truth.astype(int), outputs)
    ordered = np.sort(scores)
    if len(ordered) > MOST_CONFORMAL:
        at = np.linspace(0, len(ordered) - 1, MOST_CONFORMAL).round().astype(int)
        ordered = ordered[at]
    return tuple(float(s) for s in ordered)


@dataclass(frozen=True)
class Judged:
    """One model's answers on the rows that give the number."""

    data: Data
    truth: Floats
    outputs: Outputs
    decisions: Floats


def judged_on(predictor: Predictor, data: Data, run: Run, problem: Problem | None = None) -> Judged:
    """Judge rows that the model has not seen."""
    store = problem.store if problem is not None else None
    return judged(predictor, data, predictor.parts(data.inputs, run, store))


def judged(predictor: Predictor, data: Data, parts: Iterable[Floats]) -> Judged:
    """Judge these rows by their logits, which come in parts."""
    truth = predictor.task.truth(data.labels or (), predictor.decoder)
    return Judged(data, truth, *answered(predictor.task, predictor.decoder, truth, parts))


def judged_out_of_fold(problem: Problem, trial: Trial, data: Data, pairs: Pairs, choice: Choice) -> Judged:
    """Out-of-fold answers, each with a temperature and thresholds that other rows gave."""
    if isinstance(problem.task, Multitask):
        each = [
            replace(trial, logits=trial.logits[column_of(data, j)[0]][:, part.logits])
            for j, part in enumerate(problem.task.parts)
        ]
        return columns_out_of_fold(problem, each, data, pairs)
    outputs, decisions, at = _out_of_fold(problem, trial, data, pairs, choice)
    part = data.take(at)
    return Judged(part, problem.task.truth(part.labels or (), problem.decoder), outputs, decisions)


def _out_of_fold(
    problem: Problem, trial: Trial, data: Data, pairs: Pairs, choice: Choice
) -> tuple[Outputs, Floats, IntArray]:
    def tune(decoder: Decoder, outputs: Outputs, truth: Floats) -> Decoder:
        return tuned(decoder, outputs, truth, choice)

    if len(pairs) == 1:  # the user's own valid rows: each fifth is read with what the other four ask for
        learn, judge = pairs[0]
        order = np.random.default_rng(0).permutation(judge)
        pairs = [(learn, part) for part in np.array_split(order, min(5, len(order)))]
    return honest_outputs(problem, trial, data, pairs, tune)


def columns_out_of_fold(problem: Problem, each: Sequence[Trial], data: Data, pairs: Pairs) -> Judged:
    """The same for each label column, by a trial on the rows that know it; rows that any of them judged."""
    found: list[tuple[IntArray, Outputs, Floats]] = []
    for j, trial in enumerate(each):
        known, own = column_of(data, j)
        if not len(trial.judged):  # each class of it lives in one place, so that all its rows were learned from
            found.append((known[:0], np.zeros((0, 1)), np.zeros(0)))
            continue
        choice = Choice(positive=problem.decoder.parts[j].positive)
        outputs, said, at = _out_of_fold(problem_of(problem, j), trial, own, within(pairs, known, len(data)), choice)
        found.append((known[at], outputs, said))
    rows = np.unique(np.concatenate([at for at, _, _ in found]))
    return side_by_side(problem, data.take(rows), [(np.searchsorted(rows, at), o, s) for at, o, s in found])


def side_by_side(problem: Problem, data: Data, each: Sequence[tuple[IntArray, Outputs, Floats]]) -> Judged:
    """The answers to each label column on these of the rows, in one; NaN where a row does not know it."""
    task = problem.task
    assert isinstance(task, Multitask)
    outputs = np.full((len(data), task.width(problem.decoder)), np.nan)
    decisions = np.full((len(data), len(task.parts)), np.nan)
    for j, (at, found, said) in enumerate(each):
        if len(at):
            outputs[at, task.parts[j].logits] = np.asarray(found).reshape(len(at), -1)
            decisions[at, j] = said
    return Judged(data, task.truth(data.labels or (), problem.decoder), outputs, decisions)


def within(pairs: Pairs, known: IntArray, rows: int) -> list[tuple[IntArray, IntArray]]:
    """The same pairs where only these of the rows are there, counted anew."""
    place = np.full(rows, -1, dtype=np.int64)
    place[known] = np.arange(len(known))
    return [(a[a >= 0], b[b >= 0]) for a, b in ((place[fit_at], place[judge_at]) for fit_at, judge_at in pairs)]


def clusters_of(data: Data) -> Any:
    """Rows that are not independent of each other: one patient's, one document's, of one file, or copies of one row."""
    if data.shared is not None:
        return units(data)
    if data.groups is not None:
        return np.unique(np.array(data.groups), return_inverse=True)[1]
    if data.clusters is not None and len(np.unique(data.clusters)) < len(data):
        return data.clusters
    return None


def scores_of(judged: Judged, task: Task, decoder: Decoder, metric: str | None, seed: int) -> Scores:
    """Every metric of the task with its interval. Rows of weight zero say nothing and are not counted in n."""
    judged = _counted(judged)
    if isinstance(task, Multitask):
        return _each_scored(judged, task, decoder, metric, seed)
    positive = decoder.classes.index(decoder.positive) if decoder.positive is not None else None
    return score(
        task.name,
        judged.truth,
        judged.outputs,
        judged.decisions,
        decoder.column_names(),
        metric=metric,
        weights=judged.data.weights,
        clusters=clusters_of(judged.data),
        subgroups=judged.data.subgroups,
        positive=positive,
        unseen=unseen(judged.data, decoder),
        seed=seed,
    )


def _each_scored(judged: Judged, task: Multitask, decoder: Decoder, metric: str | None, seed: int) -> Scores:
    """The skill over all label columns, and every metric of each."""
    if metric not in (None, NAME):
        raise UserError(f"metric {metric!r} is of one label, and here each column has its own; leave it out")
    clusters = clusters_of(judged.data)
    columns = task.columns(judged.truth, np.asarray(judged.outputs), judged.decisions)
    found = skill(columns, len(judged.data), judged.data.weights, clusters, seed)
    each, notes = {}, []
    for j, part in enumerate(task.parts):
        one = column_judged(judged, task, j)
        if len(one.data):
            each[part.name] = scores_of(one, part.task, decoder.parts[j], part.metric, seed)
        else:
            notes.append(f"label column {part.name}: no row that could be judged knows it, so that it has no number")
    covers = COVERS if clusters is None else COVERS_CLUSTERS
    return Scores(task.name, NAME, len(judged.data), {NAME: found}, notes=tuple(notes), covers=covers, columns=each)


def column_judged(judged: Judged, task: Multitask, j: int) -> Judged:
    """The answers of one label column, on the rows that know it."""
    rows, *arrays = task.column(j, judged.truth, np.asarray(judged.outputs), judged.decisions)
    known, own = column_of(judged.data, j)
    return Judged(own if len(rows) == len(known) else own.take(np.searchsorted(known, rows)), *arrays)


def _counted(judged: Judged) -> Judged:
    weights = judged.data.weights
    if weights is None or (weights > 0).all() or not (weights > 0).any():
        return judged
    at = np.flatnonzero(weights > 0)
    return Judged(judged.data.take(at), judged.truth[at], judged.outputs[at], judged.decisions[at])


def unseen(data: Data, decoder: Decoder) -> Sequence[Any]:
    """Classes in these rows that training never saw."""
    if decoder.task in ("regress", "multitask") or data.labels is None:
        return ()
    known = set(decoder.classes)
    rows = data.labels if decoder.task == "multilabel" else tuple((y,) for y in data.labels)
    return sorted({c for row in rows for c in row} - known, key=str)  # type: ignore[union-attr]


def gap_between(a: Judged, b: Judged, task: Task, metric: str, seed: int) -> Difference:
    """The paired difference a − b on the same rows."""
    a, b = _counted(a), _counted(b)
    if isinstance(task, Multitask):
        one, two = (task.columns(x.truth, np.asarray(x.outputs), x.decisions) for x in (a, b))
        return skill_difference(one, two, len(a.data), a.data.weights, clusters_of(a.data), seed)
    return difference(
        task.name,
        metric,
        a.truth,
        (a.outputs, a.decisions),
        (b.outputs, b.decisions),
        weights=a.data.weights,
        clusters=clusters_of(a.data),
        seed=seed,
    )


def beside(a: Judged, b: Judged, task: Task, decoder: Decoder, metric: str) -> dict[str, Any]:
    """The estimate of b, and the paired difference a − b."""
    estimate = scores_of(b, task, decoder, metric, 0).estimates[metric]
    return {**estimate.to_json(), "difference": gap_between(a, b, task, metric, 0).to_json()}


def beside_by_column(a: Judged, b: Judged, task: Task, decoder: Decoder) -> dict[str, dict[str, Any]]:
    """The same for each of several label columns that these rows know; empty for one."""
    found = {}
    for j, part in enumerate(task.parts if isinstance(task, Multitask) else ()):
        assert isinstance(task, Multitask)
        one, two = (column_judged(x, task, j) for x in (a, b))
        if len(one.data):
            found[part.name] = beside(one, two, part.task, decoder.parts[j], part.metric)
    return found


def candidate_rows(contest: Race, problem: Problem, data: Data, metric: str, seed: int) -> list[dict[str, Any]]:
    """Each candidate with its value on the rows left out."""
    rows = []
    for trial in contest.trials:
        at = trial.judged
        part = data.take(at)
        truth = problem.task.truth(part.labels or (), problem.decoder)
        found = answered(problem.task, problem.decoder, truth, rows_of(trial.logits, at))
        judged = Judged(part, truth, *found)
        e = scores_of(judged, problem.task, problem.decoder, metric, seed).estimates[metric]
        rows.append(
            {
                "name": trial.name,
                "value": e.value,
                "low": e.low,
                "high": e.high,
                "n": e.n,
                "seconds": trial.seconds,
                "memory": trial.memory,
                "chosen": trial.name == contest.chosen,
                "note": trial.note,
                "why": contest.why.get(trial.name, ""),
            }
        )
    return rows
