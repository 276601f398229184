from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.train.loop import Schedule, train

X = torch.linspace(-1, 1, 24).reshape(12, 2)
Y = X @ torch.tensor([2.0, -1.0]) + 0.5


def line() -> nn.Linear:
    network = nn.Linear(2, 1)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    return network


def fit(
    network: nn.Module,
    schedule: Schedule,
    *,
    batches: Sequence[list[int]] = (list(range(12)),),
    evaluate: Callable[[], float] | None = None,
    lr: float = 0.1,
    run: Run | None = None,
    loss: Callable[[list[int]], Tensor] | None = None,
    optimizer: Any = None,
) -> list[dict[str, Any]]:
    def squared(at: list[int]) -> Tensor:
        return (network(X[at])[:, 0] - Y[at]).square().mean()

    optimizer = optimizer or torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=lr)
    return train(network, optimizer, schedule, lambda epoch: batches, loss or squared, evaluate, run or Run())


def test_a_linear_schedule_rises_and_falls() -> None:
    schedule = Schedule(1, warmup=0.2)
    factors = [schedule.factor(step, 10) for step in range(10)]
    assert factors == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_warmup_of_one_or_more_is_a_number_of_steps() -> None:
    schedule = Schedule(1, warmup=3, shape="constant")
    assert [schedule.factor(step, 100) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_cosine_and_constant() -> None:
    cosine = Schedule(1, warmup=0, shape="cosine")
    assert [cosine.factor(step, 4) for step in range(4)] == pytest.approx(
        [1, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 + math.cos(3 * math.pi / 4))]
    )
    assert [Schedule(1, warmup=0, shape="constant").factor(step, 4) for step in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1, 7, 50])
def test_no_factor_leaves_the_unit_interval(shape: str, warmup: float) -> None:
    for total in (1, 2, 9, 40):
        factors = [Schedule(1, warmup=warmup, shape=shape).factor(step, total) for step in range(total)]
        assert all(0 < f <= 1 for f in factors)


def test_every_group_follows_the_schedule_at_its_own_rate() -> None:
    network, seen = line(), []
    optimizer = torch.optim.SGD([{"params": [network.weight], "lr": 0.4}, {"params": [network.bias], "lr": 0.2}])

    def loss(at: list[int]) -> Tensor:
        seen.append([g["lr"] for g in optimizer.param_groups])
        return network(X[at]).square().mean()

    schedule = Schedule(2, warmup=0)
    fit(network, schedule, batches=[[0, 1], [2, 3]], loss=loss, optimizer=optimizer)
    assert seen == [pytest.approx([0.4 * f, 0.2 * f]) for f in (1, 0.75, 0.5, 0.25)]


def test_accumulation_equals_one_large_batch() -> None:
    one, many = line(), line()
    fit(one, Schedule(5, clip=0), batches=[list(range(12))])
    # Uneven parts: each counts by its rows.
    history = fit(many, Schedule(5, clip=0, accumulate=3), batches=[[0, 1], [2, 3, 4, 5, 6, 7, 8], [9, 10, 11]])
    assert torch.allclose(one.weight, many.weight, atol=1e-6)
    assert torch.allclose(one.bias, many.bias, atol=1e-6)
    assert history[-1]["step"] == 5


def test_a_last_incomplete_accumulation_is_a_step_too() -> None:
    history = fit(line(), Schedule(2, accumulate=2), batches=[[0], [1], [2]])
    assert [h["step"] for h in history] == [2, 4]


def test_the_gradient_is_clipped() -> None:
    network = line()
    network.bias.requires_grad_(False)
    fit(
        network,
        Schedule(1, warmup=0, clip=0.5),
        loss=lambda at: 1000 * network.weight[0, 0],
        lr=1.0,
    )
    assert network.weight.tolist() == [[pytest.approx(-0.5, abs=1e-6), 0.0]]


def test_what_is_frozen_does_not_move() -> None:
    network = line()
    network.bias.requires_grad_(False)
    fit(network, Schedule(3))
    assert float(network.bias) == 0
    assert float(network.weight.detach().abs().sum()) > 0
    assert not network.training


