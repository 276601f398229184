"""A run that is killed in the middle of its training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from acclimate.train import loop


def killed_at(step: int, work: Callable[[], Any]) -> None:
    """Do the work until this step of its trainings, counted over all of them, is about to begin."""
    count = [0]

    def stop(*args: Any) -> Any:
        count[0] += 1
        if count[0] == step:
            raise RuntimeError("killed")
        return original(*args)

    original = loop._step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", stop)
        with pytest.raises(RuntimeError, match="killed"):
            work()
