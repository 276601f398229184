"""What each part of a run takes: foretold before it begins, measured, and both reported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from acclimate.run import Run
from acclimate.strategies import Problem, Splits, Strategy
from acclimate.strategies.foresee import Foreseen, foresee, foreseeable
from acclimate.usage import Usage, available, duration, size, watched

_LONG = 900.0  # seconds of judging, from which a way without it is said


@dataclass(frozen=True)
class Cost:
    """One part of a run: a candidate on its folds, or the last fit."""

    name: str
    part: str
    taken: Usage
    foreseen: Usage | None = None

    def to_json(self) -> dict[str, Any]:
        """Seconds and bytes, flat; nothing stands where nothing was foretold."""
        expected = self.foreseen
        return {
            "name": self.name,
            "part": self.part,
            "seconds": self.taken.seconds,
            "memory": self.taken.memory,
            "foreseen_seconds": None if expected is None else expected.seconds,
            "foreseen_memory": None if expected is None else expected.memory,
        }

    def text(self) -> str:
        """What it took, beside what was foretold."""
        taken = f"{self.name}, {self.part}: took {_both(self.taken)}"
        return taken if self.foreseen is None else f"{taken} (foreseen: {_both(self.foreseen)})"


def foretold(name: str, strategy: Strategy, problem: Problem, splits: Splits, run: Run) -> Foreseen | None:
    """One fit of a strategy that moves weights, measured once a run; nothing for other strategies."""
    if not foreseeable(strategy) or (problem.backbone is not None and problem.backbone.fixed):
        return None
    tuning: Any = strategy
    return Foreseen(**run.once(f"{name}/foreseen", lambda: asdict(foresee(tuning, problem, splits, run))))


@contextmanager
def over_sessions(run: Run) -> Iterator[Usage]:
    """As `watched`; seconds that earlier processes of a resumed run spent on this part count, too."""
    before = run.session()
    with watched(run.device) as used:
        yield used
    used.seconds += before
    run.session_over(used.seconds)


def on_folds(one: Foreseen, rows: int, folds: Sequence[tuple[Any, Any]]) -> Usage:
    """The same on these pairs of rows to fit on and rows to judge, `one` being a fit on so many rows."""
    fits = sum(len(fit_at) for fit_at, _ in folds) / max(1, rows)
    return Usage(one.seconds * fits + one.a_row * sum(len(judge_at) for _, judge_at in folds), one.memory)


def folds_text(folds: int) -> str:
    """How many, in words."""
    return "1 fold" if folds == 1 else f"{folds} folds"


def say_long_folds(folds: Usage, one: Foreseen, count: int, run: Run) -> None:
    """What to do where judging on so many folds takes many minutes, and most of them."""
    if folds.seconds >= max(_LONG, one.seconds):
        run.progress.say(
            f"note: {duration(folds.seconds)} of that is for judging on {folds_text(count)}; with --test-data it is "
            "judged on those rows instead, by one fit"
        )


def announce(name: str, parts: Sequence[Usage | None], run: Run) -> None:
    """Say what these parts together will take, and warn where memory will not do."""
    known = [part for part in parts if part is not None]
    if not known:
        return
    needed, free = max(part.memory for part in known), available(run.device)
    run.progress.say(f"{name}: {about(Usage(sum(part.seconds for part in known), needed))}")
    if needed > free:
        run.progress.say(
            f"note: {name} needs about {size(needed)} beyond what is in use, and {size(free)} are available; a smaller "
            "--batch-size or --max-length, or --strategy partial, needs less"
        )


def about(usage: Usage) -> str:
    """As one says it beforehand.

    >>> about(Usage(200.0, 1_234_567_890))
    'about 3 min and 1.2 GB'
    """
    return f"about {_both(usage)}"


def _both(usage: Usage) -> str:
    return f"{duration(usage.seconds)} and {size(usage.memory)}"
