"""Losses, decisions and answers of every task; what is fitted besides weights."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from acclimate.errors import UserError
from acclimate.tasks import TASKS, Decoder
from acclimate.tasks.base import as_tensor, row_weights
from acclimate.tasks.classify import softmax

THREE = Decoder("classify", ("bad", "good", "neutral"))


def test_cross_entropy_is_minus_log_softmax() -> None:
    logits, codes = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 0, 1])
    got = TASKS["classify"].losses(logits, codes)
    for i, y in enumerate(codes.tolist()):
        mass = sum(math.exp(float(z)) for z in logits[i])
        assert float(got[i]) == pytest.approx(-math.log(math.exp(float(logits[i, y])) / mass), abs=1e-5)


def test_ordinal_loss_reads_log_probabilities() -> None:
    log_p = torch.log(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]))
    assert TASKS["ordinal"].losses(log_p, torch.tensor([1, 0])).tolist() == pytest.approx(
        [-math.log(0.5), -math.log(0.1)], abs=1e-6
    )


def test_multilabel_loss_is_a_sum_of_binary_ones() -> None:
    logits, targets = torch.randn(4, 3), torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    got = TASKS["multilabel"].losses(logits, targets)
    for i in range(4):
        expected = 0.0
        for k in range(3):
            p = 1 / (1 + math.exp(-float(logits[i, k])))
            expected -= math.log(p if targets[i, k] else 1 - p)
        assert float(got[i]) == pytest.approx(expected, abs=1e-5)


def test_regression_works_on_the_users_scale() -> None:
    task = TASKS["regress"]
    decoder = task.decoder((10.0, 20.0, 30.0), "float")
    assert (decoder.mean, decoder.scale) == (20.0, pytest.approx(np.std([10, 20, 30])))
    targets = task.targets((10.0, 40.0), decoder)
    assert task.outputs(targets[:, None], decoder).tolist() == pytest.approx([10.0, 40.0])
    assert task.losses(torch.tensor([[0.5]]), torch.tensor([2.0])).tolist() == [2.25]
    assert np.isnan(task.confidence(np.array([1.0]), np.array([1.0]))).all()


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (("neutral", "bad", "good", "bad"), "str", ("bad", "good", "neutral")),
        ((5, 1, 2, 10), "int", (1, 2, 5, 10)),
        (("5", "1", "10"), "str", ("1", "10", "5")),
        ((5.0, 1.0), "float", (1.0, 5.0)),
        ((True, False, True), "bool", (False, True)),
    ],
)
def test_classes_keep_the_type_and_order_of_the_user(labels: tuple, kind: str, classes: tuple) -> None:  # type: ignore[type-arg]
    task = TASKS["classify"]
    decoder = task.decoder(labels, kind)
    assert decoder.classes == classes
    codes = task.targets(labels, decoder)
    answers = task.answers(codes, decoder)
    assert answers == list(labels)
    assert [type(a) for a in answers] == [type(y) for y in labels]


def test_a_class_never_seen_has_code_minus_one() -> None:
    assert TASKS["classify"].targets(("good", "odd", "bad"), THREE).tolist() == [1, -1, 0]
    assert TASKS["multilabel"].targets((("odd",), ("good", "odd")), THREE).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(UserError, match=r"a single class \('a'\); at least two"):
        TASKS["classify"].decoder(("a", "a"), "str")
    with pytest.raises(UserError, match="no row has any label"):
        TASKS["multilabel"].decoder(((), ()), "list")


def test_a_target_without_spread_is_refused() -> None:
    with pytest.raises(UserError, match="every label equals 3: there is nothing to learn"):
        TASKS["regress"].decoder((3.0, 3.0), "float")
    with pytest.raises(UserError, match="infinite values"):
        TASKS["regress"].decoder((3.0, float("inf")), "float")


def test_an_order_is_kept_and_must_be_complete() -> None:
    task = TASKS["ordinal"]
    assert task.decoder(("low", "high", "mid"), "str", ("low", "mid", "high")).classes == ("low", "mid", "high")
    assert task.decoder((3, 1, 2), "int", ("3", "2", "1")).classes == (3, 2, 1)
    with pytest.raises(UserError, match="the class order lacks 'mid'"):
        task.decoder(("low", "high", "mid"), "str", ("low", "high"))
    with pytest.raises(UserError, match="names 'huge', which no row has"):
        TASKS["ordinal"].decoder(("low", "high"), "str", ("low", "high", "huge"))
    with pytest.raises(UserError, match="the class order lacks 'b'"):
        TASKS["multilabel"].decoder((("a", "b"), ("a",)), "list", ("a",))


def test_probabilities_are_softened_by_the_temperature() -> None:
    logits = np.array([[2.0, 0.0, -1.0]])
    hot = TASKS["classify"].outputs(logits, dataclasses.replace(THREE, temperature=2.0))
    assert hot == pytest.approx(softmax(logits / 2))
    wide = TASKS["multilabel"].outputs(np.array([[4.0, -1e6, 1e6]]), dataclasses.replace(THREE, temperature=2.0))
    assert wide[0].tolist() == pytest.approx([1 / (1 + math.exp(-2)), 0.0, 1.0])


def test_softmax_cannot_overflow() -> None:
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]


def test_decisions_by_mode_threshold_and_cost() -> None:
    task, p = TASKS["classify"], np.array([[0.6, 0.4], [0.8, 0.2]])
    two = Decoder("classify", ("no", "yes"))
    assert task.decide(p, two).tolist() == [0, 0]
    assert task.decide(p, dataclasses.replace(two, positive="yes", threshold=0.3)).tolist() == [1, 0]
    assert task.decide(p, dataclasses.replace(two, positive="no", threshold=0.7)).tolist() == [1, 0]
    # Missing a yes costs ten times a false alarm: 0.2 · 10 > 0.8 · 1.
    assert task.decide(p, dataclasses.replace(two, cost=((0.0, 1.0), (10.0, 0.0)))).tolist() == [1, 1]


def test_ordinal_decides_by_the_median() -> None:
    p = np.array([[0.4, 0.15, 0.45], [0.6, 0.2, 0.2], [0.1, 0.2, 0.7]])
    assert TASKS["ordinal"].decide(p, THREE).tolist() == [1, 0, 2]


def test_multilabel_uses_one_threshold_a_class() -> None:
    task, p = TASKS["multilabel"], np.array([[0.3, 0.6, 0.4]])
    assert task.decide(p, THREE).tolist() == [[0, 1, 0]]
    tuned = dataclasses.replace(THREE, thresholds=(0.2, 0.7, 0.4))
    decided = task.decide(p, tuned)
    assert task.answers(decided, tuned) == [("bad", "neutral")]
    assert task.confidence(p, decided).tolist() == pytest.approx([0.3 * 0.4 * 0.4])


@pytest.mark.parametrize(
    "decoder",
    [
        Decoder("classify", (1, 2, 5), "int", temperature=1.5, conformal=(0.1, 0.2)),
        Decoder("classify", (False, True), "bool", positive=True, threshold=0.25),
        Decoder("classify", (1.0, 2.5), "float", cost=((0.0, 1.0), (3.0, 0.0))),
        Decoder("multilabel", ("a", "b"), "list", "|", thresholds=(0.1, 0.9)),
        Decoder("regress", (), "float", mean=3.25, scale=0.1),
        Decoder("ordinal", ("好", "坏"), "str"),
    ],
)
def test_a_decoder_comes_back_from_json_unchanged(decoder: Decoder) -> None:
    again = Decoder.from_json(json.loads(json.dumps(decoder.to_json())))
    assert again == decoder
    assert [type(c) for c in again.classes] == [type(c) for c in decoder.classes]


def test_balanced_weights_give_every_class_the_same_mass() -> None:
    codes = np.array([0, 0, 0, 1, 2, 2])
    weights = row_weights(codes, 3, "balanced", None)
    assert weights.tolist() == pytest.approx([6 / (3 * n) for n in (3, 3, 3, 1, 2, 2)])
    mine = np.array([1.0, 2.0, 3.0, 1.0, 1.0, 4.0])
    both = row_weights(codes, 3, "balanced", mine)
    masses = [both[codes == c].sum() for c in range(3)]
    assert masses == pytest.approx([2.0, 2.0, 2.0])
    assert both[1] / both[0] == pytest.approx(2.0)


def test_named_weights_and_the_users_own_have_mean_one() -> None:
    codes = np.array([0, 1, 1])
    assert row_weights(codes, 2, (3.0, 1.0), None).tolist() == pytest.approx([9 / 5, 3 / 5, 3 / 5])
    assert row_weights(codes, 2, None, np.array([1.0, 2.0, 3.0])).tolist() == pytest.approx([0.5, 1.0, 1.5])
    assert row_weights(codes, 2, None, None).tolist() == [1.0, 1.0, 1.0]


def test_class_weights_for_a_regression_are_refused() -> None:
    with pytest.raises(UserError, match="class_weight speaks of classes, and regression has none"):
        row_weights(np.array([-1.0, 0.0, 1.0]), 1, "balanced", None)


def test_codes_become_whole_numbers_and_values_stay_floats() -> None:
    assert as_tensor(np.array([0, 1]), torch.float32).dtype == torch.long
    assert as_tensor(np.array([0.0, 1.0]), torch.float32).dtype == torch.float32
    assert as_tensor(np.zeros((2, 2)), torch.float64).dtype == torch.float64
