"""Intervals of the difference between two models on the same rows."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri, stdtrit

from acclimate.metrics.estimate import Estimate
from acclimate.metrics.intervals import FloatArray, IntArray, Interval, Weighted, pseudo_limits, resample, units_of


def paired(
    a: Weighted,
    b: Weighted,
    n: int,
    *,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, Interval | None]:
    """a - b on the same rows, and its interval; what is hard for both cancels.

    The jackknife: each row (cluster; above 200 each of 200 blocks) is left out once, for both models. The limits are
    the outer ones of Student's t and of Hall's correction for skewness on the pseudo-values. In simulation this holds
    its level at n = 30 where the paired BCa bootstrap falls to 92 % (`benchmarks/coverage.py`). Efron and Stein (1981),
    Annals of Statistics 9. None where every row left out gives the same difference.

    >>> from acclimate.metrics.base import mean_of
    >>> a, b = mean_of(np.arange(20.0)), mean_of(np.arange(20.0) ** 0.5)
    >>> value, interval = paired(a, b, 20)
    >>> round(value, 2), round(interval.low, 2), round(interval.high, 2)
    (6.64, 4.4, 8.95)
    """
    draws = resample([lambda w: a(w) - b(w)], n, weights=weights, clusters=clusters, resamples=0, seed=seed)[0]
    value = float(draws.value[0])
    blocks = draws.blocks[:, 0]
    blocks = blocks[np.isfinite(blocks)]
    k = len(blocks)
    if k < 2 or not math.isfinite(value) or np.ptp(blocks) <= 1e-12 * max(1.0, abs(value)):
        return value, None
    return value, Interval(*pseudo_limits(value, blocks, level), "paired jackknife")


def paired_shares(
    a: FloatArray,
    b: FloatArray,
    *,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    level: float = 0.95,
) -> tuple[float, Interval | None]:
    """The difference of two shares of the same rows (accuracies), from the rows where only one of the two is right.

    Tango's score interval (1998, Statistics in Medicine 17): all d with |b₁ - b₂ - n·d| ≤ z √(n(2q + d(1 - d))), q the
    share that is most likely under d. Holds its level however few rows differ, and never has width 0. Weights and
    clusters shrink n to an effective one, by the ratio of the variance that rows alone would give to that between
    clusters, as in `proportion`.

    >>> value, interval = paired_shares(np.array([1.0] * 9 + [0.0]), np.array([1.0] * 5 + [0.0] * 5))
    >>> round(value, 2), round(interval.low, 2), round(interval.high, 2)
    (0.4, 0.01, 0.69)
    """
    w = np.ones(len(a)) if weights is None else np.asarray(weights, dtype=np.float64)
    apart = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    total = float(w.sum())
    if not total > 0:
        return float("nan"), None
    value = float(w @ apart) / total
    wins, losses = float(w @ (apart > 0)) / total, float(w @ (apart < 0)) / total
    n = total**2 / float(w @ w)
    z = float(ndtri((1 + level) / 2))
    if weights is not None or clusters is not None:
        unit = units_of(len(w), clusters)
        groups = int(unit.max()) + 1
        if groups < 2:
            return value, None
        spread = np.bincount(unit, w * (apart - value))
        variance = float((spread**2).sum()) * groups / (groups - 1) / total**2
        alone = wins + losses - value**2
        n = min(n, alone / variance) if variance > 0 and alone > 0 else n
        z = float(stdtrit(groups - 1, (1 + level) / 2)) if clusters is not None else z
    low = _tango(wins, losses, n, z, value, -1.0)
    high = _tango(wins, losses, n, z, value, 1.0)
    return value, Interval(low, high, "Tango's score interval")


def apart(a: Estimate, b: Estimate) -> Interval | None:
    """a - b from the interval of each as if they were of different rows: the square-and-add rule of Newcombe (1998).

    low = a - b - √((a - a.low)² + (b.high - b)²), high likewise. Too wide where the two models fail on the same rows;
    use where no paired interval can be had. A value without limits is taken as known, as is the 0 that Matthews'
    correlation gives to a constant answer whatever the rows; None where neither has limits.

    >>> gap = apart(Estimate(1.0, 0.9, 1.0), Estimate(0.5, 0.4, 0.6))
    >>> round(gap.low, 3), round(gap.high, 3)
    (0.359, 0.6)
    """
    if a.value is None or b.value is None or (a.low is None and b.low is None):
        return None
    gap = a.value - b.value
    (a_down, a_up), (b_down, b_up) = (
        (0.0, 0.0) if e.low is None or e.high is None else (value - e.low, e.high - value)
        for e, value in ((a, a.value), (b, b.value))
    )
    down, up = math.hypot(a_down, b_up), math.hypot(a_up, b_down)
    return Interval(gap - down, gap + up, "square-and-add of both intervals")


def within(interval: Interval | None, scale: str) -> Interval | None:
    """Limits of a difference that the scale allows: at most 1 from 0 on "unit", 2 on "signed".

    >>> within(Interval(0.1, 1.7, "paired jackknife"), "unit").high
    1.0
    """
    most = {"unit": 1.0, "signed": 2.0}.get(scale, math.inf)
    if interval is None or -most <= interval.low <= interval.high <= most:
        return interval
    return Interval(max(-most, interval.low), min(most, interval.high), interval.method)


def _tango(wins: float, losses: float, n: float, z: float, value: float, end: float) -> float:
    """The d between `value` and `end` at which the score statistic reaches z, by bisection."""

    def surprise(d: float) -> float:
        linear = -wins - losses + (2.0 - wins + losses) * d
        q = (math.sqrt(max(0.0, linear * linear + 8 * losses * d * (1 - d))) - linear) / 4
        variance = (2 * q + d * (1 - d)) / n
        return abs(value - d) / math.sqrt(variance) if variance > 0 else math.inf

    inside, outside = value, end
    for _ in range(60):
        d = (inside + outside) / 2
        if surprise(d) > z:
            outside = d
        else:
            inside = d
    return (inside + outside) / 2
