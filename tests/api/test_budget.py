"""What a run foresees, and what it leaves out for its time limit."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made import ctrl_c, read_json, rows

from acclimate.api import budget, writing
from acclimate.interrupt import Interrupted
from acclimate.run import Run

Fit = Callable[..., Any]


def foretold(share: float) -> Callable[..., dict[str, Any]]:
    return lambda fresh, problem, run: {"seconds": 80.0, "share": share, "memory": 300.0, "inputs": len(fresh)}


def test_rows_are_left_out_where_the_limit_does_not_allow_for_all(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_foretold", foretold(0.5))
    monkeypatch.setattr(budget, "SAMPLE", 4)
    model = fit(rows(400), strategy="linear_probe", time_limit=3600, output_dir=tmp_path / "run")
    said = model.report_data.decisions
    first = next(d for d in said if d.startswith("features of"))
    assert first.endswith("raise --time-limit to use all.")
    assert "more than the time limit allows: 160 of 320 training rows are used, and 60 of 80 rows" in first
    assert model.report_data.splits == {"train": 160, "test": 60}
    assert model.scores.n == 60
    assert model.report_data.how_tested.startswith("measured on 80 rows held out")
    assert "for the time limit 60 of these rows, drawn at random, give the number" in model.report_data.how_tested


def test_what_was_foreseen_stands_beside_what_it_took(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "SAMPLE", 4)
    model = fit(rows(300), strategy="linear_probe", output_dir=tmp_path / "run")
    said = [d for d in model.report_data.decisions if d.startswith(("features of", "Those of the rows used took"))]
    assert len(said) == 2 and re.match(r"features of \d+ inputs take about", said[0]) and "MB in use" in said[0]
    assert model.report_data.splits == {"train": 240, "test": 60}


def test_a_run_that_goes_on_keeps_what_was_foreseen_though_its_features_are_there(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "SAMPLE", 4)
    run = tmp_path / "run"
    given = {"strategy": "linear_probe", "time_limit": 3600, "output_dir": run}
    with monkeypatch.context() as patch:
        patch.setattr(budget, "_foretold", foretold(1.0))
        patch.setattr(writing, "scores_of", lambda *args: ctrl_c())
        with pytest.raises(Interrupted):
            fit(rows(300, seed=9), **given)
    path = run / "state" / "reading" / "session.json"
    path.write_text(json.dumps({"used": 70.0, "began": time.time()}))
    monkeypatch.setattr(budget, "_foretold", lambda *args: pytest.fail("measured again"))
    fit(rows(300, seed=9), **given, resume=True)
    report = read_json(run / "report.json")
    at = next(i for i, d in enumerate(report["decisions"]) if d.startswith("features of"))
    assert report["decisions"][at].startswith("features of 300 inputs take about 80 s")
    assert re.fullmatch(r"Those of the rows used took 7\d s\.", report["decisions"][at + 1])
    assert [c["name"] for c in report["costs"]][0] == "features" and 70 < report["costs"][0]["seconds"] < 80


def test_every_class_keeps_a_row() -> None:
    from acclimate.data.rows import Data

    data = Data(tuple(map(str, range(1000))), ("common",) * 999 + ("rare",))
    some = budget._some(data, 0.1, seed=0)
    assert len(some) in (100, 101) and set(some.labels or ()) == {"common", "rare"}
    assert budget._some(data, 0.1, seed=0) == some
    assert len(budget._some(data, 0.001, seed=0)) in (60, 61)


def test_the_end_is_kept_free() -> None:
    assert budget.before_the_end(Run(), 5).deadline is None
    now = time.monotonic()
    assert budget.before_the_end(Run(deadline=now + 1000), 5).deadline == pytest.approx(now + 995)
    late = budget.before_the_end(Run(deadline=now + 4), 100).deadline
    assert late == pytest.approx(now + 2, abs=0.5)  # never more than half
    assert budget.before_the_end(Run(deadline=now - 10), 5).deadline == pytest.approx(now - 10)


def test_every_part_has_its_cost_in_report_and_run(fit: Fit, tmp_path: Path) -> None:
    """Strategies that move weights: foreseen and taken, seconds and bytes. Others: taken."""
    fit(rows(60), strategy="lora", settings={"num_train_epochs": 1}, output_dir=tmp_path / "run")
    costs = read_json(tmp_path / "run" / "run.json")["costs"]
    assert costs == read_json(tmp_path / "run" / "report.json")["costs"]
    assert [(c["name"], c["part"]) for c in costs] == [("lora", "5 folds"), ("lora", "last fit")]
    for cost in costs:
        assert min(cost[k] for k in ("seconds", "memory", "foreseen_seconds", "foreseen_memory")) > 0
    assert costs[0]["foreseen_memory"] == costs[1]["foreseen_memory"]
    assert costs[0]["foreseen_seconds"] > 3 * costs[1]["foreseen_seconds"]
    page = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "| strategy | part | time | memory | time foreseen | memory foreseen |" in page
    fit(rows(60), strategy="centroid", output_dir=tmp_path / "frozen")
    frozen = read_json(tmp_path / "frozen" / "run.json")["costs"]
    assert [c["part"] for c in frozen] == ["5 folds", "last fit"]
    assert {c["foreseen_seconds"] for c in frozen} == {None}
