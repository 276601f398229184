"""The networks of detection: a timm backbone with one of torchvision's detectors, and a DETR-like model whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.image import ImageBackbone
from acclimate.backbones.image_pixels import FILTERS, ImageSettings, standardised
from acclimate.backbones.maps import levels_of, maps_of, upright_pixels
from acclimate.data import pictures
from acclimate.data.boxes import Box, placed, rounded
from acclimate.structured.base import StructuredNetwork
from acclimate.structured.detect_heads import Detector, Fcos, Found, Limits, Target, TwoStage
from acclimate.structured.hub_vision import HubVision

_COST = 256  # of a picture in a batch that is answered
_ZOOM, _LIGHT = 0.4, 0.3  # of the sides and of brightness, at strength 1
_SEEN = 0.3  # the share of a box that has to stay in a cut-out


class Part(NamedTuple):
    """A picture at the size that is read, its own size, and its boxes at the size that is read."""

    pixels: NDArray[np.uint8]  # (h, w, 3)
    size: tuple[int, int]  # width and height of the upright picture
    boxes: NDArray[np.float32] | None  # (m, 4)
    codes: NDArray[np.int64] | None  # (m,)


@dataclass(frozen=True)
class Read:
    """How pictures become tensors and boxes become targets, whatever the model."""

    image: ImageSettings
    canvas: tuple[int, int]  # height and width
    classes: tuple[str, ...]

    def encode(self, inputs: Sequence[Any], labels: Sequence[Any] | None) -> list[Encoded]:
        """Pictures stretched to the canvas, boxes with them; boxes of unknown classes are left out."""
        high, wide = self.canvas
        pixels = upright_pixels(inputs, high, wide, FILTERS[self.image.interpolation])
        codes = {name: i for i, name in enumerate(self.classes)}
        rows = []
        for i, value in enumerate(inputs):
            size = pictures.look(value).size
            part = Part(pixels[i], size, None, None)
            if labels is not None:
                known = [box for box in labels[i] if box.label in codes]
                scale = np.array([wide / size[0], high / size[1]] * 2, np.float32)
                corners = np.array([box[:4] for box in known], np.float32).reshape(-1, 4) * scale
                part = part._replace(boxes=corners, codes=np.array([codes[b.label] for b in known], np.int64))
            rows.append(Encoded((part,), _COST))
        return rows

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Standardised pixels (n, 3, h, w), boxes of all pictures one after another, and which picture each is of."""
        parts: list[Part] = [row.parts[0] for row in rows]
        batch = {"pixels": standardised([p.pixels for p in parts], self.image), "rows": torch.arange(len(parts))}
        if all(p.boxes is not None and p.codes is not None for p in parts):
            counts = [0 if p.boxes is None else len(p.boxes) for p in parts]
            batch["boxes"] = torch.from_numpy(np.concatenate([p.boxes for p in parts if p.boxes is not None]))
            batch["codes"] = torch.from_numpy(np.concatenate([p.codes for p in parts if p.codes is not None]))
            batch["of_row"] = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor(counts))
        return batch

    def targets(self, batch: Batch) -> list[Target]:
        """One a picture."""
        mine = [batch["of_row"] == i for i in range(len(batch["rows"]))]
        return [{"boxes": batch["boxes"][at], "labels": batch["codes"][at]} for at in mine]

    def told(self, rows: Sequence[Encoded], found: Sequence[Found]) -> list[Any]:
        """What was found, in pixels of the pictures themselves, best first."""
        high, wide = self.canvas
        answers = []
        for row, one in zip(rows, found, strict=True):
            size = row.parts[0].size
            scale = np.array([size[0] / wide, size[1] / high] * 2)
            corners = one["boxes"].double().cpu().numpy() * scale
            corners = np.clip(corners, 0, np.array([size[0], size[1]] * 2))
            scores, codes = one["scores"].tolist(), one["labels"].tolist()
            said = [
                rounded(placed(Box(0, 0, 0, 0, self.classes[code], score), corner))
                for corner, code, score in zip(corners.tolist(), codes, scores, strict=True)
                if 0 <= code < len(self.classes)
            ]
            said = [box for box in said if box.x2 > box.x1 and box.y2 > box.y1]
            answers.append(tuple(sorted(said, key=lambda b: (-b.score, b))))
        return answers


