"""What scoring gives back: the scores of one model, and the difference of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acclimate.errors import plural
from acclimate.metrics.estimate import COVERS, Estimate, digits

MOST_CLASSES = 20  # in the text of scores


@dataclass(frozen=True)
class Scores:
    """How well a model did on some rows. Every interval is at 95 %; `covers` says what it speaks about."""

    task: str
    metric: str  # the one that decides
    n: int
    estimates: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    per_subgroup: dict[str, dict[str, dict[str, Estimate]]] = field(default_factory=dict)  # column, value, metric
    gaps: dict[str, dict[str, Estimate]] = field(default_factory=dict)  # column, metric: best less worst subgroup
    confusion: list[list[int]] | None = None  # row: truth, column: predicted
    classes: tuple[str, ...] = ()
    reliability: list[dict[str, Any]] | None = None
    notes: tuple[str, ...] = ()
    covers: str = COVERS
    baseline: dict[str, Any] = field(default_factory=dict)  # name: its estimate, and "difference": this model less it
    columns: dict[str, Scores] = field(default_factory=dict)  # of several label columns: those of each
    uses: int | None = None  # how often these rows have been scored in this run; a number chosen by looking is too high

    @property
    def value(self) -> float | None:
        """The deciding metric."""
        return self.estimates[self.metric].value

    @property
    def low(self) -> float | None:
        """Its lower limit, None where the rows are too few."""
        return self.estimates[self.metric].low

    @property
    def high(self) -> float | None:
        """Its upper limit, None where the rows are too few."""
        return self.estimates[self.metric].high

    def to_json(self) -> dict[str, Any]:
        """Plain values: {"metric", "value", "low", "high", "n", "metrics": {name: {...}}, "per_class", ...}."""
        data = {
            "task": self.task,
            "metric": self.metric,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "level": 0.95,
            "covers": self.covers,
            "metrics": {name: e.to_json() for name, e in self.estimates.items()},
            "per_class": {c: {m: e.to_json() for m, e in row.items()} for c, row in self.per_class.items()},
            "per_subgroup": {
                s: {v: {m: e.to_json() for m, e in row.items()} for v, row in rows.items()}
                for s, rows in self.per_subgroup.items()
            },
            "gaps": {s: {m: e.to_json() for m, e in row.items()} for s, row in self.gaps.items()},
            "confusion": self.confusion,
            "classes": list(self.classes),
            "reliability": self.reliability,
            "notes": list(self.notes),
        }
        if self.baseline:
            data["baseline"] = dict(self.baseline)
        if self.columns:
            data["columns"] = {name: scores.to_json() for name, scores in self.columns.items()}
        return data if self.uses is None else {**data, "uses": self.uses}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scores:
        """What `to_json` wrote."""

        def row(estimates: Mapping[str, Any]) -> dict[str, Estimate]:
            return {name: Estimate(**e) for name, e in estimates.items()}

        return cls(
            task=data["task"],
            metric=data["metric"],
            n=data["n"],
            estimates=row(data["metrics"]),
            per_class={c: row(r) for c, r in data["per_class"].items()},
            per_subgroup={s: {v: row(r) for v, r in rows.items()} for s, rows in data["per_subgroup"].items()},
            gaps={s: row(r) for s, r in data["gaps"].items()},
            confusion=data["confusion"],
            classes=tuple(data["classes"]),
            reliability=data["reliability"],
            notes=tuple(data["notes"]),
            covers=data["covers"],
            baseline=dict(data.get("baseline") or {}),
            columns={name: cls.from_json(scores) for name, scores in (data.get("columns") or {}).items()},
            uses=data.get("uses"),
        )

    def __str__(self) -> str:
        """A line a metric, the deciding one first; baselines; a line a class, for 20 of them; notes."""
        lines = [f"{self.task}, {plural(self.n, 'row')}"]
        for name in [self.metric, *(m for m in self.estimates if m != self.metric)]:
            lines.append(f"  {name:<24} {self.estimates[name]}")
        for name, beside in self.baseline.items():
            lines.append(f"  {name} ({self.metric}): {_short(beside)}{_against(beside.get('difference'))}")
        for name, row in list(self.per_class.items())[:MOST_CLASSES]:
            cells = ", ".join(f"{m} {_short(e.to_json())}" for m, e in row.items() if m != "support")
            lines.append(f"  {name}: {cells}, n = {row['support'].value:.0f}")
        if len(self.per_class) > MOST_CLASSES:
            lines.append(f"  ... and {plural(len(self.per_class) - MOST_CLASSES, 'more class', 'more classes')}")
        if self.uses is not None and self.uses > 1:
            lines.append(
                f"these rows have been scored {plural(self.uses, 'time')}; what is chosen by looking is too good"
            )
        for name, scores in self.columns.items():
            told = [line for line in str(scores).splitlines() if not line.startswith("Intervals ")]
            lines += ["", f"{name}: {told[0]}", *told[1:]]
        return "\n".join([*lines, *self.notes, f"Intervals are at 95 %; they cover {self.covers}."])


@dataclass(frozen=True)
class Difference:
    """a less b in a metric's own units on the same rows; `verdict` is about a: "better", "worse" or "not decidable"."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    verdict: str
    method: str = ""
    note: str = ""
    covers: str = COVERS

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return dict(vars(self))


def _short(e: Mapping[str, Any]) -> str:
    """0.812 [0.771, 0.846], or a dash."""
    value, low, high = e.get("value"), e.get("low"), e.get("high")
    if value is None:
        return "-"
    places = digits(value)
    text = f"{value:.{places}f}" + ("" if low is None or high is None else f" [{low:.{places}f}, {high:.{places}f}]")
    return text.replace("-", "−")


def _against(gap: Mapping[str, Any] | None) -> str:
    return "" if not gap else f"; this model less it {_short(gap)}, {gap['verdict']}"
