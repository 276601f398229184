"""Maps into fewer columns that both domains share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from acclimate.errors import UserError, unknown
from acclimate.shallow.base import Adapter, Floats, Scale, gaussian, median_square, some

_ENOUGH = 0.95  # of the variance, where the number of components is left open
_DENSE, _MARKS = 1000, 250  # rows up to which TCA is exact where landmarks are left open, and landmarks beyond that
_TINY = 1e-10


class SubspaceAlignment(Adapter):
    """Each domain's principal components, those of the source turned towards those of the target.

    x_s ↦ (x_s - μ_s) P_s P_sᵀ P_t,  x_t ↦ (x_t - μ_t) P_t,  P (d, k) the leading principal directions, columns scaled
    by their deviation over both domains. Fernando et al. (2013), ICCV, Algorithm 1. k None: as many as hold 95 % of the
    variance of both. Use when a domain turned the directions of variance. Prefer `coral`, which also matches their
    size.
    """

    def __init__(self, n_components: int | None = None) -> None:
        self.n_components = n_components

    def _learn(self, source: Floats, target: Floats) -> None:
        unit = Scale.of(np.concatenate([source, target])).deviation
        self.scales_ = (Scale(source.mean(0), unit), Scale(target.mean(0), unit))
        parts = [directions(scale(rows)) for scale, rows in zip(self.scales_, (source, target), strict=True)]
        most = min(len(vectors.T) for vectors, _ in parts)
        k = self.n_components
        if k is None:
            k = max(int(np.searchsorted(np.cumsum(s) / s.sum(), _ENOUGH) + 1) for _, s in parts)
            k = min(k, most)
        if not 1 <= k <= most:
            raise UserError(f"n_components must be from 1 to {most} with these rows, got {k}")
        ours, theirs = parts[0][0][:, :k], parts[1][0][:, :k]
        self.matrices_ = (ours @ (ours.T @ theirs), theirs)

    def _move(self, rows: Floats, side: int) -> Floats:
        return np.asarray(self.scales_[side](rows) @ self.matrices_[side])


def directions(centred: Floats) -> tuple[Floats, Floats]:
    """Principal directions (d, r) with their variances, the largest first; each one's largest entry is positive."""
    _, lengths, vectors = np.linalg.svd(centred, full_matrices=False)
    keep = lengths > _TINY * max(float(lengths[0]), 1e-300)
    if not keep.any():
        raise UserError("all rows of one domain are the same: there is no direction to align")
    vectors = vectors[keep]
    signs = np.sign(vectors[np.arange(len(vectors)), np.abs(vectors).argmax(1)])
    return (vectors * signs[:, None]).T, lengths[keep] ** 2


class Kernel(NamedTuple):
    """φ with k(x, x') = φ(x)·φ(x'), or approximately, from rows to compare with; None: compare with all, exactly."""

    scale: Scale
    rows: Floats
    square: float  # 0: the linear kernel
    root: Floats | None

    def __call__(self, new: Floats) -> Floats:
        """φ (n, p), or k to every fitted row (n, N)."""
        scaled = self.scale(new)
        if not self.square:
            return scaled
        near = gaussian(scaled, self.rows, self.square)
        return near if self.root is None else near @ self.root