def test_the_best_epoch_is_put_back() -> None:
    network, seen, values = line(), [], iter([5.0, 3.0, 1.0, 2.0, 4.0])

    def evaluate() -> float:
        seen.append(network.weight.detach().clone())
        return next(values)

    history = fit(network, Schedule(4, warmup=0, shape="constant"), evaluate=evaluate)
    assert torch.equal(network.weight, seen[2])
    assert [h["valid_loss"] for h in history] == [5.0, 3.0, 1.0, 2.0, 4.0]
    assert [h["epoch"] for h in history] == [0, 1, 2, 3, 4]
    assert [h["step"] for h in history] == [0, 1, 2, 3, 4]
    assert history[0]["train_loss"] is None
    losses = [h["train_loss"] for h in history[1:]]
    assert losses == sorted(losses, reverse=True)


def test_where_training_only_harms_the_start_is_kept() -> None:
    network, values = line(), iter([1.0, 2.0, 3.0])
    fit(network, Schedule(2), evaluate=lambda: next(values))
    assert float(network.weight.detach().abs().sum()) == 0


def test_nan_is_never_best() -> None:
    network, seen, values = line(), [], iter([math.nan, 2.0, math.nan])

    def evaluate() -> float:
        seen.append(network.weight.detach().clone())
        return next(values)

    fit(network, Schedule(2, warmup=0, shape="constant"), evaluate=evaluate)
    assert torch.equal(network.weight, seen[1])


def test_the_best_buffers_come_back_with_their_weights() -> None:
    network, seen = nn.Sequential(nn.BatchNorm1d(2), line()), []
    values = iter([3.0, 1.0, 2.0])

    def evaluate() -> float:
        seen.append(network[0].running_mean.clone())  # type: ignore[operator, union-attr]
        return next(values)

    fit(network, Schedule(2), evaluate=evaluate, batches=[list(range(6, 12))])
    assert torch.equal(network[0].running_mean, seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_a_loss_that_becomes_nan_stops_the_run_and_says_where() -> None:
    network, calls = line(), []

    def loss(at: list[int]) -> Tensor:
        calls.append(at)
        return network(X[at]).mean() * (math.nan if len(calls) >= 3 else 1)

    with pytest.raises(UserError) as error:
        fit(network, Schedule(10, warmup=0, shape="constant"), loss=loss, lr=1e3, batches=[[0], [1], [2], [3]])
    text = str(error.value)
    assert "NaN or infinite at step 3 of 40 (learning rates 1e+03)" in text
    assert "Lower --learning-rate by ten, raise warmup_steps" in text
    assert len(calls) == 4  # found at the end of the first epoch


def test_a_nan_is_found_within_twenty_steps_of_a_long_epoch() -> None:
    network, calls = line(), []

    def loss(at: list[int]) -> Tensor:
        calls.append(at)
        return network(X[at]).mean() * (math.nan if len(calls) >= 5 else 1)

    with pytest.raises(UserError, match="at step 5 of 500"):
        fit(network, Schedule(1), loss=loss, batches=[[0]] * 500)
    assert len(calls) == 20


def test_weights_that_overflow_in_the_last_step_are_not_kept() -> None:
    network = line()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e38)
    with pytest.raises(UserError, match="NaN or infinite at step 1 of 1"):
        fit(network, Schedule(1, warmup=0, clip=0), loss=lambda at: 1e3 * network(X[at]).mean(), optimizer=optimizer)


def test_the_deadline_ends_the_run_with_what_there_is() -> None:
    network = line()
    run = Run(deadline=time.monotonic() + 0.15)

    def slow(at: list[int]) -> Tensor:
        time.sleep(0.02)
        return network(X[at]).square().mean() + network(X[at]).mean()

    history = fit(network, Schedule(1000), run=run, loss=slow, batches=[[0]] * 50, evaluate=lambda: 1.0)
    assert 1 <= history[-1]["step"] < 50
    assert history[-1]["note"] == f"time limit reached after step {history[-1]['step']} of 50000"
    assert history[-1]["valid_loss"] == 1.0


def test_a_deadline_that_has_passed_still_gives_a_finite_model() -> None:
    network = line()
    history = fit(network, Schedule(3), run=Run(deadline=time.monotonic() - 1))
    assert [h["step"] for h in history] == [1]
    assert bool(torch.isfinite(network.weight).all())
