from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

CSV = "text,prediction,confidence,p_pos\na,pos,0.75,0.75\nb,,,\n"


def test_the_own_columns_come_first_and_no_row_is_lost(cli, api, tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    result = cli("predict", "RUN", "new.csv", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert out.read_text(encoding="utf-8") == CSV
    assert result.stderr == f"2 rows in, 2 rows out: {out}\n"
    assert api.calls == [
        ("load", ("RUN",), {}),
        ("predict_parts", ("new.csv",), {"conformal": None, "abstain_below": None, "adapt": None}),
    ]


def test_cells_that_cannot_be_read_are_told(cli, api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = api.model.predict_parts
    monkeypatch.setattr(api.model, "predict_parts", lambda *args, **more: replace(given(*args, **more), said=("odd",)))
    result = cli("predict", "RUN", "new.csv", "-o", tmp_path / "p.csv")
    assert result.stderr.splitlines()[0] == "note: new.csv: odd"


def test_a_hyphen_prints_the_csv_alone(cli, api) -> None:
    result = cli("predict", "RUN", "new.csv", "-o", "-", "--conformal", "0.9", "--abstain-below", "0.6")
    assert result.stdout == CSV
    assert api.calls[1][2] == {"conformal": 0.9, "abstain_below": 0.6, "adapt": None}


def test_without_o_the_file_lies_in_the_run_and_is_named(cli, api) -> None:
    run = api.model.run_dir
    result = cli("predict", run, "some/new.tsv")
    assert (run / "predictions-new.csv").read_text(encoding="utf-8") == CSV
    assert str(run / "predictions-new.csv") in result.stderr


def test_a_file_that_is_there_is_replaced_only_on_request(cli, api, tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    out.write_text("precious", encoding="utf-8")
    result = cli("predict", "RUN", "new.csv", "-o", out)
    assert (result.exit_code, out.read_text(encoding="utf-8"), api.calls) == (2, "precious", [])
    assert "is already there; add --overwrite" in result.stderr
    assert cli("predict", "RUN", "new.csv", "-o", out, "--overwrite").exit_code == 0
    assert out.read_text(encoding="utf-8") == CSV


def test_a_name_that_is_taken_gets_a_number_and_is_said(cli, api, tmp_path: Path) -> None:
    api.model.table.columns["prediction"] = ["old", "older"]
    result = cli("predict", "RUN", "new.csv", "-o", "-")
    assert result.stdout.splitlines()[:2] == ["text,prediction,prediction_2,confidence,p_pos", "a,old,pos,0.75,0.75"]
    assert "has a column 'prediction' already; the new one is 'prediction_2'" in result.stderr
