from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tiny_models
from acclimate.backbones import kernels, load
from acclimate.backbones import text as text_module
from acclimate.backbones.kernels import laid_out
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


def test_extract_lays_out_when_there_is_enough_to_read(bert: TextBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[nn.Module] = []
    monkeypatch.setattr(text_module, "laid_out", lambda network: entered.append(network) or laid_out(network))
    few = extract(bert, TEXTS, Run())
    assert entered == []
    monkeypatch.setattr(text_module, "_WORTH_IT", 20)
    np.testing.assert_allclose(extract(bert, TEXTS, Run()), few, atol=2e-6)
    assert entered == [bert.model]
