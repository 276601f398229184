"""What must hold of every metric of every task, those added later included."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from acclimate.metrics.tables import METRICS, Answers, value_of

CASES = [(task, name) for task, metrics in METRICS.items() for name in metrics]


def draw(task: str, n: int = 90, k: int = 3, seed: int = 0) -> Answers:
    """Random truth and answers that are right more often than not."""
    rng = np.random.default_rng(seed)
    if task == "regress":
        truth = rng.normal(size=n).round(1)
        given = (truth + rng.normal(size=n)).round(1)
        return Answers(task, truth, given, given)
    if task == "multilabel":
        flags = (rng.random((n, k)) < 0.4).astype(np.int64)
        p = (1 / (1 + np.exp(-(rng.normal(size=(n, k)) + 2 * flags - 1)))).round(2)
        return Answers(task, flags, p, (p > 0.5).astype(np.int64))
    codes = rng.integers(k, size=n)
    z = rng.normal(size=(n, k)).round(1) + (codes[:, None] == np.arange(k))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return Answers(task, codes, p, p.argmax(axis=1))


@pytest.mark.parametrize(("task", "name"), [case for case in CASES if case[1] != "calibration_error"])  # bins differ
def test_whole_weights_are_repeated_rows(task: str, name: str) -> None:
    answers = draw(task)
    times = np.random.default_rng(1).integers(0, 3, size=len(answers))
    repeated = answers.take(np.repeat(np.arange(len(answers)), times))
    weighted = Answers(task, answers.truth, answers.outputs, answers.predicted, times.astype(float))
    assert value_of(weighted, name) == pytest.approx(value_of(repeated, name), abs=1e-12)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_order_of_rows_and_the_scale_of_weights_do_not_matter(task: str, name: str) -> None:
    answers = draw(task)
    shuffled = answers.take(np.random.default_rng(2).permutation(len(answers)))
    heavier = Answers(task, answers.truth, answers.outputs, answers.predicted, np.full(len(answers), 7.0))
    assert value_of(shuffled, name) == pytest.approx(value_of(answers, name), abs=1e-12)
    assert value_of(heavier, name) == pytest.approx(value_of(answers, name), abs=1e-12)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_right_answers_are_the_best_there_are(task: str, name: str) -> None:
    answers = draw(task)
    truth = answers.truth
    sure = truth.astype(float) if task in ("regress", "multilabel") else np.eye(3)[truth]
    best = value_of(Answers(task, truth, sure, truth), name)
    if name == "empty_rate":
        assert best == pytest.approx((truth.sum(axis=1) == 0).mean())
        return
    assert best == pytest.approx(1.0 if METRICS[task][name].greater_is_better else 0.0, abs=1e-12)
    assert (value_of(answers, name) < best) is METRICS[task][name].greater_is_better


@pytest.mark.parametrize(("task", "name"), CASES)
def test_one_row_and_constants_give_a_number_or_nan_and_no_warning(task: str, name: str) -> None:
    one = draw(task, n=1)
    still = draw(task).take(np.zeros(6, dtype=np.int64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for answers in (one, still):
            found: Any = value_of(answers, name)
            assert isinstance(found, float) and not np.isinf(found)
        assert np.isnan(value_of(one.take(np.array([], dtype=np.int64)), name))
