"""DeepJDOT and the sliced Wasserstein distance: exact values, unequal batches, and POT that is not there."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from scipy.stats import wasserstein_distance

from acclimate.align import View
from acclimate.align.transport import DeepJdot, SlicedWasserstein
from acclimate.errors import UserError


def test_without_pot_attaching_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(UserError, match=r"deepjdot needs POT: pip install 'acclimate\[transport\]'"):
        DeepJdot().attach(3, 2)


def test_rows_go_to_the_rows_that_predict_their_label() -> None:
    x = torch.zeros(2, 3)
    z = torch.tensor([[4.0, 0.0], [0.0, 4.0]], requires_grad=True)
    source, target = View(x, z, labels=torch.tensor([1, 0])), View(x, z)
    value = DeepJdot()(source, target, 0.5)
    assert value.item() == pytest.approx(torch.log1p(torch.exp(torch.tensor(-4.0))).item(), rel=1e-5)
    value.backward()
    assert z.grad[0, 0] < 0 < z.grad[0, 1]  # type: ignore[index]


def test_the_features_of_both_sides_meet() -> None:
    x = torch.tensor([[0.0], [10.0]], requires_grad=True)
    y = torch.tensor([[11.0], [1.0], [10.5]], requires_grad=True)
    labels = torch.zeros(2, dtype=torch.long)
    value = DeepJdot(label_weight=0.0)(View(x, torch.zeros(2, 2), labels=labels), View(y, torch.zeros(3, 2)), 0.5)
    # of 1/2 each: 0 -> 1 takes 1/3, 0 -> 10.5 or 11 takes 1/6; the rest comes from 10
    assert value.item() == pytest.approx(1 / 3 + 10.5**2 / 6 + 0.25 / 6 + 1 / 3, rel=1e-6)
    value.backward()
    assert x.grad[0] < 0 < y.grad[1]  # type: ignore[index]


def test_negative_weights_of_the_cost_are_refused() -> None:
    with pytest.raises(UserError, match="label_weight is -1.0; give a number of 0 or more"):
        DeepJdot(label_weight=-1.0)


@pytest.mark.parametrize("sizes", [(7, 7), (64, 40), (1, 9), (12, 5)])
def test_one_direction_is_the_distance_on_a_line(sizes: tuple[int, int]) -> None:
    """Against scipy's distance of order 1, for values 0 and 1 alone, where a distance and its square are the same."""
    x, y = ((torch.rand(n, 1) < share).float() for n, share in zip(sizes, (0.3, 0.6), strict=True))
    loss: Any = SlicedWasserstein(projections=1).attach(1, 2)
    loss.directions.fill_(1.0)
    found = loss(View(x, x), View(y, y), 0.5).item()
    assert found == pytest.approx(wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy()), abs=1e-6)


def test_directions_have_length_1_and_stay() -> None:
    loss: Any = SlicedWasserstein(projections=50).attach(6, 2)
    torch.testing.assert_close(loss.directions.norm(dim=0), torch.ones(50))
    assert list(loss.parameters()) == [] and list(loss.state_dict()) == ["directions"]


def test_no_directions_are_refused() -> None:
    with pytest.raises(UserError, match="projections is 0; give a number of directions of 1 or more"):
        SlicedWasserstein(projections=0)
