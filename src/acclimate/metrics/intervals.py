"""Confidence intervals that hold their level at small n, for rows, weighted rows and clusters of rows.

A metric is handed over as a `Weighted` function of row weights. A bootstrap resample is then only another set of
weights, and hundreds of resamples are computed by one matrix product or one cumulative sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri, stdtrit

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Weighted: TypeAlias = Callable[
    [FloatArray], FloatArray
]  # (r, n) row weights -> (r,) or (r, m) values, NaN where undefined

BLOCKS = 200  # the jackknife leaves out this many blocks of rows at most
CHUNK = 2_000_000  # weights held in memory at once
WORK = 50_000_000  # rows x resamples; where this would be exceeded the block jackknife stands in for the bootstrap


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, and how it was found."""

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Draws:
    """A statistic on the sample, on bootstrap resamples of its units, and with each block of units left out."""

    value: FloatArray  # (m,)
    replicates: FloatArray  # (resamples, m); no rows where the work would be too much
    blocks: FloatArray  # (blocks, m)
    units: int  # rows, or clusters of rows: what was drawn


def wilson(successes: float, n: float, level: float = 0.95, *, freedom: float | None = None) -> Interval:
    """The score interval of a proportion: all p for which `successes` of `n` is not too surprising.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), with t at `freedom` degrees in place of z where n is itself
    estimated. Wilson (1927), Journal of the American Statistical Association 22. Never leaves [0, 1], never has width
    0. Use when each row is right or wrong. `n` may be an effective number and not whole.

    >>> interval = wilson(30, 30)
    >>> round(interval.low, 3), interval.high
    (0.886, 1.0)
    """
    if not n > 0:
        raise ValueError(f"a proportion needs n > 0, got {n}")
    z = _quantile(level, freedom)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if p <= 0 else max(0.0, middle - half)
    high = 1.0 if p >= 1 else min(1.0, middle + half)
    return Interval(low, high, "Wilson")


def proportion(
    hits: FloatArray,
    *,
    of: FloatArray | None = None,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    level: float = 0.95,
) -> Interval | None:
    """Wilson's interval for Σ w·hits / Σ w·of at the effective number of rows, which weights and clusters make smaller.

    n_eff = p(1-p) / V with V the linearised variance between clusters, Σ_g (Σ_{i in g} w_i(hits_i - p·of_i))² G/(G-1) /
    (Σ w·of)², at most twice Kish's (Σ w)²/Σ w² (Korn and Graubard 1998, Survey Methodology 24; Kish 1965). With
    clusters z becomes t at G-1 degrees; where every row is a hit, or none is, V says nothing, and each cluster counts
    as √(its rows), half way on the log scale between "rows are independent" and "rows of a cluster are copies". Use for
    accuracy, recall and precision. `of` (0/1) picks the rows in the denominator; None is returned where it picks none.

    >>> proportion(np.array([1.0, 1.0, 0.0, 1.0])).method
    'Wilson'
    """
    w = np.ones(len(hits)) if weights is None else np.asarray(weights, dtype=np.float64)
    d = w if of is None else w * of
    total = float(d.sum())
    if not total > 0:
        return None
    h = w * hits if of is None else d * hits
    p = min(1.0, max(0.0, float(h.sum()) / total))
    kish = total**2 / float((d * d).sum())
    if clusters is None:
        if weights is None or p in (0.0, 1.0):
            return wilson(p * kish, kish, level)
        clusters = np.arange(len(w))
        freedom, name = None, "Wilson at the effective n of the weights"
    else:
        freedom, name = 0.0, "Wilson at the effective n of the clusters"
    unit = units_of(len(w), clusters)
    mass = np.bincount(unit, d)
    groups = int((mass > 0).sum())
    if groups < 2:
        return None
    if p in (0.0, 1.0):
        sizes = np.bincount(unit, d > 0)
        effective = kish * float(np.sqrt(sizes[sizes > 0]).sum()) / float(sizes.sum())
    else:
        spread = np.bincount(unit, h - p * d)
        variance = float((spread**2).sum()) * groups / (groups - 1) / total**2
        effective = kish if variance <= 0 else min(2 * kish, p * (1 - p) / variance)
    found = wilson(p * effective, effective, level, freedom=None if freedom is None else groups - 1)
    return Interval(found.low, found.high, name)


