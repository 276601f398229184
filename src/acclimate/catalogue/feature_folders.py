"""Feature folders of the cache, one a fingerprint: opening one, listing them, keeping them within a limit, removing."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acclimate.catalogue import cache as places
from acclimate.catalogue import store
from acclimate.files import json_text, write_text

ABOUT = "about.json"  # its time of writing is when the folder was last used


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Nobody else opens or removes a feature folder meanwhile."""
    import filelock

    with filelock.FileLock(root / ".lock", mode=0o600):
        yield


def opened(folder: Path, about: Mapping[str, object]) -> object:
    """Make the folder if it is not there. While what comes back is held, no process removes the folder."""
    import filelock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent):
        folder.mkdir(exist_ok=True)
        os.chmod(folder, 0o700)  # features of private texts are private
        if not (folder / ABOUT).exists():
            created = datetime.now(UTC).isoformat(timespec="seconds")
            write_text(folder / ABOUT, json_text({**about, "created": created}, indent=1))
            os.chmod(folder / ABOUT, 0o600)
        used(folder)
        _in_use(folder)  # or marks would gather
        # Released by the system however its holder ends. Another thread may be the one that lets go of it.
        mark = filelock.FileLock(folder / f".{uuid.uuid4().hex}.use", mode=0o600, thread_local=False)
        mark.acquire()
        return mark


def used(folder: Path) -> None:
    """Note that it was used now."""
    with suppress(OSError):
        os.utime(folder / ABOUT)


def last_used(folder: Path) -> float:
    """Seconds since 1970; 0 where it was removed meanwhile."""
    for path in (folder / ABOUT, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _in_use(folder: Path) -> bool:
    """Does a living process hold it? Marks of dead ones are removed. Call it only where nobody opens a folder."""
    import filelock

    living = False
    for path in folder.glob(".*.use"):
        mark = filelock.FileLock(path, mode=0o600)
        try:
            mark.acquire(timeout=0)
        except filelock.Timeout:
            living = True
            continue
        mark.release()
        path.unlink(missing_ok=True)
    return living


def folders(root: Path) -> list[Path]:
    """Every feature folder, the one that was not used for longest first."""
    if not root.is_dir():
        return []
    return sorted((f for f in root.iterdir() if f.is_dir() and not f.name.startswith(".")), key=last_used)


def remove(folder: Path) -> int | None:
    """Remove it; returns the bytes freed, None where a process uses it."""
    with _alone(folder.parent):
        return _remove(folder)


def _remove(folder: Path) -> int | None:
    if not folder.is_dir():
        return 0
    if _in_use(folder):
        return None
    freed = store.size(folder)
    with places.writing(folder.parent):
        places.vanish(folder)
    return freed


def make_room(root: Path, limit: int) -> tuple[list[str], int]:
    """Remove what was not used for longest until all is within `limit` bytes (0: no limit).

    Returns the names of the models that went and the bytes that are left; what is in use stays in any case.
    """
    total = store.size(root)
    gone: list[str] = []
    if not limit or total <= limit:
        return gone, total
    with _alone(root):
        for leftover in root.glob(".*.tmp"):  # of a process that was killed while it removed a folder
            shutil.rmtree(leftover, ignore_errors=True)
        total = store.size(root)
        for folder in folders(root):
            if total <= limit:
                break
            name = str(about(folder)["model"])
            freed = _remove(folder)
            if freed is not None:
                total -= freed
                gone.append(name)
    return gone, total


def about(folder: Path) -> dict[str, Any]:
    """What its about.json says; model, width and dtype are there in any case."""
    facts = store.read(folder, ABOUT) or {}
    return {"model": "unknown", "width": None, "dtype": None, "created": None, **facts}


def listing(cache: str | Path | None = None) -> list[dict[str, Any]]:
    """One row a folder, as `acclimate cache` shows it, the one used last first."""
    rows = []
    for folder in reversed(folders(places.features(cache))):
        facts = about(folder)
        with suppress(OSError):  # removed just now
            rows.append(
                {
                    "name": facts["model"],
                    "fingerprint": folder.name,
                    "rows": _rows(folder),
                    "width": facts["width"],
                    "dtype": facts["dtype"],
                    "bytes": store.size(folder),
                    "created": facts["created"],
                    "last_used": datetime.fromtimestamp(last_used(folder), UTC).isoformat(timespec="seconds"),
                    "days": (time.time() - last_used(folder)) / 86_400,
                }
            )
    return rows


def _rows(folder: Path) -> int:
    """Rows of all parts, from the sizes of their key files: a header of 128 bytes, then 16 bytes a row."""
    return sum(max(0, path.stat().st_size - 128) // 16 for path in folder.glob("*.keys.npy"))
