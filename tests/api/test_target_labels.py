"""`target_labels`: a few labelled rows of the target, read through the gate, learned from, and what they bought."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import rows, write_csv

import acclimate
from acclimate import strategies
from acclimate.api import deciding
from acclimate.cli.main import app
from acclimate.errors import UserError

FROM_LABELS = ["last_layer", "adapted_last_layer", "pooled", "augmented", "target_only"]
Fit = Callable[..., acclimate.Model]


@pytest.fixture(autouse=True)
def _quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """One λ and one C: what is tested here does not depend on them."""
    for name in strategies.FEW_LABELS:
        settings = {"strength": 1.0} | ({"lam": 1.0} if name in ("pooled", "augmented") else {})
        monkeypatch.setitem(strategies.FEW_LABELS, name, strategies.named(name, settings)[1])


def turned(n: int, seed: int = 7) -> dict[str, Any]:
    """Rows of the target, where the words mean the opposite."""
    table = rows(n, seed=seed)
    return {**table, "label": [{"good": "bad", "bad": "good"}[y] for y in table["label"]]}


def report_of(model: acclimate.Model) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(str(model.run_dir)) / "report.json").read_text(encoding="utf-8"))
    return found


def said(report: dict[str, Any], *words: str) -> list[str]:
    return [d for d in report["decisions"] if all(w in d for w in words)]


@pytest.mark.real  # slow
def test_where_words_mean_the_opposite_a_few_labels_are_learned_from(fit: Fit) -> None:
    few, new = turned(40), turned(40, seed=9)
    model = fit(rows(40), label="label", strategy="auto", target_labels=few, target_data={"text": new["text"]})
    report = report_of(model)
    assert report["strategy"] == "augmented"
    right = np.mean(np.array(model.predict(new["text"])) == new["label"])
    assert right >= 0.65  # of a network with random weights; the source alone is wrong more often than not
    names = [c["name"] for c in report["candidates"]]
    free = names[1]  # the adaptation that the verdict without labels leads with
    assert free in deciding.CANDIDATES and names == ["source_only", free, *FROM_LABELS]
    assert [b["key"] for b in report["baselines"]] == ["majority", "tfidf", "source_only", free]
    assert report["splits"] == {"train": 40, "target, without labels": 40, "target, labelled": 40}
    bought = said(report, "40 labels bought +", f"over {free}", "the labels beat the label-free method")
    assert len(bought) == 1 and report["target_verdict"].startswith(bought[0])
    rest = report["target_verdict"].removeprefix(bought[0])  # in this order, since a command may stand at the end
    assert rest.startswith(f" By these labels alone it is not decidable whether {free} or the source alone is better")
    assert "label 20 more" not in report["target_verdict"]  # the model has learned from labels


def test_of_twenty_labels_the_last_layer_alone_learns_and_the_best_is_taken(fit: Fit) -> None:
    report = report_of(fit(rows(60), label="label", strategy="auto", target_labels=rows(20, seed=7)))
    candidates = report["candidates"]
    assert [c["name"] for c in candidates] == ["source_only", "last_layer"]  # no target rows to adapt to
    best = max(candidates, key=lambda c: c["value"])
    assert report["strategy"] == best["name"] and best["chosen"]
    assert "out-of-fold predictions of the 20 labelled target rows" in report["how_tested"]


@pytest.mark.parametrize("name", list(strategies.FEW_LABELS))
def test_each_way_by_name(name: str, fit: Fit) -> None:
    there = {"target_data": {"text": turned(30, seed=5)["text"]}} if name == "adapted_last_layer" else {}
    model = fit(rows(40), label="label", strategy=name, target_labels=turned(30), test_data=turned(40, seed=9), **there)
    report = report_of(model)
    assert report["strategy"] == name and report["scores"]["n"] == 40  # the test data give the number
    assert len(said(report, "30 labels bought", name)) == 1
    again = acclimate.load(str(model.run_dir))
    text = turned(10, seed=3)["text"]
    assert np.array_equal(again.predict_proba(text), model.predict_proba(text))


@pytest.mark.real  # slow
@pytest.mark.parametrize("align", [None, "mcc"])
def test_an_encoder_that_moves_learns_from_labelled_target_rows(align: str | None, fit: Fit) -> None:
    few, new = turned(30), turned(40, seed=9)
    there = {} if align is None else {"target_data": {"text": turned(30, seed=5)["text"]}}
    settings = {"num_train_epochs": 3, "learning_rate": 1e-3}
    ways = {
        weight: fit(rows(40), label="label", strategy="full", settings=settings, target_labels=few, test_data=new,
                    align=align, lambda_=weight, **there)
        for weight in (0.0, 3.0)
    }  # fmt: skip
    report = report_of(ways[3.0])
    assert report["strategy"] == "full" and report["splits"]["target, labelled"] == 30
    assert len(said(report, "30 labels bought", "full")) == 1
    right = {w: np.mean(np.array(m.predict(new["text"])) == new["label"]) for w, m in ways.items()}
    assert right[3.0] > right[0.0]  # where words mean the opposite


def test_rows_that_stand_elsewhere_too_are_found(fit: Fit) -> None:
    source, few, test = rows(40), turned(20), turned(20, seed=9)
    few = {name: [*few[name], source[name][0], test[name][0], test[name][1]] for name in few}
    model = fit(source, label="label", strategy="target_only", target_labels=few, test_data=test)
    audit = json.loads((Path(str(model.run_dir)) / "audit.json").read_text())
    found = [f["message"] for a in audit if a["role"] == "target_labels" for f in a["findings"]]
    assert any(m.startswith("1 row (4%) of target labels is also in train") for m in found)
    assert any(m.startswith("2 rows (9%) of target labels are also in test") for m in found)


@pytest.mark.parametrize(
    ("few", "more", "match"),
    [
        ({**turned(12), "label": ["maybe", *turned(12)["label"][1:]]}, {}, "'maybe' is not among the classes"),
        (turned(4), {}, "holds 4 labelled rows"),
        ({**turned(12), "label": ["good"] * 12}, {}, "every labelled row of <dict> is 'good'"),
        ({"text": turned(12)["text"]}, {}, "no column 'label'"),
        (turned(12), {"strategy": "linear_probe"}, "'linear_probe' learns from no labelled target row"),
        (turned(12), {"settings": {"batch_size": 8}}, "the candidates and their settings are fixed"),
        (None, {"strategy": "pooled"}, "give them with --target-labels"),
        (turned(12), {"strategy": "adapted_last_layer"}, "give them with --target-data"),
    ],
)
def test_what_cannot_be_is_refused(few: Any, more: dict[str, Any], match: str, fit: Fit) -> None:
    with pytest.raises(UserError, match=match):
        fit(rows(40), label="label", target_labels=few, **{"strategy": "auto", **more})


@pytest.mark.real  # slow
def test_the_command_line_does_the_same(fit: Fit, folder: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    source, few = write_csv(tmp_path / "source.csv", rows(40)), write_csv(tmp_path / "few.csv", turned(30))
    arguments = ["fit", str(source), "--label", "label", "--model", str(folder), "--target-labels", str(few)]
    done = CliRunner().invoke(app, [*arguments, "-q", "--output-dir", "run"], prog_name="acclimate")
    assert done.exit_code == 0, done.output
    assert "30 labels bought" in " ".join(done.stdout.split())
    model = fit(str(source), label="label", strategy="auto", target_labels=str(few))
    text = turned(10, seed=3)["text"]
    assert np.array_equal(acclimate.load("run").predict_proba(text), model.predict_proba(text))
