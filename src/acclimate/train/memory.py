"""Out of memory: fewer rows go through the network at once, and the result stays what it would have been."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from acclimate import ranks
from acclimate.errors import plural
from acclimate.oom import NoRoom, out_of_memory
from acclimate.progress import Progress
from acclimate.train.checkpoint import random_state, set_random_state

T = TypeVar("T")


def parts(rows: Sequence[int], most: int) -> list[list[int]]:
    """The rows cut into runs of at most `most`.

    >>> parts([3, 1, 4, 1, 5], 2)
    [[3, 1], [4, 1], [5]]
    """
    return [list(rows[at : at + most]) for at in range(0, len(rows), most)]


@contextmanager
def no_smaller() -> Iterator[None]:
    """Out of memory where fewer rows would not help: in the optimiser, which keeps two numbers a moving weight."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise NoRoom(
                "there is not enough memory for the optimiser, which keeps two numbers for every weight that moves; "
                "choose --strategy lora or partial, which move fewer, or a smaller --model"
            ) from error
        raise


class Fitting:
    """How many rows go through a network at once: all of a batch, until that does not fit; then half as many.

    Sums over rows stay what they were; `compared` names a loss that does not, and this is said.
    """

    def __init__(self, network: nn.Module, progress: Progress, most: int | None = None, compared: str = "") -> None:
        self.progress, self.most = progress, most
        self.compared = compared  # a loss that compares the rows of a batch
        self._halved = False
        self.device = next(network.parameters()).device
        # What a half-done step has changed besides gradients: running means and variances.
        norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self.running = [b for m in norms for b in m.buffers(recurse=False)]

    def retried(self, work: Callable[[int], T], rows: int) -> T:
        """`work(most)`, `most` being `rows` or fewer; begun anew, with the same random numbers, when memory ran out."""
        drawn = random_state(self.device)
        running = [b.clone() for b in self.running]
        while True:
            most = min(rows, self.most or rows)
            try:
                return work(most)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            # Outside of `except`: the error's frames held the tensors that are to be freed.
            self._halve(most)
            set_random_state(drawn, self.device)
            for buffer, before in zip(self.running, running, strict=True):
                buffer.copy_(before)

    def take_halved(self) -> bool:
        """Whether memory ran out since this was last asked."""
        halved, self._halved = self._halved, False
        return halved

    def agree(self) -> None:
        """Of several processes all take the fewest rows: the next step runs out of memory in none of them."""
        before, self.most = self.most, ranks.least(self.most)
        if self.most != before:
            self.progress.say_once(
                f"out of memory in another process: going on with {self.most} rows at once in each; steps "
                f"count as "
                "many rows as before"
            )

    def _halve(self, rows: int) -> None:
        if rows == 1:
            raise NoRoom(
                "there is not enough memory for a single row; lower --max-length, choose a smaller --model, or a "
                "strategy that moves less, such as linear_probe"
            )
        self.most, self._halved = (rows + 1) // 2, True
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        changed = f"; {self.compared} now compares so many rows at a time, which changes it" if self.compared else ""
        self.progress.say_once(
            f"out of memory with {plural(rows, 'row')} at once: going on with {self.most}; steps count as many rows "
            f"as before"
            f"{changed}. A smaller --batch-size or --max-length needs less memory from the start."
        )
