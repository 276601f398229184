"""Classes never seen, classes missing, one class, constant answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from acclimate.metrics import classification, multilabel, regression

METRICS = classification.METRICS


def test_a_row_of_an_unseen_class_is_wrong_in_every_metric():
    truth, predicted = np.array([0, 0, 1, 1, -1, -1]), np.array([0, 0, 1, 1, 0, 1])
    assert METRICS["accuracy"](truth, predicted) == pytest.approx(4 / 6)
    assert METRICS["balanced_accuracy"](truth, predicted) == pytest.approx(2 / 3)  # recalls 1, 1 and 0
    f1 = 2 * 2 / (2 + 3)
    assert METRICS["macro_f1"](truth, predicted) == pytest.approx((f1 + f1 + 0) / 3)
    assert METRICS["weighted_f1"](truth, predicted) == pytest.approx((2 * f1 + 2 * f1 + 0) / 6)
    assert METRICS["mcc"](truth, predicted) < METRICS["mcc"](truth[:4], predicted[:4]) == 1.0


def test_an_unseen_class_and_probabilities():
    truth, proba = np.array([0, 1, -1]), np.array([[0.8, 0.2], [0.5, 0.5], [0.9, 0.1]])
    assert METRICS["log_loss"](truth, proba) == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)
    assert METRICS["brier"](truth, proba) == pytest.approx((0.04 + 0.25 + (0.81 + 0.01 + 1) / 2) / 3)
    assert METRICS["roc_auc"](truth, proba) == 1.0  # the unseen row counts as one of the rest
    assert METRICS["calibration_error"](truth, proba) == pytest.approx(abs(1 / 3 - 2.2 / 3))


def test_macro_f1_counts_classes_that_occur_and_no_others():
    assert METRICS["macro_f1"](np.array([0, 0]), np.array([0, 0])) == 1.0
    assert METRICS["macro_f1"](np.array([0, 0]), np.array([0, 5])) == pytest.approx((2 / 3 + 0) / 2)


def test_one_class_in_truth():
    truth, proba = np.array([1, 1, 1]), np.array([[0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
    assert math.isnan(METRICS["roc_auc"](truth, proba))
    assert METRICS["average_precision"](truth, proba) == 1.0
    assert METRICS["mcc"](truth, np.array([1, 0, 1])) == 0.0
    assert METRICS["balanced_accuracy"](truth, np.array([1, 0, 1])) == pytest.approx(2 / 3)
    assert math.isnan(METRICS["quadratic_kappa"](truth, truth))


def test_constant_answers():
    truth = np.array([0, 1, 2, 1])
    assert METRICS["mcc"](truth, np.zeros(4, dtype=int)) == 0.0
    assert METRICS["quadratic_kappa"](truth, np.zeros(4, dtype=int)) == 0.0
    assert METRICS["roc_auc"](np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]])) == 0.5
    y = np.array([1.0, 2.0, 4.0])
    assert math.isnan(regression.METRICS["spearman"](y, np.ones(3)))
    assert math.isnan(regression.METRICS["r2"](np.full(3, 1e9 + 0.1), y))
    assert regression.METRICS["r2"](y, np.full(3, y.mean())) == pytest.approx(0.0)


def test_a_zero_probability_of_the_truth_costs_a_finite_loss():
    assert METRICS["log_loss"](np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-math.log(1e-15))


def test_labels_that_never_occur_are_left_out_of_the_mean():
    truth, predicted = np.array([[1, 0], [1, 0]]), np.array([[1, 0], [0, 0]])
    assert multilabel.METRICS["macro_f1"](truth, predicted) == pytest.approx(2 / 3)
    assert math.isnan(multilabel.METRICS["micro_f1"](truth * 0, predicted * 0))
    assert math.isnan(multilabel.METRICS["mean_average_precision"](truth * 0, predicted * 0.5))


def test_lengths_that_differ_are_an_error():
    with pytest.raises(ValueError, match="the numbers differ"):
        METRICS["accuracy"](np.array([0, 1]), np.array([0]))


def test_no_rows_is_undefined():
    assert math.isnan(METRICS["accuracy"](np.empty(0, dtype=int), np.empty(0, dtype=int)))


def test_more_than_a_hundred_classes_are_ranked_one_after_the_other():
    rng = np.random.default_rng(0)
    truth = np.arange(303) % 101
    proba = rng.dirichlet(np.ones(101), size=303)
    few = [
        METRICS["roc_auc"](np.where(truth == c, 1, 0), np.stack([1 - proba[:, c], proba[:, c]], axis=1))
        for c in range(101)
    ]
    assert METRICS["roc_auc"](truth, proba) == pytest.approx(np.mean(few))
