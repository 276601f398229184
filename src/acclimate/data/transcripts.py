"""Sounds with what is said in them, as people keep them: a table of paths and texts, or a folder of sounds with a text
file beside each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.data import sounds
from acclimate.data.folders import base_of, file_of, listed
from acclimate.data.kinds.files import empty
from acclimate.data.labels import is_blank
from acclimate.data.read import read
from acclimate.data.rows import Columns, Table
from acclimate.data.sounds import Sound
from acclimate.errors import UserError
from acclimate.progress import Progress

SOUNDS = ("file", "file_name", "filename", "path", "audio", "audio_path", "audio_filepath", "sound", "wav", "clip")
TEXTS = ("text", "transcript", "transcription", "sentence", "normalized_text", "raw_text", "label")
_BESIDE = ".txt"


@dataclass(frozen=True)
class Clip:
    """One row as it was read: its sound, what is said in it, and why it cannot be used if it cannot."""

    sound: Any | None  # a path, the bytes of a file, or (array, rate)
    text: str | None
    line: int
    group: str = ""
    heard: Sound | None = None  # what the file holds
    reason: str | None = None


def clips(source: Any, columns: Columns, progress: Progress, *, texts: bool) -> tuple[list[Clip], Table]:
    """Every row of a source in order, its sound read once to the end; a text column must be there where `texts` are
    wanted."""
    table = _table(source)
    at = _column(table, (columns.file,), SOUNDS)
    if at is None:
        raise UserError(
            f"{table.source} has no column that names sounds ({', '.join(SOUNDS[:5])} ...); name it with --file-column "
            f"(its columns: {', '.join(table.columns)})"
        )
    said = text_column(table, columns, at)
    if said is None and texts:
        raise UserError(
            f"{table.source} has no column of transcripts ({', '.join(TEXTS[:4])} ...), nor has its folder a text file "
            f"beside each sound; name the column with --label (its columns: {', '.join(table.columns)})"
        )
    group = None
    if columns.group is not None and columns.group in table.columns:
        group = table.columns[columns.group]
    cells = [None if p else c for c, p in zip(table.columns[at], table.problems, strict=True)]
    inputs = [None if empty(cell) else _one(cell, base_of(table)) for cell in cells]
    heard = _heard(inputs, progress)
    found = []
    for i, line in enumerate(table.lines):
        cell = None if said is None else table.columns[said][i]
        text = None if is_blank(cell) else str(cell).strip()
        whose = "" if group is None or is_blank(group[i]) else str(group[i])
        seen = heard.get(i)
        reason = "unparsed" if table.problems[i] else "blank_input" if seen is None else seen.reason or None
        found.append(Clip(inputs[i] if reason is None else None, text, line, whose, seen, reason))
    return found, table


def text_column(table: Table, columns: Columns, but: str | None = None) -> str | None:
    """The column of transcripts: the one that was named, else one of a usual name."""
    return _column(table, (*columns.labels, *columns.text), tuple(name for name in TEXTS if name != but))


def _column(table: Table, named: Sequence[str | None], usual: Sequence[str]) -> str | None:
    for name in named:
        if name is not None and name in table.columns:
            return name
    folded = {name.casefold(): name for name in reversed(table.columns)}
    return next((folded[name] for name in usual if name in folded), None)


def _table(source: Any) -> Table:
    """The source as a table; of a folder without a list its sounds, and the text files beside them."""
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if path.is_dir() and listed(path) is None:
            found = _folder(path, str(source))
            if found is not None:
                return found
    return read(source, may_be_empty=True)


def _folder(path: Path, name: str) -> Table | None:
    """Sounds at any depth with `text` from the file of the same name; None where no sound has one."""
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in sounds.SUFFIXES and not p.name.startswith("."))
    beside = [p.with_suffix(_BESIDE) for p in files]
    if not any(p.is_file() for p in beside):
        return None
    columns: dict[str, list[object]] = {
        "file": [p.relative_to(path).as_posix() for p in files],
        "text": [_text(p) for p in beside],
    }
    facts: dict[str, object] = {"format": "folder", "kind": "audio", "folder": str(path)}
    facts["notes"] = [f"what is said in a sound stands in the {_BESIDE} file beside it"]
    return Table(columns, tuple(range(1, len(files) + 1)), (None,) * len(files), name, True, facts)


def _text(path: Path) -> str | None:
    from acclimate.data.encoding import decode

    if not path.is_file():
        return None
    raw = path.read_bytes()
    return " ".join(decode(raw, str(path), None).text.split()) if raw.strip() else None


def _one(cell: Any, base: Path) -> Any:
    """As a path, bytes or (array, rate); a decoded sound of the library datasets becomes the latter."""
    if isinstance(cell, dict) and {"array", "sampling_rate"} <= cell.keys():
        return cell["array"], int(cell["sampling_rate"])
    return cell if sounds.is_pair(cell) else file_of(cell, base)


def _heard(inputs: Sequence[Any | None], progress: Progress) -> dict[int, Sound]:
    """What each sound holds; files are decoded in threads, which runs beside Python."""
    there = [i for i, value in enumerate(inputs) if value is not None]
    found: dict[int, Sound] = {}
    workers = min(8, os.cpu_count() or 1)
    with progress.steps("listening to sounds", len(there)) as advance, ThreadPoolExecutor(workers) as pool:
        for i, seen in zip(there, pool.map(sounds.examine, [inputs[i] for i in there]), strict=True):
            found[i] = seen
            advance(1)
    return found
