"""L_source + λ·L_target: what every strategy that trains with an alignment shares, whatever moves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate import ranks
from acclimate.align import ALIGNMENTS, Alignment, Loss, View
from acclimate.align.base import reversal_strength
from acclimate.errors import UserError, unknown
from acclimate.settings import parse_named
from acclimate.strategies.base import Problem
from acclimate.tasks.base import Floats

WEIGHT_SCHEDULES = ("constant", "rise")


def check_align(align: str) -> None:
    """Refuse what is not a name of ALIGNMENTS, with settings after a colon, or a sum of such."""
    for _, kind, settings in terms(align):
        kind(**settings)


def check_weight(weight: float, weight_schedule: str) -> None:
    """Refuse what is not a λ."""
    if weight_schedule not in WEIGHT_SCHEDULES:
        raise unknown("weight_schedule", weight_schedule, WEIGHT_SCHEDULES)
    if not (weight >= 0 and math.isfinite(weight)):
        raise UserError(f"--lambda {weight!r}: λ in L_source + λ·L_target must be a number from 0 on")


def weight_at(weight: float, weight_schedule: str, progress: float) -> float:
    """λ at this progress: constant, or rising as 2/(1 + e^(−10p)) − 1 (Ganin et al. 2016, section 5.2.2)."""
    return weight * (reversal_strength(progress) if weight_schedule == "rise" else 1.0)


def terms(align: str) -> list[tuple[float, type[Alignment], dict[str, Any]]]:
    """Factor, alignment and settings of every term of a sum; a factor stands before its name, with a star.

    >>> [(factor, kind.__name__, settings) for factor, kind, settings in terms("mcc:temperature=2+0.5*coral")]
    [(1.0, 'Mcc', {'temperature': 2}), (0.5, 'Coral', {})]
    """
    found = []
    for term in re.split(r"(?<![0-9][eE])\+", align):  # not the plus of 1e+3
        if not term.strip():
            raise UserError(f"a part of the alignment {align!r} is empty; write a sum as mcc+0.5*coral")
        glued = re.match(r"\s*([0-9.]+)\s*([a-z_]+)", term)
        if glued:
            raise UserError(f"{term.strip()!r} in the alignment {align!r}: write {glued[1]}*{glued[2]}")
        factor, star, rest = term.partition("*")
        kind, settings = parse_named("alignment", (rest if star else term).strip(), ALIGNMENTS)
        found.append((_factor(factor, align) if star else 1.0, kind, settings))
    return found


def _factor(text: str, align: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise UserError(f"{text.strip()!r} in the alignment {align!r} is no factor above 0; write mcc+0.5*coral")
    return number


def attached(align: str, width: int, problem: Problem, distance: Callable[[], float]) -> Loss:
    """The loss for features of this width; new weights come from torch's current state.

    `distance()` is a usual squared distance between a source and a target row, asked for where nothing is set.
    """
    found = []
    for factor, kind, settings in terms(align):
        if kind.needs_classes and problem.task.name == "multilabel":
            raise UserError(
                f"the alignment {align!r} reads the probabilities of classes of which a row has one, and here a row "
                "may have several; use one that reads features alone: coral, mmd, dann, afn, sliced_wasserstein"
            )
        if kind is ALIGNMENTS["deepjdot"] and "feature_weight" not in settings:
            settings["feature_weight"] = 1 / distance()
        found.append((factor, kind(**settings).attach(width, problem.task.width(problem.decoder))))
    return found[0][1] if len(found) == 1 and found[0][0] == 1.0 else Sum(found)


class Sum(nn.Module):
    """Several losses of the same two views, each times its factor: what has weights is moved and kept with the sum."""

    def __init__(self, losses: list[tuple[float, Loss]]) -> None:
        super().__init__()
        self.losses = losses
        self.weighed = nn.ModuleList([loss for _, loss in losses if isinstance(loss, nn.Module)])

    def forward(self, source: View, target: View, progress: float) -> Tensor:
        """Σ_k a_k L_k."""
        return torch.stack([factor * loss(source, target, progress) for factor, loss in self.losses]).sum()


def usual_distance(x: Floats, y: Floats) -> float:
    """The mean of ‖x − y‖² over all pairs, without making them: spread of x + spread of y + distance of means.

    >>> usual_distance(np.array([[0.0], [2.0]]), np.array([[3.0]]))
    5.0
    """
    own = sum(float(np.square(part - part.mean(0)).sum(1).mean()) for part in (x, y))
    return max(own + float(np.square(x.mean(0) - y.mean(0)).sum()), 1e-12)


class Aligned(nn.Module):
    """A network and, where they have weights, the loss that aligns and what weighs source rows: what one optimiser
    moves and a checkpoint keeps."""

    def __init__(self, network: nn.Module, loss: Loss | None, weighs: nn.Module | None = None) -> None:
        super().__init__()
        self.network = network
        self.loss = loss if isinstance(loss, nn.Module) else None
        self.weighs = weighs

    @property
    def backbone(self) -> nn.Module | None:
        """That of the network, where it has one."""
        found: nn.Module | None = getattr(self.network, "backbone", None)
        return found


def check_alone(name: str) -> None:
    """Losses of whole batches would see one process's rows alone."""
    if ranks.world() > 1:
        raise UserError(
            f"{name} compares the rows of a whole batch, which several processes would cut up; start it as one "
            "process, without --processes or torchrun"
        )


def check_one_class(name: str, problem: Problem) -> None:
    """Refuse tasks whose rows do not have one class each."""
    if problem.task.name not in ("classify", "ordinal"):
        raise UserError(
            f"{name} gives each target row one class, and the task is {problem.task.name}; use one that reads features "
            "alone: coral, mmd, dann, afn, sliced_wasserstein"
        )
