"""Text backbones from a Hugging Face name or folder, with the settings that lie beside the weights."""

from __future__ import annotations

import json
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import nn

from acclimate.backbones.base import Origin
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.quantise import check as check_precision
from acclimate.backbones.text import PAIRS, POOLINGS, SETTINGS, TextBackbone
from acclimate.backbones.tokens import LEAST_LENGTH, TextSettings
from acclimate.backbones.windows import check
from acclimate.errors import UserError, unknown


def load_text(
    path: str,
    origin: Origin,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    truncation: str | None = None,
    prefix: str | None = None,
    precision: str | None = None,
    pairs: str | None = None,
) -> TextBackbone:
    """Load a Hugging Face name or folder. Settings that are not given come from the folder, else from the model."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # what a file lacks is drawn before we see it
        try:
            config = AutoConfig.from_pretrained(path)
            auto = AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else AutoModel
            model, info = auto.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise UserError(cannot_load(origin.name, error)) from error
    known = stored(Path(path))
    settings = replace(
        resolve(model, tokenizer, known, pooling, max_length, truncation, prefix),
        precision=check_precision(precision or known.get("precision", "fp32")),
        pairs=known.get("pairs", "") if pairs is None else pairs,
    )
    if settings.pairs not in ("", *PAIRS):
        raise unknown("pairs", settings.pairs, PAIRS)
    _check_weights(model, info, settings, origin.name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.truncation_side = "right"  # `truncation` says what is kept, and "head" is the beginning
    found = TextBackbone(model.eval().requires_grad_(False), tokenizer, settings, stored_origin(Path(path)) or origin)
    found.path = path
    return found


def cannot_load(name: str, error: Exception) -> str:
    """What is said of a model that does not load."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"cannot load the model {name!r}: {first}\nGive a name from `acclimate models list`, a folder that holds "
        "config.json, weights and tokeniser files, or a Hugging Face name (which needs the network the first time)."
    )


def _check_weights(model: nn.Module, info: Any, settings: TextSettings, name: str) -> None:
    missing = sorted(info["missing_keys"])
    pooler = [key for key in missing if "pooler" in key]
    body = [key for key in missing if "pooler" not in key]
    if body:
        raise UserError(
            f"the weights of {name!r} lack {len(body)} parameters, first {body[0]!r}: they would be random. "
            "The file is incomplete or belongs to another architecture."
        )
    if settings.pooling == "pooler":
        if pooler or getattr(model, "pooler", None) is None:
            raise UserError(f"pooling 'pooler': {name!r} ships no trained pooler; use --pooling mean or cls")
    elif getattr(model, "pooler", None) is not None:
        model.pooler = None  # type: ignore[assignment]  # never read; keeping it would waste memory and blur the fingerprint


def stored(folder: Path) -> dict[str, Any]:
    """Settings beside the weights: ours, the catalogue's, or those of a sentence-transformers folder."""
    found: dict[str, Any] = {}
    for name, keys in (
        ("sentence_bert_config.json", {"max_seq_length": "max_length"}),
        ("acclimate_source.json", {"prefix": "prefix", "pooling": "pooling", "max_length": "max_length"}),
        (SETTINGS, {k: k for k in ("pooling", "max_length", "truncation", "prefix", "precision", "pairs")}),
    ):
        file = folder / name
        if file.is_file():
            values = json.loads(file.read_text(encoding="utf-8"))
            found.update({ours: values[theirs] for theirs, ours in keys.items() if values.get(theirs)})
    return found


def stored_origin(folder: Path) -> Origin | None:
    """The origin that a bundle's backbone folder was saved with."""
    file = folder / SETTINGS
    if not file.is_file():
        return None
    values = json.loads(file.read_text(encoding="utf-8")).get("origin")
    return Origin(**values) if values else None


def resolve(
    model: Any,
    tokenizer: Any,
    stored: dict[str, Any],
    pooling: str | None,
    max_length: int | None,
    truncation: str | None,
    prefix: str | None,
) -> TextSettings:
    """The settings as asked for, else as stored, else as the model suggests."""
    if isinstance(max_length, bool) or not isinstance(max_length, (Integral, NoneType)):
        raise UserError(f"max_length {max_length!r} must be a whole number, how many tokens of a text are read")
    limit = position_limit(model.config, tokenizer)
    default = "last" if _is_causal(model.config) else "mean"
    settings = replace(
        TextSettings(),
        pooling=pooling or stored.get("pooling", default),
        max_length=int(min(stored.get("max_length", 512), limit) if max_length is None else max_length),
        truncation=check(truncation or stored.get("truncation", "head")),
        prefix=stored.get("prefix", "") if prefix is None else prefix,
    )
    if settings.pooling not in POOLINGS:
        raise unknown("pooling", settings.pooling, POOLINGS)
    if not LEAST_LENGTH <= settings.max_length <= limit:
        raise UserError(
            f"max_length {settings.max_length} is outside what this model takes: {LEAST_LENGTH} to {limit} tokens"
        )
    return settings


def position_limit(config: Any, tokenizer: Any) -> int:
    """Tokens that the model takes at most."""
    positions = getattr(config, "max_position_embeddings", None) or 1_000_000
    if getattr(config, "model_type", "") in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        positions -= 2  # these count from padding_idx + 1
    return int(min(positions, tokenizer.model_max_length or positions))


def _is_causal(config: Any) -> bool:
    return (
        any("CausalLM" in a or "LMHead" in a for a in (getattr(config, "architectures", None) or []))
        and not getattr(config, "is_encoder_decoder", False)
        and getattr(config, "model_type", "") not in {"bert", "roberta"}
    )
