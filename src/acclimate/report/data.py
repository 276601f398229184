"""What a report is made from: one frozen value that goes to JSON and back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from acclimate.errors import UserError, unknown

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class ReportData:
    """Facts only; the words and figures are made when it is rendered. Sections without facts do not appear.

    Estimates everywhere are objects with "value", "low", "high", "n" (None where there is no number). A "difference" is
    this model minus the other one on the same rows, and its "verdict" is "better", "worse" or "not decidable" as seen
    from this model, whichever direction the metric has.
    """

    title: str
    verdict: str  # one sentence
    created: str
    task: str  # "classify", "ordinal", "multilabel", "regress", "multitask"
    metric: str
    strategy: str
    model_name: str
    licence: str = ""  # of the base model
    settings: Json = field(default_factory=dict)
    audits: list[Json] = field(default_factory=list)  # Audit.to_json(), one a source
    scores: Json = field(default_factory=dict)  # Scores.to_json()
    baselines: list[Json] = field(
        default_factory=list
    )  # {"name", "value", "low", "high", "n", "difference": {...} | None}
    candidates: list[Json] = field(default_factory=list)  # {"name", estimate ..., "seconds", "chosen": bool, "note"}
    costs: list[Json] = field(default_factory=list)  # {"name", "part", "seconds", "memory", "foreseen_seconds", ...}
    decisions: list[str] = field(default_factory=list)
    history: list[Json] = field(default_factory=list)  # {"step", "epoch", "train_loss", "valid_loss", "valid_metric"}
    projection: Json | None = None  # {"x": [...], "y": [...], "label": [...], "method": "PCA" (if said)}
    # {"input": text or two texts, "truth", "predicted", "confidence", "line", "picture" and "sound": data URIs}
    mistakes: list[Json] | None = None
    mistakes_note: str = ""
    splits: dict[str, int] = field(default_factory=dict)  # name -> rows
    how_tested: str = ""
    next_steps: list[Json] = field(default_factory=list)  # {"text", "command": str or ""}
    calibration: Any = None  # the bins, or {"bins": [...], "temperature": ..., ...}
    thresholds: Json = field(default_factory=dict)
    scatter: Json | None = None  # {"truth": [...], "predicted": [...]} of regression
    private: bool = False
    domains: list[Json] = field(default_factory=list)  # {"name", "rows": [{"name", estimate ..., "difference"}]}
    versions: dict[str, str] = field(default_factory=dict)
    target_verdict: str = ""  # on adapting to where the model will be used, or on learning several labels at once
    columns: list[Json] = field(default_factory=list)  # of several label columns: a report on each, as `to_json` has it

    def to_json(self) -> Json:
        """Plain JSON values; a number that is not finite becomes null, since JSON has no word for it."""
        result: Json = _plain({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        if self.private:
            result["mistakes"] = None
            result["columns"] = [{**column, "mistakes": None} for column in result["columns"]]
        return result

    @classmethod
    def from_json(cls, stored: Json) -> ReportData:
        """The inverse of `to_json`."""
        names = [f.name for f in dataclasses.fields(cls)]
        for name in stored:
            if name not in names:
                raise unknown("field of a report", name, names)
        missing = [f.name for f in dataclasses.fields(cls) if f.name not in stored and _required(f)]
        if missing:
            raise UserError(f"a report needs {', '.join(missing)}; its data has only {', '.join(stored) or 'nothing'}")
        return cls(**stored)


def _required(entry: dataclasses.Field[Any]) -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [_plain(v) for v in items]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy, without importing it
        return _plain(value.tolist())
    return str(value)
