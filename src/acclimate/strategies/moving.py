"""What strategies that move weights in a loop of their own share: settings, numbers, kept blocks, the loop itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from acclimate.backbones.quantise import full_precision
from acclimate.data.rows import Data
from acclimate.run import Run
from acclimate.strategies.base import Problem
from acclimate.strategies.checks import fits
from acclimate.strategies.inputs import Inputs
from acclimate.strategies.tune import Tune, cut_short
from acclimate.tasks.base import Network
from acclimate.tasks.heads import Head
from acclimate.train.descent import Descent
from acclimate.train.descent import descend as train
from acclimate.train.loop import History, Schedule
from acclimate.train.pairs import Batches
from acclimate.train.used_rows import named_rows

_FEW = 60  # steps, of which a trial of numbers would take a fifth or more


@dataclass(frozen=True)
class Moving:
    """What moves, how fast, in which numbers: as in `Tune`, which does the moving."""

    moves: str = "all"  # as in `Tune`
    learning_rate: float | None = None  # None: 5e-5, or what suits random weights
    batch_size: int = 16
    weight_decay: float = 0.01
    warmup_steps: float = 0.1  # below 1: a share of all steps
    max_grad_norm: float = 1.0
    dropout: float | None = None  # None: as the pretrained model has it
    mixed_precision: str = "auto"
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self.tune()

    def tune(self, start: str = "zero", epochs: int | None = None) -> Tune:
        """The same as an ordinary tuning; it refuses settings that make no sense."""
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(Moving) if f.init}
        return Tune(start=start, num_train_epochs=epochs, **shared)

    def settings(self) -> dict[str, Any]:
        """What a bundle keeps."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}


def begun(tune: Tune, problem: Problem, head: Head, data: Data, run: Run) -> tuple[Tune, Network, list[str]]:
    """The settings as this backbone and these rows have them, a copy of it where what they name may move, and sentences
    on what that is; call it inside `alone`."""
    tune = tune.known(problem.network()[0])
    fits(tune, problem)
    tune, chosen = tune.resolved(problem, data, head, run)
    network, moved = tune.started(problem, head, run)
    return tune, network, [sentence for sentence in (moved, chosen) if sentence]


def descend(
    tune: Tune,
    network: Network,
    rows: Inputs,
    loss_of: Callable[[list[int]], Tensor],
    batches: Batches,
    epochs: int,
    valid: Inputs | None,
    run: Run,
    label: str,
    what: str,
    compared: str = "",
) -> tuple[History, list[str]]:
    """Train what moves in `network` in place; what happened, and sentences on the numbers and the frozen blocks.

    `tune` says rates, schedule and numbers; `loss_of` is the mean loss of a batch of `rows`. With `valid` the epoch of
    its least loss is kept.
    """
    passes = max(epochs, sum(map(len, batches(0))) * epochs // max(1, len(rows.encoded)))
    prefix, note = tune.prefix_of(network.backbone, rows, valid, passes, run)
    schedule = Schedule(
        epochs, tune.warmup_steps, tune.lr_scheduler_type, tune.gradient_accumulation_steps, tune.max_grad_norm
    )
    mixed = tune.mixed_precision
    if mixed == "auto" and len(batches(0)) * epochs < _FEW:
        mixed = "no"
    read = [*rows.encoded, *([] if valid is None else valid.encoded)]
    with named_rows(network.backbone, read, tune.moves_every_row):
        how = Descent(tune.optimizer_of(network), schedule, batches, mixed, label, what, compared, prefix)
        history, said = train(network, loss_of, None if valid is None else partial(valid.mean_loss, network), how, run)
    notes = [sentence for sentence in (said, cut_short(history)) if sentence]
    for sentence in notes:
        run.progress.say(sentence)
    return history, [note, *notes] if note else notes


def released(
    network: Network, tune: Tune, data: Data, run: Run
) -> tuple[tuple[str, ...], dict[str, Tensor] | None, dict[str, Any] | None]:
    """The names of what moved, and the adapter before it was merged; the network is afterwards plain, frozen, on the
    CPU. A few of the rows tell whether merging changed anything."""
    network.zero_grad(set_to_none=True)
    names = tuple(n for n, p in network.named_parameters() if p.requires_grad)
    adapter = tune.taken(network.backbone, data, run)
    network.requires_grad_(False).cpu().eval()
    return names, *adapter


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """Random numbers drawn inside leave the process's own where they stood; weights are read as fp32."""
    with torch.random.fork_rng(devices=[] if run.device == "cpu" else None), full_precision():
        yield
