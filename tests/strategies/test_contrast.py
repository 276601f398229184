"""Contrastive tuning: both losses against slow loops, fair draws in linear memory, and all that a strategy promises."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import tiny_models as tm
from acclimate import backbones
from acclimate import model as bundles
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import Splits, named
from acclimate.strategies.contrast import LOSSES, Contrast, draw, usual_steps
from acclimate.strategies.probe import Probe
from stopping import killed_at

RUN = Run(seed=3)
LABELS = ("neutral", "bad", "good")
DATA, NEW = tm.rows(18, labels=LABELS), tm.rows(12, labels=LABELS, seed=1).inputs
SMALL = Contrast(moves="all", steps=4, batch_size=6, learning_rate=1e-3)


def fit(strategy: Any, backbone: Any, run: Run = RUN, data: Data = DATA, **more: Any) -> Predictor:
    problem = tm.problem_of("classify", data, "str", backbone, run, **more)
    found: Predictor = strategy.fit(problem, Splits(data), run)
    return found


def equal(one: Predictor, other: Predictor) -> bool:
    assert other.backbone is not None
    return tm.same_state(one.backbone, tm.state(other.backbone)) and tm.same_state(one.head, tm.state(other.head))


def slow_supcon(z: list[list[float]], codes: list[int], temperature: float) -> list[float]:
    found = []
    for i, code in enumerate(codes):
        up = [math.exp(sum(a * b for a, b in zip(z[i], other, strict=True)) / temperature) for other in z]
        whole = sum(value for a, value in enumerate(up) if a != i)
        same = [p for p in range(len(z)) if p != i and codes[p] == code]
        found.append(-sum(math.log(up[p] / whole) for p in same) / len(same) if same else 0.0)
    return found


def slow_cosine(z: list[list[float]], codes: list[int], temperature: float) -> list[float]:
    found = []
    for i, code in enumerate(codes):
        total = 0.0
        for alike in (True, False):
            others = [j for j in range(len(z)) if j != i and (codes[j] == code) == alike]
            wrong = [(sum(a * b for a, b in zip(z[i], z[j], strict=True)) - alike) ** 2 for j in others]
            total += sum(wrong) / len(wrong) if wrong else 0.0
        found.append(total)
    return found


@pytest.mark.parametrize("codes", [[0, 1, 0, 2, 1, 0], [0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, 1]])
@pytest.mark.parametrize(("name", "slow"), [("supcon", slow_supcon), ("cosine", slow_cosine)])
def test_a_loss_is_its_formula_as_a_slow_loop(name: str, slow: Any, codes: list[int]) -> None:
    raw = torch.tensor(np.random.default_rng(0).normal(size=(6, 4)), requires_grad=True)
    z = F.normalize(raw, dim=1)
    found = LOSSES[name](z, torch.tensor(codes), 0.3)
    assert found.tolist() == pytest.approx(slow(z.tolist(), codes, 0.3), abs=1e-9)
    found.sum().backward()
    assert raw.grad is not None and bool(torch.isfinite(raw.grad).all())


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_row_alone_costs_nothing(name: str) -> None:
    z = torch.ones(1, 4, requires_grad=True)
    found = LOSSES[name](F.normalize(z, dim=1), torch.tensor([2]), 0.1)
    assert found.tolist() == [0.0]
    found.sum().backward()
    assert z.grad is not None and z.grad.tolist() == [[0.0] * 4]


def test_draws_are_fair() -> None:
    """Classes share a batch alike, whatever their size; no row comes twice in one; all of a class come as often."""
    codes = np.array([0] * 7 + [1] * 50 + [2])
    batches = draw(codes, 9, 140, seed=5)
    for batch in batches:
        assert len(set(batch.tolist())) == len(batch)
        assert Counter(codes[batch].tolist()) == {0: 3, 1: 3, 2: 1}  # the class of one row gives what it has
    often = Counter(np.concatenate(batches).tolist())
    assert {often[i] for i in range(7)} == {60}  # 140 · 3 / 7
    assert {often[i] for i in range(7, 57)} <= {8, 9}  # 140 · 3 / 50 = 8.4
    assert all(np.array_equal(a, b) for a, b in zip(batches, draw(codes, 9, 140, seed=5), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(batches, draw(codes, 9, 140, seed=6), strict=True))


def test_many_classes_take_turns_two_rows_each() -> None:
    codes = np.repeat(np.arange(10), 6)
    batches = draw(codes, 8, 5, seed=0)
    assert [sorted(Counter(codes[batch].tolist()).values()) for batch in batches] == [[2] * 4] * 5
    assert Counter(codes[np.concatenate(batches)].tolist()) == dict.fromkeys(range(10), 4)
    assert [len(batch) for batch in draw(np.array([0, 1]), 16, 3, seed=0)] == [2, 2, 2]  # all there are


def test_drawing_from_800_000_rows_takes_memory_in_proportion() -> None:
    """Bytes a row, not rows squared; pairs would be 160,000 million."""
    peaks = []
    for rows in (200_000, 800_000):
        codes = np.random.default_rng(0).integers(0, 4, rows)
        tracemalloc.start()
        batches = draw(codes, 16, 100, seed=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(map(len, batches)) == 1600
    assert peaks[1] < 64 * 800_000
    assert peaks[1] < 4.5 * peaks[0]


def test_only_rows_that_have_a_turn_are_encoded_to_learn_from(
    shared_bert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tm.rows(60)
    encoded: list[int] = []
    encode = type(shared_bert).encode

    def counted(self: Any, inputs: Any) -> Any:
        encoded.append(len(inputs))
        return encode(self, inputs)

    monkeypatch.setattr(type(shared_bert), "encode", counted)
    fit(replace(SMALL, steps=2), shared_bert, data=data)
    assert encoded[0] == 12  # 2 steps of 6; the probe reads all of them later


def test_steps_grow_with_the_rows_up_to_a_bound() -> None:
    assert [usual_steps(rows) for rows in (2, 16, 128, 1000, 800_000)] == [10, 10, 28, 79, 100]


@pytest.mark.parametrize("loss", list(LOSSES))
def test_rows_of_one_class_lie_together_afterwards(loss: str, shared_bert: Any) -> None:
    before = tm.state(shared_bert)
    found = fit(replace(SMALL, loss=loss, steps=20), shared_bert)
    assert tm.same_state(shared_bert, before)
    codes = np.array([LABELS.index(str(y)) for y in DATA.labels or ()])
    gaps = []
    for backbone in (shared_bert, found.backbone):
        with torch.no_grad():
            z = F.normalize(backbone(backbone.collate(backbone.encode(DATA.inputs))), dim=1).numpy()
        cos, same = z @ z.T, codes[:, None] == codes
        gaps.append(cos[same & ~np.eye(18, dtype=bool)].mean() - cos[~same].mean())
    assert gaps[1] > gaps[0] + 0.05  # by .10 to .27 over eight seeds
    answers = [found.decoder.classes[i] for i in found.logits(DATA.inputs).argmax(1)]
    assert answers == list(DATA.labels or ())


def test_the_head_is_the_probe_of_the_moved_features(shared_bert: Any) -> None:
    found = fit(SMALL, shared_bert)
    assert found.backbone is not None
    expected = fit(Probe(), found.backbone.clone().requires_grad_(False))
    assert tm.same_state(found.head, tm.state(expected.head))
    assert {n for n in found.trained if not n.startswith("backbone.")} == {"head.weight", "head.bias"}
    assert fit(replace(SMALL, strength=0.5), shared_bert).settings["strength"] == 0.5


@pytest.mark.parametrize("moves", ["top:1", "lora"])
def test_a_killed_run_goes_on_bit_for_bit_and_is_saved_whole(moves: str, shared_bert: Any, tmp_path: Path) -> None:
    strategy = replace(SMALL, moves=moves)
    whole, run = fit(strategy, shared_bert), replace(RUN, state=tmp_path / "state", checkpoint_every=0.0)
    killed_at(3, lambda: fit(strategy, shared_bert, run))
    resumed = fit(strategy, shared_bert, run)
    assert equal(resumed, whole)
    assert resumed.history == whole.history
    again = bundles.load(resumed.save(tmp_path / "model"))
    assert np.array_equal(again.logits(NEW), whole.logits(NEW))
    assert (again.adapter is None) == (moves != "lora")
    assert not equal(whole, fit(strategy, shared_bert, replace(RUN, seed=4)))


def test_word_vectors_stay_unless_all_is_asked_for(shared_bert: Any, folder_of: Any) -> None:
    found = fit(replace(SMALL, moves="blocks", steps=2), shared_bert)
    before, after = tm.state(shared_bert), tm.state(found.backbone)
    stem = {n for n in before if n.startswith("model.embeddings.")}
    assert stem and all(torch.equal(before[n], after[n]) for n in stem)
    assert all(not torch.equal(before[n], after[n]) for n in before if n.endswith("query.weight"))
    assert found.settings["moves"] == "blocks"
    shared = backbones.load(str(folder_of("albert")))  # one block, used again and again: all moves
    assert any("embeddings" in n for n in fit(replace(SMALL, moves="blocks", steps=2), shared).trained)


def test_kept_output_of_frozen_blocks_changes_nothing_that_counts(shared_bert: Any) -> None:
    strategy = replace(SMALL, moves="top:1", steps=12)
    found = fit(strategy, shared_bert)
    assert any("frozen blocks" in note for note in found.notes)


def test_weights_count_by_their_ratios(shared_bert: Any) -> None:
    plain, weights = fit(SMALL, shared_bert), np.linspace(0.5, 2.0, len(DATA))
    one, other = (fit(SMALL, shared_bert, data=replace(DATA, weights=weights * factor)) for factor in (1.0, 4.0))
    assert not equal(plain, one)
    assert equal(one, other)
    nothing = fit(SMALL, shared_bert, data=replace(DATA, weights=np.r_[np.zeros(3), np.ones(15)]))
    assert equal(nothing, fit(SMALL, shared_bert, data=DATA.take(range(3, 18))))


def test_a_class_of_one_row_and_batches_of_two(shared_bert: Any) -> None:
    data = Data(DATA.inputs[:7], ("bad",) * 3 + ("good",) * 3 + ("neutral",))
    found = fit(replace(SMALL, batch_size=2, steps=5), shared_bert, data=data)
    assert np.isfinite(found.logits(NEW)).all()


def test_pictures_are_pulled_together_too() -> None:
    data, backbone = tm.pictures(24), tm.TinyCnn()
    found = fit(Contrast(steps=60, batch_size=16, learning_rate=1e-2), backbone, data=data)
    new = tm.pictures(40, seed=1)
    answers = [found.decoder.classes[i] for i in found.logits(new.inputs).argmax(1)]
    assert np.mean([a == y for a, y in zip(answers, new.labels or (), strict=True)]) > 0.8


@pytest.mark.parametrize("task", ["multilabel", "regress"])
def test_tasks_without_one_class_a_row_are_refused(task: str, shared_bert: Any) -> None:
    data, kind = tm.task_rows(task, 12)
    problem = tm.problem_of(task, data, kind, shared_bert, RUN)
    with pytest.raises(UserError, match=f"for {task} there is no one class a row; choose lp_ft"):
        SMALL.fit(problem, Splits(data), RUN)


def test_what_makes_no_sense_is_refused() -> None:
    for settings, match in (
        ({"loss": "triplet"}, "unknown loss 'triplet'"),
        ({"batch_size": 1}, "batch_size=1 must be 2 or more"),
        ({"temperature": 0}, "temperature=0 must be above 0"),
        ({"steps": 0}, "steps=0 must be 1 or more"),
        ({"strength": -1.0}, "strength -1.0 must be above 0"),
        ({"moves": "none"}, "moves='none'"),
    ):
        with pytest.raises(UserError, match=match):
            named("contrastive", settings)


def test_what_a_fit_takes_is_foretold_and_touches_nothing(shared_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, before = tm.problem_of("classify", DATA, "str", shared_bert, RUN), tm.state(shared_bert)
    ticks = iter([0.0, 9.0, 10.0, 20.0, 30.0, 31.8])  # a step to warm up, five steps, 18 rows read
    monkeypatch.setattr("acclimate.strategies.contrast.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    seconds, a_row = replace(SMALL, steps=20).takes(problem, DATA, RUN)
    assert a_row == pytest.approx(0.1) and seconds == pytest.approx(10 / 5 * 20 + 0.1 * 18)
    assert tm.same_state(shared_bert, before)
