"""Boxes of things in pictures, and the checks that they pass: (x1, y1, x2, y2) in pixels of the upright picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from acclimate.data import pictures
from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.errors import UserError

_TOLD = {
    "clipped_box": ("warning", "reaching over the edge of the picture, cut off there"),
    "box_outside": ("warning", "outside of the picture, left out"),
    "empty_box": ("warning", "without width or height, left out"),
    "double_box": ("warning", "standing there twice; one of each is kept"),
    "turned_box": ("info", "drawn on the picture before it was turned (EXIF), and turned with it"),
    "crowd": ("info", "marked as a crowd and left out"),
}


class Box(NamedTuple):
    """One thing in a picture: corners in pixels, what it is, and how sure a model is of it."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str
    score: float = 1.0


@dataclass(frozen=True)
class Boxed:
    """A picture with its boxes as a source has them."""

    picture: Any  # a path, or what Python holds; None where nothing is named
    boxes: tuple[Box, ...] | None  # None: nothing says what is in it
    line: int
    size: tuple[int, int] | None = None  # width and height that the source states
    relative: bool = False  # whether corners are shares of the sides
    reason: str | None = None  # why the row cannot be used, where its annotation says so
    crowds: int = 0


@dataclass(frozen=True)
class Settled:
    """What the checks made of one row."""

    boxes: tuple[Box, ...]
    reason: str | None
    counts: Counter[str]


def settled(row: Boxed) -> Settled:
    """The boxes in pixels of the upright picture, cut off at its edges, without empty and double ones."""
    counts: Counter[str] = Counter({"crowd": row.crowds} if row.crowds else {})
    if row.picture is None:
        return Settled((), row.reason or "missing_file", counts)
    seen = pictures.look(row.picture)
    reason = seen.problem or row.reason or ("no_annotation" if row.boxes is None else None)
    if reason:
        return Settled((), reason, counts)
    given = row.boxes or ()
    if not all(math.isfinite(v) for box in given for v in box[:4]):
        return Settled((), "bad_box", counts)
    try:
        given, turned = _upright(row, given, seen)
    except UserError:
        return Settled((), "other_size", counts)
    counts["turned_box"] += turned
    found = _inside(given, seen.size, counts)
    if given and not found:
        return Settled((), "no_usable_box", counts)
    return Settled(found, None, +counts)


def _upright(row: Boxed, given: tuple[Box, ...], seen: pictures.Seen) -> tuple[tuple[Box, ...], int]:
    """In pixels of the upright picture; and how many boxes were turned with it."""
    wide, high = seen.size
    if row.relative:
        return tuple(b._replace(x1=b.x1 * wide, y1=b.y1 * high, x2=b.x2 * wide, y2=b.y2 * high) for b in given), 0
    if row.size is None or 0 in row.size or row.size == seen.size:
        return given, 0
    if seen.turned and row.size == (high, wide):
        move = _TURNS[_orientation(row.picture)]
        size = row.size
        return tuple(_moved(move, b, size) for b in given), len(given)
    raise UserError(f"{pictures.name_of(row.picture)} has {wide} x {high} pixels, and its boxes are for {row.size}")


# Where a place (x, y) of a stored picture (w, h) lies once it is upright, by the number of its EXIF orientation.
_TURNS: dict[int, Callable[[float, float, int, int], tuple[float, float]]] = {
    5: lambda x, y, w, h: (y, x),
    6: lambda x, y, w, h: (h - y, x),
    7: lambda x, y, w, h: (h - y, w - x),
    8: lambda x, y, w, h: (y, w - x),
}


def _moved(move: Callable[..., tuple[float, float]], box: Box, size: tuple[int, int]) -> Box:
    (xa, ya), (xb, yb) = move(box.x1, box.y1, *size), move(box.x2, box.y2, *size)
    return placed(box, (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)))


def _orientation(value: Any) -> int:
    from PIL import Image

    with Image.open(value) as picture:
        return int(picture.getexif().get(0x0112, 1))


def _inside(given: Sequence[Box], size: tuple[int, int], counts: Counter[str]) -> tuple[Box, ...]:
    wide, high = size
    found: dict[Box, None] = {}
    for box in given:
        if box.x2 <= box.x1 or box.y2 <= box.y1:
            counts["empty_box"] += 1
            continue
        cut = box._replace(x1=max(0.0, box.x1), y1=max(0.0, box.y1), x2=min(wide, box.x2), y2=min(high, box.y2))
        if cut.x2 <= cut.x1 or cut.y2 <= cut.y1:
            counts["box_outside"] += 1
            continue
        over = max(abs(a - b) for a, b in zip(cut[:4], box[:4], strict=True))
        counts["clipped_box"] += over > 1  # many tools count pixels from 1
        cut = placed(cut, (float(cut.x1), float(cut.y1), float(cut.x2), float(cut.y2)))
        counts["double_box"] += cut in found
        found[cut] = None
    return tuple(found)


def settled_all(rows: Sequence[Boxed], advance: Callable[[int], None]) -> list[Settled]:
    """`settled` of every row; pictures are decoded in threads."""
    found = []
    with ThreadPoolExecutor(2) as pool:
        for one in pool.map(settled, rows):
            found.append(one)
            advance(1)
    return found


def findings(rows: Sequence[Boxed], found: Sequence[Settled]) -> list[Finding]:
    """What the checks changed, with the number of boxes and the rows; and pictures of nothing."""
    out = []
    for kind, (severity, text) in _TOLD.items():
        lines = [r.line for r, s in zip(rows, found, strict=True) if s.counts[kind]]
        total = sum(s.counts[kind] for s in found)
        if lines:
            boxes = "1 box" if total == 1 else f"{total:,} boxes"
            out.append(finding(kind, severity, f"{boxes} {text} ({rows_text(len(lines))})", total, lines))
    bare = [r.line for r, s in zip(rows, found, strict=True) if s.reason is None and not s.boxes]
    if bare:
        message = f"{rows_text(len(bare))} {verb(len(bare), 'have')} no box: pictures of none of the classes"
        out.append(finding("no_box", "info", message, len(bare), bare))
    return out


def from_size(x: float, y: float, wide: float, high: float, label: str) -> Box:
    """A box by its upper left corner and its size, as COCO has it.

    >>> from_size(1, 2, 3, 4, "cell")
    Box(x1=1, y1=2, x2=4, y2=6, label='cell', score=1.0)
    """
    return Box(x, y, x + wide, y + high, label)


def from_middle(x: float, y: float, wide: float, high: float, label: str) -> Box:
    """A box by its middle and its size, as YOLO has it."""
    return Box(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2, label)


def rounded(box: Box) -> Box:
    """Tenths of a pixel and a score of four digits: what differs between one machine and another is left out."""
    x1, y1, x2, y2 = (round(float(v), 1) for v in box[:4])
    return placed(box, (x1, y1, x2, y2))._replace(score=round(float(box.score), 4))


def placed(box: Box, corners: Sequence[float]) -> Box:
    """The same thing elsewhere."""
    x1, y1, x2, y2 = corners
    return Box(x1, y1, x2, y2, box.label, box.score)


def renamed(row: Boxed, line: int) -> Boxed:
    """The same row under another number."""
    return replace(row, line=line)
