"""A folder of pictures, recordings or series as a table: one row a file, its label the folder that it lies in."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from acclimate.data.pictures import SUFFIXES as PICTURES
from acclimate.data.rows import Table
from acclimate.data.series import SUFFIXES as SERIES
from acclimate.data.sounds import SUFFIXES as SOUNDS
from acclimate.errors import UserError, plural

KINDS = {"image": PICTURES, "audio": SOUNDS, "series": SERIES}  # kind of input -> endings of its files
PLURALS = {"image": "images", "audio": "sounds", "series": "series"}
LISTS = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "labels.csv")  # a table that names the files beside it
_PARTS = {
    "train": "TRAIN", "training": "TRAIN", "test": "--test-data", "testing": "--test-data", "val": "--valid-data",
    "valid": "--valid-data", "validation": "--valid-data", "dev": "--valid-data",
}  # fmt: skip
_HIDDEN = ("__MACOSX",)


def base_of(table: Table) -> Path:
    """The folder that relative paths of a table start from: the one it was read from, or lies in."""
    folder = table.facts.get("folder")
    return Path(str(folder)) if folder else Path(table.source).expanduser().parent


def file_of(cell: Any, base: Path) -> Any:
    """A cell as an input: a path that is there if one can be found, else what it is."""
    if isinstance(cell, dict) and {"bytes", "path"} & cell.keys():  # as Hugging Face stores pictures and sounds
        cell = cell.get("bytes") or cell.get("path")
    if not isinstance(cell, (str, os.PathLike)):
        return cell
    path = Path(cell).expanduser()
    beside = base / path
    return str(beside if not path.is_absolute() and beside.exists() else path)


def listed(path: Path) -> Path | None:
    """The table inside a folder that says which of its files have which label."""
    return next((path / name for name in LISTS if (path / name).is_file()), None)


def in_folder(table: Table, path: Path, name: str) -> Table:
    """The table that lists the files of a folder, read as that folder; a note says so."""
    file = PurePath(table.source).name
    some = next((p for p in path.iterdir() if p.is_dir() and not _hidden(p.relative_to(path)) and has_files(p)), None)
    left = "" if some is None else f", and names of folders such as {some.name} are not read as labels"
    note = f"{file} in {name} says which files are read and what their labels are{left}"
    notes = table.facts.get("notes", [])
    notes = [*(notes if isinstance(notes, list) else []), note]
    return replace(table, source=name, facts={**table.facts, "folder": str(path), "listed_in": file, "notes": notes})


def has_files(path: Path) -> bool:
    """Whether a folder holds a picture or a recording, at any depth."""
    endings = {suffix for suffixes in KINDS.values() for suffix in suffixes}
    named = (p for p in path.rglob("*") if p.suffix.lower() in endings)
    return any(not _hidden(p.relative_to(path)) and not p.is_dir() for p in named)


def files_of(path: Path) -> tuple[str, list[Path]]:
    """The kind of most files below a folder, and those files by name; ("", []) where there are none of a known kind."""
    # A link that leads nowhere counts as a file: the gate names it.
    there = (p for p in path.rglob("*") if p.is_file() or (p.is_symlink() and not p.exists()))
    every = sorted(p for p in there if not _hidden(p.relative_to(path)))
    kinds = {suffix: kind for kind, suffixes in KINDS.items() for suffix in suffixes}
    counts = Counter(kinds[p.suffix.lower()] for p in every if p.suffix.lower() in kinds)
    if not counts:
        return "", []
    kind = counts.most_common(1)[0][0]
    return kind, every


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part in _HIDDEN for part in relative.parts)


def read_folder(path: Path, name: str) -> Table:
    """The files of a folder that has some: columns file, label (the class folder) and domain (the folder above that).

    Every file gets a row: what is no picture, or damaged, the gate names. Files of kinds that nobody takes for data
    (texts, tables, scripts) are left out and counted in a note.
    """
    kind, every = files_of(path)
    files = [p for p in every if p.suffix.lower() in KINDS[kind] or not p.suffix]
    others = Counter(p.suffix.lower() for p in every if p not in set(files))
    depths = {len(p.relative_to(path).parts) - 1 for p in files}
    notes: list[str] = []
    while min(depths) > 2 and len(tops := {p.relative_to(path).parts[0] for p in files}) == 1:
        path, depths = path / tops.pop(), {depth - 1 for depth in depths}  # a folder around everything says nothing
        notes.append(f"all files lie in {path.name}, so the folders in it are read")
    _refuse_parts(files, path, name)
    columns: dict[str, list[object]] = {"file": [p.relative_to(path).as_posix() for p in files]}
    if max(depths) > 2 or (len(depths) > 1 and 0 not in depths):
        deep = next(p for p in files if len(p.relative_to(path).parts) - 1 == max(depths))
        raise UserError(
            f"{name}: files lie {min(depths)} to {max(depths)} folders deep (such as those in "
            f"{deep.parent.relative_to(path)}); put them into class folders (CLASS/file), or class folders of domains "
            "(DOMAIN/CLASS/file), or give a table with a column of paths"
        )
    if max(depths) > 0:
        columns["label"] = [p.parent.name if p.parent != path else None for p in files]
    if max(depths) == 2:
        columns["domain"] = [p.parent.parent.name if len(p.relative_to(path).parts) == 3 else None for p in files]
        names = ", ".join(sorted({str(d) for d in columns["domain"] if d is not None})[:8])
        notes.append(f"the upper folders are domains ({names}); --domain-column domain judges by leaving each out")
    if others:
        listing = ", ".join(f"{n} {suffix or 'without ending'}" for suffix, n in others.most_common(5))
        notes.append(
            f"{plural(sum(others.values()), 'file')} of other kinds than {PLURALS[kind]}, by their ending, left out "
            f"({listing})"
        )
    facts: dict[str, object] = {"format": "folder", "kind": kind, "folder": str(path), "notes": notes}
    rows = tuple(range(1, len(files) + 1))
    return Table(columns, rows, (None,) * len(files), name, True, facts)


def _refuse_parts(files: Sequence[Path], path: Path, name: str) -> None:
    """Folders called train and test are no classes."""
    top = {p.relative_to(path).parts[0] for p in files if len(p.relative_to(path).parts) > 1}
    parts = {part for part in top if part.casefold() in _PARTS}
    if len(parts) > 1 or (parts and parts == top):
        given = " ".join(
            ("" if (role := _PARTS[part.casefold()]) == "TRAIN" else f"{role} ") + f"{name}/{part}"
            for part in sorted(parts, key=lambda part: _PARTS[part.casefold()] != "TRAIN")
        )
        raise UserError(f"{name} holds parts ({', '.join(sorted(parts))}), no classes; give them one by one: {given}")


def of_one(path: Path, name: str) -> Table | None:
    """A single picture or recording as a table of one row; None for every other file."""
    kind = next((kind for kind, suffixes in KINDS.items() if path.suffix.lower() in suffixes), None)
    if kind is None:
        return None
    facts: dict[str, object] = {"format": "file", "kind": kind, "folder": str(path.parent), "notes": []}
    return Table({"file": [path.name]}, (1,), (None,), name, True, facts)
