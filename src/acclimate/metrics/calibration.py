"""Whether a stated probability means what it says, and one temperature that mends most of what does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.metrics.base import divide
from acclimate.metrics.digest import Digest
from acclimate.metrics.intervals import FloatArray, IntArray, Interval, Weighted, proportion, units_of

COLDEST, HOTTEST = 0.05, 20.0  # a fitted temperature stays between these
FEWEST = 20  # rows below which no temperature is fitted
BINS, ROWS_A_BIN = 15, 20  # at most so many bins, each of at least so many rows


@dataclass(frozen=True)
class Bin:
    """Rows of similar confidence: what was claimed on average, what came true, and the interval of the latter."""

    low: float  # the least and the greatest confidence in the bin
    high: float
    confidence: float
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    n: int

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, named."""
        return asdict(self)


def fit_temperature(logits: FloatArray, truth: IntArray, weights: FloatArray | None = None) -> float:
    """The temperature T at which softmax(logits / T) has the least log loss on rows that were not trained on.

    T = argmin Σ_i w_i · -Σ_k t_ik log softmax_k(z_i / T), found as the root of the slope in 1/T, in which the loss is
    convex. Guo, Pleiss, Sun and Weinberger (2017), ICML, section 4.2. The targets t leave a little room, as in Platt
    (1999): 1 - 1/(n + 2) for the true class, the rest shared by the others, which keeps T above 0 where the rows are
    separated without error. `logits` is (n, K) with codes, (n, K) with a 0/1 truth of that shape (multi-label: sigmoid
    in place of softmax), or (n,) with 0/1. Rows with truth -1 are left out. Returns 1.0, which changes nothing, for
    fewer than 20 rows or a single class. Use on out-of-fold logits; no order of classes changes, so no prediction does
    (multi-label: none at the threshold 0.5).

    >>> z = np.array([[4.0, 0.0], [0.0, 4.0]] * 20)
    >>> overconfident = np.array([0, 1] * 15 + [1, 0] * 5)
    >>> fit_temperature(z, overconfident) > 2
    True
    """
    z, t, w = _targets(np.asarray(logits, dtype=np.float64), np.asarray(truth), weights)
    if not np.isfinite(z).all():
        raise ValueError("a temperature cannot be fitted to logits that are not finite")
    if len(z) < FEWEST or not ((t * w).sum(axis=0) > 0).sum() > 1 or not np.ptp(z, axis=1).any():
        return 1.0
    slack = 1 / (len(z) + 2)
    t = t * (1 - slack) + (1 - t) * slack / (t.shape[1] - 1)
    z = z - z.max(axis=1, keepdims=True)
    wanted = float((w * t * z).sum())

    def slope(inverse: float) -> float:
        p = np.exp(inverse * z)
        return float((w[:, 0] * (p * z).sum(axis=1) / p.sum(axis=1)).sum()) - wanted

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    from scipy.optimize import brentq

    return 1 / float(brentq(slope, low, high, xtol=1e-10))


def apply_temperature(logits: FloatArray, temperature: float, *, multilabel: bool = False) -> FloatArray:
    """Probabilities of logits divided by the temperature: softmax over the last axis, or a sigmoid each for
    multi-label.

    >>> apply_temperature(np.array([[2.0, 0.0]]), 2.0).round(3)
    array([[0.731, 0.269]])
    """
    z = np.asarray(logits, dtype=np.float64) / temperature
    if multilabel:
        small = np.exp(-np.abs(z))
        return np.where(z >= 0, 1 / (1 + small), small / (1 + small))
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def reliability(
    truth: IntArray, proba: FloatArray | Digest, weights: FloatArray | None = None, clusters: IntArray | None = None
) -> list[Bin]:
    """The rows of a reliability diagram: bins of equally many rows by confidence, each with Wilson's interval of its
    accuracy.

    One class a row: confidence is the largest probability, accuracy whether that class is right. Multi-label, where
    truth is (n, K): every cell's probability, and whether the cell is set; its intervals take the cells of a row as one
    cluster. Up to 15 bins of at least 20; equal probabilities share a bin. Use with its n: below 300 rows the bars are
    wide.
    """
    claimed, came_true, row = _claims(truth, proba)
    if not len(claimed):
        return []
    w = None if weights is None else np.asarray(weights, dtype=np.float64)[row]
    group = row if clusters is None else np.asarray(clusters)[row]
    single = len(np.unique(row)) == len(row)
    place = bins_of(claimed)
    found = []
    for b in range(int(place.max()) + 1):
        rows = place == b
        mass = np.ones(int(rows.sum())) if w is None else w[rows]
        if not mass.sum() > 0:
            continue
        interval = proportion(
            came_true[rows],
            weights=None if w is None else mass,
            clusters=None if clusters is None and single else group[rows],
        )
        found.append(
            Bin(
                float(claimed[rows].min()),
                float(claimed[rows].max()),
                float(np.average(claimed[rows], weights=mass)),
                float(np.average(came_true[rows], weights=mass)),
                None if interval is None else interval.low,
                None if interval is None else interval.high,
                int(rows.sum()),
            )
        )
    return found


