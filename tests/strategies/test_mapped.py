"""Adapting on frozen features: what every method promises, the objective, quotas, and maps taken into the head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import model as bundles
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.shallow.base import SOURCE, TARGET
from acclimate.strategies import ADAPTATIONS, Problem, Splits, named
from acclimate.strategies.mapped import Mapped, SelfTrain, map_of, pseudo_labels, take_in
from acclimate.strategies.probe import Probe
from acclimate.tasks import TASKS
from acclimate.tasks.heads import LinearHead, OrdinalHead
from acclimate.train.solve import Scaling

RUN = Run()


@pytest.fixture
def given(shared_bert: Any) -> tuple[Problem, Data, Data]:
    source, target = tm.rows(40), tm.rows(30, seed=1)
    problem = tm.problem_of("classify", source, "str", shared_bert.clone().requires_grad_(False), RUN)
    return problem, source, replace(target, inputs=tuple(f"river {text}" for text in target.inputs))


@pytest.mark.parametrize("name", [n for n, s in ADAPTATIONS.items() if isinstance(s, (Mapped, SelfTrain))])
class TestEveryAdaptation:
    def test_labels_of_the_target_are_never_read(self, name: str, given: Any) -> None:
        problem, source, target = given
        turned = replace(target, labels=target.labels[::-1])
        found = [
            ADAPTATIONS[name].fit(problem, Splits(source, target=t), RUN).logits(list(target.inputs))
            for t in (target, turned, replace(target, labels=None))
        ]
        assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])

    def test_the_order_of_target_rows_does_not_matter(self, name: str, given: Any) -> None:
        problem, source, target = given
        found = [
            ADAPTATIONS[name].fit(problem, Splits(source, target=t), RUN).logits(list(target.inputs))
            for t in (target, target.take(np.random.default_rng(0).permutation(len(target))))
        ]
        np.testing.assert_allclose(found[0], found[1], atol=1e-4)

    def test_it_uses_the_target_and_leaves_the_backbone(self, name: str, given: Any) -> None:
        problem, source, target = given
        before = tm.state(problem.backbone)
        fitted = ADAPTATIONS[name].fit(problem, Splits(source, target=target), RUN)
        assert tm.same_state(problem.backbone, before)
        plain = Probe().fit(problem, Splits(source), RUN)
        assert not np.allclose(fitted.logits(list(target.inputs)), plain.logits(list(target.inputs)), atol=1e-3)

    def test_the_bundle_predicts_the_same_and_says_what_it_is(self, name: str, given: Any, tmp_path: Path) -> None:
        problem, source, target = given
        fitted = ADAPTATIONS[name].fit(problem, Splits(source, target=target), RUN)
        again = bundles.load(fitted.save(tmp_path / "model"))
        assert np.array_equal(again.logits(list(target.inputs)), fitted.logits(list(target.inputs)))
        assert again.strategy == name
        assert named(name, {k: v for k, v in fitted.settings.items() if v is not None})[0] == name

    def test_without_target_rows_it_says_what_to_give(self, name: str, given: Any) -> None:
        problem, source, _ = given
        with pytest.raises(UserError, match="give them with --target-data"):
            ADAPTATIONS[name].fit(problem, Splits(source), RUN)

    def test_a_handful_of_rows_is_enough_or_refused_by_name(self, name: str, given: Any) -> None:
        problem, source, target = given
        for n in (2, 3):
            fitted = ADAPTATIONS[name].fit(problem, Splits(source, target=target.take(range(n))), RUN)
            assert np.isfinite(fitted.logits(list(target.inputs))).all()
        with pytest.raises(UserError):
            ADAPTATIONS[name].fit(problem, Splits(source, target=target.take([0])), RUN)


@pytest.mark.parametrize("head", [LinearHead(5, 3), OrdinalHead(5, 3)])
@pytest.mark.parametrize("by", ["standardise", "coral", "linear_ot", "subspace", "gfk"])
def test_a_map_is_taken_into_the_head(by: str, head: Any) -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(30, 5)), 3 * rng.normal(size=(40, 5)) + 1
    move = map_of(by, source, target)
    assert move is not None
    width = move.transform(target, domain=TARGET).shape[1]
    made = type(head)(width, 3).double()
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(rng.normal(size=made.weight.shape)))
    with torch.inference_mode():
        expected = made(torch.from_numpy(move.transform(target, domain=TARGET)))
    take_in(move, made, 5)
    with torch.inference_mode():
        torch.testing.assert_close(made(torch.from_numpy(target)), expected)
    assert made.shape["width"] == 5


def test_standardising_undoes_a_change_of_offset_and_scale(given: Any) -> None:
    problem, source, _ = given
    store = problem.network()[1]
    features = store.get(source.inputs)
    move = map_of("standardise", features, 7 * features + 2)
    assert move is not None
    ours, theirs = move.transform(features, domain=SOURCE), move.transform(7 * features + 2, domain=TARGET)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_no_weight_on_the_target_is_the_mapped_probe_to_the_bit(given: Any) -> None:
    problem, source, target = given
    splits = Splits(source, target=target)
    one = SelfTrain(weight=0.0).fit(problem, splits, RUN)
    other = Mapped().fit(problem, splits, RUN)
    assert np.array_equal(one.logits(list(target.inputs)), other.logits(list(target.inputs)))


def test_pseudo_labels_keep_the_quotas_and_take_the_surest() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 3)) + [2.0, 0.0, 0.0]
    found = pseudo_labels(logits, np.array([0.2, 0.3, 0.5]), 0.5)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for k, most in ((0, 5), (1, 8), (2, 13)):
        rows = [row for row, label in found.items() if label == k]
        assert 0 < len(rows) <= most
        assert set(rows) <= set(np.argsort(-p[:, k])[:most].tolist())


def test_self_training_needs_classes(shared_bert: Any) -> None:
    data, _ = tm.task_rows("regress", 40)
    problem = tm.problem_of("regress", data, "float", shared_bert.clone().requires_grad_(False), RUN)
    with pytest.raises(UserError, match="the task is regress"):
        SelfTrain().fit(problem, Splits(data, target=data), RUN)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"share": 0.0}, "share=0.0"),
        ({"weight": -1.0}, "λ"),
        ({"weight": float("inf")}, "λ"),
        ({"by": "tca"}, "by"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SelfTrain(**settings)


class _Table:
    """Rows of numbers that are their own features."""

    modality, width, groups = "table", 3, ()

    def __init__(self) -> None:
        self.backbone = self

    def prepare(self, rows: int) -> int:
        return rows

    def get(self, inputs: Any) -> Any:
        return np.array(inputs, np.float32).reshape(-1, 3)


@pytest.mark.parametrize("by", ["coral", "linear_ot"])
def test_a_column_that_does_not_vary_in_the_source_is_not_blown_up_in_the_target(by: str) -> None:
    """A mark (of a value that is missing, say) that one target row in five has and no source row: all that the moved
    source has in its column is a faint copy of the others. Blown up, it outweighs them, and half of the rows are
    wrong."""
    rng = np.random.default_rng(0)
    table: Any = _Table()
    task = TASKS["classify"]
    problem = Problem(task, task.decoder((0, 1), "int"), table, table)
    sides = []
    for n, shift in ((200, 0.0), (300, 1.0)):
        labels = np.arange(n) % 2
        x = np.stack([rng.normal(2.0 * labels + shift, 1.0), rng.normal(size=n), np.zeros(n)], 1)
        x[:: 5 if shift else n, 2] = float(shift)
        sides.append(Data(tuple(map(tuple, x.round(4).tolist())), tuple(labels.tolist()), clusters=np.arange(n)))
    source, target = sides
    fitted = Mapped(by).fit(problem, Splits(source, target=target), RUN)
    logits = fitted.logits(target.inputs, RUN, table)
    assert (logits.argmax(1) == np.array(target.labels)).mean() > 0.8


def test_columns_are_standardised_by_the_spread_of_both_domains() -> None:
    """σ² is the mean of both variances; the centre stays that of the training rows."""
    ours, theirs = np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[10.0, 4.0], [24.0, 4.0]])
    both = Scaling.of(ours, theirs)
    assert both.mean.tolist() == [1.0, 5.0]
    assert (both.spread / np.sqrt(2)).tolist() == [5.0, 1.0]  # √((1 + 49)/2); one where neither varies
    assert (Scaling.of(ours).spread / np.sqrt(2)).tolist() == [1.0, 1.0]
