"""The RUN folder: what lies in it, that it is whole or not there, that it repeats, and what it keeps to itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json, rows, write_csv

import acclimate
from acclimate.api import runs

Fit = Callable[..., acclimate.Model]
TUNED = {"strategy": "full", "settings": {"num_train_epochs": 1, "learning_rate": 1e-3}}


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv", rows(60))


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def test_what_lies_in_a_run(fit: Fit, train: Path, tmp_path: Path) -> None:
    fit(train, label="label", test_data=write_csv(tmp_path / "t.csv", rows(20, seed=1)), output_dir=tmp_path / "run",
        seed=7, **TUNED)  # fmt: skip
    run = tmp_path / "run"
    wanted = {"audit.json", "metrics.json", "history.jsonl", "report.html", "report.md", "run.json", "model",
              "model/head.safetensors", "model/acclimate.json", "model/columns.json", "model/backbone/config.json",
              "model/backbone/model.safetensors", "model/backbone/tokenizer.json", "baselines/majority",
              "baselines/tfidf", "test_uses.json", "report.json"}  # fmt: skip
    assert wanted <= names(run)
    assert {p.suffix for p in run.rglob("*") if p.is_file()} <= {
        ".json", ".jsonl", ".html", ".md", ".safetensors", ".txt"
    }  # fmt: skip
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    about = read_json(run / "run.json")
    assert about["seed"] == 7
    assert {"python", "acclimate", "torch", "transformers", "scikit-learn", "numpy"} <= set(about["versions"])
    assert set(about["data_sha256"]) == {"rows", "train", "test"}
    assert all(re.fullmatch(r"[0-9a-f]{64}", h) for h in about["data_sha256"].values())
    settings = about["settings"]
    assert (settings["num_train_epochs"], settings["learning_rate"], settings["batch_size"]) == (1, 1e-3, 16)
    assert about["asked"]["settings"] == TUNED["settings"]
    assert (about["strategy"], about["metric"], about["task"]) == ("full", "accuracy", "classify")
    assert about["preprocessing"]["max_length"] == 64
    assert about["preprocessing"]["truncation"] == "head"
    assert about["columns"]["text"] == ["text"]
    assert about["rows"] == {"train": 60, "test": 20}
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [h["epoch"] for h in history] == [0, 1]
    assert read_json(run / "metrics.json").keys() >= {
        "metric", "value", "low", "high", "n", "metrics", "per_class", "baseline"
    }  # fmt: skip


def test_the_resolved_decision_is_written_down(fit: Fit, tmp_path: Path) -> None:
    fit(rows(60), positive="bad", specificity=0.9, output_dir=tmp_path / "run")
    decision = read_json(tmp_path / "run" / "run.json")["decision"]
    assert (decision["positive"], decision["specificity"]) == ("bad", 0.9)
    assert 0 < decision["threshold"] <= 1


# -- F7 ----------------------------------------------------------------------------------------------------------------

AGAIN = """
import dataclasses, sys
import acclimate
from acclimate.api import prepare
from acclimate.strategies import BASELINES

# As in conftest.py.
BASELINES["tfidf"] = dataclasses.replace(BASELINES["tfidf"], strength=1.0)
folds = prepare.folds
prepare.folds = lambda *args, **settings: folds(*args, **{**settings, "repeats": 1})
acclimate.fit(sys.argv[1], label="label", model=sys.argv[2], strategy="full", quiet=True, output_dir=sys.argv[3],
              test_data=sys.argv[4], settings={"num_train_epochs": 1, "learning_rate": 1e-3})
