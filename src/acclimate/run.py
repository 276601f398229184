"""What every strategy is told about the run that it is part of."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from acclimate.progress import Progress


@dataclass(frozen=True)
class Run:
    """Seed, device, deadline, cache and where to report. Nothing in it changes during the run."""

    seed: int = 0
    device: str = "cpu"
    deadline: float | None = None  # on time.monotonic(); None: no limit
    cache: Path | None = None  # where features are kept; None: in memory alone
    num_workers: int = 0  # 0 or more tokenise ahead; results do not depend on it
    private: bool = False
    progress: Progress = field(default_factory=Progress)

    def left(self) -> float:
        """Seconds until the deadline; infinite without one."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()


def pick_device() -> str:
    """A GPU if PyTorch sees one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
