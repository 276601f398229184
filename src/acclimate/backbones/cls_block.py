"""The last block of a BERT-like encoder for first tokens alone: with `pooling="cls"` nothing else of it is ever read.

Keys and values still come from all tokens; queries, the rest of the attention, the feed-forward part and the norms
run for one token a text. In a packed row that block then costs little more than its keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as attention_of

from acclimate.backbones.packing import Groups, current, dropping, drops_by_hand, parted

LAYERS = ("BertLayer", "RobertaLayer", "XLMRobertaLayer", "CamembertLayer", "ElectraLayer", "Data2VecTextLayer")
_asked: ContextVar[bool] = ContextVar("acclimate_first_tokens", default=False)


@contextmanager
def first_tokens(asked: bool) -> Iterator[None]:
    """Within the block, layers that were `install`ed give first tokens alone, if `asked` here or further out."""
    token = _asked.set(asked or _asked.get())
    try:
        yield
    finally:
        _asked.reset(token)


def can(layer: nn.Module) -> bool:
    """Whether this is a layer whose parts are known by name here."""
    return type(layer).__name__ in LAYERS and not getattr(layer, "is_decoder", False)


def install(layer: nn.Module) -> None:
    """Let a last layer answer `first_tokens`; elsewhere it does what it did, and its weights and names stay."""
    layer.forward = MethodType(_forward, layer)


def _forward(layer: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
    spans = current()
    if spans is None or not _asked.get():
        return type(layer).forward(layer, hidden_states, *args, **kwargs)
    return _first(layer, hidden_states[0], spans)[None]


def _first(layer: Any, hidden: Tensor, spans: Groups) -> Tensor:
    """(T, d) -> (w, d)"""
    attention = layer.attention.self
    heads = (attention.num_attention_heads, attention.attention_head_size)
    first = torch.cat([part[:, 0] for part in parted(hidden, spans)])  # (w, d)
    query = attention.query(first).unflatten(-1, heads)  # (w, heads, dim)
    key, value = (parted(part(hidden).unflatten(-1, heads), spans) for part in (attention.key, attention.value))
    asking = query[:, :, None].split([group.count for group in spans])  # (count, heads, 1, dim)
    p, read = attention.dropout.p if attention.training else 0.0, []
    for q, k, v in zip(asking, key, value, strict=True):
        k, v = k.transpose(1, 2), v.transpose(1, 2)  # (count, heads, length, dim)
        if drops_by_hand(q, k, p):
            read.append(dropping(q, k, v, p, attention.scaling))
        else:
            read.append(attention_of(q, k, v, dropout_p=p, scale=attention.scaling))
    context = torch.cat(read).flatten(1)  # (w, d)
    out: Tensor = layer.feed_forward_chunk(layer.attention.output(context, first))
    return out
