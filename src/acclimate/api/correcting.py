"""`correct`: a person's corrections go into the head at once, and what was known is measured before and after."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.api import collect, runs
from acclimate.api.correction_rows import KEPT, rows_of, with_earlier
from acclimate.api.finish import Judged, gap_between, judged_on, scores_of
from acclimate.api.model import Model
from acclimate.api.model import load as load_model
from acclimate.api.opening import load
from acclimate.api.prepare import Prepared
from acclimate.api.rebuilding import rebuilt
from acclimate.catalogue import cache
from acclimate.data.kinds import kind_of
from acclimate.data.read import read
from acclimate.data.rows import Data, Table, joined
from acclimate.data.split import folds
from acclimate.errors import UserError, plural
from acclimate.evaluate import Difference, Estimate, Scores, score
from acclimate.features import Store
from acclimate.files import json_text
from acclimate.progress import Progress
from acclimate.report.results import difference
from acclimate.run import Run, pick_device
from acclimate.strategies import EVERY, SETTING_ALIASES, STRATEGIES, Problem, Splits, Strategy, named
from acclimate.strategies.correction import Corrected, moved, refit, with_classes
from acclimate.tasks.answered import answered
from acclimate.tasks.base import Floats

BEFORE = "before the corrections"


@dataclass(frozen=True)
class Correction:
    """What corrections did. `model` is the new one, or the former where they would have done harm."""

    model: Model
    counts: dict[str, int]  # read, corrected, confirmed, blank, unusable, contradicting, earlier, new classes
    how: str
    before: Estimate  # on the corrections, of the former model
    after: Estimate  # on the corrections, of fits that had not seen the one that they answered
    known: Difference | None  # new less former model on rows that the run was judged on; None: none were there
    taken: bool  # False: what was known would have suffered, and nothing was written
    seconds: float
    notes: tuple[str, ...] = ()
    followed: int | None = None  # corrections that the new model answers as it was told; None: no single class to tell

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        run_dir = self.model.run_dir
        return {
            "run": None if run_dir is None else str(run_dir), "counts": self.counts, "how": self.how,
            "before": self.before.to_json(), "after": self.after.to_json(),
            "known": None if self.known is None else self.known.to_json(), "taken": self.taken,
            "followed": self.followed, "seconds": round(self.seconds, 2), "notes": list(self.notes),
        }  # fmt: skip

    def __str__(self) -> str:
        c = self.counts
        lines = [
            f"{plural(c['read'], 'row')} read: {c['corrected']:,} corrected, {c['confirmed']:,} confirmed, "
            f"{c['blank']:,} left "
            f"blank, {c['unusable']:,} unusable, {c['contradicting']:,} contradicting; {c['earlier']:,} from earlier"
        ]
        lines.append(f"on these rows {self.before} before, {self.after} after (each by a fit that had not seen it)")
        if self.followed is not None:
            lines.append(
                f"the new model itself answers {self.followed:,} of {plural(self.before.n, 'row')} as it was told"
            )
        if self.known is None:
            lines.append("what was known could not be measured: no rows that the run was judged on are there")
        else:
            lines.append(f"on rows that the run was judged on: {difference(self.known.to_json())}, "
                         f"{self.known.verdict}")  # fmt: skip
        if not self.taken:
            lines.append("The former model is kept: what was known would suffer. --force takes the corrections all the "
                         "same; more of them, of all classes, may not need it.")  # fmt: skip
        return "\n".join([*lines, *self.notes, f"{self.how}; {self.seconds:.1f} s"])


def correct(
    run: str | Path,
    corrections: Any,
    *,
    label: str | None = None,
    output_dir: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Correction:
    """Learn from `corrections`: rows (a path, frame, list of dicts) with the columns that the run learned from and the
    right label, in its own label column or in the column `label`; where that is blank nothing was corrected.

    A head on frozen features is fitted anew on the training rows, where they are still there, and the corrections; else
    it is moved as little as they ask for. The new model is a run of its own (`output_dir`, or RUN-corrected), and
    corrections of a corrected run add up. Where rows that the run was judged on show a loss beyond its interval,
    nothing is written unless `force`.
    """
    start = time.monotonic()
    folder = Path(run)
    model = load(folder)
    if not isinstance(model, Model):
        raise UserError(f"{folder} answers a structured task, and corrections are of labels of whole rows; fit anew")
    if model.run_dir is None:
        raise UserError(f"{folder} is a saved model; give the RUN folder, which knows its rows and its numbers")
    predictor = model.predictor
    if predictor.decoder.parts:
        raise UserError(f"{folder} has several label columns; correct a model of one of them, or fit anew")
    target = _new_folder(folder, output_dir)
    progress = Progress(quiet)
    settings = Run(seed=0, device=pick_device(), cache=cache.features(), progress=progress, private=model._private)
    table = read(corrections)
    data, counts = rows_of(model, table, label)
    data, counts["earlier"] = with_earlier(model, data)
    new = _new_classes(model, data)
    counts["new classes"] = len(new)
    prepared, why = rebuilt(folder, model.columns, progress)
    store = None if predictor.backbone is None else Store(predictor.backbone, settings)
    problem = Problem(predictor.task, with_classes(predictor.decoder, new), predictor.backbone, store)
    strategy = _strategy(model)
    notes = [] if prepared is not None else [f"The training rows were not used: {why}."]
    if new:
        notes.append(f"No class of the model before: {', '.join(map(repr, new))}.")
    if prepared is None or strategy is None:
        if new:
            raise UserError(
                f"{', '.join(map(repr, new))} was no class of this model, and a new class needs the training rows: "
                f"{why or 'its backbone was tuned with them'}; fit anew with both"
            )
        found = moved(predictor, problem, data, settings)
    else:
        prepared = replace(prepared, train=without(prepared.train, data))  # a corrected row is as the person says
        found = refit(strategy, problem, prepared.train, data, settings)
    corrected = replace(found, predictor=_named(predictor, found.predictor, problem))
    before, after = _on_corrections(model, corrected, problem, data, settings)
    beside = _known(model, corrected, problem, prepared, strategy, data, settings)
    gap = None if beside is None else gap_between(beside[1], beside[0], problem.task, _metric(model), 0)
    taken = force or gap is None or gap.verdict != "worse"
    followed = _followed(corrected.predictor, problem, data, settings)
    took = time.monotonic() - start
    done = Correction(model, counts, corrected.how, before, after, gap, taken, took, tuple(notes), followed)
    if not taken:
        return done
    scores = None  # those of the former model are none of this one
    if beside is not None:
        scores = scores_of(beside[1], problem.task, corrected.predictor.decoder, _metric(model), 0)
    _write(model, folder, target, corrected.predictor, scores, gap, data, table, done)
    return replace(done, model=load_model(target), seconds=time.monotonic() - start)


def _new_folder(folder: Path, output_dir: str | Path | None) -> Path:
    if output_dir is not None:
        return runs.new_folder(output_dir, folder.name, False)
    base, count = folder.with_name(f"{folder.name}-corrected"), 2
    free = base
    while free.exists():
        free, count = base.with_name(f"{base.name}-{count}"), count + 1
    return free


def _new_classes(model: Model, data: Data) -> list[Any]:
    decoder = model.predictor.decoder
    if not decoder.classes:
        return []
    given = [c for one in data.labels or () for c in (one if isinstance(one, tuple) else (one,))]
    new = [c for c in dict.fromkeys(given) if c not in decoder.classes]
    if new and model.predictor.task.name == "ordinal":
        raise UserError(f"{', '.join(map(repr, new))} has no place in the order of the classes; fit anew with it")
    return new


def _strategy(model: Model) -> Strategy | None:
    """What fits the head anew; None where the backbone moved with it, or more than a head was learned."""
    name = model.predictor.strategy
    if name not in STRATEGIES or not EVERY[name].frozen:
        return None
    fields = {f.name for f in dataclasses.fields(EVERY[name]) if f.init}  # type: ignore[arg-type]
    chosen_then = {"strength", "k"}  # by the rows there were: chosen anew, unless the user set them
    asked = _asked(model)
    given = {k: v for k, v in model.predictor.settings.items() if k in fields and (k not in chosen_then or k in asked)}
    return named(name, given)[1]


def _asked(model: Model) -> set[str]:
    """The settings that the user gave."""
    assert model.run_dir is not None
    asked = runs.about(model.run_dir)["asked"].get("settings") or {}
    return {SETTING_ALIASES.get(name, name) for name in asked}


def _named(former: Any, found: Any, problem: Problem) -> Any:
    """The new model with the former's name, and what was fitted besides its weights where the classes are the same."""
    same = problem.decoder.classes == former.decoder.classes
    decoder = former.decoder if same else problem.decoder
    return replace(found.with_decoder(decoder), strategy=former.strategy)


