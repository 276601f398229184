"""Torchvision's detectors on feature maps: the loss of each picture, and what is found in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from acclimate.backbones.maps import Level, Pyramid

Target = dict[str, Tensor]  # boxes (m, 4) and labels (m,) from 0, of one picture
Found = dict[str, Tensor]  # boxes (m, 4), labels (m,) from 0 and scores (m,)


class Limits(NamedTuple):
    """Which boxes are told: from which score on, what overlap is the same thing, and how many at most."""

    score: float
    nms: float
    most: int


class Detector(nn.Module, ABC):
    """A pyramid and what finds boxes on it; everything here moves at the head's rate."""

    @abstractmethod
    def losses(self, pixels: Tensor, maps: Sequence[Tensor], targets: Sequence[Target]) -> Tensor:
        """The loss of every picture, (n,)."""

    @abstractmethod
    def found(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[Found]:
        """The boxes of every picture, best first."""


class Fcos(Detector):
    """Every place of the maps says what it lies in and how far the edges are (Tian et al. 2020, arXiv:2006.09214)."""

    def __init__(self, levels: Sequence[Level], width: int, classes: int, convs: int, limits: Limits) -> None:
        super().__init__()
        from torchvision.models.detection import FCOS
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.fcos import FCOSHead

        pyramid = Pyramid([level.channels for level in levels], width, extra=False)
        sizes = tuple((level.stride,) for level in levels)
        self.model: Any = FCOS(
            pyramid,
            classes,
            anchor_generator=AnchorGenerator(sizes, ((1.0,),) * len(sizes)),
            head=FCOSHead(width, 1, classes, num_convs=convs),
            score_thresh=limits.score,
            nms_thresh=limits.nms,
            detections_per_img=limits.most,
        )

    def _read(self, pixels: Tensor, maps: Sequence[Tensor]) -> tuple[dict[str, Tensor], list[Tensor], list[int], Any]:
        features = list(self.model.backbone(maps).values())
        images = _images(pixels)
        said = {name: value.float() for name, value in self.model.head(features).items()}
        places = [f.shape[2] * f.shape[3] for f in features]
        return said, self.model.anchor_generator(images, features), places, images

    def losses(self, pixels: Tensor, maps: Sequence[Tensor], targets: Sequence[Target]) -> Tensor:
        """Focal loss + GIoU loss + centre-ness, over the number of places inside things of the picture."""
        said, anchors, places, _ = self._read(pixels, maps)
        each = []
        for i, target in enumerate(targets):
            mine = {name: value[i : i + 1] for name, value in said.items()}
            each.append(sum(self.model.compute_loss([target], mine, anchors[i : i + 1], places).values()))
        return torch.stack(each)

    def found(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[Found]:
        """After NMS."""
        said, anchors, places, images = self._read(pixels, maps)
        split = {name: list(torch.split(value, places, 1)) for name, value in said.items()}
        cut = [list(torch.split(a, places)) for a in anchors]
        found: list[Found] = self.model.postprocess_detections(split, cut, images.image_sizes)
        return found


class TwoStage(Detector):
    """Proposals first, then each is looked at (Faster R-CNN: Ren et al. 2015, arXiv:1506.01497)."""

    def __init__(self, levels: Sequence[Level], width: int, classes: int, limits: Limits) -> None:
        super().__init__()
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.ops import MultiScaleRoIAlign

        pyramid = Pyramid([level.channels for level in levels], width, extra=True)
        strides = [level.stride for level in levels] + [2 * levels[-1].stride]
        sizes = tuple((3 * stride,) for stride in strides)
        names = [str(i) for i in range(len(levels))]
        self.model: Any = FasterRCNN(
            pyramid,
            rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
            rpn_post_nms_top_n_train=500,
            rpn_post_nms_top_n_test=500,
            box_roi_pool=MultiScaleRoIAlign(featmap_names=names, output_size=7, sampling_ratio=2),
            box_head=TwoMLPHead(49 * width, 8 * width),
            box_predictor=FastRCNNPredictor(8 * width, classes + 1),
            box_batch_size_per_image=128,
            box_score_thresh=limits.score,
            box_nms_thresh=limits.nms,
            box_detections_per_img=limits.most,
        )

    def losses(self, pixels: Tensor, maps: Sequence[Tensor], targets: Sequence[Target]) -> Tensor:
        """Losses of the proposals and of what they hold, each picture for itself."""
        features = self.model.backbone(maps)
        before = self.model.rpn.training, self.model.roi_heads.training
        self.model.rpn.training = self.model.roi_heads.training = True  # else they give boxes and no losses
        try:
            each = []
            for i, target in enumerate(targets):
                mine = {name: value[i : i + 1] for name, value in features.items()}
                image = _images(pixels[i : i + 1])
                shifted = [{"boxes": target["boxes"], "labels": target["labels"] + 1}]
                proposals, first = self.model.rpn(image, mine, shifted)
                _, second = self.model.roi_heads(mine, proposals, image.image_sizes, shifted)
                each.append(sum(first.values()) + sum(second.values()))
            return torch.stack(each)
        finally:
            self.model.rpn.training, self.model.roi_heads.training = before

    def found(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[Found]:
        """After NMS."""
        features, images = self.model.backbone(maps), _images(pixels)
        proposals, _ = self.model.rpn(images, features, None)
        boxes, _ = self.model.roi_heads(features, proposals, images.image_sizes, None)
        return [{**one, "labels": one["labels"] - 1} for one in boxes]


def _images(pixels: Tensor) -> Any:
    from torchvision.models.detection.image_list import ImageList

    high, wide = pixels.shape[2:]
    return ImageList(pixels, [(int(high), int(wide))] * len(pixels))
