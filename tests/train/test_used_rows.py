"""A table of tokens that holds the rows in use learns what the whole table does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_models as tm
from acclimate.backbones.base import Encoded
from acclimate.run import Run
from acclimate.strategies import Splits
from acclimate.strategies.tune import Tune
from acclimate.train import used_rows
from acclimate.train.used_rows import named_rows

TUNE = Tune(num_train_epochs=2, learning_rate=1e-2, weight_decay=0.1, batch_size=4, max_grad_norm=0.0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the table of a tiny model is worth it, whatever share of it the data name."""
    monkeypatch.setattr(used_rows, "LEAST", 1)
    monkeypatch.setattr(used_rows, "_SHARE", 1.0)


def fit(tune: Tune, backbone: Any, valid: bool = False) -> Any:
    data = tm.rows(12)
    splits = Splits(data, tm.rows(20, seed=1) if valid else None)
    return tune.fit(tm.problem_of("classify", data, "str", backbone, Run()), splits, Run())


def table(backbone: Any) -> Any:
    return backbone.model.get_input_embeddings()


def row(*ids: int) -> Encoded:
    return Encoded(({"input_ids": list(ids)},), len(ids), 0, len(ids))


@pytest.mark.parametrize("valid", [False, True])
def test_the_weights_are_those_that_the_whole_table_learns(
    valid: bool, shared_bert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(TUNE, shared_bert, valid)
    monkeypatch.setattr(used_rows, "LEAST", 1)
    monkeypatch.setattr(used_rows, "_SHARE", 1.0)
    sizes: list[int] = []
    step = Tune.optimizer_of

    def seen(tune: Tune, network: Any, loss: Any = None) -> Any:
        sizes.append(table(network.backbone).weight.shape[0])
        return step(tune, network, loss)

    monkeypatch.setattr(Tune, "optimizer_of", seen)
    few = fit(TUNE, shared_bert, valid)
    data = [*tm.rows(12).inputs, *(tm.rows(20, seed=1).inputs if valid else ())]
    named = sorted({0, *(i for e in shared_bert.encode(data) for part in e.parts for i in part["input_ids"])})
    assert sizes == [len(named) + 1] and sizes[0] < len(tm.TOKENS)
    assert few.history == whole.history and few.trained == whole.trained
    a, b = whole.backbone.state_dict(), few.backbone.state_dict()
    key = next(name for name in a if name.endswith("word_embeddings.weight"))
    others = [i for i in range(len(a[key])) if i not in named]
    assert list(a) == list(b) and others
    assert all(torch.equal(a[name], b[name]) for name in a if name != key)
    assert torch.equal(a[key][named], b[key][named])
    assert torch.allclose(a[key][others], b[key][others], rtol=1e-6, atol=0)
    start = table(shared_bert).weight[others]
    assert not torch.allclose(a[key][others], start, rtol=1e-4)  # decayed, all the same


def test_with_a_limit_on_the_gradient_they_are_the_same_up_to_rounding(
    shared_bert: Any, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune = Tune(num_train_epochs=2, batch_size=4, max_grad_norm=0.1)
    few = fit(tune, shared_bert).backbone.state_dict()
    monkeypatch.setattr(used_rows, "LEAST", 2**20)
    whole = fit(tune, shared_bert).backbone.state_dict()
    assert all(torch.allclose(whole[name], few[name], rtol=0, atol=1e-6) for name in whole)


def test_only_the_named_rows_are_there_and_afterwards_all_are(bert: Any, small: None) -> None:
    bert.requires_grad_(True)
    before, weight = table(bert).weight.detach().clone(), table(bert).weight
    with named_rows(bert, [row(5, 9), row(7)], decays=False):
        assert table(bert).weight.shape == (5, 32)  # 0 for padding, 5, 7, 9, and the row that keeps the decay
        assert torch.equal(table(bert)(torch.tensor([[9, 5, 0]])), before[[9, 5, 0]][None])
        with pytest.raises(IndexError):
            table(bert)(torch.tensor([6]))
        with torch.no_grad():
            table(bert).weight[1] += 1
            table(bert).weight[-1] *= 0.5
    assert table(bert).weight is weight and "forward" not in vars(table(bert))
    expected = before * 0.5
    expected[[0, 5, 7, 9]] = before[[0, 5, 7, 9]]
    expected[5] += 1
    assert torch.equal(table(bert).weight, expected)


def test_an_error_puts_the_table_back(bert: Any, small: None) -> None:
    bert.requires_grad_(True)
    before, weight = table(bert).weight.detach().clone(), table(bert).weight
    with pytest.raises(RuntimeError, match="of the run"), named_rows(bert, [row(5)], decays=False):
        raise RuntimeError("of the run")
    assert table(bert).weight is weight and torch.equal(weight, before)


def test_padding_learns_nothing(bert: Any, small: None) -> None:
    bert.requires_grad_(True)
    assert table(bert).padding_idx == 0
    with named_rows(bert, [row(5)], decays=False):
        table(bert)(torch.tensor([0, 5])).sum().backward()
        assert table(bert).weight.grad.abs().sum(1).tolist() == [0, 32, 0]


def test_more_rows_of_data_will_name_more_tokens(bert: Any, small: None) -> None:
    bert.requires_grad_(True)
    with named_rows(bert, [row(5, 9)], decays=False, scale=4.0):
        assert len(table(bert).weight) == int(3 * 4**0.6) + 1
        assert torch.isfinite(table(bert)(torch.tensor([0, 5, 9]))).all()


@pytest.mark.parametrize("case", ["frozen", "decays", "shared", "a forward of its own", "small", "much of it"])
def test_elsewhere_the_table_is_left_alone(case: str, bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(used_rows, "LEAST", 2**20 if case == "small" else 1)
    monkeypatch.setattr(used_rows, "_SHARE", 0.01 if case == "much of it" else 1.0)
    bert.requires_grad_(case != "frozen")
    if case == "shared":
        bert.model.other = torch.nn.Linear(32, len(tm.TOKENS), bias=False)
        bert.model.other.weight = table(bert).weight
    if case == "a forward of its own":
        table(bert).forward = lambda ids: None
    weight = table(bert).weight
    with named_rows(bert, [row(5)], decays=case == "decays"):
        assert table(bert).weight is weight


def test_pictures_have_no_such_table(small: None) -> None:
    with named_rows(tm.TinyCnn().requires_grad_(True), [], decays=False):
        pass
