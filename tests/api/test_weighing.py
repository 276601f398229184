"""`lambda_="auto"`: what is refused, what is kept and taken, and that no label of the target counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import rows, write_csv
from typer.testing import CliRunner

import acclimate
from acclimate.api import weighing
from acclimate.api.objective import asked
from acclimate.cli.main import app
from acclimate.errors import UserError
from acclimate.strategies import named
from acclimate.validate import Along, along

Fit = Callable[..., acclimate.Model]
TARGET: dict[str, Any] = {"text": ["river"]}


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[list[np.ndarray]]]:
    """Force the place on the path that is taken; the answers that were compared are seen."""
    seen: list[list[np.ndarray]] = []

    def force(at: int) -> list[list[np.ndarray]]:
        def given(answers: Any, features: Any, *, usual: int, seed: int) -> Along:
            seen.append(list(answers))
            found = along(answers, features, usual=usual, seed=seed)
            return Along(at, found.values, at, found.lead, found.error)

        monkeypatch.setattr(weighing, "along", given)
        return seen

    return force


def decisions(model: acclimate.Model) -> str:
    return " ".join(json.loads((Path(str(model.run_dir)) / "report.json").read_text(encoding="utf-8"))["decisions"])


@pytest.mark.parametrize(
    ("strategy", "settings", "align", "labels", "said"),
    [
        ("auto", {}, None, None, "--lambda auto weighs L_target .* strategy 'auto' has none; add --align"),
        ("shot", {}, None, None, "strategy 'shot' has none"),
        ("lora", {}, "mcc", None, "fits along a path of λ, and strategy 'lora' moves the encoder"),
        ("consistency", {}, None, None, "strategy 'consistency' moves the encoder"),
        ("pooled", {}, None, "few.csv", "strategy 'pooled' chooses λ by the labelled target rows; leave"),
        ("mcc", {"weight": 2.0}, None, None, "given twice, by --lambda auto and as weight=2.0"),
        ("auto", {"lambda": 2.0}, "mcc", None, "given twice, by --lambda auto and as lambda=2.0"),
    ],
)
def test_what_means_nothing_is_refused(strategy: str, settings: Any, align: Any, labels: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        asked(strategy, settings, align, "auto", TARGET, labels)


def test_it_sets_nothing_before_rows_are_read() -> None:
    assert asked("auto", {}, "mcc", " auto ", TARGET) == ("mcc", {"align": "mcc"})
    assert asked("self_train", {"rounds": 2}, None, "auto", TARGET) == ("self_train", {"rounds": 2})


@pytest.mark.parametrize(
    ("at", "weight", "restart"), [pytest.param(0, 2.0, 0, marks=pytest.mark.real), (12, 0.0, 0), (7, 0.6, 1)]
)
def test_the_model_is_that_of_the_lambda_that_is_taken(
    at: int, weight: float, restart: int, fit: Fit, takes: Callable[[int], list[list[np.ndarray]]]
) -> None:
    seen = takes(at)
    source, target = rows(60), {"text": rows(40, seed=7)["text"]}
    usual: dict[str, Any] = {"label": "label", "target_data": target, "align": "mcc", "strategy": "auto"}
    model = fit(source, lambda_="auto", **usual)
    other = fit(source, lambda_=weight, settings={"restart": restart}, **usual)
    assert (model.predictor.settings["weight"], model.predictor.settings["restart"]) == (weight, restart)
    assert np.array_equal(model.predict_proba(target["text"]), other.predict_proba(target["text"]))
    assert len(seen) == 1 and [len(a) for a in seen[0]] == [40] * 13
    said = decisions(model)
    assert ("λ of mcc: 2, the usual one, since" in said) == (at == 0)
    taken = f"λ of mcc: {weight:g}, start {restart + 1} of 3, chosen without labels (usually 2)"
    assert (taken in said) == (at != 0)
    assert ("mcc adapted to the 40 target rows" in said) == (weight != 0)


@pytest.mark.parametrize("strategy", [pytest.param("mcc", marks=pytest.mark.real), "self_train"])
@pytest.mark.real  # slow
def test_permuted_target_labels_change_nothing(strategy: str, fit: Fit) -> None:
    source, target = rows(60), rows(40, seed=7)
    found: list[Any] = []
    for labels in (target["label"], target["label"][::-1], None):
        there = {"text": target["text"], **({} if labels is None else {"label": labels})}
        model = fit(source, label="label", target_data=there, strategy=strategy, lambda_="auto")
        told = decisions(model).split("λ of ")[1].split(" is ")[1].split(" ")[:9]  # κ along the path
        found.append((model.predict_proba(target["text"]), model.predictor.settings, told))
    for other in found[1:]:
        assert np.array_equal(found[0][0], other[0]) and found[0][1:] == other[1:]


@pytest.mark.real  # slow
def test_where_nothing_can_be_told_the_usual_one_is_kept_and_that_is_said(fit: Fit) -> None:
    source = rows(60)
    few = {"text": rows(40, seed=7)["text"][:10]}
    model = fit(source, label="label", target_data=few, strategy="mcc", lambda_="auto")
    assert model.predictor.settings["weight"] == 2.0
    assert "λ of mcc: 2, the usual one: fewer than 20 different target rows do not tell another" in decisions(model)
    there = {"text": rows(40, seed=7)["text"]}
    model = fit(source, label="label", task="ordinal", target_data=there, strategy="mcc", lambda_="auto")
    assert "λ of mcc: 2, the usual one: without labels only answers of one class a row" in decisions(model)
    model = fit(source, label="label", target_data=there, strategy="mmd", lambda_="auto")
    assert model.predictor.settings["weight"] == 3.0
    assert "λ of mmd: 3, the usual one: without labels another was found for mcc and self_train" in decisions(model)


@pytest.mark.real  # slow
def test_the_command_line_knows_it(tmp_path: Path, folder: Path) -> None:
    write_csv(tmp_path / "a.csv", rows(60))
    write_csv(tmp_path / "b.csv", {"text": rows(40, seed=7)["text"]})
    given = ["fit", str(tmp_path / "a.csv"), "--label", "label", "--target-data", str(tmp_path / "b.csv")]
    given += ["--align", "mcc", "--lambda", "auto", "--model", str(folder), "-o", str(tmp_path / "run"), "-q"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert "λ of mcc: 2" in " ".join(json.loads((tmp_path / "run" / "report.json").read_text())["decisions"])


def test_the_path_begins_with_what_is_asked_and_ends_without_the_target() -> None:
    mcc, probe = named("mcc", {"restart": 4})[1], named("self_train")[1]
    found = [(one.weight, one.restart) for one in weighing.path(mcc)]
    assert found[:5] == [(2.0, 4), (2.0, 5), (2.0, 6), (0.2, 4), (0.2, 5)]
    assert found[-1] == (0.0, 4) and len(set(found)) == 13
    assert [one.weight for one in weighing.path(probe)] == [1.0, 0.1, 0.3, 3.0, 0.0]
