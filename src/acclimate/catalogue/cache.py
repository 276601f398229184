"""Where fetched things live, how two processes keep out of each other's way, and how a folder appears all at once."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from acclimate.errors import MachineFailed, UserError
from acclimate.files import json_text, read_object, write_text

Say = Callable[[str], None]
FULL = (errno.ENOSPC, errno.EDQUOT)
LIMIT = "10GB"  # of features, unless the variable or the settings say otherwise
VARIABLE = "ACCLIMATE_CACHE_LIMIT"
SETTINGS = "settings.json"  # in the cache folder
_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def quiet(_sentence: str) -> None:
    """A listener for those who want to hear nothing."""


def root(cache: str | Path | None = None) -> Path:
    """The cache folder: the one given, else the variable ACCLIMATE_CACHE, else the platform's own place for caches."""
    named = cache or os.environ.get("ACCLIMATE_CACHE")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("acclimate", appauthor=False))


def models(cache: str | Path | None = None) -> Path:
    """Where converted models lie."""
    return root(cache) / "models"


def datasets(cache: str | Path | None = None) -> Path:
    """Where unpacked data sets lie."""
    return root(cache) / "datasets"


def features(cache: str | Path | None = None) -> Path:
    """Where extracted features lie."""
    return root(cache) / "features"


def limit() -> int:
    """Bytes that features may take; 0: as many as there are. ACCLIMATE_CACHE_LIMIT comes before what was set here."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        return parse_size(given, f"{VARIABLE}=")
    path = root() / SETTINGS
    return parse_size(str(read_object(path).get("limit", LIMIT)), f"limit in {path}: ")


def set_limit(size: str) -> None:
    """Keep a limit for all later runs with this cache."""
    parse_size(size, "--limit ")
    path = root() / SETTINGS
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json_text({**read_object(path), "limit": size.strip()}))


def parse_size(value: str, what: str) -> int:
    """Bytes of "10GB" or "500MB"; 0 for no limit. `what` names the value in an error."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value.strip().lower())
    if found is not None and found[2] in _UNITS:
        return int(float(found[1]) * _UNITS[found[2]])
    if found is None or found[2] or float(found[1]):  # a bare number could be bytes or gigabytes
        raise UserError(f"{what}{value!r} is not a size; write 10GB or 500MB, or 0 for no limit")
    return 0


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns what the operating system says about `place` into something that the user can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise MachineFailed(
                f"the disk that holds {place} is full; free some space, or put the cache on another disk "
                "with ACCLIMATE_CACHE=FOLDER"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise MachineFailed(
                f"cannot write to the cache folder {place} ({error.strerror}); "
                "choose another with ACCLIMATE_CACHE=FOLDER"
            ) from error
        raise


@contextmanager
def locked(folder: Path, say: Say = quiet) -> Iterator[None]:
    """Holds the lock of `folder` against other processes. When its holder dies, the system lets go of it."""
    import filelock

    path = folder.parent / f".{folder.name}.lock"
    with writing(folder.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            say(f"another process is fetching {folder.name}; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sweep(folder: Path) -> None:
    """Removes what a killed process left half done beside `folder`. Call it only while holding the lock."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def scratch(folder: Path) -> Path:
    """A new empty folder beside `folder`, so on the same disk, under a name that `sweep` knows."""
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))


def appear(folder: Path, make: Callable[[Path], None]) -> None:
    """Has `make` fill a folder elsewhere, writes it through to the disk and gives it its name in one step.

    Whoever looks sees the whole folder or none. Call it only while holding the lock.
    """
    sweep(folder)
    with writing(folder.parent):
        temporary = scratch(folder)
        try:
            make(temporary)
            temporary.chmod(0o777 & ~_umask())  # mkdtemp makes it readable by its owner alone
            for path in sorted(temporary.rglob("*")):
                _flush(path)
            _flush(temporary)
            if folder.exists():
                vanish(folder)
            temporary.rename(folder)
            _flush(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def vanish(folder: Path) -> None:
    """Removes a folder so that nobody can see half of it: first the name goes, then the content."""
    away = scratch(folder)
    folder.rename(away / folder.name)
    shutil.rmtree(away, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)  # there is no call that only reads it
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    """fsync, for a file or (where the system allows that) a folder."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
