"""Whether texts may be packed: the same made-up tokens are read padded and packed, and the features compared."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from acclimate.backbones import cls_block, packing
from acclimate.backbones.base import gap, in_eval
from acclimate.backbones.quantise import full_precision
from acclimate.threads import few

if TYPE_CHECKING:
    from acclimate.backbones.text import TextBackbone

PACKED = "packed"
TOLERANCE = 1e-5  # of the largest feature
_LENGTHS = (2, 5, 5, 9, 8, 31)  # equal, single, out of order; the last is cut to what the model takes


def verdict(backbone: TextBackbone) -> str:
    """ "packed", and the model's attention set to it; or why texts are padded, and the model as it was."""
    model: Any = backbone.model
    name = type(plain(model)).__name__
    if "position_ids" not in takes(model):
        return f"padded: {name} does not take positions"
    if not getattr(model, "_supports_attention_backend", False) or model.config._attn_implementation not in (
        "sdpa",
        packing.NAME,
    ):
        return f"padded: the attention of {name} cannot be replaced"
    packing.register()
    before = model.config._attn_implementation
    parts = _made_up(backbone)
    with _as_at_prediction(backbone):
        padded = backbone.features_of(parts, packed=False)
        model.config._attn_implementation = packing.NAME
        try:
            packed = backbone.features_of(parts, packed=True)
        except Exception as error:  # whatever a foreign network does when it is read in a way it was not made for
            model.config._attn_implementation = before
            return f"padded: {name} cannot read a packed row ({error or type(error).__name__})"
    if gap(padded, packed) <= TOLERANCE:
        return PACKED
    model.config._attn_implementation = before
    return f"padded: a packed row does not give {name} the same features"


def first_alone(backbone: TextBackbone) -> bool:
    """Whether the last block may run for first tokens alone; it is then prepared for it."""
    blocks = backbone.blocks
    if backbone.text.pooling != "cls" or not blocks or not cls_block.can(blocks[-1]):
        return False
    parts = _made_up(backbone)
    with _as_at_prediction(backbone):
        whole = backbone.features_of(parts, packed=True)
        cls_block.install(blocks[-1])
        with cls_block.first_tokens(True):
            alone = backbone.features_of(parts, packed=True)
    return gap(whole, alone) <= TOLERANCE


def plain(model: Any) -> nn.Module:
    """The network without the wrapper of its adapters."""
    inner: nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner


def takes(model: Any) -> set[str]:
    """Names of the arguments of the network's forward."""
    return set(inspect.signature(plain(model).forward).parameters)


def _made_up(backbone: TextBackbone) -> list[packing.Part]:
    """The same tokens whatever the data: whether a model is packed depends on the model alone."""
    draw = random.Random(0)
    special = set(backbone.tokenizer.all_special_ids)
    usual = [i for i in range(min(1000, backbone.model.config.vocab_size)) if i not in special]  # type: ignore
    parts: list[packing.Part] = []
    for length in _LENGTHS:
        ids = draw.choices(usual, k=min(length, backbone.text.max_length))
        parts.append({"input_ids": ids})
        if "token_type_ids" in backbone.tokenizer.model_input_names:
            parts[-1]["token_type_ids"] = [int(i > len(ids) // 2) for i in range(len(ids))]
    return parts


@contextmanager
def _as_at_prediction(backbone: nn.Module) -> Iterator[None]:
    """Without dropout, gradients or reduced precision, on one thread; every part is put back as it was."""
    device = next(backbone.parameters()).device.type
    with in_eval(backbone), torch.no_grad(), torch.autocast(device, enabled=False), full_precision(), few(1.0):
        yield