def without(data: Data, others: Data) -> Data:
    """The rows whose content (or nearly the same) is not among the others."""
    # Both at once: whether texts are formulas hangs on all of them.
    keys = kind_of(data).keys((*others.inputs, *data.inputs))
    there = set(keys[: len(others)])
    return data.take([i for i, key in enumerate(keys[len(others) :]) if key not in there])


def _on_corrections(
    model: Model, found: Corrected, problem: Problem, data: Data, run: Run
) -> tuple[Estimate, Estimate]:
    """The metric on the corrections: of the former model, and of fits that had not seen the one that they answer."""
    former = model.predictor
    old = judged_on(former, data, run, None)
    seen = [found.left_out] if not np.isnan(found.left_out).any() else []
    metric = "mae" if problem.task.name == "regress" else None
    before = score(
        problem.task.name, old.truth, old.outputs, old.decisions, former.decoder.column_names(), metric=metric,
        clusters=data.clusters, resamples=200,
    )  # fmt: skip
    name = before.metric if problem.task.name in ("regress", "ordinal", "multilabel") else "accuracy"
    if not seen:
        return before.estimates[name], Estimate(None, n=len(data), note="too few to leave some out")
    truth = problem.task.truth(data.labels or (), found.predictor.decoder)
    outputs, decisions = answered(problem.task, found.predictor.decoder, truth, seen)
    after = score(
        problem.task.name, truth, outputs, decisions, found.predictor.decoder.column_names(), metric=metric,
        clusters=data.clusters, resamples=200,
    )  # fmt: skip
    return before.estimates[name], after.estimates[name]


