"""How far features went from the pretrained ones."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import tiny_models as tm
from acclimate.run import Run
from acclimate.strategies import Splits
from acclimate.strategies.forgetting import forgetting, linear_cka, mean_cosine
from acclimate.strategies.probe import Probe
from acclimate.strategies.tune import Tune


def slow_cka(x: Any, y: Any) -> float:
    """‖Ȳᵀ X̄‖²/(‖X̄ᵀ X̄‖·‖Ȳᵀ Ȳ‖) by its entries."""
    n = len(x)
    x, y = ([[v - sum(row[j] for row in z) / n for j, v in enumerate(r)] for r in z] for z in (x.tolist(), y.tolist()))

    def squares(a: Any, b: Any) -> float:
        return sum(sum(a[i][j] * b[i][k] for i in range(n)) ** 2 for j in range(len(a[0])) for k in range(len(b[0])))

    return float(squares(x, y) / (squares(x, x) ** 0.5 * squares(y, y) ** 0.5))


@pytest.mark.parametrize(("n", "p", "q"), [(7, 3, 4), (4, 6, 2), (3, 1, 1)])
def test_linear_cka_is_that_of_slow_loops(n: int, p: int, q: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    assert linear_cka(x, y) == pytest.approx(slow_cka(x, y), rel=1e-9)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x), rel=1e-9)
    turned, _ = np.linalg.qr(rng.normal(size=(p, p)))
    assert linear_cka(x, 3 * x @ turned + 5) == pytest.approx(1.0)
    assert np.isnan(linear_cka(x, np.ones((n, q))))


def test_mean_cosine() -> None:
    x = np.array([[1.0, 0], [0, 2], [1, 1], [0, 0]])
    y = np.array([[-1.0, 0], [0, 1], [1, 0], [1, 0]])
    assert mean_cosine(x, y) == pytest.approx((-1 + 1 + 0.5**0.5 + 0) / 4)


def test_what_has_not_moved_has_forgotten_nothing(shared_bert: Any) -> None:
    data = tm.rows(16)
    problem = tm.problem_of("classify", data, "str", shared_bert, Run())
    assert forgetting(problem, shared_bert.clone(), data, 1, Run()) == (
        "features of 16 training rows before and after tuning: linear CKA 1.000, mean cosine 1.000 (1: nothing of the "
        "pretrained encoder was forgotten)"
    )
    assert forgetting(problem, shared_bert, data.take([0, 1]), 1, Run()) == ""
    assert forgetting(problem, shared_bert, data, 1, Run(deadline=time.monotonic() - 1)) == ""


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_where_there_is_a_target_it_is_said_how_the_source_fares(task: str, shared_bert: Any) -> None:
    data, kind = tm.task_rows(task, 24)
    valid = tm.task_rows(task, 40)[0].take(range(24, 40))
    problem = tm.problem_of(task, data, kind, shared_bert, Run())
    tune = Tune(start="probe", num_train_epochs=3, learning_rate=1e-3, align="coral")
    fitted = tune.fit(problem, Splits(data, valid, tm.rows(20, labels=("neutral",), seed=9)), Run())
    found = [note for note in fitted.notes if "source rows held out" in note]
    if task == "regress":
        assert found == []
        return
    right = []
    for one in (Probe().fit(problem, Splits(data), Run()), fitted):
        decided = one.task.decide(one.outputs(valid.inputs), one.decoder)
        answers = one.task.answers(decided, one.decoder)
        right.append(np.mean([a == b for a, b in zip(answers, valid.labels or (), strict=True)]))
    assert found == [
        f"of 16 source rows held out the probe on the frozen encoder answered {right[0]:.3f} rightly, and the tuned "
        f"model answers {right[1]:.3f}"
    ]


def test_every_tuning_says_how_much_was_forgotten_and_more_for_larger_steps(shared_bert: Any) -> None:
    data, found = tm.rows(24), []
    for rate in (1e-5, 3e-2):
        tune = Tune(start="probe", num_train_epochs=4, learning_rate=rate)
        fitted = tune.fit(tm.problem_of("classify", data, "str", shared_bert, Run()), Splits(data), Run())
        said = [note for note in fitted.notes if "linear CKA" in note]
        assert len(said) == 1
        found.append(float(said[0].split("linear CKA ")[1].split(",")[0]))
    assert found[1] < 0.9 < found[0]
