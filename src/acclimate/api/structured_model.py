"""The user's model of a task with structured answers: predicts, evaluates, compares, reports, saves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acclimate.api import runs
from acclimate.api.predicting import Predictions
from acclimate.api.structured_rows import learned_from
from acclimate.data.account import why_dropped
from acclimate.data.rows import Columns, Data
from acclimate.data.split import hash_of
from acclimate.errors import UserError, plural
from acclimate.evaluate import Difference, Scores
from acclimate.progress import Progress
from acclimate.report.data import ReportData
from acclimate.run import Run, pick_device
from acclimate.structured.base import Asked, New, StructuredNetwork, labels_of
from acclimate.structured.bundle import Learned
from acclimate.structured.gate import clustered, clusters_of, refuse_unread
from acclimate.structured.measuring import difference, scores_of


class StructuredModel:
    """What `fit` and `load` return for tasks such as `tag`. `scores` are those of the rows held out."""

    def __init__(
        self,
        learned: Learned,
        columns: Columns,
        run_dir: Path | None = None,
        scores: Scores | None = None,
        report_data: ReportData | None = None,
        private: bool = False,
    ) -> None:
        self.learned = learned
        self.columns = columns
        self.run_dir = run_dir
        self.scores = scores
        self.report_data = report_data
        self.private = private
        self.progress = Progress()  # quiet, unless a command line puts another in its place

    def __repr__(self) -> str:
        if self.report_data is not None:
            return self.report_data.verdict
        one = self.learned
        return f"acclimate model: {one.strategy} on {one.network.backbone.origin.name}, task {one.task.name}"

    def __str__(self) -> str:
        """The verdict, and the scores of the rows held out."""
        return repr(self) if self.scores is None else f"{self!r}\n\n{self.scores}"

    def predict(self, inputs: Any) -> list[Any]:
        """One answer an input, in order, in the form of the training answers; None where there is nothing to read."""
        task = self.learned.task
        given = (
            [inputs]
            if isinstance(inputs, str) and task.given([inputs]) is not None and not _is_path(inputs)
            else inputs
        )
        rows = task.given(given)
        if rows is None:
            rows = list(task.read_new(given, self._asked).inputs)
        return self._answers(rows)

    def _answers(self, rows: Sequence[Any]) -> list[Any]:
        at = [i for i, one in enumerate(rows) if one is not None and one != "" and one != ()]
        found: list[Any] = [None] * len(rows)
        one, given = self.learned, [rows[i] for i in at]
        said = one.task.told(one.network, given, one.state, self._run()) if at else []
        for i, answer in zip(at, said, strict=True):
            found[i] = answer
        return found

    def _readable(self, new: New) -> New:
        """The rows without the inputs that the network cannot read, which have a problem instead."""
        refused = ["" if one is None else self.learned.network.refused(one) for one in new.inputs]
        inputs = tuple(None if why else one for one, why in zip(new.inputs, refused, strict=True))
        return dataclasses.replace(new, inputs=inputs, problems=tuple(map(str.__add__, new.problems, refused)))

    def _cut(self, rows: Sequence[Any]) -> tuple[str, ...]:
        """What of the rows did not fit into the model, in a sentence; nothing where all did."""
        network = self.learned.network
        if type(network).cut is StructuredNetwork.cut:
            return ()
        said = network.cut(network.encode([one for one in rows if one is not None], None))
        return (said,) if said else ()

    def choose(self, inputs: Any, texts: Sequence[str]) -> list[str]:
        """Of a model of the task `match`: for each input the one of these texts that is nearest. With class names this
        classifies without a label; they need not have been in training."""
        task, network = self.learned.task, self.learned.network
        if self._name != "match":
            raise UserError(f"choose is for the task match, and this model answers task {self._name!r}; use predict")
        rows = task.given(inputs)
        rows = list(task.read_new(inputs, self._asked).inputs) if rows is None else rows
        state = {**self.learned.state, "texts": list(texts)}
        return [str(said) for said in task.told(network, rows, state, self._run())]

    def predict_parts(
        self, source: Any, *, conformal: float | None = None, abstain_below: float | None = None, adapt: Any = None
    ) -> Predictions:
        """The table as read and the columns that prediction adds, in one part."""
        for name, value in (("--conformal", conformal), ("--abstain-below", abstain_below), ("--adapt", adapt)):
            if value is not None:
                raise UserError(f"{name} is for labels of whole rows, and this model answers task {self._name!r}")
        new: New = self.learned.task.read_new(source, self._asked)
        new = self._readable(new)
        answers = self._answers(new.inputs)
        columns = self.learned.task.columns(new.inputs, answers)
        kinds: dict[str, type] = {name: _kind(cells) for name, cells in columns.items()}
        if any(new.problems):
            columns, kinds = {**columns, "note": list(new.problems)}, {**kinds, "note": str}
        return Predictions(
            new.table, kinds, iter([columns]), said=self._cut(new.inputs), files=self.learned.task.files(answers)
        )

    def evaluate(self, data: Any, *, metric: str | None = None, adapt: Any = None) -> Scores:
        """Scores on labelled rows, with intervals. In a run, each use of a file is counted."""
        scores, beside = self.evaluation(data, metric=metric, adapt=adapt)
        return dataclasses.replace(scores, baseline=beside["baseline"], uses=beside.get("uses"))

    def evaluation(self, data: Any, *, metric: str | None = None, adapt: Any = None) -> tuple[Scores, dict[str, Any]]:
        """Scores, and beside them the baselines with the paired differences to them, the account of the rows and how
        often the file was used."""
        if adapt is not None:
            raise UserError(f"--adapt is for labels of whole rows, and this model answers task {self._name!r}")
        rows, audit = self.labelled(data)
        answers = self.learned.task.judged(self.learned.network, rows, self._run())
        chosen = metric or (self.scores.metric if self.scores is not None else None)
        task, state = self.learned.task, self.learned.state
        clusters = clusters_of(rows)
        scores = scores_of(task, labels_of(rows), answers, state, metric=chosen, clusters=clusters)
        scores = dataclasses.replace(scores, notes=(*self._cut(rows.inputs), *scores.notes))
        beside, missing = self._beside(rows, answers, scores.metric)
        scores = dataclasses.replace(scores, notes=(*scores.notes, *([missing] if missing else ())))
        extra: dict[str, Any] = {"baseline": beside, "audit": audit.to_json()}
        if self.run_dir is not None:
            known = runs.known_keys(self.run_dir, task.keys(rows.inputs))
            if known:
                note = (
                    f"{known} of {plural(len(rows), 'row')} given {'was' if known == 1 else 'were'} learned from, "
                    f"so these numbers are too good; judge the "
                    "model on rows that it has not seen"
                )
                scores = dataclasses.replace(scores, notes=(note, *scores.notes))
            if isinstance(data, (str, Path)) and Path(data).is_file():
                uses = runs.count_use(self.run_dir, hash_of(data), str(data))
                if uses is not None:
                    extra["uses"] = uses
        return scores, extra

    def _beside(self, rows: Data, answers: Sequence[Any], metric: str) -> tuple[dict[str, Any], str]:
        """What does without transfer, learned anew from the run's own training rows; else why there is nothing."""
        if self.run_dir is None:
            return {}, ""
        task, state = self.learned.task, self.learned.state
        train, why = learned_from(self.run_dir, task, self._asked)
        if train is None:
            return {}, f"No baselines stand beside it: {why}."
        truth, clusters, found = labels_of(rows), clusters_of(rows), {}
        for name, make in task.baselines(train, state, self._run()).items():
            self.progress.say(f"baseline {name}, learned anew from {plural(len(train), 'row')}")
            said = task.judged_by(make(), rows)
            one = scores_of(task, truth, said, state, metric=metric, clusters=clusters).estimates[metric]
            gap = difference(task, metric, truth, answers, said, state, clusters=clusters)
            found[name] = {**one.to_json(), "difference": gap.to_json()}
        return found, ""

    def labelled(self, source: Any) -> tuple[Data, Any]:
        """Labelled rows through the gate."""
        task = self.learned.task
        rows, audit = task.read(source, self._asked, "test", self.learned.state)
        if not len(rows):
            raise UserError(
                f"{audit.source}: none of its {plural(audit.read, 'row')} can be judged{why_dropped(audit)}"
            )
        refuse_unread(self.learned.network, rows)
        return dataclasses.replace(rows, clusters=clustered(task.keys(rows.inputs))), audit

    def compare(self, other: StructuredModel, data: Any, *, metric: str | None = None) -> Difference:
        """The paired difference self − other on the same labelled rows."""
        if other.learned.task.name != self._name:
            raise UserError(f"these models answer different tasks ({self._name} and {other.learned.task.name})")
        rows, _ = self.labelled(data)
        name = metric or (self.scores.metric if self.scores else self.learned.task.metric)
        mine, theirs = (m.learned.task.judged(m.learned.network, rows, self._run()) for m in (self, other))
        return difference(
            self.learned.task, name, labels_of(rows), mine, theirs, self.learned.state, clusters=clusters_of(rows)
        )

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report: HTML, or Markdown where the name ends in .md."""
        return runs.write_report(self.report_data, Path(path), self.run_dir)

    def save(self, path: str | Path) -> Path:
        """Write the bundle into a new folder: safetensors and JSON, nothing that runs code when loaded."""
        folder = self.learned.save(path)
        runs.write_json(folder / "columns.json", dataclasses.asdict(self.columns))
        return folder

    @property
    def _name(self) -> str:
        return self.learned.task.name

    @property
    def _asked(self) -> Asked:
        return Asked(self.columns, self.private, self.progress)

    def _run(self) -> Run:
        return Run(device=pick_device(), progress=self.progress)


def _is_path(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError):
        return False


def _kind(cells: Sequence[Any]) -> type:
    found = {type(c) for c in cells if c is not None}
    return found.pop() if len(found) == 1 and found <= {str, int, float, bool} else str
