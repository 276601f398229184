"""Whether to adapt to target rows without labels: label-free candidates, the verdict, and the rows to label."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from acclimate import ranks
from acclimate.advise.labels import SOURCE_ONLY
from acclimate.advise.race import Race, compare, gap_text
from acclimate.api.again import again
from acclimate.api.prepare import SAMPLING, Prepared
from acclimate.api.request import Request
from acclimate.data.kinds import kind_of
from acclimate.data.rows import Data
from acclimate.data.split import holdout
from acclimate.errors import UserError, plural
from acclimate.keys import key_of
from acclimate.model import Predictor
from acclimate.plain import fit_plain
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, Problem, Splits, source_alone
from acclimate.tasks.base import Floats
from acclimate.validate import Candidate, Rows, Verdict, decide, label_apart, settle
from acclimate.validate.verdict import ADAPT, ERROR, KEEP, KNOWN, UNKNOWN, own_agreement

CANDIDATES = ("self_train", "mcc", "shot")  # all on frozen features; the first is the usual one
MOVING = ("consistency",)  # where features are those of random weights
GENTLE = "mcc"  # takes no class shares for granted
SHARE = 0.25  # of the training rows, held out for what the verdict reads of them
ASK = 20
FEWEST = 20  # different target rows, below which nothing is said of them
DOUBT = 0.2  # the p of the two-sided sign test above which labels do not decide: wrong one time in ten
MOST = 20_000  # rows of each side that are looked at; of more, some at random
FILE = "label_these.csv"


@dataclass(frozen=True)
class Decided:
    """The verdict on adapting, in words; the candidate to use, if any; what is written, and what to do next."""

    said: tuple[str, ...]
    adapt: str | None = None
    files: tuple[tuple[str, str], ...] = ()
    next_steps: tuple[dict[str, str], ...] = ()


def candidates(problem: Problem, train: Data, target: Data, run: Run) -> tuple[list[Candidate], Rows]:
    """The source alone and every label-free candidate, fitted on three quarters of the training rows."""
    untouched = _untouched(problem, train)
    learn, hold = holdout(train, problem.task.name, share=SHARE, seed=run.seed)
    held, splits = train.take(hold), Splits(train.take(learn), target=target)
    found: list[Candidate] = []
    for name, strategy in {SOURCE_ONLY: source_alone(problem), **{n: ADAPTATIONS[n] for n in judged(problem)}}.items():
        fitted = strategy.fit(problem, splits, run)
        # Only the first one's answers to source rows are read: a head that took a map in is made for target rows.
        source = _probabilities(problem, fitted, held, run) if not found else found[0].source
        found.append(Candidate(name, source, _probabilities(problem, fitted, target, run)))
    codes, all_codes = (problem.targets(data).astype(np.int64) for data in (held, train))
    own = own_agreement(all_codes, untouched(train), run.seed, len(target))
    return found, Rows(codes, untouched(held), untouched(target), run.seed, own)


def judged(problem: Problem) -> tuple[str, ...]:
    """The label-free candidates: on frozen features; of an untrained network what moves it, where anything can."""
    backbone = problem.network()[0]
    if not backbone.untrained:
        return CANDIDATES
    return MOVING if backbone.augments else ()


def _untouched(problem: Problem, train: Data) -> Callable[[Data], Floats]:
    """Features that no candidate has moved: of the pretrained network, or, where it knows nothing yet, plain ones."""
    backbone, store = problem.network()
    plain = fit_plain(train.kind, train.inputs, MOST) if backbone.untrained else None
    if plain is None:
        return lambda data: np.asarray(store.get(data.inputs), np.float64)
    return lambda data: np.asarray(plain.transform(data.inputs).toarray(), np.float64)


def _probabilities(problem: Problem, fitted: Any, data: Data, run: Run) -> Floats:
    return np.asarray(fitted.outputs(data.inputs, run, problem.store), np.float64)


def judge(request: Request, prepared: Prepared, problem: Problem) -> Decided | None:
    """The verdict for the target rows; nothing where it cannot be formed: the task has no classes, or rows are few."""
    run = request.run
    if prepared.target is None or problem.task.name != "classify" or problem.store is None:
        return None
    if not judged(problem):
        name = problem.network()[0].origin.name
        said = (
            f"Not decidable: {name} is learned from the start, and nothing that adapts it can be judged without "
            "labels. The target rows were not used; name a strategy (--strategy full --align mcc), or another --model."
        )
        return Decided((said,))
    train, target = some_of(prepared.train, run), some_of(prepared.target, run)
    run.progress.say(f"judging {', '.join(judged(problem))} without labels on {plural(len(target), 'target row')}")
    different = len(np.unique(problem.store.get(target.inputs), axis=0))
    if different < FEWEST:
        few = f"{different} different row{'' if different == 1 else 's'}"
        said = (
            f"Not decidable: {target.source} holds {few}, and fewer than {FEWEST} say nothing of where the model will "
            "be used, so that they are not used; give more."
        )
        run.progress.say(said)
        return Decided((said,))
    try:
        found, rows = candidates(problem, train, target, run)
        verdict = decide(found, rows, ask=ASK, gentle=GENTLE)
    except UserError as error:
        return Decided((f"Not decidable: adapting could not be judged without labels ({error}).",))
    answer = ranks.agreed(verdict.answer)
    there = f"The {plural(len(prepared.target), 'target row')} of {target.source}"
    told = f"{there}: {answer}: {verdict.why}. {_estimate(verdict)}".rstrip()
    if answer == ADAPT:
        adapt, kept = ranks.agreed(verdict.name), f"The model adapted to them by {verdict.name}."
        kept += " If a class may be much rarer there than here, label rows first: that cannot be seen without labels."
        if request.test is None:
            kept += " The numbers above are of rows like the training ones: they do not show it."
    else:
        adapt, kept = None, "The model is of the source alone and used none of them."
    if request.gate.private:
        return Decided((f"{told} {kept} No file of rows to label was written, since the run is private.",), adapt)
    table = rows_to_label(prepared, target.take(verdict.label), verdict.weights)
    todo, files, steps = asked(request, prepared, f"the {plural(len(verdict.label), 'row')}", table)
    # What is said without labels is often wrong (benchmarks/verdict.py), so the rows that would tell are always there.
    if answer != UNKNOWN:
        return Decided((f"{told} {kept} To be surer, {todo}",), adapt, files, steps)
    return Decided((f"{told} {kept}", f"Not decidable: {todo}"), adapt, files, steps)


def label_free(prepared: Prepared, problem: Problem, run: Run) -> str | None:
    """The adaptation that labels are held against: the one that would be taken or asked about without them."""
    if prepared.target is None or problem.task.name != "classify" or problem.store is None or not judged(problem):
        return None
    try:
        found, rows = candidates(problem, some_of(prepared.train, run), some_of(prepared.target, run), run)
        return ranks.agreed(beside_labels(decide(found, rows, gentle=GENTLE), judged(problem)))
    except UserError:
        return judged(problem)[0]


def beside_labels(verdict: Verdict, names: Sequence[str] = CANDIDATES) -> str:
    """The adaptation that the verdict leads with, or the first of those that were judged where that is none."""
    return names[0] if verdict.best == SOURCE_ONLY else verdict.best


def some_of(data: Data, run: Run, most: int | None = None) -> Data:
    """At most so many rows at random (`MOST` unless said), the same ones in whatever order they come."""
    most = MOST if most is None else most
    if len(data) <= most:
        return data
    order = sorted(range(len(data)), key=lambda i: key_of(data.inputs[i], "text"))
    return data.take([order[i] for i in np.random.default_rng(run.seed).permutation(len(data))[:most]])


def asked(
    request: Request, prepared: Prepared, rows: str, table: str, command: str | None = None
) -> tuple[str, tuple[tuple[str, str], ...], tuple[dict[str, str], ...]]:
    """What is to be done, the file for it, and the next step: `command`, or to fit again with these labels."""
    if not table:  # of what lies in memory no file can be written
        assert prepared.target is not None
        return f"label {rows} of {prepared.target.source} and give them as target_labels", (), ()
    path, labels = request.folder / FILE, prepared.columns.labels
    command = command or again(request, labels, {"target_labels": str(path)})
    named = f"column{'s' if len(labels) > 1 else ''} {', '.join(map(repr, labels))}"
    step = {"text": f"Fill in the {named} of {path}, then run this.", "command": command}
    return f"label {rows} in {path}, then: {command}", ((FILE, table),), (step,)


def evaluating(request: Request) -> str:
    """The command that judges the run by its rows to label, once they are labelled."""
    return shlex.join(["acclimate", "evaluate", str(request.folder), str(request.folder / FILE)])


def settled(
    request: Request, prepared: Prepared, problem: Problem, race: Race, models: dict[str, Predictor], free: str
) -> Decided:
    """Whether to adapt by `free`, now that some target rows have labels: the exact sign test; or more rows to label, if
    the model is one of the two.
    """
    few, target, taken = prepared.labelled, prepared.target, race.chosen
    assert few is not None and target is not None
    alone, adapted = race.trial(SOURCE_ONLY), race.trial(free)
    found = settle(alone.logits, adapted.logits, problem.targets(few).astype(np.int64), level=DOUBT)
    gain = compare(problem, few, "accuracy", adapted, alone)
    counted = (
        f"of {found.n} labelled target rows {adapted.name} alone is right on {found.wins} and the source alone on "
        f"{found.losses} (exact sign test, p = {found.p:.2g}; over all target rows {gap_text(gain)} in accuracy)"
    )
    better = ranks.agreed(found.better)
    if better != UNKNOWN:
        answer = {"second": ADAPT, "first": KEEP}[better]
        return Decided((f"{answer[0].upper()}{answer[1:]}: {counted}.",))
    told = f"By these labels alone it is {UNKNOWN} whether {adapted.name} or the source alone is better: {counted}"
    known = set(few.inputs)
    rest = target.take([i for i, one in enumerate(target.inputs) if one not in known])
    if request.gate.private or not len(rest) or taken not in (alone.name, adapted.name):
        return Decided((f"{told}.",))
    first, second = (_probabilities(problem, models[t.name], rest, request.run) for t in (alone, adapted))
    untouched = _untouched(problem, some_of(prepared.train, request.run))
    more = min(ASK, len(rest))
    at, weights = label_apart(untouched(rest), first, second, more, seed=request.run.seed + len(few))
    if few.ids is None or rest.ids is None:  # one table has one number of columns
        few, rest = replace(few, ids=None), replace(rest, ids=None)
    before = rows_to_label(prepared, few, np.ones(len(few)) if few.weights is None else few.weights, few.labels)
    after = rows_to_label(prepared, rest.take(at), weights)
    table = before + after.split("\n", 1)[1] if before and after else ""
    todo, files, steps = asked(request, prepared, f"{plural(more, 'more row')}", table)
    return Decided((f"{told}; {taken} was taken; {todo}",), files=files, next_steps=steps)


def _estimate(verdict: Verdict) -> str:
    """The estimated gain, and how wrong such estimates were."""
    if verdict.best == SOURCE_ONLY:
        return ""
    gain = f"{100 * verdict.gain:+.1f}".replace("-", "−")
    return (
        f"Estimated gain of {verdict.best}: {gain} points of right answers; nine in ten such estimates were "
        f"within {100 * ERROR:.0f} points of the truth on {KNOWN}."
    )


def rows_to_label(
    prepared: Prepared, rows: Data, weights: Sequence[float] | Floats, labels: Sequence[object] | None = None
) -> str:
    """A CSV of these rows with a column for each label, that `--target-labels` takes as it is, and their weights.

    Empty where an input lies in memory alone. `labels`: of a single label column.
    """
    columns, text = prepared.columns, io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    named = [] if columns.id is None or rows.ids is None else [columns.id]
    writer.writerow([*named, *columns.inputs, *columns.labels, SAMPLING])
    for i, one in enumerate(rows.inputs):
        first = [rows.ids[i]] if named and rows.ids is not None else []
        cells = kind_of(rows).cells(one)
        if cells is None:
            return ""
        truth = [""] * len(columns.labels) if labels is None else [labels[i]]
        writer.writerow([*first, *cells, *truth, f"{weights[i]:.6g}"])
    return text.getvalue()
