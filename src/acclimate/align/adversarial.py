"""Alignments by an adversary: a small network tells the domains apart, and the features learn to make it fail.

The strength of the gradient reversal, `reversal`·(2/(1 + exp(−`steepness`·p)) − 1), depends on the training
progress p that is passed in and on nothing else. It acts on the features alone; the weight λ of the loss in the
objective is another number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from acclimate.align.base import (
    Alignment,
    Loss,
    View,
    average,
    entropies,
    log_probabilities,
    perceptron,
    reversal_strength,
    reverse_gradient,
    shares,
    wide,
)
from acclimate.errors import UserError


@dataclass(frozen=True)
class Adversarial(Alignment):
    """The settings that all of them share."""

    hidden: int = 256  # units of each of the adversary's two hidden layers
    reversal: float = 1.0  # what the strength of the gradient reversal tends to
    steepness: float = 10.0  # how soon

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise UserError(f"hidden is {self.hidden}; give a number of units of 1 or more")


class DomainAdversary(nn.Module):
    """The loss of dann: a critic of features behind a gradient reversal."""

    def __init__(self, settings: Adversarial, inputs: int) -> None:
        super().__init__()
        self.settings = settings
        self.critic = perceptron(inputs, settings.hidden, 1)

    def forward(self, source: View, target: View, progress: float) -> Tensor:
        """½·E_s[−log σ(D)] + ½·E_t[−log(1 − σ(D))]."""
        strength = self.settings.reversal * reversal_strength(progress, self.settings.steepness)
        says = [
            self.critic(self.inputs(v, reverse_gradient(wide(v.features), strength)))[:, 0] for v in (source, target)
        ]
        wrong = (functional.softplus(-says[0]), functional.softplus(says[1]))
        return (average(wrong[0], self.row_shares(source)) + average(wrong[1], self.row_shares(target))) / 2

    def inputs(self, view: View, features: Tensor) -> Tensor:
        """What the critic sees of a view."""
        return features

    def row_shares(self, view: View) -> Tensor:
        """How much each row counts."""
        return shares(view)

    @torch.no_grad()
    def accuracy(self, source: View, target: View) -> float:
        """The share of rows, each domain counting half, whose domain the critic tells: 0.5 if features are aligned."""
        says = [self.critic(self.inputs(v, wide(v.features)))[:, 0] for v in (source, target)]
        right = ((says[0] > 0).to(says[0]), (says[1] < 0).to(says[1]))
        return float(average(right[0], shares(source)) + average(right[1], shares(target))) / 2


@dataclass(frozen=True)
class Dann(Adversarial):
    """A critic learns to tell source from target features, and the features learn to mislead it.

    Formula: ½·E_s[−log σ(D(x))] + ½·E_t[−log(1 − σ(D(x)))], least over the critic D; the features get the gradient
    times −reversal·(2/(1 + exp(−steepness·p)) − 1).
    Source: Ganin et al. (2016), Domain-Adversarial Training of Neural Networks, equation 9 and section 5.2.2.
    Use when: the encoder itself may move, there are thousands of rows of both domains, and class shares are alike.
    Prefer cdan if there are several classes; prefer coral or mcc if training must be steady or features are frozen.

    >>> loss = Dann(hidden=4).attach(features=3, classes=2)
    >>> x, z = torch.zeros(5, 3), torch.zeros(5, 2)
    >>> nn.init.zeros_(loss.critic[4].weight), nn.init.zeros_(loss.critic[4].bias)  # doctest: +ELLIPSIS
    (...)
    >>> loss(View(x, z), View(x, z), 0.5).item()  # the critic says one half everywhere: log 2
    0.6931471824645996
    """

    def attach(self, features: int, classes: int) -> Loss:
        """A critic with new weights."""
        return DomainAdversary(self, features)


class ConditionalAdversary(DomainAdversary):
    """The loss of cdan: the critic sees features times class probabilities."""

    features_map: Tensor | None
    classes_map: Tensor | None

    def __init__(self, settings: Cdan, features: int, classes: int) -> None:
        dense = features * classes <= settings.dense_up_to
        super().__init__(settings, features * classes if dense else settings.random_width)
        self.entropy = settings.entropy
        shapes = (features, settings.random_width), (classes, settings.random_width)
        for name, shape in zip(("features_map", "classes_map"), shapes, strict=True):
            self.register_buffer(name, None if dense else torch.randn(shape))

    def inputs(self, view: View, features: Tensor) -> Tensor:
        """Features times class probabilities, the latter constant."""
        p = log_probabilities(view.logits.detach()).exp()
        if self.features_map is None or self.classes_map is None:
            return (features.unsqueeze(2) * p.unsqueeze(1)).flatten(1)
        mapped: Tensor = (features @ self.features_map) * (p @ self.classes_map) / self.features_map.shape[1] ** 0.5
        return mapped

    def row_shares(self, view: View) -> Tensor:
        """Rows that the classifier is sure of count up to twice as much."""
        share = shares(view)
        if not self.entropy:
            return share
        sure = share * (1 + torch.exp(-entropies(log_probabilities(view.logits.detach()))))
        return sure / sure.sum().clamp(min=torch.finfo(sure.dtype).tiny)


@dataclass(frozen=True)
class Cdan(Adversarial):
    """A critic of features and class probabilities together, so that each class is aligned with its own.

    Formula: as for dann, with D(T(x, p)), T = x ⊗ sg[p] flattened and p = softmax(logits); above `dense_up_to`
    products T = (Rᵀx ∘ Qᵀsg[p]) / √m, with R and Q drawn once from the standard normal and saved with the weights.
    With `entropy`, each domain's mean is weighted by sg[1 + exp(−H(p))].
    Source: Long et al. (2018), Conditional Adversarial Domain Adaptation: CDAN+E. p is constant, as in the authors'
    code.
    Use when: the encoder may move, there are several classes and thousands of rows, and predictions on the target are
    better than chance.
    Prefer dann if there are two classes that mix; prefer mcc if training must be steady, or features are frozen.

    >>> Cdan(hidden=8).attach(features=3, classes=2).critic[0].in_features
    6
    >>> Cdan(hidden=8).attach(features=2048, classes=65).critic[0].in_features
    1024
    """

    needs_classes: ClassVar[bool] = True

    entropy: bool = True
    dense_up_to: int = 4096  # more products than this go through the random map
    random_width: int = 1024  # m

    def attach(self, features: int, classes: int) -> Loss:
        """A critic with new weights and, for many products, a new random map."""
        self.check(classes)
        return ConditionalAdversary(self, features, classes)


class DisparityAdversary(nn.Module):
    """The loss of mdd: a second classifier behind a gradient reversal."""

    def __init__(self, settings: Mdd, features: int, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.rival = perceptron(features, settings.hidden, classes)

    def forward(self, source: View, target: View, progress: float) -> Tensor:
        """margin·E_s[−log p'(ŷ)] + E_t[−log(1 − p'(ŷ))]."""
        strength = self.settings.reversal * reversal_strength(progress, self.settings.steepness)
        here, there = (self.rival(reverse_gradient(wide(v.features), strength)) for v in (source, target))
        agrees = functional.cross_entropy(here, source.logits.detach().argmax(1), reduction="none")
        guess = functional.one_hot(target.logits.detach().argmax(1), there.shape[1]).bool()
        others = there.masked_fill(guess, float("-inf")).logsumexp(1)  # log(1 - p') without ever forming 1 - p'
        differs = there.logsumexp(1) - others
        return self.settings.margin * average(agrees, shares(source)) + average(differs, shares(target))


@dataclass(frozen=True)
class Mdd(Adversarial):
    """A second classifier agrees with the first on the source but not on the target; features make that hard.

    Formula: margin·E_s[−log p'(ŷ|x)] + E_t[−log(1 − p'(ŷ|x))], least over the second classifier p', ŷ = argmax of the
    logits; the features get the gradient times −reversal·(2/(1 + exp(−steepness·p)) − 1).
    Source: Zhang et al. (2019), Bridging Theory and Algorithm for Domain Adaptation: the minimax problem with
    cross-entropies.
    Use when: there are many classes, the encoder may move, and cdan has been tried; it is the one with a margin bound.
    Prefer cdan if there are two or three classes; prefer mcc if training must be steady, or features are frozen.

    >>> loss = Mdd(hidden=4, margin=3.0).attach(features=3, classes=2)
    >>> x, z = torch.zeros(5, 3), torch.zeros(5, 2)
    >>> nn.init.zeros_(loss.rival[4].weight), nn.init.zeros_(loss.rival[4].bias)  # doctest: +ELLIPSIS
    (...)
    >>> round(loss(View(x, z), View(x, z), 0.5).item(), 4)  # it says one half everywhere: 3·log 2 + log 2
    2.7726
    """

    needs_classes: ClassVar[bool] = True

    reversal: float = 0.1
    margin: float = 4.0

    def attach(self, features: int, classes: int) -> Loss:
        """A second classifier with new weights."""
        self.check(classes)
        return DisparityAdversary(self, features, classes)


class WassersteinCritic(nn.Module):
    """The loss of wasserstein: a critic of features behind a gradient reversal, whose slope is held near 1."""

    def __init__(self, settings: Wasserstein, features: int) -> None:
        super().__init__()
        self.settings = settings
        self.critic = perceptron(features, settings.hidden, 1)

    def forward(self, source: View, target: View, progress: float) -> Tensor:
        """−(E_s f − E_t f) + penalty·E[(‖∇f‖ − 1)²], the penalty at rows that are constants."""
        strength = self.settings.reversal * reversal_strength(progress, self.settings.steepness)
        part = (shares(source), shares(target))
        rows = [wide(v.features) for v in (source, target)]
        says = [average(self.critic(reverse_gradient(x, strength))[:, 0], w) for x, w in zip(rows, part, strict=True)]
        apart = torch.where((part[0].sum() > 0) & (part[1].sum() > 0), says[0] - says[1], 0)
        still = [x.detach() for x in rows]
        means = [average(x, w) for x, w in zip(still, part, strict=True)]
        steep = [
            average((self.slope(at) - 1).square(), w)
            for x, w, other in zip(still, part, reversed(means), strict=True)
            for at in (x, (x + other) / 2)
        ]
        return self.settings.penalty * torch.stack(steep).mean() - apart

    def slope(self, rows: Tensor) -> Tensor:
        """‖∇f(x)‖ of every row, (n,): the product of the layers' weights over the units that are on."""
        first, second, last = (self.critic[i] for i in (0, 2, 4))
        one = first(rows)
        on = second(one.relu()) > 0
        back = ((last.weight * on) @ second.weight * (one > 0)) @ first.weight  # (n, d)
        found: Tensor = torch.linalg.vector_norm(back, dim=1)
        return found


