"""Out-of-fold predictions: every row judged by a model that never saw it."""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from acclimate import ranks
from acclimate.data.rows import Data, IntArray
from acclimate.errors import UserError, plural
from acclimate.features import Store
from acclimate.files import whole
from acclimate.metrics.calibration import fit_temperature
from acclimate.metrics.digest import Digest, is_wide, slices
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, Strategy
from acclimate.strategies.multitask import fit
from acclimate.tasks.answered import Answered, Outputs, answered, joined, rows_of
from acclimate.tasks.base import Floats
from acclimate.tasks.decoder import Decoder
from acclimate.usage import Usage, watched

IN_MEMORY = 4_000_000  # logits; more of them, of more than 100 classes, lie in a file
TO_WARM = 4_000_000  # logits that a temperature is fitted on, above 100 classes

Pairs = Sequence[tuple[IntArray, IntArray]]  # (rows to fit on, rows to judge)


@dataclass(frozen=True)
class Trial:
    """One candidate's out-of-fold logits (n, k); NaN rows were never judged (the first window of a time split).

    Many logits of more than 100 classes lie in a file without a name: take them in parts (`rows_of`).
    """

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
        parts = [np.isfinite(self.logits[part]).all(1) for part in slices(*self.logits.shape)]
        return np.flatnonzero(np.concatenate(parts))


def held(problem: Problem, n: int, run: Run) -> Floats:
    """Zeros (n, k) to put logits into: in memory, or as fp32 in a file without a name where they are many (see
    `IN_MEMORY`)."""
    width = problem.task.width(problem.decoder)
    if n * width <= IN_MEMORY or not is_wide(problem.task.name, width):
        return np.zeros((n, width))
    folder = run.state or run.cache or Path(tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < 2 * 4 * n * width:  # a mapped file that meets a full disk ends the process
            raise OSError("no space left")
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype=np.float32, mode="w+", shape=(n, width))
    except OSError as error:
        reason = error.strerror or error
        run.progress.say_once(f"{4 * n * width / 1e9:.1f} GB of answers are held in memory ({folder}: {reason})")
        return np.zeros((n, width), np.float32)


def put(fitted: Predictor, inputs: Sequence[object], run: Run, store: Store | None, into: Floats, at: IntArray) -> None:
    """Add the logits of the inputs to these rows, part by part."""
    start = 0
    for logits in fitted.parts(inputs, run, store):
        into[at[start : start + len(logits)]] += logits
        start += len(logits)


def crossfit(
    name: str,
    strategy: Strategy,
    problem: Problem,
    data: Data,
    pairs: Pairs,
    run: Run,
    every_fold: bool = False,
    target: Data | None = None,
    droppable: bool = False,
) -> Trial:
    """Fit on each pair's first rows and judge its second ones. Rows judged several times get their mean logits.

    What is done is kept in `run.state`: a trial whose folds were judged before is read, not run again. Where the
    deadline leaves no time for another fold, the rows judged so far count; not with `every_fold`, where these rows give
    the number: one that is `droppable` raises UserError there as soon as its folds are seen not to end in time.
    """
    path = None if run.state is None else run.state / "trials" / f"{name}.npz"
    empty = _Judged(held(problem, len(data), run), np.zeros(len(data)))
    so_far = ranks.by_first(lambda: _read(path, empty.total, run)) or empty
    with run.progress.steps(f"{name} on folds", len(pairs), so_far.folds) as advance, watched(run.device) as used:
        for fold in range(so_far.folds, len(pairs)):
            ahead = len(pairs) - fold if droppable and every_fold else 1  # folds that must end in time
            late = so_far.stopped or (fold > 0 and so_far.seconds / fold * ahead > run.left())
            if droppable and every_fold and ranks.agreed(late):
                raise UserError(
                    f"its {plural(len(pairs), 'fold')} take about {so_far.seconds / fold * len(pairs):.0f} s, and "
                    f"{max(0.0, run.left()):.0f} s are left of the time limit after {fold}"
                )
            if not every_fold and ranks.agreed(late):
                so_far = replace(so_far, stopped=True)  # another fold would not end in time
                break
            part = run.at(f"{name}/fold-{fold + 1}")
            start = time.monotonic() - (0.0 if strategy.frozen else part.session())
            note = _fold(strategy, problem, data, pairs[fold], so_far, run, part, target)
            took = so_far.seconds + time.monotonic() - start
            so_far = replace(so_far, folds=fold + 1, note=note, seconds=took, memory=max(so_far.memory, used.memory))
            if path is not None and not strategy.frozen:
                _keep(path, so_far, run)
            part.forget()
            advance(1)
    so_far = replace(so_far, memory=max(so_far.memory, used.memory))
    if path is not None and (so_far.folds == len(pairs) or so_far.stopped):
        _keep(path, so_far, run)
    logits = so_far.total
    with np.errstate(invalid="ignore", divide="ignore"):
        for rows in slices(*logits.shape):
            logits[rows] /= so_far.count[rows, None]  # 0 / 0 is NaN: a row that was never judged
    return Trial(name, strategy, logits, so_far.seconds, so_far.folds, so_far.note, so_far.memory)