class BoxNetwork(StructuredNetwork):
    """What both networks share: how pictures are read, and how they are changed at random."""

    replays = False  # several maps are read, not the last block's output alone
    augments = True
    read: Read

    def encode(self, inputs: Sequence[Any], labels: Sequence[Any] | None) -> list[Encoded]:
        """Pictures at the size that is read."""
        return self.read.encode(inputs, labels)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pixels and boxes."""
        return self.read.collate(rows)

    def changed(self, rows: Sequence[Encoded], generator: torch.Generator, strength: float) -> list[Encoded]:
        """Mirrored or not, cut out at random, lighter or darker; boxes follow (see `shaken`)."""
        return [Encoded((shaken(row.parts[0], generator, strength),), row.cost) for row in rows]


class DetectNetwork(BoxNetwork):
    """The maps of a timm model at strides 8, 16 and 32, a pyramid on them, and a detector of torchvision on that.

    The pyramid and the detector are the head, new and random; the backbone is what was pretrained.
    """

    backbone: ImageBackbone
    head: Detector

    def __init__(
        self, backbone: ImageBackbone, read: Read, detector: str, width: int, convs: int, limits: Limits
    ) -> None:
        levels = [level for level in levels_of(backbone) if level.stride >= 8]
        count = len(read.classes)
        head = (
            TwoStage(levels, width, count, limits)
            if detector == "faster_rcnn"
            else Fcos(levels, width, count, convs, limits)
        )
        super().__init__(backbone, head)
        self.read, self.levels = read, levels

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every picture, (n,)."""
        maps = maps_of(self.backbone, batch["pixels"], self.levels)
        return self.head.losses(batch["pixels"], maps, self.read.targets(batch))

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """Boxes of every picture with their scores."""
        maps = maps_of(self.backbone, batch["pixels"], self.levels)
        return self.read.told(rows, self.head.found(batch["pixels"], maps))


class HubDetectNetwork(BoxNetwork):
    """A Hugging Face model that finds objects (DETR and its like); its head lives in it.

    Its loss matches found boxes to true ones (Carion et al. 2020, arXiv:2005.12872) and is the library's own, over all
    boxes of the batch: every row of a batch has the batch's mean.
    """

    backbone: HubVision
    compared = "the set loss"  # it divides by the number of boxes of the batch

    def __init__(self, backbone: HubVision, read: Read, limits: Limits) -> None:
        super().__init__(backbone, nn.Module())
        self.read, self.limits = read, limits

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss of the batch, once a picture, (n,)."""
        high, wide = self.read.canvas
        labels = []
        for target in self.read.targets(batch):
            x1, y1, x2, y2 = target["boxes"].unbind(1)
            shares = [(x1 + x2) / 2 / wide, (y1 + y2) / 2 / high, (x2 - x1) / wide, (y2 - y1) / high]
            labels.append({"class_labels": target["labels"], "boxes": torch.stack(shares, 1)})
        loss: Tensor = self.backbone.model(pixel_values=batch["pixels"], labels=labels).loss
        return loss.float().expand(len(labels))

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """Boxes of every picture with their scores, by the model's own way."""
        said = self.backbone.model(pixel_values=batch["pixels"])
        sizes = [self.read.canvas] * len(rows)
        after = self.backbone.processor.post_process_object_detection
        found = [_best(one, self.limits.most) for one in after(said, threshold=self.limits.score, target_sizes=sizes)]
        return self.read.told(rows, found)


def _best(one: Found, most: int) -> Found:
    order = one["scores"].argsort(descending=True)[:most]
    return {name: value[order] for name, value in one.items()}


def shaken(part: Part, generator: torch.Generator, strength: float) -> Part:
    """Mirrored in half of all cases; a cut-out of at least 1 − 0.4·strength of each side, drawn out again; brightness
    and contrast by up to 0.3·strength. Boxes of which less than 0.3 stays to be seen are left out."""
    draws = torch.rand(6, generator=generator).tolist()
    high, wide = part.pixels.shape[:2]
    share = 1 - _ZOOM * strength * draws[0]
    cut_w, cut_h = max(1, round(share * wide)), max(1, round(share * high))
    left, top = round(draws[1] * (wide - cut_w)), round(draws[2] * (high - cut_h))
    pixels = resized(part.pixels[top : top + cut_h, left : left + cut_w], high, wide)
    boxes, codes = part.boxes, part.codes
    if boxes is not None and codes is not None:
        moved = boxes - np.array([left, top] * 2, np.float32)
        cut = np.clip(moved, 0, np.array([cut_w, cut_h] * 2, np.float32))
        kept = _areas(cut) >= _SEEN * _areas(moved)
        boxes = (cut * np.array([wide / cut_w, high / cut_h] * 2, np.float32))[kept]
        codes = codes[kept]
    if draws[3] < 0.5:
        pixels = pixels[:, ::-1]
        if boxes is not None:
            boxes = np.stack([wide - boxes[:, 2], boxes[:, 1], wide - boxes[:, 0], boxes[:, 3]], 1)
    light, contrast = (1 + _LIGHT * strength * (2 * d - 1) for d in draws[4:])
    mean = float(pixels.mean())
    lit = np.clip((pixels.astype(np.float32) - mean) * contrast + mean * light, 0, 255)
    return Part(np.ascontiguousarray(lit.astype(np.uint8)), part.size, boxes, codes)


def resized(pixels: NDArray[np.uint8], high: int, wide: int) -> NDArray[np.uint8]:
    """Stretched to this size (bilinear)."""
    from PIL import Image

    if pixels.shape[:2] == (high, wide):
        return pixels
    return np.array(Image.fromarray(pixels).resize((wide, high), FILTERS["bilinear"]), np.uint8)


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
