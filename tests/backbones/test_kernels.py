from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tiny_models
from acclimate.backbones import kernels, load
from acclimate.backbones import text as text_module
from acclimate.backbones.kernels import drop, laid_out, learning
from acclimate.backbones.text import TextBackbone
from acclimate.features import extract
from acclimate.run import Run

TEXTS = ["good day", "bad river stone, cold and what of it", "我们好", "table", "good table"]
FolderOf = Callable[[str], Path]


def read(backbone: TextBackbone) -> np.ndarray:
    with torch.inference_mode():
        return backbone(backbone.collate(backbone.encode(TEXTS))).numpy()


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("most", [2**28, 0])
def test_features_are_the_same_and_the_network_is_as_it_was(
    kind: str, most: int, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_MOST", most)
    backbone = load(str(folder_of(kind)))
    assert isinstance(backbone, TextBackbone)
    plain, before = read(backbone), tiny_models.state(backbone)
    with laid_out(backbone.model):
        np.testing.assert_allclose(read(backbone), plain, atol=2e-6)
    assert not any("forward" in vars(m) for m in backbone.model.modules())
    assert tiny_models.same_state(backbone, before)
    assert np.array_equal(read(backbone), plain)


def test_every_linear_layer_of_bert_is_laid_out_and_its_gelu_with_it(bert: TextBackbone) -> None:
    linear = sum(type(m) is nn.Linear for m in bert.model.modules())
    with laid_out(bert.model):
        changed = [type(m).__name__ for m in bert.model.modules() if "forward" in vars(m)]
    assert len(changed) == linear
    assert changed.count("BertIntermediate") == 3


def test_weights_that_moved_are_read_anew(bert: TextBackbone) -> None:
    with laid_out(bert.model):
        before = read(bert)
    for parameter in bert.parameters():
        parameter.data.mul_(1.1)  # what a version counter would not notice
    with laid_out(bert.model):
        after = read(bert)
    np.testing.assert_allclose(after, read(bert), atol=2e-6)
    assert np.abs(after - before).max() > 0.01


def test_an_error_inside_leaves_nothing_behind(bert: TextBackbone) -> None:
    with pytest.raises(ZeroDivisionError), laid_out(bert.model), laid_out(bert.model):
        _ = 1 / 0
    assert not any("forward" in vars(m) for m in bert.model.modules())


def test_half_precision_is_left_alone(bert: TextBackbone) -> None:
    with laid_out(bert.model.to(torch.bfloat16)):
        assert not any("forward" in vars(m) for m in bert.model.modules())


@pytest.mark.parametrize("copied", [True, False])
def test_autocast_reads_in_half_precision_as_if_nothing_were_laid_out(bert: TextBackbone, copied: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        plain = read(bert)
        with laid_out(bert.model, copied):
            assert np.array_equal(read(bert), plain)


def test_extract_lays_out_when_there_is_enough_to_read(bert: TextBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[bool] = []

    def noted(network: nn.Module, copied: bool) -> object:
        entered.append(copied)
        return laid_out(network, copied)

    monkeypatch.setattr(text_module, "laid_out", noted)
    few = extract(bert, TEXTS, Run())
    monkeypatch.setattr(text_module, "_WORTH_IT", 20)
    np.testing.assert_allclose(extract(bert, TEXTS, Run()), few, atol=2e-6)
    assert entered == [False, True]


def gradients(backbone: TextBackbone) -> dict[str, torch.Tensor]:
    backbone.zero_grad(set_to_none=True)
    backbone(backbone.collate(backbone.encode(TEXTS))).square().sum().backward()
    return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert", "gpt2", "llama"])
def test_gradients_of_a_network_that_learns_are_the_same(
    kind: str, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_LEAST", 1)
    backbone = load(str(folder_of(kind)))
    assert isinstance(backbone, TextBackbone)
    backbone.requires_grad_(True)
    frozen = next(m for m in backbone.modules() if type(m) is nn.Linear or type(m).__name__ == "Conv1D")
    frozen.requires_grad_(False)
    plain = gradients(backbone)
    with learning(backbone):
        quick = gradients(backbone)
        assert kind == "gpt2" or any("forward" in vars(m) for m in backbone.modules() if type(m) is nn.Linear)
    assert quick.keys() == plain.keys()
    for name, gradient in plain.items():
        assert torch.allclose(quick[name], gradient, atol=1e-6 + 1e-5 * float(gradient.abs().max())), name
    assert not any("forward" in vars(m) for m in backbone.modules())


def test_a_copy_made_while_learning_reads_its_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_LEAST", 1)
    layer, x = nn.Sequential(nn.Linear(3, 2)), torch.ones(1, 3)
    with learning(layer):
        other = copy.deepcopy(layer)
        with torch.no_grad():
            other[0].weight.zero_()
            other[0].bias.zero_()
        assert other(x).abs().sum() == 0 < layer(x).abs().sum()


def test_autocast_decides_the_numbers_of_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_LEAST", 1)
    layer = nn.Linear(3, 2)
    with learning(layer), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, 3)).dtype == torch.bfloat16
    with learning(layer, products=False):
        assert "forward" not in vars(layer)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.001])
def test_dropout_keeps_as_many_as_it_should_and_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1001, requires_grad=True)
    out = drop(x, p)
    dropped = float((out == 0).float().mean())
    assert abs(dropped - p) < 4 * (p * (1 - p) / x.numel()) ** 0.5 + 2**-17
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(1 / (1 - p)))}
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    columns = (out == 0).float().mean(0)  # no place is dropped together with another
    assert float(columns.std()) < 1.2 * (p * (1 - p) / 1000) ** 0.5
    torch.manual_seed(0)
    assert torch.equal(drop(x, p), out)


def test_dropout_of_a_network_is_off_where_it_was_off() -> None:
    network = nn.Sequential(nn.Dropout(0.5))
    x = torch.ones(64)
    with learning(network):
        assert (network(x) == 0).any()
        assert torch.equal(network.eval()(x), x)
    assert "forward" not in vars(network[0])