def _fold(
    strategy: Strategy,
    problem: Problem,
    data: Data,
    pair: tuple[IntArray, IntArray],
    so_far: _Judged,
    run: Run,
    part: Run,
    target: Data | None,
) -> str:
    """Fit on the first rows and add the logits of the second; a note. The model is gone before the next one is made."""
    fit_at, judge_at = pair
    fitted = fit(strategy, problem, Splits(data.take(fit_at), target=target), part)
    put(fitted, data.take(judge_at).inputs, run, problem.store, so_far.total, judge_at)
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


def _read(path: Path | None, into: Floats, run: Run) -> _Judged | None:
    """What was kept, its logits in `into`; None where there is nothing, or nothing that can be read as such logits."""
    if path is None:
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as found:
            folds, seconds, note = found["folds"].item(), found["seconds"].item(), found["note"].item()
            stopped, memory = found["stopped"].item(), found["memory"].item()
            judged = _Judged(into, found["count"], folds, seconds, note, stopped, memory)
            _read_logits(found.zip, into)
            return judged
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        into[:] = 0
        run.progress.say(f"{path} is damaged, or of other rows: left aside, and judged anew")
        return None


def _read_logits(archive: zipfile.ZipFile, into: Floats) -> None:
    """The array "total" of an .npz file, part by part."""
    with archive.open("total.npy") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != into.shape:
            raise ValueError(f"logits of shape {shape} were kept, and {into.shape} are needed")
        for part in slices(*shape):
            rows = into[part]
            rows[:] = np.frombuffer(file.read(rows.size * dtype.itemsize), dtype).reshape(rows.shape)


def temperature(problem: Problem, logits: Floats, at: IntArray, truth: Floats, weights: Floats | None) -> float:
    """The temperature that the out-of-fold logits of the rows at these places ask for; 1 for regression.

    Above 100 classes so many rows as hold four million logits, evenly spaced, are enough: one number fitted on m rows
    costs 1/(2m) nats of log loss in expectation (4,000 rows of 1,000 classes: 0.0001).
    """
    if problem.task.name == "regress":
        return 1.0
    most = max(1, TO_WARM // logits.shape[1])
    if is_wide(problem.task.name, logits.shape[1]) and len(at) > most:
        some = np.linspace(0, len(at) - 1, most).round().astype(int)
        at, truth, weights = at[some], truth[some], None if weights is None else weights[some]
    return float(fit_temperature(logits[at], truth, weights))


def honest_outputs(
    problem: Problem,
    trial: Trial,
    data: Data,
    pairs: Pairs,
    tune: Callable[[Decoder, Outputs, Floats], Decoder],
) -> tuple[Outputs, Floats, IntArray]:
    """Outputs, decisions and positions of the judged rows, each row's temperature and thresholds from other rows.

    Used where these rows give the number: a temperature fitted on them would flatter it.
    """
    truth = problem.targets(data)
    wide = is_wide(problem.task.name, len(problem.decoder.classes))
    found: list[Answered] = []
    places: list[IntArray] = []
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
            heat = temperature(problem, trial.logits, others, truth[others], weights)
            decoder = replace(decoder, temperature=heat)
            others = others[:1] if wide else others  # no threshold is chosen among so many classes
            learned = answered(problem.task, decoder, truth[others], rows_of(trial.logits, others))
            decoder = tune(decoder, learned.outputs, truth[others])
        found.append(answered(problem.task, decoder, truth[here], rows_of(trial.logits, here)))
        places.append(here)
    at = np.concatenate(places)
    order = np.argsort(at)
    outputs: Outputs
    if wide:
        outputs = Digest.joined([part.outputs for part in found if isinstance(part.outputs, Digest)])
    else:
        outputs = joined([part.outputs for part in found if not isinstance(part.outputs, Digest)])
    return outputs[order], joined([part.decisions for part in found])[order], at[order]
