"""Several label columns that are a task each, from the file to the report: one backbone, a head for every column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json, stopped, write_csv
from typer.testing import CliRunner

import acclimate
import tiny_models as tm
from acclimate.cli import options
from acclimate.cli.main import app
from acclimate.errors import UserError

Fit = Callable[..., acclimate.Model]
LABELS = ["topic", "stars", "score"]
SEVERAL: dict[str, Any] = {"label": LABELS, "task": "score=regress"}
TUNED: dict[str, Any] = {"strategy": "full", "settings": {"num_train_epochs": 1, "learning_rate": 1e-3}}


def opinions(n: int = 60, seed: int = 0) -> dict[str, list[Any]]:
    """Texts whose words say the topic, the stars and the score; some cells are empty."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {name: [] for name in ("text", *LABELS)}
    for i in range(n):
        good, topic = bool(rng.random() < 0.5), int(rng.integers(0, 3))
        words = [*rng.choice(tm.GOOD if good else tm.BAD, 2), *rng.choice(tm.NEUTRAL[4 * topic : 4 * topic + 4], 2)]
        rows["text"].append(" ".join([*rng.permutation(words), str(seed * 1000 + i)]))
        rows["topic"].append(["home", "town", "sky"][topic] if rng.random() < 0.9 else None)
        rows["stars"].append(int(rng.integers(3, 5) if good else rng.integers(1, 3)) if rng.random() < 0.8 else None)
        rows["score"].append(round(topic + 2.0 * good + rng.normal() / 4, 3) if rng.random() < 0.7 else None)
    return rows


@pytest.fixture(scope="module")
def train() -> dict[str, list[Any]]:
    return opinions()


@pytest.fixture(scope="module")
def test() -> dict[str, list[Any]]:
    return opinions(40, seed=1)


def test_a_frozen_backbone_gives_each_column_what_it_would_get_alone(
    fit: Fit, train: dict[str, list[Any]], test: dict[str, list[Any]]
) -> None:
    together = fit(train, **SEVERAL, strategy="linear_probe", test_data=test)
    answers = together.predict(test["text"])
    for name, task in zip(LABELS, ("classify", "classify", "regress"), strict=True):
        known = [i for i, cell in enumerate(train[name]) if cell is not None]
        mine = {key: [train[key][i] for i in known] for key in ("text", name)}
        alone = fit(
            mine, label=name, task=task, strategy="linear_probe", test_data={k: test[k] for k in ("text", name)}
        )
        assert [row[name] for row in answers] == alone.predict(test["text"])
        assert together.scores is not None and alone.scores is not None
        part = together.scores.columns[name]
        assert (part.value, part.n) == (alone.scores.value, alone.scores.n)
        assert part.n == sum(cell is not None for cell in test[name])
    assert together.report_data is not None
    assert "gains and loses nothing" in together.report_data.target_verdict
    assert "single_task" not in together.scores.baseline


def test_one_network_learns_all_and_each_alone_stands_beside_it(
    fit: Fit, train: dict[str, list[Any]], test: dict[str, list[Any]], tmp_path: Path
) -> None:
    files = write_csv(tmp_path / "train.csv", train), write_csv(tmp_path / "test.csv", test)
    run = tmp_path / "run"
    model = fit(files[0], **SEVERAL, **TUNED, test_data=files[1], output_dir=run)
    metrics = read_json(run / "metrics.json")
    assert (metrics["task"], metrics["metric"], list(metrics["columns"])) == ("multitask", "skill", LABELS)
    for name, part in metrics["columns"].items():
        alone = part["baseline"]["single_task"]
        assert alone["difference"]["value"] == pytest.approx(part["value"] - alone["value"])
        assert set(part["baseline"]) == {"majority", "tfidf", "single_task"}
        assert part["n"] == sum(cell is not None for cell in test[name])
    gap = metrics["baseline"]["single_task"]
    assert gap["difference"]["value"] == pytest.approx(metrics["value"] - gap["value"])

    again = acclimate.load(run)
    scores = again.evaluate(files[1])
    assert scores.value == pytest.approx(metrics["value"], abs=1e-12)
    assert scores.columns["score"].baseline["tfidf"]["value"] == pytest.approx(
        metrics["columns"]["score"]["baseline"]["tfidf"]["value"]
    )
    assert again.predict(test["text"][:5]) == model.predict(test["text"][:5])
    assert again.predict([" "]) == [None]
    assert again.classes_ == {"topic": ("home", "sky", "town"), "stars": (1, 2, 3, 4)}
    found = again.predict_proba(test["text"][:3])
    assert {name: one.shape for name, one in found.items()} == {"topic": (3, 3), "stars": (3, 4)}
    _, new = again.predict_table({"text": ["great house", ""]}, conformal=0.8, abstain_below=1.0)
    assert [*new] == [
        "prediction_topic", "confidence_topic", "p_topic_home", "p_topic_sky", "p_topic_town", "prediction_set_topic",
        "prediction_stars", "confidence_stars", "p_stars_1", "p_stars_2", "p_stars_3", "p_stars_4",
        "prediction_set_stars", "prediction_score", "low_score", "high_score", "note",
    ]  # fmt: skip
    assert new["note"] == [
        "topic abstained: confidence below 1; stars abstained: confidence below 1", "no text to judge"
    ]  # fmt: skip
    assert new["prediction_topic"] == [None, None] and new["low_score"][0] < new["prediction_score"][0]

    text = (run / "report.md").read_text(encoding="utf-8")
    for said in ("## Label topic", "## Label score", "minus the column alone", "each label column alone",
                 "3 label columns, a task each; a cell that is not known counts nowhere."):  # fmt: skip
        assert said in text
    page = (run / "report.html").read_text(encoding="utf-8")
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_out_of_fold_and_without_the_comparison(fit: Fit, train: dict[str, list[Any]]) -> None:
    model = fit(train, **SEVERAL, **TUNED, single_task=False, label_weight={"stars": 0.5})
    assert model.scores is not None and model.report_data is not None
    assert model.scores.columns["score"].n == sum(cell is not None for cell in train["score"])
    assert "was not measured (as asked); for that add --single-task" in model.report_data.target_verdict


