"""Temperature, reliability and calibration error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from acclimate.metrics.calibration import (
    COLDEST,
    HOTTEST,
    apply_temperature,
    bins_of,
    calibration_error,
    calibration_floor,
    calibration_limits,
    fit_temperature,
    reliability,
)
from acclimate.metrics.intervals import wilson


def overconfident(n: int = 4000, k: int = 3, factor: float = 2.5):
    """Labels drawn from softmax(z); the logits handed out are `factor` times too large."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, k)) * 1.5
    p = apply_temperature(z, 1.0)
    truth = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1)
    return factor * z, truth


def test_temperature_finds_what_was_put_in():
    z, truth = overconfident()
    assert fit_temperature(z, truth) == pytest.approx(2.5, rel=0.05)
    assert fit_temperature(z / 5, truth) == pytest.approx(0.5, rel=0.05)


def test_temperature_has_the_least_smoothed_log_loss():
    z, truth = overconfident(200)
    w = np.random.default_rng(1).random(200)
    slack = 1 / 202
    target = np.where(np.eye(3)[truth] == 1, 1 - slack, slack / 2)

    def loss(heat: float) -> float:
        return float(-(w[:, None] * target * np.log(apply_temperature(z, heat))).sum())

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(z, truth, w) == pytest.approx(best, rel=1e-4)


def test_temperature_of_multilabel_and_of_one_logit():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(3000, 2)) * 2
    truth = (rng.random((3000, 2)) < apply_temperature(z, 1.0, multilabel=True)).astype(int)
    assert fit_temperature(3 * z, truth) == pytest.approx(3, rel=0.08)
    one = fit_temperature(3 * z[:, 0], truth[:, 0])
    two = fit_temperature(np.stack([np.zeros(3000), 3 * z[:, 0]], axis=1), truth[:, 0])
    assert one == pytest.approx(two)


@pytest.mark.parametrize(
    ("z", "truth"),
    [
        (np.array([[2.0, 0.0]] * 19), np.array([0, 1] * 9 + [0])),  # too few
        (np.array([[2.0, 0.0]] * 40), np.zeros(40, dtype=int)),  # one class
        (np.zeros((40, 2)), np.array([0, 1] * 20)),  # no logit differs
        (np.array([[2.0, 0.0]] * 40), np.full(40, -1)),  # only unseen classes
    ],
)
def test_temperature_is_one_where_it_cannot_be_fitted(z, truth):
    assert fit_temperature(z, truth) == 1.0


def test_separable_rows_do_not_send_the_temperature_to_zero():
    truth = np.array([0, 1] * 50)
    z = 3 * np.eye(2)[truth]
    heat = fit_temperature(z, truth)
    assert heat == pytest.approx(3 / np.log(101), rel=1e-3)  # where the probability is 1 - 1/102
    assert fit_temperature(z * 1e-4, truth) == COLDEST
    assert fit_temperature(-z, truth) == HOTTEST


def test_logits_that_are_not_finite_are_refused():
    z, truth = overconfident(50)
    z[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit_temperature(z, truth)


def test_large_logits_do_not_overflow():
    z = np.array([[1000.0, -1000.0], [-1000.0, 1000.0]])
    assert apply_temperature(z, 1.0).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert apply_temperature(z, 1.0, multilabel=True).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_calibration_error_by_slow_loops():
    rng = np.random.default_rng(3)
    proba = rng.dirichlet(np.ones(3), size=200)
    truth, w = rng.integers(3, size=200), rng.integers(1, 4, size=200).astype(float)
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == truth
    place = bins_of(confidence)
    assert np.bincount(place).tolist() == [20] * 10
    expected = sum(abs((w * (right - confidence))[place == b].sum()) for b in range(10)) / w.sum()
    assert calibration_error(truth, proba)(w[None, :])[0] == pytest.approx(expected)
    bars = reliability(truth, proba, w)
    assert sum(
        w[place == i].sum() * abs(b.accuracy - b.confidence) for i, b in enumerate(bars)
    ) / w.sum() == pytest.approx(expected)


def test_calibration_error_of_a_model_that_is_right_as_often_as_it_says():
    truth = np.array([0] * 80 + [1] * 20)
    assert calibration_error(truth, np.array([[0.8, 0.2]] * 100))(np.ones((1, 100)))[0] == pytest.approx(0)
    assert calibration_error(truth, np.array([[1.0, 0.0]] * 100))(np.ones((1, 100)))[0] == pytest.approx(0.2)


def test_calibration_error_of_multilabel_cells():
    truth = np.array([[1, 0]] * 30)
    proba = np.array([[0.9, 0.1]] * 30)
    assert calibration_error(truth, proba)(np.ones((1, 30)))[0] == pytest.approx(0.1)


def test_reliability_bins_carry_wilson_intervals():
    proba = np.array([[0.9, 0.1]] * 50)
    truth = np.array([0] * 45 + [1] * 5)
    (bar,) = reliability(truth, proba)
    expected = wilson(45, 50)
    assert (bar.n, bar.confidence, bar.accuracy) == (50, pytest.approx(0.9), pytest.approx(0.9))
    assert (bar.accuracy_low, bar.accuracy_high) == pytest.approx((expected.low, expected.high))
    assert reliability(np.empty(0, dtype=int), np.empty((0, 2))) == []
    assert set(bar.to_json()) == {"low", "high", "confidence", "accuracy", "accuracy_low", "accuracy_high", "n"}


def test_the_floor_is_what_chance_gives():
    rng = np.random.default_rng(4)
    found, floors = [], []
    for _ in range(300):
        p = rng.uniform(0.5, 1, size=200)
        proba = np.stack([p, 1 - p], axis=1)
        truth = (rng.random(200) > p).astype(int)
        found.append(calibration_error(truth, proba)(np.ones((1, 200)))[0])
        floors.append(calibration_floor(truth, proba))
    assert np.mean(floors) == pytest.approx(np.mean(found), rel=0.05)


def test_limits_hold_0_for_a_calibrated_model_and_not_for_a_wrong_one():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.5, 1, size=500)
    proba = np.stack([p, 1 - p], axis=1)
    truth = (rng.random(500) > p).astype(int)
    found = calibration_limits(truth, proba)
    assert found.low == 0.0
    assert found.high < 0.1
    wrong = calibration_limits((rng.random(500) > p - 0.3).astype(int), proba)
    assert 0.2 < wrong.low < 0.3 < wrong.high < 0.4


def test_limits_are_wider_for_clusters():
    rng = np.random.default_rng(6)
    proba = np.repeat([[0.7, 0.3]], 120, axis=0)
    truth = np.repeat(rng.integers(2, size=12), 10)
    group = np.repeat(np.arange(12), 10)
    rows, clusters = calibration_limits(truth, proba), calibration_limits(truth, proba, clusters=group)
    assert clusters.high - clusters.low > 1.5 * (rows.high - rows.low)
