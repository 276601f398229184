"""Pictures for a report with what is true and what was told drawn into them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.data.boxes import Box
from acclimate.data.pictures import opened
from acclimate.errors import UserError

TRUE, TOLD = (0, 158, 60), (255, 130, 0)  # green and orange
_SHOWN = 360  # pixels of the longer side


def with_boxes(value: Any, true: Sequence[Box], told: Sequence[Box]) -> str:
    """True boxes in green, told ones in orange, with their classes; a data URI, empty where the picture is gone."""
    from PIL import ImageDraw

    try:
        picture = opened(value)
    except UserError:
        return ""
    scale = min(1.0, _SHOWN / max(picture.size))
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    pen = ImageDraw.Draw(picture)
    for boxes, colour, width in ((true, TRUE, 3), (told, TOLD, 1)):
        for box in boxes:
            corners = [value * scale for value in box[:4]]
            pen.rectangle(
                [min(corners[0], corners[2]), corners[1], corners[2], corners[3]], outline=colour, width=width
            )
            if boxes is told:
                pen.text((corners[0] + 2, corners[1] + 1), f"{box.label} {box.score:.2f}", fill=colour)
    return data_uri(picture)


_COLOURS = ((0, 0, 0), (230, 60, 60), (60, 120, 230), (60, 180, 75), (245, 200, 40), (150, 80, 200), (70, 210, 210))


def with_masks(value: Any, true: NDArray[np.uint8], told: NDArray[np.uint8]) -> str:
    """The picture under the true mask, and beside it under the one told; the first class is left clear."""
    from PIL import Image

    try:
        picture = opened(value)
    except UserError:
        return ""
    scale = min(1.0, _SHOWN / 2 / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    pixels = np.asarray(picture.resize(size)).astype(np.float32)
    sides = []
    for mask in (true, told):
        small = np.asarray(Image.fromarray(mask).resize(size, 0)).astype(np.int64)
        colours = np.array(_COLOURS, np.float32)[np.where(small, 1 + (small - 1) % (len(_COLOURS) - 1), 0)]
        sides.append(np.where(small[..., None] > 0, 0.5 * pixels + 0.5 * colours, pixels))
    return data_uri(Image.fromarray(np.concatenate(sides, 1).astype(np.uint8)))


def data_uri(picture: Any) -> str:
    """A picture as a JPEG inside a page."""
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
