"""Pixels: what a linear model can see of pictures without transfer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate.data.pictures import opened

SIDE = 16
_AVERAGE = 4  # Pillow's number of the filter


@dataclass(frozen=True)
class PixelFeatures:
    """Pictures averaged down to 16 x 16 RGB, each value by mean and spread of the training rows: (p − m)/(s √768).

    A picture is stretched to a square, so that nothing of it is cut off. Rows have about length one.
    """

    mean: NDArray[np.float64]  # (768,)
    spread: NDArray[np.float64]  # (768,); 1 where a value never changes
    kind: ClassVar[str] = "pixels"
    dense: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """v, 768."""
        return len(self.mean)

    @property
    def holds(self) -> str:
        """Nothing of any one picture."""
        return ""

    def transform(self, inputs: Sequence[Any]) -> Any:
        """A scipy CSR matrix (n, 768)."""
        from scipy.sparse import csr_matrix

        return csr_matrix((raw(inputs) - self.mean) / (self.spread * np.sqrt(self.width)))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """Mean and spread."""
        return {"side": SIDE}, {"mean": self.mean, "spread": self.spread}

    @staticmethod
    def of_state(values: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> PixelFeatures:
        """What `state` gave."""
        return PixelFeatures(arrays["mean"], arrays["spread"])


def raw(inputs: Sequence[Any]) -> NDArray[np.float64]:
    """Values from 0 to 1, (n, 768)."""
    small = [_small(one) for one in inputs]
    return np.stack([np.frombuffer(s, np.uint8) for s in small]) / 255.0 if small else np.zeros((0, SIDE * SIDE * 3))


def _small(one: Any) -> bytes:
    if not isinstance(one, str):
        return _averaged(one)
    facts = os.stat(one)
    return _small_file(one, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=1 << 17)  # 100 MB: folds read the same pictures again
def _small_file(path: str, _size: int, _written: int) -> bytes:
    return _averaged(path)


def _averaged(one: Any) -> bytes:
    return bytes(opened(one, SIDE * 4).resize((SIDE, SIDE), _AVERAGE).tobytes())


def fit_pixels(inputs: Sequence[Any]) -> PixelFeatures:
    """Mean and spread of the training rows."""
    values = raw(inputs)
    spread = values.std(0)
    return PixelFeatures(values.mean(0), np.where(spread > 1e-6, spread, 1.0))
