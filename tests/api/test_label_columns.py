"""Several label columns with empty cells, from the file to the report: what nobody knows is never counted as no."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json, write_csv
from typer.testing import CliRunner

import acclimate
import tiny_models as tm
from acclimate.cli.main import app
from acclimate.errors import UserError

Fit = Callable[..., acclimate.Model]


def toxic(n: int = 240, seed: int = 0) -> dict[str, list[Any]]:
    """`good` words say `kind`, `bad` words say `rude`. Two in three cells that would say yes are empty, no other is."""
    rng = np.random.default_rng(seed)
    kind, rude = rng.random((2, n)) < 0.5
    texts = []
    for i in range(n):
        words = [*rng.choice(tm.GOOD, 2 * kind[i]), *rng.choice(tm.BAD, 2 * rude[i]), *rng.choice(tm.NEUTRAL, 4)]
        texts.append(" ".join([*rng.permutation(words), str(seed * 1000 + i)]))
    cells = {name: [1 if yes else 0 for yes in flags] for name, flags in (("kind", kind), ("rude", rude))}
    for column in cells.values():
        for i in range(n):
            if column[i] == 1 and rng.random() < 2 / 3:
                column[i] = None  # type: ignore[call-overload]
    return {"text": texts, **cells, "was_kind": ["ja" if k else "nein" for k in kind]}


PROBES = np.array(["good great 1", "bad awful 2", "table chair 3"])
LABELS = ["rude", "kind"]


@pytest.mark.parametrize("strategy", ["tfidf", "knn", "centroid", "full"])
def test_what_is_not_known_is_left_out_of_the_loss(fit: Fit, strategy: str) -> None:
    data = toxic(160)
    given = {name: data[name] for name in ("text", *LABELS)}
    settings = {"num_train_epochs": 3, "learning_rate": 3e-3} if strategy == "full" else {}
    usual = {"label": LABELS, "strategy": strategy, "settings": settings, "test_data": given}
    model = fit(given, **usual)
    assert model.classes_ == ("rude", "kind")
    probabilities = model.predict_proba(data["text"])
    assert np.isfinite(probabilities).all()
    # Whoever takes empty for no finds that a sixth of the texts say yes; of what is known a quarter does.
    as_no = fit({**given, "kind": [c or 0 for c in data["kind"]]}, **usual)
    assert probabilities[:, 1].mean() > as_no.predict_proba(data["text"])[:, 1].mean() + 0.05


def test_numbers_report_and_predictions(fit: Fit, tmp_path: Path) -> None:
    data, test = toxic(), toxic(120, seed=1)
    train = write_csv(tmp_path / "train.csv", data)
    file = write_csv(tmp_path / "test.csv", test)
    model = fit(train, label=LABELS, strategy="tfidf", metric="roc_auc", test_data=file, output_dir=tmp_path / "run")
    metrics = read_json(tmp_path / "run" / "metrics.json")
    for name in LABELS:
        yes, no = (test[name].count(said) for said in (1, 0))
        assert metrics["per_class"][name]["roc_auc"]["n"] == yes + no
        assert metrics["per_class"][name]["support"]["value"] == yes
    areas = [metrics["per_class"][name]["roc_auc"]["value"] for name in LABELS]
    assert metrics["metric"] == "roc_auc"
    assert metrics["value"] == pytest.approx(np.mean(areas))
    assert metrics["low"] < metrics["value"] < metrics["high"]
    assert "are not known and count neither as right nor as wrong" in metrics["notes"][0]
    text = model.report(tmp_path / "report.md").read_text(encoding="utf-8")
    assert "2 label columns; a cell that is not known counts neither as yes nor as no." in text
    assert "train.csv: rude, kind" in text
    again = acclimate.load(tmp_path / "run")
    assert again.columns.label == ("rude", "kind")
    scores = again.evaluate(file)
    assert scores.value == pytest.approx(metrics["value"], abs=1e-12)
    _, new = again.predict_table({"text": list(PROBES)})
    assert [*new] == ["prediction", "confidence", "p_rude", "p_kind"]
    with pytest.raises(UserError, match="has no column 'rude', which holds the labels this model learned from"):
        again.evaluate({"text": ["x", "y"], "kind": [1, 0]})


def test_one_name_in_a_list_is_an_ordinary_label(fit: Fit) -> None:
    data = toxic(120)
    one = {"text": data["text"], "was_kind": data["was_kind"]}
    listed, plain = (fit(one, label=label, strategy="tfidf") for label in (["was_kind"], "was_kind"))
    assert listed.columns.label == "was_kind"
    assert listed.predict(one["text"]) == plain.predict(one["text"])


def test_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", toxic())
    given = ["fit", str(train), "--label", "rude", "--label", "kind", "--strategy", "tfidf", "--drop", "was_kind",
             "--model", str(folder), "--output-dir", str(tmp_path / "run"), "-q"]  # fmt: skip
    ran = CliRunner().invoke(app, given)
    assert ran.exit_code == 0, ran.output
    assert read_json(tmp_path / "run" / "model" / "columns.json")["label"] == ["rude", "kind"]
    shown = CliRunner().invoke(app, ["inspect", str(train), "--label", "rude", "--label", "kind"])
    assert "an empty cell is not known and counts neither way" in shown.output.replace("\n", " ")
    assert "unknown_labels" in shown.output
    assert CliRunner().invoke(app, [*given, "--resume"]).exit_code == 0


def test_the_ridge_probe_refuses_what_it_cannot_leave_out(fit: Fit) -> None:
    data = toxic(120)
    with pytest.raises(UserError, match="ridge needs every label cell, and .* are empty; use linear_probe"):
        fit({n: data[n] for n in ("text", *LABELS)}, label=LABELS, strategy="ridge")
