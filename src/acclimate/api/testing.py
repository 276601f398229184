"""Predictions adapted at test time to the rows that are asked for, and what is to be said of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from acclimate.data.rows import Input
from acclimate.errors import UserError
from acclimate.metrics.digest import slices
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.tasks.base import Floats
from acclimate.testtime import Adapter, named


@dataclass(frozen=True)
class Told:
    """Which adapter answered, and what it changed. Whether that was for the better nobody can tell without labels."""

    adapter: str
    settings: dict[str, Any]
    rows: int
    changed: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**dataclasses.asdict(self), "said": list(self.lines())}

    def lines(self) -> tuple[str, ...]:
        """The same in sentences."""
        share = f"{self.changed:,} of {self.rows:,} predictions changed"
        return (
            f"adapted by {self.adapter} to these rows alone: {share}. Whether for the better is not known: label some "
            f"rows and run acclimate evaluate RUN LABELLED --adapt {self.adapter}",
            *(f"{self.adapter}: {note}" for note in self.notes),
        )


@dataclass(frozen=True)
class Answers:
    """Logits of all rows with and without adapting."""

    logits: Floats
    plain: Floats
    told: Told

    def parts(self, *, plain: bool = False) -> Iterator[Floats]:
        """The logits in parts, as `Predictor.parts` gives them."""
        logits = self.plain if plain else self.logits
        return (logits[part] for part in slices(len(logits), logits.shape[1]))


def adapted(predictor: Predictor, inputs: Sequence[Input | None], adapt: str | Adapter, run: Run) -> Answers:
    """The answers to what can be judged of these rows, adapted to them."""
    if not isinstance(adapt, (str, Adapter)):
        raise UserError(f"adapt is {adapt!r}; give a name such as 'tent' or 'lame:neighbours=3'")
    adapter = named(adapt) if isinstance(adapt, str) else adapt
    rows = [value for value in inputs if value is not None]
    found = adapter.adapt(predictor, rows, run)
    told = Told(adapter.name, dataclasses.asdict(adapter), len(rows), found.changed(predictor), found.notes)
    return Answers(found.logits, found.plain, told)
