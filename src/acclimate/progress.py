"""Progress that is rich on a terminal, one plain line every few seconds in a log, and nothing with `quiet`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_EVERY = 5.0  # seconds between plain lines


class Progress:
    """Where long steps report. Everything goes to standard error, so that results on standard output stay clean."""

    def __init__(self, quiet: bool = True) -> None:
        self.quiet = quiet
        self._live: Any = None
        self._depth = 0
        self._said: set[str] = set()

    @staticmethod
    def on_terminal() -> Progress:
        """Shown on a terminal, and nothing elsewhere."""
        return Progress(quiet=not sys.stderr.isatty())

    def say_once(self, text: str) -> None:
        """One line, however often it is asked for."""
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def say(self, text: str) -> None:
        """One line, at once."""
        if self.quiet:
            return
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def steps(self, description: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Inside the block call the given function with the number of steps just done; `done` were done before."""
        if self.quiet:
            yield lambda done: None
        elif sys.stderr.isatty():
            with self._bar(description, total, done) as advance:
                yield advance
        else:
            yield _plain(description, total, done)

    @contextmanager
    def _bar(self, description: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        if self._live is None:
            self._live = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._live.start()
        self._depth += 1
        task = self._live.add_task(description, total=total, completed=done)
        try:
            yield lambda more: self._live.advance(task, more)
        finally:
            self._live.remove_task(task)
            self._depth -= 1
            if self._depth == 0:
                self._live.stop()
                self._live = None


def _plain(description: str, total: int, done: int) -> Callable[[int], None]:
    """Steps that an earlier process did took none of this one's time."""
    start = last = time.monotonic()
    count = done

    def advance(more: int) -> None:
        nonlocal last, count
        count += more
        now = time.monotonic()
        if now - last >= _EVERY:
            last = now
            left = (now - start) / max(1, count - done) * (total - count)
            print(f"{description}: {count}/{total}, about {left:.0f} s left", file=sys.stderr, flush=True)

    return advance
