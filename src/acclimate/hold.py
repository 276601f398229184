"""Penalties that tie a network to the pretrained one: `(network, pretrained, output) -> scalar`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.errors import UserError, unknown
from acclimate.settings import parse_named


class Seen(Protocol):
    """What a network says of a batch."""

    @property
    def features(self) -> Tensor:
        """(n, d)."""

    @property
    def logits(self) -> Tensor:
        """(n, k)."""


@dataclass(frozen=True)
class Pretrained:
    """The network as it was before it moved, and what it made of the rows of this batch."""

    weights: Mapping[str, Tensor]  # those of the backbone that move, by their names in the network
    features: Tensor  # (n, d); without rows where no penalty reads them
    logits: Tensor  # (n, k), of the head that training began with
    head: nn.Module  # that head


class Hold(Protocol):
    """A frozen dataclass; `weight` is the factor before the penalty. `reads_rows`: it reads features of the pretrained
    network; `compares_rows`: its value is no mean over rows; `instead_of_decay`: it takes the place of weight decay.
    """

    reads_rows: ClassVar[bool]
    compares_rows: ClassVar[bool]
    instead_of_decay: ClassVar[bool]

    @property
    def weight(self) -> float:
        """The factor."""

    def __call__(self, network: nn.Module, pretrained: Pretrained, output: Seen) -> Tensor:
        """The penalty, without its factor."""


@dataclass(frozen=True)
class L2SP:
    """Weights stay near the pretrained ones: ½ Σ_j (θ_j − θ⁰_j)² over the weights of the backbone that move.

    Li, Grandvalet & Davoine 2018 (arXiv:1802.01483), equation 2; the head, which has no pretrained weights, has weight
    decay, and the backbone has none: it would pull to 0. Of adapters it is their own weights that are held to where
    they began.

    Use when: few rows move many weights. Prefer `features` where it is the answers on these rows that must not drift.
    """

    weight: float = 0.01
    reads_rows: ClassVar[bool] = False
    compares_rows: ClassVar[bool] = False
    instead_of_decay: ClassVar[bool] = True

    def __call__(self, network: nn.Module, pretrained: Pretrained, output: Seen) -> Tensor:
        """½ Σ (θ − θ⁰)²."""
        now = dict(network.named_parameters())
        moved = [(now[name] - start).square().sum() for name, start in pretrained.weights.items()]
        return 0.5 * torch.stack(moved).sum()


@dataclass(frozen=True)
class Bss:
    """Directions in which features hardly vary are damped: Σ_{i=1..k} σ²_{−i}, the least k singular values of F (n, d).

    Chen et al. 2019 (Catastrophic Forgetting Meets Negative Transfer, NeurIPS), equation 6: batch spectral shrinkage,
    with k = 1 and a weight of 0.001. F holds the features of the batch, not centred. 0 where n ≤ k: every singular
    value would then be among the least.

    Use when: what was pretrained is far from this task and much of it is of no use. Prefer `l2_sp` where it is near.
    """

    weight: float = 0.001
    k: int = 1
    reads_rows: ClassVar[bool] = False
    compares_rows: ClassVar[bool] = True
    instead_of_decay: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UserError(f"bss: k={self.k!r} must be 1 or more")

    def __call__(self, network: nn.Module, pretrained: Pretrained, output: Seen) -> Tensor:
        """Σ σ² of the least k."""
        features = output.features.float()
        if min(features.shape) <= self.k:
            return features.sum() * 0.0
        values: Tensor = torch.linalg.svdvals(features)
        return values[-self.k :].square().sum()


@dataclass(frozen=True)
class FeatureHold:
    """Features stay near the pretrained ones: E_i[‖f_i − f⁰_i‖²/‖f⁰_i‖²]/2 over the training rows of a batch.

    Jung et al. 2016 (Less-forgetting Learning, arXiv:1607.00122), equation 2, here as a share of each row's own length,
    so that one weight serves every backbone. f⁰ is computed once, before training.

    Use when: the encoder shall go on serving other tasks. Prefer `l2_sp` where only this task counts.
    """

    weight: float = 1.0
    reads_rows: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = False
    instead_of_decay: ClassVar[bool] = False

    def __call__(self, network: nn.Module, pretrained: Pretrained, output: Seen) -> Tensor:
        """The mean over rows."""
        before = pretrained.features
        lengths = before.square().sum(1).clamp(min=1e-12)
        return 0.5 * ((output.features.float() - before).square().sum(1) / lengths).mean()


@dataclass(frozen=True)
class Lwf:
    """The head that training began with says of new features what it said of pretrained ones: −E_i[Σ_k q_k log p_k].

    q and p are softmax(h⁰(f⁰)/T) and softmax(h⁰(f)/T): Li & Hoiem 2016 (Learning without Forgetting, arXiv:1606.09282),
    equations 2 and 3, T = 2. Its head for the old task is here the probe h⁰ on frozen features, which is held.

    Use when: the answers of the frozen model are good and shall not be lost. Prefer `features` without classes.
    """

    weight: float = 1.0
    temperature: float = 2.0
    reads_rows: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = False
    instead_of_decay: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"lwf: temperature={self.temperature!r} must be above 0")

    def __call__(self, network: nn.Module, pretrained: Pretrained, output: Seen) -> Tensor:
        """The mean over rows."""
        now = pretrained.head(output.features.float()).float()
        then = F.softmax(pretrained.logits.float() / self.temperature, 1)
        return -(then * F.log_softmax(now / self.temperature, 1)).sum(1).mean()


HOLDS: dict[str, type[Hold]] = {"l2_sp": L2SP, "bss": Bss, "features": FeatureHold, "lwf": Lwf}


def terms(hold: str) -> list[Hold]:
    """The penalties of a sum; what has no weight is left out, and "none" has no terms.

    >>> terms("l2_sp:0.1+bss:k=2"), terms("none"), terms("lwf:0")
    ([L2SP(weight=0.1), Bss(weight=0.001, k=2)], [], [])
    """
    if hold == "none":
        return []
    found = []
    for term in re.split(r"(?<![0-9][eE])\+", hold):  # not the plus of 1e+3
        name, _, rest = term.strip().partition(":")
        if name not in HOLDS:
            raise unknown("hold", name, ["none", *HOLDS])
        first, comma, others = rest.partition(",")
        if first and "=" not in first:  # a number alone is the weight
            rest = f"weight={first}{comma}{others}"
        kind, settings = parse_named("hold", f"{name}:{rest}", HOLDS)
        made = kind(**settings)
        if not (made.weight >= 0 and math.isfinite(made.weight)):
            raise UserError(f"hold={hold!r}: the weight of {name} must be 0 or more, such as {name}:{kind().weight}")
        found.append(made)
    names = [type(one) for one in found]
    if len(set(names)) < len(names):
        raise UserError(f"hold={hold!r} names one penalty twice; keep one")
    return [one for one in found if one.weight > 0]


__all__ = ["HOLDS", "Bss", "FeatureHold", "Hold", "L2SP", "Lwf", "Pretrained", "Seen", "terms"]
