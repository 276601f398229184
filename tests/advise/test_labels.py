"""What labels bought: the choice drawn anew, and the rule of one standard error, against slow loops."""

from __future__ import annotations

import numpy as np
import pytest

from acclimate.advise.labels import MANY, Bought, honest_gain, one_error, taken
from acclimate.metrics.differences import paired_shares
from acclimate.metrics.estimate import Estimate


def answers(seed: int = 0, n: int = 40) -> np.ndarray:
    """Right answers of four ways, the first of them the source alone."""
    share = np.array([0.5, 0.6, 0.7, 0.4])[:, None]
    return (np.random.default_rng(seed).random((4, n)) < share).astype(float)


def slow_choice(right: np.ndarray, rows: list[int]) -> int:
    best = max(range(len(right)), key=lambda w: (sum(right[w, i] for i in rows), -w))
    for way in range(len(right)):
        apart = np.array([right[best, i] - right[way, i] for i in rows])
        if apart.mean() <= apart.std() / np.sqrt(len(rows) - 1) + 1e-12:
            return way
    return best


@pytest.mark.parametrize("seed", range(5))
def test_the_first_way_within_one_standard_error_of_the_best(seed: int) -> None:
    right = answers(seed)
    rows = np.random.default_rng(seed).integers(0, 40, 40)
    assert one_error(right, np.bincount(rows, minlength=40), 40) == slow_choice(right, rows.tolist())


def test_the_gain_is_judged_on_rows_that_did_not_choose() -> None:
    right, n = answers(), 40
    best = int(right.mean(1).argmax())
    rng, found = np.random.default_rng(0), []
    for _ in range(500):
        rows = rng.integers(0, n, n).tolist()
        out = [i for i in range(n) if i not in rows]
        if out:
            way = slow_choice(right, rows)
            found.append(np.mean([right[way, i] - right[0, i] for i in out]))
    told = honest_gain(right, range(4), best, 0, np.arange(n))
    assert told.value == pytest.approx(np.mean(found))
    plain, interval = paired_shares(right[best], right[0])
    assert told.value < plain and interval is not None and told.low is not None and told.high is not None
    assert told.low == pytest.approx(interval.low + told.value - plain)
    assert told.high == pytest.approx(interval.high + told.value - plain)


def test_a_way_that_was_named_has_nothing_taken_off_in_the_mean() -> None:
    right = answers()
    told = honest_gain(right, [2], 2, 0, np.arange(40))
    assert told.value == pytest.approx(right[2].mean() - right[0].mean(), abs=0.02)


def test_copies_of_a_row_are_drawn_together() -> None:
    right = np.repeat(answers(n=20), 2, axis=1)
    unit = np.repeat(np.arange(20), 2)
    found = []
    rng = np.random.default_rng(0)
    for _ in range(500):
        drawn = rng.integers(0, 20, 20).tolist()
        out = [i for i in range(40) if i // 2 not in drawn]
        if out:
            way = one_error(right, np.bincount(drawn, minlength=20)[unit], 20)
            found.append(np.mean([right[way, i] - right[0, i] for i in out]))
    assert honest_gain(right, range(4), 2, 0, unit).value == pytest.approx(np.mean(found))


def test_below_many_rows_the_best_is_taken_and_of_equal_ones_the_first() -> None:
    right = np.zeros((3, MANY - 1))
    right[1, :4] = right[2, 2:6] = 1.0
    assert taken(right, np.ones(MANY - 1), MANY - 1) == 1
    weights = np.ones(MANY - 1)
    weights[5] = 1.5  # a row that stands for more rows of the target
    assert taken(right, weights, MANY - 1) == 2
    many = np.pad(right, ((0, 0), (0, 1)))
    assert taken(many, np.pad(weights, (0, 1), constant_values=1.0), MANY) == one_error(many, np.ones(MANY), MANY) == 1


def test_a_gain_from_weighted_rows_is_that_over_the_rows_they_stand_for() -> None:
    right = np.zeros((2, 40))
    right[1, :20] = 1.0  # right where the two were drawn to differ: 20 rows that stand for 4 of 40
    weights = np.repeat([0.2, 1.8], 20)
    told = honest_gain(right, [1], 1, 0, np.arange(40), weights)
    assert told.value == pytest.approx(0.1, abs=0.01)
    assert told.low is not None and told.high is not None and told.low < 0.1 < told.high < 0.4


def test_one_sentence_says_when_labels_beat_the_label_free_method() -> None:
    gain, over = Estimate(0.1, -0.02, 0.22, 20), Estimate(0.08, 0.01, 0.15, 20)
    assert Bought(20, "pooled", gain, True, "self_train", over).text() == (
        "20 labels bought +10.0 points [−2.0, +22.0] of right answers over the source alone (pooled), and +8.0 points "
        "[+1.0, +15.0] over self_train, which reads no label: the labels beat the label-free method."
    )
