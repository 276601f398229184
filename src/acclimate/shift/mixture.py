"""Whether label shift explains the target: can the source's classes, mixed in other shares, give the target's rows?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from acclimate.errors import UserError
from acclimate.shallow.base import Floats, Ints, Scale, by_content, gaussian, matrix, median_square
from acclimate.shallow.domains import units_of
from acclimate.shift.discrepancy import ROWS_AT_A_TIME
from acclimate.shift.prior import Prior

LEVEL = 0.05  # p below this: label shift does not explain the target
ENOUGH = 0.5  # the share of the distance that label shift must explain


@dataclass(frozen=True)
class Explained:
    """The test of "the target is a mixture of the source's classes", and the mixture that comes nearest."""

    p: float  # of a misfit as large as this, were it one
    share: float  # of MMD²(source, target) that the mixture takes away: 1 - MMD²(mixture)/MMD²(source)
    mixture: tuple[float, ...]  # class shares of the nearest mixture
    misfit: float  # MMD² that is left, without its expected noise
    distance: float  # MMD² before, without its expected noise
    n: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return asdict(self)


def explained(
    source: ArrayLike,
    labels: ArrayLike,
    target: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> Explained:
    """T = min_π ‖Σ_y π_y μ_y - μ_t‖², Σπ = 1: how far the target is from every mixture of the source's classes.

    μ are means in the space of a Gaussian kernel (the bandwidth as in `mmd`), μ_y of the source rows of class y. The
    null: T of Σ_y π_y (μ*_y - μ_y) - (μ*_t - μ_t) with μ* under random signs for every unit (a wild bootstrap, centred:
    Leucht and Neumann 2013, Journal of Multivariate Analysis 117), less its part along the classes, which the fit of π
    takes away. That makes the test independent of how the shares are then estimated. Use before `bbse` or `em` are
    applied. `labels` are 0 ... K-1; no target label is needed.
    """
    a, b, y = matrix(source), matrix(target), np.asarray(labels)
    if y.shape != (len(a),) or y.dtype.kind not in "iu" or y.min() < 0:
        raise UserError(f"labels must be one whole number from 0 for each of {len(a)} source rows, got shape {y.shape}")
    counts = np.bincount(y)
    if counts.min() < 2 or len(counts) < 2 or len(b) < 2:
        raise UserError(f"needed: 2 classes, 2 source rows of each and 2 target rows; got {counts.tolist()}, {len(b)}")
    at = np.concatenate([by_content(a), len(a) + by_content(b)])
    rows = np.concatenate([a, b])[at]
    part = np.concatenate([y, np.full(len(b), len(counts))])[at]
    scaled = Scale.of(rows)(rows)
    square = median_square(scaled[by_content(scaled)], seed=seed)
    means = np.eye(len(counts) + 1)[part] / np.bincount(part)  # (N, K + 1): columns give μ_y and μ_t
    gram, _ = _products(scaled, square, means, means)
    shares = _mixture(gram, affine=True)
    noise = _noise(part, shares, units_of(rows, None if groups is None else np.asarray(groups)[at]), resamples, seed)
    inner, own = _products(scaled, square, means, noise)
    null = _left(gram, inner, own)
    observed = _distance(gram, shares)
    p = (1 + int((null >= observed).sum())) / (1 + resamples)
    inside = _mixture(_unbiased(gram, np.bincount(part)), affine=False)
    before = counts / counts.sum()
    noise_before = float(own.mean())
    distance = max(0.0, _distance(gram, before) - noise_before)
    misfit = max(0.0, _distance(gram, inside) - float(null.mean()))
    share = 1 - misfit / distance if distance > misfit else 0.0
    return Explained(p, share, tuple(inside.tolist()), misfit, distance, len(rows))


@dataclass(frozen=True)
class Decision:
    """Whether estimated class shares are to be used, and why."""

    apply: bool
    why: str


def decide(prior: Prior, found: Explained) -> Decision:
    """Weights are applied only if label shift explains the target and the shares have moved beyond their interval."""
    if found.p < LEVEL:
        return Decision(
            False,
            f"no mixture of the source's classes gives the target's features (p = {found.p:.3f}; the nearest one takes "
            f"away {found.share:.0%} of the distance): more than the class shares has changed",
        )
    if not prior.moved:
        return Decision(
            False, f"the class shares by {prior.method} do not differ from the source's beyond their interval"
        )
    if found.share < ENOUGH:
        return Decision(False, f"other class shares take away only {found.share:.0%} of the distance to the target")
    gap = max(abs(m - t) for m, t in zip(found.mixture, prior.target, strict=True))
    width = max(hi - lo for lo, hi in zip(prior.low, prior.high, strict=True))
    if gap > max(0.1, width):
        return Decision(
            False, f"{prior.method} and the nearest mixture of features differ by {gap:.2f} in a class's share"
        )
    return Decision(True, f"label shift explains the target (p = {found.p:.3f}, {found.share:.0%} of the distance)")


def _noise(part: Ints, shares: Floats, units: Ints, resamples: int, seed: int) -> Floats:
    """Random signs for units, centred within every class and the target, at their sampling error's size.  # (N, R)"""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(int(units.max()) + 1, resamples))[units]
    out = np.empty_like(signs)
    for k, factor in enumerate([*shares, -1.0]):
        rows = part == k
        n = int(rows.sum())
        out[rows] = factor / n * np.sqrt(n / (n - 1)) * (signs[rows] - signs[rows].mean(0))
    return out