"""


@pytest.mark.real
def test_the_same_fit_gives_the_same_numbers(fit: Fit, folder: Path, tmp_path: Path) -> None:
    """Twice in one process, with workers, and in another process with a cold cache."""
    train, test = write_csv(tmp_path / "train.csv", rows(48)), write_csv(tmp_path / "test.csv", rows(40, seed=1))
    for name, workers in (("a", 0), ("b", 0), ("c", 2)):
        fit(train, label="label", test_data=test, output_dir=tmp_path / name, num_workers=workers, **TUNED)
    script = tmp_path / "again.py"
    script.write_text(AGAIN)
    environment = {**os.environ, "ACCLIMATE_CACHE": str(tmp_path / "cold"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(train), str(folder), str(tmp_path / "d"), str(test)]
    subprocess.run(command, check=True, timeout=120, env=environment)
    for file in (
        "metrics.json",
        "history.jsonl",
        "audit.json",
        "model/backbone/model.safetensors",
        "model/acclimate.json",
    ):
        first = (tmp_path / "a" / file).read_bytes()
        assert {name: (tmp_path / name / file).read_bytes() == first for name in "bcd"} == dict.fromkeys("bcd", True)


# -- whole or not there ------------------------------------------------------------------------------------------------


def state(folder: Path) -> dict[str, bytes]:
    """Every file of the run, what is kept to go on from left out."""
    found = {name: folder / name for name in names(folder) if not name.startswith("state/")}
    return {name: path.read_bytes() for name, path in found.items() if path.is_file()}


def test_an_existing_folder_is_left_as_it_is(fit: Fit, train: Path, tmp_path: Path) -> None:
    fit(train, label="label", output_dir=tmp_path / "run")
    before = state(tmp_path / "run")
    with pytest.raises(acclimate.UserError, match=r"run exists already; name another --output-dir, or .*--overwrite"):
        fit(train, label="label", output_dir=tmp_path / "run", seed=1)
    assert state(tmp_path / "run") == before
    fit(train, label="label", output_dir=tmp_path / "run", seed=1, overwrite=True)
    assert read_json(tmp_path / "run" / "run.json")["seed"] == 1
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_overwrite_leaves_what_acclimate_did_not_write(fit: Fit, train: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for name in ("mine", "file"):
        with pytest.raises(acclimate.UserError, match="was not written by acclimate"):
            fit(train, label="label", output_dir=tmp_path / name, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    fit(train, label="label", output_dir=tmp_path / "empty")
    assert (tmp_path / "empty" / "run.json").is_file()


def test_a_failed_fit_leaves_an_old_run_in_its_place(
    fit: Fit, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(train, label="label", output_dir=tmp_path / "run")
    before = state(tmp_path / "run")

    def broken(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(acclimate.Model, "report", broken)
    with pytest.raises(acclimate.UserError, match="No space left"):
        fit(train, label="label", output_dir=tmp_path / "run", overwrite=True)
    assert state(tmp_path / "run") == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    monkeypatch.undo()
    assert fit(None, output_dir=tmp_path / "run", resume=True, model=None, strategy="auto").run_dir
    assert read_json(tmp_path / "run" / "run.json")["data_sha256"] == json.loads(before["run.json"])["data_sha256"]
    assert not (tmp_path / "run" / "state").exists()


KILLED = """
import sys, time
import acclimate
from acclimate.api.model import Model

def slow(self, path="report.html"):
    print("writing", flush=True)
    time.sleep(60)