def calibration_error(truth: IntArray, proba: FloatArray | Digest) -> Weighted:
    """Expected calibration error: Σ_b (n_b/n) · |accuracy_b - confidence_b| over the bins of `reliability`.

    Naeini, Cooper and Hauskrecht (2015), AAAI, with bins of equal mass (Nguyen and O'Connor 2015, EMNLP). It is biased
    upwards: a perfectly calibrated model shows `calibration_floor` at the same n. Use beside that number, or to compare
    models on the same rows; prefer Brier or log loss for choosing one.

    >>> float(calibration_error(np.array([0, 0]), np.array([[0.9, 0.1], [0.7, 0.3]]))(np.ones((1, 2)))[0].round(6))
    0.2
    """
    claimed, came_true, row = _claims(truth, proba)
    gap = _by_bin(claimed, came_true - claimed, row, len(proba))
    cells = np.bincount(row, minlength=len(proba)).astype(np.float64)
    if len(cells) and np.ptp(cells) == 0:  # all rows have as many
        return lambda w: divide(np.abs(gap(w)).sum(axis=1), cells[0] * w.sum(axis=1))
    return lambda w: divide(np.abs(gap(w)).sum(axis=1), w @ cells)


def calibration_floor(truth: IntArray, proba: FloatArray | Digest) -> float:
    """The calibration error that chance alone gives a perfectly calibrated model on so many rows.

    Σ_b (n_b/n) · √(2/π) · s_b, with s_b² = Σ p(1-p) / n_b² the variance of a bin's accuracy were every probability
    true.
    """
    claimed, _, _ = _claims(truth, proba)
    if not len(claimed):
        return float("nan")
    place = bins_of(claimed)
    return float(np.sqrt(2 / math.pi * np.bincount(place, claimed * (1 - claimed))).sum() / len(claimed))


def calibration_limits(
    truth: IntArray,
    proba: FloatArray | Digest,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    *,
    level: float = 0.95,
    draws: int = 500,
    seed: int = 0,
) -> Interval | None:
    """Limits for the true calibration error, which the measured one overstates: they may both lie below it.

    The measured error is T = Σ_b |g_b|, g_b a bin's share of rows times its gap, normal with variance s_b². The limits
    are the errors Σ|δ_b| under which a T this small, or this large, has probability (1 - level)/2, for gaps δ in the
    pattern of g and for equal gaps of one sign, whichever lies further out. 0 is in unless chance alone rarely gives so
    much. In simulation they hold the true error in 93 to 97 % of test sets, and in 99 % where it is 0
    (`benchmarks/coverage.py`).
    """
    claimed, came_true, row = _claims(truth, proba)
    if not len(claimed):
        return None
    w = np.ones(len(row)) if weights is None else np.asarray(weights, dtype=np.float64)[row]
    unit = units_of(len(proba), clusters)[row]
    place = bins_of(claimed)
    bins, units, total = int(place.max()) + 1, int(unit.max()) + 1, float(w.sum())
    if units < 2 or not total > 0:
        return None
    gap = np.bincount(place, w * (came_true - claimed), minlength=bins) / total
    from scipy.sparse import coo_array

    by_unit = coo_array((w * (came_true - claimed), (unit, place)), shape=(units, bins)).tocsr()
    seen = np.asarray(by_unit.multiply(by_unit).sum(axis=0)).ravel()
    expected = np.bincount(place, w * w * claimed * (1 - claimed), minlength=bins)
    spread = np.sqrt(np.maximum(seen, expected)) / total
    noise = np.random.default_rng(seed).normal(size=(draws, bins)) * spread
    measured = float(np.abs(gap).sum())
    share = np.bincount(place, w, minlength=bins) / total
    ends = [_invert(noise, pattern, measured, level) for pattern in (gap / max(measured, 1e-12), share)]
    return Interval(min(e[0] for e in ends), max(e[1] for e in ends), "inversion of its chance distribution")


