"""Numbers to train in: chosen by trial, stored, undone; what was there before is there after."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny_models as tm
from acclimate.run import Run
from acclimate.strategies import Splits
from acclimate.strategies.tune import Tune
from acclimate.tasks.base import Network
from acclimate.tasks.heads import LinearHead
from acclimate.train import arithmetic
from acclimate.train.arithmetic import Arithmetic, choose
from acclimate.train.loop import Diverged, Schedule, train


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.drop(self.norm(self.layer(x))))
        return out


ROWS = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
BATCHES = [list(range(8)), list(range(8, 16))]


def loss_of(net: nn.Module) -> Any:
    return lambda at: net(ROWS[at]).float().square().mean()


def quick(monkeypatch: pytest.MonkeyPatch, times: dict[str, float]) -> None:
    """A machine on which a step of each kind takes so long."""
    monkeypatch.setattr(arithmetic, "bf16_gain", lambda *_: 3.0)
    real = arithmetic._Trial._took

    def took(self: Any, candidate: Arithmetic) -> float | None:
        return None if real(self, candidate) is None else times[candidate.numbers]

    monkeypatch.setattr(arithmetic._Trial, "_took", took)


def test_numbers_that_are_quicker_are_chosen_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, {"fp32": 1.0, "bf16": 0.5})
    net = Net()
    chosen, note = choose(net, loss_of(net), BATCHES, 100, "auto", Run())
    assert chosen == Arithmetic("bf16")
    assert note == "trained in bf16 (ms a step on trial: fp32 1000.0, bf16 500.0)"


@pytest.mark.parametrize(
    ("times", "steps"),
    [({"fp32": 1.0, "bf16": 0.9}, 100), ({"fp32": 0.1, "bf16": 0.01}, 100), ({"fp32": 1.0, "bf16": 2.0}, 100)],
    ids=["hardly quicker", "nothing to gain", "slower"],
)
def test_full_precision_stays_where_little_is_gained(
    times: dict[str, float], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch, times)
    net = Net()
    assert choose(net, loss_of(net), BATCHES, steps, "auto", Run())[0] == Arithmetic()


def test_a_gradient_that_points_elsewhere_rules_numbers_out(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, {"fp32": 1.0, "bf16": 0.1})
    net = Net()

    def loss(at: list[int]) -> Tensor:
        out: Tensor = net(ROWS[at])
        return (out.float() * (-1 if out.dtype == torch.bfloat16 else 1)).mean()

    assert choose(net, loss, BATCHES, 100, "auto", Run())[0] == Arithmetic()


def test_no_trial_where_a_product_is_not_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "bf16_gain", lambda *_: 1.2)
    net = Net()

    def never(at: list[int]) -> Tensor:
        raise AssertionError("nothing is to be tried")

    assert choose(net, never, BATCHES, 10**6, "auto", Run()) == (Arithmetic(), "")


def test_what_is_asked_for_is_not_tried() -> None:
    net = Net()
    assert choose(net, loss_of(net), BATCHES, 10**6, "no", Run()) == (Arithmetic(), "")
    assert choose(net, loss_of(net), BATCHES, 10**6, "bf16", Run()) == (
        Arithmetic("bf16"),
        "trained in bf16, as asked for",
    )


def test_a_trial_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, {"fp32": 1.0, "bf16": 0.5})
    net = Net().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.get_rng_state()
    choose(net, loss_of(net), BATCHES, 100, "auto", Run())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not net.training and all(p.grad is None for p in net.parameters())


def test_a_run_that_goes_on_keeps_the_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quick(monkeypatch, {"fp32": 1.0, "bf16": 0.5})
    net, run = Net(), Run(state=tmp_path)
    chosen = choose(net, loss_of(net), BATCHES, 100, "auto", run)
    assert json.loads((tmp_path / "arithmetic.json").read_text())["chosen"]["numbers"] == "bf16"
    quick(monkeypatch, {"fp32": 0.5, "bf16": 1.0})
    assert choose(net, loss_of(net), BATCHES, 100, "auto", run) == chosen


@pytest.mark.parametrize("numbers", ["tf32", "bf16", "fp16"])
def test_numbers_hold_where_they_are_held_and_are_undone(numbers: str) -> None:
    chosen, before = Arithmetic(numbers), torch.get_float32_matmul_precision()
    with chosen.applied(Net()):
        with chosen.at_work("cpu"):
            found = (ROWS @ ROWS.T).dtype
        # The backward pass runs outside of `at_work`, and TF32 must hold there too.
        assert torch.get_float32_matmul_precision() == ("high" if numbers == "tf32" else before)
    assert found == {"tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[numbers]
    assert torch.get_float32_matmul_precision() == before
    assert (ROWS @ ROWS.T).dtype == torch.float32


def test_too_little_memory_for_a_whole_batch_is_left_to_training(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, {"fp32": 1.0, "bf16": 0.5})
    net, tries = Net(), []

    def loss(at: list[int]) -> Tensor:
        tries.append(len(at))
        if len(at) > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        out: Tensor = loss_of(net)(at)
        return out

    assert choose(net, loss, BATCHES, 100, "auto", Run()) == (Arithmetic(), "")
    assert tries == [8]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, fused=True)
    history = train(net, optimizer, Schedule(1), lambda _: BATCHES, loss, None, Run())
    assert history[-1]["rows_at_once"] == 4


def test_a_short_run_spends_one_step_on_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, {"fp32": 0.1, "bf16": 0.01})
    net, tries = Net(), []

    def loss(at: list[int]) -> Tensor:
        tries.append(at)
        out: Tensor = loss_of(net)(at)
        return out

    assert choose(net, loss, BATCHES, 100, "auto", Run())[0] == Arithmetic()
    assert len(tries) == 1


def _train(net: Net, scaler: torch.amp.GradScaler | None, run: Run, factor: float = 1.0, epochs: int = 5) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, fused=True)
    torch.manual_seed(0)
    train(
        net,
        optimizer,
        Schedule(epochs),
        lambda _: BATCHES,
        lambda at: factor * loss_of(net)(at),
        None,
        run,
        scaler=scaler,
    )


def test_a_scaler_changes_nothing_but_the_scale() -> None:
    plain, scaled = Net(), Net()
    _train(plain, None, Run())
    _train(scaled, torch.amp.GradScaler("cpu"), Run())
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_overflows_once_is_left_out_and_scaled_less() -> None:
    net = Net()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)  # float32 overflows at 2^128
    before = net.layer.weight.clone()
    _train(net, scaler, Run(), factor=1e3)
    assert scaler.get_scale() < 2.0**120
    assert torch.isfinite(net.layer.weight).all() and not torch.equal(net.layer.weight, before)


def test_a_loss_that_is_not_finite_stops_a_scaled_run_too() -> None:
    net = Net()
    with pytest.raises(Diverged, match="step 1"):
        _train(net, torch.amp.GradScaler("cpu"), Run(), factor=float("nan"))


def test_the_scale_is_a_part_of_a_checkpoint(tmp_path: Path) -> None:
    whole, scaler = Net(), torch.amp.GradScaler("cpu", growth_interval=2)
    _train(whole, scaler, Run())
    cut, run = Net(), Run(state=tmp_path, checkpoint_every=0)
    calls = SimpleNamespace(n=0)
    real = loss_of(cut)

    def dies(at: list[int]) -> Tensor:
        calls.n += 1
        if calls.n == 7:
            raise OSError("killed")
        out: Tensor = real(at)
        return out

    def once(loss: Any, with_scaler: torch.amp.GradScaler) -> None:
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW(cut.parameters(), lr=1e-2, fused=True)
        train(cut, optimizer, Schedule(5), lambda _: BATCHES, loss, None, run, scaler=with_scaler)

    with pytest.raises(OSError, match="killed"):
        once(dies, torch.amp.GradScaler("cpu", growth_interval=2))
    again = torch.amp.GradScaler("cpu", growth_interval=2)
    once(real, again)
    assert again.get_scale() == scaler.get_scale()
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.real
def test_a_layout_is_applied_to_the_backbone_and_undone(folder_of: Any) -> None:
    backbone = tm.backbone_of(folder_of("bert"))
    network = Network(backbone, LinearHead(backbone.width, 2))
    rows = backbone.encode(tm.TEXTS)
    with Arithmetic(padded=True, compiled=True).applied(network):
        assert "attention_mask" in backbone.collate(rows)
        assert all(block._compiled_call_impl is not None for block in backbone.blocks)
    assert "lengths" in backbone.collate(rows)
    assert all(block._compiled_call_impl is None for block in backbone.blocks)


@pytest.mark.parametrize("moves", ["all", "top:1", "lora"])
def test_tuning_in_bf16_is_near_fp32_and_says_so(moves: str, folder_of: Any) -> None:
    data, run = tm.rows(24), Run()
    backbone = tm.backbone_of(folder_of("bert"))
    problem = tm.problem_of("classify", data, "str", backbone, run)
    made = [
        Tune(moves=moves, num_train_epochs=2, dropout=0.0, lora_dropout=0.0, mixed_precision=mixed).fit(
            problem, Splits(data, None), run
        )
        for mixed in ("no", "bf16")
    ]
    plain, mixed = (model.outputs(list(data.inputs), run) for model in made)
    assert made[1].notes[-1] == "trained in bf16, as asked for"
    assert all(p.dtype == torch.float32 for p in made[1].backbone.parameters())
    assert not np.array_equal(plain, mixed)
    np.testing.assert_allclose(plain, mixed, atol=0.02)
