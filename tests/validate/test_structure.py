"""MixVal, RankMe and ClassAMI against their formulas as slow loops, and what other libraries get wrong shown absent."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest

from acclimate.errors import UserError
from acclimate.validate import Candidate, Rows, class_ami, clusters, mixval, rankme, score
from acclimate.validate.base import Floats, Ints
from acclimate.validate.structure import mean_ranks


def ring(z: Floats) -> Floats:
    """A candidate that is not linear: inside of a circle or outside."""
    inside = (z**2).sum(1) < 1.2
    return np.column_stack([inside, ~inside]).astype(float)


def test_mixval_counts_over_every_pair_that_it_is_told_to_mix() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 2))  # with 6 rows each is mixed with all 5 others, whatever the seed
    within, between = [], []
    for i in range(6):
        for j in range(6):
            if i != j:
                a, b, z = (ring(row[None]).argmax(1)[0] for row in (x[i], x[j], 0.7 * x[i] + 0.3 * x[j]))
                (within if a == b else between).append(int(z == a))
    assert 0 < sum(within) < len(within) and 0 < sum(between) < len(between)
    for seed in range(3):
        assert mixval(x, ring, mix=0.7, seed=seed) == pytest.approx((np.mean(within), np.mean(between)))


def test_mixval_sees_a_border_that_runs_through_a_cluster() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(-3, 0.5, (100, 1)), rng.normal(3, 0.5, (100, 1))])

    def at(border: float) -> tuple[float, float]:
        return mixval(x, lambda z: np.eye(2)[(z[:, 0] > border).astype(int)], mix=0.8)

    assert at(0.0)[1] == 1.0 > at(3.0)[1] + 0.05


def test_mixval_gives_a_collapsed_candidate_nothing_where_other_code_gives_it_the_best_score() -> None:
    # The reference leaves the pairs that do not exist out of the mean: 1.0, the highest there is.
    x = np.random.default_rng(0).normal(size=(40, 2))
    assert mixval(x, lambda z: np.eye(2)[np.zeros(len(z), int)]) == (1.0, 0.0)
    assert mixval(x[:1], ring) == (0.0, 0.0)
    own = mixval(np.arange(2.0)[:, None], lambda z: np.eye(3)[np.searchsorted([0.1, 0.9], z[:, 0])])
    assert own == (0.0, 0.0)  # no row is mixed with itself, which would agree
    with pytest.raises(UserError, match="mix must be above 0.5 and below 1, got 0.5"):
        mixval(x, ring, mix=0.5)


def test_a_linear_candidate_keeps_every_answer_within() -> None:
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(80, 4)), rng.normal(size=(4, 3))
    assert mixval(x, lambda z: np.exp(z @ w))[0] == 1.0


def test_candidates_are_ordered_by_the_mean_of_both_ranks_and_not_without_asking_each() -> None:
    assert mean_ranks([(1.0, 0.2), (0.5, 0.3), (0.5, 0.1)]).tolist() == [0.75, 0.625, 0.125]
    assert mean_ranks([(1.0, 1.0)]).tolist() == [0.5]
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(50, 2)), np.arange(20) % 2
    rows, p = Rows(labels, x[:20], x), ring(x)
    asked = Candidate("asked", p[:20], p, predict=ring)
    assert list(score([asked], rows, ["mixval"])) == ["mixval"]
    assert score([asked, Candidate("not", p[:20], p)], rows, ["mixval"]) == {}


def test_rankme_is_its_formula_and_does_not_centre() -> None:
    x = np.random.default_rng(0).normal(size=(30, 4)) * [3.0, 1.0, 0.1, 0.0] + [5.0, 0, 0, 0]
    values = [math.sqrt(max(0.0, v)) for v in np.linalg.eigvalsh(x.T @ x)]
    total = -sum((p := v / sum(values) + 1e-7) * math.log(p) for v in values)
    assert rankme(x) == pytest.approx(math.exp(total), abs=1e-5)
    assert rankme(x[:, :2]) == pytest.approx(rankme(x[:, 1::-1]))
    assert rankme(np.ones((1, 5))) == pytest.approx(1.0)
    assert rankme(np.random.default_rng(0).normal(size=(3, 50))) <= 3.001  # more columns than rows
    assert rankme(np.eye(7) * 1e-3) == pytest.approx(7.0, abs=1e-4)


def slow_ami(a: Ints, b: Ints) -> float:
    """Vinh et al., equations with the hypergeometric expectation, term by term."""
    n, ca, cb, both = (
        len(a),
        Counter(a.tolist()),
        Counter(b.tolist()),
        Counter(zip(a.tolist(), b.tolist(), strict=True)),
    )
    mutual = sum(v / n * math.log(n * v / (ca[i] * cb[j])) for (i, j), v in both.items())
    expected = 0.0
    for x in ca.values():
        for y in cb.values():
            for v in range(max(1, x + y - n), min(x, y) + 1):
                chance = math.comb(x, v) * math.comb(n - x, y - v) / math.comb(n, y)
                expected += v / n * math.log(n * v / (x * y)) * chance
    h = [-sum(v / n * math.log(v / n) for v in c.values()) for c in (ca, cb)]
    return (mutual - expected) / (sum(h) / 2 - expected)


def test_class_ami_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 40)
    b = np.where(rng.random(40) < 0.6, a, rng.integers(0, 4, 40))
    assert class_ami(a, b) == pytest.approx(slow_ami(a, b), abs=1e-9)
    assert abs(np.mean([class_ami(rng.permutation(a), b) for _ in range(200)])) < 0.02  # plain information is above 0


def test_answers_or_clusters_that_are_all_one_have_no_information() -> None:
    # In scikit-learn, and so in the reference, a collapsed model on collapsed features has the best score, 1.
    zeros = np.zeros(30, int)
    assert class_ami(zeros, zeros) == class_ami(np.arange(30) % 2, zeros) == class_ami(zeros, np.arange(30) % 2) == 0.0
    at, found = clusters(np.ones((30, 4)), 3)
    assert len(at) == 30 and set(found.tolist()) == {0}


@pytest.mark.parametrize(("rows", "columns"), [(5, 40), (2, 3), (1, 2)])
def test_clusters_need_neither_many_rows_nor_many_columns(rows: int, columns: int) -> None:
    # The reference takes 64 principal components first, and fails below that.
    at, found = clusters(np.random.default_rng(0).normal(size=(rows, columns)), 3)
    assert len(found) == len(at) == rows and found.max() < min(3, rows)


def test_clusters_of_features_are_found_whatever_the_order_and_judge_the_answers() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 3
    x = 6.0 * np.eye(3)[truth] + rng.normal(size=(300, 3))
    order = rng.permutation(300)
    at, found = clusters(x, 3)
    again, shuffled = clusters(x[order], 3)
    assert np.array_equal(order[again], at) and np.array_equal(found, shuffled)
    assert class_ami(truth[at], found) > 0.95 > 0.5 > class_ami(np.roll(truth, 7)[at] * (rng.random(300) < 0.5), found)
    assert len(clusters(rng.normal(size=(2500, 2)), 3)[0]) == 2000


def test_the_three_as_validators_read_what_the_last_layer_reads() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(90) % 2
    x = rng.normal(size=(90, 3))
    apart = x + 8.0 * truth[:, None]
    rows, p = Rows(np.arange(20) % 2, x[:20], x), np.eye(2)[truth]
    plain = Candidate("plain", p[:20], p)
    own = Candidate("own", p[:20], p, x[:20], apart)
    flat = Candidate("flat", p[:20], p, x[:20], np.outer(np.arange(90.0), np.ones(3)))
    found = score([plain, own, flat], rows, ["class_ami", "rankme"])
    assert found["class_ami"][1] == pytest.approx(1.0) and found["class_ami"][0] < 0.2
    assert found["rankme"][2] == pytest.approx(1.0, abs=1e-3)
    assert found["rankme"][0] == pytest.approx(rankme(x))
    turned = dataclasses.replace(own, target=p[::-1])
    assert score([turned], rows, ["rankme"])["rankme"][0] == pytest.approx(found["rankme"][1])  # answers are not read
