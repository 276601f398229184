"""From a picture to the square that a network reads: decode, turn, shrink, cut out the centre, standardise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acclimate.data.pictures import opened

FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers
DRAFT = "pil-draft"
_SPARE = 2  # a JPEG is never shrunk while decoding to less than this many times the side that is needed

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSettings:
    """How a picture becomes a tensor. Pillow resizes, whatever else is installed: two back ends differ visibly.

    `backend` "pil-draft" lets the JPEG decoder itself halve a large photo once or more (by leaving out the highest
    frequencies) as long as twice the needed side is left; "pil" decodes every pixel.
    """

    size: int
    crop: float  # the share of the resized picture that the centre crop keeps
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    backend: str = DRAFT

    @property
    def side(self) -> int:
        """What the shorter side is resized to before the centre is cut out."""
        return math.floor(self.size / self.crop)


def square(value: Any, settings: ImageSettings) -> Pixels:
    """The centre (s, s, 3) of a path, a Pillow image or an array (h, w, 3), the shorter side resized to size/crop."""
    picture = opened(value, _SPARE * settings.side if settings.backend == DRAFT else None)
    size = settings.size
    ratio = settings.side / min(picture.size)
    scaled = (max(size, round(picture.width * ratio)), max(size, round(picture.height * ratio)))
    picture = picture.resize(scaled, FILTERS[settings.interpolation])
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return np.array(picture.crop((left, top, left + size, top + size)), np.uint8)


def standardised(pixels: list[Pixels], settings: ImageSettings) -> Tensor:
    """Squares (s, s, 3) as one tensor (n, 3, s, s): scaled to [0, 1], then by mean and spread."""
    scaled = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(settings.mean), torch.tensor(settings.std)
    return ((scaled - mean[:, None, None]) / std[:, None, None]).contiguous()
