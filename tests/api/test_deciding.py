"""`target_data` without a strategy: a verdict without a label of the target, and rows to label where there is none."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import report_of, rows, write_csv

import acclimate
from acclimate.advise import labels as from_labels
from acclimate.api import deciding
from acclimate.cli.main import app

Fit = Callable[..., acclimate.Model]


def test_adapt_hands_back_the_adapted_model(fit: Fit, answer: Callable[..., None]) -> None:
    answer("adapt")
    source, target = rows(60), {"text": rows(40, seed=7)["text"]}
    model = fit(
        source, label="label", strategy="auto", candidates=["linear_probe"], target_data=target, learning_rate=0.01
    )
    report = report_of(model.run_dir)
    assert report["strategy"] == "shot"
    assert any("none was fitted: learning_rate=0.01 had no effect" in said for said in report["decisions"])
    assert "The model adapted to them by shot." in report["target_verdict"]
    named = fit(source, label="label", strategy="shot", target_data=target)
    assert np.array_equal(model.predict_proba(target["text"]), named.predict_proba(target["text"]))


@pytest.mark.real  # slow
def test_of_many_rows_some_are_looked_at_and_the_model_reads_them_all(
    fit: Fit, answer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer("adapt")
    monkeypatch.setattr(deciding, "MOST", 30)
    seen: list[tuple[int, int]] = []
    judged = deciding.candidates

    def counted(problem: Any, train: Any, target: Any, run: Any) -> Any:
        seen.append((len(train), len(target)))
        return judged(problem, train, target, run)

    monkeypatch.setattr(deciding, "candidates", counted)
    source, target = rows(60), {"text": rows(40, seed=7)["text"]}
    model = fit(source, label="label", strategy="auto", candidates=["linear_probe"], target_data=target)
    assert seen == [(30, 30)] and "The 40 target rows" in report_of(model.run_dir)["target_verdict"]
    named = fit(source, label="label", strategy="shot", target_data=target)
    assert np.array_equal(model.predict_proba(target["text"]), named.predict_proba(target["text"]))


def test_do_not_adapt_hands_back_the_model_of_the_source(fit: Fit, answer: Callable[..., None]) -> None:
    answer("do not adapt")
    source, target = rows(60), {"text": rows(40, seed=7)["text"]}
    model = fit(source, label="label", strategy="auto", candidates=["linear_probe"], target_data=target)
    plain = fit(source, label="label", strategy="auto", candidates=["linear_probe"])
    assert np.array_equal(model.predict_proba(target["text"]), plain.predict_proba(target["text"]))
    verdict = report_of(model.run_dir)["target_verdict"]
    assert "40 target rows" in verdict and "do not adapt" in verdict and "used none of them" in verdict
    assert "Estimated gain of" in verdict and "nine in ten such estimates were within" in verdict
    assert "To be surer, label the 20 rows in" in verdict
    assert (Path(str(model.run_dir)) / deciding.FILE).exists()


@pytest.mark.real
def test_rows_to_label_come_back_by_the_command_that_is_said(
    folder: Path, tmp_path: Path, answer: Callable[..., None]
) -> None:
    from typer.testing import CliRunner

    answer("not decidable")
    truth = dict(zip(*(rows(30, seed=7)[name] for name in ("text", "label")), strict=True))
    source = write_csv(tmp_path / "the source.csv", rows(40))
    target = write_csv(tmp_path / "target.csv", {"id": [f"r{i}" for i in range(30)], "text": list(truth)})
    arguments = ["fit", str(source), "--label", "label", "--model", str(folder), "--target-data", str(target)]
    done = CliRunner().invoke(app, [*arguments, "-q", "--output-dir", "run"], prog_name="acclimate")
    assert done.exit_code == 0, done.output
    report = report_of("run")
    command = report["next_steps"][0]["command"]
    assert command in report["target_verdict"] and "label the 20 rows" in report["target_verdict"]
    with open("run/label_these.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["text"] for row in found] == list(truth)[:20] and {row["label"] for row in found} == {""}
    assert [row["sampling_weight"] for row in found] == ["0.5", "1.5"] * 10
    with open("run/label_these.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows({**row, "label": truth[row["text"]]} for row in found)
    program, *again = shlex.split(command)
    assert program == "acclimate" and again == [
        "fit", str(source), "--label", "label", "--target-data", str(target), "--target-labels", "run/label_these.csv",
        "--model", str(folder),
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*again, "-q", "--output-dir", "second"], prog_name="acclimate")
    assert done.exit_code == 0, done.output
    second = report_of("second")
    assert second["splits"]["target, labelled"] == 20
    assert any("its rows count by sampling_weight" in d for d in second["decisions"])
    assert any("rows are weighted" in note for note in second["scores"]["notes"])
    assert any(
        f"of 20 labelled target rows {name} alone is right on" in second["target_verdict"]
        for name in deciding.CANDIDATES
    )


@pytest.mark.parametrize(
    ("p_of", "words"), [(0.0, "or the source alone is better: of 20"), (1.0, "dapt: of 20 labelled")]
)
def test_where_labels_do_not_decide_more_rows_are_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, p_of: float, words: str
) -> None:
    from typer.testing import CliRunner

    monkeypatch.setattr(from_labels, "AT_FIRST", ())  # the model is of the source alone, or adapted without labels
    monkeypatch.setattr(deciding, "DOUBT", p_of)  # no p is below 0, and none above 1
    few, target = rows(20, seed=7), rows(50, seed=7)
    names = {"source": rows(40), "target": {"text": target["text"]}, "few": few}
    paths = {name: str(write_csv(tmp_path / f"{name}.csv", table)) for name, table in names.items()}
    arguments = ["fit", paths["source"], "--label", "label", "--model", str(folder), "--target-data", paths["target"]]
    done = CliRunner().invoke(app, [*arguments, "--target-labels", paths["few"], "-q", "--output-dir", "run"])
    assert done.exit_code == 0, done.output
    assert words in report_of("run")["target_verdict"]
    assert Path("run", deciding.FILE).exists() == (p_of == 0.0)
    if p_of == 0.0:
        with open("run/label_these.csv", encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        known = [(row["text"], row["label"]) for row in found[:20]]
        assert known == list(zip(few["text"], few["label"], strict=True))
        asked = [row["text"] for row in found[20:]]
        assert len(asked) == 20 and set(asked) <= set(target["text"][20:]) and {r["label"] for r in found[20:]} == {""}
        assert sum(float(row["sampling_weight"]) for row in found[20:]) == pytest.approx(20, abs=1e-3)


@pytest.mark.real
def test_ids_of_the_target_that_the_labels_lack_do_not_shift_the_columns(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_labels, "AT_FIRST", ())
    monkeypatch.setattr(deciding, "DOUBT", 0.0)
    source, target = rows(40), {"text": rows(50, seed=7)["text"]}
    named = [{**table, "id": [f"{i}" for i in range(len(table["text"]))]} for table in (source, target)]
    model = fit(named[0], label="label", id_column="id", strategy="auto", target_data=named[1],
                target_labels=rows(20, seed=7), class_weight={"good": 3, "bad": 1},
                cost={"good": {"bad": 5.0}, "bad": {"good": 1.0}})  # fmt: skip
    folder = Path(str(model.run_dir))
    with open(folder / deciding.FILE, encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    assert {len(row) for row in table} == {3} and len(table) == 41
    words = shlex.split(report_of(folder)["next_steps"][0]["command"])
    assert json.loads(words[words.index("--class-weight") + 1]) == {"good": 3, "bad": 1}
    costs = Path(words[words.index("--cost") + 1])
    assert json.loads(costs.read_text()) == {"good": {"bad": 5.0}, "bad": {"good": 1.0}}


@pytest.mark.real  # slow
def test_labels_of_the_target_change_nothing_from_the_command_line_either(folder: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    source, table = write_csv(tmp_path / "source.csv", rows(60)), rows(40, seed=7)
    found = []
    for name, labels in (("plain", table["label"]), ("turned", table["label"][::-1]), ("odd", ["?"] * 40)):
        target = write_csv(tmp_path / "target.csv", {**table, "label": labels})
        arguments = ["fit", str(source), "--label", "label", "--model", str(folder), "--target-data", str(target)]
        arguments += ["-q", "--candidates", "linear_probe", "--output-dir", name]
        done = CliRunner().invoke(app, arguments, prog_name="acclimate")
        assert done.exit_code == 0, done.output
        report = report_of(name)
        assert sum("its column 'label' is ignored" in d for d in report["decisions"]) == 1
        label = Path(name, deciding.FILE)
        chosen = label.read_text(encoding="utf-8") if label.exists() else ""
        words = report["target_verdict"].replace(name, "RUN")
        found.append((report["strategy"], words, chosen, acclimate.load(name).predict_proba(table["text"]).tolist()))
    assert found[0] == found[1] == found[2]
