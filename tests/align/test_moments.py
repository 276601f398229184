"""CORAL, MMD and JAN: what known libraries get wrong (cases A1 and A2) is absent here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from acclimate.align import View
from acclimate.align.kernels import Kernel, mean_distance, median_distance
from acclimate.align.moments import Cmd, Coral, Jan, Mmd
from acclimate.errors import UserError


def view(x: Tensor, logits: Tensor | None = None) -> View:
    return View(x, torch.zeros(len(x), 2) if logits is None else logits)


def even(n: int) -> Tensor:
    return torch.full((n,), 1 / n)


def test_coral_is_that_of_the_covariances_with_n_minus_1() -> None:
    """Not of the means as well, not divided by d² twice, not without n - 1."""
    x, y = torch.randn(20, 4), 2 * torch.randn(9, 4) + 5
    expected = ((np.cov(x.numpy().T) - np.cov(y.numpy().T)) ** 2).sum() / (4 * 4**2)
    assert Coral()(view(x), view(y), 0.5).item() == pytest.approx(expected, rel=1e-5)
    assert Coral()(view(x), view(x + 5), 0.5).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("kernels", [1, 2, 3, 5, 8])
def test_equal_batches_are_at_0_for_any_number_of_kernels(kernels: int) -> None:
    x, z = torch.randn(24, 6), torch.randn(24, 3)
    assert Mmd(kernels=kernels)(view(x), view(x.clone()), 0.5) == 0
    assert Jan(kernels=kernels)(view(x, z), view(x.clone(), z.clone()), 0.5) == 0


def test_unbiased_is_0_on_average_and_biased_is_not() -> None:
    draws = [(view(torch.randn(16, 3)), view(torch.randn(24, 3))) for _ in range(400)]
    unbiased = torch.stack([Mmd(estimator="unbiased", bandwidth=6.0)(*pair, 0.5) for pair in draws])
    biased = torch.stack([Mmd(bandwidth=6.0)(*pair, 0.5) for pair in draws])
    assert unbiased.mean().abs() < 3 * unbiased.std() / 20
    assert unbiased.min() < 0 < biased.min()
    assert biased.mean() > 0.03


def test_a_given_bandwidth_is_the_one_that_is_used() -> None:
    x, y = (torch.tensor([[a], [b]], dtype=torch.float64) for a, b in ((0.0, 100.0), (3.0, 90.0)))
    k = {a: math.exp(-(a**2) / 7.0) for a in (0, 3, 10, 87, 90, 97, 100)}
    expected = (2 + 2 * k[100]) / 4 + (2 + 2 * k[87]) / 4 - 2 * (k[3] + k[90] + k[97] + k[10]) / 4
    assert Mmd(kernels=1, bandwidth=7.0)(view(x), view(y), 0.5).item() == pytest.approx(expected, rel=1e-12)


def test_the_kernels_are_gaussian_and_their_mean() -> None:
    """Squared distances in the exponent, and a value that does not grow with the number of kernels."""
    x, y = torch.tensor([[0.0]]), torch.tensor([[2.0]])
    five = 2 - 2 * sum(math.exp(-4 / (3.0 * 2.0**u)) for u in (-2, -1, 0, 1, 2)) / 5
    assert Mmd(bandwidth=3.0)(view(x), view(y), 0.5).item() == pytest.approx(five, rel=1e-6)
    far = Mmd(kernels=33, bandwidth=1.0)(view(torch.zeros(64, 2)), view(torch.full((64, 2), 1e6)), 0.5)
    assert 1.99 < far <= 2
    same = Mmd(kernels=33)(view(torch.randn(64, 16)), view(torch.randn(64, 16)), 0.5)
    assert same < 0.04


def test_the_bandwidth_is_of_both_domains() -> None:
    x, y = torch.randn(30, 4), torch.randn(20, 4) + 50
    b = mean_distance((x, y), (even(30), even(20)))
    apart = [torch.cdist(a, c).square().mean() for a, c in ((x, x), (y, y), (x, y))]
    assert b.item() == pytest.approx(float(apart[0] + apart[1] + 2 * apart[2]) / 4, rel=1e-5)
    joint = torch.pdist(torch.cat([x, y])).square().sort().values
    median = median_distance((x, y), (even(30), even(20)))
    assert median.item() == pytest.approx(float(joint[(len(joint) - 1) // 2]), rel=1e-4)


def test_the_median_falls_back_to_the_mean_where_most_rows_are_equal() -> None:
    x = torch.zeros(10, 2)
    y = torch.cat([torch.zeros(9, 2), torch.ones(1, 2)])
    assert median_distance((x, y), (even(10), even(10))) == 0
    median, mean = (Mmd(bandwidth=rule)(view(x), view(y), 0.5) for rule in ("median", "mean"))
    assert median == mean > 0


def test_the_bandwidth_is_constant_in_the_gradient() -> None:
    """Else the features could lower the loss by spreading out."""
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64) + 1
    b = float(mean_distance((x, y), (torch.full((6,), 1 / 6.0).double(), torch.full((5,), 1 / 5.0).double())))
    found = []
    for rule in ("mean", b):
        leaf = x.clone().requires_grad_()
        Mmd(bandwidth=rule)(view(leaf), view(y), 0.5).backward()
        assert leaf.grad is not None
        found.append(leaf.grad)
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)


def test_far_from_the_origin_the_value_is_the_same() -> None:
    """Distances by products of rows lose all digits there unless the rows are centred first."""
    x, y = torch.randn(40, 8), torch.randn(40, 8) + 0.5
    near, far = Mmd()(view(x), view(y), 0.5), Mmd()(view(x + 4096), view(y + 4096), 0.5)
    assert far.item() == pytest.approx(near.item(), rel=2e-3)


def test_blocks_do_not_show() -> None:
    x, y = torch.randn(300, 5, dtype=torch.float64), torch.randn(131, 5, dtype=torch.float64) + 0.3
    k = Kernel(5, 10.0)
    d = [[torch.cdist(a, c).square() / 10.0 for c in (x, y)] for a in (x, y)]
    expected = k.of(d[0][0]).mean() + k.of(d[1][1]).mean() - 2 * k.of(d[0][1]).mean()
    assert Mmd(bandwidth=10.0)(view(x), view(y), 0.5).item() == pytest.approx(float(expected), rel=1e-9)


def test_a_step_along_the_gradient_brings_the_domains_together() -> None:
    """A loss without a gradient, or with that of the other sign, trains and does not adapt."""
    rates = {Coral(): 2.0, Mmd(): 2.0, Mmd(estimator="unbiased"): 2.0, Jan(): 2.0, Mmd(estimator="linear"): 2.0}
    for alignment, rate in {**rates, Cmd(): 20.0}.items():
        x, y = torch.randn(60, 3), (2 * torch.randn(60, 3) + 1).requires_grad_()
        optimiser = torch.optim.SGD([y], lr=rate)
        first = last = alignment(view(x), view(y), 0.5)
        for _ in range(40):
            optimiser.zero_grad()
            last = alignment(view(x), view(y), 0.5)
            last.backward()
            optimiser.step()
        assert last < 0.9 * first


def test_the_default_of_both_is_all_pairs() -> None:
    assert Mmd().estimator == Jan().estimator == "biased"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "biassed"}, "unknown estimator 'biassed'; did you mean 'biased'"),
        ({"bandwidth": "medain"}, "unknown bandwidth 'medain'; did you mean 'median'"),
        ({"bandwidth": 0.0}, "bandwidth is 0.0; give a squared distance above 0"),
        ({"bandwidth": math.inf}, "bandwidth is inf"),
        ({"kernels": 0}, "kernels is 0; give a number of Gaussians of 1 or more"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    for kind in (Mmd, Jan):
        with pytest.raises(UserError, match=message):
            kind(**settings)  # type: ignore[arg-type]


def test_cmd_of_each_order_divides_by_that_power_of_the_span() -> None:
    x, y = torch.tensor([[0.0], [0.0], [3.0]]).double(), torch.tensor([[1.0], [1.0], [1.0]]).double()
    # means 1 and 1; central moments of x: 2, 2, 6; of y: 0
    found = [Cmd(moments=k, span=2.0)(view(x), view(y), 0.5).item() for k in (1, 2, 3, 4)]
    assert found == pytest.approx([0, 2 / 4, 2 / 4 + 2 / 8, 2 / 4 + 2 / 8 + 6 / 16], abs=1e-12)


def test_cmd_by_the_range_does_not_change_with_the_scale_of_features() -> None:
    x, y = torch.randn(30, 4).double(), 2 * torch.rand(20, 4).double()
    first = Cmd()(view(x), view(y), 0.5)
    assert Cmd()(view(50 * x - 7), view(50 * y - 7), 0.5).item() == pytest.approx(first.item(), rel=1e-9)


def test_cmd_of_equal_batches_has_a_gradient_of_0() -> None:
    """A square root of a sum of squares by hand has the gradient 0/0 there."""
    x = torch.randn(9, 3).requires_grad_()
    for span in ("range", 4.0):
        (gradient,) = torch.autograd.grad(Cmd(span=span)(view(x), view(x.detach().clone()), 0.5), x)
        assert not gradient.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"moments": 0}, "moments is 0; give a number of moments of 1 or more"),
        ({"span": 0.0}, "span is 0.0; give the length of the interval"),
        ({"span": "rnage"}, "unknown span 'rnage'; did you mean 'range'"),
    ],
)
def test_settings_of_cmd_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Cmd(**settings)