def _followed(predictor: Any, problem: Problem, data: Data, run: Run) -> int | None:
    """How many rows the new model, which learned from them, answers as it was told."""
    if problem.task.name not in ("classify", "ordinal"):
        return None
    found = judged_on(predictor, data, run, problem)
    return int((found.decisions == found.truth).sum())


def _known(
    model: Model,
    found: Corrected,
    problem: Problem,
    prepared: Prepared | None,
    strategy: Strategy | None,
    data: Data,
    run: Run,
) -> tuple[Judged, Judged] | None:
    """The former and the new model on the rows that the run was judged on: those held out, else by folds."""
    if prepared is None:
        return None
    if prepared.test is not None:  # without rows that were corrected, which the new model has learned
        test = without(prepared.test, data)
        if not len(test):
            return None
        return judged_on(model.predictor, test, run, problem), judged_on(found.predictor, test, run, problem)
    if strategy is None:
        return None
    at: list[Any] = []
    former: list[Floats] = []
    fresh: list[Floats] = []
    for learn, judge in folds(prepared.train, problem.task.name, k=5, seed=0):
        part, rest = prepared.train.take(learn), prepared.train.take(judge)
        ours = np.ones(len(part)) if part.weights is None else part.weights
        theirs = replace(data, weights=np.full(len(data), found.weight * float(ours.mean())))
        with_them = joined(replace(part, weights=ours), theirs)
        former.append(strategy.fit(problem, Splits(part), run).logits(rest.inputs, run, problem.store))
        fresh.append(strategy.fit(problem, Splits(with_them), run).logits(rest.inputs, run, problem.store))
        at += list(judge)
    rows = prepared.train.take(at)
    truth = problem.task.truth(rows.labels or (), found.predictor.decoder)
    decoder = found.predictor.decoder
    each = [Judged(rows, truth, *answered(problem.task, decoder, truth, one)) for one in (former, fresh)]
    return each[0], each[1]


