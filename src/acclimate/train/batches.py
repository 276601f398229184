"""Training batches: shuffled, with rows of like length together so that little is padded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_POOL = 32  # batches that are sorted together: enough to fill them evenly, few enough to keep the order random


def shuffled(costs: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Every row once, in batches of `batch_size` (the last may be smaller); the same for the same seed and epoch.

    Rows are shuffled, cut into pools of 32 batches, sorted by cost inside a pool, and the batches shuffled again.

    >>> sorted(i for batch in shuffled([5, 1, 4, 2, 3], 2, seed=0, epoch=0) for i in batch)
    [0, 1, 2, 3, 4]
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(costs))
    pool = batch_size * _POOL
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        rows = sorted(order[start : start + pool].tolist(), key=lambda i: costs[i])
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]