def mean(
    rows: FloatArray, *, weights: FloatArray | None = None, clusters: IntArray | None = None, level: float = 0.95
) -> Interval | None:
    """The interval of Σ w·x / Σ w for skewed x, such as losses: Student's t after Hall's cubic transformation.

    With m the mean, se its linearised error between G units (rows or clusters), g the skewness of the units' totals of
    w(x - m): low, high = m - se·h⁻¹(±t), h⁻¹(y) = √G (∛(1 + g(y/√G - g/6G)) - 1) / (g/3). Hall (1992), Journal of the
    Royal Statistical Society B 54. As good as the bootstrap-t and needs no resamples. Use for mean losses and errors;
    with n = 30 and a loss that a few rows make up, it still falls short by some points. None where the rows hold one
    value.

    >>> interval = mean(np.array([0.0, 1.0, 2.0, 9.0] * 5))
    >>> round(interval.low, 2), round(interval.high, 2)
    (1.6, 5.34)
    """
    w = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = float(w.sum())
    units = units_of(len(rows), clusters)
    groups = int(units.max(initial=-1)) + 1
    if groups < 2 or not total > 0 or np.ptp(rows) == 0:
        return None
    middle = float(w @ rows) / total
    apart = np.bincount(units, w * (rows - middle))
    square = float((apart**2).mean())
    if not square > 0:
        return None
    error = math.sqrt(square * groups * groups / (groups - 1)) / total
    skew = float((apart**3).mean()) / square**1.5
    low, high = skewed_limits(middle, error, skew, groups, level)
    return Interval(low, high, "Student's t, corrected for skewness")


def skewed_limits(middle: float, error: float, skew: float, groups: int, level: float = 0.95) -> tuple[float, float]:
    """Hall's limits, see `mean`; g is first raised by 1 + 6/G, about what a sample's skewness falls short by."""
    skew *= 1 + 6 / groups
    t, root = _quantile(level, groups - 1), math.sqrt(groups)

    def back(y: float) -> float:
        if abs(skew) < 1e-6:
            return y
        return root * (float(np.cbrt(1 + skew * (y / root - skew / (6 * groups)))) - 1) / (skew / 3)

    return middle - error * back(t), middle - error * back(-t)


