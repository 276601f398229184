"""Pictures as files hold them: opened the right way round and in RGB, and looked at for the gate."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import UserError
from acclimate.keys import once_a_file

SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".pnm", ".jp2", ".avif", ".ico", ".tga",
}  # fmt: skip
THUMB = 16  # pixels a side of the grey thumbnail that near duplicates are told by
DETAIL = 64  # pixels of the shorter side from which a picture has enough detail to tell near duplicates
_SHOWN = 128  # pixels of the longer side in a report
_SIXTEEN = 257  # 65535 / 255
_ORIENTATION = 0x0112  # the EXIF tag
_FLIPPED = 6  # bits of 64 in which the hashes of near duplicates may differ
_ALIKE = 0.995


@dataclass(frozen=True)
class Seen:
    """What is known of a picture after it was decoded once; `problem` is a reason of the gate, empty if it is sound."""

    problem: str = ""
    mode: str = ""  # as the file has it: RGB, L, P, CMYK, I;16 ...
    size: tuple[int, int] = (0, 0)  # width and height, turned upright
    turned: bool = False  # by its EXIF orientation
    alpha: bool = False
    frames: int = 1
    brightest: int = 255  # of a 16-bit picture, on the scale of its 16 bits
    thumb: bytes = b""  # 16 x 16 grey bytes


def opened(value: Any, least: int | None = None) -> Any:
    """A path, bytes, a Pillow image or an array as an upright Pillow image in RGB.

    With `least` a JPEG is halved while it is decoded as long as its sides keep that many pixels. Transparent parts lie
    on white, 16-bit values are scaled to bytes, of several frames the first counts.
    """
    from PIL import Image, ImageOps

    if not is_file(value):
        return rgb(value if isinstance(value, Image.Image) else _of_array(np.asarray(value)))
    try:
        with Image.open(_handle(value)) as picture:
            if least is not None:
                picture.draft(None, (least, least))  # of formats other than JPEG: nothing
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return rgb(picture)
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, Image.DecompressionBombError) as error:
        raise UserError(f"{name_of(value)} cannot be read as a picture: {error}") from error


def is_file(value: Any) -> bool:
    """Whether this is the path of a picture, or the bytes of its file."""
    return isinstance(value, (str, os.PathLike, bytes, bytearray))


def name_of(value: Any) -> str:
    """What a picture is called in a message."""
    if isinstance(value, (str, os.PathLike)):
        return str(value)
    return f"a picture in memory ({type(value).__name__})"


def _handle(value: Any) -> Any:
    return io.BytesIO(value) if isinstance(value, (bytes, bytearray)) else value


def rgb(picture: Any) -> Any:
    """The same picture in RGB; what is transparent lies on white, and 16 bits become 8."""
    from PIL import Image

    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I") or picture.mode == "F":
        return Image.fromarray(_to_bytes(np.asarray(picture))).convert("RGB")
    if transparent(picture):
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def transparent(picture: Any) -> bool:
    """Whether a picture says where it can be seen through."""
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Greys of 16 bits, or numbers from 0 to 1, as bytes; whole numbers up to 255 stay."""
    if values.dtype.kind == "f":
        top = float(np.nanmax(values, initial=0.0))
        scale = 255.0 if top <= 1 else 1.0 if top <= 255 else 255.0 / top
        return np.asarray(np.clip(np.nan_to_num(values) * scale, 0, 255).round(), np.uint8)
    if values.dtype.itemsize == 2 or values.max(initial=0) > 255:
        return np.asarray(np.clip(values, 0, 65535) // _SIXTEEN, np.uint8)
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def _of_array(array: NDArray[Any]) -> Any:
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise UserError(
            f"an array of the shape {array.shape} is no picture; give (height, width) for grey or (height, width, 3) "
            "for colours"
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype.kind not in "uif":
        raise UserError(f"an array of {array.dtype} is no picture; give bytes from 0 to 255 or numbers from 0 to 1")
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "f" and not (low >= 0 and high <= 1):
        raise UserError(
            f"a picture of floats holds numbers from 0 to 1, and this one {low:g} to {high:g}; divide by the largest "
            "value that a pixel can have"
        )
    if array.dtype.kind == "f":
        array = array * np.float32(255)
        return Image.fromarray(np.asarray(array.round(), np.uint8))
    return Image.fromarray(_to_bytes(array))


def look(value: Any) -> Seen:
    """Decode a picture once: what it is, or why it cannot be used. A file is looked at again when it has changed."""
    try:
        return _looked_once(value)
    except (OSError, ValueError):
        return Seen("missing_file")


def _looked(value: Any) -> Seen:
    from PIL import Image, UnidentifiedImageError

    if isinstance(value, str) and os.path.isdir(value):
        return Seen("not_a_picture")
    if isinstance(value, str) and os.path.getsize(value) == 0:
        return Seen("empty_file")
    if not is_file(value):
        try:
            picture = opened(value)
        except UserError:
            return Seen("not_a_picture")
        return Seen(mode="RGB", size=picture.size, thumb=_thumb(picture))
    try:
        with Image.open(_handle(value)) as picture:
            return _facts(picture)
    except UnidentifiedImageError:
        return Seen("not_a_picture")
    except Image.DecompressionBombError:
        return Seen("too_large")
    except (OSError, ValueError, SyntaxError, EOFError, TypeError):
        return Seen("broken_file")


_looked_once = once_a_file(_looked, 1 << 18)


def _facts(picture: Any) -> Seen:
    """The facts of an open file; raises where its data stops or is damaged."""
    from PIL import ImageOps

    mode, alpha, frames = picture.mode, transparent(picture), int(getattr(picture, "n_frames", 1))
    orientation, (wide, high) = picture.getexif().get(_ORIENTATION, 1), picture.size
    picture.draft(None, (DETAIL * 2, DETAIL * 2))
    picture.load()
    brightest = int(np.asarray(picture).max(initial=0)) if mode.startswith("I") else 255
    ImageOps.exif_transpose(picture, in_place=True)
    size = (high, wide) if orientation in (5, 6, 7, 8) else (wide, high)
    return Seen("", mode, size, orientation not in (0, 1), alpha, frames, brightest, _thumb(rgb(picture)))


def _thumb(picture: Any) -> bytes:
    return bytes(picture.convert("L").resize((THUMB, THUMB), 4).tobytes())  # 4: Pillow's averaging filter


def thumbnail(value: Any) -> bytes:
    """A small JPEG for a report: 128 pixels on the longer side."""
    picture = opened(value, _SHOWN)
    picture.thumbnail((_SHOWN, _SHOWN))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80)
    return out.getvalue()


def near(thumbs: Mapping[int, NDArray[np.float32]]) -> Iterator[tuple[int, int]]:
    """Pairs of places whose thumbnails are nearly one: correlation of 0.995 and more, of those whose hashes agree.

    A hash has 64 bits, of the lowest 8 x 8 cosine coefficients above or below their median; pairs that share one of its
    four quarters are compared, so that no two pictures that differ in more than half of it ever are.
    """
    from scipy.fft import dctn

    places = np.array(sorted(thumbs), np.int64)
    if len(places) < 2:
        return
    pixels = np.stack([thumbs[int(i)] for i in places])
    waves = dctn(pixels, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(places), 64)
    bits = waves > np.median(waves[:, 1:], 1, keepdims=True)
    flat = pixels.reshape(len(places), -1)
    flat = flat - flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    for quarter in bits.reshape(len(places), 4, 16).transpose(1, 0, 2):
        code = quarter @ (1 << np.arange(16))
        order = np.argsort(code, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
            yield from _alike(places, flat, bits, group)


def _alike(
    places: NDArray[np.int64], flat: NDArray[np.float32], bits: NDArray[np.bool_], group: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """Each of a group with those before it: a thousand at most, so that many of one look do not take for ever."""
    for k in range(1, len(group)):
        one, others = group[k], group[max(0, k - 1000) : k]
        close = (bits[others] != bits[one]).sum(1) <= _FLIPPED
        for other in others[close]:
            if float(flat[one] @ flat[other]) >= _ALIKE:
                yield int(places[other]), int(places[one])
