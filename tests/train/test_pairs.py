"""Which rows each step reads, whoever asks and how often."""

from __future__ import annotations

import math

import pytest

from acclimate.align.base import reversal_strength
from acclimate.train.batches import shuffled
from acclimate.train.pairs import Pairs, even


@pytest.mark.parametrize(("n", "m", "size"), [(65, 40, 16), (7, 100, 3), (1, 1, 8), (64, 1, 64), (10, 10, 10)])
def test_an_epoch_reads_every_source_row_once_and_the_target_round_and_round(n: int, m: int, size: int) -> None:
    """A3."""
    slots = Pairs(even(n, size, 1, 0), even(m, size, 1, 1), epochs=4)
    read: list[int] = []
    for epoch in range(4):
        batches = slots.epoch(epoch)
        assert len(batches) == math.ceil(n / size)
        lengths = [len(b) for b in batches]
        assert max(lengths) <= size
        assert max(lengths) - min(lengths) <= 1
        flat = [s for b in batches for s in b]
        assert sorted(slots.source(flat).tolist()) == list(range(n))
        read += slots.target(flat).tolist()
    whole = len(read) // m * m
    for start in range(0, whole, m):
        assert sorted(read[start : start + m]) == list(range(m))
    if n > 10:
        assert slots.source(slots.epoch(0)[0]).tolist() != slots.source(slots.epoch(1)[0]).tolist()


def test_progress_is_the_share_of_steps_that_are_done_whoever_asks_how_often() -> None:
    """A5: from 0, and the same for half a batch, for a step that is done anew, and in another order of asking."""
    slots = Pairs(even(10, 4, 0, 0), even(5, 4, 0, 1), epochs=2)
    steps = slots.epoch(0) + slots.epoch(1)
    assert [slots.progress(b[0]) for b in steps] == pytest.approx([i / 6 for i in range(6)])
    for i, batch in reversed(list(enumerate(steps))):
        assert {slots.progress(s) for s in batch} == {i / 6}
    assert reversal_strength(slots.progress(0)) == 0.0
    assert reversal_strength(1.0) == pytest.approx(0.9999, abs=1e-4)


def test_batches_of_any_sizes_and_several_of_them_in_a_step() -> None:
    """Rows of like length together, two batches a step of the optimiser, an odd one left at the end of an epoch."""
    costs, others = [5, 1, 4, 2, 3, 9, 9, 1, 1], [7, 2, 2, 1]
    pairs = Pairs(lambda e: shuffled(costs, 2, 0, e), lambda e: shuffled(others, 2, 1, e), epochs=3, at_once=2)
    for epoch in range(3):
        batches = pairs.epoch(epoch)
        assert [pairs.source(b).tolist() for b in batches] == shuffled(costs, 2, 0, epoch)
        assert [pairs.progress(b[-1]) for b in batches] == pytest.approx([(3 * epoch + i // 2) / 9 for i in range(5)])
    walk = [row for turn in range(7) for batch in shuffled(others, 2, 1, turn) for row in batch]
    assert pairs.target(list(range(27))).tolist() == walk[:27]
