"""How fast each weight moves, and from which step on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from acclimate.backbones.base import Backbone
from acclimate.strategies.moves import depth, layers

Group = dict[str, Any]  # one of an optimiser


def groups(module: nn.Module, rate: float, weight_decay: float) -> list[Group]:
    """What moves in a module, at this rate; biases and norms without decay."""
    return _split([p for p in module.parameters() if p.requires_grad], rate, weight_decay)


def layered(backbone: Backbone, rate: float, weight_decay: float, layer_decay: float) -> list[Group]:
    """The same of a backbone, slower from layer to layer down: η_l = η·d^(L − l) in block l of L, l = 0 in the stem.

    What follows the last block has its rate. Howard & Ruder 2018 (arXiv:1801.06146), section 3.2, with 1/d = 2.6.
    """
    if layer_decay == 1:
        return groups(backbone, rate, weight_decay)
    count = depth(backbone)
    parts: dict[int, list[nn.Parameter]] = {}
    layer = layers(backbone)
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            parts.setdefault(layer[id(parameter)], []).append(parameter)
    found = []
    for at in sorted(parts, reverse=True):
        found += _split(parts[at], rate * layer_decay ** (count - at), weight_decay)
    return found


def _split(moving: list[nn.Parameter], rate: float, weight_decay: float) -> list[Group]:
    found = []
    for decay, chosen in (
        (weight_decay, [p for p in moving if p.ndim > 1]),
        (0.0, [p for p in moving if p.ndim <= 1]),
    ):
        if chosen:
            found.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return found


@dataclass(frozen=True)
class Unfreezing:
    """Layers of a backbone that start to move one after the other, the last one first (Howard & Ruder 2018, section
    3.3). `opens`: for each, from the top, the step from which it moves, its number and its parameters."""

    backbone: Backbone
    opens: tuple[tuple[int, int, tuple[nn.Parameter, ...]], ...]
    steps: int  # of the whole training
    headed: bool = True  # whether a head lies above them; without one the last layer moves at once

    @classmethod
    def over(cls, backbone: Backbone, share: float, steps: int, *, headed: bool = True) -> Unfreezing:
        """The j-th of m layers that have something to move opens after step ⌈share·steps·j/m⌉, the head at once; with a
        share of 0 all of them do."""
        if not share:
            return cls(backbone, (), steps, headed)
        layer = layers(backbone)
        parts: dict[int, list[nn.Parameter]] = {}
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parts.setdefault(layer[id(parameter)], []).append(parameter)
        from_top = sorted(parts, reverse=True)
        numbers = [-int(-share * steps * (j + headed) // len(from_top)) for j in range(len(from_top))]
        opens = tuple((n, at, tuple(parts[at])) for n, at in zip(numbers, from_top, strict=True))
        return cls(backbone, opens, steps, headed)

    @contextmanager
    def during(self, step: int) -> Iterator[None]:
        """To be held in this step: what is not open yet is frozen, its dropout and running statistics included."""
        closed = [p for opens, _, parameters in self.opens if opens > step for p in parameters]
        if not closed:
            yield
            return
        for parameter in closed:
            parameter.requires_grad_(False)
        self.backbone.train()
        try:
            yield
        finally:  # between steps everything counts as moving: checkpoints and the best weights hold all of it
            for parameter in closed:
                parameter.requires_grad_(True)
            self.backbone.train()

    def __str__(self) -> str:
        listed = ", ".join(f"{f'block {at}' if at else 'the stem'} from {opens + 1}" for opens, at, _ in self.opens)
        return f"{'the head moved from step 1, ' if self.headed else 'layers moved: '}{listed} of {self.steps}"
