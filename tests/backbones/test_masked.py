"""The head for hidden words: the checkpoint's own, or a new one; the same numbers as transformers' whole model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

import tiny_models as tm
from acclimate import backbones
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.masked import word_head
from acclimate.backbones.text import TextBackbone
from acclimate.errors import UserError

KINDS = ("bert", "roberta", "albert", "distilbert")


@pytest.fixture(scope="module")
def with_head(folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a kind of encoder with a head for hidden words."""

    def get(kind: str) -> Path:
        folder = tmp_path_factory.mktemp("masked") / kind
        torch.manual_seed(5)
        with quiet_transformers():
            model = AutoModelForMaskedLM.from_pretrained(folder_of(kind))
            for name, parameter in model.named_parameters():
                if not name.startswith(model.base_model_prefix):
                    torch.nn.init.normal_(parameter, std=0.3)
            model.save_pretrained(folder)
            tm.backbone_of(folder_of(kind)).tokenizer.save_pretrained(folder)
        return folder

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_whole_model(kind: str, with_head: Callable[[str], Path]) -> None:
    folder = with_head(kind)
    backbone = tm.backbone_of(folder)
    head, own = word_head(backbone)
    assert own
    with quiet_transformers():
        whole = AutoModelForMaskedLM.from_pretrained(folder).eval()
    rows = backbone.encode(tm.TEXTS)
    with torch.inference_mode():
        tokens = backbone.tokens(backbone.collate(rows))
        found = head.eval()(tokens)
        expected = [whole(torch.tensor([row.parts[0]["input_ids"]])).logits[0] for row in rows]
    assert found.shape == (sum(row.cost for row in rows), len(tm.TOKENS))
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_is_tied_to_the_word_embeddings(kind: str, folder_of: Callable[[str], Path]) -> None:
    backbone = tm.backbone_of(folder_of(kind))
    head, own = word_head(backbone)
    assert not own
    assert head.model.get_output_embeddings().weight is backbone.model.get_input_embeddings().weight  # type: ignore[operator]
    inside = {id(p) for p in backbone.parameters()}
    assert 0 < sum(p.numel() for p in head.parameters() if id(p) not in inside) < 5000  # no encoder is left in it


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("packed", [True, False])
def test_tokens_come_in_the_order_of_the_rows(packed: bool, pooling: str, folder_of: Callable[[str], Path]) -> None:
    """Also where the last block else runs for first tokens alone."""
    backbone = tm.backbone_of(folder_of("bert"), pooling=pooling)
    rows = backbone.encode(tm.TEXTS)
    backbone.padded = not packed
    with torch.inference_mode():
        batch = backbone.collate(rows)
        assert ("lengths" in batch) == packed
        found = backbone.tokens(batch)
        alone = [backbone.model(torch.tensor([row.parts[0]["input_ids"]])).last_hidden_state[0] for row in rows]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_tokeniser_without_a_mask_token_is_refused(kind: str, folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match=f"the tokeniser of '{kind}' has none .* leave --pretrain out"):
        word_head(tm.backbone_of(folder_of(kind)))


def test_a_kind_without_such_a_head_is_refused(tmp_path: Path) -> None:
    backbone = backbones.load(str(tm.write("gpt2", tmp_path / "gpt", frame=tm.tokenizer(pairs=False))))
    assert isinstance(backbone, TextBackbone)
    with pytest.raises(UserError, match="'gpt' is of a kind that cannot learn to guess hidden words"):
        word_head(backbone)


def test_weights_made_in_memory_get_a_new_head(bert: TextBackbone) -> None:
    plain = TextBackbone(bert.model, bert.tokenizer, bert.text, bert.origin)
    assert (bert.path != "", plain.path) == (True, "")
    assert not word_head(plain)[1]
