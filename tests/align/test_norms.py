"""AFN, hard AFN and spectral penalties: exact values and gradients."""

from __future__ import annotations

import pytest
import torch

from acclimate.align import View
from acclimate.align.norms import Afn, Bsp, Hafn
from acclimate.errors import UserError


@pytest.mark.parametrize("scale", [0.5, 1.0, 7.0])
def test_afn_has_a_constant_value_and_a_gradient_that_lengthens(scale: float) -> None:
    x = (scale * torch.randn(8, 3)).requires_grad_()
    value = Afn(step=0.5)(View(x, x), View(x.detach(), x), 0.5)
    assert value.item() == pytest.approx(2 * 0.25)
    value.backward()
    torch.testing.assert_close(x.grad, -2 * 0.5 * x.detach() / x.detach().norm(dim=1, keepdim=True) / 8)


def test_a_row_of_zeros_has_no_direction_and_no_gradient() -> None:
    x = torch.zeros(4, 3, requires_grad=True)
    for alignment in (Afn(), Hafn()):
        (gradient,) = torch.autograd.grad(alignment(View(x, x), View(x, x), 0.5), x)
        assert not gradient.any()


def test_bsp_of_more_than_one_value() -> None:
    x, y = torch.randn(9, 4), torch.randn(6, 4)
    expected = sum(torch.linalg.svdvals(v)[:2].square().sum() for v in (x, y))
    torch.testing.assert_close(Bsp(largest=2)(View(x, x), View(y, y), 0.5), expected)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="step is nan; give a finite number"):
        Afn(step=float("nan"))
    with pytest.raises(UserError, match="radius is -1.0; give a number above 0"):
        Hafn(radius=-1.0)
    with pytest.raises(UserError, match="largest is 0; give a number of singular values"):
        Bsp(largest=0)
