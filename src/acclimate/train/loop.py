"""The one training loop. It takes a loss as a callable and never asks which strategy it serves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.errors import UserError
from acclimate.run import Run

Rows = list[int]
History = list[dict[str, Any]]


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


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    epoch_batches: Callable[[int], Sequence[Rows]],
    loss_of: Callable[[Rows], Tensor],
    evaluate: Callable[[], float] | None,
    run: Run,
    label: str = "training",
) -> History:
    """Train in place and return what happened, one entry an epoch.

    `epoch_batches(e)` lists the rows of every batch of epoch e; `loss_of(rows)` is the mean loss of one batch;
    `evaluate()` is the loss on rows held out, asked before the first step and after every epoch: the weights that
    moved are put back to their best. The run stops at its deadline and keeps what it has.
    """
    moving = [p for p in network.parameters() if p.requires_grad]
    rates = [group["lr"] for group in optimizer.param_groups]
    steps_an_epoch = math.ceil(len(epoch_batches(0)) / schedule.accumulate)
    total = steps_an_epoch * schedule.epochs
    history: History = []
    best = _Best(network)
    if evaluate is not None:
        best.offer(evaluate(), 0)
        history.append({"step": 0, "epoch": 0, "train_loss": None, "valid_loss": best.value})
    step = 0
    with run.progress.steps(label, total) as advance:
        for epoch in range(schedule.epochs):
            network.train()
            batches = epoch_batches(epoch)
            sums: list[Tensor] = []
            for start in range(0, len(batches), schedule.accumulate):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * schedule.factor(step, total)
                sums.append(
                    _step(moving, optimizer, batches[start : start + schedule.accumulate], loss_of, schedule.clip)
                )
                step += 1
                advance(1)
                if step % 20 == 0 or step == total:  # reading a loss waits for the device: not every step
                    _check(sums, step, optimizer)
                if run.left() <= 0:
                    break
            _check(sums, step, optimizer)
            entry: dict[str, Any] = {
                "step": step,
                "epoch": epoch + 1,
                "train_loss": float(torch.stack(sums).mean()),
                "valid_loss": None,
            }
            if evaluate is not None:
                entry["valid_loss"] = evaluate()
                best.offer(float(entry["valid_loss"]), epoch + 1)
            history.append(entry)
            if run.left() <= 0:
                entry["note"] = f"time limit reached after step {step} of {total}"
                break
    best.restore()
    if not all(bool(torch.isfinite(p).all()) for p in moving):  # the last step itself may be the one that overflowed
        raise _diverged(step, optimizer)
    network.eval()
    return history


def _step(
    moving: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Rows],
    loss_of: Callable[[Rows], Tensor],
    clip: float,
) -> Tensor:
    rows = sum(len(b) for b in batches)
    total = torch.zeros(())
    optimizer.zero_grad(set_to_none=True)
    for batch in batches:
        loss = loss_of(batch) * (len(batch) / rows)
        loss.backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach().cpu() if loss.device.type == "cpu" else total.to(loss.device) + loss.detach()
    if clip:
        torch.nn.utils.clip_grad_norm_(moving, clip)
    optimizer.step()
    return total


def _check(losses: list[Tensor], step: int, optimizer: torch.optim.Optimizer) -> None:
    if losses and not bool(torch.isfinite(torch.stack(losses)).all()):
        raise _diverged(step, optimizer)


def _diverged(step: int, optimizer: torch.optim.Optimizer) -> UserError:
    rates = ", ".join(f"{group['lr']:.3g}" for group in optimizer.param_groups)
    return UserError(
        f"the loss became NaN or infinite by step {step} (learning rates {rates}); no weights were kept. "
        "Lower --learning-rate by ten, raise warmup_steps, or look for extreme labels or weights in the data."
    )


class _Best:
    """The moving weights at the lowest held-out loss so far; NaN is never lowest."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.value = math.inf
        self.epoch: int | None = None
        self.weights: dict[str, Tensor] = {}

    def offer(self, value: float, epoch: int) -> None:
        if value < self.value:
            self.value, self.epoch = value, epoch
            moving = {n for n, p in self.network.named_parameters() if p.requires_grad}
            buffers = {n for n, _ in self.network.named_buffers()}
            state = self.network.state_dict()
            self.weights = {n: v.detach().clone() for n, v in state.items() if n in moving or n in buffers}

    def restore(self) -> None:
        if self.weights:
            self.network.load_state_dict(self.weights, strict=False)
