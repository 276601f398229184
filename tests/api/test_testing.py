"""`--adapt`: predictions adapted to the rows asked for, through the verbs and the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import rows, write_csv
from typer.testing import CliRunner

import acclimate
import tiny_models as tm
from acclimate.cli.main import app
from acclimate.errors import UserError
from acclimate.testtime import Lame


@pytest.fixture(scope="session")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where: Path = tmp_path_factory.mktemp("adapt") / "RUN"
    acclimate.fit(rows(60), label="label", model=str(folder), strategy="ridge", output_dir=where, quiet=True)
    return where


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("adapt", ["lame:neighbours=3", "t3a", "tent:batch_size=16"])
def test_a_file_has_the_columns_it_has_without_and_the_adapter_is_told(run: Path, tmp_path: Path, adapt: str) -> None:
    name = adapt.partition(":")[0]
    new = rows(40, seed=5)
    new["text"][7] = None
    source = write_csv(tmp_path / "new.csv", {"text": new["text"]})
    plain, out = tmp_path / "plain.csv", tmp_path / "out.csv"
    assert CliRunner().invoke(app, ["predict", str(run), str(source), "-o", str(plain)]).exit_code == 0
    result = CliRunner().invoke(app, ["predict", str(run), str(source), "-o", str(out), "--adapt", adapt])
    assert result.exit_code == 0, result.stderr
    before, after = cells(plain), cells(out)
    assert (before[0].keys(), len(before)) == (after[0].keys(), len(after))
    assert (after[7]["prediction"], after[7]["p_bad"]) == ("", "")
    changed = sum(a["prediction"] != b["prediction"] for a, b in zip(before, after, strict=True))
    said = f"adapted by {name} to these rows alone: {changed} of 39 predictions changed. Whether for the better is not"
    assert said in result.stderr.replace("\n", " ")
    told = json.loads((tmp_path / "out.csv.adapted.json").read_text(encoding="utf-8"))
    assert (told["adapter"], told["rows"], told["changed"]) == (name, 39, changed)
    assert not (tmp_path / "plain.csv.adapted.json").exists()
    model = acclimate.load(run)
    assert [a["prediction"] for a in after] == [p or "" for p in model.predict(new["text"], adapt=adapt)]
    found = model.predict_proba(new["text"], adapt=adapt)
    assert np.allclose(np.delete(found, 7, 0).sum(1), 1)
    assert np.isnan(found[7]).all()


def test_evaluate_puts_plain_and_adapted_beside_each_other(run: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "test.csv", rows(50, seed=6))
    result = CliRunner().invoke(app, ["evaluate", str(run), str(source), "--adapt", "lame", "--json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    model = acclimate.load(run)
    plain = model.evaluate(source)
    beside = found["baseline"]["without adapting"]
    assert (beside["value"], beside["n"]) == (plain.value, 50)
    assert beside["difference"]["value"] == pytest.approx(found["value"] - plain.value)
    assert found["adapted"]["adapter"] == "lame"
    labels = [model.predict(rows(50, seed=6)["text"], adapt=Lame()), rows(50, seed=6)["label"]]
    right = float(np.mean([a == b for a, b in zip(*labels, strict=True)]))
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(right)


def test_permuting_the_labels_changes_no_adapted_answer(run: Path) -> None:
    """Labels in the table are not read (A6)."""
    model, table = acclimate.load(run), rows(40, seed=7)
    turned = {**table, "label": table["label"][::-1]}
    for adapt in ("lame", "t3a", "tent"):
        assert np.array_equal(model.predict_proba(table, adapt=adapt), model.predict_proba(turned, adapt=adapt))


def test_refusals(run: Path, fit: Callable[..., Any]) -> None:
    model = acclimate.load(run)
    for adapt, message in (
        ("tents", "unknown adapter 'tents'; did you mean 'tent'"),
        ("adabn", "has 5 LayerNorm: nothing in it depends on the rows of training"),
        (3, "adapt is 3; give a name"),
    ):
        with pytest.raises(UserError, match=message):
            model.predict(["good day"], adapt=adapt)
    with pytest.raises(UserError, match="there is none to judge"):
        model.predict([None, ""], adapt="lame")
    with pytest.raises(UserError, match="give --adapt or --conformal"):
        model.predict_parts({"text": ["good day"]}, adapt="lame", conformal=0.9)
    data, _ = tm.task_rows("regress", 40)
    numbers = fit({"text": list(data.inputs), "y": list(data.labels or ())}, label="y", strategy="ridge")
    with pytest.raises(UserError, match="this model's task is regress"):
        numbers.predict(["good day"], adapt="lame")
