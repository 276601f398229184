"""Pictures through the whole of it: fit, predict, evaluate, report, save, load, go on."""

from __future__ import annotations

import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import acclimate
import tiny_models as tm
from acclimate import strategies
from acclimate.api import deciding
from acclimate.api.shifting import measure_shift
from acclimate.backbones import load
from acclimate.errors import UserError
from acclimate.files import read_object
from acclimate.model import load as load_predictor
from acclimate.strategies.consistency import Consistency
from acclimate.strategies.tune import Tune
from drawn import bars, folder
from tiny_scenes import timm_folder

MODEL = "small-cnn:24"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a folder with one damaged file."""
    place = tmp_path_factory.mktemp("pictures")
    folder(place / "train", 60)
    (place / "train" / "one" / "broken.png").write_bytes(b"\x89PNG and no more")
    folder(place / "test", 30, seed=1)
    acclimate.fit(
        place / "train", test_data=place / "test", model=MODEL, strategy="linear_probe", output_dir=place / "run",
        quiet=True,
    )  # fmt: skip
    return place / "run"


def test_fit_learns_and_accounts_for_every_file(run: Path) -> None:
    model = acclimate.load(run)
    assert model.scores is not None and model.scores.estimates["accuracy"].value > 0.8  # type: ignore[operator]
    assert model.columns.kind == "image"
    assert {b["key"] for b in model.report_data.baselines} == {"majority", "pixels"}  # type: ignore[union-attr]
    audits = {a["role"]: a for a in model.report_data.audits}  # type: ignore[union-attr]
    assert (audits["train"]["read"], audits["train"]["kept"]) == (61, 60)
    assert list(audits["train"]["dropped"]) == ["not_a_picture"]
    assert all(m["line"] is None for m in model.report_data.mistakes or ())  # type: ignore[union-attr]


def test_predict_reads_folders_paths_arrays_and_pictures_alike(run: Path, tmp_path: Path) -> None:
    model = acclimate.load(run)
    pixels, _ = bars(10, seed=2)
    paths = []
    for i, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    wanted = model.predict(pixels)
    assert set(wanted) == {"one", "dash"}
    assert model.predict(paths) == wanted
    assert model.predict([str(p) for p in paths]) == wanted
    assert model.predict([Image.fromarray(one) for one in pixels]) == wanted
    assert model.predict(str(paths[3])) == wanted[3:4]
    assert model.predict(Image.fromarray(pixels[0])) == wanted[:1]
    (tmp_path / "bad.png").write_bytes(b"")
    table, columns = model.predict_table(tmp_path)
    assert columns["prediction"] == [*wanted, None]
    assert table.columns["file"][-1] == "bad.png" and columns["note"][-1] == "the file is empty (0 bytes)"


def test_evaluate_knows_what_was_learned_from(run: Path) -> None:
    model = acclimate.load(run)
    scores = model.evaluate(run.parent / "train")
    assert any("60 of 60 rows" in note for note in scores.notes)
    assert model.evaluate(run.parent / "test").estimates["accuracy"].value == pytest.approx(
        model.scores.estimates["accuracy"].value  # type: ignore[union-attr]
    )


def test_mistakes_are_shown(run: Path, tmp_path: Path) -> None:
    pixels, labels = bars(60, seed=3)
    labels = [labels[0] if i % 5 == 0 else label for i, label in enumerate(labels)]
    model = acclimate.fit(
        {"image": pixels, "label": labels}, model=MODEL, strategy="centroid", output_dir=tmp_path / "r", quiet=True
    )
    page = (tmp_path / "r" / "report.html").read_text()
    assert page.count('class="seen" src="data:image/jpeg;base64,') == len(model.report_data.mistakes or []) > 0  # type: ignore[union-attr]
    private = acclimate.fit(
        {"image": pixels, "label": labels}, model=MODEL, strategy="centroid", output_dir=tmp_path / "p", quiet=True,
        private=True,
    )  # fmt: skip
    assert "data:image/jpeg" not in (tmp_path / "p" / "report.html").read_text() and private.run_dir


def test_the_bundle_predicts_alone(run: Path, tmp_path: Path) -> None:
    model = acclimate.load(run)
    pixels, _ = bars(10, seed=2)
    again = acclimate.load(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(again.predict_proba(pixels), model.predict_proba(pixels))
    without = model.baselines["pixels"]
    saved = load_predictor(without.save(tmp_path / "pixels"))
    np.testing.assert_array_equal(saved.logits(pixels), without.logits(pixels))
    assert saved.plain is not None and saved.plain.holds == ""


def test_a_network_that_moves(tmp_path: Path) -> None:
    folder(tmp_path / "train", 48)
    model = acclimate.fit(
        tmp_path / "train", model=MODEL, strategy="full", output_dir=tmp_path / "run", quiet=True, num_train_epochs=2,
        test_data=folder(tmp_path / "test", 20, seed=1),
    )  # fmt: skip
    loaded = acclimate.load(tmp_path / "run")
    pixels, _ = bars(10, seed=2)
    np.testing.assert_array_equal(loaded.predict_proba(pixels), model.predict_proba(pixels))


@pytest.mark.real  # slow
def test_adapting_to_a_folder_without_labels(tmp_path: Path) -> None:
    folder(tmp_path / "train", 48)
    folder(tmp_path / "target", 40, seed=1)
    model = acclimate.fit(
        tmp_path / "train", target_data=tmp_path / "target", model=MODEL, strategy="self_train",
        output_dir=tmp_path / "run", quiet=True,
    )  # fmt: skip
    audits = {a["role"]: a for a in model.report_data.audits}  # type: ignore[union-attr]
    assert audits["target"]["kept"] == 40
    assert "source_only" in {b["key"] for b in model.report_data.baselines}  # type: ignore[union-attr]


def test_the_wrong_model_or_baseline_is_refused_before_it_learns(tmp_path: Path) -> None:
    train = folder(tmp_path / "train", 12)
    with pytest.raises(acclimate.UserError, match="tfidf is no baseline of pictures"):
        acclimate.fit(train, strategy="tfidf", quiet=True)
    with pytest.raises(acclimate.UserError, match=r"reads image, and the inputs here are texts.*such as minilm"):
        acclimate.fit({"text": ["a b"] * 4, "label": [0, 1] * 2}, model=MODEL, strategy="centroid", quiet=True)
    with pytest.raises(acclimate.UserError, match="unknown modality 'picture'"):
        acclimate.fit(train, modality="picture", quiet=True)


def test_a_picture_that_changes_is_other_data(tmp_path: Path) -> None:
    from acclimate.api.state import content_of
    from acclimate.data.read import read

    train = folder(tmp_path / "train", 6)
    before = content_of({"train": read(train)}, "file")
    Image.new("RGB", (24, 24)).save(train / "one" / "001.png")
    assert content_of({"train": read(train)}, "file") != before


def test_inspect_and_shift(tmp_path: Path) -> None:
    train, other = folder(tmp_path / "a", 40), folder(tmp_path / "b", 40, seed=1)
    found = acclimate.inspect(train)
    assert "images: the files of a folder" in found.reasons and found.audit.kept == 40
    shift = measure_shift(train, other, label="label", model=MODEL)
    assert shift.to_json()


def test_tiny_pictures_get_a_small_network_that_is_judged_by_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from acclimate.data.kinds import model_for
    from acclimate.data.read import read
    from acclimate.data.rows import Columns

    columns = Columns(file="file", kind="image")
    small, large = (read(folder(tmp_path / str(side), 4, side=side)) for side in (12, 40))
    assert model_for([small], columns)[0] == "small-cnn:12"
    assert model_for([small, large], columns)[0] == "mobilenetv2"
    looked: list[tuple[int, ...]] = []
    real = deciding.decide

    def noted(found: object, rows: object, **settings: object) -> object:
        looked.append(rows.target.shape)  # type: ignore[attr-defined]
        return real(found, rows, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(deciding, "decide", noted)
    for named in (strategies.ADAPTATIONS, strategies.EVERY):
        monkeypatch.setitem(named, "consistency", Consistency(steps=4, target_steps=2))
        monkeypatch.setitem(named, "full", Tune(num_train_epochs=1))
    monkeypatch.setitem(strategies.STRATEGIES, "full", Tune(num_train_epochs=1))
    folder(tmp_path / "train", 40, side=12)
    folder(tmp_path / "target", 30, seed=1, side=12)
    acclimate.fit(
        tmp_path / "train", target_data=tmp_path / "target", output_dir=tmp_path / "run", candidates=["centroid"],
        time_limit=120,
    )  # fmt: skip
    said = capsys.readouterr().err
    assert "small-cnn:12, a small network" in said and "judging consistency without labels" in said
    assert looked == [(30, 768)]  # pixels, not features of random weights


def test_the_next_command_names_a_folder_where_one_was_given(run: Path) -> None:
    steps = acclimate.load(run).report_data.next_steps  # type: ignore[union-attr]
    assert f"acclimate predict {run} NEW_FOLDER -o predictions.csv" in [step["command"] for step in steps]


def test_a_finished_run_of_pictures_is_known_by_what_they_hold(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    arguments = {"test_data": run.parent / "test", "model": MODEL, "strategy": "linear_probe", "quiet": True}
    again = acclimate.fit(run.parent / "train", output_dir=copy, resume=True, **arguments)
    assert again.run_dir == copy
    other = tmp_path / "other"
    shutil.copytree(run.parent / "train", other)
    Image.new("RGB", (24, 24)).save(other / "one" / "001.png")
    with pytest.raises(UserError, match="the train data differs from what it was made with"):
        acclimate.fit(other, output_dir=copy, resume=True, **arguments)


def test_what_was_learned_from_a_folder_reads_a_table_of_paths_and_the_reverse(run: Path, tmp_path: Path) -> None:
    test = run.parent / "test"
    files = sorted(p for p in test.rglob("*.png"))
    listed = "".join(f"{p},{p.parent.name}\n" for p in files)
    (tmp_path / "paths.csv").write_text(f"photo,kind\n{listed}")
    model = acclimate.load(run)
    wanted = model.predict(test)
    table, columns = model.predict_table(str(tmp_path / "paths.csv"))
    assert columns["prediction"] == wanted and list(table.columns) == ["photo", "kind"]
    scores = model.evaluate(str(tmp_path / "paths.csv"))
    assert scores.n == 30 and scores.estimates["accuracy"] == model.evaluate(test).estimates["accuracy"]
    assert {
        "files from column 'photo'; the model learned from 'file'",
        "labels from column 'kind'; the model learned from 'label'",
    } <= set(scores.notes)
    (tmp_path / "other.csv").write_text("photo,kind\n" + "".join(f"{p},other {i % 2}\n" for i, p in enumerate(files)))
    with pytest.raises(UserError, match="has no column 'label', which holds the labels"):
        model.evaluate(str(tmp_path / "other.csv"))

    back = acclimate.fit(tmp_path / "paths.csv", model=MODEL, strategy="centroid", quiet=True)
    assert (back.columns.file, back.columns.label) == ("photo", "kind")
    assert back.predict(test) == back.predict(str(tmp_path / "paths.csv"))
    assert back.predict(str(files[0])) == back.predict(test)[:1]
    assert back.evaluate(test).n == 30


def test_one_array_is_one_picture(run: Path) -> None:
    pixels, _ = bars(3, seed=5)
    model = acclimate.load(run)
    assert model.predict(pixels[0]) == model.predict(pixels)[:1]
    assert model.predict_proba(pixels[0][:, :, 0]).shape == (1, 2)
    assert len(model.predict(np.stack(pixels))) == 3


def test_only_what_is_looked_for_is_said_of_known_rows(run: Path) -> None:
    notes = acclimate.load(run).evaluate(run.parent / "train").notes
    assert not any("near duplicates" in note for note in notes)


def test_fit_inspect_and_shift_refuse_a_model_of_another_kind_alike(tmp_path: Path) -> None:
    folder(tmp_path / "a", 8)
    text = str(tm.write("bert", tmp_path / "bert"))
    told = "reads text, and the inputs here are pictures; `acclimate models list` shows those that read image"
    for call in (
        lambda: acclimate.fit(tmp_path / "a", model=text, quiet=True),
        lambda: acclimate.inspect(tmp_path / "a", model=text),
        lambda: measure_shift(tmp_path / "a", tmp_path / "a", model=text),
    ):
        with pytest.raises(UserError, match=told):
            call()
    with pytest.raises(UserError, match="a split by scaffold is for molecules"):
        acclimate.inspect(tmp_path / "a", split="scaffold")


def test_hybrid_asked_for_on_pictures_is_said_to_be_none(tmp_path: Path) -> None:
    folder(tmp_path / "a", 30)
    more = {"model": MODEL, "quiet": True, "candidates": ["hybrid", "centroid"]}
    decisions = acclimate.fit(tmp_path / "a", **more).report_data.decisions  # type: ignore[union-attr]
    told = "hybrid was not run: of pictures there are no plain features to put beside those of a network."
    assert told in decisions


def test_a_private_run_names_no_file(tmp_path: Path) -> None:
    folder(tmp_path / "train", 40)
    for name, old in (("secret copy.png", "001.png"), ("secret blank.png", None)):
        held = (tmp_path / "train" / "one" / old).read_bytes() if old else b""
        (tmp_path / "train" / "one" / name).write_bytes(held)
    acclimate.fit(
        tmp_path / "train", model=MODEL, strategy="centroid", private=True, output_dir=tmp_path / "run", quiet=True
    )
    for file in (tmp_path / "run").rglob("*"):
        assert file.is_dir() or b"secret" not in file.read_bytes(), file


def test_a_run_reads_pictures_at_the_size_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, network = folder(tmp_path / "train", 40), str(timm_folder(tmp_path / "net"))
    how = {"model": network, "strategy": "linear_probe", "image_size": 32}
    model = acclimate.fit(place, output_dir=tmp_path / "run", **how)
    said = "32 x 32 pixels (the model's own size is 64 x 64)"
    assert f"pictures are read at {said}" in capsys.readouterr().err
    page = unescape((tmp_path / "run" / "report.html").read_text())
    assert "pictures read at" in page and said in page
    assert read_object(tmp_path / "run" / "run.json")["preprocessing"]["size"] == 32
    pixels, _ = bars(6, seed=2)
    again = acclimate.load(tmp_path / "run")
    backbone = again.predictor.backbone  # type: ignore[union-attr]
    assert backbone is not None and backbone.read_at == said
    assert np.array_equal(again.predict_proba(pixels), model.predict_proba(pixels))  # type: ignore[union-attr]
    found = acclimate.inspect(place, model=network, image_size=32)
    assert f"pictures are read at {said}" in found.reasons
    report = measure_shift(place, folder(tmp_path / "other", 40, seed=1), model=network, image_size=32)
    assert report.to_json()


@pytest.mark.parametrize(
    ("rows", "how", "said"),
    [
        ({"text": ["a", "b"] * 30, "label": ["x", "y"] * 30}, {"model": "bert"}, "picture models; .*bert' reads te"),
        ({"age": [1, 2] * 30, "label": ["x", "y"] * 30}, {"model": "columns"}, "for picture models; 'columns' reads"),
        (None, {"model": "small-cnn:24"}, "image_size 32: 'small-cnn:24' reads 24 pixels a side"),
        (None, {"task": "detect"}, "--image-size is not for task 'detect': .* --set side=PIXELS"),
        (None, {"task": "segment"}, "--image-size is not for task 'segment': .* --set side=PIXELS"),
        (None, {"task": "transcribe"}, "--image-size has no meaning for task 'transcribe'"),
    ],
)  # fmt: skip
def test_a_size_is_refused_where_no_picture_is_read(
    rows: object, how: dict[str, str], said: str, tmp_path: Path
) -> None:
    given = folder(tmp_path / "train", 20) if rows is None else rows
    if how.get("model") == "bert":
        how = {"model": str(tm.write("bert", tmp_path / "bert", layers=1))}
    with pytest.raises(UserError, match=said):
        acclimate.fit(given, output_dir=tmp_path / "run", image_size=32, quiet=True, **how)


def test_the_network_from_scratch_takes_its_side_from_the_size() -> None:
    assert load("small-cnn", image_size=24).settings()["side"] == 24
    with pytest.raises(UserError, match="small-cnn reads pictures of 8 to 64 pixels a side, not 200"):
        load("small-cnn", image_size=200)


def test_a_size_that_nothing_would_read_at_is_refused(run: Path, tmp_path: Path) -> None:
    given = {"output_dir": tmp_path / "r", "quiet": True}
    with pytest.raises(UserError, match=r"image_size 40 says how a pretrained model reads, and pixels learns without"):
        acclimate.fit(run.parent / "train", strategy="pixels", image_size=40, **given)  # type: ignore[arg-type]
    for folder_of in (run, run / "model"):  # "reads text" was said of these
        with pytest.raises(UserError, match=r"was fitted, not one to start from; its network is in .*backbone"):
            acclimate.fit(run.parent / "train", model=str(folder_of), image_size=40, **given)  # type: ignore[arg-type]
