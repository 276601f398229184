from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import tiny_models as tm
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import BASELINES, Splits
from acclimate.strategies.base import Constant
from acclimate.strategies.neighbours import NEIGHBOURS, Centroid, Knn

RUN = Run()
KINDS = {"classify": "str", "ordinal": "int", "multilabel": "list", "regress": "float"}


def fit(strategy: Any, backbone: Any, data: Data, task: str = "classify", **more: Any) -> Any:
    problem = tm.problem_of(task, data, KINDS[task], backbone, RUN, **more)
    return strategy.fit(problem, Splits(data), RUN), problem


def test_k_is_the_one_with_the_least_leave_one_out_loss(shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 36)
    chosen, problem = fit(Knn(), shared_bert, data)
    unit = chosen.head.bank.double().numpy()
    codes = problem.targets(data)
    losses = {}
    for k in [k for k in NEIGHBOURS if k < 36]:
        total = 0.0
        for i in range(36):
            near = sorted(((float(unit[i] @ unit[j]), j) for j in range(36) if j != i), reverse=True)[:k]
            mass = np.full(3, 1e-30)
            for s, j in near:
                mass[codes[j]] += np.exp((s - 1) / 0.1)
            total -= np.log((mass[codes[i]] + 0.1 * mass.sum() / 3) / (1.1 * mass.sum()))
        losses[k] = total / 36
    assert chosen.settings == {"k": min(losses, key=losses.__getitem__)}
    assert chosen.head.shape["k"] == chosen.settings["k"]


def test_a_given_k_is_taken_and_trained_rows_answer_themselves(shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 30)
    fitted, _ = fit(Knn(k=1), shared_bert, data)
    decided = fitted.task.decide(fitted.outputs(data.inputs), fitted.decoder)
    assert fitted.task.answers(decided, fitted.decoder) == list(data.labels or ())
    assert fitted.trained == ()
    too_many, _ = fit(Knn(k=100), shared_bert, data)
    assert too_many.settings == {"k": 30} and too_many.notes == ("knn: k = 30 (100 asked, but only 30 rows are there)",)


def test_copies_of_a_row_do_not_choose_k(shared_bert: Any) -> None:
    """With every row given three times, k = 1 would look perfect if each copy could ask the others once a copy."""
    data, _ = tm.task_rows("classify", 20)
    thrice = data.take([i for i in range(20) for _ in range(3)])
    clustered = replace(thrice, clusters=np.repeat(np.arange(20), 3))
    fitted, _ = fit(Knn(), shared_bert, clustered)
    assert fitted.settings["k"] in NEIGHBOURS


def test_a_regression_averages_the_neighbours(shared_bert: Any) -> None:
    data, _ = tm.task_rows("regress", 40)
    fitted, problem = fit(Knn(k=3), shared_bert, data, "regress")
    unit = fitted.head.bank
    query = fitted.head.unit(torch.from_numpy(problem.store.get(["good day", "bad river"])))
    similarity = query @ unit.T
    expected = []
    for row in similarity:
        near = sorted(((float(s), i) for i, s in enumerate(row)), reverse=True)[:3]
        weights = [np.exp((s - 1) / 0.1) for s, _ in near]
        values = [float(data.labels[i]) for _, i in near]  # type: ignore[index, arg-type]
        expected.append(np.average(values, weights=weights))
    assert fitted.outputs(["good day", "bad river"]).tolist() == pytest.approx(expected, abs=1e-3)


def test_rows_of_weight_zero_are_not_in_the_bank(shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 30)
    weights = np.r_[np.zeros(12), np.ones(18)]
    for strategy in (Knn(), Centroid(), Constant()):
        a, _ = fit(strategy, shared_bert, replace(data, weights=weights))
        b, _ = fit(strategy, shared_bert, data.take(range(12, 30)))
        assert np.array_equal(a.logits(data.inputs), b.logits(data.inputs))
        assert np.isfinite(a.logits(data.inputs)).all()