Model.report = slow
acclimate.fit(sys.argv[1], label="label", model=sys.argv[2], strategy="majority", quiet=True, output_dir=sys.argv[3])
"""


@pytest.mark.real  # slow
def test_a_killed_fit_leaves_no_half_run(fit: Fit, train: Path, folder: Path, tmp_path: Path) -> None:
    """Killed at the worst moment, with half of the files written; the next fit clears what is left."""
    runs_folder = tmp_path / "out"
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(train), str(folder), str(runs_folder / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    assert [p.name for p in (runs_folder / "run").iterdir()] == ["state"]
    assert [p.name for p in runs_folder.iterdir() if not p.name.startswith(".")] == ["run"]
    assert len(list(runs_folder.iterdir())) == 2  # the other is hidden, and named after its process
    with pytest.raises(acclimate.UserError, match="is not finished; go on with it by --resume, or .* --overwrite"):
        fit(train, label="label", output_dir=runs_folder / "run")
    fit(None, output_dir=runs_folder / "run", resume=True, model=None, strategy="auto")
    assert [p.name for p in runs_folder.iterdir()] == ["run"]
    assert "run.json" in names(runs_folder / "run")
    assert not (runs_folder / "run" / "state").exists()


def test_without_a_name_a_run_gets_a_dated_folder_of_its_own(fit: Fit, train: Path) -> None:
    first, second = (fit(train, label="label").run_dir for _ in range(2))
    assert first is not None and second is not None and first != second
    assert re.fullmatch(r"runs/\d{4}-\d\d-\d\d-\d{6}-train(-\d+)?", str(first))
    assert (second / "run.json").is_file()


# -- later -------------------------------------------------------------------------------------------------------------


def test_uses_of_a_test_file_are_counted_and_shown(fit: Fit, train: Path, tmp_path: Path) -> None:
    test = write_csv(tmp_path / "test.csv", rows(20, seed=1))
    model = fit(train, label="label", output_dir=tmp_path / "run")
    assert model.evaluate(test).uses == 1
    scores = acclimate.load(tmp_path / "run").evaluate(test)
    assert scores.uses == 2
    assert "these rows have been scored 2 times" in str(scores)
    uses = read_json(tmp_path / "run" / "test_uses.json")
    assert [u["count"] for u in uses.values()] == [2]
    given = fit(train, label="label", test_data=test, output_dir=tmp_path / "given")
    assert given.evaluate(test).uses == 2
    assert given.evaluate(rows(20, seed=1)).uses is None  # not a file


def test_comparing_is_a_use_too(fit: Fit, train: Path, tmp_path: Path) -> None:
    test = write_csv(tmp_path / "test.csv", rows(20, seed=1))
    for name, strategy in (("a", "majority"), ("b", "tfidf")):
        fit(train, label="label", strategy=strategy, output_dir=tmp_path / name)
    acclimate.compare([tmp_path / "a", tmp_path / "b"], test)
    for name in "ab":
        assert [u["count"] for u in read_json(tmp_path / name / "test_uses.json").values()] == [1]


def test_compare_gives_paired_differences_to_the_first(fit: Fit, train: Path, tmp_path: Path) -> None:
    for name, strategy in (("none", "majority"), ("words", "tfidf"), ("same", "majority")):
        fit(train, label="label", strategy=strategy, output_dir=tmp_path / name)
    data = rows(60, seed=1)
    found = acclimate.compare([tmp_path / n for n in ("none", "words", "same")], data)
    first, words, same = found.rows
    assert found.metric == "accuracy"
    assert (first["difference"], first["value"], first["n"]) == (None, 0.5, 60)
    assert words["difference"]["verdict"] == "better"
    assert words["difference"]["value"] == pytest.approx(words["value"] - 0.5)
    assert words["difference"]["low"] > 0
    assert (same["difference"]["value"], same["difference"]["verdict"]) == (0.0, "not decidable")
    assert "not decidable" in str(found)
    assert json.loads(json.dumps(found.to_json()))["rows"][1]["name"] == str(tmp_path / "words")


def test_only_like_models_are_compared(fit: Fit, train: Path, tmp_path: Path) -> None:
    fit(train, label="label", output_dir=tmp_path / "a")
    fit(rows(45, ("bad", "good", "odd")), output_dir=tmp_path / "b")
    fit({"text": rows(40)["text"], "label": [float(i) + 0.5 for i in range(40)]}, strategy="majority",
        output_dir=tmp_path / "c")  # fmt: skip
    other = rows(40)
    fit({"review": other["text"], "label": other["label"]}, output_dir=tmp_path / "d")
    one_class = {"text": ["good", "great"], "label": ["good", "good"]}
    undefined = acclimate.compare([tmp_path / "a", tmp_path / "a"], one_class, metric="roc_auc")
    assert undefined.rows[0]["value"] is None
    assert "a: undefined" in str(undefined)
    for pair, message in (
        ("a", "two runs or more"),
        ("ab", "only models of the same classes can be compared"),
        ("ac", "different kinds of question"),
        ("ad", "reads 'text' and .* reads 'review'"),
    ):
        with pytest.raises(acclimate.UserError, match=message):
            acclimate.compare([tmp_path / n for n in pair], rows(20))


def test_print_shows_the_verdict_and_the_scores(fit: Fit, train: Path, tmp_path: Path) -> None:
    model = fit(train, label="label", strategy="tfidf", output_dir=tmp_path / "run")
    text = str(model)
    assert text.startswith("Without transfer, as asked: tfidf reaches accuracy ")
    assert re.search(r"accuracy +\d\.\d+ \[\d\.\d+, \d\.\d+\]", text)
    assert "majority (accuracy): 0.5" in text
    assert str(acclimate.load(tmp_path / "run")) == text


def test_a_report_goes_where_it_is_told(fit: Fit, train: Path, tmp_path: Path) -> None:
    model = fit(train, label="label", output_dir=tmp_path / "run")
    assert model.report(tmp_path / "r.html").read_bytes() == (tmp_path / "run" / "report.html").read_bytes()
    assert model.report(tmp_path / "r.md").read_text().startswith("#")
    kept = acclimate.load(model.save(tmp_path / "kept"))
    with pytest.raises(acclimate.UserError, match="load the RUN folder instead"):
        kept.report(tmp_path / "x.html")
    with pytest.raises(acclimate.UserError, match="exists already; give a new folder"):
        model.save(tmp_path / "kept")
    assert kept.evaluate(rows(20, seed=1)).value == model.evaluate(rows(20, seed=1)).value


# -- private -----------------------------------------------------------------------------------------------------------

MARKER = "zanzibarquux"


def with_marker(n: int, seed: int = 0) -> dict[str, list[Any]]:
    data = rows(n, seed=seed)
    data["text"] = [f"{t} {MARKER}{i}" for i, t in enumerate(data["text"])]
    data["text"][3] = data["text"][2].upper()  # a duplicate with another label: a finding
    return data


def holding(folder: Path) -> set[str]:
    """Files that hold the marker in any way that a search would find."""
    return {name for name, content in state(folder).items() if MARKER.encode() in content.lower()}


def test_a_private_run_holds_no_raw_input(fit: Fit, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train = write_csv(tmp_path / "train.csv", with_marker(220))
    given = {"label": "label", "quiet": False}
    fit(train, **given, private=True, strategy="linear_probe", output_dir=tmp_path / "private")
    model = acclimate.load(tmp_path / "private")
    print(model, model.evaluate(train))
    out = capfd.readouterr()
    assert MARKER not in (out.out + out.err).lower()
    assert holding(tmp_path / "private") == set()
    assert (tmp_path / "private").stat().st_mode & 0o077 == 0
    fit(train, **given, strategy="linear_probe", output_dir=tmp_path / "open")
    assert {"report.html", "report.md", "report.json", "baselines/tfidf/words.json"} <= holding(tmp_path / "open")
    cache = Path(os.environ["ACCLIMATE_CACHE"]) / "features"
    assert {p.stat().st_mode & 0o077 for p in cache.rglob("*")} == {0}


@pytest.mark.parametrize(
    ("strategy", "held"),
    [("hybrid", "words of the training texts"), ("knn", "the features of every training row"), ("centroid", "")],
)
def test_a_bundle_that_holds_training_data_says_so(
    strategy: str, held: str, fit: Fit, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(with_marker(60), strategy=strategy, private=True, quiet=False, output_dir=tmp_path / "run")
    said = "note: the saved model holds"
    assert (f"{said} {held}; mind that when you share it" if held else said) in capfd.readouterr().err or not held
    assert read_json(tmp_path / "run" / "model" / "acclimate.json")["holds_training_data"] == held
    steps = [s["text"] for s in read_json(tmp_path / "run" / "report.json")["next_steps"]]
    assert (f"Mind when sharing: the saved model holds {held}." in steps) == bool(held)
    assert holding(tmp_path / "run") == ({"model/words.json"} if strategy == "hybrid" else set())


def test_nothing_private_leaves_a_model_that_is_read_again(fit: Fit, tmp_path: Path) -> None:
    """What evaluate says of a labelled file is private too when the run was."""
    fit(with_marker(60), private=True, output_dir=tmp_path / "run")
    odd = with_marker(20, seed=1)
    odd["label"][0] = f"bad {MARKER}"
    _, beside = acclimate.load(tmp_path / "run").evaluation(odd)
    assert MARKER not in json.dumps([f["message"] for f in beside["audit"]["findings"]])


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    runs.write_json(tmp_path / "x.json", {"a": float("nan"), "b": np.float64("inf"), "c": np.array([1.5])})
    assert read_json(tmp_path / "x.json") == {"a": None, "b": None, "c": [1.5]}


def test_an_overwrite_that_was_killed_between_its_renames_gives_the_old_run_back(tmp_path: Path) -> None:
    from acclimate.api import runs

    old = tmp_path / ".r.999999999-abcdef.part.old"
    old.mkdir()
    (old / "run.json").write_text("{}")
    with pytest.raises(KeyError), runs.writing(tmp_path / "r"):
        raise KeyError("stop before the new run is whole")
    assert (tmp_path / "r" / "run.json").read_text() == "{}"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_comparison_says_which_run_learned_from_the_rows() -> None:
    from acclimate.api import Comparison

    row = {"value": 0.5, "low": None, "high": None, "n": 10, "difference": None}
    text = str(
        Comparison("accuracy", ({"name": "a", "learned_from": 0, **row}, {"name": "b", "learned_from": 7, **row}))
    )
    assert "b learned from 7 of these rows: its number is too good" in text
    assert "a learned from" not in text


def test_a_file_of_a_header_alone_gives_no_rows(fit: Fit, tmp_path: Path) -> None:
    model = fit(rows(40), strategy="tfidf", output_dir=tmp_path / "run")
    (tmp_path / "new.csv").write_text("text,more\n")
    table, new = model.predict_table(tmp_path / "new.csv")
    assert (len(table), [*new], set(map(len, new.values()))) == (
        0,
        ["prediction", "confidence", "p_bad", "p_good"],
        {0},
    )
