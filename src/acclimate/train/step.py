"""One step of an optimiser."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from acclimate import ranks
from acclimate.train.memory import Fitting, no_smaller, parts

Rows = list[int]
_LEAST_SCALE = 2.0**-10  # of fp16: gradients that overflow even so are not finite at all


def step(
    moving: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Rows],
    loss_of: Callable[[Rows], Tensor],
    clip: float,
    fitting: Fitting,
    scaler: torch.amp.GradScaler | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser; the loss and the norm of the gradient, both left on the device.

    With a scaler a norm that is not finite is no fault until the scale has no room left: the loss stands for it.
    """
    rows = sum(map(len, batches))
    before = itertools.accumulate(map(len, batches), initial=0)
    mine = [ranks.share(batch, start) for batch, start in zip(batches, before, strict=False)]

    def gradients(most: int) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        losses = [torch.zeros((), device=moving[0].device)]  # a process may have no row of a small batch
        for part in (part for batch in mine for part in parts(batch, most)):
            loss = loss_of(part) * (len(part) / rows)
            (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    loss = fitting.retried(gradients, max(1, *map(len, mine)))
    loss, halved = ranks.sum_gradients(moving, loss, fitting.take_halved())
    if halved:
        fitting.agree()
    with no_smaller():
        if scaler is None:
            norm = torch.nn.utils.clip_grad_norm_(moving, clip or math.inf)
            optimizer.step()
            return loss, norm
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(moving, clip or math.inf)
        scaler.step(optimizer)
        scaler.update()
        scale = scaler._scale
        assert scale is not None
        return loss, torch.where(scale < _LEAST_SCALE, math.nan, loss)
