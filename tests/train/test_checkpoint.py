"""Resuming from any step gives the weights that an uninterrupted run gives, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acclimate.interrupt import AtOnce
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.train import checkpoint
from acclimate.train.batches import shuffled
from acclimate.train.loop import Schedule, train

X = torch.linspace(-1, 1, 60).reshape(30, 2)
Y = (X @ torch.tensor([2.0, -1.0]) + 0.5).square()
SCHEDULE = Schedule(3, accumulate=2)  # 30 rows in batches of 4: 8 batches, 4 steps an epoch


class Killed(Exception):
    """Stands for kill -9: nothing is tidied up."""


class Training:
    """Dropout, a running mean, accumulation, rows held out; `record` is what every step saw."""

    def __init__(self, state: Path | None, seed: int = 0, every: float = 0.0, quiet: bool = True) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.05, fused=True)
        self.run = Run(seed=seed, state=state, checkpoint_every=every, progress=Progress(quiet))
        self.record: list[tuple[float, list[int]]] = []
        self.before: Callable[[int], None] = lambda calls: None  # called with the number of calls of the loss so far
        self.lengths = range(30)

    def loss(self, at: list[int]) -> Tensor:
        self.before(len(self.record))
        self.record.append((self.optimizer.param_groups[0]["lr"], at))
        return (self.network(X[at])[:, 0] - Y[at]).square().mean()

    def evaluate(self) -> float:
        self.network.eval()
        with torch.inference_mode():
            return float((self.network(X[::3])[:, 0] - Y[::3]).square().mean())

    def go(self, schedule: Schedule = SCHEDULE, what: str = "") -> list[dict[str, Any]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run.seed)
            return train(
                self.network,
                self.optimizer,
                schedule,
                lambda epoch: shuffled(self.lengths, 4, self.run.seed, epoch),
                self.loss,
                self.evaluate,
                self.run,
                what=what,
            )


def stop_at(training: Training, call: int) -> None:
    """The run is killed when the loss is asked for the `call`-th time."""

    def before(calls: int) -> None:
        if calls == call:
            raise Killed

    training.before = before


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture(scope="module")
def whole() -> tuple[Training, list[dict[str, Any]]]:
    training = Training(None)
    return training, training.go()


@pytest.mark.parametrize("call", range(1, 24))
def test_a_run_killed_at_any_step_ends_with_the_same_weights(call: int, tmp_path: Path, whole: Any) -> None:
    uninterrupted, history = whole
    killed = Training(tmp_path)
    stop_at(killed, call)
    with pytest.raises(Killed):
        killed.go()
    resumed = Training(tmp_path)
    assert resumed.go() == history
    assert same(resumed.network, uninterrupted.network)
    done = call // 2 * 2  # calls that belong to whole steps
    assert killed.record[:done] + resumed.record == uninterrupted.record  # rates and rows, in order


def test_checkpoints_change_nothing(tmp_path: Path, whole: Any) -> None:
    training = Training(tmp_path)
    assert training.go() == whole[1]
    assert same(training.network, whole[0].network)
    assert len({h["valid_loss"] for h in whole[1]}) == 4


def test_a_run_that_was_done_goes_on_from_its_last_step(tmp_path: Path, whole: Any) -> None:
    Training(tmp_path).go()
    again = Training(tmp_path)
    assert again.go() == whole[1]
    assert again.record == []
    assert same(again.network, whole[0].network)


def test_the_newest_two_are_kept_and_nothing_hidden(tmp_path: Path) -> None:
    Training(tmp_path).go()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000011-0002", "000000012-0002"]
    assert sorted(p.name for p in (tmp_path / "000000012-0002").iterdir()) == [
        "best.safetensors",
        "optimizer.safetensors",
        "place.json",
        "weights.safetensors",
    ]


def damage(folder: Path, how: str) -> None:
    target = folder / "optimizer.safetensors"
    if how == "cut":
        target.write_bytes(target.read_bytes()[:-7])
    elif how == "flipped":
        data = bytearray(target.read_bytes())
        data[-5] ^= 1
        target.write_bytes(data)
    elif how == "gone":
        target.unlink()
    elif how == "json":
        (folder / "place.json").write_text('{"format": 1')
    else:
        (folder / "place.json").write_text('{"format": 99}')


@pytest.mark.parametrize("how", ["cut", "flipped", "gone", "json", "newer format"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(how: str, tmp_path: Path, whole: Any) -> None:
    killed = Training(tmp_path)
    stop_at(killed, 15)  # in step 8
    with pytest.raises(Killed):
        killed.go()
    damage(tmp_path / "000000007-0001", how)
    (tmp_path / ".000000008-0001.part").mkdir()  # half-written
    resumed = Training(tmp_path)
    assert resumed.go() == whole[1]
    assert resumed.record == whole[0].record[12:]
    assert same(resumed.network, whole[0].network)
    assert sorted(p.name for p in tmp_path.iterdir())[-1] == "000000012-0002"


def test_when_all_are_damaged_it_starts_again(tmp_path: Path, whole: Any) -> None:
    Training(tmp_path).go()
    for folder in tmp_path.iterdir():
        damage(folder, "cut")
    again = Training(tmp_path)
    again.go()
    assert again.record == whole[0].record
    assert same(again.network, whole[0].network)


@pytest.mark.parametrize("other", ["seed", "schedule", "what", "rate", "moving"])
def test_a_checkpoint_of_something_else_is_left_aside(other: str, tmp_path: Path) -> None:
    killed = Training(tmp_path)
    stop_at(killed, 9)
    with pytest.raises(Killed):
        killed.go()
    resumed = Training(tmp_path, seed=1 if other == "seed" else 0)
    if other == "rate":
        resumed.optimizer.param_groups[0]["lr"] = 0.04
    if other == "moving":
        resumed.network[0].bias.requires_grad_(False)  # type: ignore[union-attr]
    resumed.go(
        Schedule(3, accumulate=2, shape="cosine") if other == "schedule" else SCHEDULE,
        "other rows" if other == "what" else "",
    )
    assert len(resumed.record) == 24


def test_they_are_written_at_most_every_so_many_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, training = [0.0], Training(tmp_path, every=10)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    saved: list[int] = []
    save = checkpoint.Checkpoints.save
    monkeypatch.setattr(
        checkpoint.Checkpoints, "save", lambda self, place: (saved.append(place.step), save(self, place))
    )

    def before(calls: int) -> None:
        now[0] += 2  # two calls a step: 4 s a step

    training.before = before
    training.go()
    assert saved == [3, 6, 9, 12]


def test_writing_never_takes_more_than_a_twentieth_of_the_time(tmp_path: Path) -> None:
    kept = checkpoint.Checkpoints(
        Run(state=tmp_path, checkpoint_every=1),
        nn.Linear(1, 1),
        torch.optim.SGD([nn.Parameter(X)], lr=1),
        None,
        "",  # type: ignore[arg-type]
    )
    kept._written -= 30
    assert kept.due()
    kept._cost = 2.0
    assert not kept.due()
    kept._written -= 11
    assert kept.due()


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_without_room_there_are_no_checkpoints_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: Any
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage._replace(free=100))
    training = Training(tmp_path / "state", quiet=False)
    assert training.go() == whole[1]
    assert list((tmp_path / "state").iterdir()) == []
    said = capsys.readouterr().err
    assert said.count("no checkpoints: one needs 0 MB and 0 MB are free in") == 1


def test_older_ones_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)

    def free(path: Path) -> Any:
        return usage._replace(free=100 if len(list(tmp_path.glob("0*"))) > 1 else 10**9)

    monkeypatch.setattr(checkpoint.shutil, "disk_usage", free)
    Training(tmp_path).go()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000011-0002", "000000012-0002"]


@pytest.mark.parametrize("broken", ["replace", "fsync", "open"])
def test_a_disk_that_is_full_does_not_end_the_run(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: Any
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    training = Training(tmp_path, quiet=False)

    def before(calls: int) -> None:
        if calls == 12:
            if broken == "open":
                monkeypatch.setattr(checkpoint, "_write", full)
            else:
                monkeypatch.setattr(os, broken, full)

    training.before = before
    assert training.go() == whole[1]
    monkeypatch.undo()
    assert capsys.readouterr().err.count("nothing more is kept to resume from (No space left on device)") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000005-0001", "000000006-0001"]
    resumed = Training(tmp_path)
    resumed.go()
    assert resumed.record == whole[0].record[12:]
    assert same(resumed.network, whole[0].network)


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint(tmp_path: Path, whole: Any) -> None:
    stopped = Training(tmp_path, every=1000)
    stopped.before = lambda calls: signal.raise_signal(signal.SIGINT) if calls == 12 else None
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stopped.go()
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(stopped.record) == 14  # the step has two batches
    assert [p.name for p in tmp_path.iterdir()] == ["000000007-0001"]
    resumed = Training(tmp_path)
    assert resumed.go() == whole[1]
    assert same(resumed.network, whole[0].network)


def test_ctrl_c_while_rows_held_out_are_judged(tmp_path: Path, whole: Any) -> None:
    stopped = Training(tmp_path, every=1000)
    evaluate, calls = stopped.evaluate, []

    def slow() -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate()

    stopped.evaluate = slow  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stopped.go()
    assert [p.name for p in tmp_path.iterdir()] == ["000000008-0001"]
    resumed = Training(tmp_path)
    assert resumed.go() == whole[1]
    assert resumed.record == whole[0].record[16:]
    assert same(resumed.network, whole[0].network)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    stopped = Training(tmp_path, every=1000)

    def before(calls: int) -> None:
        if calls >= 12:
            signal.raise_signal(signal.SIGINT)

    stopped.before = before
    with pytest.raises(AtOnce):
        stopped.go()
    assert len(stopped.record) == 13
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_says_where_it_stands(tmp_path: Path) -> None:
    killed = Training(tmp_path)
    stop_at(killed, 11)
    with pytest.raises(Killed):
        killed.go()
    about = json.loads((tmp_path / "000000005-0001" / "place.json").read_text())
    assert (about["step"], about["epoch"], about["batch"]) == (5, 1, 2)
    assert [h["step"] for h in about["history"]] == [0, 4]
