"""Out-of-fold predictions: every row judged by a model that never saw it."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from acclimate import ranks
from acclimate.data.rows import Data, IntArray
from acclimate.files import whole
from acclimate.metrics.calibration import fit_temperature
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, Strategy
from acclimate.tasks.base import Floats
from acclimate.tasks.decoder import Decoder
from acclimate.usage import Usage, watched

Pairs = Sequence[tuple[IntArray, IntArray]]  # (rows to fit on, rows to judge)


@dataclass(frozen=True)
class Trial:
    """One candidate's out-of-fold logits (n, k); NaN rows were never judged (the first window of a time split)."""

    name: str
    strategy: Strategy
    logits: Floats
    seconds: float
    folds: int
    note: str = ""
    memory: int = 0  # bytes at most beyond those in use before
    foreseen: Usage | None = None  # of all folds, for what moves weights

    @property
    def judged(self) -> IntArray:
        """Positions of the rows that have a prediction."""
        return np.flatnonzero(np.isfinite(self.logits).all(1))


def crossfit(
    name: str, strategy: Strategy, problem: Problem, data: Data, pairs: Pairs, run: Run, every_fold: bool = False
) -> Trial:
    """Fit on each pair's first rows and judge its second ones. Rows judged several times get their mean logits.

    What is done is kept in `run.state`: a trial whose folds were judged before is read, not run again. Where the
    deadline leaves no time for another fold, the rows judged so far count; not with `every_fold`, where these rows give
    the number.
    """
    path = None if run.state is None else run.state / "trials" / f"{name}.npz"
    empty = _Judged(np.zeros((len(data), problem.task.width(problem.decoder))), np.zeros(len(data)))
    so_far = ranks.by_first(lambda: _read(path, empty.total.shape)) or empty
    with run.progress.steps(f"{name} on folds", len(pairs)) as advance, watched(run.device) as used:
        advance(so_far.folds)
        for fold in range(so_far.folds, len(pairs)):
            late = so_far.stopped or (fold > 0 and so_far.seconds / fold > run.left())
            if not every_fold and ranks.agreed(late):
                so_far = replace(so_far, stopped=True)  # another fold would not end in time
                break
            start = time.monotonic()
            part = run.at(f"{name}/fold-{fold + 1}")
            note = _fold(strategy, problem, data, pairs[fold], so_far, run, part)
            took = so_far.seconds + time.monotonic() - start
            so_far = replace(so_far, folds=fold + 1, note=note, seconds=took, memory=max(so_far.memory, used.memory))
            if path is not None and not strategy.frozen:
                _keep(path, so_far, run)
            part.forget()
            advance(1)
    so_far = replace(so_far, memory=max(so_far.memory, used.memory))
    if path is not None and (so_far.folds == len(pairs) or so_far.stopped):
        _keep(path, so_far, run)
    with np.errstate(invalid="ignore", divide="ignore"):
        logits = np.where(so_far.count[:, None] > 0, so_far.total / so_far.count[:, None], np.nan)
    return Trial(name, strategy, logits, so_far.seconds, so_far.folds, so_far.note, so_far.memory)


def _fold(
    strategy: Strategy,
    problem: Problem,
    data: Data,
    pair: tuple[IntArray, IntArray],
    so_far: _Judged,
    run: Run,
    part: Run,
) -> str:
    """Fit on the first rows and add the logits of the second; a note. The model is gone before the next one is made."""
    fit_at, judge_at = pair
    fitted = strategy.fit(problem, Splits(data.take(fit_at)), part)
    so_far.total[judge_at] += fitted.logits(data.take(judge_at).inputs, run, problem.store)
    so_far.count[judge_at] += 1
    return fitted.notes[0] if fitted.notes else ""


@dataclass(frozen=True)
class _Judged:
    """A trial after some of its folds: sums of logits, how often each row was judged."""

    total: Floats
    count: Floats
    folds: int = 0
    seconds: float = 0.0
    note: str = ""
    stopped: bool = False  # by the time limit
    memory: int = 0


def _keep(path: Path, judged: _Judged, run: Run) -> None:
    if not ranks.first():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            np.savez(
                file,
                total=judged.total,
                count=judged.count,
                folds=judged.folds,
                seconds=judged.seconds,
                note=np.array(judged.note),
                stopped=judged.stopped,
                memory=judged.memory,
            )
    except OSError as error:
        run.cannot_keep(error)


def _read(path: Path | None, shape: tuple[int, ...]) -> _Judged | None:
    """None where there is nothing, or nothing that can be read as logits of this shape."""
    if path is None:
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as found:
            folds, seconds, note = found["folds"].item(), found["seconds"].item(), found["note"].item()
            stopped, memory = found["stopped"].item(), found["memory"].item()
            judged = _Judged(found["total"], found["count"], folds, seconds, note, stopped, memory)
            return judged if judged.total.shape == shape else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def temperature(problem: Problem, logits: Floats, truth: Floats, weights: Floats | None) -> float:
    """The temperature that the out-of-fold logits ask for; 1 for regression."""
    if problem.task.name == "regress":
        return 1.0
    return float(fit_temperature(logits, truth, weights))


def honest_outputs(
    problem: Problem,
    trial: Trial,
    data: Data,
    pairs: Pairs,
    tune: Callable[[Decoder, Floats, Floats], Decoder],
) -> tuple[Floats, Floats, IntArray]:
    """Outputs, decisions and positions of the judged rows, each row's temperature and thresholds from other rows.

    Used where these rows give the number: a temperature fitted on them would flatter it.
    """
    truth = problem.targets(data)
    outputs: Floats | None = None
    decisions: Floats | None = None
    seen = np.zeros(len(data), bool)
    judged = set(trial.judged.tolist())
    for _, judge_at in pairs:
        here = np.array([i for i in judge_at if i in judged and not seen[i]], dtype=np.int64)
        others = np.array(sorted(judged - set(map(int, judge_at))), dtype=np.int64)
        if not len(here):
            continue
        seen[here] = True
        weights = None if data.weights is None else data.weights[others]
        decoder = problem.decoder
        if len(others):
            heat = temperature(problem, trial.logits[others], truth[others], weights)
            decoder = replace(decoder, temperature=heat)
            decoder = tune(decoder, problem.task.outputs(trial.logits[others], decoder), truth[others])
        part = problem.task.outputs(trial.logits[here], decoder)
        choice = problem.task.decide(part, decoder)
        if outputs is None or decisions is None:
            outputs = np.full((len(data), *part.shape[1:]), np.nan)
            decisions = np.zeros((len(data), *choice.shape[1:]), choice.dtype)
        outputs[here], decisions[here] = part, choice
    assert outputs is not None and decisions is not None
    at = np.flatnonzero(seen)
    return outputs[at], decisions[at], at
