"""Low-rank adapters (F4): where they go, what is saved, and that merging changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import tiny_models as tm
from acclimate import backbones, model
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Splits, adapters, named
from acclimate.tasks.base import Network

RUN = Run()
FEW = {"num_train_epochs": 2, "learning_rate": 5e-3}


def fit(backbone: Any, **settings: Any) -> Any:
    data = tm.rows(24)
    _, strategy = named("lora", {**FEW, **settings})
    return strategy.fit(tm.problem_of("classify", data, "str", backbone, RUN), Splits(data), RUN)


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("which", ["blocks", "attention", "all-linear"])
def test_every_linear_layer_of_the_blocks_gets_an_adapter(
    kind: str, which: str, folder_of: Callable[[str], Path]
) -> None:
    backbone = backbones.load(str(folder_of(kind)))
    names = adapters.targets(backbone, which)
    layers = {
        n: m for n, m in backbone.model.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"
    }
    inside = {id(m) for block in backbone.blocks or [backbone.model] for m in block.modules()}
    blocks = {n for n, m in layers.items() if id(m) in inside}
    expected = {"blocks": blocks, "all-linear": set(layers)}.get(which)
    if expected is None:
        a_block = {"bert": 3, "roberta": 3, "albert": 3, "distilbert": 3, "gpt2": 1, "llama": 3}[kind]
        assert len(names) == a_block * max(1, len(backbone.blocks))
        assert set(names) < blocks
    else:
        assert set(names) == expected
    assert not any("head" in n or "classifier" in n or "score" in n for n in names)


@pytest.mark.parametrize("kind", ["bert", "albert", "gpt2", "llama"])
def test_only_adapters_and_head_move(kind: str, folder_of: Callable[[str], Path]) -> None:
    backbone = backbones.load(str(folder_of(kind)))
    before = tm.state(backbone)
    fitted = fit(backbone)
    assert tm.same_state(backbone, before)
    body = [n for n in fitted.trained if n.startswith("backbone.")]
    assert len(body) == 2 * len(adapters.targets(backbone, "blocks"))
    assert all(".lora_A." in n or ".lora_B." in n for n in body)
    assert [n for n in fitted.trained if n not in body] == ["head.weight", "head.bias"]
    changed = {n for n, v in tm.state(fitted.backbone).items() if not torch.equal(v, before[n])}
    assert changed == {f"model.{n}.weight" for n in adapters.targets(backbone, "blocks")}


def test_merging_changes_no_logit(bert: Any) -> None:
    fitted_head = fit(bert).head
    backbone = bert.clone()
    adapters.add(backbone, "lora", {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}, "blocks")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    network = Network(backbone, fitted_head).eval()
    batch = bert.collate(bert.encode(["good day", "bad river stone table"]))
    with torch.no_grad():
        wrapped = network(batch).logits
        weights, _ = adapters.take(backbone, batch)
        merged = network(batch).logits
        plain = Network(bert, fitted_head)(batch).logits
    assert type(backbone.model) is type(bert.model)
    assert torch.allclose(wrapped, merged, atol=1e-5)
    assert not torch.allclose(plain, merged, atol=1e-2)
    assert len(weights) == 2 * len(adapters.targets(bert, "blocks"))


def test_the_merged_weight_is_w_plus_alpha_over_r_b_a(shared_bert: Any) -> None:
    fitted = fit(shared_bert, lora_rank=4, lora_alpha=12)
    assert fitted.adapter is not None
    for name in adapters.targets(shared_bert, "blocks"):
        a, b = (fitted.adapter[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
        assert a.shape[0] == b.shape[1] == 4
        start = shared_bert.model.get_submodule(name).weight
        end = fitted.backbone.model.get_submodule(name).weight
        assert torch.allclose(end, start + 12 / 4 * b @ a, atol=1e-5)


def test_the_bundle_holds_adapter_head_and_what_was_trained(shared_bert: Any, tmp_path: Path) -> None:
    fitted = fit(shared_bert)
    fitted.save(tmp_path / "m")
    about = json.loads((tmp_path / "m" / "acclimate.json").read_text(encoding="utf-8"))
    assert tuple(about["trained"]) == fitted.trained
    saved = load_file(tmp_path / "m" / "adapter" / "adapter_model.safetensors")
    assert saved.keys() == fitted.adapter.keys()
    assert all(torch.equal(saved[k], fitted.adapter[k]) for k in saved)
    config = json.loads((tmp_path / "m" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (8, 16, "LORA")
    assert config["target_modules"] == adapters.targets(shared_bert, "blocks")
    again = model.load(tmp_path / "m")
    texts = ["good day", "bad river", "table"]
    assert np.array_equal(again.logits(texts), fitted.logits(texts))
    assert float(load_file(tmp_path / "m" / "head.safetensors")["weight"].abs().sum()) > 0


def test_peft_itself_can_read_the_adapter(shared_bert: Any, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    from peft import PeftModel

    fitted = fit(shared_bert)
    fitted.save(tmp_path / "m")
    base = backbones.load(str(folder_of("bert")))
    base.model = PeftModel.from_pretrained(base.model, str(tmp_path / "m" / "adapter")).eval()
    batch = shared_bert.collate(shared_bert.encode(["good day", "bad river"]))
    with torch.no_grad():
        assert torch.allclose(base(batch), fitted.backbone(batch), atol=1e-5)


def test_a_model_without_linear_layers_says_so() -> None:
    class Bare(tm.TinyCnn):
        @property
        def model(self) -> nn.Module:  # type: ignore[override]
            return self.stages

    with pytest.raises(UserError, match="'tiny-cnn' has no linear layer among lora_targets='blocks'; try all-linear"):
        adapters.targets(Bare(), "blocks")


METHODS = ["dora", "ia3", "loha", "lokr:r=2", "oft", "boft", "vera", "hra", "delora:r=4", "fourierft:n_frequency=20"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_of_peft_is_tuned_merged_saved_and_loaded(method: str, shared_bert: Any, tmp_path: Path) -> None:
    """Only what peft added moves, the saved model is plain, and what peft adds lies beside it."""
    before = tm.state(shared_bert)
    fitted = fit(shared_bert, moves=f"peft:{method}")
    assert tm.same_state(shared_bert, before)
    after = tm.state(fitted.backbone)
    assert after.keys() == before.keys() and type(fitted.backbone.model) is type(shared_bert.model)
    inside = {f"model.{name}." for name in adapters.targets(shared_bert, "blocks")}
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert changed and {n for n in changed if not any(n.startswith(i) for i in inside)} == set()
    assert fitted.strategy == method.partition(":")[0]
    fitted.save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"].lower() == {"dora": "lora"}.get(fitted.strategy, fitted.strategy)
    texts = ["good day", "bad river", "table"]
    assert np.array_equal(model.load(tmp_path / "m").logits(texts), fitted.logits(texts))


def test_dora_has_the_columns_of_the_formula(shared_bert: Any) -> None:
    """W' = m (W + α/r B A)/‖W + α/r B A‖, the norm of each row of peft's (outputs, inputs)."""
    fitted = fit(shared_bert, moves="peft:dora", lora_rank=4, lora_alpha=8)
    for name in adapters.targets(shared_bert, "blocks"):
        a, b = (fitted.adapter[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
        lengths = fitted.adapter[f"base_model.model.{name}.lora_magnitude_vector"]
        direction = shared_bert.model.get_submodule(name).weight + 8 / 4 * b @ a
        expected = lengths[:, None] * direction / direction.norm(dim=1, keepdim=True)
        assert torch.allclose(fitted.backbone.model.get_submodule(name).weight, expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "count"), [("bert", 4), ("distilbert", 3), ("llama", 3)])
def test_ia3_scales_keys_values_and_what_leads_out_of_the_wide_layer(
    kind: str, count: int, folder_of: Callable[[str], Path]
) -> None:
    """BERT's attention output is called `dense`, too, but is as wide as its input; llama narrows in `down_proj`."""
    backbone = backbones.load(str(folder_of(kind)))
    found = adapters.config(backbone, "peft:ia3", {}, "blocks")
    names = {name.rsplit(".", 1)[-1] for name in found.target_modules}
    assert len(found.target_modules) == 3 * len(backbone.blocks)
    assert len(found.feedforward_modules) == len(backbone.blocks)
    assert names == {
        "bert": {"key", "value", "dense"}, "distilbert": {"k_lin", "v_lin", "lin2"},
        "llama": {"k_proj", "v_proj", "down_proj"},
    }[kind]  # fmt: skip


