"""The same through the command line, on real files: what one types, and what lies there afterwards."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from made import rows, write_csv
from typer.testing import CliRunner

import acclimate
from acclimate.cli.main import app

Cli = Callable[..., Result]


@pytest.fixture
def cli() -> Cli:
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_from_a_csv_to_predictions_and_a_report(cli: Cli, folder: Path, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", rows(60))
    test = write_csv(tmp_path / "test.csv", rows(30, seed=1))
    odd: dict[str, list[Any]] = {"id": [1, 2, 3], "text": ["good great", None, "awful; bad"], "prediction": ["x"] * 3}
    new = write_csv(tmp_path / "new.csv", odd)

    done = cli("fit", train, "--label", "label", "--model", folder, "--strategy", "hybrid", "--output-dir", "RUN", "-q")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""  # quiet
    said = " ".join(done.stdout.split())
    verdict = json.loads(Path("RUN/report.json").read_text())["verdict"]
    assert said.startswith(" ".join(verdict.split()))
    assert "RUN/report.html" in said
    assert "acclimate predict RUN NEW.csv -o predictions.csv" in said
    assert "60 rows read = 60 kept + 0 dropped" in said

    done = cli("predict", "RUN", new, "-o", "out.csv", "--conformal", "0.9")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "the new one is 'prediction_2'" in done.stderr
    assert done.stderr.endswith("3 rows in, 3 rows out: out.csv\n")
    found = table(Path("out.csv"))
    assert list(found[0]) == [
        "id", "text", "prediction", "prediction_2", "confidence", "p_bad", "p_good", "prediction_set", "note"
    ]  # fmt: skip
    assert [r["id"] for r in found] == ["1", "2", "3"]
    assert [r["text"] for r in found] == ["good great", "", "awful; bad"]
    first, last = acclimate.load("RUN").predict(["good great", "awful; bad"])
    assert [r["prediction_2"] for r in found] == [first, "", last]
    assert [r["note"] for r in found] == ["", "no text to judge", ""]
    assert float(found[0]["p_bad"]) + float(found[0]["p_good"]) == pytest.approx(1)
    assert found[0]["confidence"] == found[0][f"p_{first}"]

    done = cli("evaluate", "RUN", test, "--json")
    assert done.exit_code == 0, done.output
    scores = json.loads(done.stdout)
    assert {"metric", "value", "low", "high", "n", "metrics", "per_class", "baseline"} <= scores.keys()
    assert (scores["metric"], scores["n"], scores["uses"]) == ("accuracy", 30, 1)
    assert scores["low"] <= scores["value"] <= scores["high"]
    assert set(scores["baseline"]) == {"majority", "tfidf"}
    assert set(scores["baseline"]["tfidf"]["difference"]) >= {"value", "low", "high", "verdict"}
    assert f"{test} has been used 2 times" in cli("evaluate", "RUN", test).stdout

    assert cli("fit", train, "--strategy", "majority", "--output-dir", "NONE", "-q").exit_code == 0
    done = cli("compare", "NONE", "RUN", "--data", test)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("accuracy on 30 rows, differences against NONE:\n  NONE: 0.500 [")
    assert ": better" in done.stdout

    Path("RUN/report.html").unlink()
    done = cli("report", "RUN")
    assert done.exit_code == 0, done.output
    assert Path("RUN/report.html").read_text().startswith("<!")


def test_what_the_user_can_put_right_is_one_line_and_exit_code_2(cli: Cli, folder: Path, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", rows(20))
    for arguments, message in (
        (("fit", train, "--label", "lable", "--model", folder), "there is no column 'lable'"),
        (("fit", "nowhere.csv"), "nowhere.csv"),
        (("predict", tmp_path, train), "is not a model saved by acclimate"),
        (("evaluate", "nowhere", train), "there is no folder 'nowhere'"),
        (("fit", train, "--strategy", "lora2"), "unknown strategy 'lora2'"),
    ):
        done = cli(*arguments)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ") and message in done.stderr
        assert "Traceback" not in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["train.csv"]


def test_a_tie_from_the_command_line(cli: Cli, folder: Path, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", rows(60))
    test = write_csv(tmp_path / "test.csv", rows(20, seed=1))
    given = ["fit", train, "--label", "label", "--model", folder, "--test-data", test]
    given += ["--strategy", "bitfit", "--num-train-epochs", "1", "--output-dir", "RUN"]
    done = cli(*given, "--hold", "l2_sp:0.1+features", "--set", "layer_decay=0.9")
    assert done.exit_code == 0, done.output
    report = Path("RUN/report.json").read_text(encoding="utf-8")
    assert "training rows before and after tuning: linear CKA" in report
    settings = acclimate.load("RUN").predictor.settings
    assert (settings["moves"], settings["hold"], settings["layer_decay"]) == ("bias", "l2_sp:0.1+features", 0.9)


@pytest.mark.real  # slow
def test_pretraining_from_the_command_line(cli: Cli, folder: Path, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", rows(60))
    test = write_csv(tmp_path / "test.csv", rows(20, seed=1))
    target = write_csv(tmp_path / "target.csv", {"text": rows(40, seed=2)["text"]})
    given = ["fit", train, "--label", "label", "--model", folder, "--test-data", test, "--target-data", target]
    given += ["--strategy", "lora", "--num-train-epochs", "1", "--output-dir", "RUN"]
    done = cli(*given, "--pretrain", "mlm:epochs=1,mask=0.2")
    assert done.exit_code == 0, done.output
    assert "pretrained by masked language modelling on 38 target texts, 1 epoch:" in " ".join(done.stderr.split())
    report = json.loads(Path("RUN/report.json").read_text())
    assert any("lora adapted to the 40 target rows" in sentence for sentence in report["decisions"])
    assert "pretrained by masked language modelling" in json.dumps(report, ensure_ascii=False)
    assert json.loads(Path("RUN/run.json").read_text())["settings"]["pretrain"] == "mlm:epochs=1,mask=0.2"
    assert acclimate.load("RUN").predictor.settings["pretrain"] == "mlm:epochs=1,mask=0.2"
    assert not Path("RUN/model/adapter").exists()
    assert cli("predict", "RUN", test, "-o", "out.csv").exit_code == 0
    refused = cli(*given, "--overwrite", "--pretrain", "mlm:mask=2")
    assert refused.exit_code == 2 and "mask=2 of mlm is the share of tokens to hide" in " ".join(refused.output.split())
