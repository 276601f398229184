"""Answers to many inputs, those of like size together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from acclimate.backbones.base import Batch, Encoded, budgeted
from acclimate.backbones.kernels import laid_out
from acclimate.features import to_device
from acclimate.run import Run

if TYPE_CHECKING:
    from acclimate.structured.base import StructuredNetwork

MOST = 32  # rows of a batch
_COST = 16_384  # of a batch
_WORTH_IT = 4  # inputs, for which weights are laid out anew


def answers_to(
    network: StructuredNetwork,
    inputs: Sequence[Any],
    run: Run,
    label: str = "answers",
    most: int = MOST,
    read: Callable[[list[Encoded], Batch], Sequence[Any]] | None = None,
) -> list[Any]:
    """One answer an input, in order; those of like size are read together. `read(rows, batch)` gives something else of
    each row than the network's answer."""
    read = read or network.answers
    network = network.to(run.device).eval()
    encoded = network.encode(inputs, None)
    found: list[Any] = [None] * len(inputs)
    quick = laid_out(network, copied=len(inputs) >= _WORTH_IT)
    with torch.inference_mode(), quick, run.progress.steps(label, len(inputs)) as advance:
        for at in budgeted([row.cost for row in encoded], _COST, most):
            rows = [encoded[i] for i in at]
            said = read(rows, to_device(network.collate(rows), run.device))
            for i, answer in zip(at, said, strict=True):
                found[i] = answer
            advance(len(at))
    network.cpu()
    return found
