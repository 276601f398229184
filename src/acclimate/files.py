"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from acclimate.errors import UserError


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into; it takes the place of `path` when the block ends well, and survives a power cut."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write into; it becomes `target`, which must not be there yet, when the block ends well."""
    if target.exists():
        raise UserError(f"{target} exists already; give a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Atomically: readers see the old file or the new one, never a part."""
    with whole(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can do that."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def json_text(value: Any, indent: int | None = None) -> str:
    """The one way in which JSON is written: valid for every reader, so NaN and infinity are null.

    Text that is no Unicode (half a surrogate pair, as in odd file names) is escaped, so that UTF-8 can hold it.

    >>> json_text({"mean": float("nan"), "range": (0, float("inf"))})
    '{"mean": null, "range": [0, null]}'
    """
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def plain(value: Any) -> Any:
    """Plain JSON values from numpy, tuples and dataclass fields; numbers that are not finite become None.

    What has a `tolist` of its own says so itself what it is as a list, also where it is a tuple.
    """
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    return str(value)
