"""What goes wrong is said before anything is loaded or learned, with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import rows, write_csv
from typer.testing import CliRunner

import acclimate
from acclimate.api import ALIASES
from acclimate.cli.main import app
from acclimate.settings import check_seed

Fit = Callable[..., acclimate.Model]


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv", rows(40))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model would take a while, or fetch it: a wrong name is told first."""

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("acclimate.api.loading.load", never)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"label": "lable"},
            r"there is no column 'lable' in .*train.csv; did you mean 'label'\? Its columns: text, label",
        ),
        ({"text_column": "Text"}, r"there is no column 'Text' .*; did you mean 'text'\?"),
        ({"group_column": "patient"}, r"there is no column 'patient' in .*; its columns: text, label"),
        ({"strategy": "lora2"}, r"unknown strategy 'lora2'; did you mean 'lora'\? \(auto, majority, tfidf"),
        ({"task": "clasify"}, r"unknown task 'clasify'; did you mean 'classify'"),
        ({"metric": "acuracy"}, r"unknown metric for classify 'acuracy'; did you mean 'accuracy'"),
        ({"metric": "rmse"}, r"unknown metric for classify 'rmse'; known:"),
        ({"settings": {"learning_rat": 1.0}}, r"unknown setting of full 'learning_rat'; did you mean 'learning_rate'"),
        ({"settings": {"learning_rate": "fast"}}, r"setting 'learning_rate' of full takes float or None, not 'fast'"),
        ({"strategy": "auto", "settings": {"learning_rat": 1.0}}, r"unknown setting of .*'learning_rat'"),
        ({"strategy": "auto", "settings": {"learning_rate": "fast"}}, r"setting 'learning_rate' of .* takes float"),
        ({"on_bad": "ignore"}, r"on_bad must be 'skip' or 'fail', got 'ignore'"),
        ({"time_limit": "soon"}, r"cannot read 'soon' as a length of time"),
        ({"class_weight": "heavy"}, r"class_weight 'heavy' is not understood"),
        ({"valid_data": {"text": ["a"], "y": [1]}}, r"<dict> has no column 'label', so it cannot serve as valid data"),
        (
            {"target_data": {"text": ["a"]}, "target_labels": {"text": ["a"], "y": [1]}, "strategy": "auto"},
            r"so it cannot serve as target labels;",
        ),
        ({"settings": {"lambda": -1.0}}, r"--lambda -1.0: λ in L_source \+ λ·L_target must be a number from 0 on"),
        ({"settings": {"lambda": "much"}}, r"setting 'lambda' of full takes float"),
        ({"settings": {"nothing": 1}}, r"unknown setting of full 'nothing'.*lambda"),
        ({"test_data": "nowhere.csv"}, r"nowhere\.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_name_is_told_before_a_model_is_loaded(
    settings: dict[str, Any], message: str, fit: Fit, train: Path, no_model: None, tmp_path: Path
) -> None:
    with pytest.raises(acclimate.UserError, match=message):
        fit(train, **{"strategy": "full", "output_dir": tmp_path / "run", **settings})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncation": "tail"}, r"unknown truncation 'tail'.*head"),
        ({"pooling": "avg"}, r"unknown pooling 'avg'.*mean"),
        ({"max_length": 0}, r"max_length"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_way_of_reading_is_told(settings: dict[str, Any], message: str, fit: Fit, train: Path) -> None:
    with pytest.raises(acclimate.UserError, match=message):
        fit(train, **settings)


def test_a_missing_file(fit: Fit, no_model: None) -> None:
    with pytest.raises(acclimate.UserError, match=r"nowhere/train\.csv"):
        fit("nowhere/train.csv")
    with pytest.raises(acclimate.UserError, match="no training data was given"):
        acclimate.fit()
    with pytest.raises(acclimate.UserError, match="there is no folder 'nowhere'"):
        acclimate.load("nowhere")


def test_a_model_that_is_nowhere(fit: Fit, train: Path) -> None:
    with pytest.raises(acclimate.UserError, match="nowhere/model"):
        fit(train, model="./nowhere/model")


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_the_names_of_other_libraries_are_answered(alias: str, fit: Fit, train: Path, no_model: None) -> None:
    with pytest.raises(
        acclimate.UserError, match=rf"fit has no argument '{alias}': it is called '{ALIASES[alias]}' here"
    ):
        fit(train, **{alias: 1})


def test_every_alias_names_an_argument(fit: Fit, train: Path, no_model: None) -> None:
    import inspect

    arguments = set(inspect.signature(acclimate.fit).parameters)
    assert set(ALIASES.values()) <= arguments
    assert not set(ALIASES) & arguments
    with pytest.raises(acclimate.UserError, match="unknown argument of fit 'sed'; did you mean 'seed'"):
        fit(train, sed=1)


def test_evaluate_needs_labels_and_rows(fit: Fit, train: Path, tmp_path: Path) -> None:
    model = fit(train)
    with pytest.raises(acclimate.UserError, match=r"has no column 'label', which holds the labels .* use predict"):
        model.evaluate({"text": ["good"]})
    with pytest.raises(acclimate.UserError, match="no usable row"):
        model.evaluate({"text": [" ", "good"], "label": ["bad", None]})
    with pytest.raises(acclimate.UserError, match=r"there is no column 'text'"):
        model.predict({"review": ["good"]})
    with pytest.raises(acclimate.UserError, match="unknown metric for classify 'f2'"):
        model.evaluate(rows(10), metric="f2")
    with pytest.raises(acclimate.UserError, match="input 1 is int, not text: '3'"):
        model.predict([3])
    with pytest.raises(acclimate.UserError, match="nowhere.csv"):
        model.predict("nowhere.csv")


def test_nothing_to_learn(fit: Fit) -> None:
    with pytest.raises(acclimate.UserError, match="single class"):
        fit({"text": [f"good {i}" for i in range(30)], "label": ["good"] * 30})
    with pytest.raises(acclimate.UserError, match="has no usable row|no label column"):
        fit({"text": ["good"], "label": [None]}, label="label")
    with pytest.raises(acclimate.UserError, match="every label equals 3"):
        fit({"text": [f"good {i}" for i in range(30)], "label": [3.5] * 30}, label="label", task="regress",
            strategy="linear_probe")  # fmt: skip


def test_four_rows_are_enough_to_begin_with(fit: Fit) -> None:
    """Few rows give a number without an interval, not an error."""
    model = fit(rows(4), strategy="linear_probe")
    assert model.scores is not None and model.scores.n == 4
    assert len(model.predict(["good table", "bad table"])) == 2


def test_two_rows_are_refused_in_words_and_three_are_used(fit: Fit) -> None:
    with pytest.raises(acclimate.UserError, match="nothing can be judged; give more rows of each class"):
        fit(rows(2))
    assert fit(rows(3)).predict(["good table"])[0] in ("bad", "good")


def test_inspect_runs_the_gate_alone(folder: Path, train: Path, tmp_path: Path) -> None:
    data = rows(40)
    data["text"][5] = " "
    data["text"][6] = "stone " * 100
    found = acclimate.inspect(write_csv(tmp_path / "x.csv", data), model=str(folder))
    assert (found.audit.read, found.audit.kept) == (40, 39)
    assert "label column 'label', by its name" in found.reasons
    kinds = {f["kind"]: f for f in found.to_json()["findings"]}
    assert kinds["blank_input"]["lines"] == [7]
    assert kinds["truncated"]["count"] == 1
    text = str(found)
    assert "label column 'label', by its name" in text
    assert "40" in text and "39" in text
    assert not (tmp_path / "runs").exists()
    with pytest.raises(acclimate.UserError, match="did you mean 'label'"):
        acclimate.inspect(train, label="Label ")


def test_a_run_whose_report_is_damaged_still_predicts(fit: Fit, train: Path, tmp_path: Path) -> None:
    model = fit(train, label="label", output_dir=tmp_path / "run")
    (tmp_path / "run" / "report.json").write_text("{")
    (tmp_path / "run" / "metrics.json").unlink()
    again = acclimate.load(tmp_path / "run")
    assert again.predict(["good"]) == model.predict(["good"])
    with pytest.raises(acclimate.UserError, match=r"report\.json is damaged"):
        again.report(tmp_path / "r.html")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"asked": {"spl', "Unterminated string"),
        ("[]", "a list in place of an object"),
        ('{"asked": null, "seed": 0, "metric": "accuracy"}', "null as 'asked'"),
        ('{"asked": {"split": 4}, "seed": 0, "metric": "accuracy"}', "a number as 'split'"),
    ],
)
def test_a_run_whose_run_json_is_damaged_is_one_error(
    content: str, why: str, fit: Fit, train: Path, tmp_path: Path
) -> None:
    """Of every command that reads a run; the bundle inside still answers."""
    fit(train, label="label", output_dir=tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(content)
    for command in ("predict", "evaluate", "report", "correct"):
        said = CliRunner().invoke(app, [command, str(tmp_path / "run"), *([str(train)] if command != "report" else [])])
        assert said.exit_code == 2, (command, said.output)
        assert re.search(rf"^error: \S+run.json is damaged \(.*{why}.*\); put it back", said.output), command
    assert acclimate.load(tmp_path / "run" / "model").predict(["good"])


@pytest.mark.parametrize("content", ["null", "[[1]]", '{"a": 5}', "{"])
def test_other_damaged_files_of_a_run_are_named(content: str, fit: Fit, train: Path, tmp_path: Path) -> None:
    model = fit(train, label="label", output_dir=tmp_path / "run")
    for name in ("learned_from.json", "test_uses.json"):
        before = (tmp_path / "run" / name).read_bytes() if (tmp_path / "run" / name).is_file() else b""
        (tmp_path / "run" / name).write_text(content)
        with pytest.raises(acclimate.UserError, match=f"{name} is damaged"):
            model.evaluate(train)
        (tmp_path / "run" / name).write_bytes(before or b"{}")


def test_damaged_weights_do_not_answer(fit: Fit, train: Path, tmp_path: Path) -> None:
    fit(train, label="label", output_dir=tmp_path / "run")
    head = tmp_path / "run" / "model" / "head.safetensors"
    content = bytearray(head.read_bytes())
    content[-16:] = b"\xff" * 16
    head.write_bytes(bytes(content))
    with pytest.raises(acclimate.UserError, match="are no numbers"):
        acclimate.load(tmp_path / "run").predict(["good"])


@pytest.mark.parametrize("content", ["[]", "null", '{"format": 1}', '{"format": 1, "task": "x"}'])
def test_a_damaged_bundle_is_named(fit: Fit, train: Path, tmp_path: Path, content: str) -> None:
    fit(train, label="label", output_dir=tmp_path / "run")
    (tmp_path / "run" / "model" / "acclimate.json").write_text(content)
    with pytest.raises(acclimate.UserError, match="damaged"):
        acclimate.load(tmp_path / "run")


def test_seeds_and_weights_that_mean_nothing_are_refused(fit: Fit, train: Path) -> None:
    assert check_seed(np.int64(3)) == 3
    for seed in (-1, 2**32, 1.5):
        with pytest.raises(acclimate.UserError, match=f"seed {seed} must be a whole number from 0 to"):
            fit(train, label="label", seed=seed)
    with pytest.raises(acclimate.UserError, match="seed -1"):
        acclimate.measure_shift(train, train, label="label", seed=-1)
    with pytest.raises(acclimate.UserError, match="must not be negative"):
        fit(train, label="label", class_weight={"good": -1})