def mean_of_proportions(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """The interval of a plain mean of independent proportions from the interval of each.

    low = p̄ - √Σ(p_k - l_k)²/K, high = p̄ + √Σ(u_k - p_k)²/K: the square-and-add rule (Newcombe 1998, Statistics in
    Medicine 17; Zou and Donner 2008, Statistics in Medicine 27). Use for balanced accuracy, the mean of the recalls.

    >>> half = mean_of_proportions([(1.0, wilson(20, 20)), (0.5, wilson(10, 20))])
    >>> round(half.low, 2), round(half.high, 2)
    (0.62, 0.85)
    """
    k = len(parts)
    mean = math.fsum(p for p, _ in parts) / k
    down = math.sqrt(math.fsum((p - i.low) ** 2 for p, i in parts)) / k
    up = math.sqrt(math.fsum((i.high - p) ** 2 for p, i in parts)) / k
    return Interval(max(0.0, mean - down), min(1.0, mean + up), "square-and-add of Wilson intervals")


def units_of(n: int, clusters: IntArray | Sequence[object] | None) -> IntArray:
    """The unit (0 ... G-1) that each of n rows belongs to: itself, or its cluster."""
    if clusters is None:
        return np.arange(n)
    _, unit = np.unique(np.asarray(clusters), return_inverse=True)
    if len(unit) != n:
        raise ValueError(f"{len(unit)} clusters were given for {n} rows")
    return np.asarray(unit, dtype=np.int64).reshape(-1)


def resample(
    statistics: Sequence[Weighted],
    n: int,
    *,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    resamples: int = 1000,
    seed: int = 0,
    blocks: int = BLOCKS,
) -> list[Draws]:
    """Evaluate statistics on the same bootstrap resamples and leave-one-block-out samples of rows, or of whole
    clusters.

    Above `WORK` = rows x resamples no resamples are drawn; the intervals then rest on the blocks alone (see `limits`).
    """
    rng = np.random.default_rng(seed)
    unit = units_of(n, clusters)
    units = int(unit.max()) + 1
    base = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    step = max(1, CHUNK // n)

    def evaluate(batches: Iterable[FloatArray]) -> list[FloatArray]:
        found = [[np.empty((0, v.shape[1]))] for v in here]
        for counts in batches:
            w = (counts if clusters is None else counts[:, unit]) * base
            for values, statistic in zip(found, statistics, strict=True):
                values.append(statistic(w).reshape(len(counts), -1))
        return [np.concatenate(values) for values in found]

    def drawn() -> Iterable[FloatArray]:
        left = resamples if n * resamples <= WORK else 0
        while left > 0:
            size = min(step, left)
            at = rng.integers(units, size=(size, units)) + units * np.arange(size)[:, None]
            yield np.bincount(at.ravel(), minlength=size * units).reshape(size, units).astype(np.float64)
            left -= size

    def left_out() -> Iterable[FloatArray]:
        count = min(units, blocks) if units > 1 else 0
        block = rng.permutation(units) % max(1, count)
        for at in range(0, count, step):
            yield (block[None, :] != np.arange(at, min(at + step, count))[:, None]).astype(np.float64)

    here = [statistic(base[None, :]).reshape(1, -1) for statistic in statistics]
    draws = evaluate(drawn())
    without = evaluate(left_out())
    return [Draws(v[0], r, b, units) for v, r, b in zip(here, draws, without, strict=True)]


def limits(draws: Draws, column: int = 0, *, level: float = 0.95, scale: str = "real") -> Interval | None:
    """The interval of one column of `draws`; None where it cannot be had (undefined, or every sample gave the same
    value).

    With resamples: BCa (Efron 1987, Journal of the American Statistical Association 82), its tails widened for small n
    from z to t at G-1 degrees times √(G/(G-1)) (Hesterberg 2015, The American Statistician 69). Resamples on which the
    statistic is undefined are left out; more than half of them make it None. Without: the delete-a-block jackknife with
    t limits on the `scale` where the statistic is closest to normal.
    """
    value = float(draws.value[column])
    replicates = draws.replicates[:, column]
    replicates = replicates[np.isfinite(replicates)]
    if not math.isfinite(value) or draws.units < 2 or 2 * len(replicates) < len(draws.replicates):
        return None
    if not len(draws.replicates):
        return _jackknife(value, draws.blocks[:, column], draws.units, level, scale)
    tiny = 1e-12 * max(1.0, abs(value))
    if np.ptp(replicates) <= tiny:
        return None
    alphas = _bca_tails(replicates, value, tiny, draws.blocks[:, column], draws.units, level)
    low, high = np.quantile(replicates, alphas)
    return Interval(float(low), float(high), "BCa bootstrap")


def score_limits(
    draws: Draws, column: int = 0, *, clustered: bool = False, level: float = 0.95, scale: str = "unit"
) -> Interval | None:
    """Wilson's interval at the effective n = v(1-v)/V, V the jackknife variance: for F1 and what else is nearly a
    proportion.

    "signed" statistics (Matthews' correlation) are brought to [0, 1] by (v+1)/2 first. At n = 30 and a value near 1
    this holds its level where BCa is too wide. None on the edge of the range and where leaving rows out changes
    nothing.
    """
    value, blocks = float(draws.value[column]), draws.blocks[:, column]
    blocks = blocks[np.isfinite(blocks)]
    b = len(blocks)
    if b < 2 or not math.isfinite(value):
        return None
    variance = (b - 1) / b * float(((blocks - blocks.mean()) ** 2).sum())
    stretch, shift = (2.0, -1.0) if scale == "signed" else (1.0, 0.0)
    p, variance = (value - shift) / stretch, variance / stretch**2
    if not 1e-12 < p < 1 - 1e-12 or variance <= 1e-20:
        return None
    effective = p * (1 - p) / variance
    found = wilson(p * effective, effective, level, freedom=b - 1 if clustered or draws.units > b else None)
    return Interval(
        shift + stretch * found.low, shift + stretch * found.high, "Wilson at the effective n of the jackknife"
    )


def bca(
    statistic: Callable[[IntArray], float],
    n: int,
    *,
    clusters: IntArray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """The BCa interval of any function of row positions; see `limits`. Slow: one call of `statistic` a resample.

    >>> x = np.arange(20.0)
    >>> bca(lambda rows: float(x[rows].mean()), 20).method
    'BCa bootstrap'
    """

    def at(w: FloatArray) -> FloatArray:
        return np.array([statistic(np.repeat(np.arange(n), row.astype(np.int64))) for row in w])

    return limits(resample([at], n, clusters=clusters, resamples=resamples, seed=seed)[0], level=level)


def _quantile(level: float, freedom: float | None) -> float:
    """The two-sided normal quantile, or Student's at `freedom` degrees."""
    upper = (1 + level) / 2
    return float(ndtri(upper) if freedom is None else stdtrit(freedom, upper))


def _bca_tails(
    replicates: FloatArray, value: float, tiny: float, blocks: FloatArray, units: int, level: float
) -> tuple[float, float]:
    """Which two quantiles of the replicates are the limits."""
    r = len(replicates)
    equal = np.abs(replicates - value) <= tiny
    below = float(((replicates < value) & ~equal).sum() + 0.5 * equal.sum()) / r
    z0 = float(ndtri(min(max(below, 1 / (r + 1)), r / (r + 1))))  # bias
    d = blocks[np.isfinite(blocks)]
    d = d.mean() - d if len(d) else d
    square = float((d**2).sum())
    a = float((d**3).sum()) / (6 * square**1.5) if square > tiny**2 else 0.0  # acceleration
    z = _quantile(level, units - 1) * math.sqrt(units / (units - 1))

    def tail(zq: float) -> float:
        return float(ndtr(z0 + (z0 + zq) / max(0.1, 1 - a * (z0 + zq))))

    return tail(-z), tail(z)


def _jackknife(value: float, blocks: FloatArray, units: int, level: float, scale: str) -> Interval | None:
    """From blocks of equal size, each left out once: the outer of Student's and Hall's limits on the scale of the
    statistic."""
    there, _, back = SCALES[scale]
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = there(blocks[np.isfinite(blocks)])
        middle = float(there(value))
    moved = moved[np.isfinite(moved)]
    b = len(moved)
    if b < 2 or not math.isfinite(middle) or np.ptp(moved) <= 1e-12 * max(1.0, abs(middle)):
        return None
    low, high = pseudo_limits(middle, moved, level)
    return Interval(float(back(low)), float(back(high)), "jackknife")


def pseudo_limits(middle: float, left_out: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """The outer of Student's t limits and of Hall's (see `mean`) on the jackknife's pseudo-values.

    Efron and Stein (1981), Annals of Statistics 9. The outer of the two holds where errors are skewed and where they
    are not.
    """
    b = len(left_out)
    pseudo = -(b - 1) * (left_out - left_out.mean())
    square = float((pseudo**2).mean())
    error, t = math.sqrt(square / (b - 1)), _quantile(level, b - 1)
    low, high = skewed_limits(middle, error, float((pseudo**3).mean()) / square**1.5, b, level)
    return min(low, middle - t * error), max(high, middle + t * error)


def on_scale(value: float, error: float, z: float, scale: str) -> tuple[float, float] | None:
    """value ± z·error, taken on the statistic's scale g: g⁻¹(g(value) ± z·error·g'(value)); None on the edge of its
    range.

    >>> [round(x, 3) for x in on_scale(0.9, 0.05, 1.96, "unit")]
    [0.752, 0.964]
    """
    there, slope, back = SCALES[scale]
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = float(there(value))
    if not (error > 0 and math.isfinite(middle)):
        return None
    half = z * error * float(slope(value))
    return float(back(middle - half)), float(back(middle + half))


# Where a statistic is closest to normal, so that limits stay in its range: there, the slope, and back.
SCALES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "unit": (logit, lambda v: 1 / (v * (1 - v)), expit),  # [0, 1]
    "signed": (np.arctanh, lambda v: 1 / (1 - v * v), np.tanh),  # [-1, 1]
    "positive": (np.log, lambda v: 1 / v, np.exp),  # [0, ∞)
    "below one": (lambda v: -np.log1p(-v), lambda v: 1 / (1 - v), lambda x: -np.expm1(-x)),  # (-∞, 1]
    "real": (lambda v: v, lambda v: 1.0, lambda x: x),
}
