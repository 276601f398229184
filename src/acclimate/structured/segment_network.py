"""The networks of segmentation: a decoder on the maps of a timm backbone, and a SegFormer-like model whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.image import ImageBackbone
from acclimate.backbones.image_pixels import FILTERS, ImageSettings, standardised
from acclimate.backbones.maps import levels_of, maps_of, upright_pixels
from acclimate.data import pictures
from acclimate.data.masks import IGNORED, packed, unpacked
from acclimate.errors import UserError
from acclimate.structured.base import StructuredNetwork
from acclimate.structured.detect_network import resized
from acclimate.structured.hub_vision import HubVision

_COST = 512  # of a picture in a batch that is answered
_ZOOM, _LIGHT = 0.4, 0.3  # of the sides and of brightness, at strength 1


class Part(NamedTuple):
    """A picture and its mask at the size that is read, and its own size."""

    pixels: NDArray[np.uint8]  # (h, w, 3)
    size: tuple[int, int]  # width and height of the upright picture
    mask: NDArray[np.uint8] | None  # (h, w)


@dataclass(frozen=True)
class ReadMasks:
    """How pictures and masks become tensors, and the losses."""

    image: ImageSettings
    canvas: tuple[int, int]  # height and width
    classes: int
    dice: float  # weight of the Dice loss beside the cross-entropy
    weights: tuple[float, ...] = ()  # of the classes in the cross-entropy; none: all count alike


class SegmentNetwork(StructuredNetwork):
    """What both networks share. Loss of a row: the mean over its pixels of w_k times the cross-entropy, k the pixel's
    class, + dice · (1 − the mean over the classes in it of 2Σpt/(Σp + Σt)) (Milletari et al. 2016, arXiv:1606.04797);
    pixels of index 255 count for nothing."""

    replays = False  # several maps are read, not the last block's output alone
    augments = True
    read: ReadMasks

    def encode(self, inputs: Sequence[Any], labels: Sequence[Any] | None) -> list[Encoded]:
        """Pictures and masks stretched to the canvas."""
        from PIL import Image

        high, wide = self.read.canvas
        pixels = upright_pixels(inputs, high, wide, FILTERS[self.read.image.interpolation])
        rows = []
        for i, value in enumerate(inputs):
            mask = None
            if labels is not None:
                mask = np.array(Image.fromarray(unpacked(labels[i])).resize((wide, high), FILTERS["nearest"]), np.uint8)
            rows.append(Encoded((Part(pixels[i], pictures.look(value).size, mask),), _COST))
        return rows

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Standardised pixels (n, 3, h, w), and masks (n, h, w)."""
        parts: list[Part] = [row.parts[0] for row in rows]
        batch = {"pixels": standardised([p.pixels for p in parts], self.read.image), "rows": torch.arange(len(parts))}
        masks = [p.mask for p in parts if p.mask is not None]
        if len(masks) == len(parts):
            batch["masks"] = torch.from_numpy(np.stack(masks)).long()
        return batch

    def changed(self, rows: Sequence[Encoded], generator: torch.Generator, strength: float) -> list[Encoded]:
        """Mirrored or not, cut out at random, lighter or darker; masks follow."""
        return [Encoded((shaken(row.parts[0], generator, strength),), row.cost) for row in rows]

    @abstractmethod
    def logits(self, pixels: Tensor) -> Tensor:
        """(n, classes, h, w) at the size that is read."""

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every picture, (n,)."""
        return losses(self.logits(batch["pixels"]).float(), batch["masks"], self.read.dice, self.read.weights)

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """The most probable class of every pixel, at the size of the picture itself."""
        logits = self.logits(batch["pixels"]).float()
        found = []
        for i, row in enumerate(rows):
            wide, high = row.parts[0].size
            large = F.interpolate(logits[i : i + 1], size=(high, wide), mode="bilinear", align_corners=False)
            found.append(packed(large[0].argmax(0).to(torch.uint8).cpu().numpy()))
        return found


def losses(logits: Tensor, masks: Tensor, dice: float, weights: Sequence[float] = ()) -> Tensor:
    """The loss of every picture (n,) of logits (n, k, h, w) and masks (n, h, w); see `SegmentNetwork`."""
    counted = masks != IGNORED
    by_class = torch.tensor(weights, device=logits.device) if weights else None
    each = F.cross_entropy(logits, masks, by_class, reduction="none", ignore_index=IGNORED)
    found = each.flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1)
    if not dice:
        return found
    there = F.one_hot(masks.where(counted, torch.zeros_like(masks)), logits.shape[1]).permute(0, 3, 1, 2)
    keep = counted[:, None].float()
    true, said = there * keep, logits.softmax(1) * keep
    both, total = (true * said).flatten(2).sum(2), (true + said).flatten(2).sum(2)
    present = (true.flatten(2).sum(2) > 0).float()
    share = (2 * both / total.clamp_min(1e-6) * present).sum(1) / present.sum(1).clamp_min(1)
    return found + dice * (1 - share)


class MapsNetwork(SegmentNetwork):
    """The maps of a timm model through a decoder of segmentation-models-pytorch (Unet or FPN): the head."""

    backbone: ImageBackbone

    def __init__(self, backbone: ImageBackbone, read: ReadMasks, decoder: str, width: int) -> None:
        levels = levels_of(backbone)
        super().__init__(
            backbone, _decoder(decoder, [level.channels for level in levels], width, read.classes, backbone)
        )
        self.read, self.levels = read, levels

    def logits(self, pixels: Tensor) -> Tensor:
        """(n, classes, h, w)."""
        maps = maps_of(self.backbone, pixels, self.levels)
        found: Tensor = self.head.last(self.head.decoder([pixels, *maps]))  # type: ignore[operator]
        if found.shape[2:] != pixels.shape[2:]:
            found = F.interpolate(found, size=pixels.shape[2:], mode="bilinear", align_corners=False)
        return found


def _decoder(name: str, channels: list[int], width: int, classes: int, backbone: ImageBackbone) -> nn.Module:
    try:
        from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
    except ImportError as error:
        raise UserError("segmentation needs segmentation-models-pytorch: pip install 'acclimate[vision]'") from error
    if len(channels) < 4:
        raise UserError(
            f"{backbone.origin.name!r} gives {len(channels)} feature maps of different sizes, and segmentation needs "
            "4; choose a convolutional model, such as mobilenetv2"
        )
    head = nn.Module()
    if name == "fpn":
        out = 32 * -(-4 * width // 32)  # its norms have 32 groups
        head.decoder = FPNDecoder([3, *channels], len(channels), pyramid_channels=8 * width, segmentation_channels=out)
    else:
        widths = [max(width, 8 * width >> i) for i in range(len(channels))]
        head.decoder = UnetDecoder([3, *channels], widths, len(channels))
        out = widths[-1]
    head.last = nn.Conv2d(out, classes, 3, padding=1)
    return head


class HubSegmentNetwork(SegmentNetwork):
    """A Hugging Face model that labels pixels (SegFormer and its like); its head lives in it."""

    backbone: HubVision

    def __init__(self, backbone: HubVision, read: ReadMasks) -> None:
        super().__init__(backbone, nn.Module())
        self.read = read

    def logits(self, pixels: Tensor) -> Tensor:
        """(n, classes, h, w), drawn out from a quarter of the size."""
        small: Tensor = self.backbone.model(pixel_values=pixels).logits
        return F.interpolate(small, size=pixels.shape[2:], mode="bilinear", align_corners=False)


def shaken(part: Part, generator: torch.Generator, strength: float) -> Part:
    """Mirrored in half of all cases; a cut-out of at least 1 − 0.4·strength of each side, drawn out again; brightness
    by up to 0.3·strength."""
    from PIL import Image

    draws = torch.rand(5, generator=generator).tolist()
    high, wide = part.pixels.shape[:2]
    share = 1 - _ZOOM * strength * draws[0]
    cut_w, cut_h = max(1, round(share * wide)), max(1, round(share * high))
    left, top = round(draws[1] * (wide - cut_w)), round(draws[2] * (high - cut_h))
    pixels, mask = resized(part.pixels[top : top + cut_h, left : left + cut_w], high, wide), part.mask
    if mask is not None:
        cut = Image.fromarray(np.ascontiguousarray(mask[top : top + cut_h, left : left + cut_w]))
        mask = np.array(cut.resize((wide, high), FILTERS["nearest"]), np.uint8)
    if draws[3] < 0.5:
        pixels, mask = pixels[:, ::-1], None if mask is None else mask[:, ::-1].copy()
    light = 1 + _LIGHT * strength * (2 * draws[4] - 1)
    lit = np.clip(pixels.astype(np.float32) * light, 0, 255).astype(np.uint8)
    return Part(np.ascontiguousarray(lit), part.size, mask)
