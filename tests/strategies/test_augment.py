"""Random changes of training inputs: told by seed and rows, none where nothing learns, none kept of frozen blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from acclimate.backbones import load
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits
from acclimate.strategies.inputs import Inputs
from acclimate.strategies.tune import Tune
from acclimate.tasks import TASKS
from drawn import bars


def problem_of(count: int = 24) -> tuple[Problem, Data]:
    pixels, labels = bars(count, side=12)
    data = Data(tuple(pixels), tuple(labels), kind="image")
    backbone, task = load("small-cnn:12"), TASKS["classify"]
    return Problem(task, task.decoder(labels, "str"), backbone, Store(backbone, Run())), data


def test_a_batch_is_changed_by_its_rows_and_the_seed_alone() -> None:
    problem, data = problem_of()
    seen: list[torch.Tensor] = []

    class Looking(torch.nn.Module):
        def forward(self, batch: dict[str, torch.Tensor]) -> None:
            seen.append(batch["pixels"].clone())

    def read(seed: int, at: list[int], strength: float, learning: bool = True, step: int = 0) -> torch.Tensor:
        rows = Inputs(problem, data, problem.network()[0], Run(seed=seed))
        rows.augment = strength
        with rows.during(step):
            rows._judged(Looking().train(learning), at, {})  # type: ignore[arg-type]
        return seen.pop()

    plain = read(0, [0, 1, 2], 0.0)
    changed = read(0, [0, 1, 2], 0.7)
    assert not torch.equal(plain, changed)
    assert torch.equal(changed, read(0, [0, 1, 2], 0.7))
    assert not torch.equal(changed, read(1, [0, 1, 2], 0.7))
    assert not torch.equal(changed, read(0, [0, 1, 2], 0.7, step=1))
    torch.testing.assert_close(changed[2], read(0, [2, 5], 0.7)[0])  # whatever stands beside a row
    assert torch.equal(plain, read(0, [0, 1, 2], 0.7, learning=False))


def test_training_with_changes_is_the_same_for_the_same_seed() -> None:
    problem, data = problem_of()
    tune = Tune(augment=0.5, num_train_epochs=2, learning_rate=1e-3)
    fitted = [tune.fit(problem, Splits(data), Run()).logits(data.inputs) for _ in range(2)]
    np.testing.assert_array_equal(*fitted)
    without = Tune(num_train_epochs=2, learning_rate=1e-3).fit(problem, Splits(data), Run()).logits(data.inputs)
    assert np.abs(fitted[0] - without).max() > 1e-4


def test_frozen_blocks_are_read_anew_and_it_is_said() -> None:
    problem, data = problem_of()
    fitted = Tune(moves="top:1", augment=0.5, num_train_epochs=2).fit(problem, Splits(data), Run())
    assert any("is not kept: inputs are changed at random" in note for note in fitted.notes)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="augment=2"):
        Tune(augment=2)


def test_random_weights_learn_faster_unless_a_rate_is_given() -> None:
    problem, data = problem_of()
    usual = Tune(num_train_epochs=1).fit(problem, Splits(data), Run())
    assert usual.settings["learning_rate"] == 2e-3
    same = Tune(num_train_epochs=1, learning_rate=2e-3).fit(problem, Splits(data), Run())
    np.testing.assert_array_equal(usual.logits(data.inputs), same.logits(data.inputs))
    slow = Tune(num_train_epochs=1, learning_rate=5e-5).fit(problem, Splits(data), Run())
    assert np.abs(usual.logits(data.inputs) - slow.logits(data.inputs)).max() > 1e-3


def test_adapters_want_a_pretrained_network() -> None:
    problem, data = problem_of()
    with pytest.raises(UserError, match=r"small-cnn:12' is a small one of plain layers; use full"):
        Tune(moves="lora").fit(problem, Splits(data), Run())
