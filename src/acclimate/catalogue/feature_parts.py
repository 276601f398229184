"""Parts of a feature folder: keys and values of some rows, each there whole or not at all; small ones are merged.

A part is a pair of files, `ID.keys.npy` (n, 16) and `ID.values.npy` (n, d). Nobody writes to a part that is there, so
that readers may keep it mapped whatever else goes on; a merge puts a new part beside the old ones and removes these.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.files import whole

MOST = 16  # small parts that may lie side by side
SMALL = 65_536  # rows from which on a part is not merged any more, so that no row is copied over and over
STALE = 3600.0  # seconds after which what is not whole is taken for left behind by a killed process
BLOCK = 8192  # rows copied at a time
KEY = np.dtype("V16")

Keys = NDArray[np.void]
Values = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Keys (n,) in memory and values (n, d) mapped from the disk."""

    keys: Keys
    values: Values
    name: str = ""


def read(folder: Path, width: int, dtype: np.dtype[Any]) -> list[Part]:
    """Every whole part; what is damaged, or being written, is passed over."""
    for _ in range(3):
        found, missed = [], False
        for keys_file in sorted(folder.glob("*.keys.npy")):
            part = _read_one(folder, keys_file.name.split(".")[0], width, dtype)
            if part is not None:
                found.append(part)
            else:
                missed = missed or not keys_file.exists()
        if not missed:  # else parts were merged in the middle of it, and their rows are in a new one
            break
    return found


def _read_one(folder: Path, name: str, width: int, dtype: np.dtype[Any]) -> Part | None:
    try:
        keys = np.load(folder / f"{name}.keys.npy")
        values = np.load(folder / f"{name}.values.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if keys.dtype != np.uint8 or keys.shape != (len(values), KEY.itemsize):
        return None
    if values.dtype != dtype or values.shape[1:] != (width,):
        return None
    return Part(np.ascontiguousarray(keys).reshape(-1).view(KEY), values, name)


def write(folder: Path, keys: Keys, blocks: Iterator[Values], width: int, dtype: np.dtype[Any]) -> Part:
    """A new part of these keys and the blocks of rows that follow each other; what comes back is mapped."""
    name = uuid.uuid4().hex
    # Values first: a pair counts as there once its keys are.
    with whole(folder / f"{name}.values.npy") as file:
        _private(file.fileno())
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(keys), width)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)
    with whole(folder / f"{name}.keys.npy") as file:
        _private(file.fileno())
        np.save(file, keys.view(np.uint8).reshape(len(keys), KEY.itemsize))
    return Part(keys, np.load(folder / f"{name}.values.npy", mmap_mode="r"), name)


def _private(handle: int) -> None:
    if hasattr(os, "fchmod"):
        os.fchmod(handle, 0o600)  # features of private texts are private


def tidy(folder: Path, width: int, dtype: np.dtype[Any]) -> bool:
    """Remove what killed processes left, and merge small parts where there are many; true if it merged.

    One process at a time does it; the others go on without waiting.
    """
    import filelock

    lock = filelock.FileLock(folder / ".tidy.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    try:
        known = read(folder, width, dtype)
        _remove_stale(folder, {part.name for part in known})
        small = [part for part in known if len(part.keys) < SMALL]
        if len(small) <= MOST:
            return False
        _merge(folder, small, width, dtype)
        return True
    finally:
        lock.release()


def _remove_stale(folder: Path, good: set[str]) -> None:
    before = time.time() - STALE
    for path in [*folder.glob("*.npy"), *folder.glob(".*.tmp")]:
        with suppress(OSError):
            if path.name.split(".")[0] not in good and path.stat().st_mtime < before:
                path.unlink()


def _merge(folder: Path, small: Sequence[Part], width: int, dtype: np.dtype[Any]) -> None:
    """One part in the place of many; of rows that two processes have computed the first is kept."""
    keys = np.concatenate([part.keys for part in small])
    rows = np.sort(first_of_each(keys))
    starts = np.cumsum([0, *(len(part.keys) for part in small)])

    def blocks() -> Iterator[Values]:
        for part, start, end in zip(small, starts, starts[1:], strict=False):
            own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)] - start
            for at in range(0, len(own), BLOCK):
                yield part.values[own[at : at + BLOCK]]

    write(folder, keys[rows], blocks(), width, dtype)
    for kind in ("keys", "values"):  # without its keys a part is not there any more
        for part in small:
            with suppress(OSError):  # mapped by another process, where the system forbids to remove it then
                (folder / f"{part.name}.{kind}.npy").unlink()


def first_of_each(keys: Keys) -> NDArray[np.intp]:
    """The position of the first of equal keys, in the order of the sorted keys."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return order[new]
