"""What every strategy is told about the run that it is part of."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from acclimate import ranks
from acclimate.files import json_text, plain, read_object, write_text
from acclimate.progress import Progress

SESSION = "session.json"  # in the state of a part: the seconds that it took before, and when this session began


@dataclass(frozen=True)
class Run:
    """Seed, device, deadline, cache, resumable state and where to report. Nothing in it changes during the run."""

    seed: int = 0
    device: str = "cpu"
    deadline: float | None = None  # on time.monotonic(); None: no limit
    cache: Path | None = None  # where features are kept; None: in memory alone
    feature_dtype: str = "fp32"  # of kept features; fp16 takes half the space and rounds to 11 bits
    num_workers: int = 0  # 0 or more tokenise ahead; results do not depend on it
    private: bool = False
    state: Path | None = None  # the folder of what a killed run goes on from; None: nothing is kept
    checkpoint_every: float = 30.0  # seconds between checkpoints; 0: after every step
    progress: Progress = field(default_factory=Progress)

    def left(self) -> float:
        """Seconds until the deadline; infinite without one."""
        return float("inf") if self.deadline is None else ranks.agreed(self.deadline - time.monotonic())

    def at(self, part: str) -> Run:
        """The same run with the state of one part, such as "lp_ft/fold-2"."""
        return self if self.state is None else replace(self, state=self.state / part)

    def once(self, name: str, decide: Callable[[], Any]) -> Any:
        """What depends on the clock, as plain JSON values: decided once, and read again by a run that goes on.

        Of several processes all decide, since a decision may take steps together, and the first one's counts.
        """
        if self.state is None:
            return ranks.agreed(decide())
        path = self.state / f"{name}.json"
        known = ranks.by_first(lambda: _read(path, self.progress.say))
        if known is not None:
            return known[0]
        value = ranks.agreed(plain(decide()))
        if not ranks.first():
            return value
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json_text(value))
        except OSError as error:
            self.cannot_keep(error)
        return value

    def session(self) -> float:
        """Seconds that earlier processes spent on this part, as far as is known; those of this one count from here."""
        return 0.0 if self.state is None else float(ranks.by_first(self.used))

    def used(self) -> float:
        """The same, where one process asks for itself."""
        used = 0.0 if self.state is None else _earlier(self.state, self.progress.say)
        self.session_over(used)
        return used

    def session_over(self, used: float) -> None:
        """Note down what this part took so far."""
        if self.state is None or not ranks.first():
            return
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            write_text(self.state / SESSION, json_text({"used": used, "began": time.time()}))
        except OSError as error:
            self.cannot_keep(error)

    def cannot_keep(self, error: Exception) -> None:
        """Say, once, that state could not be written: the run goes on, and could not be resumed from here."""
        reason = getattr(error, "strerror", None) or error
        self.progress.say_once(f"nothing more is kept to resume from ({reason}); the run itself goes on")

    def forget(self) -> None:
        """Remove this part's state: it is done."""
        if self.state is not None and ranks.first():
            shutil.rmtree(self.state, ignore_errors=True)


def _earlier(folder: Path, say: Callable[[str], None]) -> float:
    """Seconds of work in this folder: those of each earlier session, until the last thing that it wrote."""
    path = folder / SESSION
    if not path.is_file():
        return 0.0
    session = read_object(path)
    try:
        newest = max(p.stat().st_mtime for p in folder.rglob("*") if p.name != "lock")
        return float(session["used"]) + max(0.0, newest - float(session["began"]))
    except (OSError, KeyError, TypeError, ValueError):
        say(f"{path} is damaged: what was used before is not known, and seconds count from here")
        return 0.0


def _read(path: Path, say: Callable[[str], None]) -> list[Any] | None:
    """The value in a list, or nothing."""
    try:
        return [json.loads(path.read_text(encoding="utf-8"))]
    except OSError:
        return None
    except ValueError:
        say(f"{path} is damaged: left aside, and decided anew")
        return None


def pick_device() -> str:
    """A GPU if PyTorch sees one, else the CPU."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return "cuda" if not ranks.launched() else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
