"""A table with free text from end to end: read beside the other columns, said, judged against both alone, kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json, write_csv

import acclimate
import tiny_models as tm
from acclimate import strategies
from acclimate.data.columns import guess
from acclimate.data.read import read
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.strategies.boosting import Boosting

Fit = Callable[..., acclimate.Model]
NOTES = [" ".join([(tm.GOOD if i % 2 else tm.BAD)[i % 7], "river", tm.NEUTRAL[i % 12], f"{i}"]) for i in range(60)]
LONG = " ".join(["stone"] * 200)


def visits(n: int = 60) -> dict[str, list[Any]]:
    notes = [None if i == 5 else LONG if i == 6 else note for i, note in enumerate(NOTES[:n])]
    return {
        "age": [20 + i % 9 for i in range(n)],
        "ward": [["north", "south"][i % 3 % 2] for i in range(n)],
        "notes": notes,
        "ill": [["no", "yes"][i % 2] for i in range(n)],
    }


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in (strategies.BASELINES, strategies.STRATEGIES, strategies.EVERY):
        for name in ("boosting", "feature_boosting"):
            if name in known:
                quick = Boosting(features=name != "boosting", rounds=5, leaves=3, least=5)
                monkeypatch.setitem(known, name, quick)


def test_text_is_read_beside_the_columns_judged_against_both_alone_and_kept(fit: Fit, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "visits.csv", visits())
    asked = {"label": "ill", "strategy": "linear_probe", "modality": "table", "output_dir": tmp_path / "run"}
    model = fit(file, **asked)
    assert model.columns.holds == ("number", "category", "text")
    assert model.columns.features == ("age", "ward", "notes")
    assert set(model.baselines) == {"majority", "boosting", "tfidf"}
    assert model.predictor.backbone is not None and model.predictor.backbone.origin.name == "columns+tiny-bert"
    assert "free text: notes" in model.report_data.decisions  # type: ignore[union-attr]
    (audit,) = read_json(tmp_path / "run" / "audit.json")
    (cut,) = [f for f in audit["findings"] if f["kind"] == "truncated"]
    assert cut["count"] == 1 and cut["lines"] == [8] and audit["facts"]["tokens"]["over"] == 1
    rows = [dict(zip(visits(), row, strict=True)) for row in zip(*visits().values(), strict=True)]
    again = acclimate.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict_proba(rows), model.predict_proba(file))
    other = [{**rows[0], "notes": NOTES[1]}, {**rows[0], "notes": None}]
    assert np.isfinite(again.predict_proba(other)).all()
    assert not np.array_equal(again.predict_proba(other)[0], model.predict_proba(rows[:1])[0])
    assert not np.isfinite(again.predict_proba([{"age": None, "ward": "", "notes": " "}])).any()
    for baseline in again.baselines.values():
        assert len(baseline.outputs(again._texts(rows)[0])) == 60


def test_a_text_column_named_with_a_table_is_text_in_it_and_alone_it_is_said_what_is_left_out() -> None:
    table = read({**visits(), "code": [f"K{i % 30}" for i in range(60)]})
    named = guess(table, Columns(label="ill", text=("code",), kind="table")).columns
    assert dict(zip(named.features, named.holds, strict=True)) == {
        "age": "number", "ward": "category", "notes": "text", "code": "text",
    }  # fmt: skip
    asked = guess(table, Columns(label="ill", text=("notes",), kind="table", features=("age",), holds=("category",)))
    assert asked.columns.holds == ("category", "category", "text", "category") and asked.columns.text == ()
    alone = guess(table, Columns(label="ill", text=("notes",)))
    said = "the text alone is read; 3 other columns are not learned from: 'age', 'ward', 'code' (--modality table"
    assert alone.columns.text == ("notes",) and any(reason.startswith(said) for reason in alone.reasons)
    told = guess(table, Columns(label="ill", text=("notes",), kind="text"))
    assert not any("not learned from" in reason for reason in told.reasons)


@pytest.mark.real  # slow
def test_auto_tries_boosting_on_columns_and_text(fit: Fit) -> None:
    model = fit(visits(), label="ill", text_column="notes", modality="table", strategy="auto")
    assert "feature_boosting" in {row["name"] for row in model.report_data.candidates}  # type: ignore[union-attr]


def test_a_model_that_leaves_text_out_says_so_and_one_of_text_needs_some(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"notes": "text"}
    model = fit(visits(), label="ill", column_kinds=kinds, model="columns", quiet=False)
    assert "notes: free text, which columns leaves out; --model minilm reads it, too" in capsys.readouterr().err
    assert model.predictor.backbone is not None and not model.predictor.backbone.parts
    with pytest.raises(UserError, match=r"'.*tiny-bert' reads text, and the inputs here are rows of a table"):
        fit(visits(), label="ill", column_kinds={"notes": "none"})


def test_a_private_run_holds_no_text(fit: Fit, tmp_path: Path) -> None:
    fit(visits(), label="ill", column_kinds={"notes": "text"}, private=True, output_dir=tmp_path / "run")
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file() and "text" not in path.parent.name and "baselines" not in path.parts:
            assert not re.search("river (table|chair)", path.read_bytes().decode("latin-1")), path
