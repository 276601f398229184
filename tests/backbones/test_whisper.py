"""Short sounds are filled up to a length near their own: each as it is alone, whatever it is read among."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
import tiny_sounds as ts
from acclimate.backbones import load, whisper
from acclimate.backbones.sound import SETTINGS, SoundSettings
from acclimate.backbones.whisper import Whisper
from acclimate.data.rows import Data
from acclimate.features import extract
from acclimate.run import Run
from acclimate.strategies import Splits, named

pytest.importorskip("soundfile", reason="sounds need the `audio` extra")
FILLS = (1.2, 1.5)  # of a model that reads 2 s
LENGTHS = {0.15: 1.2, 0.45: 1.5, 0.9: 2.0, 0.2: 1.2, 1.9: 2.0, 0.3: 1.5, 0.1: 1.2, 0.18: 1.2, 0.5: 1.5}  # -> filled to


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ts.write("whisper", tmp_path_factory.mktemp("whisper") / "whisper")


@pytest.fixture
def stepped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Whisper:
    monkeypatch.setattr("acclimate.backbones.hub_sound.FILLS", (*FILLS, 2.0, 10.0))
    return read(folder)


def read(folder: Path, **settings: Any) -> Whisper:
    found = load(str(folder), **settings)
    assert isinstance(found, Whisper)
    return found


def given() -> list[Any]:
    rng = np.random.default_rng(5)
    found = []
    for i, seconds in enumerate(LENGTHS):
        at = np.arange(round(seconds * ts.RATE)) / ts.RATE
        line = 0.3 * np.sin(2 * np.pi * (2500 if i % 2 else 400) * at) + 0.02 * rng.normal(size=len(at))
        found.append((line.astype(np.float32), ts.RATE))
    return found


def by_hand(folder: Path) -> np.ndarray[Any, Any]:
    """Each sound alone, by a model that fills all up to its length."""
    pairs = zip(given(), LENGTHS.values(), strict=True)
    return np.concatenate([extract(read(folder, seconds=seconds), [one], Run()) for one, seconds in pairs])


def test_a_sound_is_read_as_by_a_model_that_fills_up_to_its_length(stepped: Whisper, folder: Path) -> None:
    assert stepped.sound == SoundSettings(16000, 2.0, fills=FILLS)
    expected, batch = by_hand(folder), stepped.collate(stepped.encode(given()))
    close = {"atol": 1e-5 * np.abs(expected).max()}
    np.testing.assert_allclose(extract(stepped, given(), Run()), expected, **close)
    np.testing.assert_allclose(stepped(batch).numpy(), expected, **close)  # all in one batch
    ones = [stepped(stepped.one_row(batch, at)).numpy() for at in range(len(expected))]
    np.testing.assert_allclose(np.concatenate(ones), expected, **close)
    whole = extract(read(folder, seconds=2.0), given(), Run())
    assert np.abs(whole - expected).max() > 1e-3  # how much silence there is matters


def test_what_a_sound_costs_is_what_is_read_of_it(stepped: Whisper) -> None:
    frames = [round(50 * seconds) for seconds in LENGTHS.values()]
    rows = stepped.encode(given())
    assert [row.cost for row in rows] == [row.cost for row in stepped.encode_later(given())] == frames
    assert stepped.collate(rows[:2])["mel"].shape == (2, 8, 150) and stepped.flat_rows(rows) == frames


def test_lengths_follow_the_sound_and_the_silence_behind_it(folder: Path) -> None:
    backbone = read(folder)
    backbone = backbone.with_settings(replace(backbone.sound, seconds=30.0, fills=(3.0, 10.0)))
    at = {n: backbone.filled_to(round(n * 16000)) / 50 for n in (0.1, 2.0, 2.01, 6.6, 6.7, 9.0, 31.0)}
    assert at == {0.1: 3, 2.0: 3, 2.01: 10, 6.6: 10, 6.7: 30, 9.0: 30, 31.0: 30}
    assert whisper.SILENCE == 1.0 and whisper.SHARE == 0.5


def test_seconds_that_are_given_fill_all_and_keep_what_was_known_of_them(stepped: Whisper, folder: Path) -> None:
    fixed = read(folder, seconds=2)
    assert fixed.sound == SoundSettings(16000, 2.0) and "fills" not in fixed.settings()
    assert fixed.fingerprint() == read(folder, seconds=2.0).fingerprint() != stepped.fingerprint()
    other = stepped.with_settings(replace(stepped.sound, fills=FILLS[:1]))
    assert other.fingerprint() != stepped.fingerprint()


def test_a_bundle_says_which_lengths_and_one_of_before_has_none(stepped: Whisper, folder: Path, tmp_path: Path) -> None:
    stepped.save(tmp_path)
    again = read(tmp_path)
    assert again.sound == stepped.sound and again.fingerprint() == stepped.fingerprint()
    assert read(tmp_path, truncation="chunk").sound == replace(stepped.sound, truncation="chunk")
    about = json.loads((tmp_path / SETTINGS).read_text())
    assert about.pop("fills") == list(FILLS)
    (tmp_path / SETTINGS).write_text(json.dumps(about))
    old, fixed = read(tmp_path), read(folder, seconds=2.0)
    assert old.sound == fixed.sound and old.fingerprint() == fixed.fingerprint()
    np.testing.assert_array_equal(extract(old, given(), Run()), extract(fixed, given(), Run()))


def test_windows_of_a_longer_sound_are_filled_by_themselves(stepped: Whisper, folder: Path) -> None:
    line = np.random.default_rng(0).normal(0, 0.1, round(1.9 * 16000 + 16000 * 0.3)).astype(np.float32)
    backbone = read(folder, truncation="chunk")
    batch = backbone.collate(backbone.encode([(line, 16000), given()[0]]))
    assert batch["lengths"].tolist() == [100, 75, 60]
    windows = [(line[:32000], 2.0), (line[28800:], 1.5)]
    each = [extract(read(folder, seconds=s), [(w, 16000)], Run())[0] * len(w) for w, s in windows]
    expected = sum(each) / sum(len(w) for w, _ in windows)
    np.testing.assert_allclose(backbone(batch)[0].numpy(), expected, atol=1e-5 * np.abs(expected).max())


# -- learning ----------------------------------------------------------------------------------------------------------


def fit(backbone: Whisper, strategy: str, settings: dict[str, Any]) -> Any:
    data = Data(tuple(given()), tuple("ab"[i % 2] for i in range(len(LENGTHS))))
    problem = tm.problem_of("classify", data, "str", backbone, Run())
    return named(strategy, {"num_train_epochs": 2, "start": "zero", "batch_size": 4, **settings})[1].fit(
        problem, Splits(data), Run()
    )


def test_frozen_blocks_are_replayed_of_sounds_of_several_lengths(stepped: Whisper) -> None:
    kept, plain = (fit(stepped, "partial", {"moves": "top:1", "cache_frozen": choice}) for choice in ("auto", "off"))
    assert any("kept in memory" in note for note in kept.notes), kept.notes
    np.testing.assert_allclose(kept.outputs(given()), plain.outputs(given()), atol=1e-5)


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_tuning_moves_weights_by_sounds_of_several_lengths(strategy: str, stepped: Whisper, tmp_path: Path) -> None:
    fitted = fit(stepped, strategy, {"augment": 0.5})
    outputs = fitted.outputs(given())
    assert np.isfinite(outputs).all() and np.ptp(outputs[:, 0]) > 0
    alone = np.concatenate([fitted.outputs([one]) for one in given()])
    np.testing.assert_allclose(outputs, alone, atol=1e-5)


def test_gradients_of_a_mixed_batch_are_those_of_its_rows(stepped: Whisper) -> None:
    network = stepped.clone().requires_grad_(True)
    rows, weight = network.encode(given()), next(p for n, p in network.named_parameters() if n.endswith("conv1.weight"))
    sums = []
    for parts in ([rows], [[row] for row in rows]):
        network.zero_grad()
        for part in parts:
            network(network.collate(part)).square().sum().backward()
        assert weight.grad is not None
        sums.append(weight.grad.clone())
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-4, atol=1e-4 * float(sums[1].abs().max()))


def test_a_changed_sound_is_the_same_alone_and_its_end_stays_empty(stepped: Whisper) -> None:
    rows = stepped.encode(given())
    batch = stepped.collate(rows)
    for at, row in enumerate(rows):
        one = stepped.augment(stepped.one_row(batch, at), torch.Generator().manual_seed(at), 1.0)
        alone = stepped.augment(stepped.collate([row]), torch.Generator().manual_seed(at), 1.0)
        end = 2 * int(alone["lengths"])
        assert torch.equal(one["mel"][..., :end], alone["mel"]) and not one["mel"][..., end:].any()


@pytest.mark.real
def test_short_sounds_are_read_by_the_lengths_as_they_come() -> None:
    backbone, long = load("whisper-tiny"), np.tile(ts.sounds(1)[0][0], 80)
    sounds = [*ts.sounds(2), (long[: 8 * 16000], 16000)]
    assert isinstance(backbone, Whisper) and backbone.sound.fills == whisper.FILLS
    found = extract(backbone, sounds, Run())
    for at, one in enumerate(sounds):
        seconds = backbone.filled_to(len(one[0])) / 50
        expected = extract(load("whisper-tiny", seconds=seconds), [one], Run())[0]
        np.testing.assert_allclose(found[at], expected, atol=1e-5 * np.abs(expected).max())
    assert [row.cost for row in backbone.encode(sounds)][0] < 1500 == backbone.encode(sounds)[2].cost
