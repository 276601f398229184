"""Scores of features: each against its formula as a slow loop, and what known libraries get wrong (case A12)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from acclimate import transferability as t
from acclimate.errors import UserError

RNG = np.random.default_rng(0)


def slow_logme(f: Any, y: Any) -> float:
    """The density of y as one Gaussian in n dimensions, searched over a grid and then by Nelder and Mead."""
    found = []
    for c in np.unique(y):
        one = (y == c) * 1.0

        def negative(at: Any, one: Any = one) -> float:
            cov = np.exp(-at[1]) * np.eye(len(f)) + np.exp(-at[0]) * f @ f.T
            return -float(multivariate_normal.logpdf(one, np.zeros(len(f)), cov)) / len(f)

        starts = [(a, b) for a in (0.0, 4.0, 8.0, 20.0) for b in (0.0, 1.0, 2.0, 4.0)]
        best = min(starts, key=negative)
        found.append(-minimize(negative, best, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).fun)
    return float(np.mean(found))


@pytest.mark.parametrize(("n", "d"), [(50, 200), (60, 5), (30, 30)])
def test_logme_is_the_exact_evidence_also_where_columns_outnumber_rows(n: int, d: int) -> None:
    f, y = RNG.normal(size=(n, d)), np.arange(n) % 3
    f[:, 0] += y
    assert t.logme(f, y) == pytest.approx(slow_logme(f, y), abs=2e-4)


def test_logme_does_not_favour_wide_noise() -> None:
    y = np.arange(40) % 2
    narrow = RNG.normal(size=(40, 4)) + y[:, None]
    assert t.logme(narrow, y) > t.logme(RNG.normal(size=(40, 400)), y) + 0.05


def test_leep_and_nce_by_hand() -> None:
    theta = np.array([[0.7, 0.3], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8]])
    y = np.array([0, 0, 1, 1])
    joint = {(c, z): sum(theta[i, z] for i in range(4) if y[i] == c) / 4 for c in (0, 1) for z in (0, 1)}
    marginal = {z: joint[0, z] + joint[1, z] for z in (0, 1)}
    by_hand = np.mean([np.log(sum(joint[y[i], z] / marginal[z] * theta[i, z] for z in (0, 1))) for i in range(4)])
    assert t.leep(theta, y) == pytest.approx(by_hand, abs=1e-12)
    assert t.nce([0, 0, 1, 1], y) == 0
    assert t.nce([0, 0, 0, 0], y) == pytest.approx(-np.log(2))


def test_a_source_class_that_is_never_predicted_and_gaps_among_labels_change_nothing() -> None:
    theta, y = RNG.dirichlet(np.ones(3), size=30), np.arange(30) % 3
    wider = np.insert(theta, 1, 0.0, axis=1)
    assert t.leep(wider, y) == pytest.approx(t.leep(theta, y), abs=1e-12)
    f, gap = RNG.normal(size=(30, 4)), np.array([0, 5, 9])[y]
    for score in t.SCORES.values():
        assert score(f, gap) == pytest.approx(score(f, y), abs=1e-12)
    assert t.leep(theta, gap) == t.leep(theta, y)


def test_h_score_is_its_formula_and_random_labels_with_many_columns_are_not_at_the_maximum() -> None:
    from sklearn.covariance import ledoit_wolf

    f, y = RNG.normal(size=(80, 6)), np.arange(80) % 4
    f[:, 1] += y
    centred = f - f.mean(0)
    covariance, gamma = ledoit_wolf(centred)
    between = np.zeros((6, 6))
    for row, c in zip(centred, y, strict=True):
        mean = centred[y == c].mean(0)
        between += np.outer(mean, mean) / len(row * 0 + f)
    assert t.h_score(f, y) == pytest.approx((1 - gamma) * np.trace(np.linalg.inv(covariance) @ between), rel=1e-8)
    assert t.h_score(RNG.normal(size=(100, 400)), np.arange(100) % 4) < 1.0  # without shrinkage 3.0, its maximum


def test_transrate_weighs_classes_by_their_shares() -> None:
    f = RNG.normal(size=(60, 5))
    y = np.array([0] * 50 + [1] * 10)
    z, eps = f - f.mean(0), 1e-4

    def rate(part: Any) -> float:
        return 0.5 * float(np.log(np.linalg.det(np.eye(5) + part.T @ part / (len(part) * eps))))

    assert t.transrate(f, y) == pytest.approx(rate(z) - 50 / 60 * rate(z[:50]) - 10 / 60 * rate(z[50:]), rel=1e-9)
    assert abs(t.transrate(RNG.normal(size=(2000, 5)), np.arange(2000) % 20 < 1)) < 0.06  # noise, one class of 5 %
    wide = RNG.normal(size=(12, 40))
    assert t.transrate(wide, np.arange(12) % 2) == pytest.approx(
        t.transrate(np.hstack([wide, np.zeros((12, 3))]), np.arange(12) % 2), rel=1e-9
    )


def test_gbc_by_hand() -> None:
    f, y = np.array([[0.0], [2.0], [10.0], [14.0]]), np.array([0, 0, 1, 1])
    one = np.exp(-(11.0**2 / (8 * 2.5) + 0.5 * np.log(2.5 / 2.0)))
    assert t.gbc(f, y) == pytest.approx(-2 * one)


def test_knn_accuracy_by_a_slow_loop_and_in_blocks() -> None:
    f, y = RNG.normal(size=(1100, 8)), RNG.integers(0, 3, 1100)
    f[:, 0] += 2 * y
    unit = f / np.linalg.norm(f, axis=1, keepdims=True)
    right = 0
    for i in range(1100):
        cosine = unit @ unit[i]
        cosine[i] = -2
        near = np.argsort(-cosine)[:5]
        votes = [sum(cosine[j] + 1 for j in near if y[j] == c) for c in range(3)]
        right += int(np.argmax(votes)) == y[i]
    assert t.knn_accuracy(f, y) == pytest.approx(right / 1100)


@pytest.mark.parametrize("name", t.SCORES)
def test_degenerate_features_are_finite(name: str) -> None:
    y = np.arange(12) % 3
    for f in (np.eye(3)[y], np.zeros((12, 4)), np.ones((12, 4)), np.eye(3)[y] * 1e6):
        assert np.isfinite(t.SCORES[name](f, y)), f
    assert np.isfinite(t.SCORES[name](RNG.normal(size=(12, 2)), np.zeros(12, int)))


@pytest.mark.parametrize("name", t.SCORES)
def test_the_better_features_score_higher(name: str) -> None:
    y = np.arange(200) % 4
    noise = RNG.normal(size=(200, 6))
    assert t.SCORES[name](noise + 3 * np.eye(6)[y], y) > t.SCORES[name](noise, y)


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="NaN or infinity"):
        t.logme([[np.nan]], [0])
    with pytest.raises(UserError, match="one label a row"):
        t.h_score([[1.0], [2.0]], [0])
    with pytest.raises(UserError, match="add up to 1"):
        t.leep([[0.5, 0.2]], [0])
    with pytest.raises(UserError, match="two rows"):
        t.knn_accuracy([[1.0]], [0])
    with pytest.raises(UserError, match="epsilon"):
        t.transrate([[1.0], [2.0]], [0, 1], epsilon=0)