def _metric(model: Model) -> str:
    assert model.run_dir is not None
    return str(runs.about(model.run_dir)["metric"])


def _write(
    model: Model,
    parent: Path,
    target: Path,
    predictor: Any,
    scores: Scores | None,
    gap: Difference | None,
    data: Data,
    table: Table,
    done: Correction,
) -> None:
    made = runs.about(parent)
    about = {**done.counts, "parent": str(parent), "source": table.source, "how": done.how}
    with runs.writing(target, False) as folder:
        if model._private:
            folder.chmod(0o700)
        for name in ("audit.json", "history.jsonl", "costs.json"):
            if (parent / name).is_file():
                shutil.copy2(parent / name, folder / name)
        if (parent / "baselines").is_dir():
            shutil.copytree(parent / "baselines", folder / "baselines")
        report = _report(model, scores, gap, done)
        fresh = Model(predictor, model.columns, run_dir=target, scores=scores, report_data=report, split=model.split)
        fresh.save(folder / "model")
        earlier = made.get("corrections", [])
        runs.write_json(folder / "run.json", {**made, "corrections": [*earlier, about]})
        if scores is not None:
            runs.write_json(folder / "metrics.json", scores.to_json())
        if report is not None:
            runs.write_json(folder / "report.json", report.to_json())
            fresh.report(folder / "report.html")
            fresh.report(folder / "report.md")
        if not model._private:
            runs.remember(folder, [data])
            runs.add_remembered(folder, parent)
            _keep(folder, data)


def _keep(folder: Path, data: Data) -> None:
    """The corrections themselves, where their inputs are plain values."""
    rows = [{"input": x, "label": y} for x, y in zip(data.inputs, data.labels or (), strict=True)]
    try:
        known = [json.loads(json.dumps(row, default=_path)) for row in rows]
    except TypeError:  # pictures and sounds in memory: they cannot be learned from again
        return
    text = "".join(json_text(row) + "\n" for row in known)
    runs.write_text(folder / KEPT, text)


def _path(value: Any) -> str:
    if isinstance(value, Path):
        return str(value.absolute())
    raise TypeError(f"{type(value).__name__} is no plain value")


def _report(model: Model, scores: Scores | None, gap: Difference | None, done: Correction) -> Any:
    """The report of the run with the change on top."""
    data = model.report_data
    if data is None:
        return None
    told = [line for line in str(done).splitlines() if line]
    number = "Corrected; how it does on rows held out is not known, since none are there."
    if scores is not None and gap is not None:
        main = scores.estimates[scores.metric]
        number = (
            f"Corrected: {scores.metric.replace('_', ' ')} {collect.estimate_text(main)} on {plural(scores.n, 'row')}."
        )
    rows: Sequence[dict[str, Any]] = [{**row, "difference": None} for row in data.baselines]
    return dataclasses.replace(
        data,
        verdict=f"{number} {told[1].replace('on these rows', 'On the corrections')}.",
        scores={} if scores is None else scores.to_json(),
        baselines=[] if scores is None else list(rows),
        calibration=None,
        scatter=None,
        decisions=[*told, *data.decisions],
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        mistakes=None,
        mistakes_note="",
        projection=None,
    )
