"""Trees as arrays: against a walk down each tree, row by row, and against the library that learned them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from acclimate.tasks import TASKS
from acclimate.tasks.trees import TreesHead
from acclimate.train.boost import Growth, Rows, boosted

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 5)).round(1)  # ties at thresholds
X[RNG.random(X.shape) < 0.2] = np.nan
X[:, 4] = np.nan  # nothing to learn from
NEW = np.vstack([X[:30], [[np.nan] * 5, [9, -9, 0, 0, 1], [-9, 9, np.inf, -np.inf, 0]]])
GROWTH = Growth(rounds=12, leaves=6, learning_rate=0.1, least=5, penalty=1.0, share=0.5, seed=3, most=1000)
SIGNAL = np.nan_to_num(X[:, 0]) - np.isnan(X[:, 1]) + 0.5 * np.nan_to_num(X[:, 2])


def fitted(task: str, classes: int = 2) -> tuple[Any, TreesHead]:
    targets: Any = SIGNAL
    if task == "classify":
        targets = np.digitize(SIGNAL, np.quantile(SIGNAL, np.linspace(0, 1, classes + 1)[1:-1]))
    elif task == "multilabel":
        targets = np.stack([SIGNAL > 0, X[:, 2] > 0, np.ones(len(X))], 1).astype(float)
    ensemble = boosted(Rows(X, targets, np.ones(len(X))), TASKS[task], GROWTH)
    return ensemble, ensemble.head(5, 1 if task == "regress" else 3 if task == "multilabel" else classes, X)


def walked(head: TreesHead, row: Any) -> list[float]:
    """The scores of one row, step by step."""
    scores = head.base.tolist()
    for at, score in zip(head.root.tolist(), head.score.tolist(), strict=True):
        while int(head.left[at]) != at:
            cell = float(row[int(head.feature[at])])
            left = bool(head.missing_left[at]) if math.isnan(cell) else cell <= float(head.threshold[at])
            at = int(head.left[at]) if left else int(head.right[at])
        scores[score] += float(head.value[at])
    return scores


@pytest.mark.parametrize(("task", "classes"), [("classify", 2), ("classify", 3), ("regress", 1), ("multilabel", 3)])
def test_scores_are_those_of_a_walk_and_of_the_library(task: str, classes: int) -> None:
    ensemble, head = fitted(task, classes)
    found = head.scores(torch.from_numpy(NEW))
    np.testing.assert_allclose(found, [walked(head, row) for row in NEW], rtol=1e-12, atol=1e-12)
    *_, expected = ensemble.staged(NEW)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_logits_of_two_and_three_classes_are_the_librarys_probabilities() -> None:
    for classes in (2, 3):
        ensemble, head = fitted("classify", classes)
        p = torch.softmax(head(torch.from_numpy(NEW)), 1)
        np.testing.assert_allclose(p, ensemble.models[0].predict_proba(ensemble.bins(NEW)), atol=1e-9)


def test_a_class_that_no_row_had_is_unlikely_and_a_single_one_certain() -> None:
    targets = np.where(SIGNAL > 0, 2, 0)
    head = boosted(Rows(X, targets, np.ones(len(X))), TASKS["classify"], GROWTH).head(5, 3, X)
    logits = head(torch.from_numpy(NEW))
    assert logits[:, 1].tolist() == [math.log(0.5 / len(X))] * len(NEW)
    alone = boosted(Rows(X, np.zeros(len(X), int), np.ones(len(X))), TASKS["classify"], GROWTH).head(5, 2, X)
    assert alone(torch.from_numpy(NEW))[:, 0].tolist() == [0.0] * len(NEW)
    assert alone(torch.from_numpy(NEW[:0])).shape == (0, 2)


def test_a_label_that_all_rows_have_is_its_smoothed_share() -> None:
    _, head = fitted("multilabel", 3)
    share = (len(X) + 0.5) / (len(X) + 1)
    assert float(head(torch.from_numpy(NEW))[0, 2]) == pytest.approx(math.log(share / (1 - share)))


def test_losses_are_those_of_every_round() -> None:
    ensemble, _ = fitted("classify")
    rows = Rows(X[:40], (SIGNAL[:40] > 0).astype(int), np.linspace(0.5, 1.5, 40))
    found = ensemble.losses(rows, TASKS["classify"], 2)
    for round_, p in enumerate(ensemble.models[0].staged_predict_proba(ensemble.bins(rows.features))):
        expected = sum(-w * math.log(p[i, y]) for i, (w, y) in enumerate(zip(rows.weights, rows.targets, strict=True)))
        assert found[round_] == pytest.approx(expected)
    assert len(found) == GROWTH.rounds


def test_a_weight_of_two_is_a_row_twice() -> None:
    targets = (SIGNAL > 0).astype(int)
    growth = Growth(5, 4, 0.1, 1, 0.0, 1.0, 0, 1000)
    weighted = boosted(Rows(X, targets, np.where(np.arange(len(X)) < 40, 2.0, 1.0)), TASKS["classify"], growth)
    at = [*range(len(X)), *range(40)]
    twice = boosted(Rows(X[at], targets[at], np.ones(len(at))), TASKS["classify"], growth)
    rows = torch.from_numpy(NEW)
    np.testing.assert_allclose(weighted.head(5, 2, X).scores(rows), twice.head(5, 2, X).scores(rows), rtol=1e-6)


def test_a_map_comes_before_the_trees() -> None:
    _, head = fitted("regress", 1)
    matrix, offset, fill = RNG.normal(size=(5, 5)), RNG.normal(size=5), RNG.normal(size=5)
    filled = np.where(np.isnan(NEW[:30]), fill, NEW[:30])
    moved = filled @ matrix.T + offset
    rows = torch.from_numpy(NEW[:30])
    first = head.with_move(fill, matrix, offset, keeps_missing=False)
    np.testing.assert_allclose(first(rows), head(torch.from_numpy(moved)))
    kept = head.with_move(fill, matrix, offset, keeps_missing=True)
    gone = np.where(np.isnan(NEW[:30]), np.nan, moved)
    np.testing.assert_allclose(kept(rows), head(torch.from_numpy(gone)))
    assert first.shape == {**head.shape, "moved": True}


def test_the_head_is_made_again_from_its_shape_and_state() -> None:
    _, head = fitted("classify", 3)
    again = TreesHead(**head.shape)  # type: ignore[arg-type]
    again.load_state_dict(head.state_dict())
    rows = torch.from_numpy(NEW)
    assert torch.equal(again(rows), head(rows))
    assert torch.equal(torch.cat([head(row[None]) for row in rows]), head(rows))
