"""The gate on sounds: files found and named, facts that reconcile, repeats in whatever format."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_sounds as ts
from acclimate.data.audit import Audit, Seconds, audit
from acclimate.data.columns import guess
from acclimate.data.kinds import KINDS
from acclimate.data.kinds.audio import AUDIO
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data
from acclimate.errors import UserError

sf = pytest.importorskip("soundfile", reason="sounds need the `audio` extra")
pytest.importorskip("soxr", reason="sounds need the `audio` extra")

ODD = Path(__file__).parents[2].parent / "shared" / "data" / "odd" / "audio"


def gate(source: Any, **settings: Any) -> tuple[Data, Audit]:
    table = read(source)
    found = guess(table, Columns())
    assert found.columns.kind == "audio"
    return audit(table, found.columns, found.task, **settings)


def said(account: Audit) -> dict[str, str]:
    return {f.kind: f.message for f in account.findings}


def test_class_folders_become_labels(tmp_path: Path) -> None:
    data, account = gate(ts.folder(tmp_path / "set", 6))
    assert (data.kind, account.kept, account.labels) == ("audio", 6, {"high": 3, "low": 3})
    assert said(account)["sound_length"].startswith("sounds last 0.")


def test_a_table_names_its_files_and_python_gives_arrays(tmp_path: Path) -> None:
    ts.folder(tmp_path / "clips", 4)
    (tmp_path / "t.csv").write_text("clip,label\nclips/low/000.flac,a\nclips/high/001.wav,b\nclips/none.wav,a\n,b\n")
    data, account = gate(tmp_path / "t.csv")
    assert len(data) == 2 and account.dropped == {"missing_file": (4,), "blank_input": (5,)}
    assert said(account)["missing_file"].endswith("clips/none.wav")
    given, _ = gate({"sound": ts.sounds(4), "label": ["a", "b"] * 2})
    decoded = [{"array": x.tolist(), "sampling_rate": rate, "path": None} for x, rate in ts.sounds(4)]
    same, _ = gate({"sound": decoded, "label": ["a", "b"] * 2})
    assert len(given) == len(same) == 4
    assert all(np.allclose(a[0], b[0]) and a[1] == b[1] for a, b in zip(given.inputs, same.inputs, strict=True))


def test_what_cannot_be_used_is_dropped_with_its_reason(tmp_path: Path) -> None:
    place = ts.folder(tmp_path / "set", 8) / "low"
    (place / "a.wav").write_bytes(b"")
    (place / "b.wav").write_bytes(b"no sound")
    (place / "c.wav").write_bytes(b"RIFF\x24E\0\0WAVEf")
    (place / "d.m4a").write_bytes(b"\0\0\0\x1cftypM4A ....")
    sf.write(place / "e.wav", np.zeros(0, np.float32), 8000)
    whole = (tmp_path / "set" / "high" / "001.wav").read_bytes()
    (place / "f.wav").write_bytes(whole[: len(whole) // 2])
    data, account = gate(tmp_path / "set")
    assert account.read == 14 == account.kept + 6 and len(data) == 8
    names = {reason: len(lines) for reason, lines in account.dropped.items()}
    assert names == {"empty_file": 1, "not_a_sound": 2, "broken_file": 1, "no_samples": 1, "cut_short": 1}
    assert "low/f.wav" in said(account)["cut_short"] and "low/b.wav, low/d.m4a" in said(account)["not_a_sound"]
    with pytest.raises(UserError, match=r"1 row the file is empty \(0 bytes\): low/a.wav; 2 rows"):
        gate(tmp_path / "set", on_bad="fail")


@pytest.mark.skipif(not ODD.is_dir(), reason="the folder of odd files is not here")
def test_the_odd_files_reconcile(tmp_path: Path) -> None:
    for i, path in enumerate(sorted(ODD.iterdir())):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "ab"[i % 2])
    data, account = gate(tmp_path)
    assert account.read == 30 and len(data) == 19  # the text file is left out by its ending, and counted
    dropped = {reason: len(lines) for reason, lines in account.dropped.items()}
    assert dropped == {"broken_file": 3, "no_samples": 1, "not_a_sound": 6, "cut_short": 1}
    assert any(".txt" in str(note) for note in account.facts["notes"])  # type: ignore[attr-defined]
    found = said(account)
    assert "6 sampling rates" in found["mixed_rates"] and "clipped_sound" not in found
    assert "of less than 0.1 s" in found["short_sound"]
    # The same sound in another depth or order of bytes counts as near; files with one content as exact.
    repeats = {kind: f.count for f in account.findings if (kind := f.kind) in ("duplicate", "near_duplicate")}
    assert repeats == {"near_duplicate": 5}


def test_repeats_are_told_by_content_whatever_the_format(tmp_path: Path) -> None:
    ts.folder(tmp_path, 4)
    shutil.copy(tmp_path / "low" / "002.wav", tmp_path / "low" / "again.wav")
    samples, rate = sf.read(tmp_path / "low" / "002.wav", dtype="int16")
    sf.write(tmp_path / "high" / "other.flac", samples, rate)
    data, account = gate(tmp_path)
    found = said(account)
    assert (
        found["duplicate"].startswith("1 row repeats") and "but for loudness, rate, coding" in found["near_duplicate"]
    )
    assert "1 input (3 rows) has copies whose labels are different" in found["conflicting_label"]
    assert data.clusters is not None and len(set(data.clusters.tolist())) == 4


def test_silent_clipped_and_short_sounds_are_named() -> None:
    good = [(x, rate) for x, rate in ts.sounds(4)]
    silent = (np.full(16000, 0.25, np.float32), 16000)
    clipped = (np.clip(8 * good[0][0], -1, 1), 16000)
    short = (good[1][0][:800], 8001)
    _, account = gate({"sound": [*good, silent, clipped, short], "label": ["a", "b"] * 3 + ["a"]})
    lines = {f.kind: f.lines for f in account.findings}
    assert lines["silent_sound"] == (5,) and lines["clipped_sound"] == (6,) and lines["short_sound"] == (7,)
    assert said(account)["mixed_rates"].startswith("sounds have 2 sampling rates: 16,000 Hz (6 rows), 8,001 Hz (1 row)")


def test_what_a_model_does_not_read_is_counted() -> None:
    given = {"sound": [(np.ones(16000 * s, np.float32) * s / 9, 16000) for s in (1, 2, 4)], "label": ["a", "b", "a"]}

    def lengths(limit: float, filled: bool) -> Any:
        return lambda inputs: Seconds(np.array([len(x) / rate for x, rate in inputs]), limit, filled)

    over = said(gate(given, measure=lengths(1.5, False))[1])["truncated"]
    assert "2 rows (67%) are longer than 1.5 seconds; 3 seconds (43% of all) from their end are not read" in over
    assert "try --truncation chunk, or raise --max-seconds" in over

    def handled(how: str) -> Any:
        return lambda inputs: Seconds(np.array([len(x) / rate for x, rate in inputs]), 1.5, False, how, 5)

    account = gate(given, measure=handled("chunk"))[1]
    (whole,) = [f for f in account.findings if f.kind == "truncated"]
    assert whole.severity == "info" and "2 rows (67%) are longer than 1.5 seconds; they are read in 5 windows" in (
        whole.message
    )
    assert account.facts["seconds"]["lost"] == 0.0 and account.facts["seconds"]["windows"] == 5  # type: ignore[index]
    with pytest.raises(UserError, match=r"2 rows \(67%\) are longer than 1.5 seconds \(lines 2, 3\); cut them"):
        gate(given, measure=handled("fail"))
    fill = said(gate(given, measure=lengths(40, True))[1])["filled"]
    assert "the longest sound has 4 seconds" in fill and "--max-seconds 8 takes about 5 times less time" in fill
    for quiet in (lengths(40, False), lengths(20, True)):
        assert not {"filled", "truncated"} & said(gate(given, measure=quiet)[1]).keys()


def test_inputs_from_python(tmp_path: Path) -> None:
    line, rate = ts.sounds(1)[0]
    sf.write(tmp_path / "a.wav", line, rate)
    assert KINDS["audio"] is AUDIO
    assert AUDIO.given(tmp_path / "a.wav", Columns(), 0) == str(tmp_path / "a.wav")
    assert AUDIO.given((tmp_path / "a.wav").read_bytes(), Columns(), 0) == (tmp_path / "a.wav").read_bytes()
    assert AUDIO.given(None, Columns(), 0) is None and AUDIO.given(" ", Columns(), 0) is None
    with pytest.raises(UserError, match=r"input 3 \(.*none.wav\) is not there"):
        AUDIO.given(tmp_path / "none.wav", Columns(), 2)
    with pytest.raises(UserError, match=r"input 1 \(a sound in memory\) is ndarray; a sound is a path"):
        AUDIO.given(line, Columns(), 0)


def test_a_sound_is_drawn_and_played(tmp_path: Path) -> None:
    import base64

    line, rate = ts.sounds(1)[0]
    assert AUDIO.shown((line, rate)) == f"a sound in memory ({len(line) / rate:.3g} s)"
    assert AUDIO.picture is not None and AUDIO.played is not None
    picture = base64.b64decode(AUDIO.picture((line, rate)).removeprefix("data:image/svg+xml;base64,")).decode()
    assert picture.startswith("<svg") and picture.count("M") == 256
    (tmp_path / "a.mp3").write_bytes(
        base64.b64decode(AUDIO.played((line, rate)).removeprefix("data:audio/mpeg;base64,"))
    )
    heard, heard_rate = sf.read(tmp_path / "a.mp3", dtype="float32")
    assert (
        heard_rate == rate and abs(len(heard) - len(line)) < 100 and np.corrcoef(heard[:1000], line[:1000])[0, 1] > 0.9
    )
