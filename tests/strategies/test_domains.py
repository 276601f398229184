"""Which rows each step reads, and the formulas of pseudo-labels, written out as slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from acclimate.align import ALIGNMENTS
from acclimate.align.base import reversal_strength
from acclimate.errors import UserError
from acclimate.strategies.adapt import Adapt, parsed
from acclimate.strategies.domains import Slots
from acclimate.strategies.selftrain import SelfTrain, surest
from acclimate.strategies.sourcefree import Shot, pseudo_labels


@pytest.mark.parametrize(("n", "m", "size"), [(65, 40, 16), (7, 100, 3), (1, 1, 8), (64, 1, 64), (10, 10, 10)])
def test_an_epoch_reads_every_source_row_once_and_the_target_round_and_round(n: int, m: int, size: int) -> None:
    """A3."""
    slots = Slots(n, m, size, epochs=4, seed=1)
    read: list[int] = []
    for epoch in range(4):
        batches = slots.epoch(epoch)
        assert len(batches) == math.ceil(n / size)
        lengths = [len(b) for b in batches]
        assert max(lengths) <= size
        assert max(lengths) - min(lengths) <= 1
        flat = [s for b in batches for s in b]
        assert sorted(slots.source(flat).tolist()) == list(range(n))
        read += slots.target(flat).tolist()
    whole = len(read) // m * m
    for start in range(0, whole, m):
        assert sorted(read[start : start + m]) == list(range(m))
    if n > 10:
        assert slots.source(slots.epoch(0)[0]).tolist() != slots.source(slots.epoch(1)[0]).tolist()


def test_progress_is_the_share_of_steps_that_are_done_whoever_asks_how_often() -> None:
    """A5: from 0, and the same for half a batch, for a step that is done anew, and in another order of asking."""
    slots = Slots(10, 5, 4, epochs=2, seed=0)
    steps = slots.epoch(0) + slots.epoch(1)
    assert [slots.progress(b[0]) for b in steps] == pytest.approx([i / 6 for i in range(6)])
    for i, batch in reversed(list(enumerate(steps))):
        assert {slots.progress(s) for s in batch} == {i / 6}
    assert reversal_strength(slots.progress(0)) == 0.0
    assert reversal_strength(1.0) == pytest.approx(0.9999, abs=1e-4)


def test_pseudo_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(12, 3, generator=generator)
    p = torch.softmax(2 * torch.randn(12, 3, generator=generator), 1)
    unit = []
    for row in h.tolist():
        longer = [*row, 1.0]
        length = math.sqrt(sum(v * v for v in longer))
        unit.append([v / length for v in longer])
    mass, labels = p.tolist(), p.argmax(1).tolist()
    for _ in range(2):
        near = []
        for i in range(12):
            cosines = []
            for k in range(3):
                total = sum(mass[j][k] for j in range(12))
                centre = [sum(mass[j][k] * unit[j][c] for j in range(12)) / max(total, 1e-8) for c in range(4)]
                size = math.sqrt(sum(c * c for c in centre))
                dot = sum(a * b for a, b in zip(unit[i], centre, strict=True))
                cosines.append(dot / size if k in labels else -math.inf)
            near.append(int(np.argmax(cosines)))
        labels = near
        mass = [[float(k == y) for k in range(3)] for y in labels]
    assert pseudo_labels(h, p).tolist() == labels
    assert len(set(labels)) > 1


def test_a_class_without_rows_takes_none() -> None:
    p = torch.tensor([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0]])
    assert 2 not in pseudo_labels(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), p).tolist()


def test_the_surest_rows_of_each_class() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4], [0.51, 0.49]])
    assert surest(p, np.array([2.0, 2.0])).tolist() == [0, 1, 2]
    assert surest(p, np.array([2.2, 0.0])).tolist() == [0, 2, 3]  # a limit is rounded up
    assert surest(p, np.array([9.0, 9.0])).tolist() == [0, 1, 2, 3, 4]
    assert surest(p[:0], np.array([1.0, 1.0])).tolist() == []
    tied = np.full((4, 2), 0.5)
    assert surest(tied, np.array([2.0, 2.0])).tolist() == [0, 1]


def test_an_alignment_is_given_with_its_settings() -> None:
    assert parsed("dann") == (ALIGNMENTS["dann"], {})
    assert parsed("dann:hidden=64,reversal=0.5")[1] == {"hidden": 64, "reversal": 0.5}
    assert parsed("cdan:entropy=false")[1] == {"entropy": False}


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (Adapt, {"align": "corral"}, "unknown alignment 'corral'; did you mean 'coral'"),
        (Adapt, {"align": "mcc:temprature=2"}, "did you mean 'temperature'"),
        (Adapt, {"align": "mcc:temperature=0"}, "temperature is 0"),
        (Adapt, {"align": "mcc:temperature=warm"}, "temperature"),
        (Adapt, {"weight": -1.0}, "λ in L_source"),
        (Adapt, {"weight_schedule": "fall"}, "weight_schedule"),
        (Adapt, {"standardise": "none"}, "standardise"),
        (Adapt, {"bottleneck": 0}, "1 or more"),
        (Adapt, {"learning_rate": 0.0}, "above 0"),
        (Adapt, {"dropout": 1.0}, "below 1"),
        (Adapt, {"num_train_epochs": 0}, "1 or more"),
        (Adapt, {"weight_decay": -0.1}, "0 or more"),
        (Shot, {"beta": -0.1}, "0 or more"),
        (Shot, {"class_shares": "known"}, "class_shares"),
        (Shot, {"target_rate": 0.0}, "above 0"),
        (Shot, {"target_epochs": 0}, "1 or more"),
        (SelfTrain, {"share": 0.0}, "above 0"),
        (SelfTrain, {"rounds": -1}, "0 or more"),
        (SelfTrain, {"strength": 0.0}, "above 0"),
        (SelfTrain, {"weight": float("nan")}, "0 or more"),
        (SelfTrain, {"inner_folds": 1}, "2 or more"),
        (SelfTrain, {"class_shares": "known"}, "class_shares"),
    ],
)
def test_settings_without_a_meaning_are_refused(kind: type, settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        kind(**settings)
