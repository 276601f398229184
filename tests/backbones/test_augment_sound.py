"""Random changes of sounds: none at strength 0, told by the generator, within their bounds, silence left silent."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
import tiny_sounds as ts
from acclimate.backbones import augment_sound as change
from acclimate.backbones import load
from acclimate.backbones.augment import STRENGTHS, strength_of
from acclimate.backbones.mel import log_mel
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Splits, named
from acclimate.strategies.inputs import Inputs

pytest.importorskip("soundfile", reason="sounds need the `audio` extra")
FIELDS = {"whisper": "mel", "resemblyzer": "windows"}  # of the others: values


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: ts.write(kind, tmp_path_factory.mktemp("augment") / kind) for kind in ts.KINDS}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_names_of_strengths() -> None:
    assert [strength_of(name) for name in ("light", "standard", "strong", 0.3)] == [0.25, 0.5, 1.0, 0.3]
    assert STRENGTHS == {"light": 0.25, "standard": 0.5, "strong": 1.0}
    with pytest.raises(UserError, match="unknown strength of augment 'storng'; did you mean 'strong'"):
        strength_of("storng")


def only(monkeypatch: pytest.MonkeyPatch, **left: float) -> None:
    """One change alone, at full strength."""
    for name, none in {"GAIN": 0.0, "DELAY": 0.0, "NOISE": math.inf, "BANDS": 0.0, "TIME": 0.0}.items():
        monkeypatch.setattr(change, name, left.get(name, none))


def test_each_change_of_samples_is_what_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    line = torch.sin(torch.arange(1000) * 0.3)[None].repeat(200, 1)
    sizes = torch.full((200,), 900)
    line[:, 900:] = 0
    only(monkeypatch, GAIN=12.0)
    ratio = change.waves(line, sizes, seeded(), 1.0)[:, 1] / line[:, 1]
    decibels = 20 * ratio.log10()
    assert -12 <= float(decibels.min()) < -11 and 11 < float(decibels.max()) <= 12
    only(monkeypatch, DELAY=0.1)
    first = [int((row != 0).nonzero()[0]) for row in change.waves(line, sizes, seeded(), 1.0)]
    assert 80 < max(first) <= 91
    only(monkeypatch, NOISE=10.0)
    noise = change.waves(line, sizes, seeded(), 1.0) - line
    below = 10 * (line[:, :900].square().mean(1) / noise[:, :900].square().mean(1)).log10()
    assert 9.5 < float(below.min()) < 11 and torch.equal(noise[:, 900:], torch.zeros(200, 100))
    only(monkeypatch, TIME=0.2)
    hidden = (change.waves(line, sizes, seeded(), 1.0)[:, 1:900] == 0).sum(1)
    assert int(hidden.min()) < 10 and 160 < int(hidden.max()) <= 180


def test_each_change_of_a_spectrum_is_what_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sound = torch.from_numpy(rng.normal(0, 0.1, 16000).astype(np.float32))
    line = log_mel(sound, 102, 16000, 30).T[None].repeat(100, 1, 1)
    sizes = torch.full((100,), 100)
    only(monkeypatch, GAIN=12.0)
    louder = change.spectra(line, sizes, seeded(), 1.0, 0.25)[0, :100] - line[0, :100]
    factor = 10 ** (4 * float(louder.mean()) / 2)  # as a factor of the samples
    expected = log_mel(sound * factor, 102, 16000, 30).T
    torch.testing.assert_close(line[0, :100] + louder, expected[:100], atol=1e-4, rtol=0)
    only(monkeypatch, BANDS=1 / 3)
    hidden = (change.spectra(line, sizes, seeded(), 1.0, 0.25)[:, :100] != line[:, :100]).any(1)
    counts = hidden.sum(1)
    assert int(counts.min()) == 0 and int(counts.max()) == 10
    only(monkeypatch, TIME=0.2)
    changed = change.spectra(line, sizes, seeded(), 1.0, 0.25)
    counts = (changed != line).any(2).sum(1)
    assert int(counts.max()) == 20 and torch.equal(changed[:, 100:], line[:, 100:])
    widest = int(counts.argmax())
    at = int((changed[widest] != line[widest]).any(1).nonzero()[0])
    torch.testing.assert_close(changed[widest, at], line[widest, :100].mean().expand(30))
    only(monkeypatch, NOISE=10.0)
    changed = change.spectra(line, sizes, seeded(), 1.0, 0.25)[:, :100]
    before, after = 10 ** (4 * line[:, :100]), 10 ** (4 * changed)
    share = (after - before).mean((1, 2)) / before.mean((1, 2))
    assert float(share.min()) >= 0 and 0.09 < float(share.max()) < 0.11  # 10 dB is a tenth
    only(monkeypatch, NOISE=10.0)
    assert torch.equal(change.spectra(line, sizes, seeded(), 1.0, None), line)  # nothing is known of its unit


@pytest.mark.parametrize("kind", ts.KINDS)
def test_a_batch_is_changed_by_the_generator_and_nothing_else(kind: str, folders: dict[str, Path]) -> None:
    backbone = load(str(folders[kind]))
    batch = backbone.collate(backbone.encode(ts.sounds(4)))
    before = {name: values.clone() for name, values in batch.items()}
    field = FIELDS.get(kind, "values")
    assert backbone.augment(batch, seeded(), 0.0) is batch
    changed = backbone.augment(batch, seeded(), 0.5)
    again = backbone.augment(batch, seeded(), 0.5)
    assert all(torch.equal(batch[name], before[name]) for name in batch)
    assert all(torch.equal(changed[name], again[name]) for name in batch)
    assert all(torch.equal(changed[name], batch[name]) for name in batch if name != field)
    moved = (changed[field] != batch[field]).flatten(1).any(1)
    assert moved.all() and torch.isfinite(changed[field]).all() and torch.isfinite(backbone(changed)).all()
    assert not torch.equal(changed[field], backbone.augment(batch, seeded(1), 0.5)[field])


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper", "ast"])
def test_what_holds_no_sound_stays_silent(kind: str, folders: dict[str, Path]) -> None:
    backbone = load(str(folders[kind]))
    short, long = ts.sounds(12)[0], max(ts.sounds(12), key=lambda s: len(s[0]))
    batch = backbone.collate(backbone.encode([(short[0][:1600], short[1]), long]))
    changed = backbone.augment(batch, seeded(), 1.0)
    if kind == "wav2vec2":
        assert not changed["values"][0, 1600:].any()
        sizes = batch["sizes"].tolist()  # standardised, as its extractor does
        assert all(abs(float(row[:n].mean())) < 1e-4 for row, n in zip(changed["values"], sizes, strict=True))
    elif kind == "ast":
        assert batch["sizes"].tolist()[0] == 8  # columns of 25 ms, one every 10 ms
        assert torch.equal(changed["values"][0, 8:], batch["values"][0, 8:])
    else:
        rest = changed["mel"][0, :, 12:]
        assert float(rest.min()) == float(rest.max()) == float(changed["mel"][0].min())


@pytest.mark.parametrize("kind", ts.KINDS)
def test_a_row_is_changed_alike_whatever_stands_beside_it(kind: str, folders: dict[str, Path]) -> None:
    backbone = load(str(folders[kind]), seconds=0.25, truncation="chunk")
    data = Data(tuple(ts.sounds(6)), ("low", "high") * 3, kind="audio")  # type: ignore[arg-type]
    problem = tm.problem_of("classify", data, "str", backbone, Run())

    class Looking(torch.nn.Module):
        def forward(self, batch: dict[str, Any]) -> torch.Tensor:
            return backbone(batch)

    def read(at: list[int]) -> torch.Tensor:
        rows = Inputs(problem, data, backbone, Run())
        rows.augment = 0.7
        with rows.during(3), torch.no_grad():
            found: Any = rows._judged(Looking().train(), at, {})[0]  # type: ignore[arg-type]
        return found  # type: ignore[no-any-return]

    together, alone = read([0, 1, 2, 3]), read([2])
    torch.testing.assert_close(together[2], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["whisper", "hubert"])
def test_sounds_can_be_tuned_and_adapted_with_changes(kind: str, folders: dict[str, Path]) -> None:
    backbone = load(str(folders[kind]), seconds=0.7)
    data = Data(tuple(ts.sounds(12)), ("low", "high") * 6, kind="audio")  # type: ignore[arg-type]
    target = Data(tuple(ts.sounds(12, seed=5)), kind="audio")
    problem = tm.problem_of("classify", data, "str", backbone, Run())
    settings: dict[str, Any] = {"num_train_epochs": 2, "start": "zero", "learning_rate": 1e-3, "augment": "standard"}
    fits = [named("full", settings)[1].fit(problem, Splits(data), Run()).logits(data.inputs) for _ in range(2)]
    np.testing.assert_array_equal(*fits)
    number = named("full", {**settings, "augment": 0.5})[1].fit(problem, Splits(data), Run()).logits(data.inputs)
    np.testing.assert_array_equal(fits[0], number)
    few: dict[str, Any] = {"steps": 4, "target_steps": 4, "batch_size": 6, "learning_rate": 1e-3}
    adapted = named("consistency", few)[1].fit(problem, Splits(data, target=target), Run())
    assert np.isfinite(adapted.logits(data.inputs)).all()
