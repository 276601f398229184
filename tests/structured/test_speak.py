"""Speech synthesis on a tiny SpeechT5: its loss, its sounds, the files that predict writes, what is refused."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import acclimate
import tiny_sounds as ts
from acclimate.backbones.hub_voice import griffin_lim
from acclimate.cli.main import app
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.structured.base import Asked
from acclimate.structured.speak import Speak, SpeakNetwork

sys.path.append(str(Path(__file__).parent))
from task_examples import fit, speak_example


def network_of(folder: Path) -> SpeakNetwork:
    found = Speak().network(str(ts.voice(folder / "voice")), {"voice": [0.5, 0.5, 0.1]}, {})
    assert isinstance(found, SpeakNetwork)
    return found.eval()


def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    network = network_of(tmp_path)
    for part in network.backbone.model.speecht5.decoder.prenet.modules():
        if hasattr(part, "config"):
            part.config.speech_decoder_prenet_dropout = 0.0
    clip = ts.sounds(1, seed=4)[0]
    batch = network.collate(network.encode(["solo"], [("solo", clip)]))
    network.backbone.model.config.use_guided_attention_loss = False
    with torch.no_grad():
        mine = network(batch)
        theirs = network.backbone.model(
            input_ids=batch["ids"], attention_mask=batch["mask"], labels=batch["spectra"],
            speaker_embeddings=network.voice[None],
        ).loss  # fmt: skip
    torch.testing.assert_close(mine[0], theirs, atol=1e-4, rtol=1e-4)


def test_a_row_has_the_loss_that_it_has_among_longer_ones(tmp_path: Path) -> None:
    network = network_of(tmp_path)
    for part in network.backbone.model.speecht5.decoder.prenet.modules():
        if hasattr(part, "config"):
            part.config.speech_decoder_prenet_dropout = 0.0
    rows = network.encode(["hi", "solo"], [("hi", c) for c in ts.sounds(2, seed=4)])
    with torch.no_grad():
        together = network(network.collate(rows))
        alone = torch.cat([network(network.collate([row])) for row in rows])
    torch.testing.assert_close(together, alone, atol=2e-2, rtol=0)  # the last convolutions see the padding at the end


def test_griffin_lim_gives_back_the_tone() -> None:
    from transformers import SpeechT5FeatureExtractor

    reader = SpeechT5FeatureExtractor()
    line = (0.4 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32)
    spectrum = torch.from_numpy(reader(audio_target=line, sampling_rate=16000, return_tensors="np")["input_values"][0])
    again = griffin_lim(spectrum, reader)
    assert abs(len(again) - 16000) < 1100
    heard = np.abs(np.fft.rfft(again * np.hanning(len(again))))
    assert abs(np.argmax(heard) * 16000 / len(again) - 440) < 30
    assert 0.2 < np.sqrt(2 * np.mean(again[2000:-2000] ** 2)) < 0.6


def test_predict_writes_a_wav_file_a_row(tmp_path: Path) -> None:
    one = speak_example(tmp_path)
    made = fit("speak", one, tmp_path / "run", strategy="lora")
    assert {"similarity", "cepstral_distance"} <= set(made.scores.estimates if made.scores else ())
    assert "recordings themselves" in " ".join(made.scores.notes if made.scores else ())
    new = tmp_path / "new.csv"
    new.write_text("text\nhi\n\nlo lo\n")
    out = tmp_path / "out" / "spoken.csv"
    out.parent.mkdir()
    ran = CliRunner().invoke(app, ["predict", str(tmp_path / "run"), str(new), "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    sound = acclimate.load(tmp_path / "run").predict(["hi"])[0]
    samples, rate = soundfile.read(out.parent / rows[0]["prediction"], dtype="float32")
    assert rate == sound[1] == 16000 and np.abs(samples - sound[0]).max() < 1e-3
    assert [bool(r["prediction"]) for r in rows] == [bool(r["text"]) for r in rows]


def test_what_cannot_be_trained_is_said(tmp_path: Path) -> None:
    vits = tmp_path / "vits"
    vits.mkdir()
    (vits / "config.json").write_text(json.dumps({"model_type": "vits"}))
    state: dict[str, Any] = {"voice": [1.0]}
    with pytest.raises(UserError, match="VITS"):
        Speak().network(str(vits), state, {})
    with pytest.raises(UserError, match="SpeechT5 folders"):
        Speak().network(str(ts.dictation(tmp_path / "whisper")), state, {})
    with pytest.raises(UserError, match="numbers of a voice"):
        Speak().network(str(ts.voice(tmp_path / "voice")), {"voice": [0.1] * 13}, {})


def test_the_gate_counts_clips_that_cannot_be_learned_from(tmp_path: Path) -> None:
    table = ts.spoken(tmp_path, 12)
    soundfile.write(tmp_path / "quiet.wav", np.zeros(16000), 16000)
    table.write_text(table.read_text() + "quiet.wav,hi,x\nmissing.wav,hi,x\nclips0/000.wav,,x\n")
    data, audit = Speak().read(str(table), Asked(Columns()), "train")
    assert len(data) == audit.kept == 12 and audit.read == 15
    assert {k: list(v) for k, v in audit.dropped.items()} == {
        "silent_sound": [14], "missing_file": [15], "no_transcript": [16],
    }  # fmt: skip


def test_a_text_that_is_too_long_to_be_learned_is_named_before_anything_is_computed(tmp_path: Path) -> None:
    one = speak_example(tmp_path)
    file = tmp_path / "spoken0.csv"
    lines = file.read_text().splitlines()
    lines[6] = lines[6].replace("Hi!", "lo " * 40)
    lines[6] = lines[6].replace("Lo,", "lo " * 40 + ",")
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        UserError, match=r"spoken0.csv, line 7: a text has 1\d\d pieces .* the voice model .* reads 40"
    ) as error:
        fit("speak", one, tmp_path / "run")
    assert "cut it into sentences" in str(error.value) and not (tmp_path / "run" / "model").exists()


def test_a_voice_model_is_called_one(tmp_path: Path) -> None:
    """Also where another task is asked of it, which it cannot answer."""
    model = fit("speak", speak_example(tmp_path), tmp_path / "run")
    assert any("parameters of the voice model moved" in said for said in model.report_data.decisions)  # type: ignore[union-attr]
    rows = {"text": [f"some words {i}" for i in range(40)], "label": ["a", "b"] * 20}
    with pytest.raises(UserError, match="is a voice model .* for --task speak"):
        acclimate.fit(rows, model=str(tmp_path / "voice"), output_dir=tmp_path / "other", quiet=True)


def test_rows_that_cannot_be_split_are_counted(tmp_path: Path) -> None:
    one = speak_example(tmp_path)
    asked = {"task": "speak", "label": "text", "model": one.model, "settings": one.settings, "quiet": True}
    said = (
        r"24 texts can be learned from, and 2 of them differ: 3 are needed to hold some out to judge by; .*--test-data"
    )
    with pytest.raises(UserError, match=said):
        acclimate.fit(one.train, output_dir=tmp_path / "run", **asked)


def test_a_text_that_is_too_long_costs_the_others_nothing(tmp_path: Path) -> None:
    model = fit("speak", speak_example(tmp_path), tmp_path / "run")
    said = model.predict_parts([{"text": "hi"}, {"text": "lo " * 40}])
    cells = next(said.parts)
    assert cells["prediction"][0] and cells["prediction"][1] is None
    assert cells["note"][0] == "" and "cut it into sentences" in cells["note"][1] and len(said.files) == 1
