"""What is fitted besides weights: class names, temperature, thresholds, target scale. Saved as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decoder:
    """Turns logits into the user's own answers. `classes` are the columns of `predict_proba`, in this order."""

    task: str
    classes: tuple[Any, ...] = ()
    label_kind: str = "str"  # int, float, bool, str: the type that predictions come back in
    delimiter: str | None = None  # of multi-label text, for writing predictions
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()  # multi-label: one a class
    positive: Any = None  # binary: the class that `threshold` speaks of
    threshold: float | None = None
    cost: tuple[tuple[float, ...], ...] | None = None  # cost[truth][predicted]: decide by the least expected cost
    mean: float = 0.0  # regression: prediction = logit · scale + mean
    scale: float = 1.0
    conformal: tuple[float, ...] = ()  # sorted out-of-fold scores, for prediction sets
    labels: tuple[str, ...] = ()  # of several label columns their names
    parts: tuple[Decoder, ...] = ()  # and what was fitted of each
    metric: str = ""  # of one of them: what it is judged by

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> Decoder:
        """The inverse of `to_json`."""
        got: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        if got.get("cost") is not None:
            got["cost"] = tuple(tuple(row) for row in got["cost"])
        got["parts"] = tuple(Decoder.from_json(part) for part in got.get("parts", ()))
        return Decoder(**got)

    def column_names(self) -> tuple[str, ...]:
        """Class names as text."""
        return tuple(str(c) for c in self.classes)


def positive_class(decoder: Decoder) -> Any:
    """The class that a threshold speaks of when none is named: one called yes, true, 1, positive ...; else the last.
    None where there are not two."""
    if decoder.task != "classify" or len(decoder.classes) != 2:
        return None
    for c in decoder.classes:
        if str(c).strip().lower() in _USUAL:
            return c
    return decoder.classes[-1]


_USUAL = {
    "1", "yes", "true", "positive", "pos", "spam", "fraud", "bad", "default", "ill", "disease", "toxic", "event",
}  # fmt: skip
