from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import tiny_models
from acclimate.backbones import quantise as q
from acclimate.backbones.kernels import laid_out
from acclimate.backbones.proof import PACKED
from acclimate.backbones.quantise import full_precision, plain_again, quantise
from acclimate.backbones.text import TextBackbone
from acclimate.errors import UserError
from acclimate.features import extract
from acclimate.run import Run
from acclimate.strategies import Splits, named
from tiny_models import TEXTS, backbone_of

FolderOf = Callable[[str], Path]


def layer_of(d: int, k: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(d, k, bias=bias).requires_grad_(False)


def by_hand(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """One token and one output at a time, in integers."""
    out = torch.zeros(len(x), layer.out_features, dtype=torch.float64)
    for t, token in enumerate(x.double()):
        top = float(token.abs().max())
        steps = [max(-127, min(127, round(float(v) / top * 127.5))) if top else 0 for v in token]
        for i, row in enumerate(layer.weight.double()):
            scale = float(row.abs().max()) / 127
            total = sum(s * round(float(w) / scale) for s, w in zip(steps, row, strict=True))
            out[t, i] = total * scale * top * 2 / 255 + (0 if layer.bias is None else float(layer.bias[i]))
    return out.float()


@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_the_integers(bias: bool) -> None:
    layer = layer_of(6, 5, bias)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor([[1.0], [100.0], [0.01], [0.0]])
    expected = by_hand(layer, x)
    quantise([layer], "made")
    got = layer(x)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    top = x.abs().amax(1, keepdim=True).clamp_min(1e-30)
    emulated = q._emulated(layer, x, top) * top + (0 if layer.bias is None else layer.bias)
    torch.testing.assert_close(emulated, expected, rtol=1e-5, atol=1e-6)


def test_a_token_does_not_depend_on_those_beside_it() -> None:
    layer = layer_of(32, 16)
    quantise([layer], "made")
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(1))
    alone = layer(x[4:5])
    x[0, 3] = 1000.0  # an outlier of another token
    assert torch.equal(layer(x)[4:5], alone)
    assert torch.equal(layer(x.view(3, 3, 32))[1, 1], alone[0])


def test_a_changed_weight_is_read_anew() -> None:
    layer = layer_of(8, 4)
    quantise([layer], "made")
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    before = layer(x)
    layer.load_state_dict({"weight": layer.weight * 2, "bias": layer.bias})
    torch.testing.assert_close(layer(x) - layer.bias, 2 * (before - layer.bias))


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_in_fp32_and_packed_as_before(precision: str, pooling: str, folder_of: FolderOf) -> None:
    plain = backbone_of(folder_of("bert"), pooling=pooling)
    half = backbone_of(folder_of("bert"), pooling=pooling, precision=precision)
    exact, found = extract(plain, TEXTS, Run()), extract(half, TEXTS, Run())
    assert half.packing == PACKED and plain.fingerprint() != half.fingerprint()
    assert found.dtype == np.float32 and half.model.dtype == torch.float32
    assert 1e-6 < np.abs(found - exact).max() / np.abs(exact).max() < (0.02 if precision == "bf16" else 0.002)
    with full_precision():
        torch.testing.assert_close(torch.from_numpy(extract(half, TEXTS, Run())), torch.from_numpy(exact))


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert", "llama"])
def test_features_are_near_and_the_weights_stay(kind: str, folder_of: FolderOf) -> None:
    plain = backbone_of(folder_of(kind))
    small = backbone_of(folder_of(kind), precision="int8")
    exact, got = extract(plain, TEXTS, Run()), extract(small, TEXTS, Run())
    assert small.packing == PACKED
    assert tiny_models.same_state(small, tiny_models.state(plain))
    cosine = (exact * got).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(got, axis=1)
    assert cosine.min() > 0.98 and not np.array_equal(exact, got)
    with full_precision():
        np.testing.assert_allclose(extract(small, TEXTS, Run()), exact, atol=2e-6)
    alone = np.concatenate([extract(small, [t], Run()) for t in TEXTS])
    np.testing.assert_allclose(alone, got, atol=2e-3)  # a last digit may round the other way


def test_layers_outside_the_blocks_stay(folder_of: FolderOf) -> None:
    small = backbone_of(folder_of("bert"), pooling="pooler", precision="int8")
    changed = {n for n, m in small.model.named_modules() if "forward" in vars(m)}
    inside = {n for n, m in small.model.named_modules() if type(m) is nn.Linear and "encoder.layer" in n}
    assert changed == inside and len(inside) == 18
    before = extract(small, TEXTS, Run())
    with laid_out(small.model):  # of the pooler alone
        np.testing.assert_allclose(extract(small, TEXTS, Run()), before, atol=2e-6)
    assert {n for n, m in small.model.named_modules() if "forward" in vars(m)} == changed


def test_the_bundle_keeps_full_weights_and_the_setting(folder_of: FolderOf, tmp_path: Path) -> None:
    small = backbone_of(folder_of("bert"), precision="int8")
    small.save(tmp_path)
    assert json.loads((tmp_path / "acclimate_text.json").read_text())["precision"] == "int8"
    weights = load_file(tmp_path / "model.safetensors")
    assert all(v.dtype == torch.float32 for v in weights.values())
    again = backbone_of(tmp_path)
    assert again.text.precision == "int8"
    assert np.array_equal(extract(again, TEXTS, Run()), extract(small, TEXTS, Run()))
    assert backbone_of(tmp_path, precision="fp32").text.precision == "fp32"


def test_precision_is_part_of_the_fingerprint_and_of_the_settings(folder_of: FolderOf) -> None:
    plain, small = backbone_of(folder_of("bert")), backbone_of(folder_of("bert"), precision="int8")
    assert plain.fingerprint() != small.fingerprint()
    assert small.settings()["precision"] == "int8"
    before = small.fingerprint()
    extract(small, TEXTS, Run())
    assert small.fingerprint() == before


def test_another_precision_is_a_copy(folder_of: FolderOf) -> None:
    plain = backbone_of(folder_of("bert"))
    exact = extract(plain, TEXTS, Run())
    small = plain.with_settings(replace(plain.text, precision="int8"))
    rounded = extract(small, TEXTS, Run())
    assert np.abs(rounded - exact).max() > 1e-4
    assert np.array_equal(extract(plain, TEXTS, Run()), exact)
    back = small.with_settings(plain.text)
    assert np.array_equal(extract(back, TEXTS, Run()), exact)
    assert np.array_equal(extract(small, TEXTS, Run()), rounded)
    assert back.fixed == "" != small.fixed


def test_what_is_read_in_int8_does_not_learn(folder_of: FolderOf) -> None:
    small = backbone_of(folder_of("bert"), precision="int8")
    data = tiny_models.rows(16)
    problem = tiny_models.problem_of("classify", data, "str", small, Run())
    with pytest.raises(UserError, match="'bert' cannot be tuned: its weights are read in int8.*use --precision fp32"):
        named("full", {})[1].fit(problem, Splits(data), Run())
    small.requires_grad_(True)
    with pytest.raises(UserError, match="weights that are read in int8 cannot learn"):
        small(small.collate(small.encode(TEXTS)))


def test_models_without_linear_layers_and_other_names_are_refused(folder_of: FolderOf) -> None:
    with pytest.raises(UserError, match="precision 'int8': 'gpt2' has no linear layers in its blocks"):
        backbone_of(folder_of("gpt2"), precision="int8")
    with pytest.raises(UserError, match=r"unknown precision 'int4'.*fp32, bf16, fp16, int8"):
        backbone_of(folder_of("bert"), precision="int4")


def test_taking_it_back_leaves_other_changes_alone(bert: TextBackbone) -> None:
    quantise(bert.blocks, "bert")
    bert.model.embeddings.forward = bert.model.embeddings.forward  # type: ignore[union-attr, method-assign]
    plain_again(bert.model)
    assert [n for n, m in bert.model.named_modules() if "forward" in vars(m)] == ["embeddings"]
