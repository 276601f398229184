"""Adaptation of a moving backbone by its own answers: what it reads, that it goes on bit for bit, and its formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import backbones
from acclimate import model as bundles
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, consistency, named
from acclimate.strategies.consistency import Consistency
from acclimate.strategies.learner import Learner, Rows, Turns, infomax, settle
from acclimate.strategies.sourcefree import pseudo_labels
from acclimate.tasks.base import Network
from acclimate.tasks.heads import LinearHead

SMALL = Consistency(steps=12, target_steps=6, batch_size=16)


def pictures(n: int, seed: int, *, faint: bool = False) -> Data:
    """Bars lying or standing; on the target fainter, thicker and noisier."""
    rng = np.random.default_rng(seed)
    rows = rng.random((n, 8, 8)) * (0.3 if faint else 0.05)
    labels = rng.integers(0, 2, n)
    for picture, standing, at in zip(rows, labels, rng.integers(2, 5, n), strict=True):
        bar = (slice(1, 7), slice(at, at + 1 + faint))
        picture[bar if standing else bar[::-1]] += 0.5 if faint else 0.9
    return Data(tuple(rows), tuple("standing" if y else "lying" for y in labels))


SOURCE, TARGET = pictures(64, 0), pictures(48, 1, faint=True)


def problem(run: Run | None = None) -> Problem:
    return tm.problem_of("classify", SOURCE, "str", backbones.load("small-cnn"), run or Run())


def fitted(strategy: Consistency, target: Data = TARGET, run: Run | None = None) -> Any:
    run = run or Run()
    return strategy.fit(problem(run), Splits(SOURCE, target=target), run)


def test_it_learns_the_target_without_its_labels_and_the_bundle_is_whole(tmp_path: Path) -> None:
    found = fitted(replace(SMALL, steps=60, target_steps=30))
    logits = found.logits(list(TARGET.inputs))
    right = np.array([found.decoder.classes[i] for i in logits.argmax(1)]) == np.array(TARGET.labels)
    assert right.mean() > 0.95
    again = bundles.load(found.save(tmp_path / "model"))
    assert np.array_equal(again.logits(list(TARGET.inputs)), logits)
    assert named("consistency", found.settings)[1] == replace(SMALL, steps=60, target_steps=30)
    assert found.notes[0] == "44,704 of 44,704 backbone parameters moved (all)"


@pytest.mark.parametrize("teacher", ["self", "ema"])
def test_labels_of_the_target_are_never_read_and_the_backbone_given_stays(teacher: str) -> None:
    given = problem()
    before = tm.state(given.network()[0])
    strategy = replace(SMALL, teacher=teacher)
    one = strategy.fit(given, Splits(SOURCE, target=TARGET), Run()).logits(list(TARGET.inputs))
    assert tm.same_state(given.network()[0], before)
    other = fitted(strategy, replace(TARGET, labels=(TARGET.labels or ())[::-1])).logits(list(TARGET.inputs))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, fitted(strategy, run=Run(seed=1)).logits(list(TARGET.inputs)))


def test_the_generator_outside_is_left_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fitted(replace(SMALL, steps=2, target_steps=2))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(("teacher", "align"), [("self", "mcc"), ("ema", "dann")])
@pytest.mark.parametrize(
    "stop", [7, pytest.param(16, marks=pytest.mark.real)]
)  # in the first half, and in the second one between two guesses
def test_a_killed_run_goes_on_bit_for_bit(
    teacher: str, align: str, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = replace(SMALL, teacher=teacher, align=align, restarts=1)
    expected = fitted(strategy).logits(list(TARGET.inputs))
    steps: list[int] = []
    follow = Learner.follow

    def counted(self: Learner, step: int) -> None:
        steps.append(step)
        if len(steps) == stop:
            raise RuntimeError("killed")
        follow(self, step)

    run = Run(state=tmp_path, checkpoint_every=0)
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "follow", counted)
        with pytest.raises(RuntimeError, match="killed"):
            fitted(strategy, run=run)
    assert any(tmp_path.rglob("place.json"))
    assert np.array_equal(fitted(strategy, run=run).logits(list(TARGET.inputs)), expected)


def test_the_restart_with_the_most_information_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.2, 0.6, 0.4])
    monkeypatch.setattr(consistency, "infomax", lambda *_: next(values))
    found = fitted(replace(SMALL, steps=2, then="none", restarts=3))
    assert found.notes[1] == "restart 2 of 3 is kept, mutual information of target rows and answers 0.6000"


def test_without_shot_the_head_moves_and_with_it_only_before() -> None:
    first = fitted(replace(SMALL, then="none"))
    both = fitted(SMALL)
    assert torch.equal(first.head.weight, both.head.weight)
    assert not torch.equal(next(first.backbone.parameters()), next(both.backbone.parameters()))
    assert first.history == both.history[: len(first.history)]


def test_top_k_moves_the_last_blocks_alone() -> None:
    found = fitted(replace(SMALL, moves="top:1", steps=4, target_steps=3))
    assert {n for n in found.trained if not n.startswith("backbone.model.3.")} == {"head.weight", "head.bias"}


def test_what_it_cannot_do_is_said(shared_bert: Any) -> None:
    texts = tm.rows(16)
    given = tm.problem_of("classify", texts, "str", shared_bert.clone().requires_grad_(False), Run())
    with pytest.raises(
        UserError, match="reads text and has no random changes .* which augment and the strategy consistency need"
    ):
        SMALL.fit(given, Splits(texts, target=texts), Run())
    with pytest.raises(UserError, match="give them with --target-data"):
        SMALL.fit(problem(), Splits(SOURCE), Run())
    numbers = replace(SOURCE, labels=tuple(float(i) for i in range(len(SOURCE))))
    regress = tm.problem_of("regress", numbers, "float", backbones.load("small-cnn"), Run())
    with pytest.raises(UserError, match="the task is regress"):
        SMALL.fit(regress, Splits(numbers, target=TARGET), Run())


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"align": "corral"}, "did you mean 'coral'"),
        ({"moves": "some"}, "give all or top:K"),
        ({"restarts": 0}, "restarts=0 must be above 0"),
        ({"beta": -1.0}, "beta=-1.0 must be 0 or more"),
        ({"confidence": 1.0}, "must be at least 0 and below 1"),
    ],
)
def test_settings_that_are_none(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Consistency(**setting)


def test_nearest_centroids_are_those_of_slow_loops() -> None:
    rng = np.random.default_rng(0)
    f, p = rng.normal(size=(12, 3)), rng.dirichlet([1, 1, 1, 0.01], 12)
    unit = [np.append(row, 1) / math.sqrt(sum(v * v for v in row) + 1) for row in f]
    labels = [int(np.argmax(row)) for row in p]
    for _ in range(2):
        centroids = {}
        for k in set(labels):
            total = sum(p[i][k] * unit[i] for i in range(12))
            centroids[k] = total / np.sqrt(total @ total)
        labels = [max(sorted(centroids), key=lambda k: float(unit[i] @ centroids[k])) for i in range(12)]
        p = np.eye(4)[labels]
    rng = np.random.default_rng(0)
    f, p = rng.normal(size=(12, 3)), rng.dirichlet([1, 1, 1, 0.01], 12)
    assert pseudo_labels(torch.from_numpy(f), torch.from_numpy(p).float()).tolist() == labels


def test_turns_give_every_target_row_its_turn_and_random_numbers_of_its_own() -> None:
    turns = Turns.drawn(5, 7, 3, 9, seed=1)
    assert (turns.steps, turns.epochs) == (3, 3)
    assert sorted(turns.target[:7]) == list(range(7)) and sorted(turns.source[:5]) == list(range(5))
    batches = [batch for epoch in range(3) for batch in turns.epoch(epoch)]
    assert batches == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(9)]
    assert [turns.progress(b) for b in batches] == [i / 8 for i in range(9)]
    drawn = [float(torch.rand(1, generator=turns.generator(b))) for b in batches]
    assert len(set(drawn)) == 9
    assert drawn == [float(torch.rand(1, generator=turns.generator(b))) for b in batches]


def network_and_rows() -> tuple[Network, Rows]:
    backbone = backbones.load("small-cnn").requires_grad_(True)
    head = LinearHead(backbone.width, 2)
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
    return Network(backbone, head).eval(), Rows.of(problem(), SOURCE, TARGET, backbone)


def test_the_teacher_is_the_moving_average_once_a_step_and_answers_with_its_own_weights() -> None:
    network, rows = network_and_rows()
    learner = Learner(network, None, True, 0.9, 0).train()
    start = network.head.weight.detach().clone()
    with torch.no_grad():
        network.head.weight.add_(1.0)
    for _ in range(2):  # the second call of the same step changes nothing
        learner.follow(1)
    share = 1 - 2 / 11
    batch = rows.plain("cpu")[0]
    moved = network(batch)
    taught = learner.taught(batch, moved.logits)
    expected = moved.features @ (start + share).T + network.head.bias
    torch.testing.assert_close(taught, expected, atol=1e-4, rtol=1e-4)
    learner.finish()
    torch.testing.assert_close(network.head.weight, start + share + (1 - 3 / 12) * (1 - share), atol=1e-5, rtol=0)


def test_statistics_become_those_of_the_target() -> None:
    network, rows = network_and_rows()
    settle(network, rows, "cpu")
    first: Any = network.backbone.blocks[0]
    (batch,) = rows.plain("cpu")
    seen = first[0](batch["pixels"])
    torch.testing.assert_close(first[1].running_mean, seen.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    assert first[1].momentum == 0.1 and not first[1].training
    before = tm.state(network.requires_grad_(False))
    settle(network, rows, "cpu")
    assert tm.same_state(network, before)  # what is frozen stays


def test_infomax_is_the_entropy_of_the_mean_less_the_mean_entropy() -> None:
    network, rows = network_and_rows()
    with torch.no_grad():
        p = torch.softmax(network(rows.plain("cpu")[0]).logits.double(), 1).numpy()
    mean = p.mean(0)
    expected = -sum(q * math.log(q) for q in mean) + sum(q * math.log(q) for row in p for q in row) / len(p)
    assert infomax(network, rows, "cpu") == pytest.approx(expected, abs=1e-5)
