"""Masks without transfer: by the colour of each pixel, and by its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.data.masks import IGNORED, packed, unpacked
from acclimate.data.pictures import opened
from acclimate.data.rows import Data
from acclimate.structured.base import labels_of

_GRID = 32  # places a side
_PIXELS = 20_000  # of a picture that are looked at


class ByColour:
    """Each pixel has the class that training pixels of its colour (16 steps of red, green and blue) have most."""

    def __init__(self, train: Data, classes: int, seed: int) -> None:
        rng, counts = np.random.default_rng(seed), np.zeros((4096, classes))
        for one, label in zip(train.inputs, labels_of(train), strict=True):
            codes, mask = _colours(one).ravel(), unpacked(label).ravel()
            at = rng.integers(len(mask), size=_PIXELS)
            at = at[mask[at] < classes]
            np.add.at(counts, (codes[at], mask[at]), 1)
        self.best = np.where(counts.any(1), counts.argmax(1), counts.sum(0).argmax()).astype(np.uint8)

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """A mask a picture."""
        return [packed(self.best[_colours(one)]) for one in inputs]


class ByPlace:
    """Each pixel has the class that its place (on a grid of 32 x 32) has most in training masks."""

    def __init__(self, train: Data, classes: int) -> None:
        counts = np.zeros((_GRID, _GRID, classes))
        for label in labels_of(train):
            small = _at_size(unpacked(label), _GRID, _GRID)
            for index in range(classes):
                counts[..., index] += small == index
        self.best = counts.argmax(2).astype(np.uint8)

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """A mask a picture."""
        found = []
        for one in inputs:
            picture = opened(one)
            found.append(packed(_at_size(self.best, picture.height, picture.width)))
        return found


def _colours(value: Any) -> NDArray[np.int64]:
    steps = np.asarray(opened(value)).astype(np.int64) >> 4
    return np.asarray(steps[..., 0] << 8 | steps[..., 1] << 4 | steps[..., 2])


def _at_size(indices: NDArray[np.uint8], high: int, wide: int) -> NDArray[np.uint8]:
    from PIL import Image

    return np.array(Image.fromarray(indices).resize((wide, high), 0), np.uint8)


def confusion(true: NDArray[np.uint8], said: NDArray[np.uint8], classes: int) -> NDArray[np.float64]:
    """How many pixels of each true class (rows) were told to be of each class: (k, k); index 255 is left out.

    >>> confusion(np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 1]], np.uint8), 2).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    keep = true != IGNORED
    codes = true[keep].astype(np.int64) * classes + said[keep]
    return np.bincount(codes, minlength=classes * classes).reshape(classes, classes).astype(np.float64)