@pytest.mark.parametrize("task", ["classify", "ordinal", "multilabel"])
def test_centroids_and_their_scale(task: str, shared_bert: Any) -> None:
    data, _ = tm.task_rows(task, 36)
    data = replace(data, weights=np.linspace(0.5, 1.5, 36))
    fitted, problem = fit(Centroid(), shared_bert, data, task)
    features = torch.from_numpy(problem.store.get(data.inputs)).double()
    unit = F.normalize(features - features.mean(0), dim=1).numpy()
    targets = problem.targets(data)
    hot = targets if task == "multilabel" else np.eye(3)[targets]
    weights = problem.weights(data, targets)
    k = hot.shape[1]

    def unit_of(vector: Any) -> Any:
        length = np.linalg.norm(vector)
        return vector / length if length > 1e-9 else vector * 0

    for c in range(k):
        mean = unit_of(sum(weights[i] * hot[i, c] * unit[i] for i in range(36)))
        assert fitted.head.centroids[c].tolist() == pytest.approx(mean.tolist(), abs=1e-5)
    bias = np.zeros(k)
    if task == "multilabel":
        rate = [(weights @ hot[:, c] + 0.5) / (weights.sum() + 1) for c in range(k)]
        bias = np.log(rate) - np.log1p(-np.array(rate))
        assert fitted.head.bias.tolist() == pytest.approx(bias.tolist(), abs=1e-5)
    # Leave-one-out, a row at a time.
    losses = {}
    for scale in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
        total = 0.0
        for i in range(36):
            z = np.zeros(k)
            for c in range(k):
                others = sum(weights[j] * hot[j, c] * unit[j] for j in range(36) if j != i)
                z[c] = scale * float(unit[i] @ unit_of(others)) + bias[c]
            if task == "multilabel":
                total += float(np.sum(np.logaddexp(0, z) - hot[i] * z))
            else:
                total += float(np.log(np.exp(z).sum()) - z[targets[i]])
        losses[scale] = total
    assert float(fitted.head.scale) == min(losses, key=losses.__getitem__)


def test_a_class_of_one_row_has_a_centroid_but_no_leave_one_out(shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 13)
    data = Data(data.inputs, (*(data.labels or ())[:12], "single"))
    fitted, _ = fit(Centroid(), shared_bert, data)
    assert np.isfinite(fitted.outputs(data.inputs)).all()
    assert fitted.task.answers(
        fitted.task.decide(fitted.outputs(data.inputs[12:]), fitted.decoder), fitted.decoder
    ) == ["single"]


def test_centroids_are_not_for_regression(shared_bert: Any) -> None:
    with pytest.raises(UserError, match="regression has none; use linear_probe or knn"):
        fit(Centroid(), shared_bert, tm.task_rows("regress", 20)[0], "regress")


def test_the_majority_baseline_is_the_class_shares() -> None:
    data = Data(("x",) * 8, ("a",) * 5 + ("b",) * 2 + ("c",))
    fitted, _ = fit(BASELINES["majority"], None, data)
    expected = (np.array([5, 2, 1]) + 0.5) / 9.5
    assert fitted.outputs(["y", "z"]) == pytest.approx(np.tile(expected, (2, 1)), abs=1e-6)
    balanced, _ = fit(BASELINES["majority"], None, data, class_weight="balanced")
    assert np.array_equal(balanced.outputs(["y"]), fitted.outputs(["y"]))
    weighted, _ = fit(
        BASELINES["majority"], None, replace(data, weights=np.r_[np.ones(5), [4.0, 4.0, 1.0]]), class_weight="balanced"
    )
    assert weighted.outputs(["y"])[0].tolist() == pytest.approx((np.array([5, 8, 1]) + 0.5) / 15.5, abs=1e-6)


def test_the_mean_and_the_label_shares_are_baselines_too() -> None:
    values = Data(("x",) * 3, (1.0, 2.0, 6.0))
    fitted, _ = fit(BASELINES["majority"], None, values, "regress")
    assert fitted.outputs(["y"]).tolist() == pytest.approx([3.0])
    labels = Data(("x",) * 4, (("a",), ("a", "b"), (), ("a",)))
    fitted, _ = fit(BASELINES["majority"], None, labels, "multilabel")
    assert fitted.outputs(["y"])[0].tolist() == pytest.approx([3.5 / 5, 1.5 / 5], abs=1e-6)
