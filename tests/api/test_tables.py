"""Rows of a table from end to end: what is learned from is said, judged, shown, kept and read again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json, write_csv

import acclimate
from acclimate import strategies
from acclimate.errors import UserError
from acclimate.strategies.boosting import Boosting


def patients(n: int = 60, seed: int = 0, shift: float = 0.0) -> dict[str, list[Any]]:
    """Ill where the pulse is high; most of the ill have no pressure."""
    rng = np.random.default_rng(seed)
    pulse = rng.normal(size=n).round(2)
    ill = (pulse + 0.2 * rng.normal(size=n) > 0).astype(int)
    gone = (ill == 1) & (rng.random(n) < 0.8)
    pressure = [None if g else round(float(v), 1) for g, v in zip(gone, rng.normal(120, 9, n), strict=True)]
    return {
        "patient_id": [9000 + seed * n + 3 * i for i in range(n)],
        "pulse": [f"{float(80 + 10 * (p + shift)):.1f}" for p in pulse],
        "pressure": pressure,
        "ward": [["north", "south"][k] for k in rng.integers(0, 2, n)],
        "cp": rng.integers(1, 4, n).tolist(),
        "ill": [["no", "yes"][k] for k in ill],
    }


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in (strategies.BASELINES, strategies.EVERY):
        monkeypatch.setitem(named, "boosting", Boosting(rounds=10, leaves=3, least=5))


def fit(data: Any, **settings: Any) -> acclimate.Model:
    return acclimate.fit(data, **{"label": "ill", "quiet": True, "strategy": "linear_probe", **settings})


def test_a_file_without_text_is_a_table_and_that_is_said(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "patients.csv", patients())
    model = fit(file, output_dir=tmp_path / "run")
    assert model.columns.features == ("patient_id", "pulse", "pressure", "ward", "cp")
    assert model.columns.holds == ("none", "number", "number", "category", "number")
    decisions = model.report_data.decisions  # type: ignore[union-attr]
    assert any(
        re.match(r"rows of a table with 5 columns: no column of .* holds text \(say --text-column", d)
        for d in decisions
    )
    assert "numbers: pulse, pressure, cp" in decisions and "categories: ward" in decisions
    assert any(d.startswith("column 'patient_id': left out") for d in decisions)
    assert model.scores is not None and model.scores.estimates["accuracy"].value > 0.85  # type: ignore[operator]
    assert set(model.baselines) == {"majority", "boosting"}
    verdict = model.report_data.verdict  # type: ignore[union-attr]
    assert verdict.startswith("linear_probe on columns reaches") and "Nothing here was pretrained" in verdict
    kinds = {f["kind"] for audit in read_json(tmp_path / "run" / "audit.json") for f in audit["findings"]}
    assert "missing_cells" in kinds


def test_a_saved_model_answers_files_frames_dicts_and_tuples_alike(tmp_path: Path) -> None:
    model = fit(patients(), output_dir=tmp_path / "run")
    new = patients(20, seed=7)
    file = write_csv(tmp_path / "new.csv", {k: v for k, v in new.items() if k != "ill"})
    again = acclimate.load(tmp_path / "run")
    expected = model.predict(file)
    assert set(expected) <= {"no", "yes"}
    names = model.columns.features
    dicts = [dict(zip(new, row, strict=True)) for row in zip(*new.values(), strict=True)]
    tuples = [tuple(row[name] for name in names) for row in dicts]
    for inputs in (str(file), new, dicts, tuples, [list(t) for t in tuples]):
        assert again.predict(inputs) == expected
    np.testing.assert_array_equal(again.predict_proba(tuples), model.predict_proba(file))
    for baseline in again.baselines.values():
        assert len(baseline.outputs(again._texts(tuples)[0])) == 20


def test_rows_that_cannot_be_judged_or_read_are_told(tmp_path: Path) -> None:
    model = fit(patients())
    assert model.predict([(1, None, " ", None, None), (1, "80", 120, "never seen", 2)])[0] is None
    with pytest.raises(
        UserError, match=r"input 2 is no row of this table: .*; give 5 cells in the order patient_id, pulse"
    ):
        model.predict([(1, "80", 120, "north", 2), (1, "80")])
    with pytest.raises(UserError, match="there is no column 'ward'"):
        model.predict({k: v for k, v in patients(5).items() if k != "ward"})
    table, columns = model.predict_table(
        {**patients(3), "pulse": [None] * 3, "pressure": [None] * 3, "ward": [""] * 3, "cp": [None] * 3}
    )
    assert columns["note"] == ["no row to judge"] * 3
    odd = {**patients(4), "pulse": ["80", "lots", "??", "90"]}
    assert model.predict_parts(odd).said == (
        "column 'pulse' holds a number, and 2 cells are none ('lots', '??'): missing (lines 2, 3)",
    )
    assert model.predict_parts(patients(4)).said == ()


def test_evaluate_and_the_mistakes_of_the_report_show_rows(tmp_path: Path) -> None:
    noisy = patients(80)
    noisy["ill"] = [noisy["ill"][0] if i % 5 == 0 else y for i, y in enumerate(noisy["ill"])]
    model = fit(noisy, output_dir=tmp_path / "run")
    scores = model.evaluate(patients(40, seed=3))  # its baselines were kept with the run
    assert scores.n == 40 and set(scores.baseline) == {"majority", "boosting"}
    mistakes = read_json(tmp_path / "run" / "report.json")["mistakes"]
    assert re.match(
        r"patient_id: \d+; pulse: [\d.]+; pressure: [^;]+; ward: (north|south); cp: \d$", mistakes[0]["input"]
    )
    assert "ward: north" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_what_columns_hold_can_be_said(tmp_path: Path) -> None:
    model = fit(patients(), column_kinds={"cp": "category", "pressure": "none"})
    assert model.columns.holds == ("none", "number", "none", "category", "category")
    assert model.predictor.backbone is not None
    names = model.predictor.backbone.coding.names("dense")  # type: ignore[attr-defined]
    assert names == ("pulse", "ward = north", "ward = south", "cp = 1", "cp = 2", "cp = 3")
    with pytest.raises(UserError, match="unknown kind of column 'cp' 'categorical'; did you mean 'category'"):
        fit(patients(), column_kinds={"cp": "categorical"})
    with pytest.raises(UserError, match="column kinds are said of the columns of a table, and the modality is 'text'"):
        fit(patients(), column_kinds={"cp": "category"}, modality="text")
    with pytest.raises(UserError, match="there is no column 'cq'"):
        fit(patients(), column_kinds={"cq": "category"})


def test_statistics_are_those_of_the_rows_to_learn_from() -> None:
    test = {k: v[:20] for k, v in patients(30, seed=5).items()} | {"pulse": ["9e9"] * 20, "ward": ["west"] * 20}
    model = fit(patients(), test_data=test)
    alone = fit(patients())
    mine, theirs = (m.predictor.backbone.settings() for m in (model, alone))  # type: ignore[union-attr]
    assert mine == theirs and "west" not in json.dumps(mine)


def test_copies_stay_on_one_side_whatever_their_number_and_spelling(tmp_path: Path) -> None:
    table = {k: [*v, *v] for k, v in patients(30).items()}
    table["patient_id"] = list(range(100, 160))
    table["cp"] = [*table["cp"][:30], *(f" {c}.0 " for c in table["cp"][30:])]
    model = fit(write_csv(tmp_path / "twice.csv", table), output_dir=tmp_path / "run")
    (audit,) = read_json(tmp_path / "run" / "audit.json")
    assert audit["facts"]["distinct_inputs"] == 30 and audit["kept"] == 60
    assert model.scores is not None and model.scores.n == 60


def test_auto_chooses_boosting_where_it_is_best_and_says_no_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 160))
    table = {"a": a.tolist(), "b": b.tolist(), "ill": [str(bool(v)) for v in a * b > 0]}  # no linear model sees this
    monkeypatch.setitem(strategies.BASELINES, "boosting", Boosting(rounds=60, leaves=8, share=1.0, learning_rate=0.1))
    model = fit(table, strategy="auto", candidates=["linear_probe", "centroid"])
    assert model.predictor.strategy == "boosting"
    verdict = model.report_data.verdict  # type: ignore[union-attr]
    assert verdict.startswith("boosting reaches accuracy") and "Nothing here was pretrained" in verdict


def test_boosting_is_asked_for_by_name_and_is_no_baseline_of_texts() -> None:
    assert fit(patients(), strategy="boosting").predictor.backbone is None
    with pytest.raises(UserError, match="boosting is no baseline of texts: without transfer they are read by tfidf"):
        acclimate.fit({"text": ["a b", "c d"] * 9, "label": [0, 1] * 9}, strategy="boosting", quiet=True)


def test_a_probe_beside_plain_columns_is_refused() -> None:
    with pytest.raises(UserError, match="a linear model cannot read rows of a table as they are"):
        fit(patients(), strategy="hybrid")


def test_target_rows_of_another_place_are_adapted_to(tmp_path: Path) -> None:
    target = patients(60, seed=9, shift=6.0)
    test = patients(60, seed=11, shift=6.0)
    without = fit(patients(), test_data=test)
    adapted = fit(patients(), target_data=target, test_data=test, strategy="standardise")
    trees = fit(
        patients(),
        target_data=target,
        test_data=test,
        strategy="adapted_boosting",
        settings={"by": "standardise", "rounds": 20, "leaves": 3, "least": 5},
    )
    low, high, other = (m.scores.estimates["accuracy"].value for m in (without, adapted, trees))  # type: ignore[union-attr]
    assert low < 0.7 < 0.8 < min(high, other)
    assert "Nothing here was pretrained" not in adapted.report_data.verdict  # type: ignore[union-attr]
    with pytest.raises(UserError, match="has no column 'cp', which holds the inputs"):
        fit(patients(), target_data={k: v for k, v in target.items() if k != "cp"}, strategy="coral")


def test_a_network_tuned_on_one_table_goes_on_with_another(tmp_path: Path) -> None:
    quick = {"strategy": "full", "num_train_epochs": 2, "learning_rate": 1e-3}
    first = fit(patients(), model="mlp", output_dir=tmp_path / "source", **quick)
    assert "Nothing here was pretrained" in first.report_data.verdict  # type: ignore[union-attr]
    folder = tmp_path / "source" / "model" / "backbone"
    few = {k: v[:40] for k, v in patients(40, seed=21, shift=1.0).items()}
    tuned = fit(few, model=str(folder), **quick)
    assert "Nothing here was pretrained" not in tuned.report_data.verdict  # type: ignore[union-attr]
    assert tuned.predictor.backbone.coding == first.predictor.backbone.coding  # type: ignore[union-attr]
    with pytest.raises(UserError, match="was made for the columns patient_id, pulse"):
        fit({k: v for k, v in few.items() if k != "cp"}, model=str(folder), **quick)


def test_labelled_rows_of_the_target_are_learned_from() -> None:
    few = {k: v[:24] for k, v in patients(40, seed=31, shift=3.0).items()}
    model = fit(patients(), target_labels=few, strategy="last_layer")
    assert model.predictor.strategy == "last_layer" and np.isfinite(model.predict_proba(few)).all()


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_a_private_run_holds_no_cell(task: str, tmp_path: Path) -> None:
    data = patients(80, seed=3)
    data["pulse"] = [p if i % 40 else f"secret {i}" for i, p in enumerate(data["pulse"])]
    data["same"], data["few"] = ["secret"] * 80, ["secret" if i < 9 else None for i in range(80)]
    if task == "regress":
        data["ill"] = [f"{1234.5 + i:.4f}" for i in range(80)]
    model = fit(data, private=True, output_dir=tmp_path / "run", task=task, strategy="boosting", modality="table")
    for file in (tmp_path / "run").rglob("*"):
        if (
            file.is_file() and "model" not in file.relative_to(tmp_path / "run").parts[:1]
        ):  # of categories it has values
            text = file.read_bytes()
            assert b"secret" not in text and b"north" not in text, file
            assert task == "classify" or not re.search(rb"12(3[4-9]|[4-9]\d)\.5\b", text), file
    said = model.predict_parts({**data, "pulse": ["secret"] * 80}).said
    assert said[0].startswith("column 'pulse' holds a number, and 80 cells are none: missing")


def test_a_label_too_large_to_square_is_one_clear_error() -> None:
    data = {**patients(), "ill": [1e308, -1e308, 3.0] * 20}
    with pytest.raises(UserError, match="'ill' holds 1e.308, whose square is beyond"):
        fit(data, strategy="ridge", task="regress")


def test_a_private_report_names_no_cell(tmp_path: Path) -> None:
    fit(patients(), private=True, output_dir=tmp_path / "run")
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "north" not in text and read_json(tmp_path / "run" / "report.json")["mistakes"] is None


def test_settings_that_nothing_takes_with_these_inputs_are_refused(tmp_path: Path) -> None:
    """Of a table the encoder never moves where the verdict is to adapt, and the candidates leave it as it is."""
    data = {"x": [float(i) for i in range(60)], "z": [float(i % 7) for i in range(60)], "y": ["a", "b"] * 30}
    new = {"x": data["x"][:30], "z": data["z"][:30]}
    with pytest.raises(acclimate.UserError, match=r"takes the setting 'learning_rate' \(linear_probe, knn; "):
        acclimate.fit(
            data, label="y", candidates=["linear_probe", "knn"], target_data=new, learning_rate=0.01, quiet=True,
            output_dir=tmp_path / "run",
        )  # fmt: skip
