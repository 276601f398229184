"""`compare`: several models on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.api import runs
from acclimate.api.model import Model
from acclimate.api.opening import load
from acclimate.api.structured_model import StructuredModel
from acclimate.data.split import hash_of
from acclimate.errors import UserError, plural
from acclimate.report.words import estimate
from acclimate.run import Run, pick_device


@dataclass(frozen=True)
class Comparison:
    """Paired differences of several models on the same rows, each against the first."""

    metric: str
    rows: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"metric": self.metric, "rows": [dict(r) for r in self.rows]}

    def __str__(self) -> str:
        lines = [f"{self.metric} on {plural(self.rows[0]['n'], 'row')}, differences against {self.rows[0]['name']}:"]
        for row in self.rows:
            value = "undefined" if row["value"] is None else estimate(row["value"], row["low"], row["high"])
            line = f"  {row['name']}: {value}"
            gap: dict[str, Any] | None = row["difference"]
            if gap is not None:
                line += f"   {estimate(gap['value'], gap['low'], gap['high'], sign=True)}: {gap['verdict']}"
            lines.append(line)
        for row in self.rows:
            if row["learned_from"]:
                lines.append(
                    f"{row['name']} learned from {row['learned_from']:,} of these rows: its number is too good"
                )
        return "\n".join(lines)


def compare(runs_: Sequence[str | Path], data: Any, *, metric: str | None = None) -> Comparison:
    """Judge several runs on the same labelled rows; differences are paired, "not decidable" where they cover 0."""
    from acclimate.api import finish

    opened = [(str(p), load(p)) for p in runs_]
    if len(opened) < 2:
        raise UserError("compare needs two runs or more")
    structured = [(name, m) for name, m in opened if isinstance(m, StructuredModel)]
    if len(structured) == len(opened):
        return _structured(structured, data, metric)
    if structured:
        raise UserError(f"{structured[0][0]} has structured answers and another run labels: they cannot be compared")
    models = [(name, m) for name, m in opened if isinstance(m, Model)]
    first = models[0][1]
    tasks = {m.predictor.task.name for _, m in models}
    if len(tasks) > 1:
        raise UserError(
            f"these runs answer different kinds of question ({', '.join(sorted(tasks))}) and cannot be compared"
        )
    _same_classes(models)
    _same_columns(models)
    rows, _ = first.labelled(data)
    if isinstance(data, (str, Path)):
        for run_dir in {m.run_dir for _, m in models if m.run_dir is not None}:
            runs.count_use(run_dir, hash_of(data), str(data))
    base = None
    out: list[dict[str, Any]] = []
    for name, model in models:
        judged = finish.judged_on(model.predictor, rows, Run(device=pick_device()))
        chosen = metric or (first.scores.metric if first.scores is not None else None)
        scores = finish.scores_of(judged, model.predictor.task, model.predictor.decoder, chosen, 0)
        metric = scores.metric
        gap = None if base is None else finish.gap_between(judged, base, model.predictor.task, metric, 0).to_json()
        base = base or judged
        out.append(
            {
                "name": name,
                "value": scores.value,
                "low": scores.low,
                "high": scores.high,
                "n": scores.n,
                "difference": gap,
                "learned_from": 0 if model.run_dir is None else runs.known(model.run_dir, rows),
            }
        )
    assert metric is not None
    return Comparison(metric, tuple(out))


def _structured(models: Sequence[tuple[str, StructuredModel]], data: Any, metric: str | None) -> Comparison:
    """Models of one structured task on the same rows."""
    rows: list[dict[str, Any]] = []
    first = models[0][1]
    for name, model in models:
        scores, _ = model.evaluation(data, metric=metric)
        metric = scores.metric
        gap = None if model is first else model.compare(first, data, metric=metric).to_json()
        learned = 0
        if model.run_dir is not None:
            learned = runs.known_keys(model.run_dir, model.learned.task.keys(model.labelled(data)[0].inputs))
        numbers = {"value": scores.value, "low": scores.low, "high": scores.high, "n": scores.n}
        rows.append({"name": name, **numbers, "difference": gap, "learned_from": learned})
    assert metric is not None
    return Comparison(metric, tuple(rows))


def _same_columns(models: Sequence[tuple[str, Model]]) -> None:
    first_name, first = models[0]
    for name, model in models[1:]:
        for what, mine, theirs in (
            ("reads", first.columns.inputs, model.columns.inputs),
            ("learned", first.columns.labels, model.columns.labels),
        ):
            if mine != theirs:
                own, other = (" and ".join(map(repr, columns)) for columns in (mine, theirs))
                raise UserError(
                    f"{first_name} {what} {own} and {name} {what} {other}; "
                    "only models of the same columns can be compared"
                )


def _same_classes(models: Sequence[tuple[str, Model]]) -> None:
    first_name, first = models[0]
    for name, model in models[1:]:
        if model.classes_ != first.classes_:
            raise UserError(
                f"{first_name} knows the classes {list(first.classes_)} and {name} {list(model.classes_)}; "
                "only models of the same classes can be compared"
            )
