"""Two domains in one table, and kernels and scales as slow loops; for the tests of methods on features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def two(n: int = 40, m: int = 30, d: int = 3, seed: int = 1) -> tuple[Floats, Floats, Floats, Any]:
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    target = rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) + 2.0
    return source, target, np.concatenate([source, target]), np.repeat([0, 1], [n, m])


def slow_kernel(rows: Floats, square: float) -> Floats:
    return np.array(
        [[math.exp(-sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / (2 * square)) for b in rows] for a in rows]
    )


def slow_median(rows: Floats) -> float:
    n = len(rows)
    return float(np.median([((rows[i] - rows[j]) ** 2).sum() for i in range(n) for j in range(i + 1, n)]))


def pooled(both: Floats) -> Floats:
    return np.asarray((both - both.mean(0)) / both.std(0))
