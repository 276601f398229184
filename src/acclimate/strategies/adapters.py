"""Adapters by peft, LoRA first: put on, taken off, merged. The head lies outside and is never wrapped."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, gap, in_eval
from acclimate.errors import UserError, unknown
from acclimate.settings import parse_settings

_FAILS = (TypeError, ValueError, KeyError, AttributeError, NotImplementedError, RuntimeError)  # of peft
_KNOWN = ("lora", "dora", "ia3")
_MERGED = 1e-3  # of the largest feature; rounding alone gives about 1e-6
TARGETS = ("blocks", "attention", "all-linear")
_BEFORE = "it puts learned tokens before each text: weights cannot take them in, nor are they packed and pooled here"
REFUSED = {
    **dict.fromkeys(("prompt_tuning", "multitask_prompt_tuning", "p_tuning", "prefix_tuning", "cpt"), _BEFORE),
    "cartridge": _BEFORE,
    "adaption_prompt": "peft has it for decoders like Llama alone, and it cannot be merged into the weights",
    "adalora": "it takes rank from layers between steps by a schedule of its own, and would be LoRA without that",
    "poly": "it mixes adapters of several tasks, and there is one",
    "xlora": "it mixes adapters that were trained before, and there are none",
    "lily": "peft cannot merge it into the weights, so no plain model could be saved",
    "shadow": "peft cannot merge it into the weights, so no plain model could be saved",
    "trainable_tokens": "it learns single tokens, which would have to be named",
    "ln_tuning": "moves='norm' (norm_only) does the same without peft",
}
_SCALED = ("key", "value", "k_proj", "v_proj", "k_lin", "v_lin")
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
    model = getattr(backbone, "model", None)
    if not isinstance(model, nn.Module):
        raise UserError(f"{backbone.origin.name!r} is no single network that takes adapters; use partial or full")
    return model


def understood(moves: str) -> bool:
    """Whether this names adapters: "lora", or "peft:METHOD" with the method's own settings after a second colon."""
    if moves == "lora":
        return True
    if not moves.startswith("peft:"):
        return False
    name, given = _read(moves)
    if not name:
        raise UserError(f"moves={moves!r} names no method; write peft:METHOD, such as peft:dora or peft:ia3")
    if name in REFUSED:
        raise UserError(f"moves={moves!r} cannot be done: {REFUSED[name]}; use lora, peft:dora or peft:ia3")
    parse_settings(given)
    return True


def method(moves: str) -> str:
    """The name of the method alone.

    >>> method("lora"), method("peft:LoHa:r=4")
    ('lora', 'loha')
    """
    return "lora" if moves == "lora" else _read(moves)[0]


def _read(moves: str) -> tuple[str, list[str]]:
    """The method, and its settings as texts."""
    name, _, rest = moves.removeprefix("peft:").partition(":")
    return name.strip().lower(), [part for part in rest.split(",") if part.strip()]


def add(backbone: Backbone, moves: str, low_rank: dict[str, float], which: str) -> None:
    """Put adapters on the layers; only these may move.

    "lora": W + (α/r) B A (Hu et al. 2021, arXiv:2106.09685), with the rank, α and dropout in `low_rank`, and so is
    "peft:dora", where columns of W + B A have lengths that move on their own (Liu et al. 2024, arXiv:2402.09353).
    "peft:ia3": keys, values and the inputs of the second feed-forward layer times a vector (Liu et al. 2022,
    arXiv:2205.05638). Any other method is that of peft, with peft's own settings.
    """
    from peft import get_peft_model

    with _quiet():
        wanted = config(backbone, moves, low_rank, which)
        try:
            wrapped: Any = get_peft_model(_model(backbone), wanted)
            if method(moves) not in _KNOWN:
                copy.deepcopy(wrapped).merge_and_unload()  # not only after training
        except _FAILS as error:
            raise UserError(f"moves={moves!r} does not fit {backbone.origin.name!r}: {error}") from error
    backbone.model = wrapped


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised inside transformers by peft's call
        warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)  # peft puts it right by itself for GPT-2
        warnings.filterwarnings("ignore", ".*save_embedding_layers", UserWarning)  # what is saved is merged
        yield


def config(backbone: Backbone, moves: str, low_rank: dict[str, float], which: str) -> Any:
    """peft's configuration: what the user gave, else where adapters go and, for LoRA, its rank."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    name, given = (moves, []) if moves == "lora" else _read(moves)
    known = {kind.value.lower(): config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if name not in known and name != "dora":
        raise unknown("method of peft", name, sorted(["dora", *(k for k in known if k not in REFUSED)]))
    kind: Any = known["lora" if name == "dora" else name]
    fields = {f.name for f in dataclasses.fields(kind)} - {"peft_type", "task_type", "inference_mode"}
    settings = parse_settings(given)
    for key in settings:
        if key not in fields:
            raise unknown(f"setting of {name}", key, sorted(fields))
    usual: dict[str, Any] = {}
    if name in ("lora", "dora"):
        usual = {**low_rank, "use_dora": name == "dora"}
    if "target_modules" in fields:
        usual["target_modules"] = targets(backbone, which)
    if name == "ia3" and "target_modules" not in settings:
        usual.update(_ia3_targets(backbone))
    try:
        return kind(**{**usual, **settings})
    except (TypeError, ValueError) as error:
        raise UserError(f"moves={moves!r}: {error}") from error


def _ia3_targets(backbone: Backbone) -> dict[str, list[str] | None]:
    """Keys and values, and the layers that lead from the wide middle of a feed-forward part back to the width."""
    found = targets(backbone, "blocks")
    model = _model(backbone)
    keys = [name for name in found if name.rsplit(".", 1)[-1] in _SCALED]
    others = {name: model.get_submodule(name) for name in found if name not in keys}
    narrow = [n for n, m in others.items() if isinstance(m, nn.Linear) and m.in_features > m.out_features]
    if not keys:  # peft has a table of models whose keys and values are one layer, or called otherwise
        return {"target_modules": None, "feedforward_modules": None}
    return {"target_modules": sorted({*keys, *narrow}), "feedforward_modules": sorted(narrow)}


def take(backbone: Backbone, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The adapters' weights and configuration; afterwards they are merged into the backbone, which is plain again.

    `batch` is read before and after: merging may not change what the model says.
    """
    from peft import get_peft_model_state_dict

    wrapped: Any = backbone.model
    with _quiet():
        state = get_peft_model_state_dict(wrapped)
    about = wrapped.peft_config["default"].to_dict()
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in about.items()}
    with torch.no_grad(), in_eval(backbone), _quiet():
        before = backbone(batch)
        backbone.model = wrapped.merge_and_unload()
        differs = gap(before, backbone(batch))
    if differs > _MERGED:
        raise UserError(
            f"merging the adapters ({about['peft_type']}) changed the features by {differs:.1e} of the largest: peft "
            "cannot merge this method into these layers; use lora"
        )
    return weights, {
        k: v if isinstance(v, (str, int, float, bool, list, dict, type(None))) else str(v) for k, v in plain.items()
    }