@pytest.mark.real  # slow
def test_a_killed_run_goes_on_to_the_same_end(
    fit: Fit, train: dict[str, list[Any]], test: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {**SEVERAL, **TUNED, "test_data": test, "checkpoint_every": 0.0}
    whole = fit(train, **asked, output_dir=tmp_path / "whole")
    stopped(fit, monkeypatch, train, at=6, output_dir=tmp_path / "cut", **asked)  # the first column alone
    cut = fit(train, **asked, output_dir=tmp_path / "cut", resume=True)
    assert whole.scores is not None and cut.scores is not None
    assert cut.predict_proba(test["text"])["topic"].tolist() == whole.predict_proba(test["text"])["topic"].tolist()
    assert cut.scores.baseline["single_task"] == whole.scores.baseline["single_task"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"metric": "accuracy"},
            "a metric is of one label, and there are 3 label columns, a task each: each",
        ),
        (
            {"class_weight": "balanced"},
            "class weights are of .*: weigh whole columns with --label-weight COLUMN",
        ),
        ({"threshold": 0.3}, "threshold speaks of the classes of one label, and there are 3 label columns"),
        ({"target_data": {"text": ["x"]}}, "target rows are adapted to for one label, .*: fit one label at a time"),
        ({"domain_column": "topic"}, "cannot be both the label and something else"),
        ({"class_order": ["a"]}, "an order of classes is of one label"),
        ({"label_weight": {"star": 1.0}}, "unknown label column in label_weight 'star'"),
        ({"label": "topic", "task": None, "single_task": True}, "single_task speaks of several label columns"),
        ({"strategy": "contrastive"}, "contrastive pulls rows of one class together, and for multitask"),
        ({"strategy": "full", "hold": "lwf"}, "lwf"),
    ],
)
def test_what_does_not_combine(fit: Fit, train: dict[str, list[Any]], changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        fit(train, **{**SEVERAL, "strategy": "linear_probe", **changed})


def test_from_the_command_line(folder: Path, tmp_path: Path, train: dict[str, list[Any]]) -> None:
    file = write_csv(tmp_path / "train.csv", train)
    named = [part for name in LABELS for part in ("--label", name)]
    run = str(tmp_path / "run")
    given = ["fit", str(file), *named, "--task", "score=regress,stars=ordinal", "--strategy", "tfidf",
             "--label-weight", "stars=0.5", "--model", str(folder), "-o", run, "-q"]  # fmt: skip
    ran = CliRunner().invoke(app, given)
    assert ran.exit_code == 0, ran.output
    assert read_json(tmp_path / "run" / "model" / "columns.json")["tasks"] == ["classify", "ordinal", "regress"]
    shown = CliRunner().invoke(app, ["evaluate", run, str(file)])
    assert "label column stars: ordinal, " in shown.output and "label column score: regress, " in shown.output
    told = CliRunner().invoke(app, ["predict", run, str(file), "-o", str(tmp_path / "new.csv")])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "new.csv").read_text(encoding="utf-8").startswith("text,topic,stars,score,prediction_topic,")
    with pytest.raises(UserError, match="cannot read --label-weight 'stars'; write COLUMN=NUMBER"):
        options.numbers("--label-weight", ["stars"])


def test_a_fold_with_one_class_of_a_column_does_not_stop_it(fit: Fit) -> None:
    data = opinions(48)
    rare = [None] * 48
    rare[0], rare[1] = "yes", "no"  # type: ignore[call-overload]
    model = fit({**data, "rare": rare}, label=["topic", "rare"], strategy="tfidf")
    assert model.predict(["great house"])[0]["rare"] in ("yes", "no")
    assert model.scores is not None and list(model.scores.columns) == ["topic"]
    assert model.scores.notes == ("label column rare: no row that could be judged knows it, so that it has no number",)
