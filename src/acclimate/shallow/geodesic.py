"""A kernel that takes in every subspace on the way from the source's to the target's."""

from __future__ import annotations

import numpy as np

from acclimate.errors import UserError
from acclimate.shallow.base import Adapter, Floats, Scale
from acclimate.shallow.subspace import directions

_FULL = 0.99  # a mean sine of the largest angles from which the subspaces count as disagreeing in full
_MOST = 100  # components up to which their number is searched for
_TINY = 1e-10


class Gfk(Adapter):
    """Geodesic flow kernel: rows are compared in all subspaces between that of the source and that of the target.

    G = ∫₀¹ Φ(t) Φ(t)ᵀ dt, x ↦ G^{1/2}(x - μ_k), of which the ≤ 2d columns that are not 0 are given, so that inner
    products are those of the kernel; Φ(t) = P_s U Γ(t) - R_s V Σ(t) is the geodesic from the source's d leading
    principal directions P_s to the target's, Γ(t) and Σ(t) holding cos tθ and sin tθ of the principal angles θ. In
    closed form, for each angle, in the plane of P_s u and -R_s v: ½ [[1 + sin 2θ/2θ, (cos 2θ - 1)/2θ], [the same,
    1 - sin 2θ/2θ]]. Columns are scaled by their deviation over both domains; μ_k is the row's domain's mean. Gong, Shi,
    Sha and Grauman (2012), CVPR, equations 3 to 6. `n_components` None: the subspace disagreement measure (section
    3.4), the smallest d with ½ (sin α_d + sin β_d) ≥ 0.99, α and β the largest angle of either domain's d directions to
    those of both together; where none of d ≤ 100 is, the d of the largest. Use when directions of variance turned from
    domain to domain and both hold about the same share of each class. Prefer `standardise` first: on real pairs it
    gained more in the mean; prefer nothing at all where the shares differ.
    """

    def __init__(self, n_components: int | None = None) -> None:
        self.n_components = n_components

    def _learn(self, source: Floats, target: Floats) -> None:
        unit = Scale.of(np.concatenate([source, target])).deviation
        self.scales_ = (Scale(source.mean(0), unit), Scale(target.mean(0), unit))
        a, b = (scale(rows) for scale, rows in zip(self.scales_, (source, target), strict=True))
        ours, theirs = directions(a)[0], directions(b)[0]
        most = min(ours.shape[1], theirs.shape[1])
        k = self.n_components
        if k is None:
            k = disagreement(ours, theirs, directions(np.concatenate([a, b]))[0])
        if not 1 <= k <= most:
            raise UserError(f"n_components must be from 1 to {most} with these rows, got {k}")
        self.n_components_ = k
        self.root_ = flow_root(ours[:, :k], theirs[:, :k])

    def _move(self, rows: Floats, side: int) -> Floats:
        return np.asarray(self.scales_[side](rows) @ self.root_)


def disagreement(ours: Floats, theirs: Floats, both: Floats) -> int:
    """The number of components by the subspace disagreement measure, from principal directions (columns)."""
    best, found = -1.0, 1
    for d in range(1, min(_MOST, *(part.shape[1] for part in (ours, theirs, both))) + 1):
        cosines = [np.linalg.svd(part[:, :d].T @ both[:, :d], compute_uv=False)[-1] for part in (ours, theirs)]
        value = float(np.mean([np.sqrt(max(0.0, 1 - cosine**2)) for cosine in cosines]))
        if value >= _FULL:
            return d
        if value > best + 1e-9:
            best, found = value, d
    return found


def flow_root(ours: Floats, theirs: Floats) -> Floats:
    """B with B Bᵀ = G, from orthonormal columns (p, d) of both; no complement of p - d columns is built.  # (p, ≤ 2d)

    -R_s v sin θ is P_s u cos θ - P_t w, and each angle's block M = [[a, b], [b, c]] has the square root (M + sI)/√(1 +
    2s), s = √(ac - b²), since a + c = 1.
    """
    left, cosines, right = np.linalg.svd(ours.T @ theirs)
    start = ours @ left
    signs = np.sign(start[np.abs(start).argmax(0), np.arange(start.shape[1])])
    start, end = start * signs, theirs @ right.T * signs
    across = start * cosines - end
    sines = np.sqrt((across**2).sum(0))
    across = np.where(sines > _TINY, across / np.maximum(sines, _TINY), 0.0)
    angle = np.arctan2(sines, cosines)  # exact for small angles, where arccos is not
    half = np.sinc(2 * angle / np.pi) / 2  # sin 2θ / 4θ
    a, c = 0.5 + half, 0.5 - half
    b = -0.5 * np.sin(angle) * np.sinc(angle / np.pi)  # (cos 2θ - 1) / 4θ
    s = np.sqrt(np.maximum(a * c - b**2, 0.0))
    t = np.sqrt(1 + 2 * s)
    root = np.concatenate([start * ((a + s) / t) + across * (b / t), start * (b / t) + across * ((c + s) / t)], axis=1)
    return np.asarray(root[:, np.sqrt((root**2).sum(0)) > _TINY])
