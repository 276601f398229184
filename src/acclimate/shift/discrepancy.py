"""Maximum mean discrepancy between two sets of rows, with an exact-size permutation test, in bounded memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from acclimate.errors import UserError, plural
from acclimate.shallow.base import Floats, Ints, Scale, by_content, gaussian, matrix, median_square
from acclimate.shallow.domains import units_of

ROWS_AT_A_TIME = 512  # of the kernel matrix, which is never held whole


@dataclass(frozen=True)
class Mmd:
    """The unbiased estimate of MMD² (about 0, and then often below it, where the domains are alike) and its test."""

    value: float
    p: float
    permutations: int
    bandwidth: float  # σ, in scaled columns
    n: int
    units: int  # what was permuted: rows, with equal rows and groups as one

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return asdict(self)


def mmd(
    source: ArrayLike,
    target: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    permutations: int = 500,
    seed: int = 0,
) -> Mmd:
    """MMD² = mean_{i≠j} k(s_i,s_j) + mean_{i≠j} k(t_i,t_j) - 2 mean_{ij} k(s_i,t_j), k = exp(-‖x-x'‖²/2σ²).

    Gretton et al. (2012), Journal of Machine Learning Research 13, lemma 6. σ² is the median of ‖x-x'‖² over pairs of
    both domains together, after every column was scaled by its deviation over both. p = (1 + #{permuted ≥ observed}) /
    (1 + permutations), units being permuted whole. The kernel is computed in blocks, once for all permutations: memory
    is n·(permutations + 512) numbers. Use to know whether there is any shift; its size says little by itself.
    """
    a, b = matrix(source), matrix(target)
    if a.shape[1] != b.shape[1]:
        raise UserError(f"source has {a.shape[1]} columns and target {b.shape[1]}; both need the same ones")
    if min(len(a), len(b)) < 2:
        raise UserError(f"MMD needs at least 2 rows a side, got {len(a)} and {len(b)}")
    at = np.concatenate([by_content(a), len(a) + by_content(b)])
    rows = np.concatenate([a, b])
    units = units_of(rows[at], None if groups is None else np.asarray(groups)[at])
    scaled = Scale.of(rows[at])(rows[at])
    square = median_square(scaled[by_content(scaled)])
    side = (at < len(a)).astype(np.float64)  # 1: source
    marks = np.stack([side, *permuted(side, units, permutations, seed)], axis=1)
    values = _values(scaled, square, marks)
    reached = int((values[1:] >= values[0] - 1e-12).sum())
    p = (1 + reached) / (1 + permutations)
    return Mmd(float(values[0]), p, permutations, float(np.sqrt(square)), len(rows), int(units.max()) + 1)


def permuted(side: Floats, units: Ints, permutations: int, seed: int) -> list[Floats]:
    """The sides of the rows with whole units exchanged; a unit with rows on both sides keeps its own pattern.

    Where units differ in size the number of source rows changes with them; 2 rows always stay on either side.
    """
    rng = np.random.default_rng(seed)
    count = int(units.max()) + 1
    size = np.bincount(units)
    ours = np.bincount(units, side)
    whole = np.flatnonzero((ours == 0) | (ours == size))
    out: list[Floats] = []
    tries = 0
    while len(out) < permutations:
        tries += 1
        if tries > 20 * permutations + 100:
            raise UserError(
                f"only {plural(count, 'different row')} or groups: too few to permute between source and target"
            )
        of_unit = np.full(count, -1.0)
        of_unit[whole] = rng.permutation(ours[whole] > 0)
        moved = np.where(of_unit[units] < 0, side, of_unit[units])
        if 2 <= moved.sum() <= len(moved) - 2:
            out.append(moved)
    return out


def _values(rows: Floats, square: float, marks: Floats) -> Floats:
    """Unbiased MMD² for every column of 0/1 marks (N, P)."""
    everything = np.concatenate([marks, np.ones((len(rows), 1))], axis=1)
    products = np.empty_like(everything)
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        block = gaussian(rows[start : start + ROWS_AT_A_TIME], rows, square)
        block[np.arange(len(block)), start + np.arange(len(block))] = 0.0
        products[start : start + ROWS_AT_A_TIME] = block @ everything
    inside = (marks * products[:, :-1]).sum(0)  # Σ over pairs of source rows
    touching = products[:, -1] @ marks  # Σ over pairs whose first row is source
    total = float(products[:, -1].sum())
    n = marks.sum(0)
    m = len(rows) - n
    cross = touching - inside
    return np.asarray(inside / (n * (n - 1)) + (total - 2 * cross - inside) / (m * (m - 1)) - 2 * cross / (n * m))
