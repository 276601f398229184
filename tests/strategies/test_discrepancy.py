"""Two last layers in turns: each turn and whole trainings against slow loops with plain autograd."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate.data.rows import Data
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import Problem, Splits
from acclimate.strategies.adapt import Adapt
from acclimate.strategies.bottleneck import forked
from acclimate.strategies.discrepancy import Mcd, Rivals
from acclimate.strategies.domains import Domains
from acclimate.tasks import TASKS
from acclimate.tasks.heads import BottleneckHead
from acclimate.train.pairs import Pairs, even
from feature_rows import feature_problem

D, K, TASK = 4, 3, TASKS["classify"]
WEIGHT, BALANCE = 0.7, 0.2


def points(n: int, seed: int, move: float = 0.0) -> Data:
    """One Gaussian a class, all moved along the last axis."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % K
    x = rng.normal(size=(n, D))
    x[np.arange(n), labels] += 2.0
    x[:, -1] += move
    return Data(tuple(map(tuple, x.round(4).tolist())), tuple(labels.tolist()), clusters=np.arange(n))


problem = partial(feature_problem, D, K)  # rows of numbers that are their own features


SOURCE, TARGET = points(21, 0), points(14, 1, move=1.0)


def head_of_rivals(seed: int = 0) -> Rivals:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        rivals = Rivals(BottleneckHead(D, K, 5), BALANCE).double()
        for parameter in rivals.parameters():  # no part of the sum may be hidden by a zero or a one
            torch.nn.init.normal_(parameter)
    return rivals


