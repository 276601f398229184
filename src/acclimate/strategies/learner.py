"""What loops on unlabelled rows share: rows of two domains, their turns, a teacher, guesses, and statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from acclimate.align import Loss
from acclimate.align.base import entropies, log_probabilities
from acclimate.backbones.base import Backbone, Batch, Encoded, in_eval
from acclimate.data.rows import Data
from acclimate.features import to_device
from acclimate.strategies.base import Problem
from acclimate.strategies.sourcefree import pseudo_labels
from acclimate.tasks.base import Network

_READ = 256  # rows of one batch when nothing is learned from them


@dataclass(frozen=True)
class Rows:
    """The encoded rows of both domains; labels and weights are of the source."""

    backbone: Backbone
    source: list[Encoded]
    target: list[Encoded]
    labels: Tensor
    weights: Tensor

    @staticmethod
    def of(problem: Problem, source: Data, target: Data, backbone: Backbone) -> Rows:
        """Encode them once."""
        targets = problem.targets(source)
        weights = torch.as_tensor(problem.weights(source, targets), dtype=torch.float32)
        encoded = backbone.encode(source.inputs), backbone.encode(target.inputs)
        return Rows(backbone, *encoded, torch.as_tensor(targets, dtype=torch.long), weights)

    def batch(
        self, rows: Sequence[Encoded], at: Sequence[int], generator: torch.Generator, strength: float, device: str
    ) -> Batch:
        """Some rows, each changed at random."""
        collated = self.backbone.collate([rows[i] for i in at])
        return to_device(self.backbone.augment(collated, generator, strength), device)

    def plain(self, device: str) -> list[Batch]:
        """All target rows in order, as they are."""
        parts = [self.target[i : i + _READ] for i in range(0, len(self.target), _READ)]
        return [to_device(self.backbone.collate(part), device) for part in parts]


@dataclass(frozen=True)
class Turns:
    """Which row of each domain has its turn when. A batch is a list of turns, so that one number tells all the rest."""

    source: list[int]  # the row of turn i
    target: list[int]
    size: int  # turns of a step
    steps: int  # of an epoch
    epochs: int
    seed: int

    @staticmethod
    def drawn(source: int, target: int, size: int, steps: int, seed: int) -> Turns:
        """Both domains shuffled over and over; an epoch is one pass over the target, the last of it filled up."""
        each = math.ceil(target / size)
        epochs = max(1, round(steps / each))
        turns = each * epochs * size
        rng = np.random.default_rng(seed)
        return Turns(_shuffles(source, turns, rng), _shuffles(target, turns, rng), size, each, epochs, seed)

    @staticmethod
    def passes(target: int, size: int, steps: int, seed: int) -> Turns:
        """The same with target rows alone."""
        return Turns.drawn(1, target, size, steps, seed + 1)

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of one epoch."""
        first = number * self.steps
        return [list(range(step * self.size, (step + 1) * self.size)) for step in range(first, first + self.steps)]

    def step(self, at: list[int]) -> int:
        """The number of the step that these turns belong to."""
        return at[0] // self.size

    def progress(self, at: list[int]) -> float:
        """From 0 to 1."""
        return self.step(at) / max(1, self.steps * self.epochs - 1)

    def generator(self, at: list[int]) -> torch.Generator:
        """Random numbers of these turns alone: the same ones in a run that goes on."""
        state = np.random.SeedSequence([self.seed, at[0]]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state))


def _shuffles(rows: int, turns: int, rng: np.random.Generator) -> list[int]:
    found: list[int] = np.concatenate([rng.permutation(rows) for _ in range(math.ceil(turns / rows))]).tolist()
    return found[:turns]


class Learner(nn.Module):
    """A network with what a checkpoint must keep beside it: the loss's own weights, the teacher, the last guesses."""

    labels: Tensor
    epoch: Tensor
    mean: Tensor
    step: Tensor

    def __init__(self, network: Network, align: Loss | None, teacher: bool, decay: float, guessed: int) -> None:
        super().__init__()
        self.network = network
        self.align = align if isinstance(align, nn.Module) else None
        self.teacher, self.decay = teacher, decay
        self.register_buffer("labels", torch.zeros(guessed, dtype=torch.long))
        self.register_buffer("epoch", torch.tensor(-1))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("mean", parameters_to_vector(self._moving()).detach().clone() if teacher else None)

    def _moving(self) -> list[nn.Parameter]:
        return [p for p in self.network.parameters() if p.requires_grad]

    def follow(self, step: int) -> None:
        """Move the teacher towards the weights as they are before this step, once: mean ← a·mean + (1 − a)·θ.

        a is the decay, and less in the first steps, so that the teacher does not lag behind random weights.
        """
        if self.teacher and int(self.step) != step:
            self.step.fill_(step)
            share = 1 - min(self.decay, (1 + step) / (10 + step))
            self.mean.lerp_(parameters_to_vector(self._moving()).detach(), share)

    def taught(self, batch: Batch, logits: Tensor) -> Tensor:
        """The teacher's logits; without one the network's own, which are given."""
        if not self.teacher:
            return logits
        names = [n for n, p in self.network.named_parameters() if p.requires_grad]
        parts = torch.split(self.mean, [p.numel() for p in self._moving()])
        state = {n: part.view_as(p) for n, part, p in zip(names, parts, self._moving(), strict=True)}
        state |= {n: b.clone() for n, b in self.network.named_buffers()}  # its statistics are of the batch alone
        found: Tensor = torch.func.functional_call(self.network, state, (batch,)).logits
        return found

    def finish(self) -> None:
        """Take over the teacher's weights."""
        if self.teacher:
            self.follow(int(self.step) + 1)
            vector_to_parameters(self.mean, self._moving())

    @torch.no_grad()
    def guess(self, epoch: int, labels: Callable[[], Tensor]) -> None:
        """New guesses, unless those of this epoch are there."""
        if int(self.epoch) != epoch:
            self.labels.copy_(labels())
            self.epoch.fill_(epoch)


@torch.no_grad()
def settle(network: Network, rows: Rows, device: str) -> None:
    """BatchNorm statistics that may move become those of all target rows as they are (AdaBN, Li et al. 2016)."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.track_running_stats and any(p.requires_grad for p in m.parameters())]
    if not norms or len(rows.target) < 2:
        return
    network.eval()
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    for batch in rows.plain(device):
        if len(next(iter(batch.values()))) > 1:
            network(batch)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.eval()


@torch.no_grad()
def answers(network: Network, rows: Rows, device: str) -> tuple[Tensor, Tensor]:
    """Features (n, d) and log-probabilities (n, K) of all target rows as they are."""
    with in_eval(network):
        found = [network(batch) for batch in rows.plain(device)]
    return torch.cat([o.features for o in found]), log_probabilities(torch.cat([o.logits for o in found]))


def infomax(network: Network, rows: Rows, device: str) -> float:
    """H(E[p]) − E[H(p)] over the target rows, from 0 to log K: high where answers are sure and all classes in use."""
    log_p = answers(network, rows, device)[1].double()
    mean = log_p.exp().mean(0)
    return float(entropies(mean.clamp(min=1e-300).log().unsqueeze(0))[0] - entropies(log_p).mean())


def centroid_labels(network: Network, rows: Rows, device: str) -> Tensor:
    """The class of the nearest centroid of every target row, (n,)."""
    features, log_p = answers(network, rows, device)
    return pseudo_labels(features, log_p.exp())
