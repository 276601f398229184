"""Speech recognition: what is read, what the gate drops, how texts are compared, and both kinds of networks."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import acclimate
import tiny_sounds as ts
from acclimate.cli.main import app
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.metrics.transcripts import edits
from acclimate.run import Run
from acclimate.structured.base import Asked
from acclimate.structured.ctc import beam, frames_needed, greedy
from acclimate.structured.measuring import value
from acclimate.structured.transcribe import Transcribe
from acclimate.structured.transcribe_networks import CtcNetwork, joined
from acclimate.structured.tuning import answers_to

sys.path.append(str(Path(__file__).parent))
from task_examples import fit, transcribe_example

WORDS = ["one two three", "four", "a b c d e", "the end"]
SAID = ["one too three", "", "b c x d e f", "the end"]


def test_error_rates_are_those_of_jiwer() -> None:
    found = Transcribe().measures([w.upper() + "!" for w in WORDS], SAID, {})
    assert value(found["wer"], 4) == pytest.approx(jiwer.wer(WORDS, SAID))
    assert value(found["cer"], 4) == pytest.approx(jiwer.cer(WORDS, SAID))
    assert value(found["rows_right"], 4) == 0.25
    twice = found["wer"].at(np.array([[2.0, 0, 0, 1], [1, 1, 1, 1]]))
    assert twice[0] == pytest.approx(jiwer.wer([*WORDS[:1], *WORDS[:1], WORDS[3]], [*SAID[:1], *SAID[:1], SAID[3]]))


def test_an_empty_truth_counts_every_word_that_was_said() -> None:
    words, there = edits(["", ""], ["two words", ""])
    assert words.tolist() == [2, 0] and there.tolist() == [0, 0]


def test_a_wide_beam_finds_the_text_with_the_largest_sum_over_all_paths() -> None:
    rng, letters = np.random.default_rng(0), "ab"
    for _ in range(15):
        p = rng.dirichlet([0.7] * 3, 5)
        sums: dict[str, float] = {}
        for path in itertools.product(range(3), repeat=5):
            text = greedy(np.eye(3)[list(path)], letters)
            sums[text] = sums.get(text, 0.0) + float(np.prod(p[range(5), path]))
        assert beam(np.log(p), letters, 64) == max(sums, key=lambda t: sums[t])


def odd(folder: Path) -> Path:
    """A table of good rows and one of each kind that cannot be used."""
    table = ts.spoken(folder, 24)
    rows = table.read_text().splitlines()
    rate = ts.RATE
    tone = 0.3 * np.sin(np.arange(rate // 2) * 0.3)
    soundfile.write(folder / "quiet.wav", np.zeros(rate), rate)
    soundfile.write(folder / "long.wav", np.tile(tone, 5), rate)
    soundfile.write(folder / "short.wav", tone[: rate // 10], rate)
    soundfile.write(folder / "loud.wav", np.clip(20 * tone, -1, 1), rate)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no sound at all")
    rows += ["quiet.wav,lo,x", "long.wav,lo,x", "short.wav,far too many letters,x", "loud.wav,lo,x"]
    rows += [
        "empty.wav,lo,x",
        "text.wav,lo,x",
        "missing.wav,lo,x",
        "clips0/000.wav,,x",
        "clips0/002.wav,...,x",
        ",lo,x",
    ]
    table.write_text("\n".join(rows) + "\n")
    return table


def test_the_gate_counts_every_row_that_cannot_be_learned_from(tmp_path: Path) -> None:
    table = odd(tmp_path)
    data, audit = Transcribe(longest=2.0).read(str(table), Asked(Columns(group="speaker")), "train")
    assert audit.read == 34 and audit.kept == len(data) == 25
    assert {k: list(v) for k, v in audit.dropped.items()} == {
        "silent_sound": [26], "too_long": [27], "text_too_long": [28], "empty_file": [30], "not_a_sound": [31],
        "missing_file": [32], "no_transcript": [33, 34], "blank_input": [35],
    }  # fmt: skip
    assert any(f.kind == "clipped_sound" and f.lines == (29,) for f in audit.findings)
    judged, _ = Transcribe(longest=2.0).read(str(table), Asked(Columns()), "test", {"letters": list("hi")})
    assert 27 in judged.lines and 28 in judged.lines  # answered in windows; judged, though nothing could be learned
    new = Transcribe().read(str(table), Asked(Columns()), "test", {"letters": list("hi")})[1]
    assert any(f.kind == "new_letter" and "'l'" in f.message for f in new.findings)


def untrained(one: Any, output: Path, **given: Any) -> Any:
    """The model as it is."""
    usual = {"test_data": str(one.test), "model": one.model, "settings": {"longest": 1.0}}
    return acclimate.fit(str(one.train), task="transcribe", strategy="zero_shot", output_dir=output, quiet=True,
                         **{**usual, **given})  # fmt: skip


def test_every_row_in_gives_a_row_out(tmp_path: Path) -> None:
    one = transcribe_example(tmp_path)
    untrained(one, tmp_path / "run")
    out = tmp_path / "out.csv"
    ran = CliRunner().invoke(app, ["predict", str(tmp_path / "run"), str(odd(tmp_path)), "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 34
    assert rows[28]["note"] and not rows[28]["prediction"] and rows[25]["note"] == ""


def test_no_speaker_stands_on_both_sides_of_the_split(tmp_path: Path) -> None:
    one = transcribe_example(tmp_path)
    made = untrained(one, tmp_path / "run", test_data=None, group_column="speaker")
    told = json.loads((tmp_path / "run" / "run.json").read_text())["rows"]
    assert told == {"train": 18, "test": 6} and made.scores is not None
    assert "clusters" in made.scores.covers
    other = ts.spoken(tmp_path, 8, seed=3)
    other.write_text(other.read_text().replace("speaker", "who"))
    assert acclimate.load(tmp_path / "run").evaluate(str(other)).n == 8
    with pytest.raises(UserError, match="group-column"):
        untrained(one, tmp_path / "two", group_column="nobody")


def test_a_folder_of_sounds_with_texts_beside_them(tmp_path: Path) -> None:
    for i, sound in enumerate(ts.sounds(4)):
        soundfile.write(tmp_path / f"{i}.wav", *sound)
        if i:
            (tmp_path / f"{i}.txt").write_text(f"n{i}\n")
    data, audit = Transcribe().read(str(tmp_path), Asked(Columns()), "train")
    assert data.labels == ("n1", "n2", "n3") and list(audit.dropped) == ["no_transcript"]
    (tmp_path / "metadata.csv").write_text("file_name,transcription\n0.wav,zero\n")
    assert Transcribe().read(str(tmp_path), Asked(Columns()), "train")[0].labels == ("zero",)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "hubert"])
def test_a_ctc_head_on_an_encoder(kind: str, tmp_path: Path) -> None:
    one = transcribe_example(tmp_path)
    model = ts.write(kind, tmp_path / kind)
    settings = {"num_train_epochs": 15, "head_learning_rate": 0.05, "learning_rate": 3e-3, "moves": "all"}
    made = fit("transcribe", one, tmp_path / "run", model=str(model), strategy="full", settings=settings)
    losses = [h["train_loss"] for h in made.learned.history]
    assert losses[-1] < 0.7 * losses[0]
    loaded = acclimate.load(tmp_path / "run")
    assert repr(loaded.predict(one.new)) == repr(made.predict(one.new))
    assert repr([made.predict([x])[0] for x in one.new]) == repr(made.predict(one.new))


def test_a_linear_probe_of_whisper_keeps_its_encoder_alone(tmp_path: Path) -> None:
    one = transcribe_example(tmp_path)
    made = fit("transcribe", one, tmp_path / "run", strategy="linear_probe", settings={"moves": "head"})
    assert isinstance(made.learned.network, CtcNetwork) and set(made.learned.trained) == {
        "head.1.weight",
        "head.1.bias",
    }
    loaded = acclimate.load(tmp_path / "run")
    before = acclimate.load(made.save(tmp_path / "copy")).learned.network.state_dict()
    assert all(torch.equal(v, before[k]) for k, v in loaded.learned.network.state_dict().items())
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "replayed" in " ".join(report["decisions"])


def test_what_a_model_cannot_do_is_said(tmp_path: Path) -> None:
    one = transcribe_example(tmp_path)
    hubert, speaker = ts.write("hubert", tmp_path / "hubert"), ts.write("resemblyzer", tmp_path / "voice")
    with pytest.raises(UserError, match="writes already"):
        untrained(one, tmp_path / "run", model=str(hubert))
    with pytest.raises(UserError, match="one vector a sound"):
        fit("transcribe", one, tmp_path / "run", model=str(speaker), strategy="full")
    with pytest.raises(UserError, match="decoder"):
        fit("transcribe", one, tmp_path / "run", model=str(hubert), settings={"head": "decoder"})
    with pytest.raises(UserError, match="head of its own"):
        fit("transcribe", one, tmp_path / "run", strategy="gradual", settings={"moves": "all"})
    with pytest.raises(UserError, match="longest"):
        fit("transcribe", one, tmp_path / "run", max_seconds=0.3, settings={"longest": 1.0})


def test_auto_leaves_out_what_a_model_cannot_do(tmp_path: Path) -> None:
    one = transcribe_example(tmp_path)
    hubert, names = ts.write("hubert", tmp_path / "hubert"), ["zero_shot", "linear_probe"]
    settings = {"moves": "head", "num_train_epochs": 1}
    made = fit("transcribe", one, tmp_path / "run", model=str(hubert), strategy="auto", candidates=names,
               settings=settings)  # fmt: skip
    assert made.learned.strategy == "linear_probe"


def long_and_network(folder: Path, **settings: Any) -> tuple[Any, Any]:
    one = Transcribe(**settings)
    state = {"letters": list("abc"), "letters_a_row": 3.0, "words_a_row": 1.0}
    torch.manual_seed(0)
    line = np.concatenate([sound for sound, _ in ts.sounds(16, seed=2)])
    return (line, ts.RATE), one.network(str(ts.dictation(folder / "whisper")), state, {}).eval()


def test_a_long_sound_is_read_in_windows_that_are_joined(tmp_path: Path) -> None:
    sound, ctc = long_and_network(tmp_path, head="ctc")
    rows = ctc.encode([sound], None)
    sizes = [part.samples for part in rows[0].parts]
    assert len(sizes) > 3 and max(sizes) - min(sizes) < 200 and max(sizes) <= 0.95 * ts.RATE + 16
    with torch.no_grad():
        log_p, frames = ctc._log_p(ctc.collate(rows))
    lines = [line[:n] for line, n in zip(log_p.numpy(), frames.tolist(), strict=True)]
    assert abs(len(ctc._one(lines, rows[0])) - 50 * len(sound[0]) / ts.RATE) <= len(lines)
    text = answers_to(ctc, [sound], Run())[0]
    assert set(text) <= set("abc")
    _, whole = long_and_network(tmp_path, beams=2)
    assert isinstance(answers_to(whole, [sound], Run())[0], str)


def test_texts_of_windows_are_joined_where_they_say_the_same() -> None:
    assert joined(["a b c d e", "D, e f g", "g h"]) == "a b c D, e f g h"
    assert joined(["", "alone", ""]) == "alone" and frames_needed("aab") == 4


@pytest.mark.real
def test_whisper_tiny_hears_digits() -> None:
    recordings = Path(__file__).parents[2].parent / "shared" / "data" / "fsdd" / "recordings"
    if not recordings.is_dir():
        pytest.skip("fsdd is not here")
    state = {"letters": ["a"], "letters_a_row": 3.0, "words_a_row": 1.0}
    network = Transcribe().network("whisper-tiny", state, {})
    said = answers_to(network, [str(recordings / f"{i}_george_3.wav") for i in (1, 8, 9)], Run())
    assert (
        Transcribe(normalise="english").measures(["one", "eight", "nine"], said, {})["wer"].at(np.ones((1, 3)))[0] < 1
    )
