"""What every penalty that ties a network to the pretrained one promises, and each against slow loops."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from acclimate.errors import UserError
from acclimate.hold import HOLDS, L2SP, Bss, FeatureHold, Lwf, Pretrained, terms

N, IN, D, K = 6, 5, 4, 3


class Tiny(nn.Module):
    """An encoder of one layer and a head, with the names that a network here has."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(IN, D)
        self.head = nn.Linear(D, K)

    def forward(self, x: Tensor) -> Any:
        features = torch.tanh(self.backbone(x))
        return SimpleNamespace(features=features, logits=self.head(features))


def moved(n: int = N) -> tuple[Tiny, Pretrained, Tensor]:
    """A network that has moved, what it was before, and rows."""
    torch.manual_seed(5)
    before, now = Tiny(), Tiny()
    x = torch.randn(n, IN)
    with torch.no_grad():
        features = before(x).features
        weights = {f"backbone.{name}": p.clone() for name, p in before.backbone.named_parameters()}
        return now, Pretrained(weights, features, before.head(features), before.head.requires_grad_(False)), x


def value_of(name: str, network: Tiny, pretrained: Pretrained, output: Any) -> float:
    return float(HOLDS[name]()(network, pretrained, output).detach())


def slow_l2_sp(network: Tiny, pretrained: Pretrained, output: Any) -> float:
    total = 0.0
    for name, start in pretrained.weights.items():
        now = network.get_parameter(name)
        for a, b in zip(now.flatten().tolist(), start.flatten().tolist(), strict=True):
            total += (a - b) ** 2
    return total / 2


def slow_bss(network: Tiny, pretrained: Pretrained, output: Any) -> float:
    f = output.features.detach().double().numpy()
    if min(f.shape) <= 1:
        return 0.0
    return float(np.sort(np.linalg.eigvalsh(f @ f.T if len(f) < f.shape[1] else f.T @ f))[0])


def slow_features(network: Tiny, pretrained: Pretrained, output: Any) -> float:
    total = 0.0
    for f, before in zip(output.features.tolist(), pretrained.features.tolist(), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(f, before, strict=True)) / sum(b * b for b in before) / 2
    return total / len(output.features)


def slow_lwf(network: Tiny, pretrained: Pretrained, output: Any) -> float:
    def shares(logits: list[float]) -> list[float]:
        top = [math.exp(z / 2) for z in logits]
        return [t / sum(top) for t in top]

    total = 0.0
    for now, then in zip(pretrained.head(output.features).tolist(), pretrained.logits.tolist(), strict=True):
        total -= sum(q * math.log(p) for q, p in zip(shares(then), shares(now), strict=True))
    return total / len(output.features)


SLOW = {"l2_sp": slow_l2_sp, "bss": slow_bss, "features": slow_features, "lwf": slow_lwf}
every = pytest.mark.parametrize("name", HOLDS)


def test_each_has_a_slow_loop() -> None:
    assert SLOW.keys() == HOLDS.keys()


@every
@pytest.mark.parametrize("n", [1, 2, N, 9])
def test_the_value_is_that_of_the_formula_as_slow_loops(name: str, n: int) -> None:
    network, pretrained, x = moved(n)
    output = network(x)
    value = HOLDS[name]()(network, pretrained, output)
    assert value.shape == () and bool(torch.isfinite(value))
    assert float(value.detach()) == pytest.approx(SLOW[name](network, pretrained, output), abs=1e-5)


@every
@pytest.mark.parametrize("n", [1, N])
def test_the_gradient_is_finite_and_reaches_the_encoder(name: str, n: int) -> None:
    network, pretrained, x = moved(n)
    HOLDS[name]()(network, pretrained, network(x)).backward()
    gradient = network.backbone.weight.grad
    assert gradient is not None and bool(torch.isfinite(gradient).all())
    assert bool(gradient.abs().sum() > 0) == (name != "bss" or n > 1)  # of one row no value is small beside others
    assert network.head.weight.grad is None or not bool(network.head.weight.grad.any())


@every
def test_constant_features_and_features_of_zero_are_no_trouble(name: str) -> None:
    network, pretrained, x = moved()
    for rows in (x[:1].expand(N, IN), torch.zeros(N, IN)):
        network.zero_grad(set_to_none=True)
        zero = Pretrained(pretrained.weights, torch.zeros(N, D), pretrained.head(torch.zeros(N, D)), pretrained.head)
        value = HOLDS[name]()(network, zero, network(rows))
        value.backward()
        assert bool(torch.isfinite(value))
        assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)


@every
def test_the_order_of_the_rows_does_not_matter(name: str) -> None:
    network, pretrained, x = moved()
    at = torch.tensor([3, 0, 5, 1, 4, 2])
    other = Pretrained(pretrained.weights, pretrained.features[at], pretrained.logits[at], pretrained.head)
    one = value_of(name, network, pretrained, network(x))
    assert value_of(name, network, other, network(x[at])) == pytest.approx(one, abs=1e-6)


@pytest.mark.parametrize("name", ["l2_sp", "features"])
def test_a_network_that_has_not_moved_pays_nothing(name: str) -> None:
    network, _, x = moved()
    output = network(x)
    weights = {f"backbone.{n}": p.detach().clone() for n, p in network.backbone.named_parameters()}
    here = Pretrained(weights, output.features.detach(), output.logits.detach(), network.head)
    assert value_of(name, network, here, output) == 0.0


def test_the_answers_of_the_start_are_the_best_under_lwf() -> None:
    network, pretrained, x = moved()
    start = SimpleNamespace(features=pretrained.features, logits=pretrained.logits)
    assert value_of("lwf", network, pretrained, start) < value_of("lwf", network, pretrained, network(x))


def test_bss_takes_the_k_least_singular_values() -> None:
    values = torch.tensor([5.0, 3.0, 2.0, 0.5])
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(n)))[0] for n in (6, 4))
    features = left[:, :4] @ torch.diag(values) @ right.T
    out = SimpleNamespace(features=features, logits=features)
    for k, expected in ((1, 0.25), (2, 4.25), (3, 13.25), (4, 0.0)):
        assert float(Bss(k=k)(nn.Identity(), None, out)) == pytest.approx(expected, abs=1e-4)  # type: ignore[arg-type]


def test_names_weights_and_sums() -> None:
    assert terms("l2_sp:0.1+bss:1e-3,k=2") == [L2SP(0.1), Bss(0.001, 2)]
    assert terms("features") == [FeatureHold(1.0)]
    assert terms("lwf:weight=2,temperature=1") == [Lwf(2, 1)]
    assert terms("bss:1e+1") == [Bss(1e1)]
    assert terms("lwf:0+l2_sp:0") == terms("none") == []
    for wrong, text in (
        ("l2", "unknown hold 'l2'"),
        ("", "unknown hold ''"),
        ("l2_sp+", "unknown hold ''"),
        ("l2_sp:much", "setting 'weight' of l2_sp takes float, not 'much'"),
        ("l2_sp:nan", "setting 'weight' of l2_sp takes float, not 'nan'"),
        ("l2_sp:-0.1", "the weight of l2_sp must be 0 or more"),
        ("lwf:temperature=0", "lwf: temperature=0 must be above 0"),
    ):
        with pytest.raises(UserError) as error:
            terms(wrong)
        assert text in str(error.value)
