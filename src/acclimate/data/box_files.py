"""Pictures with boxes as people keep them: Pascal VOC, COCO, YOLO, and tables. A row is a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from acclimate.data.boxes import Box, Boxed, from_middle, from_size, renamed
from acclimate.data.encoding import decode
from acclimate.data.folders import base_of, file_of
from acclimate.data.labels import is_blank
from acclimate.data.pictures import SUFFIXES
from acclimate.data.read import read
from acclimate.data.rows import Columns, Table
from acclimate.errors import UserError
from acclimate.files import json_text

_CORNERS = (
    ("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)  # fmt: skip
_LABELS = ("label", "class", "name", "category")
_FILES = ("file", "path", "image", "filename", "file_name", "image_path", "picture")
_PARTS = {"train": ("train",), "valid": ("val", "valid"), "test": ("test", "val", "valid")}  # keys of data.yaml
CELL = "boxes"  # the column that holds boxes as JSON


def boxed(source: Any, columns: Columns, role: str) -> tuple[list[Boxed], Table]:
    """Every picture of a source with its boxes, and a table of them, one a row: `file`, and `boxes` as JSON."""
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        form, found = _by_form(path, role)
        if form:
            rows = [renamed(row, i) for i, row in enumerate(found, 1)]
            _in_pixels(rows, str(source))
            return rows, _table(rows, str(source), form, path)
    table = read(source, may_be_empty=True)
    rows = _of_table(table, columns)
    _in_pixels(rows, table.source)
    return rows, _table(rows, table.source, str(table.facts.get("format", "table")), base_of(table))


def _in_pixels(rows: Sequence[Boxed], source: str) -> None:
    """Refuse shares of the sides where pixels are expected: every box would be a dot in the corner."""
    boxes = [box for row in rows if not row.relative for box in row.boxes or ()]
    if boxes and all(0 <= v <= 1 for box in boxes for v in box[:4]):
        raise UserError(
            f"{source}: all corners of its boxes lie between 0 and 1, as shares of the picture's sides would; give "
            "pixels, or write them as YOLO (docs/vision.md)"
        )


def _by_form(path: Path, role: str) -> tuple[str, list[Boxed]]:
    """The form that this file or folder has, and its rows; ("", []) where it is a table, or pictures alone."""
    if path.is_file():
        if path.suffix.lower() == ".json" and (held := _coco(path)) is not None:
            return "COCO", held
        if path.suffix.lower() in (".yaml", ".yml"):
            return "YOLO", _yolo_part(path, role)
        if path.suffix.lower() == ".txt" and path.parent.parent.name == "ImageSets":
            names = [line.split()[0] for line in _text(path).splitlines() if line.strip()]
            return "VOC", _voc(path.parent.parent.parent, names)
        return "", []
    if not path.is_dir():
        return "", []
    inner = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]
    if len(inner) == 1 and not any(p.suffix.lower() in (*SUFFIXES, ".json", ".xml", ".yaml") for p in path.iterdir()):
        found = _by_form(inner[0], role)
        if found[0]:
            return found
    if (path / "Annotations").is_dir() or any(path.glob("*.xml")):
        return "VOC", _voc(path, None)
    for name in ("data.yaml", "data.yml"):
        if (path / name).is_file():
            return "YOLO", _yolo_part(path / name, role)
    if (path / "labels").is_dir() or (path / "classes.txt").is_file():
        return "YOLO", list(_yolo(path, _classes(path)))
    for one in sorted(path.glob("*.json")):
        held = _coco(one)
        if held is not None:
            return "COCO", held
    return "", []


def _text(path: Path) -> str:
    try:
        return decode(path.read_bytes(), str(path), None).text
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


# Pascal VOC: an xml for every picture, in Annotations/ beside JPEGImages/, or beside the picture.


def _voc(folder: Path, names: Sequence[str] | None) -> list[Boxed]:
    apart = (folder / "Annotations").is_dir()
    home = folder / "Annotations" if apart else folder
    shown = next((folder / n for n in ("JPEGImages", "images") if (folder / n).is_dir()), folder) if apart else folder
    files = {p.stem: p for p in _pictures(shown)}
    notes = {p.stem: p for p in sorted(home.glob("*.xml"))}
    stems = sorted({*files, *notes}) if names is None else list(names)
    found = []
    for stem in stems:
        picture = str(files.get(stem, shown / f"{stem}.jpg"))
        found.append(_voc_one(notes[stem], picture) if stem in notes else Boxed(picture, None, 0))
    return found


def _voc_one(path: Path, picture: str) -> Boxed:
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, OSError, ValueError):
        return Boxed(picture, None, 0, reason="bad_annotation")
    try:
        found = []
        for one in root.iter("object"):
            corners = [float(one.findtext(f"bndbox/{n}", "")) for n in ("xmin", "ymin", "xmax", "ymax")]
            name = one.findtext("name", "").strip()
            if not name:
                raise ValueError("no name")
            found.append(Box(corners[0], corners[1], corners[2], corners[3], name))
    except ValueError:
        return Boxed(picture, None, 0, reason="bad_box")
    try:
        size = (int(float(root.findtext("size/width", "0"))), int(float(root.findtext("size/height", "0"))))
    except ValueError:
        size = (0, 0)
    return Boxed(picture, tuple(found), 0, size)


# COCO: one JSON with images, annotations and categories.


def _coco(path: Path) -> list[Boxed] | None:
    """Rows of a COCO file; None where the JSON is something else."""
    try:
        held = json.loads(_text(path))
    except ValueError:
        return None
    if not isinstance(held, dict) or not {"images", "annotations"} <= held.keys():
        return None
    images, annotations = _dicts(held, "images", path), _dicts(held, "annotations", path)
    categories = _dicts(held, "categories", path) if "categories" in held else []
    names = {c.get("id"): str(c.get("name", c.get("id"))) for c in categories}
    of_picture: dict[Any, list[Mapping[str, Any]]] = {}
    for one in annotations:
        of_picture.setdefault(one.get("image_id"), []).append(one)
    found = []
    seen: set[Any] = set()
    for image in images:
        number, name = image.get("id"), image.get("file_name")
        picture = _beside(path.parent, str(name)) if name else None
        size = (_whole(image.get("width")), _whole(image.get("height")))
        if number in seen:  # nobody can say which of both the boxes are of
            found.append(Boxed(picture, None, 0, size, reason="twice_listed"))
            continue
        seen.add(number)
        found.append(_coco_one(picture, of_picture.get(number, []), size, names))
    # Annotations of pictures that the file does not list: each is a row that cannot be used.
    found += [Boxed(None, (), 0, reason="no_picture") for number in of_picture if number not in seen]
    return found


def _dicts(held: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    rows = held[key]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: {key!r} is no list of objects, as COCO has it")
    return rows


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and value == value else 0


def _coco_one(picture: str | None, mine: list[Any], size: tuple[int, int], names: Mapping[Any, str]) -> Boxed:
    crowds = sum(bool(a.get("iscrowd")) for a in mine)
    boxes = []
    for one in mine:
        if one.get("iscrowd"):
            continue
        if one.get("category_id") not in names:
            return Boxed(picture, None, 0, size, reason="unknown_class")
        try:
            x, y, wide, high = (float(v) for v in one["bbox"])
        except (KeyError, TypeError, ValueError):
            return Boxed(picture, None, 0, size, reason="bad_box")
        boxes.append(from_size(x, y, wide, high, names[one["category_id"]]))
    return Boxed(picture, tuple(boxes), 0, size, crowds=crowds)


def _beside(folder: Path, name: str) -> str:
    """The picture of this name: beside the JSON, in a folder of pictures there, or in one beside its folder."""
    places = [folder, folder / "images", folder.parent / "images", folder.parent, folder.parent / "train"]
    tried = [p / n for n in (name, Path(name).name) for p in places]
    return str(next((p for p in tried if p.is_file()), tried[0]))


# YOLO: a txt for every picture, a line a box: class, middle and size as shares of the picture's sides.


def _yolo_part(path: Path, role: str) -> list[Boxed]:
    """The part of a data.yaml that this role stands for."""
    import yaml

    try:
        held = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(held, dict) or "names" not in held:
        raise UserError(f"{path} names no classes; it needs a list `names`")
    names = held["names"]
    classes = [str(names[k]) for k in sorted(names)] if isinstance(names, dict) else [str(n) for n in names]
    base = path.parent / str(held.get("path") or "")
    wanted = next((held[key] for key in _PARTS[role] if held.get(key)), None)
    if wanted is None:
        return list(_yolo(path.parent, classes))
    parts = wanted if isinstance(wanted, list) else [wanted]
    found: list[Boxed] = []
    for part in parts:
        tried = [base / str(part), path.parent / str(part), path.parent / str(part).removeprefix("../")]
        there = next((p for p in tried if p.exists()), None)
        if there is None:
            raise UserError(f"{path}: {part!r} is not there; give the folder of its pictures")
        found += _yolo(there, classes)
    return found


def _classes(folder: Path) -> list[str]:
    for name in ("classes.txt", "labels/classes.txt", "obj.names"):
        if (folder / name).is_file():
            return [line.strip() for line in _text(folder / name).splitlines() if line.strip()]
    return []


def _yolo(place: Path, classes: Sequence[str]) -> Iterator[Boxed]:
    if place.is_file():
        listed = [line.strip() for line in _text(place).splitlines() if line.strip()]
        files = [Path(file_of(name, place.parent)) for name in listed]
    else:
        files = _pictures(place)
    for picture in files:
        beside = picture.with_suffix(".txt")
        parts = list(picture.parts)
        if "images" in parts:
            at = len(parts) - 1 - parts[::-1].index("images")
            apart = Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")
            beside = apart if apart.is_file() or not beside.is_file() else beside
        yield _yolo_one(picture, beside, classes)


def _yolo_one(picture: Path, path: Path, classes: Sequence[str]) -> Boxed:
    if not path.is_file():
        return Boxed(str(picture), None, 0)
    found = []
    for line in _text(path).splitlines():
        fields = line.split()
        if not fields:
            continue
        try:
            code, numbers = int(fields[0]), [float(v) for v in fields[1:]]
        except ValueError:
            return Boxed(str(picture), None, 0, reason="bad_box")
        if classes and not 0 <= code < len(classes):
            return Boxed(str(picture), None, 0, reason="unknown_class")
        label = classes[code] if classes else str(code)
        if len(numbers) in (4, 5):  # the fifth is how sure a model was
            found.append(from_middle(numbers[0], numbers[1], numbers[2], numbers[3], label))
        elif len(numbers) >= 6 and len(numbers) % 2 == 0:  # an outline x y x y ...: the box round it
            across, down = numbers[::2], numbers[1::2]
            found.append(Box(min(across), min(down), max(across), max(down), label))
        else:
            return Boxed(str(picture), None, 0, reason="bad_box")
    return Boxed(str(picture), tuple(found), 0, relative=True)


# Tables: a box a row (path, corners, label), or a picture a row with its boxes as JSON.


def _of_table(table: Table, columns: Columns) -> list[Boxed]:
    lower = {name.lower(): name for name in table.columns}
    file = columns.file or next((lower[n] for n in _FILES if n in lower), None)
    if file is None or file not in table.columns:
        raise UserError(
            f"{table.source} has no column of pictures; name it with --file-column (its columns: "
            f"{', '.join(table.columns)})"
        )
    base = base_of(table)
    pictures = [None if is_blank(c) else file_of(c, base) for c in table.columns[file]]
    corners = next((tuple(lower[n] for n in names) for names in _CORNERS if set(names) <= lower.keys()), None)
    given = [n for n in columns.labels if n in table.columns]
    if corners is not None:
        label = next(iter([*given, *(lower[n] for n in _LABELS if n in lower)]), None)
        return _by_picture(table, pictures, corners, label)
    cell = next(iter([*given, *(lower[n] for n in (CELL, "objects", "label") if n in lower)]), None)
    if cell is None:
        return [Boxed(p, None, line) for p, line in zip(pictures, table.lines, strict=True)]
    return [_of_cell(p, c, n) for p, c, n in zip(pictures, table.columns[cell], table.lines, strict=True)]


def _by_picture(table: Table, pictures: Sequence[Any], corners: tuple[str, ...], label: str | None) -> list[Boxed]:
    rows: dict[Any, list[int]] = {}
    for i, picture in enumerate(pictures):
        rows.setdefault(picture if isinstance(picture, str) else i, []).append(i)
    found = []
    for at in rows.values():
        boxes: list[Box] = []
        reason = None
        for i in at:
            cells = [table.columns[name][i] for name in corners]
            if all(is_blank(c) for c in cells):
                continue  # a picture of nothing
            try:
                numbers = [float(c) for c in cells]  # type: ignore[arg-type]
            except (TypeError, ValueError):
                reason = "bad_box"
                continue
            name = "thing" if label is None else table.columns[label][i]
            if is_blank(name):
                reason = "bad_box"
                continue
            boxes.append(Box(numbers[0], numbers[1], numbers[2], numbers[3], str(name)))
        found.append(Boxed(pictures[at[0]], tuple(boxes), table.lines[at[0]], reason=reason))
    return found


def _of_cell(picture: Any, cell: Any, line: int) -> Boxed:
    """Boxes of a cell: a list, or its JSON, of {"box": [x1, y1, x2, y2], "label"} or [x1, y1, x2, y2, label]."""
    if cell is None or (isinstance(cell, str) and is_blank(cell)):
        return Boxed(picture, None, line)
    try:
        held = json.loads(cell) if isinstance(cell, str) else list(cell)
        return Boxed(picture, tuple(_one_of(one) for one in held), line)
    except (KeyError, TypeError, ValueError):
        return Boxed(picture, None, line, reason="bad_box")


def _one_of(one: Any) -> Box:
    if isinstance(one, Mapping):
        numbers = one["box"] if "box" in one else [one[n] for n in ("x1", "y1", "x2", "y2")]
        label = one.get("label")
    else:
        *numbers, label = list(one)[:5]
    if label is None or len(numbers) != 4:
        raise ValueError("a box has four numbers and a label")
    x1, y1, x2, y2 = (float(v) for v in numbers)
    return Box(x1, y1, x2, y2, str(label))


def cell_of(boxes: Sequence[Box], score: bool = False) -> str:
    """Boxes as JSON, as a table may hold them."""
    told = [{"box": list(b[:4]), "label": b.label, **({"score": b.score} if score else {})} for b in boxes]
    return json_text(told)


def _table(rows: Sequence[Boxed], source: str, form: str, base: Path) -> Table:
    folder = base if base.is_dir() else base.parent
    in_files = form in ("VOC", "COCO", "YOLO")
    names = [_short(row.picture, folder) for row in rows]
    facts: dict[str, object] = {"format": "folder" if in_files else form, "folder": str(folder)}
    if in_files:
        facts["notes"] = [f"boxes are read as {form}"]
    columns: dict[str, list[object]] = {
        "file": names, CELL: [None if r.boxes is None else cell_of(r.boxes) for r in rows]
    }  # fmt: skip
    return Table(columns, tuple(r.line for r in rows), (None,) * len(rows), source, True, facts)


def _short(picture: Any, folder: Path) -> object:
    if not isinstance(picture, str):
        return picture
    path = Path(picture)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else picture
