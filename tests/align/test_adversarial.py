"""Gradient reversal (case A5), DANN, CDAN and MDD: what known libraries get wrong is absent here."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from acclimate.align import Alignment, View
from acclimate.align.adversarial import Cdan, Dann, Mdd, Wasserstein
from acclimate.align.base import reversal_strength, reverse_gradient
from acclimate.errors import UserError


def two(n: int = 80, shift: float = 2.0) -> tuple[View, View]:
    x, y = torch.randn(n, 4), torch.randn(n, 4) + shift
    return View(x, 2 * torch.randn(n, 3)), View(y, 2 * torch.randn(n, 3))


def train(loss: Any, source: View, target: View, progress: float = 0.0, steps: int = 60) -> float:
    optimiser = torch.optim.Adam(loss.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss(source, target, progress)
        value.backward()
        optimiser.step()
    return float(value.detach())


def test_reversal_is_the_identity_bit_for_bit() -> None:
    x = torch.cat([torch.randn(1000) * 10.0**k for k in range(-30, 31, 6)]).requires_grad_()
    out = reverse_gradient(x, 0.3)
    assert torch.equal(out, x)
    out.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, -0.3))  # type: ignore[arg-type]


def test_the_strength_depends_on_progress_alone() -> None:
    assert [reversal_strength(p) for p in (0.0, 0.25, 1.0)] == [
        0.0,
        2 / (1 + math.exp(-2.5)) - 1,
        2 / (1 + math.exp(-10)) - 1,
    ]
    assert reversal_strength(1.0) == pytest.approx(0.9999092, abs=1e-7)
    source, target = two()
    x = target.features.requires_grad_()
    loss: Any = Dann().attach(4, 3)
    gradients = []
    for calls in (0, 50):
        for _ in range(calls):
            loss(source, target, 0.9)
        gradients.append(torch.autograd.grad(loss(source, target, 0.2), x)[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize("alignment", [Dann(), Cdan(), Mdd(), Wasserstein()])
def test_at_the_start_the_features_are_left_alone_and_the_adversary_learns(alignment: Alignment) -> None:
    source, target = two()
    x = target.features.requires_grad_()
    loss: Any = alignment.attach(4, 3)
    loss(source, target, 0.0).backward()
    assert not x.grad.any()  # type: ignore[union-attr]
    moved = [bool(p.grad.abs().max() > 0) for p in loss.parameters()]
    assert all(moved[:-1]) and moved[-1] != isinstance(alignment, Wasserstein)  # where a constant drops out


@pytest.mark.parametrize("alignment", [Dann(), Dann(reversal=0.25), Cdan(), Mdd(), Mdd(reversal=1.0)])
def test_the_features_get_the_gradient_that_the_adversary_gets_times_less_the_strength(alignment: Any) -> None:
    source, target = two()
    x = target.features.requires_grad_()
    loss: Any = alignment.attach(4, 3)
    at = {p: torch.autograd.grad(loss(source, target, p), [x, next(loss.parameters())]) for p in (0.1, 1.0)}
    factor = reversal_strength(1.0) / reversal_strength(0.1)
    torch.testing.assert_close(at[1.0][0], at[0.1][0] * factor)
    assert torch.equal(at[1.0][1], at[0.1][1])  # the adversary's own step does not depend on it


@pytest.mark.parametrize("alignment", [Dann(), Cdan(), Cdan(dense_up_to=0, random_width=64)])
def test_the_critic_learns_to_tell_the_domains(alignment: Alignment) -> None:
    """One that ends in a softmax over a single unit says 1 to everything, and has no gradient."""
    source, target = two()
    loss: Any = alignment.attach(4, 3)
    assert train(loss, source, target) < 0.3
    assert loss.accuracy(source, target) > 0.9
    assert loss.accuracy(source, source) == pytest.approx(0.5)


def test_features_that_follow_the_reversed_gradient_mislead_the_critic() -> None:
    """A step from where the critic has learned makes it worse, and brings the means together."""
    source, target = two(shift=1.5)
    loss: Any = Dann(hidden=32).attach(4, 3)
    before = train(loss, source, target)
    offset = torch.zeros(4, requires_grad=True)
    moved = replace(target, features=target.features + offset)
    (gradient,) = torch.autograd.grad(loss(source, moved, 1.0), offset)
    step = -0.3 * gradient / gradient.norm()
    assert loss(source, replace(target, features=target.features + step), 1.0) > before
    gap = target.features.mean(0) - source.features.mean(0)
    assert (gap + step).norm() < gap.norm() - 0.2


def test_batches_of_other_sizes_count_half_each() -> None:
    source, target = two()
    loss: Any = Dann().attach(4, 3)
    twice = View(torch.cat([target.features] * 3), torch.cat([target.logits] * 3))
    torch.testing.assert_close(loss(source, twice, 0.5), loss(source, target, 0.5))


def test_the_random_map_is_saved() -> None:
    loss: Any = Cdan(dense_up_to=0, random_width=8).attach(4, 3)
    saved = loss.state_dict()
    assert saved["features_map"].shape == (4, 8) and saved["classes_map"].shape == (3, 8)
    assert not any(p is loss.features_map for p in loss.parameters())


def test_the_random_map_keeps_products_on_average() -> None:
    """⟨T(x, p), T(y, q)⟩ tends to ⟨x, y⟩·⟨p, q⟩, that of the full map."""
    loss: Any = Cdan(dense_up_to=0, random_width=20_000, hidden=1).attach(4, 3)
    source, target = two(1)
    a, b = (loss.inputs(v, v.features)[0] for v in (source, target))
    p, q = (v.logits[0].softmax(0) for v in (source, target))
    assert float(a @ b) == pytest.approx(float(source.features[0] @ target.features[0] * (p @ q)), abs=0.15)


def test_entropy_weights_are_of_each_domain_and_constant() -> None:
    loss: Any = Cdan().attach(4, 3)
    sure, torn = torch.tensor([[99.0, -99.0, 0.0]]), torch.zeros(1, 3)
    source = View(torch.randn(2, 4), torch.cat([sure, torn]).requires_grad_())
    weights = torch.tensor([2.0, 1 + 1 / 3])  # 1 + e^-0, 1 + e^-log 3
    torch.testing.assert_close(loss.row_shares(source), weights / weights.sum())
    assert not loss.row_shares(source).requires_grad
    target = View(torch.randn(5, 4), torch.zeros(5, 3))
    torch.testing.assert_close(loss.row_shares(target), torch.full((5,), 0.2))  # whatever the source is sure of


def test_mdd_agrees_on_the_source_and_differs_on_the_target() -> None:
    loss: Any = Mdd(hidden=2, margin=3.0).attach(4, 2)
    nn.init.zeros_(loss.rival[4].weight)
    loss.rival[4].bias.data = torch.tensor([math.log(3.0), 0.0])  # it says 3/4 to class 0 everywhere
    zero, one = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    x = torch.randn(1, 4)
    value = {
        (a, b): loss(View(x, s), View(x, t), 0.5).item()
        for a, s in enumerate((zero, one))
        for b, t in enumerate((zero, one))
    }
    assert value[0, 1] == pytest.approx(-3 * math.log(0.75) - math.log(0.75))  # what it would be trained to
    assert value[1, 0] == pytest.approx(-3 * math.log(0.25) - math.log(0.25))
    assert Mdd().reversal == 0.1 and Mdd().margin == 4.0


def test_mdd_is_finite_where_the_second_classifier_is_certain() -> None:
    """log(1 - p) is linear in the logits there; a clamp on it would cut the gradient off just when it is needed."""
    loss: Any = Mdd(hidden=2).attach(4, 2)
    nn.init.zeros_(loss.rival[4].weight)
    loss.rival[4].bias.data = torch.tensor([1000.0, 0.0])
    view = View(torch.randn(3, 4), torch.tensor([[1.0, 0.0]] * 3))
    value = loss(view, view, 0.5)
    assert value.item() == pytest.approx(1000.0)
    value.backward()
    assert loss.rival[4].bias.grad.tolist() == [1.0, -1.0]


def test_a_critic_without_units_is_refused() -> None:
    for kind in (Dann, Cdan, Mdd, Wasserstein):
        with pytest.raises(UserError, match="hidden is 0; give a number of units of 1 or more"):
            kind(hidden=0)


def test_the_slope_is_that_of_autograd() -> None:
    loss: Any = Wasserstein(hidden=16).attach(4, 3).double()
    x = torch.randn(30, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss.critic(x).sum(), x)
    torch.testing.assert_close(loss.slope(x.detach()), gradient.norm(dim=1))


def test_the_wasserstein_critic_tells_how_far_the_domains_are() -> None:
    """Points on two lines 3 apart, W = 3: the best slope s of 3s − 10(s − 1)² is 1 + 3/20."""
    y = torch.rand(60, 1)
    source, target = (View(torch.cat([torch.full_like(y, at), y], 1), torch.zeros(60, 2)) for at in (3.0, 0.0))
    loss: Any = Wasserstein(hidden=32).attach(2, 2)
    train(loss, source, target, steps=400)
    gap = (loss.critic(source.features).mean() - loss.critic(target.features).mean()).item()
    assert gap == pytest.approx(3 * 1.15, abs=0.05)
    assert loss.slope(source.features).detach().mean().item() == pytest.approx(1.15, abs=0.02)


def test_the_features_get_the_gradient_of_the_distance_alone() -> None:
    """That of the penalty would teach them to make the critic steep, not the domains alike."""
    source, target = two()
    found = []
    for penalty in (0.0, 10.0, 1e4):
        torch.manual_seed(0)
        loss: Any = Wasserstein(penalty=penalty).attach(4, 3)
        x = target.features.detach().requires_grad_()
        found.append(torch.autograd.grad(loss(source, replace(target, features=x), 1.0), x)[0])
        ours, theirs = loss.critic(source.features).mean(), loss.critic(x).mean()
        (distance,) = torch.autograd.grad(ours - theirs, x)
        torch.testing.assert_close(found[-1], distance * reversal_strength(1.0))
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])


@pytest.mark.parametrize("penalty", [-1.0, float("inf"), float("nan")])
def test_a_penalty_below_0_is_refused(penalty: float) -> None:
    with pytest.raises(UserError, match="give a number of 0 or more, such as 10"):
        Wasserstein(penalty=penalty)
