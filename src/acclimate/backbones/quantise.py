"""Fewer digits by choice, at a cost that is measured. bf16 and fp16: products in half precision, quicker where the
device has them. int8: linear layers in 8-bit integers, about twice as fast on a CPU.

Weights: one scale a row of W, symmetric. Activations: one scale a token, from its own largest value, over all 255
steps. A token's result therefore does not depend on the texts that are read beside it, and one outlier costs its own
token alone. The weights themselves stay as they are; integers are made from them when they are first read.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from acclimate.errors import UserError, unknown

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", *_HALF, "int8")
_STEP = 2 / 255  # between two of the 256 values in [-1, 1]
_full: ContextVar[bool] = ContextVar("acclimate_full_precision", default=False)
_packed: WeakKeyDictionary[nn.Module, tuple[tuple[int, int], Any]] = WeakKeyDictionary()


def check(precision: str) -> str:
    """The name itself, or a clear error."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    return precision


@contextmanager
def full_precision() -> Iterator[None]:
    """Within the block this thread multiplies in fp32, whatever the precision."""
    token = _full.set(True)
    try:
        yield
    finally:
        _full.reset(token)


def numbers(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Within the block products are in half precision, if that is the precision."""
    if precision not in _HALF or _full.get():
        return nullcontext()
    return torch.autocast(device.type, _HALF[precision])


def quantise(parts: list[nn.Module], name: str) -> None:
    """Let every linear layer in `parts` multiply in int8; weights, names and what is saved stay as they are."""
    layers = [m for part in parts for m in part.modules() if type(m) is nn.Linear]
    if not layers:
        raise UserError(f"precision 'int8': {name!r} has no linear layers in its blocks; use --precision fp32")
    for layer in layers:
        layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]


def plain_again(network: nn.Module) -> None:
    """Take back `quantise`."""
    for module in network.modules():
        if getattr(vars(module).get("forward"), "__func__", None) is _forward:
            del module.forward


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    if _full.get():
        return nn.functional.linear(x, layer.weight, layer.bias)
    if torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad):
        raise UserError("weights that are read in int8 cannot learn; use --precision fp32")
    tokens = x.reshape(-1, x.shape[-1])  # (T, d)
    top = torch.maximum(tokens.amax(1, keepdim=True), -tokens.amin(1, keepdim=True)).clamp_min(1e-30)  # (T, 1)
    product = _integers(layer, tokens, top) if x.device.type == "cpu" else _emulated(layer, tokens, top)
    out = product * top if layer.bias is None else torch.addcmul(layer.bias, product, top)
    return out.view(*x.shape[:-1], -1)


def _integers(layer: nn.Linear, tokens: Tensor, top: Tensor) -> Tensor:
    """(T, k): W (x / top), in integers. A last row holds 1 and -1, so that every call spans the same 256 values."""
    scaled = tokens.new_zeros(len(tokens) + 1, tokens.shape[1])
    torch.div(tokens, top, out=scaled[:-1])
    scaled[-1, 0], scaled[-1, 1] = 1.0, -1.0
    out: Tensor = torch.ops.quantized.linear_dynamic(scaled, _pack(layer), False)  # False: all 8 bits
    return out[:-1]


def _emulated(layer: nn.Linear, tokens: Tensor, top: Tensor) -> Tensor:
    """The same in floating point, for devices without that kernel: no faster than fp32, but the same features."""
    weight, scale = _rounded(layer.weight)
    steps = (tokens / top / _STEP).round().clamp(-127, 127)
    return (steps * _STEP) @ (weight.to(tokens.dtype) * scale).T


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers (k, d) in [-127, 127] and their scales (k, 1)."""
    scale = weight.detach().abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
    return (weight.detach() / scale).round().to(torch.int8), scale


def _pack(layer: nn.Linear) -> Any:
    """The layer's integers as the kernel wants them, made anew if the weight has changed."""
    key = (layer.weight.data_ptr(), layer.weight._version)
    known = _packed.get(layer)
    if known is None or known[0] != key:
        weight, scale = _rounded(layer.weight)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that quantised tensors will go one day
            made = torch._make_per_channel_quantized_tensor(
                weight, scale[:, 0].double(), torch.zeros(len(scale), dtype=torch.long), 0
            )
            known = (key, torch.ops.quantized.linear_prepack(made, None))
        _packed[layer] = known
    return known[1]
