"""Low-rank adapters by peft: put on, taken off, merged. The head lies outside and is never wrapped."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.errors import UserError

TARGETS = ("blocks", "attention", "all-linear")
_ATTENTION = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "q_lin", "k_lin", "v_lin", "qkv", "c_attn")


def targets(backbone: Backbone, which: str) -> list[str]:
    """Names, inside `backbone.model`, of the linear layers that get an adapter.

    blocks: every linear layer of the blocks, which matches full tuning where attention alone does not (Schulman et al.
    2025); attention: query, key and value there; all-linear: also those outside the blocks, such as a pooler.
    """
    model = _model(backbone)
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"}
    if which != "all-linear":
        inside = {id(m) for block in backbone.blocks or [model] for m in block.modules()}
        linear = {name: m for name, m in linear.items() if id(m) in inside}
    if which == "attention":
        linear = {name: m for name, m in linear.items() if name.rsplit(".", 1)[-1] in _ATTENTION}
    if not linear:
        raise UserError(f"{backbone.origin.name!r} has no linear layer among lora_targets={which!r}; try all-linear")
    return sorted(linear)


def _model(backbone: Backbone) -> nn.Module:
    model = backbone.model
    assert isinstance(model, nn.Module)
    return model


def add(backbone: Backbone, rank: int, alpha: int, dropout: float, which: str) -> None:
    """Put adapters of W + (α/r) B A on the layers; only A and B may move."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets(backbone, which))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised inside transformers by peft's call
        warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)  # peft puts it right by itself for GPT-2
        backbone.model = get_peft_model(_model(backbone), config)


def take(backbone: Backbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The adapter's weights and configuration; afterwards they are merged into the backbone, which is plain again."""
    from peft import get_peft_model_state_dict

    wrapped: Any = backbone.model
    state = get_peft_model_state_dict(wrapped)
    config = wrapped.peft_config["default"].to_dict()
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        backbone.model = wrapped.merge_and_unload()
    return weights, {
        k: v if isinstance(v, (str, int, float, bool, list, dict, type(None))) else str(v) for k, v in plain.items()
    }
