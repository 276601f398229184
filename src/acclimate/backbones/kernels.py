"""Linear layers by oneDNN, of a network that is only read and of one that learns, and dropout from fewer random bits.

PyTorch multiplies fp32 matrices by MKL, which does not use every processor fully (on some it takes more than twice as
long). oneDNN ships with PyTorch too, is no slower where MKL is at its best, and adds bias and GELU while a tile is
still in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 1024  # tokens at a time that weights are laid out for; any other number works too
_LEAST = 2**14  # weights of a layer that learns, below which the call costs more than its sums
_MOST = 2**28  # numbers that may be copied, 1 GiB; a larger network reads its weights as they lie


@contextmanager
def laid_out(network: nn.Module, copied: bool = True) -> Iterator[None]:
    """Within the block the linear layers of `network` are computed by oneDNN; `copied`: on weights in its layout.

    The copies are made anew at every entry and dropped at its end, so that they cannot lag behind weights that move.
    Nothing in the block may ask for gradients. Where oneDNN is missing, off the CPU, for other number formats and
    under autocast, nothing happens.
    """
    layers = [m for m in network.modules() if type(m) is nn.Linear and "forward" not in vars(m) and _takes(m.weight)]
    gelus = {id(m.dense): m for m in network.modules() if _dense_then_gelu(m)} if layers else {}
    changed: list[nn.Module] = []
    try:
        copied = copied and sum(layer.weight.numel() for layer in layers) <= _MOST
        for layer in layers:
            outer = gelus.get(id(layer))
            target = layer if outer is None else outer
            target.forward = _product(target, layer, "none" if outer is None else "gelu", copied)
            changed.append(target)
        yield
    finally:
        for module in changed:
            vars(module).pop("forward", None)  # another thread may have been here first


@contextmanager
def learning(network: nn.Module, products: bool = True) -> Iterator[None]:
    """Within the block the linear layers of `network` on the CPU, and their gradients, are computed by oneDNN on
    weights as they lie (`products`), and dropout is drawn by `drop`.

    Products can be differentiated once; in other number formats and under autocast they are what they were.
    """
    changed: list[nn.Module] = []
    try:
        for module in network.modules():
            if "forward" in vars(module):
                continue
            if products and type(module) is nn.Linear and module.weight.numel() >= _LEAST and _takes(module.weight):
                instead = MethodType(_learned, module)  # a method, so that a copy reads its own weights
            elif type(module) is nn.Dropout and not module.inplace:
                instead = MethodType(_dropped, module)
            else:
                continue
            vars(module)["forward"] = instead
            changed.append(module)
        yield
    finally:
        for module in changed:
            vars(module).pop("forward", None)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x Wᵀ as a network that learns computes it; x (n, d), W (m, d)."""
    return _run(weight, None, "none", x) if _takes(weight) else nn.functional.linear(x, weight)


def drop(x: Tensor, p: float) -> Tensor:
    """x ⊙ m/(1 − p) with P(m = 0) = p, to within 2⁻¹⁷: 16 random bits a number, where PyTorch takes 53 on a CPU."""
    if x.device.type != "cpu" or not 0 < p < 1:
        return nn.functional.dropout(x, p)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()] >= round(p * 2**16) - 2**15
    return x * kept.view(x.shape).to(x.dtype).mul_(1 / (1 - p))


def _dropped(module: nn.Dropout, x: Tensor) -> Tensor:
    return drop(x, module.p) if module.training and module.p > 0 else x


def _learned(layer: nn.Linear, x: Tensor) -> Tensor:
    if not _alike(x) or not x.numel() or not _takes(layer.weight):
        return nn.functional.linear(x, layer.weight, layer.bias)
    out: Tensor = _Product.apply(x, layer.weight, layer.bias)
    return out


class _Product(torch.autograd.Function):
    """x Wᵀ + b with ∂x = g W, ∂W = gᵀ x and ∂b = Σ g; x (..., d), W (m, d), g (..., m)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _run(weight, bias, "none", x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        of_x = _run(weight.t(), None, "none", flat).view(x.shape) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = _run(x.reshape(-1, x.shape[-1]).t(), None, "none", flat.t())
        return of_x, of_weight, flat.sum(0) if ctx.needs_input_grad[2] else None


def _takes(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _dense_then_gelu(module: nn.Module) -> bool:
    """A block's first half of the feed-forward part, as BERT and its kin have it: dense, then exact GELU."""
    return (
        type(module).__name__.endswith("Intermediate")
        and type(getattr(module, "dense", None)) is nn.Linear
        and type(getattr(module, "intermediate_act_fn", None)).__name__ == "GELUActivation"
    )


def _product(target: nn.Module, layer: nn.Linear, after: str, copied: bool) -> Callable[[Tensor], Tensor]:
    weight = layer.weight.detach()
    weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS) if copied else weight
    usual = type(target).forward

    def forward(x: Tensor) -> Tensor:
        if not _alike(x):
            out: Tensor = usual(target, x)
            return out
        return _run(weight, layer.bias, after, x)

    return forward


def _alike(x: Tensor) -> bool:
    """Whether the product of `x` with fp32 weights is one in fp32: under autocast it is not."""
    return x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _run(weight: Any, bias: Tensor | None, after: str, x: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "none" if after == "gelu" else "")
    return out
