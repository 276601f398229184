"""Fracast: a forecaster of 85,001 weights that reads each channel alone (catalogue `fracast`)."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Origin
from acclimate.backbones.fracast_parts import Core, Head, Sizes
from acclimate.backbones.series import Scale, SeriesBackbone
from acclimate.errors import UserError

NAME = "fracast"
LEAST = 8  # known steps of a context
_FLAT = 1e-5  # span below which a context counts as constant, in units of the training rows' spread
_ROWS_AT_ONCE = 64  # channels that are read together without gradients


class Fracast(SeriesBackbone):
    """The pretrained forecaster: its states as features for labels, its quantiles as forecasts.

    A context is laid between 0 and 1 by its least and largest value, each channel by itself. Features of a channel: the
    mean of its states over time, the last state, the least value and the logarithm of the span (both in units of the
    training rows), 130 numbers. They read a window as long as the longest training series, not the 2,048 steps that a
    forecast reads, so that short series are quick.

    Use when: values ahead are asked for, or labels and there are few rows. Prefer `series-cnn`, tuned, with many.
    """

    architecture = NAME
    longest = Sizes.context
    tuned_rate = 1e-4  # one block at ten dilations: each step moves all of them

    def __init__(self, sizes: Sizes, scale: Scale | None = None, origin: Origin | None = None) -> None:
        super().__init__(scale, origin)
        self.sizes = sizes
        self.core, self.head = Core(sizes), Head(sizes)
        self.width = (2 * sizes.width + 2) * (0 if scale is None else scale.channels)
        self.eval()

    def fitted(self, scale: Scale) -> Fracast:
        """The same weights, for these channels."""
        other = copy.deepcopy(self)
        other.scale, other.width = scale, (2 * self.sizes.width + 2) * scale.channels
        return other

    @property
    def blocks(self) -> list[nn.Module]:
        """None: one block is used at every dilation."""
        return []

    def vectors(self, batch: Batch) -> Tensor:
        """Features of all channels, (w, 130 c)."""
        values, known = _at_the_end(batch)
        w, c, steps = values.shape
        lines, there = values.reshape(w * c, steps), known.reshape(w * c, steps)
        line, low, span = normalised(lines, there)
        if torch.is_grad_enabled():
            states = self._states(line, there)
        else:
            cuts = range(0, len(line), _ROWS_AT_ONCE)
            parts = [self._states(line[a : a + _ROWS_AT_ONCE], there[a : a + _ROWS_AT_ONCE]) for a in cuts]
            states = torch.cat(parts)
        return torch.cat([states, low, span.log()], 1).reshape(w, -1)

    def _states(self, line: Tensor, there: Tensor) -> Tensor:
        states = self.core(line, there)
        within = there[..., None].to(states.dtype)
        mean = (states * within).sum(1) / within.sum(1).clamp(min=1)
        return torch.cat([mean, states[:, -1]], 1)

    def quantiles(self, context: Tensor, known: Tensor, horizon: int, head: nn.Module | None = None) -> Tensor:
        """Contexts of one channel each (n, t), the last value being now, to quantiles (n, horizon, q) in their units.

        Beyond 48 steps the median of a block becomes part of the context of the next one, laid between 0 and 1 anew.
        It was trained with 2,048 steps: a shorter past is best given with steps before it that are not known.
        `head` stands in the place of the network's own.
        """
        middle = min(range(len(self.sizes.quantiles)), key=lambda i: abs(self.sizes.quantiles[i] - 0.5))
        steps = context.shape[1]
        found: list[Tensor] = []
        while sum(part.shape[1] for part in found) < horizon:
            line, low, span = normalised(context[:, -steps:], known[:, -steps:])
            there = known[:, -steps:]
            read = self.head if head is None else head
            ahead = read(self.core(line, there), line, there) * span[..., None] + low[..., None]
            found.append(ahead)
            context = torch.cat([context, ahead[:, :, middle]], 1)
            known = torch.cat([known, torch.ones_like(ahead[:, :, middle], dtype=torch.bool)], 1)
        return torch.cat(found, 1)[:, :horizon]

    def config(self) -> dict[str, Any]:
        """The sizes."""
        return {"sizes": asdict(self.sizes)}


def _at_the_end(batch: Batch) -> tuple[Tensor, Tensor]:
    """Values and what is known of them (w, c, t), moved so that the last step of every window is the last one."""
    values, known, sizes = batch["values"], batch["known"], batch["sizes"]
    steps = values.shape[2]
    at = torch.arange(steps, device=values.device)[None] - (steps - sizes)[:, None]  # (w, t); below 0: before it
    inside = (at >= 0)[:, None].expand(values.shape)
    index = at.clamp(min=0)[:, None].expand(values.shape)
    return values.gather(2, index) * inside, (known.gather(2, index) > 0) & inside


def normalised(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values (n, t) between 0 and 1, 0 where not known; the least value and the span (n, 1)."""
    high = values.masked_fill(~known, -torch.inf).amax(1, keepdim=True)
    low = values.masked_fill(~known, torch.inf).amin(1, keepdim=True)
    none = ~known.any(1, keepdim=True)
    low, high = low.masked_fill(none, 0.0), high.masked_fill(none, 0.0)
    span = (high - low).clamp(min=_FLAT)
    return (values - low) / span * known, low, span


def load_fracast(path: Path, about: dict[str, Any], origin: Origin) -> Fracast:
    """The catalogue's folder, or one that `save` wrote."""
    from safetensors.torch import load_file

    if about["model_type"] != NAME:
        raise UserError(f"{path} holds a model of the type {about['model_type']!r}, and that of series is not known")
    sizes = Sizes(**{**about["sizes"], "quantiles": tuple(about["sizes"]["quantiles"])})
    scale = about.get("scale")
    known = Origin(**about["origin"]) if "origin" in about else origin
    with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made
        backbone = Fracast(sizes, None if scale is None else Scale.from_json(scale), known)
    backbone.load_state_dict(load_file(path / "model.safetensors"))
    backbone.requires_grad_(False)
    return backbone
