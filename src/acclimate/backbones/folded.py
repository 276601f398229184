"""A frozen convolutional network with fewer steps: BatchNorm, activation and shortcut become part of the convolution.

In eval mode BatchNorm is y = s (x - m) + b with s = g / sqrt(v + eps), all constants, so that a convolution before it
takes it over: weight s W, bias b + s (b' - m). oneDNN, which ships with PyTorch, then applies the activation and adds
the shortcut while a tile is still in the cache. The sums are the same up to rounding.
"""

from __future__ import annotations

import copy
import operator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from acclimate.backbones.kernels import laid_out

_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in eval mode; DropPath of timm is known by its name
# What oneDNN calls an activation, its numbers, and its variant.
_KNOWN: dict[type[nn.Module], tuple[str, list[float], str]] = {
    nn.ReLU: ("relu", [], ""),
    nn.ReLU6: ("hardtanh", [0.0, 6.0], ""),
    nn.SiLU: ("swish", [], ""),
    nn.Hardswish: ("hardswish", [], ""),
    nn.Sigmoid: ("sigmoid", [], ""),
}


class _Tracer(fx.Tracer):
    """Convolutions and normalisations of every kind stay whole, also those that timm derives from PyTorch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) or super().is_leaf_module(m, module_qualified_name)


class Convolution(nn.Module):
    """A convolution, the constants after it, its activation and, where one is given, the sum with a shortcut."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> None:
        super().__init__()
        weight, bias = _folded(conv, norm)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = bias
        # timm's "same" convolutions pad by what the size asks for, more at the right and below
        self.same = type(conv).__name__ == "Conv2dSame"
        self.kernel, self.stride, self.dilation = conv.kernel_size, list(conv.stride), list(conv.dilation)
        self.padding: list[int] = [0, 0] if self.same else [int(p) for p in conv.padding]
        self.groups = conv.groups
        self.after: nn.Module | None = None
        self.adds = False
        self._packed: Tensor | None = None

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """(n, c, h, w) -> (n, c', h', w')."""
        x = self._padded(x) if self.same else x
        out: Tensor
        if not _fuses(x):
            out = functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
            out = out if shortcut is None else out + shortcut
            out = out if self.after is None else self.after(out)
            return out
        how = (self.padding, self.stride, self.dilation, self.groups)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *how, list(x.shape))
        name, numbers, variant = ("none", [], "") if self.after is None else _KNOWN[type(self.after)]
        if shortcut is None:
            plain: Any = torch.ops.mkldnn._convolution_pointwise
            out = plain(x, self._packed, self.bias, *how, name, numbers, variant)
            return out
        add: Any = torch.ops.mkldnn._convolution_pointwise.binary
        last = None if self.after is None else name
        out = add(x, shortcut, self._packed, self.bias, *how, "add", 1.0, last, [], None)
        return out

    def _padded(self, x: Tensor) -> Tensor:
        """Padding so that the output has ceil(size / stride) places a side."""
        both = []
        for axis in (1, 0):  # width first, as `pad` wants it
            size, stride = x.shape[2 + axis], self.stride[axis]
            total = max(0, (-(-size // stride) - 1) * stride + (self.kernel[axis] - 1) * self.dilation[axis] + 1 - size)
            both += [total // 2, total - total // 2]
        return functional.pad(x, both) if any(both) else x


def fold(model: nn.Module, size: int) -> nn.Module:
    """The network read by fewer steps, for pictures of `size`; it shares what was not folded with `model`.

    Raises whatever the tracer raises where the network decides its way by the values it sees.
    """
    graph = _Tracer().trace(model)
    network = fx.GraphModule(model, graph)
    with torch.no_grad():
        ShapeProp(network).propagate(torch.zeros(1, 3, size, size))
    _drop_nothings(network)
    _join_convolutions(network)
    _join_activations(network, alone=True)
    _join_shortcuts(network)
    _join_activations(network, alone=False)
    for name, module in list(network.named_modules()):
        if type(module) is nn.Linear:  # a copy, so that the model's own one is not read from another layout
            _put(network, name, copy.copy(module))
    network.delete_all_unused_submodules()
    network.recompile()
    held = ExitStack()
    held.enter_context(laid_out(network))
    network.meta["laid_out"] = held  # for as long as the network lives
    return network


def _fuses(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the convolution with the normalisation in it, worked out in double precision."""
    weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
    if norm is None:
        return weight, bias
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight.detach().double()
    shift = (0 if bias is None else bias.double()) - norm.running_mean.double()
    moved = shift * scale + (0 if norm.bias is None else norm.bias.detach().double())
    return (weight.double() * scale[:, None, None, None]).float(), moved.float()


def _module(network: fx.GraphModule, node: Any) -> nn.Module | None:
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return network.get_submodule(str(node.target))


def _replace(network: fx.GraphModule, node: fx.Node, by: fx.Node) -> None:
    by.meta = dict(node.meta)
    node.replace_all_uses_with(by)
    network.graph.erase_node(node)


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)


def _drop_nothings(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        module = _module(network, node)
        if isinstance(module, _NOTHING) or type(module).__name__ == "DropPath":
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)


def _takes(conv: nn.Module | None) -> bool:
    """Convolutions whose padding is zeros and whose forward is PyTorch's, or timm's "same"."""
    if not isinstance(conv, nn.Conv2d) or conv.padding_mode != "zeros":
        return False
    return type(conv).__name__ == "Conv2dSame" or (type(conv) is nn.Conv2d and not isinstance(conv.padding, str))


def _own(norm: nn.Module | None) -> nn.Module | None:
    """The activation that timm's BatchNormAct2d holds."""
    found = getattr(norm, "act", None)
    return None if found is None or isinstance(found, nn.Identity) else found


def _folds(norm: nn.Module | None) -> bool:
    """A plain BatchNorm2d in eval mode with statistics, or timm's with a known activation and no dropout."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.training or norm.running_mean is None:
        return False
    if type(norm) is nn.BatchNorm2d:
        return True
    known = _own(norm) is None or type(_own(norm)) in _KNOWN
    return type(norm).__name__ == "BatchNormAct2d" and known


def _join_convolutions(network: fx.GraphModule) -> None:
    """Every convolution becomes one of ours, together with the normalisation that alone reads it."""
    for count, node in enumerate(list(network.graph.nodes)):
        conv = _module(network, node)
        if not _takes(conv) or len(node.args) != 1 or node.kwargs:
            continue
        users = list(node.users)
        norm = _module(network, users[0]) if len(users) == 1 else None
        joined = Convolution(conv, norm if _folds(norm) else None)  # type: ignore[arg-type]
        joined.after = _own(norm) if _folds(norm) else None
        network.add_submodule(f"convolution_{count}", joined)
        with network.graph.inserting_before(node):
            new = network.graph.call_module(f"convolution_{count}", node.args)
        if _folds(norm):
            _replace(network, users[0], new)
            network.graph.erase_node(node)
        else:
            _replace(network, node, new)


def _join_activations(network: fx.GraphModule, alone: bool) -> None:
    """An activation that alone reads a convolution goes into it; after a shortcut that is ReLU or nothing."""
    for node in list(network.graph.nodes):
        conv = _module(network, node)
        users = list(node.users)
        if not isinstance(conv, Convolution) or conv.after is not None or len(users) != 1:
            continue
        after = _module(network, users[0])
        if type(after) in ({*_KNOWN} if not conv.adds else {nn.ReLU}) and conv.adds is not alone:
            conv.after = after
            _replace_user(network, users[0], node)


def _replace_user(network: fx.GraphModule, user: fx.Node, node: fx.Node) -> None:
    user.replace_all_uses_with(node)
    network.graph.erase_node(user)


def _join_shortcuts(network: fx.GraphModule) -> None:
    """A sum of a convolution that nobody else reads with a tensor of the same shape."""
    for node in list(network.graph.nodes):
        if node.op != "call_function" or node.target not in (operator.add, operator.iadd, torch.add) or node.kwargs:
            continue
        for one, other in (node.args, node.args[::-1]):
            conv = _module(network, one)
            if not isinstance(conv, Convolution) or conv.after is not None or conv.adds or len(one.users) != 1:
                continue
            if not isinstance(other, fx.Node) or _shape(other) is None or _shape(one) != _shape(other):
                continue
            conv.adds = True
            with network.graph.inserting_before(node):
                new = network.graph.call_module(str(one.target), (one.args[0], other))
            _replace(network, node, new)
            network.graph.erase_node(one)
            break


def _shape(node: fx.Node) -> Any:
    return getattr(node.meta.get("tensor_meta"), "shape", None)