def says(rivals: Rivals, row: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """p and p' of one row, number by number."""
    inner, norm = rivals.head.inner, rivals.head.norm
    z = [sum(inner.weight[j, i] * row[i] for i in range(D)) + inner.bias[j] for j in range(5)]
    mean = sum(z) / 5
    spread = torch.sqrt(sum((v - mean) ** 2 for v in z) / 5 + norm.eps)
    h = [torch.relu((v - mean) / spread * norm.weight[j] + norm.bias[j]) for j, v in enumerate(z)]
    answers = []
    for layer in (rivals.head.last, rivals.rival):
        up = [torch.exp(sum(layer.weight[k, j] * h[j] for j in range(5)) + layer.bias[k]) for k in range(K)]
        answers.append([u / sum(up) for u in up])
    return answers[0], answers[1]


def slow(rivals: Rivals, turn: int, source: Tensor, labels: list[int], weights: Tensor, target: Tensor) -> Tensor:
    """The loss of a turn as in Mcd's docstring."""
    wrong = torch.zeros((), dtype=torch.float64)
    for row, label, weight in zip(source, labels, weights, strict=True):
        for p in says(rivals, row):
            wrong = wrong - weight * torch.log(p[label]) / len(source)
    d, shares = torch.zeros((), dtype=torch.float64), [[torch.zeros(()) for _ in range(K)] for _ in range(2)]
    for row in target:
        answers = says(rivals, row)
        for k in range(K):
            d = d + torch.abs(answers[0][k] - answers[1][k]) / K / len(target)
            for side in range(2):
                shares[side][k] = shares[side][k] + answers[side][k] / len(target)
    b = -sum(torch.log(share) for side in shares for share in side) / K
    if turn == 0:
        return wrong + WEIGHT * BALANCE * b
    return wrong + WEIGHT * (BALANCE * b - d) if turn == 1 else WEIGHT * d


@pytest.mark.parametrize("turn", [0, 1, 2, 5])
def test_a_turn_is_its_formula_and_moves_its_own_weights_alone(turn: int) -> None:
    """A moves all, B the last layers, C the features; one step of AdamW from there, by hand, is the same."""
    fast, rng = head_of_rivals(), np.random.default_rng(3)
    source, target = (torch.from_numpy(rng.normal(size=(n, D))) for n in (6, 4))
    labels, weights = [0, 2, 1, 1, 0, 2], torch.tensor([1.0, 0.5, 2.0, 1.0, 0.1, 1.4], dtype=torch.float64)
    by_hand, before = copy.deepcopy(fast), {n: p.detach().clone() for n, p in fast.named_parameters()}
    truth = torch.tensor(labels)

    def wrong(logits: Tensor) -> Tensor:
        return (weights * F.cross_entropy(logits, truth, reduction="none")).mean()

    loss = fast.loss(turn, source, wrong, target, WEIGHT)
    expected = slow(by_hand, turn, source, labels, weights, target)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    loss.backward()
    expected.backward()
    Mcd(learning_rate=0.01, weight_decay=0.1).optimizer(fast).step()
    slow_ones = dict(by_hand.named_parameters())
    for name, parameter in fast.named_parameters():
        is_last = name.startswith(("head.last", "rival"))
        if turn == 0 or is_last == (turn == 1):
            gradient = slow_ones[name].grad
            assert parameter.grad is not None and gradient is not None
            assert parameter.grad.numpy() == pytest.approx(gradient.numpy(), abs=1e-12)
            assert float(gradient.abs().max()) > 1e-4
            kept = before[name] * (1 - 0.01 * (0.1 if parameter.ndim > 1 else 0.0))
            stepped = kept - 0.01 * gradient / (gradient.abs() + 1e-8)  # AdamW's first step
            assert parameter.detach().numpy() == pytest.approx(stepped.numpy(), abs=1e-9)
        else:
            assert parameter.grad is None
            assert torch.equal(parameter, before[name])


def by_two_optimisers(mcd: Mcd, known: Domains, run: Run) -> BottleneckHead:
    """The training as the paper writes it: one optimiser for the features, one for the last layers."""
    rivals = Rivals(mcd.new_head(problem(), known), mcd.balance)
    head, lasts = rivals.head, [rivals.head.last, rivals.rival]
    features = torch.optim.Adam([*head.inner.parameters(), *head.norm.parameters()], lr=mcd.learning_rate)
    layers = torch.optim.Adam([p for layer in lasts for p in layer.parameters()], lr=mcd.learning_rate)
    source, target = (torch.tensor(v, dtype=torch.float32) for v in (known.source, known.target))
    truth = torch.from_numpy(known.targets).long()
    pairs = Pairs(*(even(len(v), mcd.batch_size, run.seed, i) for i, v in enumerate((source, target))), mcd.epochs(21))
    batches = [batch for epoch in range(mcd.epochs(21)) for batch in pairs.epoch(epoch)]
    number, total = 0, len(batches) * (2 + mcd.feature_steps)
    for batch in batches:
        here, there = pairs.source(batch), pairs.target(batch)
        for turn in range(2 + mcd.feature_steps):
            for optimizer in (features, layers):
                optimizer.zero_grad()
                optimizer.param_groups[0]["lr"] = mcd.learning_rate * mcd.schedule(21).factor(number, total)
            number += 1
            wrong = sum(F.cross_entropy(layer(head.hidden(source[here])), truth[here]) for layer in lasts)
            p, q = (torch.softmax(layer(head.hidden(target[there])), 1) for layer in lasts)
            d, b = (p - q).abs().mean(), -(p.mean(0).log().mean() + q.mean(0).log().mean())
            first = wrong + mcd.weight * mcd.balance * b
            loss = first if turn == 0 else first - mcd.weight * d if turn == 1 else mcd.weight * d
            loss.backward()
            for optimizer, turns in ((features, turn != 1), (layers, turn < 2)):
                if turns:
                    optimizer.step()
    with torch.no_grad():
        head.last.weight.copy_((lasts[0].weight + lasts[1].weight) / 2)
        head.last.bias.copy_((lasts[0].bias + lasts[1].bias) / 2)
    return head


@pytest.mark.parametrize("settings", [{}, {"feature_steps": 2, "balance": 0.0, "weight": 2.0}])
def test_a_whole_training_is_that_of_two_optimisers(settings: dict[str, Any]) -> None:
    """Through the one loop: rates, order of turns and moments are as with an optimiser for each half."""
    small = {"bottleneck": 8, "batch_size": 7, "num_train_epochs": 3, "weight_decay": 0.0, "max_grad_norm": 0.0}
    mcd, run = Mcd(**{**small, **settings}), Run(seed=3)
    known = Domains.of(problem(), Splits(SOURCE, target=TARGET), "source", TARGET)
    with forked(run):
        head, history = mcd.adapted(problem(), known, run)
    with forked(run):
        expected = by_two_optimisers(mcd, known, run)
    assert history[-1]["step"] == 9 * (2 + mcd.feature_steps)
    for name, value in head.state_dict().items():
        assert value.numpy() == pytest.approx(expected.state_dict()[name].numpy(), abs=2e-5), name


def test_the_answers_are_the_mean_of_both_logits() -> None:
    rivals, h = head_of_rivals(), torch.from_numpy(np.random.default_rng(0).normal(size=(6, 5)))
    expected = (rivals.head.last(h) + rivals.rival(h)) / 2
    assert not torch.allclose(rivals.head.last(h), rivals.rival(h))
    assert rivals.mean().last(h).detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-12)


def test_the_two_begin_apart_and_within_what_torch_draws() -> None:
    rivals = Rivals(BottleneckHead(D, K, 16), BALANCE)
    assert not torch.equal(rivals.head.last.weight, rivals.rival.weight)
    for layer in (rivals.head.last, rivals.rival):
        assert 0.1 < float(layer.weight.detach().abs().max()) <= 1 / math.sqrt(16)
        assert not layer.bias.any()


def fit(strategy: Any, made: Problem) -> Predictor:
    found: Predictor = strategy.fit(made, Splits(SOURCE, target=TARGET), Run(seed=1))
    return found


def test_without_weight_it_is_the_source_alone_and_says_its_own_name() -> None:
    """The turns, and what else belongs to them, have no say then."""
    small = {"bottleneck": 8, "num_train_epochs": 2, "weight": 0.0}
    alone, found = fit(Adapt(**small), problem()), fit(Mcd(**small, feature_steps=9), problem())
    assert all(torch.equal(v, found.head.state_dict()[n]) for n, v in alone.head.state_dict().items())
    assert (found.strategy, found.settings["feature_steps"]) == ("mcd", 9)


def test_a_rising_weight_begins_at_0_and_differs() -> None:
    small = {"bottleneck": 8, "num_train_epochs": 2}
    constant, rising = (fit(Mcd(**small, weight_schedule=s), problem()) for s in ("constant", "rise"))
    assert not torch.equal(constant.head.inner.weight, rising.head.inner.weight)
