"""The silence after short sounds is read in groups: near to all of it, and each sound as it is alone."""

from __future__ import annotations

import json
import math
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
LENGTHS = (0.15, 0.45, 0.9, 0.2, 1.9, 0.3, 0.1, 0.18, 0.5)  # seconds, of a model that reads 2, which are 100 frames
SINGLY = [64, 80, 100, 64, 100, 72, 56, 64, 80]  # frames of each that are read one by one
STATES = [70, 84, 100, 70, 100, 77, 63, 70, 84]  # and with the groups of 8 behind them, and the last frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ts.write("whisper", tmp_path_factory.mktemp("whisper") / "whisper")


@pytest.fixture
def merging(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Whisper:
    assert read(folder).sound.merged == whisper.MERGED
    monkeypatch.setattr("acclimate.backbones.hub_sound.MERGED", 8)
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


def by_hand(whole: Whisper, size: int = 8) -> np.ndarray[Any, Any]:
    """Each sound alone: everything is computed, then silence is put into groups, one after another."""
    found, inner = [], whole.model.inner
    for sound, singly in zip(given(), SINGLY, strict=True):
        batch = whole.collate(whole.encode([sound]))
        with torch.no_grad():
            h = torch.nn.functional.gelu(inner.conv2(torch.nn.functional.gelu(inner.conv1(batch["mel"]))))[0].T
            states, scores = [*(h[:singly] + inner.embed_positions.weight[:singly])], [0.0] * singly
            for start in range(singly, 99, size):
                here = inner.embed_positions.weight[start : min(start + size, 99)]
                states.append(h[98] + here.mean(0))
                scores.append(math.log(len(here)))
            if singly < 100:  # the last frame, which nought follows, is another
                states.append(h[99] + inner.embed_positions.weight[99])
                scores.append(0.0)
            x = torch.stack(states)[None]
            for layer in inner.layers:
                x = layer(x, torch.tensor(scores)[None, None, None])
            found.append(inner.layer_norm(x)[0, : int(batch["frames"])].mean(0).numpy())
    return np.stack(found)


def test_silence_is_read_in_groups_and_each_sound_as_it_is_alone(merging: Whisper, folder: Path) -> None:
    assert merging.sound == SoundSettings(16000, 2.0, merged=8)
    whole = read(folder, seconds=2.0)
    expected, batch = by_hand(whole), merging.collate(merging.encode(given()))
    close = {"atol": 1e-5 * np.abs(expected).max()}
    np.testing.assert_allclose(extract(merging, given(), Run()), expected, **close)
    np.testing.assert_allclose(merging(batch).numpy(), expected, **close)  # all in one batch
    ones = [merging(merging.one_row(batch, at)).numpy() for at in range(len(expected))]
    np.testing.assert_allclose(np.concatenate(ones), expected, **close)
    alone = [extract(merging, [one], Run()) for one in given()]
    np.testing.assert_allclose(np.concatenate(alone), expected, **close)


def test_it_is_near_to_all_of_the_silence_where_less_of_it_is_not(merging: Whisper, folder: Path) -> None:
    whole = extract(read(folder, seconds=2.0), given(), Run())
    less = extract(read(folder, seconds=1.2), given(), Run())
    short = np.array(LENGTHS) < 0.4
    far, near = (np.abs(x - whole)[short].mean() for x in (less, extract(merging, given(), Run())))
    assert 0 < near < far / 4
    every = extract(merging, given()[2:5:2], Run())  # no room for a group
    np.testing.assert_allclose(every, whole[2:5:2], atol=1e-5 * np.abs(whole).max())


def test_a_group_of_like_frames_counts_as_often_as_it_has_frames(merging: Whisper, folder: Path) -> None:
    whole = read(folder, seconds=2.0)
    for one in (merging, whole):
        positions = one.model.inner.embed_positions.weight
        positions.data = torch.stack([positions.data[8 * (at // 8)] for at in range(100)])
    expected = by_hand(whole, 1)  # each frame by itself
    np.testing.assert_allclose(extract(merging, given(), Run()), expected, atol=1e-5 * np.abs(expected).max())


def test_what_a_sound_costs_is_what_is_read_of_it(merging: Whisper) -> None:
    rows = merging.encode(given())
    assert [row.cost for row in rows] == [row.cost for row in merging.encode_later(given())] == STATES
    batch = merging.collate(rows[:2])
    assert batch["mel"].shape == (2, 8, 176) and merging.flat_rows(rows) == STATES
    assert [merging.singly(merging.frames(round(16000 * seconds))) for seconds in LENGTHS] == SINGLY


def test_seconds_that_are_given_read_all_and_find_what_was_known_of_them(merging: Whisper, folder: Path) -> None:
    whole = read(folder, seconds=2)
    assert whole.sound == SoundSettings(16000, 2.0) and "merged" not in whole.settings()
    assert whole.fingerprint() == read(folder, seconds=2.0).fingerprint() != merging.fingerprint()
    other = merging.with_settings(replace(merging.sound, merged=4))
    assert other.fingerprint() != merging.fingerprint()


def test_a_bundle_says_how_silence_is_read_and_one_of_before_reads_all(
    merging: Whisper, folder: Path, tmp_path: Path
) -> None:
    merging.save(tmp_path)
    again = read(tmp_path)
    assert again.sound == merging.sound and again.fingerprint() == merging.fingerprint()
    assert read(tmp_path, truncation="chunk").sound == replace(merging.sound, truncation="chunk")
    about = json.loads((tmp_path / SETTINGS).read_text())
    assert about.pop("merged") == 8
    (tmp_path / SETTINGS).write_text(json.dumps(about))
    old, whole = read(tmp_path), read(folder, seconds=2.0)
    assert old.sound == whole.sound and old.fingerprint() == whole.fingerprint()
    np.testing.assert_array_equal(extract(old, given(), Run()), extract(whole, given(), Run()))


def test_windows_of_a_longer_sound_have_silence_of_their_own(merging: Whisper, folder: Path) -> None:
    line = np.random.default_rng(0).normal(0, 0.1, round(2.1 * 16000)).astype(np.float32)
    backbone = read(folder, truncation="chunk")
    batch = backbone.collate(backbone.encode([(line, 16000), given()[0]]))
    assert batch["lengths"].tolist() == [[100, 64], [72, 64], [64, 64]]
    windows = [line[:32000], line[28800:]]
    each = [extract(backbone, [(w, 16000)], Run())[0] * len(w) for w in windows]
    expected = sum(each) / sum(map(len, windows))
    np.testing.assert_allclose(backbone(batch)[0].numpy(), expected, atol=1e-5 * np.abs(expected).max())


# -- learning ----------------------------------------------------------------------------------------------------------


def fit(backbone: Whisper, strategy: str, settings: dict[str, Any]) -> Any:
    data = Data(tuple(given()), tuple("ab"[i % 2] for i in range(len(LENGTHS))))
    problem = tm.problem_of("classify", data, "str", backbone, Run())
    return named(strategy, {"num_train_epochs": 2, "start": "zero", "batch_size": 4, **settings})[1].fit(
        problem, Splits(data), Run()
    )


def test_frozen_blocks_are_replayed_of_sounds_of_several_lengths(merging: Whisper) -> None:
    kept, plain = (fit(merging, "partial", {"moves": "top:1", "cache_frozen": choice}) for choice in ("auto", "off"))
    assert any("kept in memory" in note for note in kept.notes), kept.notes
    np.testing.assert_allclose(kept.outputs(given()), plain.outputs(given()), atol=1e-5)


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_tuning_moves_weights_by_sounds_of_several_lengths(strategy: str, merging: Whisper, tmp_path: Path) -> None:
    fitted = fit(merging, strategy, {"augment": 0.5})
    outputs = fitted.outputs(given())
    assert np.isfinite(outputs).all() and np.ptp(outputs[:, 0]) > 0
    alone = np.concatenate([fitted.outputs([one]) for one in given()])
    np.testing.assert_allclose(outputs, alone, atol=1e-5)


def test_gradients_of_a_mixed_batch_are_those_of_its_rows(merging: Whisper) -> None:
    network = merging.clone().requires_grad_(True)
    rows, weight = network.encode(given()), next(p for n, p in network.named_parameters() if n.endswith("conv1.weight"))
    sums = []
    for parts in ([rows], [[row] for row in rows]):
        network.zero_grad()
        for part in parts:
            network(network.collate(part)).square().sum().backward()
        assert weight.grad is not None
        sums.append(weight.grad.clone())
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-4, atol=1e-4 * float(sums[1].abs().max()))


def test_a_changed_sound_is_the_same_alone(merging: Whisper) -> None:
    rows = merging.encode(given())
    batch = merging.collate(rows)
    for at, row in enumerate(rows):
        one = merging.augment(merging.one_row(batch, at), torch.Generator().manual_seed(at), 1.0)
        alone = merging.augment(merging.collate([row]), torch.Generator().manual_seed(at), 1.0)
        assert torch.equal(one["mel"][..., : alone["mel"].shape[2]], alone["mel"])
        np.testing.assert_allclose(merging(one), merging(alone), atol=1e-4)


@pytest.mark.real
def test_whisper_tiny_reads_short_sounds_nearly_as_with_all_of_the_silence() -> None:
    backbone, long = load("whisper-tiny"), np.tile(ts.sounds(1)[0][0], 80)
    sounds = [*ts.sounds(4), (long[: 8 * 16000], 16000), (long[: 31 * 16000], 16000)]
    assert isinstance(backbone, Whisper) and backbone.sound == SoundSettings(16000, 30.0, merged=whisper.MERGED)
    found, whole = (extract(one, sounds, Run()) for one in (backbone, load("whisper-tiny", seconds=30.0)))
    less = extract(load("whisper-tiny", seconds=3.0), sounds[:4], Run())
    far, near = np.abs(less - whole[:4]).mean(), np.abs(found - whole).mean(1)
    assert near[:4].max() < far / 3 and near[5] < 1e-5
    assert [row.cost for row in backbone.encode(sounds)][0] < 460
