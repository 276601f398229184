"""Rows as a network that moves reads them, step by step: of one domain, or of source and target together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from acclimate import ranks
from acclimate.align import Loss, View
from acclimate.backbones.base import Backbone, Batch, Encoded
from acclimate.data.rows import Data
from acclimate.features import to_device
from acclimate.run import Run
from acclimate.strategies.base import Problem
from acclimate.strategies.holding import Holding
from acclimate.tasks.base import Network, Output
from acclimate.train.loop import norms_that_move
from acclimate.train.memory import Fitting, parts
from acclimate.train.pairs import Pairs
from acclimate.train.prefix import Prefix

_EVALUATED = 64  # rows of one batch when nothing is learned from them


class Inputs:
    """Rows encoded once, with targets and weights as tensors."""

    def __init__(self, problem: Problem, data: Data, backbone: Backbone, run: Run) -> None:
        self.encoded: list[Encoded] = backbone.encode(data.inputs)
        self.costs = [row.cost for row in self.encoded]
        targets = problem.targets(data)
        dtype = torch.long if targets.dtype.kind in "iu" else torch.float32
        # These stay on the CPU: choosing rows of them on a device would wait for it at every step.
        self.targets = torch.as_tensor(targets, dtype=dtype)
        self.weights = torch.as_tensor(problem.weights(data, targets), dtype=torch.float32)
        self.task, self.backbone, self.device = problem.task, backbone, run.device
        self.prefix: Prefix | None = None
        self.first = 0  # the number of the first of these rows in the prefix
        self.holding: Holding | None = None
        self.augment, self.seed = 0.0, run.seed  # strength of random changes while a network learns
        self.step = 0  # which these are of

    def output(self, network: Network, at: list[int]) -> Output:
        """What the network says of these rows."""
        return self._judged(network, at, {})[0]

    def losses(self, network: Network, at: list[int]) -> Tensor:
        """The weighted loss of each of these rows."""
        chosen = {"targets": self.targets[at], "weights": self.weights[at]}
        out, given = self._judged(network, at, chosen)
        return given["weights"] * self.task.losses(out.logits.float(), given["targets"])

    def step_loss(self, network: Network, at: list[int]) -> Tensor:
        """The weighted mean loss of these rows, and what ties the network to the pretrained one."""
        out, given = self._judged(network, at, {"targets": self.targets[at], "weights": self.weights[at]})
        mean = (given["weights"] * self.task.losses(out.logits.float(), given["targets"])).mean()
        return mean + self.penalty(network, at, out)

    def penalty(self, network: Network, at: list[int], out: Output) -> Tensor | float:
        """What ties the network to the pretrained one, of these rows."""
        return 0.0 if self.holding is None else self.holding.of(network, at, out)

    def _judged(self, network: Network, at: list[int], beside: dict[str, Tensor]) -> tuple[Output, dict[str, Tensor]]:
        """The output, and what was sent to the device beside the rows, in one go."""
        collated = self.backbone.collate([self.encoded[i] for i in at])
        if self.augment and network.training:
            collated = self._changed(collated, at)
        if self.prefix is not None:
            self.prefix.offer([self.first + i for i in at], collated, self.device)
        batch = to_device({**collated, **beside}, self.device)
        given = {name: batch.pop(name) for name in beside}
        return network(batch), given

    @contextmanager
    def during(self, step: int) -> Iterator[None]:
        """Rows that are read inside are changed as those of this step."""
        self.step, before = step, self.step
        try:
            yield
        finally:
            self.step = before

    def _changed(self, collated: Batch, at: list[int]) -> Batch:
        """Each row changed at random, told by seed, step and row alone: however a batch is cut, and in a run that goes
        on."""
        parts = []
        for k, row in enumerate(at):
            digest = hashlib.blake2b(np.array([self.seed, self.step, row], np.int64).tobytes(), digest_size=7).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
            parts.append(self.backbone.augment(self.backbone.one_row(collated, k), generator, self.augment))
        return {name: torch.cat([part[name] for part in parts]) for name in collated}

    def mean_loss(self, network: Network, fitting: Fitting) -> float:
        """The weighted mean loss of all rows, those of like length together. Only sums are kept, never logits."""
        network.eval()
        order = np.argsort(self.costs, kind="stable").tolist()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for batch in ranks.share(parts(order, _EVALUATED)):
                total += fitting.retried(partial(self._summed, network, batch), len(batch))
        return float(ranks.summed(total)) / float(self.weights.double().sum())

    def _summed(self, network: Network, batch: list[int], most: int) -> Tensor:
        return torch.stack([self.losses(network, part).double().sum() for part in parts(batch, most)]).sum()


class Both:
    """Source and target rows of one network, and L_source + λ·L_target of a step.

    L_source is the weighted mean loss of its source rows, with what ties the network to the pretrained one on them;
    L_target the alignment of these with as many target rows.
    """

    def __init__(self, rows: Inputs, target: Data, loss: Loss, weight: Callable[[float], float]) -> None:
        self.rows, self.loss, self.weight = rows, loss, weight
        self.first = len(rows.encoded)  # the place of the first target row
        theirs = rows.backbone.encode(target.inputs)
        rows.encoded = [*rows.encoded, *theirs]  # so that one prefix serves both
        self.target_costs = [row.cost for row in theirs]

    def loss_of(self, network: Network, pairs: Pairs, slots: list[int]) -> Tensor:
        """The loss of one batch of slots."""
        here, there = pairs.source(slots).tolist(), pairs.target(slots).tolist()
        return self.at(network, here, there, pairs.progress(slots[0]))

    def at(self, network: Network, here: list[int], there: list[int], progress: float) -> Tensor:
        """The loss of these source and these target rows at this progress."""
        rows = self.rows
        ours, theirs = self._outputs(network, here, [self.first + i for i in there])
        truth, weights = (part[here].to(rows.device) for part in (rows.targets, rows.weights))
        logits = ours.logits.float()
        mean_loss = (weights * rows.task.losses(logits, truth)).mean()
        source = View(ours.features, logits, truth if truth.dtype == torch.long else None, weights)
        with torch.autocast(torch.device(rows.device).type, enabled=False):
            aligned = self.loss(source, View(theirs.features, theirs.logits.float()), progress)
        return mean_loss + self.weight(progress) * aligned + rows.penalty(network, here, ours)

    def _outputs(self, network: Network, here: list[int], there: list[int]) -> tuple[Output, Output]:
        """In one forward pass, unless rows of a batch see each other in it: then each domain by itself."""
        if norms_that_move(network):
            return self.rows.output(network, here), self.rows.output(network, there)
        both = self.rows.output(network, [*here, *there])
        n = len(here)
        return Output(*(part[:n] for part in both)), Output(*(part[n:] for part in both))
