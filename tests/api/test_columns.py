"""The parts that columns play: which rows stand together, which count how much, what is reported and never learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json, rows, write_csv

import acclimate
from acclimate.api import prepare
from acclimate.data.split import folds

Fit = Callable[..., acclimate.Model]


@pytest.fixture
def split(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[acclimate.Model, prepare.Prepared]]:
    """Fit, and see which rows were learned from and which gave the number."""
    real = prepare.prepare

    def run(data: Any, **settings: Any) -> tuple[acclimate.Model, prepare.Prepared]:
        seen: list[prepare.Prepared] = []

        def spy(*args: Any) -> prepare.Prepared:
            seen.append(real(*args))
            return seen[0]

        monkeypatch.setattr("acclimate.api.fitting.prepare", spy)
        return fit(data, **settings), seen[0]

    return run


def test_without_a_test_file_a_fifth_is_held_out(split: Any) -> None:
    model, prepared = split(rows(240))
    assert (len(prepared.train), len(prepared.test)) == (192, 48)
    assert sorted([*prepared.train.lines, *prepared.test.lines]) == list(range(1, 241))
    assert prepared.test.labels.count("good") == 24
    assert model.scores.n == 48
    assert model.report_data.splits == {"train": 192, "test": 48}
    assert "48 rows held out at the start (20 %, stratified, duplicates kept together)" in model.report_data.how_tested


def test_under_200_rows_every_row_is_judged_out_of_fold(split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "folds", folds)  # repeated, as they are
    model, prepared = split(rows(199))
    pairs = prepare.folds_of(prepared, 0)
    assert len(pairs) == 15
    assert sorted(i for _, judge_at in pairs for i in judge_at) == sorted([*range(199)] * 3)
    assert prepared.test is None
    assert len(prepared.train) == model.scores.n == 199
    assert model.report_data.splits == {"train": 199}
    assert "repeated out-of-fold predictions" in model.report_data.how_tested
    assert len(split(rows(200))[1].test) == 40


def test_a_group_is_never_on_both_sides(split: Any) -> None:
    data = rows(240, patient=[f"p{i // 8}" for i in range(240)])
    model, prepared = split(data, group_column="patient")
    assert not set(prepared.train.groups) & set(prepared.test.groups)
    assert len(set(prepared.train.groups)) + len(set(prepared.test.groups)) == 30
    for fit_at, judge_at in prepare.folds_of(prepared, 0):
        groups = np.array(prepared.train.groups)
        assert not set(groups[fit_at]) & set(groups[judge_at])
    assert "no group on both sides" in model.report_data.how_tested
    assert "cluster" in model.scores.covers or any("clusters" in n for n in model.scores.notes)


def test_groups_shared_with_a_test_file_are_told(fit: Fit, tmp_path: Path) -> None:
    data = rows(40, patient=[f"p{i // 4}" for i in range(40)])
    test = rows(12, seed=1, patient=["p1"] * 6 + ["q"] * 6)
    fit(data, test_data=test, group_column="patient", output_dir=tmp_path / "run")
    found = {f["kind"]: f for f in read_json(tmp_path / "run" / "audit.json")[1]["findings"]}
    assert found["cross_group"]["count"] == 6


def test_the_past_is_learned_from_and_the_future_gives_the_number(split: Any) -> None:
    days = [f"2024-{1 + i % 12:02d}-{1 + i // 12:02d}" for i in range(240)]
    model, prepared = split(rows(240, day=days), time_column="day")
    assert prepared.train.times.max() <= prepared.test.times.min()
    assert len(prepared.test) == 48
    assert "the latest 20 %" in model.report_data.how_tested
    for fit_at, judge_at in prepare.folds_of(prepared, 0):
        assert prepared.train.times[fit_at].max() <= prepared.train.times[judge_at].min()


def test_few_rows_in_time(split: Any) -> None:
    """The first window is never judged: nothing came before it."""
    model, prepared = split(rows(60, day=list(range(60))), time_column="day")
    assert prepared.test is None
    assert 40 <= model.scores.n < 60


def test_a_subgroup_is_reported_and_changes_nothing(fit: Fit, tmp_path: Path) -> None:
    data = rows(80)
    plain = fit(data, strategy="linear_probe", output_dir=tmp_path / "plain")
    sexes = ["f" if i % 8 < 4 else "m" for i in range(76)] + ["x"] * 4
    model = fit({**data, "sex": sexes}, strategy="linear_probe", subgroup_column="sex", output_dir=tmp_path / "run")
    texts = rows(20, seed=5)["text"]
    assert np.array_equal(model.predict_proba(texts), plain.predict_proba(texts))
    assert model.columns.text == ("text",)
    groups = model.scores.per_subgroup["sex"]
    assert {name: g["accuracy"].n for name, g in groups.items()} == {"f": 40, "m": 36, "x": 4}
    assert groups["x"]["accuracy"].value is None or "few" in groups["x"]["accuracy"].note
    assert "sex" in model.scores.gaps
    assert "sex" in (tmp_path / "run" / "report.md").read_text()


def test_a_weight_counts_rows(fit: Fit) -> None:
    """Rows of weight 0 teach nothing; rows of weight 2 are two rows, and the number is weighted too."""
    data, wrong = rows(40), rows(40, seed=1)
    wrong["label"] = wrong["label"][::-1]
    both = {k: [*data[k], *wrong[k]] for k in data} | {"w": [1.0] * 40 + [0.0] * 40}
    test = rows(30, seed=2)
    weighted = fit(both, weight_column="w", test_data=test, strategy="linear_probe")
    plain = fit(data, test_data=test, strategy="linear_probe")
    found, wanted = (m.predictor.logits(test["text"]) for m in (weighted, plain))
    assert found == pytest.approx(wanted, abs=1e-4)
    answers = plain.predict(test["text"])
    right = np.array([a == y for a, y in zip(answers, test["label"], strict=True)])
    weights = np.arange(1.0, 31.0)
    judged = fit(data | {"w": [1.0] * 40}, weight_column="w", test_data={**test, "w": weights}, strategy="linear_probe")
    assert judged.scores.estimates["accuracy"].value == pytest.approx(float((right * weights).sum() / weights.sum()))
    bad = fit({**data, "w": [-1.0, float("nan"), *[1.0] * 38]}, weight_column="w")
    assert bad.scores.n == 38


def test_ids_and_dropped_columns_are_left_alone(fit: Fit, tmp_path: Path) -> None:
    data = rows(40)
    longer = [f"a much longer text that would be taken for the input {i} {t}" for i, t in enumerate(data["text"])]
    path = write_csv(tmp_path / "train.csv", {"key": [f"k{i}" for i in range(40)], "long": longer, **data})
    model = fit(path, id_column="key", drop=("long",), label="label")
    assert (model.columns.text, model.columns.id, model.columns.drop) == (("text",), "key", ("long",))
    table, new = model.predict_table(write_csv(tmp_path / "new.csv", {"key": ["z"], "text": ["good table"]}))
    assert table.columns["key"] == ["z"]
    assert len(new["prediction"]) == 1
    with pytest.raises(acclimate.UserError, match="column 'text' is to be dropped and is also given a part"):
        fit(path, label="label", text_column="text", drop=("text",))


def test_valid_rows_choose_and_never_give_the_number(split: Any) -> None:
    valid = rows(60, seed=1)
    model, prepared = split(rows(240), valid_data=valid, strategy="full", settings={"num_train_epochs": 1})
    assert (len(prepared.train), len(prepared.valid), len(prepared.test)) == (192, 60, 48)
    assert model.scores.n == 48
    assert model.report_data.splits == {"train": 192, "valid": 60, "test": 48}
    assert [h["epoch"] for h in model.predictor.history] == [0, 1]
    assert all(h["valid_loss"] is not None for h in model.predictor.history)


def test_few_rows_with_valid_data_say_which_rows_gave_the_number(split: Any) -> None:
    model, prepared = split(rows(60), valid_data=rows(40, seed=1))
    assert prepared.test is None
    assert model.scores.n == 40
    assert model.report_data.how_tested.startswith("measured on the 40 rows of the valid data you gave")
    assert "All rows took part" not in model.report_data.how_tested


def test_test_rows_give_the_number(split: Any, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "test.csv", rows(30, seed=1))
    model, prepared = split(rows(240), test_data=path)
    assert (len(prepared.train), model.scores.n) == (240, 30)
    assert "measured on the test data you gave (30 rows)" in model.report_data.how_tested
    again = model.evaluate(path)
    assert again.value == model.scores.value
