"""Linear layers of a network that is only read, by oneDNN on weights laid out for it: the same sums, sooner.

PyTorch multiplies fp32 matrices by MKL, which does not use every processor fully. oneDNN ships with PyTorch too, is
no slower where MKL is at its best, and adds bias and GELU while a tile is still in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 1024  # tokens at a time that weights are laid out for; any other number works too
_MOST = 2**28  # numbers that may be copied, 1 GiB; a larger network reads its weights as they lie


@contextmanager
def laid_out(network: nn.Module) -> Iterator[None]:
    """Within the block the linear layers of `network` read their weights in oneDNN's layout.

    The copies are made anew at every entry and dropped at its end, so that they cannot lag behind weights that move.
    Nothing in the block may ask for gradients. Where oneDNN is missing, off the CPU and for other number formats,
    nothing happens.
    """
    layers = [m for m in network.modules() if type(m) is nn.Linear and "forward" not in vars(m) and _takes(m.weight)]
    gelus = {id(m.dense): m for m in network.modules() if _dense_then_gelu(m)} if layers else {}
    changed: list[nn.Module] = []
    try:
        copied = sum(layer.weight.numel() for layer in layers) <= _MOST
        for layer in layers:
            outer = gelus.get(id(layer))
            target = layer if outer is None else outer
            target.forward = _product(layer, "none" if outer is None else "gelu", copied)
            changed.append(target)
        yield
    finally:
        for module in changed:
            vars(module).pop("forward", None)  # another thread may have been here first


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


def _product(layer: nn.Linear, after: str, copied: bool) -> Callable[[Tensor], Tensor]:
    weight = layer.weight.detach()
    weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS) if copied else weight
    return partial(_run, weight, layer.bias, after)


def _run(weight: Any, bias: Tensor | None, after: str, x: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "none" if after == "gelu" else "")
    return out
