"""Random changes of series that leave their class as it is; the same for the same generator state."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# At strength 1, evenly drawn unless said otherwise.
NOISE = 0.2  # spread of the noise beside that of the channel in all training rows (normal)
SCALE = 0.3  # logarithm of a channel's factor, either way
CROP = 0.3  # share of the time that is cut off; the rest is stretched to the length
DROP = 0.5  # chance that one channel of several is not known


def changed(
    values: Tensor, known: Tensor, sizes: Tensor, generator: torch.Generator, strength: float
) -> tuple[Tensor, Tensor]:
    """Windows (w, c, t), of which `sizes` steps count: cropped and stretched, each channel scaled, noise, one left out.

    Numbers are drawn on the CPU, one window after another, so that a device does not change them. Steps after `sizes`
    stay as they are, and so does what is missing.
    """
    values, known = values.clone(), known.clone()
    for row, there, size in zip(values, known, sizes.tolist(), strict=True):
        channels = len(row)
        draws = torch.rand(4, generator=generator)
        factors = ((2 * torch.rand(channels, generator=generator) - 1) * SCALE * strength).exp()
        noise = torch.randn(channels, size, generator=generator) * NOISE * strength
        line, mask = _cropped(row[:, :size], there[:, :size], draws, strength)
        mask = mask.clone()
        if channels > 1 and float(draws[2]) < DROP * strength:
            mask[int(float(draws[3]) * channels)] = 0
        row[:, :size] = (line * factors.to(row)[:, None] + noise.to(row)) * mask
        there[:, :size] = mask
    return values, known


def _cropped(line: Tensor, mask: Tensor, draws: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """A part of the time, stretched to the length in straight lines; of what is known the nearest step says."""
    size = line.shape[1]
    left = max(2, round(size * (1 - CROP * strength * float(draws[0]))))
    if left >= size:
        return line, mask
    at = int(float(draws[1]) * (size - left + 1))
    part, there = line[:, at : at + left], mask[:, at : at + left]
    stretched = F.interpolate(part[None], size=size, mode="linear", align_corners=True)[0]
    return stretched, F.interpolate(there[None], size=size, mode="nearest")[0]
