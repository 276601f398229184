"""A picture, a text and numbers in one row, from end to end: what cannot be read is said, and missing."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json

import acclimate
import tiny_models as tm
from acclimate import strategies
from acclimate.api import state
from acclimate.api.finish import clusters_of
from acclimate.data.audit import audit
from acclimate.data.columns import guess
from acclimate.data.cross import cross_check
from acclimate.data.read import read
from acclimate.data.rows import Columns
from acclimate.data.split import folds, units
from acclimate.errors import UserError
from acclimate.strategies.boosting import Boosting

Image = pytest.importorskip("PIL.Image", reason="pictures need the `image` extra")
Fit = Callable[..., acclimate.Model]
ODD = {2: "gone.png", 3: "broken.png", 4: "", 5: "notes.png"}  # by row, from 0
ASKED: dict[str, Any] = {"label": "band", "file_column": "photo", "text_column": "title", "strategy": "linear_probe"}


def listings(place: Path, n: int = 60) -> Path:
    """listings.csv: the picture's left half is bright in one class, the title has words of it; the photo of some rows
    cannot be read."""
    rng = np.random.default_rng(0)
    (place / "photos").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(place / "broken.png")
    (place / "broken.png").write_bytes((place / "broken.png").read_bytes()[:900])
    (place / "notes.png").write_text("no picture")
    with (place / "listings.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["photo", "title", "rooms", "band"])
        for i in range(n):
            pixels = rng.integers(0, 120, (40, 40, 3), dtype=np.uint8)
            pixels[:, : 20 if i % 2 else 0] += 120
            Image.fromarray(pixels).save(place / "photos" / f"{i}.png")
            title = f"{(tm.GOOD if i % 2 else tm.BAD)[i % 7]} river {tm.NEUTRAL[i % 12]} {i}"
            photo = ODD.get(i, f"photos/{i}.png")
            out.writerow([photo, "" if i in (4, 6) else title, "" if i == 4 else 1 + i % 4, ["low", "high"][i % 2]])
    return place / "listings.csv"


@pytest.fixture(scope="module")
def model_name(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> str:
    return f"columns+{folder}+{tm.write_vit(tmp_path_factory.mktemp('vit') / 'tiny-vit')}"


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in (strategies.BASELINES, strategies.STRATEGIES, strategies.EVERY):
        if "boosting" in known:
            monkeypatch.setitem(known, "boosting", Boosting(rounds=5, leaves=3, least=5))


def test_rows_of_one_file_stay_on_one_side_of_every_split(tmp_path: Path) -> None:
    """A picture that several rows hold, one that is nearly it, and one that stands for "none" in too many rows."""
    listings(tmp_path)
    with (tmp_path / "listings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    blocks = np.random.default_rng(1).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    wide = Image.fromarray(np.kron(blocks, np.ones((20, 20, 1), np.uint8)))
    wide.save(tmp_path / "photos" / "a.png")
    wide.resize((96, 96)).save(tmp_path / "photos" / "b.png")  # nearly the same
    for i in (11, 12, 40):
        rows[i]["photo"] = "photos/a.png"
    rows[50]["photo"] = "photos/b.png"
    for i in range(20, 36):
        rows[i]["photo"] = "photos/20.png"  # more than a fifth of 60
    with (tmp_path / "l.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)
    table = read(tmp_path / "l.csv")
    known = guess(table, Columns(label="band", file="photo", text=("title",))).columns
    data, account = audit(table, known, "classify")
    found = {f.kind: f.lines for f in account.findings if f.kind in ("shared_file", "placeholder_file")}
    lines = {i: n for i, n in enumerate(data.lines)}
    assert found["shared_file"] == (13, 14, 42, 52) and found["placeholder_file"] == tuple(range(22, 38))
    at = [i for i, n in lines.items() if n in found["shared_file"]]
    unit = units(data)
    assert len(set(unit[at].tolist())) == 1 and len(set(unit.tolist())) == len(data) - 3
    for _, test in folds(data, "classify", k=5, seed=1):
        assert len(set(at) & set(test.tolist())) in (0, 4)
    assert len(set(clusters_of(data).tolist())) == len(data) - 3  # and count as one in intervals
    assert units(data.take(at)).tolist() == [0] * 4
    train, other = data.take(range(30)), data.take(range(30, 59))
    (crossed,) = [f for f in cross_check(train, other, "test") if f.kind == "cross_file"]
    assert {42, 52} <= set(crossed.lines)


def test_a_mixed_table_is_learned_judged_reported_and_kept(fit: Fit, model_name: str, tmp_path: Path) -> None:
    file = listings(tmp_path / "here")
    model = fit(file, **ASKED, model=model_name, output_dir=tmp_path / "run")
    assert model.columns.holds == ("image", "text", "number") and model.columns.file is None
    (audit,) = read_json(tmp_path / "run" / "audit.json")
    assert (audit["read"], audit["kept"], audit["dropped"]) == (60, 59, {"blank_input": [6]})
    lost = {f["message"].split(": ", 2)[2]: f["lines"] for f in audit["findings"] if f["kind"] == "lost_file"}
    assert lost == {
        "the file is not there (gone.png)": [4],
        "the file is damaged or cut off (broken.png)": [5],
        "the file is no picture (notes.png)": [7],
    }
    report = model.report_data
    assert report is not None and report.mistakes is not None
    assert [b["key"] for b in report.baselines] == [
        "majority", "boosting", "tfidf", "alone_columns", "alone_text", "alone_image",
    ]  # fmt: skip
    assert any("All columns together, less each kind by itself (linear_probe" in text for text in report.decisions)
    assert set(model.baselines) == {"majority", "boosting", "tfidf"}
    pictures = [one["picture"] for one in report.mistakes]
    assert all(uri == "" or uri.startswith("data:image/jpeg;base64,") for uri in pictures)

    moved = tmp_path / "there"
    shutil.copytree(tmp_path / "run" / "model", moved / "bundle")
    again = acclimate.load(moved / "bundle")
    with pytest.warns(UserWarning) as warned:
        wanted = model.predict_proba(file)
    assert sorted(str(one.message)[-9:] for one in warned) == [" (line 4)", " (line 5)", " (line 7)"]
    with pytest.warns(UserWarning):
        np.testing.assert_array_equal(again.predict_proba(file), wanted)
    place = file.parent
    rows = [
        {**row, "photo": row["photo"] and str(place / row["photo"])}
        for row in csv.DictReader(file.read_text().splitlines())
    ]
    np.testing.assert_allclose(again.predict_proba(rows[8:9])[0], wanted[8], atol=1e-6)
    with Image.open(place / "photos" / "8.png") as picture:
        in_memory = {**rows[8], "photo": picture.copy()}
    np.testing.assert_allclose(again.predict_proba([in_memory])[0], wanted[8], atol=1e-6)
    other = again.predict_proba([{**rows[8], "photo": rows[9]["photo"]}, {**rows[8], "photo": None}])
    assert np.isfinite(other).all() and not np.allclose(other[0], wanted[8]) and not np.allclose(other[1], wanted[8])
    told = again.predict_parts(file).said
    assert len(told) == 3 and "(line 4)" in told[0]
    with pytest.raises(UserError, match=r"input 1 is no picture: there is no file 'gone.png'"):
        again.predict([("gone.png", "good", 2)])
    assert again.evaluate(file).n == 59


def test_a_changed_picture_is_other_data(fit: Fit, tmp_path: Path) -> None:
    file = listings(tmp_path / "here", n=8)
    table, columns = read(file), guess(read(file), Columns(label="band", file="photo", text=("title",))).columns
    assert columns.files == ("photo",)
    before = state.content_of({"train": table}, columns.files)
    Image.new("RGB", (40, 40)).save(file.parent / "photos" / "0.png")
    assert state.content_of({"train": table}, columns.files) != before


def test_columns_of_files_are_told_named_and_left_out(tmp_path: Path) -> None:
    table = read(listings(tmp_path / "here"))
    alone = guess(table, Columns(label="band"))
    assert alone.columns.kind == "image" and alone.columns.file == "photo"
    said = "the picture alone is read; 2 other columns are not learned from: 'title', 'rooms' (--modality table"
    assert any(reason.startswith(said) for reason in alone.reasons)
    asked = guess(table, Columns(label="band", kind="table")).columns
    assert dict(zip(asked.features, asked.holds, strict=True)) == {"photo": "image", "title": "text", "rooms": "number"}
    without = guess(table, Columns(label="band", kind="table", features=("photo",), holds=("none",))).columns
    assert without.holds == ("none", "text", "number") and without.files == ()
    with pytest.raises(UserError, match="column 'title' does not hold image or audio files by their endings"):
        guess(table, Columns(label="band", kind="table", file="title"))


def test_what_no_network_reads_is_said(
    fit: Fit, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = listings(tmp_path / "here")
    fit(file, **{**ASKED, "strategy": "centroid"}, model=str(folder), quiet=False)
    told = "photo: pictures, which columns+tiny-bert leaves out; --model columns+tiny-bert+mobilenetv2 reads them, too"
    assert told in capsys.readouterr().err


def test_no_picture_that_can_be_read_is_an_error_in_the_gate(tmp_path: Path) -> None:
    file = listings(tmp_path / "here")
    shutil.rmtree(file.parent / "photos")
    shown = acclimate.inspect(file, label="band", modality="table")
    severity = {f.severity for f in shown.audit.findings if f.kind == "lost_file"}
    assert severity == {"error"} and shown.audit.kept == 59
    private = acclimate.inspect(file, label="band", modality="table", private=True)
    assert not any("gone.png" in f.message for f in private.audit.findings)


def test_corrections_of_a_mixed_table_are_kept_with_their_pictures(fit: Fit, model_name: str, tmp_path: Path) -> None:
    file = listings(tmp_path / "here")
    fit(file, **{**ASKED, "strategy": "centroid"}, model=model_name, output_dir=tmp_path / "run")
    first, second = (tmp_path / "here" / name for name in ("first.csv", "second.csv"))
    first.write_text("photo,title,rooms,band\nphotos/8.png,good river,2,high\n")
    second.write_text("photo,title,rooms,band\nphotos/9.png,bad river,3,low\n")
    acclimate.correct(tmp_path / "run", first, output_dir=tmp_path / "once")
    assert "1 from earlier" in str(acclimate.correct(tmp_path / "once", second, output_dir=tmp_path / "twice"))


def test_a_table_without_a_number_has_no_boosting_beside_it(fit: Fit, model_name: str, tmp_path: Path) -> None:
    model = fit(listings(tmp_path / "here"), **ASKED, model=model_name, drop=["rooms"])
    assert set(model.baselines) == {"majority", "tfidf"}
    assert [b["key"] for b in model.report_data.baselines][2:] == ["alone_text", "alone_image"]  # type: ignore[union-attr]


def test_a_run_goes_on_unless_a_picture_has_changed(fit: Fit, model_name: str, tmp_path: Path) -> None:
    file = listings(tmp_path / "here")
    asked = {**ASKED, "model": model_name, "output_dir": tmp_path / "run", "resume": True}
    fit(file, **asked)
    assert fit(file, **asked).run_dir == tmp_path / "run"
    Image.new("RGB", (40, 40)).save(file.parent / "photos" / "0.png")
    with pytest.raises(UserError, match="the train data differs from what it was made with"):
        fit(file, **asked)
