"""What labels bought: the choice drawn anew, and the rule of one standard error, against slow loops."""

from __future__ import annotations

import numpy as np
import pytest

from acclimate.advise.labels import Bought, honest_gain, one_error
from acclimate.metrics.differences import paired_shares
from acclimate.metrics.estimate import Estimate


def answers(seed: int = 0, n: int = 24) -> np.ndarray:
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
    rows = np.random.default_rng(seed).integers(0, 24, 24)
    assert one_error(right, np.bincount(rows, minlength=24), 24) == slow_choice(right, rows.tolist())


def test_the_gain_is_judged_on_rows_that_did_not_choose() -> None:
    right, n = answers(), 24
    rng, found = np.random.default_rng(0), []
    for _ in range(500):
        rows = rng.integers(0, n, n).tolist()
        out = [i for i in range(n) if i not in rows]
        if out:
            way = slow_choice(right, rows)
            found.append(np.mean([right[way, i] - right[0, i] for i in out]))
    told = honest_gain(right, range(4), 2, 0, np.arange(n))
    assert told.value == pytest.approx(np.mean(found))
    plain, interval = paired_shares(right[2], right[0])
    assert told.value < plain and interval is not None and told.low is not None and told.high is not None
    assert told.low == pytest.approx(interval.low + told.value - plain)
    assert told.high == pytest.approx(interval.high + told.value - plain)


def test_a_way_that_was_named_has_nothing_taken_off_in_the_mean() -> None:
    right = answers()
    told = honest_gain(right, [2], 2, 0, np.arange(24))
    assert told.value == pytest.approx(right[2].mean() - right[0].mean(), abs=0.02)


def test_copies_of_a_row_are_drawn_together() -> None:
    right = np.repeat(answers(n=12), 2, axis=1)
    unit = np.repeat(np.arange(12), 2)
    assert honest_gain(right, range(4), 2, 0, unit).value == honest_gain(answers(n=12), range(4), 2, 0, unit[::2]).value


def test_one_sentence_says_when_labels_beat_the_label_free_method() -> None:
    gain, over = Estimate(0.1, -0.02, 0.22, 20), Estimate(0.08, 0.01, 0.15, 20)
    assert Bought(20, "pooled", gain, True, over).text() == (
        "20 labels bought +10.0 points [−2.0, +22.0] of right answers over the source alone (pooled), and +8.0 points "
        "[+1.0, +15.0] over self_train, which reads no label: the labels beat the label-free method."
    )
