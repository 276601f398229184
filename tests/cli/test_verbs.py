from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

import acclimate
from acclimate.errors import UserError


def test_evaluate_prints_the_deciding_metric_first_and_all_that_belongs_to_it(cli, api) -> None:
    result = cli("evaluate", "RUN", "test.csv")
    assert result.exit_code == 0, result.exception
    assert result.stdout.splitlines() == [
        "one class of TEST was never seen",
        "",
        "macro_f1                 0.750 [0.650, 0.840] (n = 80)",
        "accuracy                 0.800 [0.700, 0.880] (n = 80)",
        "",
        "beside it (macro_f1), and this model minus it on the same rows",
        "  majority class         0.500 [0.400, 0.600]   +0.300 [+0.200, +0.400] better",
        "",
        "by class  n   recall",
        "  pos     40  0.900 [0.800, 0.950]",
        "  neg         –",
        "",
        "by sex",
        "  f                      0.700 [0.500, 0.850] (n = 30)",
        "",
        "Intervals are at 95 %; they cover which rows were drawn.",
        "test.csv has been used 2 times to judge this run; choosing after a look flatters it.",
    ]
    assert api.calls == [("load", ("RUN",), {}), ("evaluation", ("test.csv",), {"metric": None, "adapt": None})]


def test_evaluate_prints_one_json_object(cli, api) -> None:
    answer = json.loads(cli("evaluate", "RUN", "test.csv", "--json", "--eval-metric", "mcc").stdout)
    assert {"metric", "value", "low", "high", "n", "metrics", "per_class", "baseline"} <= answer.keys()
    assert (answer["metric"], answer["value"], answer["n"]) == ("macro_f1", 0.75, 80)
    assert answer["metrics"]["accuracy"]["low"] == 0.7
    assert answer["baseline"]["majority"]["difference"]["verdict"] == "better"
    assert api.calls[1][2] == {"metric": "mcc", "adapt": None}


def test_compare_takes_two_runs_or_more(cli, api) -> None:
    assert cli("compare", "A", "B", "C", "--data", "t.csv").stdout == "the table\n"
    assert json.loads(cli("compare", "A", "B", "--test-data", "t.csv", "--json").stdout) == {"compare": "…"}
    assert api.calls[0] == ("compare", (["A", "B", "C"], "t.csv"), {"metric": None})
    alone = cli("compare", "A", "--data", "t.csv")
    assert (alone.exit_code, alone.stderr) == (2, "error: one run is given, 'A'; name at least two to compare\n")


def test_report_writes_both_files_and_names_them(cli, api) -> None:
    run = api.model.run_dir
    assert cli("report", run).stdout == f"{run}/report.html\n{run}/report.md\n"
    assert [args for verb, args, _ in api.calls if verb == "report"] == [(run / "report.html",), (run / "report.md",)]


def test_inspect_passes_the_columns_on(cli, api) -> None:
    result = cli("inspect", "x.csv", "--label", "y", "--model", "minilm", "--drop", "a", "--text-column", "t", "--json")
    assert json.loads(result.stdout) == {"inspect": "…"}
    assert api.calls[0][1] == ("x.csv",)
    given = {name: value for name, value in api.calls[0][2].items() if value not in (None, False)}
    assert given == {"label": "y", "model": "minilm", "drop": ("a",), "text_column": "t", "on_bad": "skip"}


def test_inspect_and_shift_pass_on_how_inputs_are_read(cli, api, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("inspect", "x", "--max-seconds", "2", "--image-size", "128", "--split", "random", "--json")
    found = api.calls[0][2]
    assert (found["max_seconds"], found["image_size"], found["split"]) == (2.0, 128, "random")
    shifting, given = ModuleType("acclimate.api.shifting"), {}

    def measure_shift(*files: str, **settings: object) -> object:
        given.update(settings)
        raise UserError("seen")

    shifting.measure_shift = measure_shift  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acclimate.api.shifting", shifting)
    cli("shift", "x", "y", "--max-seconds", "2", "--image-size", "128", "--column-kind", "cp=category")
    assert (given["max_seconds"], given["image_size"], given["column_kinds"]) == (2.0, 128, {"cp": "category"})


def test_demo_runs_its_body(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str | None, bool]] = []
    body = ModuleType("acclimate.demo")
    body.run = lambda output_dir, quick: calls.append((output_dir, quick))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acclimate.demo", body)
    monkeypatch.setattr(acclimate, "demo", body, raising=False)
    assert cli("demo").exit_code == 0
    assert cli("demo", "--output-dir", "out", "--quick").exit_code == 0
    assert calls == [(None, False), ("out", True)]
