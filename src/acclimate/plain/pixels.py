"""Pixels: what a linear model can see of pictures without transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate.data.pictures import opened
from acclimate.keys import once_a_file
from acclimate.plain.base import Standardised

SIDE = 16
_AVERAGE = 4  # Pillow's number of the filter


@dataclass(frozen=True)
class PixelFeatures(Standardised):
    """Pictures averaged down to 16 x 16 RGB, 768 values from 0 to 1, standardised.

    A picture is stretched to a square, so that nothing of it is cut off.
    """

    kind: ClassVar[str] = "pixels"

    @staticmethod
    def raw(inputs: Sequence[Any]) -> NDArray[np.float64]:
        """Values from 0 to 1, (n, 768)."""
        found = np.frombuffer(b"".join(_averaged_once(one) for one in inputs), np.uint8)
        return found.reshape(len(inputs), SIDE * SIDE * 3) / 255.0


def _averaged(one: Any) -> bytes:
    return bytes(opened(one, SIDE * 4).resize((SIDE, SIDE), _AVERAGE).tobytes())


_averaged_once = once_a_file(_averaged, 1 << 17)  # 100 MB: folds read the same pictures again
