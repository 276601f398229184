"""Pictures for a report with what is true and what was told drawn into them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

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


def data_uri(picture: Any) -> str:
    """A picture as a JPEG inside a page."""
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
