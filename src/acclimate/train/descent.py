"""The training loop in the numbers (fp32, bf16 ...) that a few steps of trial find quickest, frozen blocks replayed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from acclimate.run import Run
from acclimate.train.arithmetic import choose
from acclimate.train.loop import History, Schedule, bare, train
from acclimate.train.memory import Fitting
from acclimate.train.pairs import Batches
from acclimate.train.prefix import Prefix, replaying


@dataclass(frozen=True)
class Descent:
    """How a network is trained: everything but what its loss is."""

    optimizer: torch.optim.Optimizer  # made before stubs take the place of frozen blocks: it asks where a weight lies
    schedule: Schedule
    batches: Batches
    mixed: str  # auto | no | bf16 | fp16
    label: str  # in progress
    what: str  # names what is trained, so that only a checkpoint of the same is gone on from
    compared: str = ""  # names a loss that compares the rows of a batch
    prefix: Prefix | None = None
    during: Callable[[int], AbstractContextManager[None]] = bare  # held in each step


def descend(
    network: nn.Module,
    loss_of: Callable[[list[int]], Tensor],
    evaluate: Callable[[Fitting], float] | None,
    how: Descent,
    run: Run,
) -> tuple[History, str]:
    """Train in place by the mean loss of batches; what happened, and a sentence on the numbers that were chosen.

    `evaluate` is the loss on rows held out, by which the best epoch is kept.
    """
    first = how.batches(0)
    fitting = Fitting(network, run.progress)
    with replaying(how.prefix):
        found, said = choose(network, loss_of, first, len(first) * how.schedule.epochs, how.mixed, run)

    def at_work(rows: list[int]) -> Tensor:
        with found.at_work(run.device):
            return loss_of(rows)

    def judged() -> float:
        assert evaluate is not None
        with found.at_work(run.device):
            return evaluate(fitting)

    with replaying(how.prefix), found.applied(network):
        history = train(
            network, how.optimizer, how.schedule, how.batches, at_work, None if evaluate is None else judged, run,
            how.label, how.what, found.scaler(run.device), how.compared, how.during,
        )  # fmt: skip
    return history, said
