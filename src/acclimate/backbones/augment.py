"""Random changes of pictures that leave their class as it is; the same for the same generator state.

Nothing is mirrored: a mirrored b is a d, and a left hand no right one.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate.errors import unknown

STRENGTHS = {"light": 0.25, "standard": 0.5, "strong": 1.0}  # names of strengths, the same for pictures and sounds
# At strength 1, either way and evenly drawn: degrees, the logarithm of a factor a side, and shares of half the side.
TURN = 15.0
SCALE = 0.2
SLANT = 0.2
SHIFT = 0.25


def strength_of(value: float | str) -> float:
    """The strength that a name stands for, or the number itself.

    >>> strength_of("light"), strength_of(0.4)
    (0.25, 0.4)
    """
    if not isinstance(value, str):
        return float(value)
    if value not in STRENGTHS:
        raise unknown("strength of augment", value, STRENGTHS)
    return STRENGTHS[value]


def affine(pixels: Tensor, generator: torch.Generator, strength: float, padding: str = "zeros") -> Tensor:
    """Pictures (n, c, h, w), each turned, scaled, slanted and shifted at random; strength 0 gives them back.

    The numbers are drawn on the CPU from `generator`, one row after another, so that a device does not change them.
    What comes into view is 0 with padding "zeros", the edge's own colour with "border".

    >>> generator = torch.Generator().manual_seed(0)
    >>> affine(torch.ones(2, 1, 4, 4), generator, 0.0, "border").equal(torch.ones(2, 1, 4, 4))
    True
    """
    if strength == 0:
        return pixels
    found = F.grid_sample(
        pixels,
        F.affine_grid(matrices(len(pixels), generator, strength).to(pixels), list(pixels.shape), align_corners=False),
        padding_mode=padding,
        align_corners=False,
    )
    return found


def matrices(count: int, generator: torch.Generator, strength: float) -> Tensor:
    """(n, 2, 3): where in the old picture, from -1 to 1, each place of the new one is looked up."""
    draws = strength * (2 * torch.rand(count, 6, generator=generator) - 1)
    turn, slant = draws[:, 0] * math.radians(TURN), draws[:, 1] * SLANT
    wide, high = (draws[:, 2] * SCALE).exp(), (draws[:, 3] * SCALE).exp()
    across = torch.stack([turn.cos() * wide, (slant - turn.sin()) * high, draws[:, 4] * SHIFT], 1)
    down = torch.stack([turn.sin() * wide, turn.cos() * high, draws[:, 5] * SHIFT], 1)
    return torch.stack([across, down], 1)
