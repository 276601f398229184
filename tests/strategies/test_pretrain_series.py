"""Masked reconstruction: what is hidden is not seen, and something is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tiny_series as ts
from acclimate.backbones import load
from acclimate.backbones.base import Encoded
from acclimate.data.rows import Data
from acclimate.data.series import Series
from acclimate.errors import UserError
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.strategies.pretrain import check_pretrain
from acclimate.strategies.pretrain_series import Filler, MaskedSteps, _Windows
from acclimate.tasks import TASKS


def rows(n: int, seed: int = 0) -> tuple[Series, ...]:
    return tuple(Series(one) for one in ts.series(n, seed)[0])


@pytest.mark.parametrize("kind", ["series-cnn", "series-transformer"])
def test_the_network_sees_nothing_of_what_is_hidden(kind: str) -> None:
    backbone: Any = load(kind).fit_rows(rows(10))
    filler = Filler(backbone).eval()
    windows = _Windows(tuple(Encoded((p,), 1) for r in backbone.encode(rows(4)) for p in r.parts), 0.4, 3, filler.steps)
    mask = windows._hidden(1, 40)
    assert 0.25 <= mask.mean() <= 0.75 and np.array_equal(mask, windows._hidden(1, 40))
    assert not np.array_equal(mask, windows._hidden(1 + 4, 40))  # the same row in the next epoch
    batch = backbone.collate([windows.rows[1]])
    hidden = torch.from_numpy(mask)[None]
    other = {**batch, "values": torch.where(hidden[:, None], batch["values"] + 7, batch["values"])}
    seen = [backbone.read({**b, "values": b["values"] * ~hidden[:, None]}) for b in (batch, other)]
    assert torch.equal(*seen)
    assert not torch.equal(filler(batch, hidden), filler(other, hidden))  # what is filled in is judged by it


def test_hidden_steps_are_learned_from_unlabelled_series_before_tuning() -> None:
    values, labels = ts.series(24, 1)
    train = Data(tuple(Series(v) for v in values), tuple(labels), kind="series")
    backbone = load("series-transformer").fit_rows(train.inputs).requires_grad_(False)
    task = TASKS["classify"]
    problem = Problem(task, task.decoder(("fast", "slow"), "str"), backbone, Store(backbone, Run(cache=None)))
    _, strategy = named("full", {"pretrain": "masked_steps:epochs=15", "num_train_epochs": 2})
    splits = Splits(train, target=Data(rows(80, 5), kind="series"))
    fitted = strategy.fit(problem, splits, Run(cache=None))
    said = next(note for note in fitted.notes if "masked reconstruction" in note)
    before, after = (float(said.split(word)[1].split()[0].strip(";,")) for word in ("fell from", " to "))
    assert after < 0.8 * before, said
    assert backbone.untrained  # the one that was given stays as it was


def test_settings_are_checked() -> None:
    assert check_pretrain("masked_steps:mask=0.3") == MaskedSteps(mask=0.3)
    with pytest.raises(UserError, match="mask=1.5"):
        check_pretrain("masked_steps:mask=1.5")
    with pytest.raises(UserError, match="rows of masked_steps"):
        check_pretrain("masked_steps:rows=all")