@dataclass(frozen=True)
class Wasserstein(Adversarial):
    """A critic of slope 1 rates source rows above target rows, and the features learn to close the gap.

    Formula: −(E_s f(x) − E_t f(x)) + penalty·E[(‖∇f(x̂)‖ − 1)²], least over the critic f; the features get the gradient
    of the first part times −reversal·(2/(1 + exp(−steepness·p)) − 1), of the second none. x̂ are, a quarter each, the
    rows of both domains and the points halfway between a row and the other domain's mean (in the paper, the rows and
    random points between random pairs: here the value hangs on no order and no chance).
    Source: Shen et al. (2018), Wasserstein Distance Guided Representation Learning for Domain Adaptation (WDGRL),
    equations 3 to 6. There the critic takes several steps for each one of the features; here the two move together.
    Use when: dann's critic tells the domains perfectly and its gradient vanishes: this one's does not. A small λ (0.03)
    was best on the pairs it was tried on.
    Prefer sliced_wasserstein if training must be steady; prefer mcc if class shares move.

    >>> loss = Wasserstein(hidden=4).attach(features=3, classes=2)
    >>> x, z = torch.zeros(5, 3), torch.zeros(5, 2)
    >>> nn.init.zeros_(loss.critic[4].weight)  # doctest: +ELLIPSIS
    Parameter containing:...
    >>> loss(View(x, z), View(x, z), 0.5)  # no slope anywhere: 10·(0 − 1)²
    tensor(10., grad_fn=<SubBackward0>)
    """

    penalty: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.penalty < float("inf"):
            raise UserError(f"penalty is {self.penalty}; give a number of 0 or more, such as 10")

    def attach(self, features: int, classes: int) -> Loss:
        """A critic with new weights."""
        return WassersteinCritic(self, features)


ADVERSARIAL: dict[str, type[Alignment]] = {"dann": Dann, "cdan": Cdan, "mdd": Mdd, "wasserstein": Wasserstein}
