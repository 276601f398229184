"""Reports of what `evaluate.score` and the gate really give, for every task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from acclimate.data.audit import audit
from acclimate.data.read import read
from acclimate.data.rows import Columns
from acclimate.evaluate import score
from acclimate.report import ReportData, render_html, render_markdown
from acclimate.report.content import document


def answers(task: str, n: int = 90) -> dict[str, Any]:
    """Truth, outputs and decisions of three classes (or numbers), right about four times in five."""
    dice = np.random.default_rng(0)
    truth = dice.integers(0, 3, n)
    given = np.where(dice.random(n) < 0.8, truth, dice.integers(0, 3, n))
    proba = np.full((n, 3), 0.1)
    proba[np.arange(n), given] = 0.8
    if task == "multilabel":
        flags = (np.arange(3) <= truth[:, None]).astype(np.int64)
        return {"truth": flags, "outputs": proba, "predicted": (proba > 0.5).astype(np.int64)}
    if task == "regress":
        values = truth + dice.normal(0, 0.3, n)
        return {"truth": truth.astype(float), "outputs": values, "predicted": values}
    return {"truth": truth, "outputs": proba, "predicted": given}


def report(task: str) -> ReportData:
    groups = [["north", "south"][i % 2] if i else "nowhere" for i in range(90)]
    names = () if task == "regress" else ("low", "middle", "high")
    scores = score(task, **answers(task), classes=names, subgroups={"place": groups}, resamples=200)
    return ReportData(
        title="t",
        verdict="v",
        created="c",
        task=task,
        metric=scores.metric,
        strategy="knn",
        model_name="minilm",
        scores=scores.to_json(),
    )


@pytest.mark.parametrize(
    ("task", "present", "absent"),
    [
        ("classify", {"result", "confusion", "calibration", "classes", "subgroups"}, set()),
        ("ordinal", {"result", "confusion", "calibration", "classes", "subgroups"}, set()),
        ("multilabel", {"result", "classes", "subgroups"}, {"confusion"}),
        ("regress", {"result", "subgroups"}, {"confusion", "calibration", "classes"}),
    ],
)
def test_scores_fill_their_sections(task: str, present: set[str], absent: set[str]) -> None:
    data = report(task)
    keys = {s.key for s in document(data).sections}
    assert present <= keys and not absent & keys
    page = render_html(data)
    estimate = data.scores["metrics"][data.metric]
    assert f"{estimate['value']:.3f}" in page
    assert data.scores["covers"] in page
    assert render_markdown(data).count("too few") >= 1  # one row is from nowhere


def test_counts_of_the_report_are_those_of_the_scores() -> None:
    data = report("classify")
    matrix = data.scores["confusion"]
    wrong = sum(map(sum, matrix)) - sum(matrix[i][i] for i in range(3))
    assert f"of {wrong} mistakes; 90 rows)" in render_html(data)
    cells = [row[:2] for row in _table(data, "classes").rows]
    assert [(name.text, n.text) for name, n in cells] == [
        (c, str(sum(row))) for c, row in zip(data.scores["classes"], matrix, strict=True)
    ]


def _table(data: ReportData, key: str) -> Any:
    section = next(s for s in document(data).sections if s.key == key)
    return next(b for b in section.blocks if b.kind == "table")


def test_gap_is_called_one_only_where_its_interval_excludes_zero() -> None:
    data = report("classify")
    gap = data.scores["gaps"]["place"]["accuracy"]
    assert gap["low"] == 0.0
    assert "difference 0.063 [0.000, 0.225]: not decidable. 1 group has too few rows." in render_html(data)
    gap["low"] = 0.01
    assert "difference 0.063 [0.010, 0.225]: a gap." in render_html(data)


def test_gate_reconciles_in_the_report() -> None:
    source = {"text": ["a b", "a b", "c", " ", "d", "e"], "label": ["x", "y", "x", "y", None, "y"]}
    _, account = audit(read(source), Columns(label="label", text=("text",)), "classify")
    data = ReportData("t", "v", "c", "classify", "accuracy", "knn", "minilm", audits=[dict(account.to_json())])
    page = render_html(data)
    assert "6 rows read = 4 kept + 2 dropped." in page
    assert "do not add up" not in page
    assert [tuple(c.text for c in row) for row in _table(data, "data").rows] == [
        ("nothing to read (blank or null)", "1", "17\u00a0%", "line 4"),
        ("no label", "1", "17\u00a0%", "line 5"),
    ]
