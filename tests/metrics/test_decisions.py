"""Thresholds, costs and predictive values: small cases by hand, larger ones by trying every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from acclimate.errors import UserError
from acclimate.metrics.decisions import (
    best_threshold,
    cuts,
    expected_cost,
    least_cost,
    multilabel_thresholds,
    npv,
    ppv,
    predictive_values,
    read_cost,
    threshold_at_sensitivity,
    threshold_at_specificity,
    threshold_for_budget,
    threshold_for_cost,
)

Y = np.array([0, 0, 1, 0, 1, 1])
P = np.array([0.1, 0.3, 0.4, 0.6, 0.8, 0.9])


def drawn(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(np.int64)
    return y, (1 / (1 + np.exp(-(rng.normal(size=n) + 2 * y - 1)))).round(2)  # with ties


def test_cuts_flag_what_they_say() -> None:
    y, p = drawn()
    found = cuts(y, p)
    assert len(found.at) == len(np.unique(p)) + 1
    for at, hits, false in zip(*found, strict=True):
        assert (hits, false) == (((p >= at) & (y == 1)).sum(), ((p >= at) & (y == 0)).sum())


@pytest.mark.parametrize("p", [[0.0, 1.0], [0.5, np.nextafter(0.5, 1)], [1.0, 1.0], [0.0, 0.0], [1e-300, 1 - 1e-16]])
def test_cuts_at_the_ends_and_between_neighbouring_floats(p: list[float]) -> None:
    found = cuts(np.array([0, 1]), np.array(p))
    flagged = [(np.array(p) >= at).sum() for at in found.at]
    assert flagged[0] == 0 and flagged[-1] == 2
    assert flagged == sorted(set(flagged))


@pytest.mark.parametrize("metric", ["f1", "accuracy", "balanced_accuracy", "mcc"])
def test_the_best_threshold_is_not_beaten_by_any_other(metric: str) -> None:
    y, p = drawn()

    def worth(at: float) -> float:
        called = (p >= at).astype(np.int64)
        sensitivity, specificity = called[y == 1].mean(), 1 - called[y == 0].mean()
        return {
            "f1": lambda: float(f1_score(y, called, zero_division=0)),
            "accuracy": lambda: float((called == y).mean()),
            "balanced_accuracy": lambda: float(sensitivity + specificity) / 2,
            "mcc": lambda: float(matthews_corrcoef(y, called)),
        }[metric]()

    best = max(worth(at) for at in np.linspace(0, 1.01, 405))
    assert worth(best_threshold(y, p, metric)) == pytest.approx(best, abs=1e-12)


def test_thresholds_by_hand() -> None:
    assert threshold_at_specificity(Y, P, 2 / 3) == pytest.approx(0.35)  # spares .1 and .3, finds all
    assert threshold_at_specificity(Y, P, 1.0) == pytest.approx(0.7)
    assert threshold_at_specificity(Y, P, 0.0) == pytest.approx(0.05)
    assert threshold_at_sensitivity(Y, P, 2 / 3) == pytest.approx(0.7)
    assert threshold_at_sensitivity(Y, P, 1.0) == pytest.approx(0.35)
    assert threshold_for_budget(P, 0.5) == pytest.approx(0.5)  # three of six
    assert threshold_for_budget(P, 2) == pytest.approx(0.7)  # two rows
    assert threshold_for_budget(P, 1.0) == pytest.approx(0.05)  # all
    assert best_threshold(Y, P, "accuracy") == pytest.approx(0.35)  # as good as 0.7, and nearer to 0.5


def test_a_specificity_or_budget_is_kept_on_the_rows_it_was_chosen_on() -> None:
    y, p = drawn()
    for wanted in (0.0, 0.5, 0.8, 0.9, 0.95, 1.0):
        at = threshold_at_specificity(y, p, wanted)
        assert (p[y == 0] < at).mean() >= wanted
        lower = p[p < at]
        if len(lower):  # the next lower threshold would break the promise
            assert (p[y == 0] < lower.max()).mean() < wanted
    for share in (0.01, 0.1, 0.5):
        assert (p >= threshold_for_budget(p, share)).mean() <= share


def test_rows_that_tie_are_flagged_together_or_not_at_all() -> None:
    p = np.array([0.9, 0.9, 0.9, 0.1])
    at = threshold_for_budget(p, 2)
    assert (p >= at).sum() == 0


def test_weights_are_repeated_rows() -> None:
    y, p = drawn()
    times = np.random.default_rng(1).integers(0, 3, size=len(y))
    rows = np.repeat(np.arange(len(y)), times)
    w = times.astype(float)

    def flags(at: float) -> list[bool]:
        return (p[rows] >= at).tolist()

    assert flags(best_threshold(y, p, weights=w)) == flags(best_threshold(y[rows], p[rows]))
    assert flags(threshold_at_specificity(y, p, 0.9, w)) == flags(threshold_at_specificity(y[rows], p[rows], 0.9))
    assert flags(threshold_at_sensitivity(y, p, 0.9, w)) == flags(threshold_at_sensitivity(y[rows], p[rows], 0.9))
    assert flags(threshold_for_budget(p, 0.2, w)) == flags(threshold_for_budget(p[rows], 0.2))


@pytest.mark.parametrize("y", [[0, 0], [1, 1]])
def test_one_class_has_no_threshold(y: list[int]) -> None:
    with pytest.raises(UserError, match="rows of both classes"):
        threshold_at_specificity(np.array(y), np.array([0.1, 0.9]), 0.9)
    with pytest.raises(UserError, match="rows of both classes"):
        best_threshold(np.array(y), np.array([0.1, 0.9]))


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(UserError, match=r"specificity must lie between 0 and 1, got 1\.2"):
        threshold_at_specificity(Y, P, 1.2)
    with pytest.raises(UserError, match="alert budget must be above 0.*got 0"):
        threshold_for_budget(P, 0)
    with pytest.raises(UserError, match="there must be rows"):
        threshold_for_budget(np.array([]), 0.1)
    with pytest.raises(UserError, match="did you mean 'f1'"):
        best_threshold(Y, P, "f11")


def test_a_cost_table() -> None:
    names = ["ill", "well"]
    cost = read_cost({"ill": {"well": 10}, "well": {"ill": 2}}, names)
    assert cost.tolist() == [[0, 10], [2, 0]]
    assert read_cost({}, names).tolist() == [[0, 1], [1, 0]]
    assert read_cost({1: {2: 5}}, [1, 2]).tolist() == [[0, 5], [1, 0]]
    with pytest.raises(UserError, match="'wel'.*did you mean 'well'"):
        read_cost({"ill": {"wel": 10}}, names)
    with pytest.raises(UserError, match="must be a number, got 'ten'"):
        read_cost({"ill": {"well": "ten"}}, names)  # type: ignore[dict-item]
    with pytest.raises(UserError, match="'ill' holds 3"):
        read_cost({"ill": 3}, names)  # type: ignore[dict-item]


def test_the_least_cost_is_the_threshold_of_two_classes() -> None:
    p = np.linspace(0.001, 0.999, 500)
    proba = np.stack([1 - p, p], axis=1)
    cost = np.array([[0.0, 1.0], [10.0, 0.0]])  # a miss is ten false alarms
    assert least_cost(proba, cost).tolist() == (p >= threshold_for_cost(cost)).astype(int).tolist()
    assert threshold_for_cost(cost, positive=0) == pytest.approx(10 / 11)
    with pytest.raises(UserError, match="each error must cost more"):
        threshold_for_cost(np.array([[0.0, 0.0], [10.0, 0.0]]))


def test_the_least_cost_of_three_classes_by_hand() -> None:
    cost = np.array([[0.0, 1.0, 8.0], [1.0, 0.0, 1.0], [8.0, 1.0, 0.0]])
    # (0.45, 0.1, 0.45): 0 costs 0.1 + 3.6, 1 costs 0.9, 2 costs 3.7
    assert least_cost(np.array([[0.45, 0.1, 0.45], [0.9, 0.05, 0.05]]), cost).tolist() == [1, 0]


def test_expected_cost_by_hand() -> None:
    cost = np.array([[0.0, 1.0], [10.0, 0.0]])
    truth, predicted = np.array([0, 1, 1, -1]), np.array([1, 0, 1, 1])
    assert expected_cost(truth, predicted, cost) == pytest.approx((1 + 10 + 0 + 10) / 4)
    assert expected_cost(truth, predicted, cost, np.array([1.0, 0.0, 3.0, 0.0])) == pytest.approx(0.25)


def test_calibrated_probabilities_decided_by_cost_cost_least() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(1, 4, size=20_000)
    truth = (rng.random(len(p)) < p).astype(np.int64)
    cost = np.array([[0.0, 1.0], [5.0, 0.0]])
    paid = {at: expected_cost(truth, (p >= at).astype(np.int64), cost) for at in (0.05, 0.1, 1 / 6, 0.3, 0.5)}
    assert min(paid, key=lambda at: paid[at]) == pytest.approx(threshold_for_cost(cost))


def test_bayes_by_counting() -> None:
    # of 1,000 rows 100 are positive; 80 of them and 90 of the others are flagged
    assert ppv(0.8, 0.9, 0.1) == pytest.approx(80 / 170)
    assert npv(0.8, 0.9, 0.1) == pytest.approx(810 / 830)
    assert np.isnan(ppv(0.0, 1.0, 0.1))


def test_predictive_values_at_the_prevalence_of_the_rows_are_the_plain_shares() -> None:
    truth = np.array([1] * 30 + [0] * 70)
    called = np.array([1] * 24 + [0] * 6 + [1] * 7 + [0] * 63)
    found = predictive_values(truth, called, 0.3)
    assert found["ppv"].value == pytest.approx(24 / 31)
    assert found["npv"].value == pytest.approx(63 / 69)
    for e in found.values():
        assert e.low is not None and e.high is not None and e.value is not None
        assert 0 < e.low < e.value < e.high < 1
    assert "0.3, taken as known" in found["ppv"].note


def test_predictive_values_without_an_error() -> None:
    truth = np.array([1] * 20 + [0] * 20)
    found = predictive_values(truth, truth, 0.1)
    assert found["ppv"].value == 1.0 and found["ppv"].high == 1.0
    assert found["ppv"].low is not None and 0.2 < found["ppv"].low < 0.7  # 20 spared of 20 leave room for false alarms
    silent = predictive_values(truth, np.zeros(40, dtype=np.int64), 0.1)
    assert silent["ppv"].value is None and silent["ppv"].note
    assert silent["npv"].value == pytest.approx(0.9)


def test_predictive_values_that_cannot_be_had() -> None:
    found = predictive_values(np.array([1, 1]), np.array([1, 0]), 0.1)
    assert found["ppv"].value is None and "positive and negative rows" in found["ppv"].note
    with pytest.raises(UserError, match="prevalence must lie between 0 and 1, got 1"):
        predictive_values(np.array([0, 1]), np.array([0, 1]), 1)


def test_the_interval_of_a_ppv_holds_its_level() -> None:
    rng = np.random.default_rng(0)
    true, held = ppv(0.8, 0.9, 0.05), 0
    truth = np.array([1] * 50 + [0] * 50)
    for _ in range(400):
        called = (rng.random(100) < np.where(truth == 1, 0.8, 0.1)).astype(np.int64)
        e = predictive_values(truth, called, 0.05)["ppv"]
        held += e.low is not None and e.high is not None and e.low <= true <= e.high
    assert 0.925 <= held / 400 <= 0.98


def rare(n: int, k: int = 40, seed: int = 0, shift: float = -5.0) -> tuple[np.ndarray, np.ndarray]:
    """k labels of about 2 % that a model separates, but with low probabilities, as a model of rare labels does."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, k)) < 0.02).astype(np.int64)
    z = shift + 4 * truth + 0.3 * rng.normal(size=(n, k))
    return truth, 1 / (1 + np.exp(-z))


