from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from acclimate.errors import UserError
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.train.loop import Diverged, Schedule, train

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


def test_f10_a_nan_at_step_30_names_the_step_the_rate_and_the_last_finite_checkpoint(tmp_path: Path) -> None:
    network, calls = line(), []

    def loss(at: list[int]) -> Tensor:
        calls.append(at)
        return (network(X[at])[:, 0] - Y[at]).square().mean() * (math.nan if len(calls) == 30 else 1)

    run = Run(state=tmp_path, checkpoint_every=0)
    schedule = Schedule(4, warmup=0, shape="constant")
    with pytest.raises(Diverged) as error:
        fit(network, schedule, loss=loss, lr=1e-3, run=run, batches=[[i] for i in range(12)])
    last = tmp_path / "000000029-0002"
    assert str(error.value) == (
        "the loss or its gradient became NaN or infinite at step 30 of 48 (learning rates 0.001); the last finite "
        f"checkpoint is {last}. Lower --learning-rate by ten, raise warmup_steps, or look for extreme labels or "
        "weights in the data."
    )
    assert last.is_dir()
    weights = load_file(last / "weights.safetensors")
    assert all(bool(torch.isfinite(w).all()) for w in weights.values())
    lines = [json.loads(text) for text in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [h["step"] for h in lines] == [12, 24, 30]
    assert lines[-1]["train_loss"] is None  # JSON has no NaN
    assert "NaN" in (tmp_path / "history.jsonl").read_text()


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_is_found_though_the_loss_is(clip: float) -> None:
    network = line()
    network.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(Diverged, match="at step 1 of 20"):
        fit(network, Schedule(20, clip=clip))


def test_losses_are_not_read_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """`.item()`, `float()`, `bool()` and `.cpu()` each wait for the device."""
    reads: list[str] = []
    for name in ("item", "__float__", "__bool__", "cpu", "tolist"):
        original = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda self, o=original, n=name: (reads.append(n), o(self))[1])
    fit(line(), Schedule(1), batches=[[0, 1]] * 100, optimizer=None)
    assert len(reads) <= 100 // 20 + 4


# -- out of memory -----------------------------------------------------------------------------------------------------

ERRORS: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    lambda: MemoryError(),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
]


@pytest.mark.parametrize("error", ERRORS)
def test_f15_out_of_memory_halves_the_micro_batch_and_keeps_the_result(
    error: Callable[[], Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def with_room_for(network: nn.Module, most: int) -> tuple[Callable[[list[int]], Tensor], list[int]]:
        sizes: list[int] = []

        def loss(at: list[int]) -> Tensor:
            sizes.append(len(at))
            if len(at) > most:
                raise error()
            return (network(X[at])[:, 0] - Y[at]).square().mean()

        return loss, sizes

    whole, small = line(), line()
    fit(whole, Schedule(5), batches=[list(range(12)), [3, 1, 2]])
    loss, sizes = with_room_for(small, 3)
    run = Run(progress=Progress(quiet=False))
    history = fit(small, Schedule(5), batches=[list(range(12)), [3, 1, 2]], loss=loss, run=run)
    assert torch.allclose(whole.weight, small.weight, atol=1e-6)
    assert sizes == [12, 6, 3, 3, 3, 3, 3] + [3, 3, 3, 3, 3] * 4
    assert [h["step"] for h in history] == [2, 4, 6, 8, 10]
    assert {h["rows_at_once"] for h in history} == {3}
    said = capsys.readouterr().err.splitlines()
    assert [line.split(";")[0] for line in said] == [
        "out of memory with 12 rows at once: going on with 6",
        "out of memory with 6 rows at once: going on with 3",
    ]


def test_a_step_redone_starts_from_the_same_random_state_and_running_means() -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))

    def run(fails: bool) -> nn.Module:
        made, failed = network(), [not fails]

        def loss(at: list[int]) -> Tensor:
            value = (made(X[at])[:, 0] - Y[at]).square().mean()
            if not failed[0] and len(at) == 6:
                failed[0] = True  # after the forward pass, which drew random numbers and moved the running means
                raise MemoryError
            return value

        torch.manual_seed(1)
        fit(made, Schedule(3), batches=[list(range(6)), [6, 7, 8]] if fails else halves, loss=loss)
        return made

    halves = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    a = run(True)
    # The same parts without an error: a step of two micro-batches, then one of a single one.
    made = network()
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    schedule = Schedule(3)
    for step in range(6):
        optimizer.param_groups[0]["lr"] = 0.1 * schedule.factor(step, 6)
        optimizer.zero_grad()
        parts = halves[:2] if step % 2 == 0 else halves[2:]
        for part in parts:
            ((made(X[part])[:, 0] - Y[part]).square().mean() / len(parts)).backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), made.state_dict().values(), strict=True))


def test_out_of_memory_with_one_row_says_what_to_do() -> None:
    def loss(at: list[int]) -> Tensor:
        raise MemoryError

    with pytest.raises(UserError, match=r"not enough memory for a single row; lower --max-length"):
        fit(line(), Schedule(1), loss=loss)


def test_out_of_memory_in_the_optimiser_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    network = line()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    monkeypatch.setattr(optimizer, "step", lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(UserError, match="not enough memory for the optimiser"):
        fit(network, Schedule(1), optimizer=optimizer)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def loss(at: list[int]) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(line(), Schedule(1), loss=loss)


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
