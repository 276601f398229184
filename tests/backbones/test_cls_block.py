from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny_models
from acclimate.backbones.cls_block import first_tokens
from acclimate.backbones.packing import groups, inside
from acclimate.backbones.proof import PACKED
from acclimate.backbones.text import TextBackbone
from acclimate.strategies import adapters
from tiny_models import TEXTS, assert_same_gradients

FolderOf = Callable[[str], Path]


def backbone_of(folder: Path, pooling: str = "cls") -> TextBackbone:
    return tiny_models.backbone_of(folder, pooling=pooling)


def electra(folder: Path) -> Path:
    import transformers as t

    from acclimate.backbones.hushed import quiet_transformers

    config = t.ElectraConfig(
        vocab_size=len(tiny_models.TOKENS), embedding_size=16, hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
    )  # fmt: skip
    with quiet_transformers():
        t.ElectraModel(config).save_pretrained(folder)
        tiny_models.tokenizer().save_pretrained(folder)
    return folder


def rows_of_last_feed_forward(backbone: TextBackbone) -> list[int]:
    """Tokens that reach the last block's feed-forward part, call by call."""
    seen: list[int] = []
    dense = backbone.blocks[-1].intermediate
    dense.register_forward_pre_hook(lambda m, a: seen.append(a[0].numel() // a[0].shape[-1]))  # type: ignore
    return seen


def padded(backbone: TextBackbone) -> Tensor:
    return backbone.features_of([r.parts[0] for r in backbone.encode(TEXTS)], packed=False)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_the_last_block_runs_for_first_tokens_alone(kind: str, folder_of: FolderOf, tmp_path: Path) -> None:
    backbone = backbone_of(electra(tmp_path) if kind == "electra" else folder_of(kind))
    assert backbone.packing == PACKED
    seen = rows_of_last_feed_forward(backbone)
    got = backbone(backbone.collate(backbone.encode(TEXTS)))
    assert seen == [len(TEXTS)]
    torch.testing.assert_close(got, padded(backbone), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("kind", "pooling"), [("bert", "mean"), ("bert", "last"), ("distilbert", "cls"), ("llama", "cls")]
)
def test_other_poolings_and_layers_run_whole(kind: str, pooling: str, folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of(kind), pooling)
    assert backbone.packing == PACKED
    assert not any("forward" in vars(block) for block in backbone.blocks)


def test_a_layer_that_does_more_than_its_name_says_runs_whole(bert: TextBackbone) -> None:
    bert = bert.with_settings(type(bert.text)(pooling="cls", max_length=64))
    bert.blocks[-1].register_forward_hook(lambda m, a, out: out * (1 + out.shape[1]))
    assert bert.packing.startswith("padded")  # even the packed row differs
    other = backbone_of(Path(bert.model.config._name_or_path))  # type: ignore[union-attr]
    other.blocks[-1].register_forward_hook(lambda m, a, out: out + a[0][:, : out.shape[1]])
    assert other.packing == PACKED
    seen = rows_of_last_feed_forward(other)
    got = other(other.collate(other.encode(TEXTS)))
    assert seen[0] > len(TEXTS)
    torch.testing.assert_close(got, padded(other), atol=4e-6, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_gradients_are_those_of_the_padded_batch(kind: str, folder_of: FolderOf) -> None:
    assert_same_gradients(folder_of(kind), pooling="cls")


def test_attention_dropout_reaches_the_last_block(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"))
    assert backbone.packing == PACKED
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5 if name.endswith("layer.2.attention.self.dropout") else 0.0
    batch = backbone.collate(backbone.encode(TEXTS))
    quiet = backbone(batch)
    backbone.requires_grad_(True).train()
    torch.manual_seed(0)
    assert float((backbone(batch) - quiet).detach().abs().max()) > 0.01


def test_a_clone_has_a_last_block_of_its_own(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"))
    assert backbone.packing == PACKED
    other = backbone.clone()
    before = backbone(backbone.collate(backbone.encode(TEXTS)))
    with torch.no_grad():
        for parameter in other.blocks[-1].parameters():
            parameter.mul_(1.5)
    assert torch.equal(backbone(backbone.collate(backbone.encode(TEXTS))), before)
    got = other(other.collate(other.encode(TEXTS)))
    torch.testing.assert_close(got, padded(other), atol=4e-6, rtol=0)
    assert float((got - before).detach().abs().max()) > 0.01


def test_adapters_are_read_in_the_last_block(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"))
    assert backbone.packing == PACKED
    adapters.add(backbone, "lora", {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}, "blocks")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    seen: list[int] = []
    backbone.blocks[-1].intermediate.register_forward_pre_hook(lambda m, a: seen.append(a[0].shape[-2]))  # type: ignore
    got = backbone(backbone.collate(backbone.encode(TEXTS)))
    assert seen == [len(TEXTS)]
    torch.testing.assert_close(got, padded(backbone), atol=4e-6, rtol=0)


def test_layers_asked_outside_of_a_packed_row_run_whole(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"))
    assert backbone.packing == PACKED
    hidden = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))
    layer = backbone.blocks[-1]
    with first_tokens(True):
        assert layer(hidden).shape == (1, 6, 32)
        with inside(groups([2, 4])), first_tokens(False):
            assert layer(hidden).shape == (1, 2, 32)
    assert layer(hidden).shape == (1, 6, 32)


def test_the_saved_model_is_plain(folder_of: FolderOf, tmp_path: Path) -> None:
    backbone = backbone_of(folder_of("bert"))
    before = backbone.fingerprint()
    assert backbone.packing == PACKED
    assert backbone.fingerprint() == before
    backbone.save(tmp_path)
    again = backbone_of(tmp_path)
    batch = backbone.collate(backbone.encode(TEXTS))
    assert torch.equal(again(batch), backbone(batch))
