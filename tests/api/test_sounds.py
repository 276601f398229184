"""Sounds through the whole of it: fit, predict, evaluate, report, save, load."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import acclimate
import tiny_sounds as ts
from acclimate.model import load as load_predictor

sf = pytest.importorskip("soundfile", reason="sounds need the `audio` extra")
pytest.importorskip("soxr", reason="sounds need the `audio` extra")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(ts.write("whisper", tmp_path_factory.mktemp("models") / "tiny-whisper"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model_folder: str) -> Path:
    """A finished run on a folder with one damaged file."""
    place = tmp_path_factory.mktemp("sounds")
    ts.folder(place / "train", 40)
    (place / "train" / "low" / "broken.wav").write_bytes(b"RIFF and no more")
    ts.folder(place / "test", 20, seed=1)
    acclimate.fit(
        place / "train", test_data=place / "test", model=model_folder, strategy="linear_probe", max_seconds=0.8,
        output_dir=place / "run", quiet=True,
    )  # fmt: skip
    return place / "run"


def test_fit_learns_and_accounts_for_every_file(run: Path) -> None:
    model = acclimate.load(run)
    assert model.scores is not None and model.scores.estimates["accuracy"].value == 1.0
    assert model.columns.kind == "audio"
    assert {b["key"] for b in model.report_data.baselines} == {"majority", "spectra"}  # type: ignore[union-attr]
    audits = {a["role"]: a for a in model.report_data.audits}  # type: ignore[union-attr]
    assert (audits["train"]["read"], audits["train"]["kept"]) == (41, 40)
    assert list(audits["train"]["dropped"]) == ["broken_file"]
    assert model.predictor.backbone.settings()["seconds"] == 0.8  # type: ignore[union-attr]


def test_predict_reads_folders_paths_and_arrays_alike(run: Path, tmp_path: Path) -> None:
    model = acclimate.load(run)
    given = ts.sounds(6, seed=2)
    paths = [tmp_path / f"{i}.wav" for i in range(6)]
    for path, (line, rate) in zip(paths, given, strict=True):
        sf.write(path, line, rate)
    wanted = model.predict(given)
    assert wanted == ["low", "high"] * 3
    assert model.predict(paths) == wanted and model.predict([str(p) for p in paths]) == wanted
    assert model.predict(str(paths[3])) == wanted[3:4]
    (tmp_path / "bad.wav").write_bytes(b"")
    table, columns = model.predict_table(tmp_path)
    assert columns["prediction"] == [*wanted, None]
    assert table.columns["file"][-1] == "bad.wav" and columns["note"][-1] == "the file is empty (0 bytes)"


def test_evaluate_and_the_bundle(run: Path, tmp_path: Path) -> None:
    model = acclimate.load(run)
    assert model.evaluate(run.parent / "test").estimates["accuracy"].value == 1.0
    given = ts.sounds(6, seed=2)
    again = acclimate.load(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(again.predict_proba(given), model.predict_proba(given))
    without = model.baselines["spectra"]
    saved = load_predictor(without.save(tmp_path / "spectra"))
    np.testing.assert_array_equal(saved.logits(given), without.logits(given))


@pytest.mark.real  # slow
def test_mistakes_are_shown_and_played(tmp_path: Path, model_folder: str) -> None:
    labels = ["low" if i % 2 == 0 or i % 7 == 3 else "high" for i in range(40)]
    given = {"sound": ts.sounds(40), "label": labels}
    model = acclimate.fit(given, model=model_folder, strategy="centroid", output_dir=tmp_path / "r", quiet=True)
    page = (tmp_path / "r" / "report.html").read_text()
    wrong = len(model.report_data.mistakes or [])  # type: ignore[union-attr]
    assert wrong > 0 and page.count('class="seen" src="data:image/svg+xml;base64,') == wrong
    assert page.count('<audio class="heard" controls preload="none" src="data:audio/mpeg;base64,') == wrong
    acclimate.fit(
        given, model=model_folder, strategy="centroid", output_dir=tmp_path / "p", quiet=True, private=True
    )  # fmt: skip
    assert "<audio" not in (tmp_path / "p" / "report.html").read_text()


def test_the_wrong_model_baseline_or_setting_is_refused(tmp_path: Path, model_folder: str) -> None:
    train = ts.folder(tmp_path / "train", 12)
    with pytest.raises(acclimate.UserError, match="tfidf is no baseline of sounds"):
        acclimate.fit(train, strategy="tfidf", quiet=True)
    with pytest.raises(acclimate.UserError, match="reads image, and the inputs here are sounds"):
        acclimate.fit(train, model="small-cnn", strategy="centroid", quiet=True)
    with pytest.raises(acclimate.UserError, match="seconds 3 is outside what this model takes: 0.1 to 2"):
        acclimate.fit(train, model=model_folder, max_seconds=3, quiet=True)


def test_a_network_that_moves(tmp_path: Path, model_folder: str) -> None:
    train = ts.folder(tmp_path / "train", 24)
    model = acclimate.fit(
        train, model=model_folder, strategy="full", output_dir=tmp_path / "run", quiet=True, num_train_epochs=1,
        max_seconds=0.7, test_data=ts.folder(tmp_path / "test", 10, seed=1),
    )  # fmt: skip
    shutil.rmtree(train)
    given = ts.sounds(4, seed=2)
    np.testing.assert_array_equal(acclimate.load(tmp_path / "run").predict_proba(given), model.predict_proba(given))


def test_long_sounds_in_windows_with_changes_from_fit_to_the_bundle(tmp_path: Path, model_folder: str) -> None:
    train, test = ts.folder(tmp_path / "train", 24), ts.folder(tmp_path / "test", 8, seed=1)
    line, rate = ts.sounds(1)[0]
    sf.write(train / "low" / "long.wav", np.tile(line, 9)[: 2 * rate], rate)
    sf.write(train / "low" / "again.mp3", 0.5 * np.tile(line, 9)[: 2 * rate], rate)
    model = acclimate.fit(
        train, test_data=test, model=model_folder, strategy="full", output_dir=tmp_path / "run", quiet=True,
        num_train_epochs=1, max_seconds=0.7, truncation="chunk", settings={"augment": "light"},
    )  # fmt: skip
    audit = next(a for a in model.report_data.audits if a["role"] == "train")  # type: ignore[union-attr]
    messages = {f["kind"]: f["message"] for f in audit["findings"]}
    assert "2 rows (8%) are longer than 0.7 seconds; they are read in 8 windows" in messages["truncated"]
    assert audit["facts"]["seconds"]["windows"] == 8
    assert model.predictor.backbone.settings()["truncation"] == "chunk"  # type: ignore[union-attr]
    given = [*ts.sounds(2, seed=2), (np.tile(line, 9)[: 2 * rate], rate)]
    again = acclimate.load(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(again.predict_proba(given), model.predict_proba(given))
    halves = again.predictor.backbone.encode(given[2:])[0].parts  # type: ignore[union-attr]
    assert len(halves) == 4