def _invert(noise: FloatArray, pattern: FloatArray, measured: float, level: float) -> tuple[float, float]:
    """The least and the greatest factor of a pattern under which the measured error is not too rare, by bisection."""
    tail = (1 - level) / 2
    ends = []
    for share in (1 - tail, tail):

        def reached(factor: float, share: float = share) -> bool:
            return float(np.quantile(np.abs(factor * pattern + noise).sum(axis=1), share)) >= measured

        low, high = 0.0, 1.0
        if reached(low):
            ends.append(0.0)
            continue
        while not reached(high) and high < 1e3:
            high *= 2
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (low, middle) if reached(middle) else (middle, high)
        ends.append(high)
    return ends[0], min(1.0, ends[1])


def bins_of(claimed: FloatArray) -> IntArray:
    """The bin of each row: equally many rows each as far as equal values allow."""
    n = len(claimed)
    wanted = min(BINS, max(1, n // ROWS_A_BIN))
    ranked = np.sort(claimed)
    starts = np.unique(ranked[[n * b // wanted for b in range(1, wanted)]]) if wanted > 1 else np.empty(0)
    place = np.searchsorted(starts, claimed, side="right")
    _, place = np.unique(place, return_inverse=True)
    return np.asarray(place, dtype=np.int64)


def _claims(truth: IntArray, proba: FloatArray | Digest) -> tuple[FloatArray, FloatArray, IntArray]:
    """What was claimed, whether it came true, and of which row, flat; without multi-label cells that are not known."""
    row = np.arange(len(proba))
    if isinstance(proba, Digest):
        return proba.highest, (proba.top == np.asarray(truth)).astype(np.float64), row
    truth, proba = np.asarray(truth), np.asarray(proba, dtype=np.float64)
    if truth.ndim == 2:
        known = truth.ravel() >= 0
        return proba.ravel()[known], (truth.ravel()[known] == 1).astype(float), np.repeat(row, truth.shape[1])[known]
    if not len(proba):
        return np.empty(0), np.empty(0), row
    return proba.max(axis=1), (proba.argmax(axis=1) == truth).astype(np.float64), row


def _by_bin(claimed: FloatArray, gaps: FloatArray, row: IntArray, n: int) -> Callable[[FloatArray], FloatArray]:
    """Weights (r, n) of n rows to the weighted sum of gaps in each bin (r, bins); a row may have several cells."""
    from scipy.sparse import csr_array

    place = bins_of(claimed)
    matrix = csr_array((gaps, (place, row)), shape=(int(place.max(initial=0)) + 1, n))
    return lambda w: np.asarray((matrix @ np.ascontiguousarray(w.T)).T)


def _targets(
    logits: FloatArray, truth: NDArray[Any], weights: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Logits (m, K), 0/1 targets (m, K) and weights (m, 1); a multi-label cell becomes a row of two classes."""
    if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1 and truth.ndim == 1):
        logits, truth = logits.reshape(-1, 1), truth.reshape(-1, 1)
    w = np.ones(len(logits)) if weights is None else np.asarray(weights, dtype=np.float64)
    if truth.ndim == 2:
        w = np.repeat(w, logits.shape[1])
        logits = np.stack([np.zeros(logits.size), logits.ravel()], axis=1)
        truth = truth.ravel()
    seen = truth >= 0
    codes = truth[seen].astype(np.int64)
    return logits[seen], np.eye(logits.shape[1])[codes], w[seen][:, None]
