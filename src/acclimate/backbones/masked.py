"""The head that guesses hidden words, from a checkpoint that has one or anew, whatever the architecture calls it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.text import TextBackbone
from acclimate.errors import UserError


class WordHead(nn.Module):
    """Hidden states (m, d) to logits of every word (m, V).

    transformers' own masked language model, whose encoder is replaced by a stub that hands on what it is given: the
    rest of the forward pass is unchanged, so that no architecture needs code of its own here.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        setattr(model, model.base_model_prefix, _Given())

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits, (m, V)."""
        logits: Tensor = self.model(inputs_embeds=hidden[None]).logits[0]
        return logits


class _Given(nn.Module):
    """Hands on the hidden states."""

    def forward(self, *ids: Any, inputs_embeds: Tensor, **others: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=inputs_embeds)


def word_head(backbone: TextBackbone) -> tuple[WordHead, bool]:
    """The head, and whether it is the checkpoint's own; else it is new, its last weights tied to the word embeddings.

    Draws from torch's current state.
    """
    name = backbone.origin.name
    if backbone.tokenizer.mask_token_id is None:
        raise UserError(
            f"mlm hides words behind a mask token, and the tokeniser of {name!r} has none (it reads from left to "
            "right); choose an encoder such as minilm, or leave --pretrain out"
        )
    model, own = _masked_model(backbone)
    words: Any = backbone.model.get_input_embeddings()  # type: ignore[operator]
    out = model.get_output_embeddings()
    if not own and (out is None or out.weight.shape != words.weight.shape):
        raise UserError(
            f"the checkpoint of {name!r} has no head for hidden words, and none can be tied to its word embeddings; "
            "choose another --model, or leave --pretrain out"
        )
    if not own or out.weight is model.get_input_embeddings().weight:
        out.weight = words.weight
    return WordHead(model), own


def _masked_model(backbone: TextBackbone) -> tuple[Any, bool]:
    from transformers import AutoModelForMaskedLM

    with quiet_transformers():
        try:
            if not backbone.path:
                return AutoModelForMaskedLM.from_config(backbone.model.config), False  # type: ignore[no-untyped-call]
            model, info = AutoModelForMaskedLM.from_pretrained(
                backbone.path, dtype=torch.float32, output_loading_info=True
            )
        except (ValueError, KeyError, OSError) as error:
            raise UserError(
                f"{backbone.origin.name!r} is of a kind that cannot learn to guess hidden words (mlm): "
                f"{str(error).strip().splitlines()[0]}; choose an encoder such as minilm, or leave --pretrain out"
            ) from error
    inside = f"{model.base_model_prefix}."
    return model, all(key.startswith(inside) for key in info["missing_keys"])
