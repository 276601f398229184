"""What every sound backbone promises, on tiny models with random weights; and each one's own arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
import tiny_sounds as ts
from acclimate.backbones import load
from acclimate.backbones.hub_sound import HubSound
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.mel import log_mel
from acclimate.backbones.sound import SoundBackbone, SoundSettings
from acclimate.backbones.speaker import Speaker
from acclimate.backbones.whisper import Whisper
from acclimate.data.rows import Data
from acclimate.data.sounds import read
from acclimate.errors import UserError
from acclimate.features import extract
from acclimate.run import Run
from acclimate.strategies import Splits, named

sf = pytest.importorskip("soundfile", reason="sounds need the `audio` extra")
pytest.importorskip("soxr", reason="sounds need the `audio` extra")
every = pytest.mark.parametrize("kind", ts.KINDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = ts.write(kind, tmp_path_factory.mktemp("sound") / kind)
        return made[kind]

    return get


@pytest.fixture
def loaded(folder: Callable[[str], Path]) -> Callable[..., SoundBackbone]:
    def get(kind: str, **settings: Any) -> SoundBackbone:
        found = load(str(folder(kind)), **settings)
        assert isinstance(found, SoundBackbone)
        return found

    return get


# -- what all promise --------------------------------------------------------------------------------------------------


@every
def test_a_saved_backbone_gives_the_same_bits(kind: str, loaded: Any, tmp_path: Path) -> None:
    backbone, given = loaded(kind), ts.sounds(5)
    found = extract(backbone, given, Run())
    assert (backbone.modality, found.shape) == ("audio", (5, backbone.width))
    assert np.isfinite(found).all() and np.abs(np.diff(found, axis=0)).max(1).min() > 1e-4
    assert not any(p.requires_grad for p in backbone.parameters()) and len(backbone.blocks) == ts.BLOCKS.get(kind, 3)
    backbone.save(tmp_path)
    again = load(str(tmp_path))
    assert type(again) is type(backbone) and again.settings() == backbone.settings()
    assert again.fingerprint() == backbone.fingerprint() and again.origin == backbone.origin
    assert np.array_equal(extract(again, given, Run()), found)


@every
def test_one_sound_alone_gets_what_it_gets_among_others(kind: str, loaded: Any) -> None:
    backbone, given = loaded(kind), ts.sounds(7)
    together = backbone(backbone.collate(backbone.encode(given))).numpy()
    alone = np.concatenate([backbone(backbone.collate(backbone.encode([x]))).numpy() for x in given])
    np.testing.assert_allclose(together, alone, atol=1e-5 * np.abs(alone).max())
    np.testing.assert_allclose(extract(backbone, given, Run(num_workers=2)), alone, atol=1e-5 * np.abs(alone).max())


@every
def test_a_file_an_array_and_another_rate_are_one_sound(kind: str, loaded: Any, tmp_path: Path) -> None:
    backbone = loaded(kind)
    ((line, rate),) = ts.sounds(1)
    sf.write(tmp_path / "a.wav", np.stack([line, line], axis=1), rate, subtype="FLOAT")
    features = extract(backbone, [(line, rate), str(tmp_path / "a.wav"), tmp_path / "a.wav"], Run())
    np.testing.assert_allclose(features[1:], features[[0, 0]], atol=1e-6)
    ((low, half),) = ts.sounds(1, rate=8000)
    resampled = read((low, half), 16000)
    pair = extract(backbone, [(low, half), (resampled, 16000)], Run())
    np.testing.assert_allclose(pair[0], pair[1], atol=1e-6)


@every
def test_every_setting_is_in_the_fingerprint(kind: str, loaded: Any) -> None:
    backbone = loaded(kind)
    before = backbone.fingerprint()
    changed = [
        replace(backbone.sound, seconds=0.2),
        replace(backbone.sound, rate=8000),
    ]
    found = {backbone.with_settings(settings).fingerprint() for settings in changed}
    assert len(found | {before}) == 3 and backbone.fingerprint() == before


@every
def test_a_long_sound_is_cut_and_the_rest_is_counted(kind: str, loaded: Any) -> None:
    backbone = loaded(kind, seconds=0.2)
    ((line, rate),) = ts.sounds(1)
    long = np.tile(line, 9)[:8000]  # half a second
    (row,) = backbone.encode([(long, rate)])
    (later,) = backbone.encode_later([(long, rate)])
    assert (row.cost, row.lost, row.total) == (later.cost, later.lost, later.total)
    assert (row.lost, row.total) == (15, 25)  # frames of 20 ms
    pair = extract(backbone, [(long, rate), (long[:3200], rate)], Run())
    np.testing.assert_allclose(pair[0], pair[1], atol=1e-5 * np.abs(pair).max())


@every
def test_a_clone_learns_alone_and_what_is_frozen_stays(kind: str, loaded: Any) -> None:
    backbone = loaded(kind)
    before = tm.state(backbone)
    learner = backbone.clone().requires_grad_(True)
    learner.train()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(1.0)
    assert tm.same_state(backbone, before)
    backbone.train()
    extract(backbone, ts.sounds(3), Run())
    assert tm.same_state(backbone, before)


# -- windows -----------------------------------------------------------------------------------------------------------


def long_sounds(lengths: tuple[float, ...] = (0.73, 0.1, 0.2, 0.41)) -> list[tuple[np.ndarray[Any, Any], int]]:
    line = np.concatenate([x for x, _ in ts.sounds(9)])
    return [(line[i * 900 : i * 900 + round(s * 16000)], 16000) for i, s in enumerate(lengths)]


def by_hand(line: np.ndarray[Any, Any], room: int, overlap: int) -> list[np.ndarray[Any, Any]]:
    """Windows until nothing new is left."""
    found, at = [], 0
    while True:
        found.append(line[at : at + room])
        if at + room >= len(line):
            return found
        at += room - overlap


@every
def test_a_long_sound_is_the_mean_of_its_windows_and_a_short_one_stays(kind: str, loaded: Any) -> None:
    head, chunk = loaded(kind, seconds=0.2), loaded(kind, seconds=0.2, truncation="chunk")
    given = long_sounds()
    found = extract(chunk, given, Run())
    for (line, rate), row in zip(given, found, strict=True):
        windows = by_hand(line, 3200, 320)
        each = np.stack([extract(head, [(w, rate)], Run())[0] for w in windows]).astype(np.float64)
        weights = np.array([len(w) for w in windows], np.float64)
        if kind == "resemblyzer":  # its own windows, all of a length, count alike
            weights = np.array([len(head.encode([(w, rate)])[0].parts[0].values) for w in windows], np.float64)
            each = np.stack([unit_free(head, (w, rate)) for w in windows])
        expected = (weights[:, None] * each).sum(0) / weights.sum()
        if kind == "resemblyzer":
            expected /= np.linalg.norm(expected)
        np.testing.assert_allclose(row, expected, atol=2e-5 * np.abs(expected).max())
    assert [len(row.parts) for row in chunk.encode(given)] == [4, 1, 1, 3]
    assert [row.lost for row in chunk.encode(given)] == [0] * 4
    assert [row.cost for row in chunk.encode(given)] == [row.cost for row in chunk.encode_later(given)]
    short = [given[1], given[2]]
    assert np.array_equal(extract(head, short, Run()), extract(chunk, short, Run()))
    assert head.fingerprint() != chunk.fingerprint()


def unit_free(backbone: SoundBackbone, sound: Any) -> np.ndarray[Any, Any]:
    """The mean vector before it is made one of unit length."""
    batch = backbone.collate(backbone.encode([sound]))
    with torch.no_grad():
        return backbone.vectors(batch).double().mean(0).numpy()


@every
def test_a_few_windows_at_a_time_give_what_all_do_and_one_row_its_own(
    kind: str, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = loaded(kind, seconds=0.2, truncation="chunk")
    batch = backbone.collate(backbone.encode(long_sounds()))
    whole = backbone(batch).numpy()
    lines: list[int] = []
    monkeypatch.setattr(type(backbone), "vectors", spy(type(backbone).vectors, lines))
    monkeypatch.setattr("acclimate.backbones.sound._FRAMES_AT_ONCE", {"cpu": 20})
    with torch.no_grad():
        parts = backbone(batch).numpy()
    assert len(lines) > 1 and sum(lines) == len(batch["owner"]) and max(lines) <= 2
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())
    rows = [backbone.one_row(batch, at) for at in range(4)]
    assert all(torch.equal(torch.cat([row[name] for row in rows]), batch[name]) for name in batch)


def spy(vectors: Any, lines: list[int]) -> Any:
    def looking(self: Any, batch: Any) -> Any:
        lines.append(len(batch["owner"]))
        return vectors(self, batch)

    return looking


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2", "ast"])
def test_networks_learn_from_windows_and_frozen_blocks_are_replayed_of_them(kind: str, loaded: Any) -> None:
    backbone = loaded(kind, seconds=0.2, truncation="chunk")
    settings = {"moves": "top:1", "num_train_epochs": 2, "start": "zero", "batch_size": 4}
    kept, plain = (fit(backbone, "partial", {**settings, "cache_frozen": choice}) for choice in ("auto", "off"))
    assert any("kept in memory" in note for note in kept.notes), kept.notes
    np.testing.assert_allclose(kept.outputs(long_sounds()), plain.outputs(long_sounds()), atol=1e-5)


def test_what_is_done_with_a_long_sound_is_stored_and_checked(loaded: Any, tmp_path: Path, folder: Any) -> None:
    backbone = loaded("whisper", seconds=0.2, truncation="chunk")
    backbone.save(tmp_path)
    again = load(str(tmp_path))
    assert isinstance(again, SoundBackbone) and again.sound == SoundSettings(16000, 0.2, "chunk")
    strict = loaded("whisper", seconds=0.2, truncation="fail")
    assert len(strict.encode(long_sounds((0.2,)))) == 1
    for encode in (strict.encode, strict.encode_later):
        with pytest.raises(UserError, match=r"a sound in memory lasts 0.73 seconds and only 0.2 are read at a time"):
            encode(long_sounds())
    with pytest.raises(UserError, match="truncation 'head-tail' is for texts"):
        loaded("whisper", truncation="head-tail")
    with pytest.raises(UserError, match="unknown truncation of sounds 'chunks'; did you mean 'chunk'"):
        loaded("whisper", truncation="chunks")
    with pytest.raises(UserError, match="truncation 'chunk' is for long texts and sounds; 'small-cnn' reads images"):
        load("small-cnn", truncation="chunk")


# -- learning ----------------------------------------------------------------------------------------------------------


def rows(n: int = 8) -> Data:
    return Data(tuple(ts.sounds(n)), ("low", "high") * (n // 2))  # type: ignore[arg-type]


def fit(backbone: Any, strategy: str, settings: dict[str, Any]) -> Any:
    problem = tm.problem_of("classify", rows(), "str", backbone, Run())
    return named(strategy, settings)[1].fit(problem, Splits(rows()), Run())


@pytest.mark.parametrize("kind", [k for k in ts.KINDS if k != "resemblyzer"])
@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_every_backbone_can_be_tuned(kind: str, strategy: str, loaded: Any) -> None:
    backbone = loaded(kind)
    before = tm.state(backbone)
    fitted = fit(backbone, strategy, {"num_train_epochs": 1, "start": "zero"})
    again = fit(backbone, strategy, {"num_train_epochs": 1, "start": "zero"})
    assert tm.same_state(backbone, before)
    assert any(name.startswith("backbone") for name in fitted.trained)
    given = ts.sounds(5, seed=7)
    np.testing.assert_array_equal(fitted.outputs(given), again.outputs(given))


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2", "hubert", "ast"])
def test_frozen_blocks_are_replayed(kind: str, loaded: Any) -> None:
    backbone = loaded(kind)
    settings = {"moves": "top:1", "num_train_epochs": 2, "start": "zero", "batch_size": 4}
    kept, plain = (fit(backbone, "partial", {**settings, "cache_frozen": choice}) for choice in ("auto", "off"))
    below = len(backbone.blocks) - 1
    assert any(f"{below} frozen block" in note and "kept in memory" in note for note in kept.notes), kept.notes
    given = ts.sounds(5, seed=7)
    np.testing.assert_allclose(kept.outputs(given), plain.outputs(given), atol=1e-5)


def test_a_norm_over_time_is_read_row_by_row_and_nothing_is_kept_of_it(loaded: Any) -> None:
    fitted = fit(loaded("wav2vec2-group"), "partial", {"moves": "top:1", "num_train_epochs": 2, "start": "zero"})
    assert any("not kept" in note for note in fitted.notes), fitted.notes


def test_one_lstm_has_no_blocks_to_choose_from(loaded: Any) -> None:
    with pytest.raises(UserError, match="block"):
        fit(loaded("resemblyzer"), "partial", {"moves": "top:1", "num_train_epochs": 1, "start": "zero"})


# -- Whisper -----------------------------------------------------------------------------------------------------------


def test_the_spectrum_is_that_of_transformers(folder: Callable[[str], Path]) -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor.from_pretrained(folder("whisper"))
    long = np.random.default_rng(0).normal(0, 0.1, 40000).astype(np.float32)  # longer than its two seconds
    quiet = np.zeros(900, np.float32)
    for line in [long, quiet, *(x for x, _ in ts.sounds(4))]:
        expected = extractor(line, sampling_rate=16000, return_tensors="np").input_features[0]
        np.testing.assert_allclose(log_mel(torch.from_numpy(line), 200, 16000, 8).numpy(), expected, atol=1e-5)


def test_it_is_whisper_as_transformers_runs_it(folder: Callable[[str], Path], loaded: Any) -> None:
    from transformers import WhisperFeatureExtractor, WhisperModel

    backbone = loaded("whisper", seconds=2.0)  # all of the silence
    given = ts.sounds(4)
    with quiet_transformers(), torch.no_grad():
        extractor = WhisperFeatureExtractor.from_pretrained(folder("whisper"))
        encoder = WhisperModel.from_pretrained(folder("whisper")).encoder.eval()
        for (line, rate), found in zip(given, extract(backbone, given, Run()), strict=True):
            mel = extractor(line, sampling_rate=rate, return_tensors="pt").input_features
            hidden = encoder(mel).last_hidden_state[0]
            sounding = math.ceil(len(line) / 320)  # the padding is not a part of the mean
            np.testing.assert_allclose(found, hidden[:sounding].mean(0).numpy(), atol=1e-5)
    short = loaded("whisper", seconds=0.7)
    differs = np.abs(extract(short, given, Run()) - extract(backbone, given, Run())).max()
    assert differs > 1e-3  # what silence after the sound does is not nothing
    assert [row.cost for row in short.encode(given)] == [35] * 4 and backbone.encode(given)[0].cost == 100


@pytest.mark.real
def test_whisper_tiny_is_read_as_transformers_does() -> None:
    from transformers import WhisperFeatureExtractor, WhisperModel

    from acclimate.catalogue import models

    path = models.pull("whisper-tiny")
    given = [*ts.sounds(2), (np.tile(ts.sounds(1)[0][0], 80)[: 31 * 16000], 16000)]
    found = extract(load("whisper-tiny", seconds=30.0), given, Run())
    with quiet_transformers(), torch.no_grad():
        extractor = WhisperFeatureExtractor.from_pretrained(path)
        encoder = WhisperModel.from_pretrained(path).encoder.eval()
        for (line, rate), features in zip(given, found, strict=True):
            hidden = encoder(extractor(line, sampling_rate=rate, return_tensors="pt").input_features).last_hidden_state
            expected = hidden[0, : math.ceil(len(line) / 320)].mean(0).numpy()
            np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.real
def test_resemblyzer_gives_vectors_of_unit_length() -> None:
    found = extract(load("resemblyzer"), [*ts.sounds(2), (np.tile(ts.sounds(1)[0][0], 20), 16000)], Run())
    assert found.shape == (3, 256)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_the_decoder_is_left_out(loaded: Any, tmp_path: Path) -> None:
    backbone = loaded("whisper")
    assert isinstance(backbone, Whisper) and not any("decoder" in name for name, _ in backbone.named_parameters())
    backbone.save(tmp_path)
    from safetensors.torch import load_file

    assert not any("decoder" in name for name in load_file(tmp_path / "model.safetensors"))


# -- models of the hub -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-group", "hubert", "wavlm", "ast"])
def test_features_are_those_of_the_model_on_the_sound_alone(kind: str, folder: Any, loaded: Any) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    backbone, given = loaded(kind), ts.sounds(4)
    assert isinstance(backbone, HubSound)
    with quiet_transformers(), torch.no_grad():
        extractor = AutoFeatureExtractor.from_pretrained(folder(kind))
        model = AutoModel.from_pretrained(folder(kind)).eval()
        for (line, rate), found in zip(given, extract(backbone, given, Run()), strict=True):
            values = extractor(line, sampling_rate=rate, return_tensors="pt").input_values
            out = model(values)
            expected = out.pooler_output[0] if kind == "ast" else out.last_hidden_state[0].mean(0)
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_sound_of_ten_samples_is_filled_up_to_one_frame(loaded: Any) -> None:
    for kind in ("wav2vec2", "wav2vec2-group", "whisper", "resemblyzer", "ast"):
        assert np.isfinite(extract(loaded(kind), [(np.ones(10, np.float32), 16000)], Run())).all(), kind


# -- the speaker encoder -----------------------------------------------------------------------------------------------


def test_voices_are_windows_through_the_lstm_averaged(loaded: Any) -> None:
    backbone = loaded("resemblyzer")
    assert isinstance(backbone, Speaker)
    line = np.tile(ts.sounds(1)[0][0], 9)[:15600]
    (row,) = backbone.encode([(line, 16000)])
    windows = row.parts[0].values
    starts = backbone.starts(len(line))
    step = round(16000 / 1.3 / 160)
    assert starts == [0, step] and windows.shape == (2, 20, 8)
    vectors = []
    for window in windows:
        with torch.no_grad():
            outputs, _ = backbone.model.lstm(window[None])
            vector = torch.relu(backbone.model.linear(outputs[0, -1]))
        vectors.append(vector / vector.norm())
    mean = sum(vectors) / len(vectors)
    expected = (mean / mean.norm()).numpy()
    np.testing.assert_allclose(extract(backbone, [(line, 16000)], Run())[0], expected, atol=1e-6)


def test_windows_are_those_of_resemblyzer(loaded: Any) -> None:
    backbone = loaded("resemblyzer")
    backbone._frames = 160
    at = {seconds: backbone.starts(round(seconds * 16000)) for seconds in (0.3, 1.6, 2.2, 3.0, 4.0)}
    assert at == {0.3: [0], 1.6: [0], 2.2: [0, 77], 3.0: [0, 77, 154], 4.0: [0, 77, 154, 231]}


# -- loading -----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_one_clear_error(folder: Any, loaded: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pooling 'mean' is for text models; '.*whisper' reads sounds"):
        load(str(folder("whisper")), pooling="mean")
    with pytest.raises(UserError, match="seconds 9 is outside what this model takes: 0.1 to 2"):
        loaded("whisper", seconds=9)
    for odd in ("1", True, [1]):
        with pytest.raises(UserError, match=r"seconds .* must be a number, how many seconds"):
            loaded("whisper", seconds=odd)
    for kind in ("whisper", "resemblyzer", "wav2vec2"):
        path = ts.write(kind, tmp_path / kind)
        (path / "model.safetensors").write_bytes(b"broken")
        with pytest.raises(UserError, match=f"cannot load the sound model '{kind}'"):
            load(str(path))


def test_missing_weights_are_told(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = ts.write("whisper", tmp_path / "w")
    state = load_file(path / "model.safetensors")
    gone = next(name for name in state if name.endswith("encoder.layers.1.fc1.weight"))
    save_file({k: v for k, v in state.items() if k != gone}, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 parameters, first 'encoder\.layers\.1\.fc1\.weight'"):
        load(str(path))


def test_settings_are_read_from_the_folder(loaded: Any, tmp_path: Path) -> None:
    backbone = loaded("whisper", seconds=1.5)
    backbone.save(tmp_path)
    again = load(str(tmp_path))
    assert isinstance(again, SoundBackbone) and again.sound == SoundSettings(16000, 1.5)
    assert load(str(tmp_path), seconds=0.5).settings()["seconds"] == 0.5
