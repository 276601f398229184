"""Skill against what its formula says, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from acclimate.metrics.skill import Column, skill, skill_difference, skill_of, skill_value
from acclimate.metrics.tables import Answers


def columns(wrong: int = 0, times: int = 1) -> list[Column]:
    """12 rows of two classes, 8 of the first, of which `wrong` are answered falsely; numbers of all but 2 rows. So many
    times over."""
    n = 12 * times
    truth = np.array(([0] * 8 + [1] * 4) * times)
    said = truth.copy()
    for k in range(times):
        said[12 * k : 12 * k + wrong] = 1
    numbers = np.arange(n - 2.0)
    guess = numbers + np.where(np.arange(n - 2) % 2, 1.0, -1.0)
    return [
        Column("accuracy", np.arange(n), Answers("classify", truth, np.eye(2)[said], said)),
        Column("rmse", np.arange(2, n), Answers("regress", numbers, guess, guess)),
    ]


def test_the_formula() -> None:
    share = ((12 - 3) / 12 - 8 / 12) / (1 - 8 / 12)
    number = 1 - 1.0 / np.arange(10.0).std()
    assert skill_value(columns(3), 12, None) == pytest.approx((share + number) / 2)
    weights = np.array([1.0] * 6 + [3.0] * 6)
    w, x = weights, weights[2:]
    right = w[3:].sum() / w.sum()
    base = w[:8].sum() / w.sum()
    m, flat = np.sqrt(np.average(np.ones(10), weights=x)), np.arange(10.0).mean()
    root = np.sqrt(np.average((np.arange(10.0) - flat) ** 2, weights=x))
    expected = ((right - base) / (1 - base) + 1 - m / root) / 2
    assert skill_value(columns(3), 12, weights) == pytest.approx(expected)


def test_a_column_that_cannot_be_got_wrong_is_left_out() -> None:
    none = np.zeros(12, int)
    same = Column("accuracy", np.arange(12), Answers("classify", none, np.eye(2)[none], none))
    alone = skill_value(columns(2)[1:], 12, None)
    assert skill_value([same, columns(2)[1]], 12, None) == pytest.approx(alone)
    assert np.isnan(skill_of([same])(np.ones((1, 12)))[0])


def test_interval_and_paired_difference() -> None:
    one = skill(columns(1), 12, None, None, 0)
    assert one.low is not None and one.high is not None and one.value is not None
    assert one.low < one.value < one.high and one.n == 12
    gap = skill_difference(columns(1, 5), columns(6, 5), 60, None, None, 0)
    assert gap.value == pytest.approx(skill_value(columns(1, 5), 60, None) - skill_value(columns(6, 5), 60, None))
    assert gap.verdict == "better"
    back = skill_difference(columns(6, 5), columns(1, 5), 60, None, None, 0)
    assert (back.value, back.verdict) == (pytest.approx(-gap.value), "worse")
    assert skill_difference(columns(2), columns(2), 12, None, None, 0).verdict == "not decidable"
    assert skill([], 0, None, None, 0).value is None
