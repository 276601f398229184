"""Series through the whole of it: fit, predict, evaluate, report, save, load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import acclimate
import tiny_series as ts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a long table."""
    place = tmp_path_factory.mktemp("series")
    ts.long(place / "train.csv", 30)
    ts.long(place / "test.csv", 20, seed=1)
    acclimate.fit(
        place / "train.csv", test_data=place / "test.csv", modality="series", id_column="run", time_column="t",
        label="kind", strategy="full", num_train_epochs=6, output_dir=place / "run", rate=50, quiet=True,
    )  # fmt: skip
    return place / "run"


def test_a_long_table_is_learned_from_and_accounted_for(run: Path) -> None:
    model = acclimate.load(run)
    assert model.scores is not None and model.scores.estimates["accuracy"].value == 1.0
    assert (model.columns.kind, model.columns.features, model.columns.rate) == ("series", ("a", "b"), 50)
    assert {b["key"] for b in model.report_data.baselines} == {"majority", "statistics"}  # type: ignore[union-attr]
    audit = model.report_data.audits[0]  # type: ignore[union-attr]
    assert (audit["read"], audit["kept"]) == (30, 30)
    assert any("1,200 lines are 30 series" in note for note in audit["facts"]["notes"])
    assert "Nothing here was pretrained" in repr(model)


def test_predict_reads_tables_arrays_and_files_alike(run: Path, tmp_path: Path) -> None:
    model = acclimate.load(run)
    values, wanted = ts.series(6, seed=2)
    assert model.predict(list(values)) == wanted == model.predict(values) and model.predict(values[1]) == wanted[1:2]
    paths = [tmp_path / f"{i}.npz" for i in range(6)]
    for path, one in zip(paths, values, strict=True):
        np.savez(path, one)
    assert model.predict(paths) == wanted
    table, columns = model.predict_table(ts.long(tmp_path / "new.csv", 6, seed=2))
    assert dict(zip(table.columns["run"], columns["prediction"], strict=True)) == {f"r{i}": wanted[i] for i in range(6)}


def test_evaluate_and_the_bundle(run: Path, tmp_path: Path) -> None:
    model = acclimate.load(run)
    assert model.evaluate(run.parent / "test.csv").estimates["accuracy"].value == 1.0
    values = ts.series(6, seed=2)[0]
    again = acclimate.load(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(again.predict_proba(list(values)), model.predict_proba(list(values)))


def test_the_report_draws_what_was_mistaken(tmp_path: Path) -> None:
    values, labels = ts.series(40)
    labels = ["slow" if i % 7 == 3 else label for i, label in enumerate(labels)]
    given = {"x": list(values), "label": labels}
    acclimate.fit(given, modality="series", strategy="statistics", output_dir=tmp_path / "r", quiet=True)
    assert 'src="data:image/svg+xml;base64,' in (tmp_path / "r" / "report.html").read_text()
