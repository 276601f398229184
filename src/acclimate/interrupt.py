"""Ctrl-C and SIGTERM: they wait until a step is whole, and a run that they stop can go on later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception."""


class AtOnce(KeyboardInterrupt):
    """A second signal while the first one waited: nothing is saved any more."""


class Interrupted(KeyboardInterrupt):
    """A run that was stopped; its text says how to go on, `code` is what a program ends with."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def held_back() -> Iterator[None]:
    """Signals wait for the end of the block and are then delivered as if they just came; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread is ever interrupted
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            raise AtOnce
        came.append(number)

    taken = [n for n in _SIGNALS if before[n] not in (None, signal.SIG_IGN)]
    for number in taken:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
    if came:
        signal.raise_signal(came[0])


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Terminated` inside the block, unless the program has a handler of its own."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated
