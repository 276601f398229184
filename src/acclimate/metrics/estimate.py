"""An estimate: a number, its interval, how many rows it rests on, and what is to be said about it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from acclimate.metrics.intervals import Draws, Interval, limits, wilson

FEWEST = 10  # rows (of the smallest class where the metric averages over classes) below which no interval is given
COVERS = "which rows were drawn for the test; not the choice of training rows, nor the seed"
COVERS_CLUSTERS = "which clusters of rows were drawn for the test; not the choice of training rows, nor the seed"


@dataclass(frozen=True)
class Estimate:
    """`value` in [low, high] at 95 %. What could not be computed is None, and `note` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""
    method: str = ""  # how the interval was found
    covers: str = ""  # what the interval speaks about; empty where there is none

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return asdict(self)

    def __str__(self) -> str:
        if self.value is None:
            return f"- ({self.note})"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (n = {self.n}; {self.note})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.n})"


def with_interval(
    value: float, interval: Interval | None, n: int, *, note: str = "", clustered: bool = False
) -> Estimate:
    """An estimate from a value and its interval; NaN becomes None."""
    if not math.isfinite(value):
        return Estimate(None, n=n, note=note or "undefined on these rows")
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return Estimate(value, n=n, note=note or "no interval: every resample gave the same value")
    covers = COVERS_CLUSTERS if clustered else COVERS
    return Estimate(value, min(interval.low, value), max(interval.high, value), n, note, interval.method, covers)


def from_draws(
    draws: Draws, column: int, n: int, *, scale: str, smallest: int, clustered: bool, note: str = ""
) -> Estimate:
    """An estimate from resamples. `smallest` is the number of rows that decides whether there are enough for an interval."""
    value = float(draws.value[column])
    few = too_few(smallest, draws.units if clustered else None)
    if few:
        return with_interval(value, None, n, note="; ".join(filter(None, [few, note])) if math.isfinite(value) else "")
    interval = limits(draws, column, scale=scale)
    if interval is None and math.isfinite(value):
        interval = at_the_edge(value, scale, min(smallest, draws.units))
    return with_interval(value, interval, n, note=note, clustered=clustered)


def too_few(rows: int, clusters: int | None = None) -> str:
    """Why there is no interval, or "" where there are enough rows."""
    if rows < FEWEST:
        return f"n too small for an interval ({rows} rows in the smallest class; {FEWEST} are needed)"
    if clusters is not None and clusters < FEWEST:
        return f"n too small for an interval ({clusters} clusters; {FEWEST} are needed)"
    return ""


def at_the_edge(value: float, scale: str, n: int) -> Interval | None:
    """The interval of a perfect (or wholly wrong) score, where resampling sees no spread: Wilson's for n of n (0 of n).

    n is the rows of the smallest class, which is the cautious choice. On [-1, 1] and (-∞, 1] the distance from 1 is doubled.
    """
    if scale not in ("unit", "signed", "below one") or n < 1:
        return None
    stretch = 1.0 if scale == "unit" else 2.0
    if math.isclose(value, 1.0, abs_tol=1e-12):
        return Interval(1.0 - stretch * (1.0 - wilson(n, n).low), 1.0, "Wilson, for a score without error")
    worst = 0.0 if scale == "unit" else -1.0
    if scale != "below one" and math.isclose(value, worst, abs_tol=1e-12):
        return Interval(worst, worst + stretch * wilson(0, n).high, "Wilson, for a score without a hit")
    return None
