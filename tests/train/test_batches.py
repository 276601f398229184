from __future__ import annotations

from acclimate.train.batches import shuffled

COSTS = [(i * 7919) % 200 + 1 for i in range(700)]


def test_every_row_once_in_batches_of_the_size() -> None:
    batches = shuffled(COSTS, 16, seed=3, epoch=0)
    assert sorted(i for batch in batches for i in batch) == list(range(700))
    assert sorted({len(b) for b in batches}) == [12, 16]
    assert [len(b) for b in batches].count(12) == 1


def test_the_order_is_fixed_by_seed_and_epoch() -> None:
    first = shuffled(COSTS, 16, seed=3, epoch=0)
    assert shuffled(COSTS, 16, seed=3, epoch=0) == first
    assert shuffled(COSTS, 16, seed=3, epoch=1) != first
    assert shuffled(COSTS, 16, seed=4, epoch=0) != first


def test_rows_of_like_length_share_a_batch() -> None:
    def padding(batches: list[list[int]]) -> int:
        return sum(max(COSTS[i] for i in b) - COSTS[i] for b in batches for i in b)

    plain = [list(range(700))[i : i + 16] for i in range(0, 700, 16)]
    assert padding(shuffled(COSTS, 16, seed=0, epoch=0)) < 0.15 * padding(plain)


def test_fewer_rows_than_a_batch() -> None:
    assert sorted(shuffled([3, 1, 2], 16, seed=0, epoch=0)[0]) == [0, 1, 2]
