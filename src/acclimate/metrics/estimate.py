"""An estimate: a number, its interval, how many rows it rests on, and what is to be said about it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from acclimate.errors import plural
from acclimate.metrics.intervals import Draws, Interval, limits, score_limits, wilson

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
        places = digits(self.value)
        if self.low is None or self.high is None:
            text = f"{self.value:.{places}f}".replace("-", "−")
            return f"{text} (n = {self.n}{f'; {self.note}' if self.note else ''})"
        text = f"{self.value:.{places}f} [{self.low:.{places}f}, {self.high:.{places}f}]".replace("-", "−")
        return f"{text} (n = {self.n})"


def digits(value: float) -> int:
    """Digits after the point that show at least three that count: three, more below 0.01, fewer from 10 up.

    >>> digits(0.5), digits(0.00123), digits(12.34), digits(12345.0)
    (3, 5, 1, 0)
    """
    size = math.floor(math.log10(abs(value))) if value else 0
    return 3 if -2 <= size <= 0 else min(8, max(0, 2 - size))


def with_interval(
    value: float, interval: Interval | None, n: int, *, note: str = "", clustered: bool = False, inside: bool = True
) -> Estimate:
    """An estimate from a value and its interval; NaN becomes None. A biased value may lie outside (`inside` False)."""
    if not math.isfinite(value):
        return Estimate(None, n=n, note=note or "undefined on these rows")
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return Estimate(value, n=n, note=note or "no interval: every resample gave the same value")
    covers = COVERS_CLUSTERS if clustered else COVERS
    low, high = interval.low, interval.high
    if inside:
        low, high = min(low, value), max(high, value)
    return Estimate(value, low, high, n, note, interval.method, covers)


def from_draws(
    draws: Draws,
    column: int,
    n: int,
    *,
    scale: str,
    smallest: int,
    clustered: bool,
    score: bool = False,
    edge: float | None = None,
    note: str = "",
    of: str = "in the smallest class",
) -> Estimate:
    """An estimate from resamples, or from the jackknife where it behaves like a proportion (`score`).

    `smallest` is the number of rows that decides whether there are enough for an interval, and `of` which they are;
    `edge` how many rows a score without error is worth (`smallest` if not given).
    """
    value = float(draws.value[column])
    few = too_few(smallest, draws.units if clustered else None, of)
    if few:
        return with_interval(value, None, n, note="; ".join(filter(None, [few, note])) if math.isfinite(value) else "")
    if score:
        interval = score_limits(draws, column, clustered=clustered, scale=scale)
    else:
        interval = limits(draws, column, scale=scale)
    if interval is None and math.isfinite(value):
        interval = at_the_edge(value, scale, min(smallest if edge is None else edge, draws.units))
    return with_interval(value, interval, n, note=note, clustered=clustered)


def too_few(rows: int, clusters: int | None = None, of: str = "in the smallest class") -> str:
    """Why there is no interval, or "" where there are enough rows. `of`: which rows are counted."""
    if rows < FEWEST:
        there = f"{plural(rows, 'row')} {of}"
        return f"n too small for an interval ({there}; {FEWEST} are needed: judge on more)"
    if clusters is not None and clusters < FEWEST:
        there = f"{plural(clusters, 'cluster')} of rows that belong together"
        return f"n too small for an interval ({there}; {FEWEST} are needed: judge on more)"
    return ""


def at_the_edge(value: float, scale: str, n: float) -> Interval | None:
    """The interval of a perfect (or wholly wrong) score, where resampling sees no spread: Wilson's for n of n (0 of n).

    On [-1, 1] the distance from the edge is doubled.
    """
    if scale not in ("unit", "signed") or n < 1:
        return None
    stretch = 1.0 if scale == "unit" else 2.0
    if math.isclose(value, 1.0, abs_tol=1e-12):
        return Interval(1.0 - stretch * (1.0 - wilson(n, n).low), 1.0, "Wilson, for a score without error")
    worst = 0.0 if scale == "unit" else -1.0
    if math.isclose(value, worst, abs_tol=1e-12):
        return Interval(worst, worst + stretch * wilson(0, n).high, "Wilson, for a score without a hit")
    return None
