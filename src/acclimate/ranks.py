"""Several processes at one run: every one runs the same program, training steps are shared out, the first one writes.

With one process nothing here does anything, and torch.distributed is not imported. The processes are told who they are
by the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), as `accelerate launch`, `torchrun` and
`acclimate fit --processes` set it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
LOST = 75  # exit code of a process that ends since another one did
WATCHED = "ACCLIMATE_WATCHED"  # set where whoever started the processes tells of the one that failed
_PATIENCE = timedelta(days=7)  # one process may extract features for hours while the others wait


class Lost(Exception):
    """Another process of this run ended before its time."""


@contextmanager
def _together() -> Iterator[None]:
    """Round every exchange: where another process is gone, its end is the news, not the broken connection."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(
            "another process of this run ended (by an error of its own, or killed, perhaps for lack of memory); "
            "the same command with --resume goes on from the last checkpoint"
        ) from error


def launched() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def world() -> int:
    """How many processes have met: 1 before `join` and after `leave`, whatever the environment says."""
    if not launched() or "torch.distributed" not in sys.modules:
        return 1
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


def first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def join(device: str) -> None:
    """Meet the other processes. Those after the first leave Ctrl-C and SIGTERM to it."""
    if not launched():
        return
    import torch.distributed as dist
    from accelerate import PartialState

    if not dist.is_initialized():
        PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    if not first() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def leave() -> None:
    """Part from the others, so that a process that ends does not look like one that failed."""
    if world() == 1:
        return
    import torch.distributed as dist
    from accelerate.state import PartialState

    dist.destroy_process_group()
    PartialState._reset_state()


def agreed(value: T) -> T:
    """The first process's value, in all of them."""
    if world() == 1:
        return value
    import torch.distributed as dist

    box = [value if first() else None]
    with _together():
        dist.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


def by_first(work: Callable[[], T]) -> T:
    """What the first process's `work` gives, in all of them; the others do not run it."""
    return work() if world() == 1 else agreed(work() if first() else None)  # type: ignore[return-value]


def share(rows: Sequence[T], before: int = 0) -> list[T]:
    """This process's part: every world-th row, counted from `before`, so that rows of like length are spread evenly."""
    return list(rows[(rank() - before) % world() :: world()])


def summed(value: Tensor) -> Tensor:
    """The sum over all processes, in each of them."""
    if world() > 1:
        import torch.distributed as dist

        with _together():
            dist.all_reduce(value)
    return value


def least(value: int | None) -> int | None:
    """The smallest of all processes' values; None where none has one."""
    if world() == 1:
        return value
    import torch.distributed as dist

    found: list[int | None] = [None] * world()
    with _together():
        dist.all_gather_object(found, value)
    return min((v for v in found if v is not None), default=None)


def sum_gradients(parameters: Sequence[nn.Parameter], loss: Tensor, flag: bool) -> tuple[Tensor, bool]:
    """Replace every gradient by its sum over all processes, in one message; the sum of the losses, and whether any
    process raised its flag.

    A process without rows in this step has no gradients: its share of the sum is zero. Where no process has one, there
    is none, as with one process.
    """
    if world() == 1:
        return loss, flag
    import torch

    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    there = torch.tensor([float(p.grad is not None) for p in parameters], dtype=parts[0].dtype, device=parts[0].device)
    last = torch.stack([torch.full_like(loss, float(flag)), loss]).to(parts[0].dtype)
    flat = summed(torch.cat([*(part.reshape(-1) for part in parts), there, last]))
    *somewhere, raised = flat[-2 - len(parts) : -1].tolist()
    at = 0
    for parameter, has in zip(parameters, somewhere, strict=True):
        parameter.grad = flat[at : at + parameter.numel()].view_as(parameter) if has else None
        at += parameter.numel()
    return flat[-1], raised > 0


def same(network: nn.Module) -> None:
    """Give every process the first one's weights and buffers."""
    if world() == 1:
        return
    import torch
    import torch.distributed as dist

    with torch.no_grad(), _together():
        for tensor in (*network.parameters(), *network.buffers()):
            dist.broadcast(tensor.data, src=0)
