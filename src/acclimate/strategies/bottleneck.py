"""The small network on frozen features that adaptation trains: its settings, and what its strategies share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem
from acclimate.strategies.domains import Domains, check_standardise
from acclimate.tasks.heads import BottleneckHead
from acclimate.train.loop import History, Schedule

_STEPS, _EPOCHS = 200, 8  # what is trained for at least, where nothing is said


@dataclass(frozen=True)
class Bottleneck:
    """Settings of the hidden layer and of its training by AdamW with a linear fall of the rate."""

    standardise: str = "source"  # source | joint | per_domain
    bottleneck: int = 128  # h, the width of the hidden layer
    dropout: float = 0.0
    learning_rate: float = 1e-3
    num_train_epochs: int | None = None  # None: 200 steps or more, 8 epochs or more
    batch_size: int = 64  # rows of each domain
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    restart: int = 0  # which of several starts; each has random numbers of its own
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        check_standardise(self.standardise)
        for name in ("bottleneck", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r} must be 1 or more")
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate={self.learning_rate!r} must be above 0")
        for name in ("weight_decay", "max_grad_norm"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name}={getattr(self, name)!r} must be 0 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout={self.dropout!r} must be at least 0 and below 1")
        if self.restart < 0:
            raise UserError(f"restart={self.restart!r} must be 0 or more")
        if self.num_train_epochs is not None and self.num_train_epochs < 1:
            raise UserError(f"num_train_epochs={self.num_train_epochs!r} must be 1 or more")

    def begun(self, run: Run) -> Run:
        """The run with the seed of this start: its own for the first."""
        if not self.restart:
            return run
        return dataclasses.replace(run, seed=int(np.random.SeedSequence([run.seed, self.restart]).generate_state(1)[0]))

    def epochs(self, rows: int) -> int:
        """The number of passes over `rows` rows."""
        if self.num_train_epochs is not None:
            return int(self.num_train_epochs)
        return max(_EPOCHS, math.ceil(_STEPS / math.ceil(rows / self.batch_size)))

    def schedule(self, rows: int) -> Schedule:
        """How long and how fast."""
        return Schedule(self.epochs(rows), clip=self.max_grad_norm)

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """AdamW over what moves; biases and norms without decay."""
        moving = [p for p in network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in moving if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in moving if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.learning_rate, fused=True)

    def new_head(self, problem: Problem, known: Domains) -> BottleneckHead:
        """An untrained head for standardised rows."""
        last = problem.task.head(1, problem.decoder).kind
        width = problem.task.width(problem.decoder)
        return BottleneckHead(known.source.shape[1], width, self.bottleneck, last, self.dropout)

    def predictor(self, problem: Problem, head: BottleneckHead, strategy: str, history: History) -> Predictor:
        """The head with all that a bundle holds."""
        settings: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        names = tuple(f"head.{n}" for n, _ in head.named_parameters())
        return Predictor(
            problem.task, problem.decoder, head, problem.backbone, None, strategy, settings, names, tuple(history)
        )


@contextmanager
def forked(run: Run) -> Iterator[None]:
    """Random numbers of this run's seed inside the block; the generators' own states after it."""
    with torch.random.fork_rng(devices=[] if run.device == "cpu" else None):
        torch.manual_seed(run.seed)
        yield
