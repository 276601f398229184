"""MCC, BNM, entropy, and information maximisation: exact values, and what known libraries get wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from acclimate.align import Alignment, View
from acclimate.align.confusion import Bnm, Entropy, InfoMax, Mcc
from acclimate.errors import UserError


def at(alignment: Alignment, logits: Tensor) -> float:
    view = View(logits.new_zeros(len(logits), 2), logits)
    return float(alignment.attach(2, logits.shape[1])(view, view, 0.5))


def logs(p: list[list[float]]) -> Tensor:
    return torch.tensor(p, dtype=torch.float64).log()


def test_mcc_of_two_rows_by_hand() -> None:
    p = [[0.9, 0.1], [0.5, 0.5]]
    w = [1 + math.exp(sum(v * math.log(v) for v in row)) for row in p]
    c = [[sum(w[i] * p[i][a] * p[i][b] for i in (0, 1)) for b in (0, 1)] for a in (0, 1)]
    expected = (c[0][1] / sum(c[0]) + c[1][0] / sum(c[1])) / 2
    assert at(Mcc(temperature=1.0), logs(p)) == pytest.approx(expected, rel=1e-12)


def test_mcc_has_a_temperature() -> None:
    z = torch.randn(9, 4, dtype=torch.float64)
    assert at(Mcc(temperature=2.5), z) == pytest.approx(at(Mcc(temperature=1.0), z / 2.5), rel=1e-12)


def test_mcc_of_a_class_that_vanishes_tends_to_its_limit() -> None:
    """Dividing sums of probabilities gives 0/0 there. Its row of C is all confusion, however small the class is."""
    z = torch.randn(20, 3, dtype=torch.float64)
    values = []
    for least in (-60.0, -100.0, -1000.0, -9000.0, -float("inf")):
        z = z.clone()
        z[:, 2] = least
        values.append(at(Mcc(temperature=1.0), z))
    assert all(value == pytest.approx(values[0], rel=1e-12) for value in values)
    assert values[-1] == pytest.approx((2 * at(Mcc(temperature=1.0), z[:, :2]) + 1) / 3, rel=1e-12)


def test_mcc_keeps_its_gradient_for_a_rare_class_in_32_bits() -> None:
    z = torch.tensor([[0.0, 1.0, -95.0], [1.0, 0.0, -96.0]], requires_grad=True)
    Mcc(temperature=1.0)(View(z, z), View(z, z), 0.5).backward()
    assert bool(torch.isfinite(z.grad).all()) and bool(z.grad.any())  # type: ignore[arg-type, union-attr]


def test_entropy_and_information_by_hand() -> None:
    p = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]

    def h(row: list[float]) -> float:
        return -sum(v * math.log(v) for v in row)

    mean = [sum(row[c] for row in p) / 3 for c in (0, 1)]
    assert at(Entropy(), logs(p)) == pytest.approx(sum(map(h, p)) / 3)
    assert at(InfoMax(), logs(p)) == pytest.approx(sum(map(h, p)) / 3 - h(mean))


def test_information_is_not_least_where_every_row_is_called_the_same() -> None:
    same, split = torch.tensor([[50.0, 0.0], [50.0, 0.0]]), torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert at(Entropy(), same) == pytest.approx(at(Entropy(), split), abs=1e-6)
    assert at(InfoMax(), split) == pytest.approx(-math.log(2)) and at(InfoMax(), same) == pytest.approx(0, abs=1e-6)
    assert at(Bnm(), split) < at(Bnm(), same)


def test_information_moves_a_class_that_is_nearly_gone() -> None:
    z = torch.tensor([[0.0, 0.1, -80.0], [0.2, 0.0, -80.0]], requires_grad=True)
    InfoMax()(View(z, z), View(z, z), 0.5).backward()
    assert bool(torch.isfinite(z.grad).all())  # type: ignore[arg-type]


def test_bnm_is_the_mean_nuclear_norm() -> None:
    z = torch.randn(12, 5, dtype=torch.float64)
    assert at(Bnm(), z) == pytest.approx(-float(torch.linalg.matrix_norm(z.softmax(1), ord="nuc")) / 12, rel=1e-12)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="temperature is 0.0; give a number above 0"):
        Mcc(temperature=0.0)
