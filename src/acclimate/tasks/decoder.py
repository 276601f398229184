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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> Decoder:
        """The inverse of `to_json`."""
        got: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        if got.get("cost") is not None:
            got["cost"] = tuple(tuple(row) for row in got["cost"])
        return Decoder(**got)

    def column_names(self) -> tuple[str, ...]:
        """Class names as text."""
        return tuple(str(c) for c in self.classes)
