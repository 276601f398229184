"""Where the verdict is to adapt by mcc, the encoder of texts moves too; and its rows to label judge it."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made import report_of, rows, write_csv
from typer.testing import CliRunner

import acclimate
from acclimate.api import encoder_too
from acclimate.cli.main import app

Fit = Callable[..., acclimate.Model]


@pytest.mark.parametrize("tested", [True, False])
@pytest.mark.real  # slow
def test_where_the_gentle_way_is_taken_the_encoder_moves_too_if_time_allows(
    tested: bool, fit: Fit, answer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer("adapt", "mcc")
    source, target = rows(60), {"text": rows(40, seed=7)["text"]}
    given = {"test_data": rows(30, seed=9)} if tested else {}
    asked = {"label": "label", "strategy": "auto", "candidates": ["linear_probe"], "target_data": target, **given}
    model = fit(source, **asked)
    report = report_of(model.run_dir)
    assert report["strategy"] == "lora" and report["settings"]["align"] == "mcc"
    assert any("The model adapted to them by mcc." in said for said in report["decisions"])
    assert any(said.startswith("The encoder moves too") for said in report["decisions"])
    named = fit(source, label="label", strategy="lora", align="mcc", target_data=target, **given)
    assert np.array_equal(model.predict_proba(target["text"]), named.predict_proba(target["text"]))
    if tested:
        set_by = {"learning_rate": 2e-3, "settings": {"lora_rank": 4}}
        found = report_of(fit(source, **set_by, **asked).run_dir)["settings"]
        assert (found["learning_rate"], found["lora_rank"], found["align"]) == (2e-3, 4, "mcc")
    monkeypatch.setattr(encoder_too, "_ROOM", 0.0)
    stays = report_of(fit(source, **asked).run_dir)
    assert stays["strategy"] == "mcc" and any("--time-limit" in said for said in stays["decisions"])


def test_what_is_said_of_known_pairs_is_what_was_measured() -> None:
    """The mean and the worst over the new pairs with that verdict, of the benchmark's own results."""
    results = Path(__file__).parents[2] / "benchmarks" / "results" / "encoder_too.json"
    new = [one for one in json.loads(results.read_text()) if one["most"] == 1000 and one["name"] == "mcc"]
    gains = [100 * (one["moved"] - one["mcc"]) for one in new if one["answer"] == "adapt"]
    assert len(gains) == 9
    assert (round(float(np.mean(gains)), 1), round(min(gains), 1)) == (encoder_too.MEAN, encoder_too.WORST)
    said = encoder_too._gained()
    assert "+5.9 points over mcc on the frozen encoder in the mean and -3.8 at worst on nine known pairs" in said


@pytest.mark.real  # slow
def test_the_model_that_moved_is_judged_by_the_command_that_is_said(
    folder: Path, tmp_path: Path, answer: Callable[..., None]
) -> None:
    answer("adapt", "mcc")
    made = rows(40, seed=7)
    source, target = write_csv(tmp_path / "source.csv", rows(60)), write_csv(tmp_path / "t.csv", {"text": made["text"]})
    arguments = ["fit", str(source), "--label", "label", "--model", str(folder), "--target-data", str(target)]
    done = CliRunner().invoke(app, [*arguments, "--output-dir", "a run"], prog_name="acclimate")
    assert done.exit_code == 0, done.output
    first, second = report_of("a run")["next_steps"][:2]
    assert first["command"] == "acclimate evaluate 'a run' 'a run/label_these.csv'"
    assert "--target-labels 'a run/label_these.csv'" in second["command"]
    printed = done.output.splitlines()
    assert first["command"] in printed and printed[-1] == second["command"]
    truth = dict(zip(made["text"], made["label"], strict=True))
    with open("a run/label_these.csv", encoding="utf-8", newline="") as file:
        asked = list(csv.DictReader(file))
    for filled in (12, 20):
        some = asked[:filled]
        for row in some:
            row["label"] = truth[row["text"]]
        write_csv(Path("a run/label_these.csv"), {name: [row[name] for row in asked] for name in asked[0]})
        done = CliRunner().invoke(app, [*shlex.split(first["command"])[1:], "--json"], prog_name="acclimate")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        notes = " ".join(found["notes"])
        assert ("8 of 20 rows left out (8: no label)" in notes) == (filled == 12)
        assert "its rows count by sampling_weight" in notes and "rows are weighted" in notes
        assert f"{filled} of {filled} rows given (or near duplicates) are among those that it adapted to" in notes
        answers = acclimate.load("a run").predict([row["text"] for row in some])
        right = [one == row["label"] for one, row in zip(answers, some, strict=True)]
        weights = [float(row["sampling_weight"]) for row in some]
        assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.average(right, weights=weights))
