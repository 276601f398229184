"""Pictures with a class for every pixel: masks as indices, palettes or colours, and the checks that they pass."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from acclimate.data import pictures
from acclimate.data.encoding import decode
from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.folders import base_of, file_of
from acclimate.data.labels import is_blank
from acclimate.data.pictures import SUFFIXES
from acclimate.data.read import read
from acclimate.data.rows import Columns, Table
from acclimate.errors import UserError

IGNORED = 255  # pixels of this index count for nothing
Indices = NDArray[np.uint8]
_FOLDERS = (("images", "masks"), ("JPEGImages", "SegmentationClass"), ("images", "labels"), ("image", "mask"))
_FILES = ("image", "file", "path", "picture", "filename", "image_path")
_MASKS = ("mask", "mask_path", "label", "annotation", "segmentation")
_LISTS = ("classes.txt", "classes.csv")
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation -> Pillow's transposition


class Mask(NamedTuple):
    """Class indices of every pixel as the bytes of a grey PNG: small, and equal where the pixels are."""

    png: bytes
    classes: tuple[str, ...] = ()  # their names, where a model tells them


@dataclass(frozen=True)
class Masked:
    """A picture with its mask as a source has them."""

    picture: Any
    mask: Any  # a path, or None where there is none
    line: int


@dataclass(frozen=True)
class Legend:
    """Names of classes, and the colour of each where masks are coloured."""

    names: tuple[str, ...] = ()
    colours: Mapping[tuple[int, int, int], int] | None = None


def packed(indices: Indices) -> Mask:
    """A mask (h, w) of indices."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(indices).save(out, "PNG")
    return Mask(out.getvalue())


def unpacked(mask: Mask) -> Indices:
    """Its indices, (h, w)."""
    from PIL import Image

    with Image.open(io.BytesIO(mask.png)) as picture:
        return np.array(picture, np.uint8)


def masked(source: Any, columns: Columns) -> tuple[list[Masked], Legend, Table]:
    """Every picture of a source with its mask, what the indices mean, and a table of them, one a row."""
    if isinstance(source, (str, Path)) and (folder := Path(source).expanduser()).is_dir():
        for first, second in _FOLDERS:
            if (folder / first).is_dir() and (folder / second).is_dir():
                rows = _in_folders(folder / first, folder / second)
                names: list[object] = [Path(r.picture).relative_to(folder).as_posix() for r in rows]
                facts: dict[str, object] = {"format": "folder", "folder": str(folder)}
                facts["notes"] = [f"masks are those in {second}/ of the same name"]
                lines = tuple(r.line for r in rows)
                return (
                    rows,
                    legend_of(folder),
                    Table({"file": names}, lines, (None,) * len(rows), str(source), True, facts),
                )
    table = read(source, may_be_empty=True)
    lower = {name.lower(): name for name in table.columns}
    file = columns.file or next((lower[n] for n in _FILES if n in lower), None)
    if file is None or file not in table.columns:
        raise UserError(
            f"{table.source} has no column of pictures; name it with --file-column (its columns: "
            f"{', '.join(table.columns)})"
        )
    given = [n for n in columns.labels if n in table.columns]
    mask = next(iter([*given, *(lower[n] for n in _MASKS if n in lower and lower[n] != file)]), None)
    base = base_of(table)

    def paths(name: str | None) -> list[Any]:
        if name is None:
            return [None] * len(table)
        return [None if is_blank(c) else file_of(c, base) for c in table.columns[name]]

    both = zip(paths(file), paths(mask), table.lines, strict=True)
    return [Masked(p, m, n) for p, m, n in both], legend_of(base), table


def _in_folders(shown: Path, masks: Path) -> list[Masked]:
    held = {p.relative_to(masks).with_suffix("").as_posix(): p for p in sorted(masks.rglob("*")) if _is_picture(p)}
    files = {p.relative_to(shown).with_suffix("").as_posix(): p for p in sorted(shown.rglob("*")) if _is_picture(p)}
    rows = []
    for i, stem in enumerate(sorted({*files, *held}), 1):
        mask = next((held[s] for s in (stem, f"{stem}_mask", f"{stem}_L") if s in held), None)
        if stem not in files and any(stem == f"{s}{end}" for s in files for end in ("_mask", "_L")):
            continue
        rows.append(Masked(str(files.get(stem, shown / f"{stem}.jpg")), None if mask is None else str(mask), i))
    return rows


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def legend_of(folder: Path) -> Legend:
    """`classes.txt` (a name a line: the first is index 0) or `classes.csv` (name, red, green, blue)."""
    for name in _LISTS:
        path = folder / name
        if not path.is_file():
            continue
        text = decode(path.read_bytes(), str(path), None).text
        rows = [row for row in csv.reader(io.StringIO(text)) if row and any(cell.strip() for cell in row)]
        names = [row[0].strip() for row in rows]
        if all(len(row) < 4 for row in rows):
            return Legend(tuple(names))
        try:
            colours = [tuple(int(cell) for cell in row[1:4]) for row in rows if row[1].strip().isdigit()]
            if not all(0 <= part <= 255 for colour in colours for part in colour):
                raise ValueError("no byte")
        except (IndexError, ValueError):
            raise UserError(f"{path} holds a colour that is no three numbers from 0 to 255") from None
        names = [row[0].strip() for row in rows if row[1].strip().isdigit()]
        return Legend(tuple(names), {(c[0], c[1], c[2]): i for i, c in enumerate(colours)})
    return Legend()


