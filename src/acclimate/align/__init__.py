"""Losses that bring source and target together, by name. A new one is a class that the dict at the end of its file
names.

>>> import torch
>>> loss = ALIGNMENTS["coral"]().attach(features=384, classes=2)
>>> x, z = torch.randn(64, 384), torch.randn(64, 2)
>>> loss(View(x, z), View(x[:40], z[:40]), 0.5).shape
torch.Size([])
"""

from __future__ import annotations

from acclimate.align.adversarial import ADVERSARIAL
from acclimate.align.base import Alignment, Loss, View
from acclimate.align.confusion import CONFUSION
from acclimate.align.contrast import CONTRASTS
from acclimate.align.moments import MOMENTS
from acclimate.align.norms import NORMS
from acclimate.align.transport import TRANSPORT

ALIGNMENTS: dict[str, type[Alignment]] = {**MOMENTS, **ADVERSARIAL, **CONFUSION, **NORMS, **TRANSPORT, **CONTRASTS}

__all__ = ["ALIGNMENTS", "Alignment", "Loss", "View"]
