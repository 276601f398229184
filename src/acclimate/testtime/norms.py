"""The normalisation layers of a network."""

from __future__ import annotations

from collections import Counter

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

KINDS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def norms(network: nn.Module) -> list[nn.Module]:
    """Every BatchNorm, LayerNorm, GroupNorm and RMSNorm, in the order in which they were made.

    Families of language models bring an RMSNorm of their own, which is known by its name.
    """
    return [m for m in network.modules() if isinstance(m, KINDS) or type(m).__name__.endswith("RMSNorm")]


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Those of them that keep statistics of rows seen in training."""
    return [m for m in norms(network) if isinstance(m, _BatchNorm) and m.running_mean is not None]


def affine(network: nn.Module) -> list[nn.Parameter]:
    """Scales and shifts of all of them, each once."""
    found = (p for norm in norms(network) for p in norm.parameters(recurse=False))
    return list({id(p): p for p in found}.values())


def described(network: nn.Module) -> str:
    """ "25 LayerNorm", "2 BatchNorm2d and 1 GroupNorm", or "no normalisation layer"."""
    counts = Counter(type(m).__name__ for m in norms(network))
    return " and ".join(f"{n} {name}" for name, n in counts.items()) or "no normalisation layer"
