"""The one training loop. It takes a loss as a callable and never asks which strategy it serves."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from acclimate import ranks
from acclimate.errors import UserError
from acclimate.files import json_text, write_text
from acclimate.interrupt import held_back
from acclimate.run import Run
from acclimate.train.checkpoint import Best, Checkpoints, Place
from acclimate.train.memory import Fitting
from acclimate.train.step import Rows
from acclimate.train.step import step as _step

History = list[dict[str, Any]]
_LOOK = 20  # steps between looks at the losses: reading one waits for the device


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    epochs: int
    warmup: float = 0.1  # a share of all steps if below 1, else a number of steps
    shape: str = "linear"  # linear | cosine | constant
    accumulate: int = 1  # batches an optimiser step
    clip: float = 1.0  # largest gradient norm; 0: no clipping

    def factor(self, step: int, total: int) -> float:
        """The multiple of the learning rate at `step` of `total`: a rise, then a fall to 0 (or none)."""
        warm = self.warmup * total if self.warmup < 1 else self.warmup
        if step < warm:
            return (step + 1) / (warm + 1)
        left = (total - step) / max(1.0, total - warm)
        if self.shape == "constant":
            return 1.0
        return left if self.shape == "linear" else 0.5 * (1 - math.cos(math.pi * left))


class Diverged(UserError):
    """A loss or a gradient that is not finite."""


def bare(step: int) -> AbstractContextManager[None]:
    """A step with nothing around it."""
    return contextlib.nullcontext()


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    epoch_batches: Callable[[int], Sequence[Rows]],
    loss_of: Callable[[Rows], Tensor],
    evaluate: Callable[[], float] | None,
    run: Run,
    label: str = "training",
    what: str = "",
    scaler: torch.amp.GradScaler | None = None,
    compared: str = "",
    during: Callable[[int], AbstractContextManager[None]] = bare,
) -> History:
    """Train in place and return what happened, one entry an epoch.

    `epoch_batches(e)` lists the rows of every batch of epoch e; `loss_of(rows)` is the mean loss of one batch;
    `evaluate()` is the loss on rows held out, asked before the first step and after every epoch: the weights that
    moved are put back to their best. The run stops at its deadline and keeps what it has. With `run.state` it leaves
    checkpoints there and goes on from the newest; `what` tells whether one is of the same rows and settings.
    With a `scaler` (of fp16) a step whose gradient overflows is left out, and the next one is scaled less. `compared`
    names a loss that compares the rows of a batch: where memory cuts a batch into parts it is said that it changes.
    `during(step)` is held in each step.
    """
    moving = [p for p in network.parameters() if p.requires_grad]
    total = math.ceil(len(epoch_batches(0)) / schedule.accumulate) * schedule.epochs
    rates = [group["lr"] for group in optimizer.param_groups]
    best = Best(network)
    kept = Checkpoints(run, network, optimizer, best, f"{what} {schedule} {total}", scaler)
    place = kept.resume()
    fitting = Fitting(network, run.progress, place.most, compared)
    _one_or_fit(network)
    ranks.same(network)
    with run.progress.steps(label, total, place.step) as advance, kept.at_interrupt(place):
        if evaluate is not None and not place.history:
            _enter(place, best, None, evaluate())
        while place.epoch < schedule.epochs:
            network.train()
            batches = epoch_batches(place.epoch)
            while place.batch < len(batches):
                if ranks.world() > 1:  # masks of dropout differ between processes, and are those of an unbroken run
                    torch.manual_seed(hash((run.seed, place.step, ranks.rank())))
                with held_back(), during(place.step):  # Ctrl-C waits until the step is whole
                    factor = schedule.factor(place.step, total)
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * factor
                    now = batches[place.batch : place.batch + schedule.accumulate]
                    place.note(len(now), *_step(moving, optimizer, now, loss_of, schedule.clip, fitting, scaler))
                    place.most = fitting.most
                advance(1)
                if (due := kept.due()) or place.step % _LOOK == 0:
                    _look(place, rates, schedule, total, kept)
                if due:
                    kept.save(place)
                if run.left() <= 0:
                    break
            _look(place, rates, schedule, total, kept)
            train_loss = float(place.loss) / math.ceil(place.batch / schedule.accumulate)
            _enter(place, best, train_loss, None if evaluate is None else evaluate())
            if run.left() <= 0 and place.step < total:
                place.history[-1]["note"] = f"time limit reached after step {place.step} of {total}"
                break
    best.restore()
    if not bool(torch.stack([torch.isfinite(p).all() for p in moving]).all()):
        place.bad = torch.tensor(float(place.step))  # the last step itself may be the one that overflowed
        _look(place, rates, schedule, total, kept)
    network.eval()
    return place.history


def _one_or_fit(network: nn.Module) -> None:
    """Refuse several processes where rows of a batch see each other: each process would see its own alone."""
    if ranks.world() == 1:
        return
    network.train()
    if norms_that_move(network):
        raise UserError(
            "BatchNorm layers that move learn from whole batches, which several processes would cut up; use one "
            "process, or a strategy that leaves them frozen"
        )


def norms_that_move(network: nn.Module) -> bool:
    """Whether BatchNorm layers learn from batches as they come: rows of a batch then see each other."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in network.modules())


def _enter(place: Place, best: Best, train_loss: float | None, valid_loss: float | None) -> None:
    with held_back():
        place.enter(train_loss, valid_loss)
        if valid_loss is not None:
            best.offer(valid_loss)


def _look(place: Place, rates: Sequence[float], schedule: Schedule, total: int, kept: Checkpoints) -> None:
    """Stop where a loss or a gradient was not finite: with the step, the rates, and what to do."""
    step = place.first_bad()
    if step is None:
        return
    factor = schedule.factor(step - 1, total)
    note = f"the loss or its gradient became NaN or infinite at step {step}"
    place.history.append(
        {"step": step, "epoch": place.epoch + 1, "train_loss": math.nan, "valid_loss": None, "note": note}
    )
    saved = "no checkpoint was written before"
    if kept.kept:
        saved = f"the last finite checkpoint is {kept.kept[-1]}"
        with contextlib.suppress(OSError):
            write_text(kept.kept[-1].with_name("history.jsonl"), "".join(json_text(h) + "\n" for h in place.history))
    raise Diverged(
        f"{note} of {total} (learning rates {', '.join(f'{rate * factor:.3g}' for rate in rates)}); {saved}. "
        "Lower --learning-rate by ten, raise warmup_steps, or look for extreme labels or weights in the data."
    )
