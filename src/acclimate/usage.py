"""Seconds and memory that a piece of work takes."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

_EVERY = 0.01  # seconds between looks at the memory of a process: what lives shorter is not seen


@dataclass
class Usage:
    """Seconds, and the most bytes held beyond those that were in use before."""

    seconds: float = 0.0
    memory: int = 0


@contextmanager
def watched(device: str) -> Iterator[Usage]:
    """What comes out is filled in by the end of the block: on a GPU with its memory, else with the process's.

    On a CPU the process's own pages are counted every 10 ms, without mapped files. What the C library kept for later is
    given back before, or work would seem to need less the later it comes.
    """
    used, start = Usage(), time.monotonic()
    try:
        with _gpu(device, used) if device.startswith("cuda") else _process(used):
            yield used
    finally:
        used.seconds = time.monotonic() - start


@contextmanager
def _gpu(device: str, used: Usage) -> Iterator[None]:
    import torch

    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        yield
    finally:
        torch.cuda.synchronize(device)
        used.memory = max(0, torch.cuda.max_memory_allocated(device) - before)


@contextmanager
def _process(used: Usage) -> Iterator[None]:
    _trim()
    process = psutil.Process()
    before = _own(process)
    done = threading.Event()

    def look() -> None:
        used.memory = max(used.memory, _own(process) - before)

    def watch() -> None:
        while not done.wait(_EVERY):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        look()


def held() -> int:
    """Bytes of this process's own pages, after what the C library kept for later was given back."""
    _trim()
    return _own(psutil.Process())


def _own(process: psutil.Process) -> int:
    found = process.memory_info()
    return int(found.rss - getattr(found, "shared", 0))  # without mapped files, which the system may drop


def _trim() -> None:
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim is not None:
            trim(0)


def available(device: str) -> int:
    """Bytes that could be taken now."""
    if device.startswith("cuda"):
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return int(psutil.virtual_memory().available)


def size(taken: float) -> str:
    """Bytes in words of two digits or three.

    >>> size(15_360), size(245_678_901), size(1_234_567_890)
    ('15 kB', '246 MB', '1.2 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if taken >= 0.9995 * unit:
            return f"{taken / unit:.1f} {name}" if taken < 10 * unit else f"{taken / unit:.0f} {name}"
    return f"{taken / 1e3:.0f} kB"


def duration(seconds: float) -> str:
    """A duration in words, as one says it beforehand.

    >>> duration(0.4), duration(83), duration(200), duration(7300)
    ('under 1 s', '83 s', '3 min', '2 h 2 min')
    """
    if seconds < 1:
        return "under 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"