def test_ia3_of_gpt2_is_by_the_table_of_peft(folder_of: Callable[[str], Path]) -> None:
    fitted = fit(backbones.load(str(folder_of("gpt2"))), moves="peft:ia3")
    assert {n.split(".ia3_l")[0].rsplit(".", 1)[-1] for n in fitted.trained if "ia3_l" in n} == {"c_attn", "c_proj"}


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ("peft:lorra", "unknown method of peft 'lorra'; did you mean 'lora'?"),
        ("peft:loha:rank=3", "unknown setting of loha 'rank'"),
        ("peft:loha:r=0", "does not fit 'tiny-bert': `r` should be a positive integer"),
        ("peft:road", "does not fit 'tiny-bert': "),
    ],
)
def test_what_peft_cannot_do_is_said_before_training(moves: str, said: str, shared_bert: Any) -> None:
    with pytest.raises(UserError) as error:
        fit(shared_bert, moves=moves)
    assert said in str(error.value)


@pytest.mark.parametrize("method", sorted(adapters.REFUSED))
def test_every_method_that_is_refused_has_its_reason(method: str) -> None:
    with pytest.raises(UserError, match=f"moves='peft:{method}' cannot be done: .*; use lora, peft:dora or peft:ia3"):
        named("lora", {"moves": f"peft:{method}"})


def test_a_merge_that_changes_answers_is_no_model(bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters.add(bert, "peft:loha", {}, "blocks")
    merge = type(bert.model).__getattr__

    def wrong(self: Any, name: str) -> Any:
        if name != "merge_and_unload":
            return merge(self, name)

        def spoilt() -> Any:
            plain = self.base_model.merge_and_unload()
            plain.embeddings.word_embeddings.weight.mul_(1.1)
            return plain

        return spoilt

    monkeypatch.setattr(type(bert.model), "__getattr__", wrong)
    with pytest.raises(UserError, match=r"merging the adapters \(.*LOHA\) changed the features by .*; use lora"):
        adapters.take(bert, bert.collate(bert.encode(["good day", "bad river"])))
