"""Boxes without looking: where training pictures have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from acclimate.data import pictures
from acclimate.data.boxes import Box, placed, rounded
from acclimate.data.rows import Data
from acclimate.metrics.detection import overlaps
from acclimate.structured.base import labels_of

_MORE = 4  # times as many boxes of a class as a picture has
_LOOKED_AT = 5000  # boxes of a class at most


class UsualBoxes:
    """The same boxes for every picture: of each class the means of groups of training boxes (k-means of their shares
    of the sides), four times as many groups as a picture has boxes of it. The score of a box is the share of training
    pictures with a box of the class that overlaps it by half.
    """

    def __init__(self, train: Data, most: int, seed: int) -> None:
        from sklearn.cluster import KMeans

        of_class: dict[str, list[tuple[int, list[float]]]] = {}
        for i, (one, boxes) in enumerate(zip(train.inputs, labels_of(train), strict=True)):
            wide, high = pictures.look(one).size
            for box in boxes:
                shares = [box.x1 / wide, box.y1 / high, box.x2 / wide, box.y2 / high]
                of_class.setdefault(box.label, []).append((i, shares))
        found: list[Box] = []
        for label, rows in of_class.items():
            corners = np.array([shares for _, shares in rows])
            where = np.array([i for i, _ in rows])
            count = min(-(-_MORE * len(rows) // len(train)), most, len(np.unique(corners, axis=0)))
            some = corners[np.random.default_rng(seed).permutation(len(corners))[:_LOOKED_AT]]
            groups = KMeans(min(count, len(some)), n_init=1, random_state=seed).fit(some).cluster_centers_
            close = overlaps(groups, corners) >= 0.5
            for group, near in zip(groups, close, strict=True):
                share = len(np.unique(where[near])) / len(train)
                found.append(placed(Box(0, 0, 0, 0, label, share), [float(v) for v in group]))
        self.boxes = sorted(found, key=lambda b: -b.score)[:most]

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """The boxes in pixels of each picture."""
        said = []
        for one in inputs:
            wide, high = pictures.look(one).size
            scaled = [
                rounded(Box(b.x1 * wide, b.y1 * high, b.x2 * wide, b.y2 * high, b.label, b.score)) for b in self.boxes
            ]
            said.append(tuple(scaled))
        return said
