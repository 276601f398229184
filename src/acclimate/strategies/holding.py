"""Ties to the pretrained network, as a training step reads them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.hold import HOLDS, Hold, Pretrained
from acclimate.strategies.alignment import check_alone
from acclimate.strategies.base import Problem
from acclimate.tasks.base import Network, Output


def refuse_hold(hold: str, holds: Sequence[Hold], problem: Problem) -> None:
    """Refuse what this task, or several processes, cannot have."""
    kinds = {type(one) for one in holds}
    if HOLDS["lwf"] in kinds and problem.task.name not in ("classify", "ordinal"):
        raise UserError(
            f"hold={hold!r}: lwf compares the probabilities of classes, and the task is {problem.task.name}; use "
            "features, which holds the encoder itself"
        )
    if any(one.compares_rows for one in holds):
        check_alone(f"hold={hold!r}")


class Holding:
    """Σ weight · penalty of the rows of a batch; what the pretrained network made of each row is known before."""

    def __init__(self, holds: Sequence[Hold], network: Network, problem: Problem, data: Data) -> None:
        self.holds = holds
        moving = {name: p for name, p in network.named_parameters() if p.requires_grad and name.startswith("backbone.")}
        needed = any(one.instead_of_decay for one in holds)
        self.weights = {name: p.detach().clone() for name, p in moving.items()} if needed else {}
        self.head = copy.deepcopy(network.head).requires_grad_(False).eval()
        self.features = torch.zeros(0, network.backbone.width)
        if any(one.reads_rows for one in holds):
            self.features = torch.from_numpy(problem.network()[1].get(data.inputs))

    def of(self, network: Network, at: list[int], output: Output) -> Tensor:
        """The penalty of these rows of the training data."""
        device = output.features.device
        features = self.features[at].to(device) if len(self.features) else self.features.to(device)
        with torch.autocast(device.type, enabled=False):
            logits = self.head(features)
            pretrained = Pretrained(self.weights, features, logits, self.head)
            return torch.stack([one.weight * one(network, pretrained, output) for one in self.holds]).sum()
