"""The user's model: predicts in the user's own labels, evaluates, reports, saves."""

from __future__ import annotations

import dataclasses
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from acclimate.api import finish, runs
from acclimate.api.predicting import Asked, Block, Predictions, blocks, predictions, unread_cells
from acclimate.api.prepare import present, sampled
from acclimate.api.testing import adapted
from acclimate.data.account import Audit, why_dropped
from acclimate.data.audit import audit
from acclimate.data.columns import missing_column
from acclimate.data.findings import rows_text
from acclimate.data.kinds import Reading, kind_of
from acclimate.data.read import read
from acclimate.data.renamed import renamed
from acclimate.data.rows import Columns, Data, Input, Table
from acclimate.data.series_tables import gathered, refuse_uneven
from acclimate.data.split import hash_of
from acclimate.errors import UserError, plural
from acclimate.evaluate import Difference, Scores
from acclimate.model import Predictor
from acclimate.model import load as load_predictor
from acclimate.progress import Progress
from acclimate.report.data import ReportData
from acclimate.run import Run, pick_device
from acclimate.tasks.multitask import Multitask
from acclimate.testtime import Adapter

_T = TypeVar("_T")


class Model:
    """What `fit` and `load` return. `scores` are those of the rows held out when it was fitted."""

    def __init__(
        self,
        predictor: Predictor,
        columns: Columns,
        *,
        run_dir: Path | None = None,
        scores: Scores | None = None,
        report_data: ReportData | None = None,
        baselines: dict[str, Predictor] | None = None,
        split: str | None = None,
        private: bool = False,
    ) -> None:
        self.predictor = predictor
        self.columns = columns
        self.run_dir = run_dir
        self.scores = scores
        self.report_data = report_data
        self.baselines = baselines or {}
        self.progress = Progress()  # quiet, unless a command line puts another in its place
        self.split = split  # as it was asked for: what else keeps rows together, where no column says so
        self._private = private or report_data is not None and report_data.private

    @property
    def classes_(self) -> Any:
        """Class names in the user's own type, in the order of `predict_proba`'s columns; of several label columns that
        are a task each a dict of them."""
        decoder = self.predictor.decoder
        if decoder.parts:
            return {name: one.classes for name, one in zip(decoder.labels, decoder.parts, strict=True) if one.classes}
        return self.predictor.decoder.classes

    def __repr__(self) -> str:
        base = self.predictor.backbone
        what = f"{self.predictor.strategy}" + ("" if base is None else f" on {base.origin.name}")
        if self.report_data is not None:
            return f"{self.report_data.verdict}"
        return f"acclimate model: {what}, task {self.predictor.task.name}"

    def __str__(self) -> str:
        """The verdict, and the scores of the rows held out."""
        return repr(self) if self.scores is None else f"{self!r}\n\n{self.scores}"

    # -- predicting ------------------------------------------------------------------------------------------------

    def predict(self, inputs: Any, *, adapt: str | Adapter | None = None) -> list[Any]:
        """One answer an input, in order, in the user's own label type; None for what cannot be judged (blank, null).
        Of several label columns that are a task each an answer is a dict, column to answer.

        `adapt` ("lame", "tent:steps=2" ...; docs/adaptation.md) adapts to these inputs, which are then all there is of
        the target. The model itself stays as it is; `predict_parts` also tells what adapting changed (`told`).
        """
        texts, _ = self._texts(inputs)
        return [answer for block in self._blocks(texts, adapt) for answer in block.answers]

    def predict_proba(self, inputs: Any, *, adapt: str | Adapter | None = None) -> Any:
        """Probabilities (n, classes), columns as in `classes_`; a row of NaN for what cannot be judged.

        Of several label columns that are a task each a dict of these, of those that have classes. `adapt` as in
        `predict`.
        """
        if self.predictor.task.name == "regress":
            raise UserError("predict_proba speaks of classes, and this model predicts numbers; use predict")
        texts, _ = self._texts(inputs)
        task = self.predictor.task
        probabilities = np.empty((len(texts), task.width(self.predictor.decoder)))
        for block in self._blocks(texts, adapt):
            probabilities[block.rows] = block.outputs
        if isinstance(task, Multitask):
            return {part.name: probabilities[:, part.logits] for part in task.parts if part.name in self.classes_}
        return probabilities

    def _blocks(self, texts: list[Input | None], adapt: str | Adapter | None) -> Iterator[Block]:
        answers = None if adapt is None else adapted(self.predictor, texts, adapt, self._run())
        return blocks(self.predictor, texts, self._run(), None if answers is None else answers.parts())

    def predict_table(
        self,
        source: Any,
        *,
        conformal: float | None = None,
        abstain_below: float | None = None,
        adapt: str | Adapter | None = None,
    ) -> tuple[Table, dict[str, list[Any]]]:
        """The table as read, and the columns that prediction adds: one value a row, in order."""
        found = self.predict_parts(source, conformal=conformal, abstain_below=abstain_below, adapt=adapt)
        columns: dict[str, list[Any]] = {name: [] for name in found.kinds}
        for part in found.parts:
            for name, values in part.items():
                columns[name] += values
        if not any(columns.get("note", ())):
            columns.pop("note", None)
        return found.table, columns

    def predict_parts(
        self,
        source: Any,
        *,
        conformal: float | None = None,
        abstain_below: float | None = None,
        adapt: str | Adapter | None = None,
    ) -> Predictions:
        """As `predict_table`, the new columns in parts of consecutive rows, so that memory does not grow with them.

        With `adapt` all logits are held at once; `told` says what it changed.
        """
        if adapt is not None and conformal is not None:
            raise UserError("--conformal rests on scores of the model as it was fitted, which do not hold once answers "
                            "are adapted; give --adapt or --conformal")  # fmt: skip
        asked = Asked.of(self.predictor, conformal, abstain_below)
        table = source if isinstance(source, Table) else read(source, may_be_empty=True)
        table = gathered(table, self.columns)
        read_in = self._reading(table)
        answers = None if adapt is None else adapted(self.predictor, read_in.inputs, adapt, self._run())
        return predictions(
            self.predictor,
            table,
            read_in,
            asked,
            self._run(),
            answers,
            kind=kind_of(self.columns),
            private=self._private,
        )

    def _texts(self, inputs: Any) -> tuple[list[Input | None], Table | None]:
        """Raw inputs from one text, a list, a frame or a file."""
        kind = kind_of(self.columns)
        if kind.single(inputs):
            inputs = [inputs]
        named = isinstance(inputs, Mapping) or hasattr(inputs, "columns") or hasattr(inputs, "column_names")
        if named or isinstance(inputs, (str, Path)):
            table = gathered(read(inputs), self.columns)
            return self._warned(table), table
        if hasattr(inputs, "tolist") and getattr(inputs, "ndim", 1) == 1:  # a numpy array or a pandas series
            inputs = inputs.tolist()
        rows = list(inputs)
        if rows and isinstance(rows[0], dict):
            table = gathered(read(rows), self.columns)
            return self._warned(table), table
        return [kind.given(x, self.columns, i) for i, x in enumerate(rows)], None

    def _warned(self, table: Table) -> list[Input | None]:
        """The inputs of a table; a warning tells of cells that cannot be read, and count as missing."""
        read_in = self._reading(table)
        for sentence in unread_cells(table, read_in, kind_of(self.columns), self._private):
            warnings.warn(sentence, stacklevel=4)
        return list(read_in.inputs)

    def _reading(self, table: Table) -> Reading:
        """The inputs of a table; what the gate would drop is None, and says why."""
        columns, _ = renamed(self.columns, table)
        missing = [name for name in columns.inputs if name not in table.columns]
        if missing:
            raise missing_column(missing[0], table)
        return kind_of(columns).read(table, columns, self.progress)

    # -- judging ---------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, metric: str | None = None, adapt: str | Adapter | None = None) -> Scores:
        """Scores on labelled rows, with intervals. In a run, each use of a file is counted.

        With `adapt` of the answers adapted to these rows; the plain ones are the baseline "without adapting".
        """
        scores, beside = self.evaluation(data, metric=metric, adapt=adapt)
        return dataclasses.replace(scores, baseline=beside["baseline"], uses=beside.get("uses"))

    def evaluation(
        self, data: Any, *, metric: str | None = None, adapt: str | Adapter | None = None
    ) -> tuple[Scores, dict[str, Any]]:
        """Scores, and beside them the baselines, the paired differences to them, and how often the file was used."""
        rows, report = self.labelled(data)
        answers = None if adapt is None else adapted(self.predictor, rows.inputs, adapt, self._run())
        if answers is None:
            mine = finish.judged_on(self.predictor, rows, self._run())
        else:
            mine = finish.judged(self.predictor, rows, answers.parts())
        chosen = metric or (self.scores.metric if self.scores is not None else None)
        scores = finish.scores_of(mine, self.predictor.task, self.predictor.decoder, chosen, 0)
        scores = dataclasses.replace(
            scores, notes=(*report.facts.get("read_as", ()), *_left_out(report), *scores.notes)
        )
        if self.run_dir is not None:
            scores = dataclasses.replace(scores, notes=(*_of_known(self.run_dir, rows), *scores.notes))
        beside: dict[str, Any] = {}
        others = {name: (one, finish.judged_on(one, rows, self._run())) for name, one in self.baselines.items()}
        if answers is not None:
            plain = finish.judged(self.predictor, rows, answers.parts(plain=True))
            others = {"without adapting": (self.predictor, plain), **others}
        for name, (baseline, theirs) in others.items():
            beside[name] = finish.beside(mine, theirs, baseline.task, baseline.decoder, scores.metric)
            for column, told in finish.beside_by_column(mine, theirs, baseline.task, baseline.decoder).items():
                scores.columns[column].baseline[name] = told
        extra: dict[str, Any] = {"baseline": beside, "audit": report.to_json()}
        if answers is not None:
            extra["adapted"] = answers.told.to_json()
        if self.run_dir is not None and isinstance(data, (str, Path)):
            uses = runs.count_use(self.run_dir, hash_of(data), str(data))
            if uses is not None:
                extra["uses"] = uses
        return scores, extra

    def labelled(self, source: Any) -> tuple[Data, Any]:
        """Labelled rows through the gate."""
        decoder = self.predictor.decoder
        table = gathered(read(source), self.columns)
        known, said = renamed(self.columns, table, decoder.classes)
        refuse_uneven(table, known.labels)
        lacking = [name for name in known.labels if name not in table.columns]
        if lacking:
            raise UserError(
                f"{table.source} has no column {lacking[0]!r}, which holds the labels this model learned from; "
                f"its columns: {', '.join(table.columns)}. To predict without labels use predict."
            )
        columns, counted = sampled(dataclasses.replace(present(known, table), time=None), table)
        classes = decoder.classes if decoder.task != "regress" else None
        if decoder.parts:
            classes = tuple(one.classes or None for one in decoder.parts)
        rows, report = audit(
            table,
            columns,
            decoder.task,
            label_delimiter=decoder.delimiter,
            classes=classes,
            private=self._private,
            role="test",
            progress=self.progress,
            split=self.split,
        )
        if told := [*said, *counted, *weightless(rows, columns.weight)]:
            report = dataclasses.replace(report, facts={**report.facts, "read_as": told})
        if not len(rows):
            raise UserError(
                f"{table.source}: none of its {plural(report.read, 'row')} can be scored (blank, unlabelled or damaged)"
            )
        return rows, report

    def _run(self) -> Run:
        return Run(device=pick_device(), progress=self.progress)

    def compare(self, other: Model, data: Any, *, metric: str | None = None) -> Difference:
        """The paired difference self − other on the same labelled rows."""
        rows, _ = self.labelled(data)
        name = metric or (self.scores.metric if self.scores else None) or "accuracy"
        mine, theirs = (finish.judged_on(m.predictor, rows, self._run()) for m in (self, other))
        return finish.gap_between(mine, theirs, self.predictor.task, name, 0)

    # -- keeping ---------------------------------------------------------------------------------------------------

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report: HTML, or Markdown where the name ends in .md."""
        return runs.write_report(self.report_data, Path(path), self.run_dir)

    def save(self, path: str | Path) -> Path:
        """Write the bundle into a new folder: safetensors and JSON, nothing that runs code when loaded."""
        folder = self.predictor.save(path)
        runs.write_json(folder / "columns.json", dataclasses.asdict(self.columns))
        return folder


def _left_out(report: Audit) -> list[str]:
    """What to say of rows that judge nothing: those without a label, and what the gate drops."""
    gone = report.read - report.kept
    return [f"{gone:,} of {rows_text(report.read)} left out{why_dropped(report)}"] if gone else []


def weightless(rows: Data, column: str | None) -> list[str]:
    """How many rows weigh nothing, if any; refused where all do."""
    none = 0 if rows.weights is None else int((np.asarray(rows.weights) == 0).sum())
    if none and none == len(rows):
        raise UserError(f"{rows.source}: every row weighs 0 by {column!r}, so that none counts")
    return [f"{rows.source}: a weight of 0 by {column!r} for {plural(none, 'row')} (not counted)"] if none else []


def _of_known(run_dir: Path, rows: Data) -> list[str]:
    """What to say of rows that the run has seen before."""
    kind = kind_of(rows)
    near = "" if kind.exact is kind.keys else " (or near duplicates)"  # of which the keys alone tell nothing
    found, these = [], f"of {plural(len(rows), 'row')} given{near}"
    if known := runs.known(run_dir, rows):
        found.append(
            f"{known} {these} {'was' if known == 1 else 'were'} learned from, so these numbers are too good; judge "
            f"the model on rows that it has "
            "not seen"
        )
    if known := runs.known(run_dir, rows, runs.ADAPTED):
        found.append(
            f"{known} {these} are among those that it adapted to, though without their labels: on other rows from "
            "there it may do a little worse"
        )
    return found


def load(path: str | Path) -> Model:
    """A model from a RUN folder or a saved bundle. Needs no network."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {str(path)!r}; give a RUN folder of `acclimate fit`, or one written by model.save"
        )
    in_run = (folder / "model").is_dir()
    if not in_run and (folder / "state").is_dir() and not (folder / "columns.json").exists():
        again = f"acclimate fit --resume --output-dir {shlex.quote(str(folder))}"
        raise UserError(f"{folder} is a run that was not finished; go on with: {again}")
    bundle = folder / "model" if in_run else folder
    predictor = load_predictor(bundle)
    values = runs.read_json(bundle / "columns.json")
    try:
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        columns = Columns(**parts)
        if not columns.inputs:
            raise ValueError("no column of inputs")
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{bundle / 'columns.json'} is damaged ({error}); copy the bundle again or fit anew") from error
    if not in_run:
        return Model(predictor, columns)
    baselines = {f.name: load_predictor(f) for f in sorted((folder / "baselines").glob("*")) if f.is_dir()}
    asked = runs.about_if_there(folder).get("asked", {})
    return Model(
        predictor,
        columns,
        split=asked.get("split"),
        private=bool(asked.get("private")),
        run_dir=folder,
        scores=if_there(folder / "metrics.json", Scores.from_json),
        report_data=if_there(folder / runs.REPORT, ReportData.from_json),
        baselines=baselines,
    )


def if_there(path: Path, read_from: Callable[[Any], _T]) -> _T | None:
    """Predicting needs the model alone: numbers and report that are missing, damaged or of another version do not stop
    it; what says how the run was asked for does (`runs.about`)."""
    try:
        found: _T = read_from(runs.read_json(path))
        return found
    except (UserError, KeyError, TypeError, AttributeError):
        return None