def test_forty_rare_labels_on_a_separable_set() -> None:  # case F9
    truth, proba = rare(600)
    assert f1_score(truth, proba >= 0.5, average="macro", zero_division=0) < 0.1  # 0.5 is silent
    at = multilabel_thresholds(truth, proba)
    assert (np.abs(at - 0.5) > 0.2).all()
    called = proba >= at
    assert called.any(axis=0)[truth.any(axis=0)].all()
    assert f1_score(truth, called, average="macro", zero_division=0) > 0.99
    new_truth, new_proba = rare(2000, seed=1)
    assert f1_score(new_truth, new_proba >= at, average="macro", zero_division=0) > 0.97
    assert f1_score(new_truth, new_proba >= at, average="micro") > 0.97


def test_no_label_with_a_positive_row_is_silenced() -> None:
    rng = np.random.default_rng(3)
    truth = np.zeros((100, 3), dtype=np.int64)
    truth[:50, 0] = truth[0, 1] = truth[1:3, 2] = 1
    proba = np.stack([rng.uniform(0.6, 1, 100), np.full(100, 0.01), np.full(100, 1e-9)], axis=1)
    proba[50:, 0] -= 0.6
    proba[0, 1], proba[1:3, 2] = 0.03, 3e-9  # likelier than the rest, though far from likely
    called = proba >= multilabel_thresholds(truth, proba)
    assert called[:50, 0].all() and not called[50:, 0].any()
    assert called[0, 1] and called[1:3, 2].all()
    assert called[:, 1].sum() == 1 and called[:, 2].sum() == 2


def test_labels_without_rows_and_no_rows_at_all() -> None:
    truth, proba = rare(200, k=3)
    truth[:, 1] = 0
    at = multilabel_thresholds(truth, proba)
    cells = multilabel_thresholds(truth.reshape(-1, 1), proba.reshape(-1, 1))
    assert at[1] == pytest.approx(cells[0])  # the one that is best for all cells together
    assert multilabel_thresholds(np.zeros((5, 2), dtype=np.int64), np.full((5, 2), 0.1)).tolist() == [0.5, 0.5]
    weightless = multilabel_thresholds(truth, proba, np.where(truth.any(axis=1), 0.0, 1.0))
    assert weightless.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ({"ill": {"well": -5}}, "must not be negative"),
        ({"ill": {"well": 0}, "well": {"ill": 0}}, "every cost in the table is 0"),
    ],
)
def test_costs_that_decide_nothing_are_refused(cost: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_cost(cost, ["ill", "well"])
