"""Which source and which target rows each step of a training on two domains reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any

import numpy as np

from acclimate.data.rows import IntArray

Batches = Callable[[int], list[list[int]]]  # a turn through the rows, from 0 -> the rows of each of its batches


class Pairs:
    """The rows of every step, named by their place in the whole training, so that nothing has to be counted: a step
    that is done anew, or in parts, or after a kill, reads the same rows.

    Slot s lies in epoch s // n and reads a source row, in the order of that epoch's batches, and a target row: number s
    of an endless walk through the target, one turn after the other. An epoch reads each source row once.
    """

    def __init__(self, source: Batches, target: Batches, epochs: int, at_once: int = 1) -> None:
        self._turn = lru_cache(maxsize=8)(lambda side, turn: _laid_out((source, target)[side](turn)))
        self.at_once = at_once  # batches of one step of the optimiser
        self.rows = len(self._turn(0, 0)[0])
        self.steps = self._steps(len(self._turn(0, 0)[1])) * epochs

    def epoch(self, epoch: int) -> list[list[int]]:
        """The slots of every batch of an epoch."""
        first, ends = epoch * self.rows, self._turn(0, epoch)[1]
        return [list(range(first + a, first + b)) for a, b in zip([0, *ends], ends, strict=False)]

    def renews(self, slot: int) -> bool:
        """Whether this is the first slot of an epoch that has one before it."""
        return slot >= self.rows and slot % self.rows == 0

    def progress(self, slot: int) -> float:
        """How much of the training lies before this slot's step, from 0 to below 1."""
        epoch, place = divmod(slot, self.rows)
        ends = self._turn(0, epoch)[1]
        batch = int(np.searchsorted(ends, place, "right"))
        return (epoch * self._steps(len(ends)) + batch // self.at_once) / self.steps

    def source(self, slots: list[int]) -> IntArray:
        """Positions of source rows."""
        return np.array([self._turn(0, s // self.rows)[0][s % self.rows] for s in slots])

    def target(self, slots: list[int]) -> IntArray:
        """Positions of target rows."""
        m = len(self._turn(1, 0)[0])
        return np.array([self._turn(1, s // m)[0][s % m] for s in slots])

    def _steps(self, batches: int) -> int:
        return math.ceil(batches / self.at_once)


def _laid_out(batches: list[list[int]]) -> tuple[list[int], list[int]]:
    """The rows of all batches in turn, and where each batch ends."""
    return list(chain(*batches)), list(accumulate(map(len, batches)))


def even(rows: int, batch_size: int, seed: int, side: int) -> Batches:
    """Every row once a turn, in a new order each time; the sizes of the batches differ by one row at most.

    >>> [len(batch) for batch in even(9, 4, seed=0, side=0)(0)]
    [3, 3, 3]
    """
    bounds = np.linspace(0, rows, math.ceil(rows / batch_size) + 1).round().astype(int)

    def drawn(turn: int) -> Any:
        order = np.random.default_rng([seed, side, turn]).permutation(rows).tolist()
        return [order[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    return drawn
