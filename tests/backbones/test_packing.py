from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_models
from acclimate.backbones import text as text_module
from acclimate.backbones.base import Origin
from acclimate.backbones.packing import (
    Group,
    by_owner,
    counted_from,
    current,
    groups,
    inside,
    pack,
    parted,
    pool,
    slices,
)
from acclimate.backbones.proof import PACKED
from acclimate.backbones.text import TextBackbone, TextSettings
from acclimate.backbones.text_loading import load_text
from tiny_models import TEXTS, assert_same_gradients, backbone_of

KINDS = ("bert", "roberta", "albert", "distilbert", "gpt2", "llama")
FolderOf = Callable[[str], Path]


def both(backbone: TextBackbone, texts: list[str] = TEXTS) -> tuple[Tensor, Tensor]:
    """Features padded and packed."""
    parts = [row.parts[0] for row in backbone.encode(texts)]
    return backbone.features_of(parts, packed=False), backbone.features_of(parts, packed=True)


def made(model: Any, **settings: Any) -> TextBackbone:
    model.pooler = None
    return TextBackbone(model.eval(), tiny_models.tokenizer(), TextSettings(**settings), Origin("made"))


# -- boundaries --------------------------------------------------------------------------------------------------------


def test_groups_are_views_of_neighbours_of_one_length() -> None:
    spans = groups([1, 2, 2, 5])
    assert spans == (Group(0, 1, 1), Group(1, 2, 2), Group(5, 1, 5))
    tokens = torch.arange(20).view(10, 2)
    found = parted(tokens, spans)
    assert found[1].tolist() == [[[2, 3], [4, 5]], [[6, 7], [8, 9]]]
    assert found[1].data_ptr() == tokens[1:].data_ptr()


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", [[0.0], [1.5], [3.5], [6.0]]), ("cls", [[0], [1], [3], [5]]), ("last", [[0], [2], [4], [7]])],
)
def test_pooling_by_boundaries(pooling: str, expected: list[list[float]]) -> None:
    hidden = torch.arange(8.0)[:, None]
    assert pool(hidden, groups([1, 2, 2, 3]), pooling).tolist() == expected


def test_packed_rows_go_from_short_to_long_and_count_anew_in_every_text() -> None:
    parts = [{"input_ids": [7, 8, 9], "token_type_ids": [0, 0, 1]}, {"input_ids": [5], "token_type_ids": [1]}]
    batch, order = pack(parts, None)
    assert order == [1, 0]
    assert {k: v.tolist() for k, v in batch.items()} == {
        "input_ids": [[5, 7, 8, 9]],
        "position_ids": [[0, 0, 1, 2]],
        "token_type_ids": [[1, 0, 0, 1]],
        "lengths": [1, 3],
    }
    offset, _ = pack([{"input_ids": [7, 1, 9]}, {"input_ids": [5]}], 1)
    assert offset["position_ids"].tolist() == [[2, 2, 1, 3]]  # a padding token inside a text has no number of its own


def test_windows_are_averaged_by_their_tokens_in_the_order_of_the_rows() -> None:
    pooled, owner = torch.tensor([[1.0], [4.0], [7.0]]), torch.tensor([1, 0, 1])
    assert by_owner(pooled, torch.tensor([1, 2, 3]), owner, 2).tolist() == [[4.0], [(1 + 21) / 4]]
    assert by_owner(pooled, torch.tensor([1, 2, 3]), torch.tensor([2, 0, 1]), 3).tolist() == [[4.0], [7.0], [1.0]]


def test_slices_keep_texts_whole() -> None:
    assert slices([3, 3, 3, 9], 6) == [slice(0, 2), slice(2, 3), slice(3, 4)]
    assert slices([9], 6) == [slice(0, 1)]


def test_boundaries_end_with_their_block() -> None:
    with pytest.raises(ZeroDivisionError), inside(groups([2])):
        assert current() == (Group(0, 1, 2),)
        _ = 1 / 0
    assert current() is None


