"""Notices when what is learned without labels runs into calling everything the same."""

from __future__ import annotations

from collections import deque

import numpy as np

from acclimate.tasks.base import Floats

WINDOW = 256  # rows looked back on
LEAST = 64  # rows below which shares say little


class Guard:
    """Compares how evenly the last rows fall on the classes, by the adapted model and by the one it started from.

    Collapsed: H(mean of the adapted p) < share · H(mean of the source model's p) over the last 64 to 256 rows, H in
    nats. The same rows are on both sides, so that rows which are truly of one class do not count as a collapse as long
    as the source model, too, calls them so.

    >>> guard = Guard(share=0.8)
    >>> even, odd = np.full((64, 2), 0.5), np.tile([0.99, 0.01], (64, 1))
    >>> guard.collapsed(even, even), guard.collapsed(odd, even), guard.collapsed(odd, even)
    (False, False, True)
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._recent: deque[tuple[int, Floats]] = deque()  # rows, and sums (2, K): adapted, source

    @property
    def rows(self) -> int:
        """How many rows are looked back on."""
        return sum(n for n, _ in self._recent)

    @property
    def batches(self) -> int:
        """In how many batches they came."""
        return len(self._recent)

    def collapsed(self, adapted: Floats, source: Floats) -> bool:
        """Take note of the probabilities (n, K) of one more batch, and say whether it is too much."""
        self._recent.append((len(adapted), np.stack([adapted.sum(0), source.sum(0)])))
        while len(self._recent) > 1 and self.rows - self._recent[0][0] >= WINDOW:
            self._recent.popleft()
        if self.rows < LEAST:
            return False
        mine, theirs = map(_entropy, np.sum([sums for _, sums in self._recent], axis=0))
        return bool(mine < self.share * theirs)


def _entropy(mass: Floats) -> float:
    p = mass / mass.sum()
    return float(-(p * np.log(np.maximum(p, 1e-300))).sum())
