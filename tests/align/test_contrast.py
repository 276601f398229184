"""Contrastive domain discrepancy: means over pairs of classes, clusters that settle, classes that a batch lacks."""

from __future__ import annotations

import math

import pytest
import torch

from acclimate.align import View
from acclimate.align.contrast import Cdd, clusters
from acclimate.errors import UserError


def fan(angles: list[float]) -> torch.Tensor:
    """Points on a circle, by degrees."""
    return torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles], dtype=torch.float64)


def of(source: list[float], labels: list[int], target: list[float], classes: int = 3) -> tuple[View, View]:
    return (
        View(fan(source), torch.zeros(len(source), classes), labels=torch.tensor(labels)),
        View(fan(target), torch.zeros(len(target), classes)),
    )


def k(a: float, b: float) -> float:
    """The kernel of two points on the circle at bandwidth 1."""
    return math.exp(-(2 - 2 * math.cos(math.radians(a - b))))


def test_the_cross_term_is_the_mean_over_pairs() -> None:
    """Not divided by the number of pairs squared, and with both classes on both sides of it."""
    views = of([0, 10, 100, 110, 120], [0, 0, 1, 1, 1], [5, 15, 20, 105], 2)
    found = Cdd(kernels=1, bandwidth=1.0)(*views, 0.5).item()
    s, t = {0: [0, 10], 1: [100, 110, 120]}, {0: [5, 15, 20], 1: [105]}

    def mean(a: list[int], b: list[int]) -> float:
        return sum(k(x, y) for x in a for y in b) / (len(a) * len(b))

    def apart(c: int, e: int) -> float:
        return mean(s[c], s[c]) + mean(t[e], t[e]) - 2 * mean(s[c], t[e])

    expected = (apart(0, 0) + apart(1, 1)) / 2 - (apart(0, 1) + apart(1, 0)) / 2
    assert found == pytest.approx(expected, rel=1e-9)


def test_clusters_move_to_where_the_target_lies() -> None:
    """Begun at the source's classes, each centre goes to its rows: the row between goes over to its cluster."""
    ours = torch.eye(2).double()
    target = fan([30, 32, 34, 46, 60, 80, 82, 84, 88])
    first = (target @ fan([0, 90]).T).argmax(1)
    found = clusters(fan([0, 90]), ours, target, torch.ones(9).double())
    assert first.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert found.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_a_class_that_the_source_batch_lacks_gets_no_row() -> None:
    source, target = of([0, 90], [0, 2], [1, 44, 46, 89])
    ours = torch.nn.functional.one_hot(source.labels, 3).double()  # type: ignore[arg-type]
    assert set(clusters(source.features, ours, target.features, torch.ones(4).double()).tolist()) == {0, 2}


def test_one_class_alone_has_no_others_to_be_kept_from() -> None:
    source, target = of([0, 10], [1, 1], [5, 20, 25])
    value = Cdd(kernels=1, bandwidth=1.0)(source, target, 0.5)
    assert 0 < value < 0.1


def test_a_step_down_brings_classes_together_across_domains_and_apart_within() -> None:
    source, target = of([0, 10, 90, 100], [0, 0, 1, 1], [30, 40, 60, 70], 2)
    y = target.features.clone().requires_grad_()
    optimiser = torch.optim.SGD([y], lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        Cdd()(source, View(y, target.logits), 0.5).backward()
        optimiser.step()
    angle = torch.rad2deg(torch.atan2(*y.detach().flip(1).T))
    assert (angle[:2].mean() - 5).abs() < 20 and (angle[2:].mean() - 95).abs() < 20


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="kernels is 0"):
        Cdd(kernels=0)
    with pytest.raises(UserError, match="unknown bandwidth 'medain'"):
        Cdd(bandwidth="medain")