# -- the same features -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_packed_features_are_the_padded_ones(kind: str, pooling: str, folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of(kind), pooling=pooling)
    assert backbone.packing == PACKED
    assert "lengths" in backbone.collate(backbone.encode(TEXTS))
    padded, packed = both(backbone)
    torch.testing.assert_close(packed, padded, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_pooler_reads_the_first_token_of_every_text(kind: str, folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of(kind), pooling="pooler")
    assert backbone.packing == PACKED
    padded, packed = both(backbone)
    torch.testing.assert_close(packed, padded, atol=2e-6, rtol=0)


def test_a_pooler_that_cannot_be_asked_alone_is_read_padded(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("albert"), pooling="pooler")
    assert backbone.packing == "padded: a packed row does not give AlbertModel the same features"
    assert "attention_mask" in backbone.collate(backbone.encode(TEXTS))


def test_a_padding_token_written_in_a_text_changes_nothing(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("roberta"))
    assert counted_from(backbone.model) == 0
    assert backbone.packing == PACKED
    rows = backbone.encode(["good [PAD] day", "bad"])
    assert 0 in rows[0].parts[0]["input_ids"]
    alone = backbone.model(input_ids=torch.tensor([rows[0].parts[0]["input_ids"]])).last_hidden_state[0].mean(0)
    torch.testing.assert_close(backbone(backbone.collate(rows))[0], alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_padded_batch(kind: str, folder_of: FolderOf) -> None:
    assert_same_gradients(folder_of(kind))


def test_attention_is_dropped_in_training_alone(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"))
    assert backbone.packing == PACKED
    plain, _ = both(backbone)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5 if name.endswith("attention.self.dropout") else 0.0
    backbone.requires_grad_(True).train()
    seen = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        seen.append(both(backbone)[1].detach())
    assert torch.equal(seen[0], seen[1])
    assert float((seen[0] - seen[2]).abs().max()) > 0.01
    assert float((seen[0] - plain).abs().max()) > 0.01
    torch.testing.assert_close(both(backbone.eval())[1], plain, atol=2e-6, rtol=0)


def test_a_long_document_is_read_a_few_windows_at_a_time(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of(folder_of("bert"), max_length=12, truncation="chunk")
    batch = backbone.collate(backbone.encode(["good table and a stone " * 20, "bad"]))
    sizes: list[int] = []
    backbone.model.register_forward_pre_hook(lambda m, a, k: sizes.append(k["input_ids"].shape[1]), with_kwargs=True)
    whole = backbone.requires_grad_(True)(batch).detach()
    assert sizes == [int(batch["lengths"].sum())]
    monkeypatch.setattr(text_module, "_TOKENS_AT_ONCE", {"cpu": 30})
    sizes.clear()
    with torch.inference_mode():
        sliced = backbone(batch)
    assert len(sizes) > 3 and max(sizes) <= 30 and sum(sizes) == int(batch["lengths"].sum())
    torch.testing.assert_close(sliced, whole, atol=2e-6, rtol=0)


# -- what cannot be packed ---------------------------------------------------------------------------------------------


def test_attention_that_cannot_be_replaced_is_padded() -> None:
    import transformers as t

    config = t.MPNetConfig(
        vocab_size=len(tiny_models.TOKENS), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=66,
    )  # fmt: skip
    backbone = made(t.MPNetModel(config))
    assert backbone.packing == "padded: the attention of MPNetModel cannot be replaced"
    assert "lengths" not in backbone.collate(backbone.encode(TEXTS))


def test_a_model_without_positions_to_give_is_padded() -> None:
    import transformers as t

    config = t.T5Config(vocab_size=len(tiny_models.TOKENS), d_model=32, d_ff=48, d_kv=8, num_layers=2, num_heads=4)
    assert made(t.T5EncoderModel(config)).packing == "padded: T5EncoderModel does not take positions"


def test_a_network_that_looks_beyond_the_text_is_padded(folder_of: Callable[[str], Path]) -> None:
    bert = load_text(str(folder_of("bert")), Origin("tiny-bert"))  # of its own: nobody has asked it yet
    bert.model.embeddings.register_forward_hook(lambda m, a, out: out + 0.01 * out.roll(1, dims=1))  # type: ignore
    before = bert.model.config._attn_implementation  # type: ignore[union-attr]
    assert bert.packing == "padded: a packed row does not give BertModel the same features"
    assert bert.model.config._attn_implementation == before == "sdpa"  # type: ignore[union-attr]


def test_a_sliding_window_is_padded_however_short_the_texts() -> None:
    import transformers as t

    config = t.MistralConfig(
        vocab_size=len(tiny_models.TOKENS), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=4096, pad_token_id=0,
    )  # fmt: skip
    expected = "padded: MistralModel cannot read a packed row (its attention uses sliding_window)"
    assert made(t.MistralModel(config)).packing == expected


def test_a_packed_batch_of_another_backbone_is_never_misread(folder_of: FolderOf) -> None:
    one, other = backbone_of(folder_of("bert")), backbone_of(folder_of("bert"))
    batch = one.collate(one.encode(TEXTS))
    torch.testing.assert_close(other(batch), one(batch))  # the other one finds out for itself
    pooler = backbone_of(folder_of("albert"), pooling="pooler")
    with pytest.raises(RuntimeError, match="a packed batch was given to a model that cannot read it: padded"):
        pooler(batch)


def test_the_proof_leaves_modes_and_random_state_alone(bert: TextBackbone) -> None:
    bert.requires_grad_(True).train()
    bert.model.embeddings.eval()  # type: ignore[union-attr, operator]
    modes = [m.training for m in bert.modules()]
    state = torch.random.get_rng_state()
    assert bert.packing == PACKED
    assert [m.training for m in bert.modules()] == modes
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(p.grad is None for p in bert.parameters())


# -- what others see ---------------------------------------------------------------------------------------------------


def test_the_saved_model_knows_nothing_of_packing(folder_of: FolderOf, tmp_path: Path) -> None:
    from transformers import AutoModel

    backbone = backbone_of(folder_of("bert"))
    before = backbone.fingerprint()
    assert backbone.packing == PACKED
    assert backbone.fingerprint() == before
    backbone.save(tmp_path)
    assert "acclimate" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    plain = AutoModel.from_pretrained(tmp_path)
    ids = torch.tensor([backbone.encode(["good day"])[0].parts[0]["input_ids"]])
    torch.testing.assert_close(plain(input_ids=ids).last_hidden_state, backbone.model(input_ids=ids).last_hidden_state)


def test_the_model_alone_still_reads_padded_batches(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("gpt2"))
    inputs = backbone.tokenizer(["good day", "table"], padding=True, return_tensors="pt")
    before = backbone.model(**inputs).last_hidden_state[:, 0]
    assert backbone.packing == PACKED
    assert torch.equal(backbone.model(**inputs).last_hidden_state[:, 0], before)
