"""What every backbone shares: frozen means frozen whoever calls `train()` (case F5), identity, batches by budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny_models
from acclimate.backbones.base import Backbone, budgeted
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS


@pytest.fixture
def cnn() -> tiny_models.TinyCnn:
    """A CNN whose statistics have seen data of mean 0, as after pretraining."""
    torch.manual_seed(3)
    net = tiny_models.TinyCnn()
    net.train()
    for _ in range(5):
        net({"pixels": torch.randn(16, 1, 8, 8)})
    return net.eval()


def problem(cnn: Backbone, data: tiny_models.Data) -> Problem:
    task = TASKS["classify"]
    assert data.labels is not None
    return Problem(task, task.decoder(data.labels, "str"), cnn, Store(cnn, Run()))


@pytest.mark.parametrize("strategy", ["linear_probe", "knn", "centroid"])
def test_nothing_moves_on_data_of_another_mean_even_in_training_mode(strategy: str, cnn: tiny_models.TinyCnn) -> None:
    before = tiny_models.state(cnn)
    data = tiny_models.pictures(40, shift=7.0)
    asked = problem(cnn, data)
    fitted = named(strategy)[1].fit(asked, Splits(data), Run())
    assert fitted.backbone is cnn
    assert tiny_models.same_state(cnn, before)

    cnn.train()
    for _ in range(3):
        cnn(cnn.collate(cnn.encode(data.inputs)))
    network = asked.task.attach(cnn, asked.decoder).train()
    network(cnn.collate(cnn.encode(data.inputs)))
    assert tiny_models.same_state(cnn, before)


def test_training_mode_changes_no_feature_of_a_frozen_network(cnn: tiny_models.TinyCnn) -> None:
    data = tiny_models.pictures(12)
    frozen = Store(cnn, Run())
    first = frozen.get(data.inputs)
    cnn.train()
    with torch.no_grad():
        again = cnn(cnn.collate(cnn.encode(data.inputs))).numpy()
    np.testing.assert_allclose(first, again, atol=1e-6)


def test_features_of_an_image_do_not_depend_on_its_batch_mates(cnn: tiny_models.TinyCnn) -> None:
    data = tiny_models.pictures(20)
    together = Store(cnn, Run()).get(data.inputs)
    beside_bright_ones = Store(cnn, Run()).get([*tiny_models.pictures(20, shift=50.0).inputs, *data.inputs])[20:]
    np.testing.assert_allclose(together, beside_bright_ones, atol=1e-6)


def test_fingerprint_reads_scalar_buffers(cnn: tiny_models.TinyCnn) -> None:
    before = cnn.fingerprint()
    assert cnn.clone().fingerprint() == before
    cnn.stages[0][1].num_batches_tracked += 1  # type: ignore[index, operator]
    assert cnn.fingerprint() != before


def test_stem_and_top_of_a_network_without_either(cnn: tiny_models.TinyCnn) -> None:
    assert cnn.stem_and_top() == ([], [])


@pytest.mark.parametrize(
    ("costs", "budget", "most", "expected"),
    [
        ([], 8, 4, []),
        ([100], 8, 4, [[0]]),  # one row at least
        ([3, 3, 3, 3], 6, 4, [[0, 1], [2, 3]]),
        ([1, 1, 1, 1, 1], 100, 2, [[0, 1], [2, 3], [4]]),
        ([9, 1, 1], 9, 9, [[1, 2], [0]]),
    ],
)
def test_batches_by_budget(costs: list[int], budget: int, most: int, expected: list[list[int]]) -> None:
    assert budgeted(costs, budget, most) == expected