class Tca(Adapter):
    """Transfer components: directions in a kernel's space along which the domains' means agree and the rows vary.

    max_W tr((Wᵀ(KLK + μI)W)⁻¹ WᵀKHKW), the leading solutions of KHK w = λ (KLK + μI) w; z = Wᵀk(x), each component
    brought to deviation 1. L = vvᵀ, v = 1/n for source and -1/m for target rows, H centres. Pan, Tsang, Kwok and Yang
    (2011), IEEE Transactions on Neural Networks 22, equations 13 and 14. kernel "rbf" (σ² the median of ‖x-x'‖²) or
    "linear", on columns scaled by their deviation. KLK has rank one, so (KLK + μI)^{-1/2} has a closed form and the
    problem is an ordinary symmetric one, of which only the leading solutions are computed. With `landmarks` (left open:
    all rows up to 1,000, else 250) the kernel is Nyström's, k(x,R) k(R,R)⁻¹ k(R,x') over that many rows R; with all of
    them it is exact. Use when the change is not linear. Prefer `coral` where a linear change is enough.
    """

    def __init__(
        self, n_components: int = 30, kernel: str = "rbf", mu: float = 1.0, landmarks: int | None = None, seed: int = 0
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.mu = mu
        self.landmarks = landmarks
        self.seed = seed

    def _learn(self, source: Floats, target: Floats) -> None:
        check_components(self.kernel, self.mu, self.n_components, self.landmarks)
        both = np.concatenate([source, target])
        means = np.repeat([1 / len(source), -1 / len(target)], [len(source), len(target)])
        self.map_ = kernel_of(both, self.kernel, self.landmarks, self.seed)
        self.weights_ = components(self.map_, self.map_(both), means[None], self.mu, self.n_components)

    def _move(self, rows: Floats, side: int) -> Floats:
        return np.asarray(self.map_(rows) @ self.weights_)


def check_components(kernel: str, mu: float, n_components: int, landmarks: int | None) -> None:
    """Refuse settings that no components can be found with."""
    if kernel not in ("rbf", "linear"):
        raise unknown("kernel", kernel, ["rbf", "linear"])
    if not mu > 0 or n_components < 1 or (landmarks is not None and landmarks < 2):
        raise UserError(
            "mu must be above 0, n_components at least 1 and landmarks at least 2, got "
            f"{mu}, {n_components} and {landmarks}"
        )


def kernel_of(both: Floats, kernel: str, landmarks: int | None, seed: int) -> Kernel:
    """The kernel between any rows and these: exact with as many landmarks as rows (left open: up to 1,000 rows)."""
    scale = Scale.of(both)
    if kernel == "linear":
        return Kernel(scale, both[:0], 0.0, None)
    scaled = scale(both)
    square = median_square(scaled, seed=seed)
    most = landmarks or (len(both) if len(both) <= _DENSE else _MARKS)
    if most >= len(both):
        return Kernel(scale, scaled, square, None)
    marks = some(scaled, most, seed)
    values, vectors = np.linalg.eigh(gaussian(marks, marks, square))
    keep = values > _TINY * values[-1]
    return Kernel(scale, marks, square, vectors[:, keep] / np.sqrt(values[keep]))


def components(kernel: Kernel, seen: Floats, gaps: Floats, mu: float, count: int) -> Floats:
    """The leading W of KHK w = λ (K M K + μI) w with M = VᵀV, each component brought to deviation 1.

    `seen` is what `kernel` gives of all rows (N, p), `gaps` is V (r, N). W (p, k) is to be multiplied by what `kernel`
    gives of new rows.
    """
    exact = kernel.square > 0 and kernel.root is None
    weights = _exact(seen, gaps, mu, count) if exact else _factored(seen, gaps, mu, count)
    spread = (seen @ weights).std(0)
    return np.asarray(weights / np.where(spread > 0, spread, 1.0))


def _exact(kernel: Floats, gaps: Floats, mu: float, count: int) -> Floats:
    """W (N, k) from the kernel of all rows.

    With KVᵀ = U S Pᵀ: (KMK + μI)^{-1/2} = (I - U C Uᵀ) / √μ, C = 1 - √(μ / (μ + S²)).
    """
    n = len(kernel)
    u, lengths, _ = np.linalg.svd(kernel @ gaps.T, full_matrices=False)
    c = 1 - np.sqrt(mu / (mu + lengths**2))

    def root(rows: Floats) -> Floats:  # (KMK + μI)^{-1/2} rows
        return np.asarray((rows - (u * c) @ (u.T @ rows)) / np.sqrt(mu))

    half = root(kernel)
    centred = half - half.mean(1, keepdims=True)
    k = min(count, n)
    _, found = eigh(centred @ centred.T, subset_by_index=[n - k, n - 1])
    return _signed(root(found[:, ::-1]))


def _factored(seen: Floats, gaps: Floats, mu: float, count: int) -> Floats:
    """a = Φᵀw (p, k) from K = ΦΦᵀ: with G = ΦᵀΦ = V S Vᵀ and a = V S^{1/2} c, a problem of size p, Σ cᵀc = wᵀw."""
    gram, middle = seen.T @ seen, seen.mean(0)
    values, vectors = np.linalg.eigh(gram)
    keep = values > _TINY * values[-1]
    back = vectors[:, keep] * np.sqrt(values[keep])
    left = back.T @ (gram - len(seen) * np.multiply.outer(middle, middle)) @ back
    gap = (gaps @ seen) @ back
    size = gap.shape[1]
    k = min(count, size)
    _, found = eigh((left + left.T) / 2, gap.T @ gap + mu * np.eye(size), subset_by_index=[size - k, size - 1])
    return _signed(np.asarray(back @ found[:, ::-1]))


def _signed(weights: Floats) -> Floats:
    """Columns with a positive sum of cubes, so that no solver decides the sign."""
    signs = np.sign((weights**3).sum(0))
    return weights * np.where(signs == 0, 1.0, signs)
