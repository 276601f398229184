"""λ along a path: the rule, branch by branch, and that order of rows and places after it change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from acclimate.errors import UserError
from acclimate.validate import along, neighbour_agreement
from acclimate.validate.neighbours import error_of_lead, nearest
from acclimate.validate.verdict import CLEAR, LEAD, SURE

RNG = np.random.default_rng(0)
TRUTH = np.arange(400) % 2
X = 6.0 * np.eye(2)[TRUTH] + RNG.normal(size=(400, 2))


def wrong(share: float, seed: int = 1) -> np.ndarray:
    """The clusters' own answers with this share of them drawn at random."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(TRUTH)) < share, rng.integers(0, 2, len(TRUTH)), TRUTH)


def test_values_lead_and_error_are_those_of_the_formula() -> None:
    answers = [wrong(0.3), wrong(0.1), wrong(0.6)]
    found = along(answers, X, usual=0)
    assert found.values == pytest.approx([neighbour_agreement(a, X) for a in answers], abs=1e-12)
    assert (found.at, found.best) == (1, 1)
    assert found.lead == pytest.approx(found.values[1] - found.values[0])
    assert found.error == pytest.approx(error_of_lead(answers[0], answers[1], nearest(X, 11)))
    assert found.values[1] >= CLEAR and found.lead >= max(LEAD, SURE * found.error)


def test_the_usual_one_stays_where_no_clusters_are_followed() -> None:
    answers = [wrong(1.0), wrong(0.7)]
    found = along(answers, X, usual=0)
    assert found.lead >= SURE * found.error and found.values[1] < CLEAR
    assert (found.at, found.best) == (0, 1)


def test_the_usual_one_stays_where_the_lead_is_small() -> None:
    near = TRUTH.copy()
    near[:2] = 1 - near[:2]  # a sure lead of the truth over it, of less than LEAD
    found = along([near, TRUTH], X, usual=0)
    assert 0 < found.lead < LEAD and (found.at, found.best) == (0, 1)


def test_the_usual_one_stays_where_few_rows_could_show_the_lead_by_chance() -> None:
    some = np.arange(30)
    two = np.where(some < 2, 1 - TRUTH[some], TRUTH[some])
    found = along([two, TRUTH[some]], X[some], usual=0)
    assert found.values[1] >= CLEAR and found.lead >= LEAD
    assert found.lead < SURE * found.error and found.at == 0


def test_of_equals_the_usual_one_and_any_order_of_rows_and_of_the_path() -> None:
    assert along([TRUTH, TRUTH, TRUTH], X, usual=1).best == 1
    answers, order = [wrong(0.3), wrong(0.1), wrong(0.5)], RNG.permutation(len(X))
    found = along(answers, X, usual=0)
    turned = along([a[order] for a in answers], X[order], usual=0)
    assert turned.at == found.at and turned.values == pytest.approx(found.values, abs=1e-9)
    assert along(answers[::-1], X, usual=2).at == 1
    with pytest.raises(UserError, match="usual=3 must be the place of one of 3 answers"):
        along(answers, X, usual=3)
