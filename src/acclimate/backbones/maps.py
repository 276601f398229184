"""The feature maps inside an image backbone, fine to coarse: what detection and segmentation read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.backbones.image import ImageBackbone
from acclimate.errors import UserError


@dataclass(frozen=True)
class Level:
    """One of the maps that timm gives: which, how wide, and how many pixels a place of it stands for."""

    index: int
    channels: int
    stride: int


def image_backbone(model: str, what: str) -> ImageBackbone:
    """The timm model of this name or folder, which can give its feature maps."""
    from acclimate.backbones import load

    backbone: Backbone = load(model)
    if not isinstance(backbone, ImageBackbone) or not hasattr(backbone.model, "forward_intermediates"):
        raise UserError(
            f"{what} needs an image model of timm, which gives its feature maps, and {model!r} is none; choose one "
            "such as mobilenetv2, or a Hugging Face folder made for the task"
        )
    return backbone


def levels_of(backbone: ImageBackbone, coarsest: int = 32) -> list[Level]:
    """The last map of every stride up to `coarsest`, fine to coarse."""
    about: Any = backbone.model.feature_info
    rows: Sequence[dict[str, Any]] = about if isinstance(about, list) else about.info
    found = {int(r["reduction"]): Level(i, int(r["num_chs"]), int(r["reduction"])) for i, r in enumerate(rows)}
    return [found[stride] for stride in sorted(found) if stride <= coarsest]


def maps_of(backbone: ImageBackbone, pixels: Tensor, levels: Sequence[Level]) -> list[Tensor]:
    """The maps (n, c, h/stride, w/stride) of standardised pixels (n, 3, h, w), one a level."""
    try:
        found: list[Tensor] = backbone.model.forward_intermediates(
            pixels, indices=[level.index for level in levels], intermediates_only=True
        )
    except (AssertionError, ValueError) as error:
        high, wide = pixels.shape[2:]
        raise UserError(
            f"{backbone.origin.name!r} cannot read pictures of {wide} x {high} pixels ({error}); choose a "
            "convolutional model, such as mobilenetv2"
        ) from error
    return found


class Pyramid(nn.Module):
    """Maps of several strides to maps of one width (Lin et al. 2017, arXiv:1612.03144), with one coarser level where
    `extra`; torchvision's own."""

    def __init__(self, channels: Sequence[int], width: int, *, extra: bool) -> None:
        super().__init__()
        from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

        more = LastLevelMaxPool() if extra else None
        self.pyramid = FeaturePyramidNetwork(list(channels), width, more)
        self.out_channels = width

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Level number -> (n, width, h, w)."""
        found: dict[str, Tensor] = self.pyramid({str(i): one for i, one in enumerate(maps)})
        return found


def upright_pixels(values: Sequence[Any], high: int, wide: int, filter_number: int) -> list[Any]:
    """Pictures as arrays (high, wide, 3) of bytes: each side is stretched to fit, so that nothing is cut off."""
    import numpy as np

    from acclimate.data.pictures import opened

    found = []
    for value in values:
        picture = opened(value, 2 * max(high, wide))
        found.append(np.array(picture.resize((wide, high), filter_number), np.uint8))
    return found


def canvas_of(sizes: Sequence[tuple[int, int]], side: int, step: int = 32) -> tuple[int, int]:
    """Height and width that pictures are read at: the longer is `side`, in the shape that most have, in whole steps.

    >>> canvas_of([(640, 480), (640, 480), (100, 100)], 320)
    (256, 320)
    """
    shapes = sorted(wide / high for wide, high in sizes)
    shape = shapes[len(shapes) // 2] if shapes else 1.0
    high, wide = (side / shape, float(side)) if shape >= 1 else (float(side), side * shape)
    return max(step, round(high / step) * step), max(step, round(wide / step) * step)