@dataclass(frozen=True)
class Checked:
    """What the checks made of one row."""

    indices: Indices | None
    reason: str | None
    turned: bool = False


def checked(row: Masked, legend: Legend) -> Checked:
    """The indices of a mask as large as its upright picture."""
    from PIL import Image

    if row.picture is None:
        return Checked(None, "missing_file")
    seen = pictures.look(row.picture)
    if seen.problem:
        return Checked(None, seen.problem)
    if row.mask is None:
        return Checked(None, "no_mask")
    try:
        with Image.open(row.mask) as picture:
            picture.load()
            turned = seen.turned and picture.size != seen.size and picture.size == seen.size[::-1]
            if turned:
                with Image.open(row.picture) as shown:
                    move = _TURNS.get(int(shown.getexif().get(0x0112, 1)))
                found: Any = picture if move is None else picture.transpose(Image.Transpose(move))
            else:
                found = picture
            if found.size != seen.size:
                return Checked(None, "other_size")
            indices = _indices(found, legend)
    except (OSError, ValueError, SyntaxError, EOFError):
        return Checked(None, "bad_mask")
    return Checked(indices, None if indices is not None else "unknown_colour", turned)


def _indices(picture: Any, legend: Legend) -> Indices | None:
    """Indices as they are in palettes and greys; colours by the legend, None where one is not in it."""
    if legend.colours is None or picture.mode in ("P", "L", "1"):
        if picture.mode not in ("P", "L", "1", "I", "I;16"):
            rgb = np.asarray(picture.convert("RGB"))
            return np.ascontiguousarray(rgb[..., 0]) if (rgb == rgb[..., :1]).all() else None
        values = np.asarray(picture)
        return None if values.max(initial=0) > IGNORED else values.astype(np.uint8)
    rgb = np.asarray(picture.convert("RGB")).astype(np.int64)
    codes = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    found = np.full(codes.shape, -1, np.int64)
    for (r, g, b), index in legend.colours.items():
        found[codes == (r << 16 | g << 8 | b)] = index
    return None if (found < 0).any() else found.astype(np.uint8)


def settled(
    rows: Sequence[Masked], found: Sequence[Checked], legend: Legend, classes: int | None
) -> tuple[list[Mask | None], list[str | None], list[Finding], Counter[int]]:
    """Masks, reasons to leave a row out, findings, and pixels of each class; `classes`: how many are known."""
    values = [np.unique(one.indices) if one.indices is not None else np.array([], np.uint8) for one in found]
    every = {int(v) for one in values for v in one}
    binary = every <= {0, IGNORED} and IGNORED in every and not legend.names
    known = classes or len(legend.names) or IGNORED
    masks: list[Mask | None] = []
    reasons: list[str | None] = []
    pixels: Counter[int] = Counter()
    for one, held in zip(found, values, strict=True):
        reason, indices = one.reason, one.indices
        if indices is not None and binary:
            indices = (indices == IGNORED).astype(np.uint8)
        elif reason is None and any(known <= v != IGNORED for v in held.tolist()):
            reason = "unknown_index"
        elif reason is None and held.tolist() == [IGNORED]:
            reason = "all_ignored"
        masks.append(None if reason or indices is None else packed(indices))
        reasons.append(reason)
        if reason is None and indices is not None:
            pixels.update(dict(enumerate(np.bincount(indices.ravel()).tolist())))
    return masks, reasons, _findings(rows, found, reasons, values, binary), pixels


def _findings(
    rows: Sequence[Masked], found: Sequence[Checked], reasons: Sequence[str | None], values: Sequence[Any], binary: bool
) -> list[Finding]:
    out = []
    sound = [i for i, reason in enumerate(reasons) if reason is None]
    bare = [rows[i].line for i in sound if values[i].tolist() in ([0], [0, IGNORED]) and not binary]
    bare += [rows[i].line for i in sound if binary and values[i].tolist() == [0]]
    if bare:
        message = f"{rows_text(len(bare))} {verb(len(bare), 'have')} a mask of nothing but the first class"
        out.append(finding("empty_mask", "info", message, len(bare), bare))
    ignored = [rows[i].line for i in sound if IGNORED in values[i] and not binary]
    if ignored:
        message = f"{rows_text(len(ignored))} {verb(len(ignored), 'hold')} pixels of index 255, which count for nothing"
        out.append(finding("ignored_pixels", "info", message, len(ignored), ignored))
    if binary:
        message = "masks hold 0 and 255 alone: 255 is read as the one class beside the background"
        out.append(finding("binary_mask", "info", message, len(sound)))
    turned = [rows[i].line for i in sound if found[i].turned]
    if turned:
        message = f"{rows_text(len(turned))}: the mask is turned with its picture (EXIF)"
        out.append(finding("turned_mask", "info", message, len(turned), turned))
    return out
