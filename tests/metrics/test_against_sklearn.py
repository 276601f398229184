"""Every metric against scikit-learn or SciPy, with and without row weights, and against itself on many weights at
once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from acclimate.metrics import classification, multilabel, regression
from acclimate.metrics.tables import METRICS


def three_classes(n: int = 60, k: int = 3):
    rng = np.random.default_rng(0)
    truth = rng.integers(k, size=n)
    z = rng.normal(size=(n, k)).round(1) + (truth[:, None] == np.arange(k))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return truth, p, p.argmax(axis=1), rng.integers(1, 5, size=n).astype(float)


LABELS = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "macro_f1": lambda t, p, sample_weight: sk.f1_score(t, p, average="macro", sample_weight=sample_weight),
    "weighted_f1": lambda t, p, sample_weight: sk.f1_score(t, p, average="weighted", sample_weight=sample_weight),
    "mcc": sk.matthews_corrcoef,
    "quadratic_kappa": lambda t, p, sample_weight: sk.cohen_kappa_score(
        t, p, weights="quadratic", sample_weight=sample_weight
    ),
}
PROBA = {
    "log_loss": sk.log_loss,
    "roc_auc": lambda t, p, sample_weight: sk.roc_auc_score(
        t, p if p.shape[1] > 2 else p[:, 1], multi_class="ovr", average="macro", sample_weight=sample_weight
    ),
    "average_precision": lambda t, p, sample_weight: np.mean(
        [
            sk.average_precision_score(t == c, p[:, c], sample_weight=sample_weight)
            for c in (range(p.shape[1]) if p.shape[1] > 2 else [1])
        ]
    ),
}
VALUES = {
    "mae": sk.mean_absolute_error,
    "rmse": sk.root_mean_squared_error,
    "r2": sk.r2_score,
}
CELLS = {
    "macro_f1": lambda t, p, sample_weight: sk.f1_score(t, p, average="macro", sample_weight=sample_weight),
    "micro_f1": lambda t, p, sample_weight: sk.f1_score(t, p, average="micro", sample_weight=sample_weight),
    "subset_accuracy": sk.accuracy_score,
    "hamming": sk.hamming_loss,
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LABELS)
def test_label_metrics(name: str, weighted: bool):
    truth, _, predicted, w = three_classes()
    expected = LABELS[name](truth, predicted, sample_weight=w if weighted else None)
    assert classification.METRICS[name](truth, predicted, w if weighted else None) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", PROBA)
def test_probability_metrics(name: str, weighted: bool, k: int):
    truth, p, _, w = three_classes(k=k)
    expected = PROBA[name](truth, p, sample_weight=w if weighted else None)
    assert classification.METRICS[name](truth, p, w if weighted else None) == pytest.approx(expected, abs=1e-12)


def test_brier_for_two_classes_and_for_more():
    truth, p, _, w = three_classes(k=2)
    expected = sk.brier_score_loss(truth, p[:, 1], sample_weight=w)
    assert classification.METRICS["brier"](truth, p, w) == pytest.approx(expected)
    truth, p, _, _ = three_classes(k=3)
    expected = ((p - np.eye(3)[truth]) ** 2).sum(axis=1).mean()
    assert classification.METRICS["brier"](truth, p) == pytest.approx(expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_number_metrics(name: str, weighted: bool):
    rng = np.random.default_rng(1)
    y, w = rng.normal(5, 2, size=40), rng.random(40)
    predicted = y + rng.normal(size=40)
    expected = VALUES[name](y, predicted, sample_weight=w if weighted else None)
    assert regression.METRICS[name](y, predicted, w if weighted else None) == pytest.approx(expected, abs=1e-10)


def test_spearman_with_ties_and_with_repeated_rows():
    rng = np.random.default_rng(2)
    y = rng.integers(6, size=30).astype(float)
    predicted = y + rng.integers(6, size=30)
    assert regression.METRICS["spearman"](y, predicted) == pytest.approx(stats.spearmanr(y, predicted).statistic)
    times = rng.integers(0, 4, size=30)
    expected = stats.spearmanr(np.repeat(y, times), np.repeat(predicted, times)).statistic
    assert regression.METRICS["spearman"](y, predicted, times.astype(float)) == pytest.approx(expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_multilabel_metrics(name: str, weighted: bool):
    rng = np.random.default_rng(3)
    truth, predicted, w = (
        (rng.random((50, 4)) < 0.4).astype(int),
        (rng.random((50, 4)) < 0.4).astype(int),
        rng.random(50),
    )
    expected = CELLS[name](truth, predicted, sample_weight=w if weighted else None)
    assert multilabel.METRICS[name](truth, predicted, w if weighted else None) == pytest.approx(expected)


def test_multilabel_ranking_and_silence():
    rng = np.random.default_rng(4)
    truth, p = (rng.random((50, 4)) < 0.4).astype(int), rng.random((50, 4))
    expected = sk.average_precision_score(truth, p, average="macro")
    assert multilabel.METRICS["mean_average_precision"](truth, p) == pytest.approx(expected)
    predicted = np.array([[0, 0], [1, 0], [0, 0], [1, 1]])
    assert multilabel.METRICS["empty_rate"](predicted, predicted) == 0.5


@pytest.mark.parametrize("task", METRICS)
def test_many_weights_at_once_equal_each_alone(task: str):
    rng = np.random.default_rng(5)
    n = 40
    if task == "regress":
        truth = rng.normal(size=n)
        given = {"values": truth + rng.normal(size=n)}
    elif task == "multilabel":
        truth = (rng.random((n, 3)) < 0.5).astype(int)
        given = {"labels": (rng.random((n, 3)) < 0.5).astype(int), "proba": rng.random((n, 3))}
    else:
        truth, p, predicted, _ = three_classes(n)
        given = {"labels": predicted, "proba": p}
    weights = rng.integers(0, 3, size=(7, n)).astype(float)
    for name, metric in METRICS[task].items():
        together = metric.at(truth, given[metric.needs])(weights)
        alone = [metric(truth, given[metric.needs], w) for w in weights]
        assert together.tolist() == pytest.approx(alone, abs=1e-12), name


def test_a_weight_of_two_is_the_row_twice():
    truth, p, predicted, _ = three_classes(30)
    times = np.random.default_rng(6).integers(1, 4, size=30)
    for name, metric in classification.METRICS.items():
        if name == "calibration_error":  # its bins are those of the rows given
            continue
        given = predicted if metric.needs == "labels" else p
        expected = metric(np.repeat(truth, times), np.repeat(given, times, axis=0))
        assert metric(truth, given, times.astype(float)) == pytest.approx(expected, abs=1e-12), name
