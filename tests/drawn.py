"""Small pictures on disk: two classes that can be told apart, and what users' folders hold besides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def bars(count: int, seed: int = 0, side: int = 24) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Grey noise with a bright bar: upright pictures are "one", level ones "dash"; by turns."""
    rng = np.random.default_rng(seed)
    pixels, labels = [], []
    for i in range(count):
        picture = rng.integers(0, 90, (side, side, 3))
        at = int(rng.integers(4, side - 6))
        if i % 2:
            picture[:, at : at + 3] = 230
        else:
            picture[at : at + 3] = 230
        pixels.append(picture.astype(np.uint8))
        labels.append("one" if i % 2 else "dash")
    return pixels, labels


def folder(path: Path, count: int = 48, seed: int = 0, side: int = 24) -> Path:
    """CLASS/number.png for each of `bars`."""
    from PIL import Image

    for i, (pixels, label) in enumerate(zip(*bars(count, seed, side), strict=True)):
        (path / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path / label / f"{i:03}.png")
    return path
