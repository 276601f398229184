"""Pictures: files named in a column or found in a folder, or what Python holds of them."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.data import pictures
from acclimate.data.duplicates import connected
from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.folders import base_of, file_of
from acclimate.data.kinds.base import Kind, Reading
from acclimate.data.kinds.files import empty, path_cells, read_files
from acclimate.data.rows import Columns, Data, Input, IntArray, Table
from acclimate.errors import UserError, plural
from acclimate.keys import key_of
from acclimate.progress import Progress

_TINY = 16  # pixels of the shorter side below which little can be seen
_SMALL, _LEAST = 32, 8  # pixels a side up to which, and from which on, a small network is enough
_SAMPLE = 100  # pictures whose size is looked at to choose a network
_DARK = 0.125  # of the range of 16 bits: a picture that never gets brighter is nearly black


def read(table: Table, columns: Columns, progress: Progress) -> Reading:
    """What the file column names, decoded once to see whether it can be. Paths are relative to the table's folder."""
    return read_files(
        table, columns, progress, "looking at pictures", file_of, pictures.look, lambda seen: seen.problem
    )


def given(value: Any, columns: Columns, position: int) -> Input | None:
    """A path, a Pillow image, an array or the bytes of a file; None for an empty cell; else an error."""
    if empty(value):
        return None
    one = file_of(value, Path())
    problem = pictures.look(one).problem
    if problem == "missing_file":
        raise UserError(f"input {position + 1} is no picture: there is no file {str(value)[:200]!r}; check the path")
    if problem:
        raise UserError(f"input {position + 1} ({pictures.name_of(one)}) {_SAID[problem]}; give a sound picture")
    return one


_SAID = {
    "not_a_picture": "is no picture",
    "empty_file": "is an empty file",
    "broken_file": "is damaged or cut off",
    "too_large": "has more pixels than can be read",
}


def is_single(value: Any) -> bool:
    """A Pillow image, the bytes of a file, or an array of one picture: (height, width) with or without colours."""
    dimensions = getattr(value, "ndim", 0)
    colours = dimensions == 3 and value.shape[2] in (1, 3, 4)
    return isinstance(value, bytes) or type(value).__module__.startswith("PIL.") or dimensions == 2 or colours


def choose(tables: Sequence[Table], columns: Columns) -> tuple[str, str]:
    """A small network, learned from the start, for tiny pictures of about one size: photographs' say little of them."""
    assert columns.file is not None
    sides: list[int] = []
    for table in tables:
        cells = [c for c in table.columns.get(columns.file, [])[:_SAMPLE] if not empty(c)]
        seen = [pictures.look(file_of(cell, base_of(table))) for cell in cells]
        found = [min(s.size) for s in seen if not s.problem]
        sides += [int(np.median(found))] if found else []
    if not sides or max(sides) > _SMALL or min(sides) < _LEAST:
        return "mobilenetv2", ""
    name = f"small-cnn:{min(sides)}"
    return name, f"{name}, a small network that is learned from the start, since the pictures are tiny"


def keys(inputs: Sequence[Input]) -> list[str]:
    """By the bytes of the file, or the pixels of what lies in memory."""
    return [key_of(one, "image").hex() for one in inputs]


def clusters(inputs: Sequence[Input], own: Sequence[str]) -> IntArray:
    """Pictures of one content, or nearly so: of another size, format or quality, brightened a little."""
    first: dict[str, int] = {}
    of_key = [first.setdefault(key, i) for i, key in enumerate(own)]
    seen = {i: pictures.look(inputs[i]) for i in first.values()}
    thumbs = {
        i: np.frombuffer(s.thumb, np.uint8).reshape(pictures.THUMB, -1).astype(np.float32)
        for i, s in seen.items()
        if s.thumb and min(s.size) >= pictures.DETAIL
    }
    thumbs = {i: t for i, t in thumbs.items() if t.std() > 4}  # plain surfaces are all alike
    return connected(of_key, pictures.near(thumbs))


def findings(data: Data, private: bool) -> list[Finding]:
    """How the pictures differ from upright ones in 8-bit RGB, and what was done; very small and very dark ones."""
    seen = [pictures.look(one) for one in data.inputs]
    out = _changed(data, seen)
    small = [n for s, n in zip(seen, data.lines, strict=True) if min(s.size) < _TINY]
    if small:
        what = f"{rows_text(len(small))} {verb(len(small), 'hold')} a picture of less than {_TINY} pixels a side"
        out.append(finding("tiny_picture", "info", f"{what}; it is enlarged", len(small), small))
    dark = [n for s, n in zip(seen, data.lines, strict=True) if s.mode.startswith("I") and s.brightest < _DARK * 65535]
    if dark:
        what = f"{rows_text(len(dark))} {verb(len(dark), 'hold')} a 16-bit picture that uses little of its range"
        text = f"{what} and so looks nearly black; scale its values up first"
        out.append(finding("dark_picture", "warning", text, len(dark), dark))
    return out


def _changed(data: Data, seen: Sequence[pictures.Seen]) -> list[Finding]:
    parts = (
        ("turned", "was turned upright by its EXIF orientation", [s.turned for s in seen]),
        ("transparent", "has transparent parts, laid on white", [s.alpha for s in seen]),
        ("animated", "has several frames, of which the first is read", [s.frames > 1 for s in seen]),
        ("16_bit", "has 16 bits, scaled to 8", [s.mode.startswith("I") for s in seen]),
        ("cmyk", "is in CMYK, converted to RGB without a colour profile", [s.mode == "CMYK" for s in seen]),
    )
    out = []
    for kind, said, which in parts:
        lines = [n for yes, n in zip(which, data.lines, strict=True) if yes]
        if lines:
            text = f"{rows_text(len(lines))}: the picture {said}"
            out.append(finding(kind, "info", text, len(lines), lines))
    grey = sum(s.mode in ("L", "LA", "1") or s.mode.startswith("I") for s in seen)
    if 0 < grey < len(seen):
        modes = Counter("grey" if s.mode in ("L", "LA", "1") or s.mode.startswith("I") else "colour" for s in seen)
        text = (
            f"{plural(modes['grey'], 'grey picture')} and {modes['colour']:,} with colours; does that go with "
            f"the label?"
        )
        out.append(finding("mixed_colours", "info", text, min(modes.values())))
    return out


def _shown(value: Input) -> Any:
    return pictures.name_of(value)


def _picture(value: Input) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(pictures.thumbnail(value)).decode()


IMAGE = Kind(
    name="image",
    noun="picture",
    plural="pictures",
    models=("image",),
    model="mobilenetv2",
    baseline="pixels",
    blank="no picture named",
    near="but for size, format or quality",
    read=read,
    given=given,
    keys=keys,
    exact=keys,
    clusters=clusters,
    choose=choose,
    findings=findings,
    shown=_shown,
    cells=path_cells,
    single=is_single,
    picture=_picture,
)
