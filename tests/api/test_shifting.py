"""`measure_shift` and `acclimate shift`: what is found, what is never looked at, and what is shown."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import acclimate
import tiny_models as tm
from acclimate.cli.main import app
from acclimate.errors import UserError


def table(n: int, more: str = "", seed: int = 0, labels: bool = True) -> dict[str, list[Any]]:
    data = tm.rows(n, seed=seed)
    found: dict[str, list[Any]] = {"text": [f"{text} {more}".strip() for text in data.inputs]}
    return {**found, "label": list(data.labels or ())} if labels else found


@pytest.fixture
def tiny(folder_of: Any) -> str:
    return str(folder_of("bert"))


def test_a_word_that_only_one_side_has_is_found_and_tells_the_sides_apart(tiny: str) -> None:
    found = acclimate.measure_shift(table(60), table(50, "river"), label="label", model=tiny)
    shift = found.to_json()["shift"]
    assert shift["apart"]["auc"]["low"] > 0.5 and shift["mmd"]["p"] < 0.05
    first = shift["words"][0]
    assert (first["name"], first["target"]) == ("river", 1.0) and first["source"] < 0.5
    assert "easily be told apart" in found.verdict
    assert not shift["labels"]["decision"]["apply"]


def test_two_draws_of_the_same_are_not_told_apart(tiny: str) -> None:
    found = acclimate.measure_shift(table(80), table(80, seed=1), label="label", model=tiny)
    auc = found.to_json()["shift"]["apart"]["auc"]
    assert auc["low"] <= 0.5 <= auc["high"]
    assert found.verdict.startswith("No difference")


def test_labels_of_the_target_change_nothing(tiny: str) -> None:
    target = table(50, "river")
    turned = {**target, "label": target["label"][::-1]}
    without = {"text": target["text"]}
    found = [
        acclimate.measure_shift(table(60), t, label="label", model=tiny).to_json()["shift"]
        for t in (target, turned, without)
    ]
    assert found[0] == found[1] == found[2]


def test_without_labels_class_shares_are_left_out(tiny: str) -> None:
    found = acclimate.measure_shift(table(60, labels=False), table(50, labels=False), model=tiny)
    assert found.to_json()["shift"]["labels"] is None
    assert "Have class shares moved" not in str(found)


def test_private_shows_no_input(tiny: str, tmp_path: Path) -> None:
    found = acclimate.measure_shift(table(60), table(50, "secretword"), label="label", model=tiny, private=True)
    page = found.report(tmp_path / "shift.html").read_text()
    for text in (page, str(found), json.dumps(found.to_json(), default=str)):
        assert "secretword" not in text


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"body": ["a"] * 30}, "has no column 'text'.*its columns: body"),
        ({"text": ["a", "b"]}, "at least 20 on both sides"),
        ({"text": [" "] * 30}, "has no usable row"),
    ],
)
def test_what_cannot_be_compared_is_refused(target: dict[str, list[str]], message: str, tiny: str) -> None:
    with pytest.raises(UserError, match=message):
        acclimate.measure_shift(table(60), target, label="label", model=tiny)


def test_the_command_prints_and_writes(tiny: str, tmp_path: Path) -> None:
    paths = []
    for name, rows in (("source", table(60)), ("target", table(50, "river"))):
        paths.append(tmp_path / f"{name}.csv")
        with open(paths[-1], "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(rows)
            writer.writerows(zip(*rows.values(), strict=True))
    given = ["shift", *map(str, paths), "--label", "label", "--model", tiny, "-q"]
    done = CliRunner().invoke(app, [*given, "-o", str(tmp_path / "out.html")])
    assert done.exit_code == 0, done.output
    assert "Can they be told apart?" in done.output and "river" in done.output
    page = (tmp_path / "out.html").read_text()
    assert "<svg" in page and "Map of the features" in page
    values = json.loads(CliRunner().invoke(app, [*given, "--json"]).stdout)
    assert values["rows"] == [60, 50] and values["source"] == "source.csv"