def _products(rows: Floats, square: float, left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """leftᵀ K right (p, q), and the diagonal of rightᵀ K right (q,), the kernel K being computed in blocks."""
    inner, own = np.zeros((left.shape[1], right.shape[1])), np.zeros(right.shape[1])
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        block = slice(start, start + ROWS_AT_A_TIME)
        product = gaussian(rows[block], rows, square) @ right
        inner += left[block].T @ product
        own += (right[block] * product).sum(0)
    return inner, own


def _unbiased(gram: Floats, counts: Ints) -> Floats:
    """The products of means without the pairs of a row and itself: noise in μ_y would draw the shares together."""
    out = gram.copy()
    np.fill_diagonal(out, (counts * np.diag(gram) - 1) / (counts - 1))  # k(x, x) = 1
    return out


def _distance(gram: Floats, shares: Floats) -> float:
    """‖Σ_y π_y μ_y - μ_t‖²."""
    weights = np.append(shares, -1.0)
    return float(weights @ gram @ weights)


def _mixture(gram: Floats, *, affine: bool) -> Floats:
    """The shares π, Σπ = 1, nearest to the target; without `affine`, π ≥ 0 as well.  # (K,)"""
    within, to_target = gram[:-1, :-1], gram[:-1, -1]
    if affine:
        differences = _differences(gram)
        start = np.full(len(to_target), 1 / len(to_target))
        step = np.linalg.lstsq(_of(differences, within), differences.T @ (to_target - within @ start), rcond=1e-10)[0]
        return np.asarray(start + differences @ step)
    values, vectors = np.linalg.eigh(within)
    keep = values > 1e-12 * values[-1]
    root = vectors[:, keep] * np.sqrt(values[keep])  # root rootᵀ = within
    goal = (vectors[:, keep] / np.sqrt(values[keep])).T @ to_target
    found = nnls(np.vstack([root.T, np.full(len(within), 1e3)]), np.append(goal, 1e3))[0]
    return np.asarray(found / found.sum())


def _left(gram: Floats, inner: Floats, own: Floats) -> Floats:
    """Squared length of each noise vector after its part along differences of class means is taken away.  # (R,)"""
    differences = _differences(gram)
    along = differences.T @ inner[:-1]
    taken = np.linalg.lstsq(_of(differences, gram[:-1, :-1]), along, rcond=1e-10)[0]
    return np.asarray(own - (along * taken).sum(0))


def _differences(gram: Floats) -> Floats:
    """Directions in which shares can move while their sum stays 1.  # (K, K - 1)"""
    k = len(gram) - 1
    return np.vstack([np.eye(k - 1), -np.ones((1, k - 1))])


def _of(directions: Floats, gram: Floats) -> Floats:
    return np.asarray(directions.T @ gram @ directions)
