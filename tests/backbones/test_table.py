"""Columns as numbers, and the small network on them: fitted on training rows, kept whole, random until it learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from acclimate import model
from acclimate.backbones import load
from acclimate.backbones.table import WIDTH, Columns, TableMlp
from acclimate.data.column_types import rows_of
from acclimate.data.rows import Data
from acclimate.data.table_numbers import Coding
from acclimate.errors import UserError
from acclimate.features import Store, extract
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

CELLS = [(i * 1.5 if i % 7 else None, "abc"[i % 3], "yes" if i % 2 else "no") for i in range(40)]
ROWS = rows_of(CELLS, ("x", "kind", "flag"))
DATA = Data(tuple(ROWS), tuple(int(i % 3 == 0) for i in range(40)), clusters=np.arange(40), kind="table")


def problem(backbone: object) -> Problem:
    task = TASKS["classify"]
    return Problem(task, task.decoder((0, 1), "int"), backbone, Store(backbone, Run()))  # type: ignore[arg-type]


def test_features_are_the_coding_of_the_training_rows() -> None:
    columns = load("columns").fit_rows(ROWS[:20])
    assert isinstance(columns, Columns)
    expected = Coding.of(ROWS[:20]).dense(ROWS)
    assert np.array_equal(extract(columns, ROWS, Run()), expected) and columns.width == expected.shape[1]
    assert columns.fingerprint() != load("columns").fit_rows(ROWS).fingerprint()
    assert columns.blocks == [] and not columns.pretrained and "mlp" in columns.fixed


@pytest.mark.parametrize("name", ["columns", "mlp"])
def test_before_rows_are_known_nothing_is_read(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} knows no columns yet"):
        load(name).encode(ROWS)
    assert load(name).origin.name == name
    with pytest.raises(UserError, match=f"pooling 'cls' is for text models; '{name}' reads rows of a table"):
        load(name, pooling="cls")


def test_the_network_is_random_from_a_seed_until_it_has_learned(tmp_path: Path) -> None:
    one, two = (load("mlp").fit_rows(ROWS) for _ in range(2))
    assert isinstance(one, TableMlp) and isinstance(two, TableMlp)
    assert one.fingerprint() == two.fingerprint() and not one.pretrained
    two.reset(5)
    assert two.fingerprint() == TableMlp(one.coding, one.origin, 5).fingerprint() != one.fingerprint()
    assert extract(one, ROWS, Run()).shape == (40, WIDTH) and len(one.blocks) == 2
    tuned = named("partial", {"num_train_epochs": 1})[1].fit(problem(one), Splits(DATA), Run())
    backbone = tuned.backbone
    assert isinstance(backbone, TableMlp) and backbone.pretrained and not one.pretrained
    before = backbone.fingerprint()
    backbone.reset(9)
    assert backbone.fingerprint() == before
    tuned.save(tmp_path / "m")
    again = model.load(tmp_path / "m")
    assert np.array_equal(again.logits(ROWS), tuned.logits(ROWS))
    assert again.backbone is not None and again.backbone.fingerprint() == before
    assert again.backbone.origin == one.origin


def test_making_one_leaves_the_generator_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load("mlp").fit_rows(ROWS)
    assert torch.equal(torch.rand(3), expected)


def test_a_tuned_network_goes_on_with_another_table_of_its_columns(tmp_path: Path) -> None:
    tuned = named("full", {"num_train_epochs": 1})[1].fit(problem(load("mlp").fit_rows(ROWS)), Splits(DATA), Run())
    assert tuned.backbone is not None
    tuned.backbone.save(tmp_path)
    pretrained = load(str(tmp_path))
    other = rows_of([(100.0, "c", "no"), (None, "new", None), (1, "a", "yes")], ("x", "kind", "flag"))
    assert pretrained.fit_rows(other) is pretrained
    with pytest.raises(
        UserError, match="was made for the columns x, kind, flag, in this order, and the table has x, k"
    ):
        pretrained.fit_rows(rows_of([(1.0, "a", "no"), (2.0, "b", "yes")], ("x", "k", "flag")))


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    load("mlp").fit_rows(ROWS).save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot load the model"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    "strategy", ["linear_probe", "knn", "centroid", "ridge", "coral", "density_ratio", "self_train"]
)
def test_strategies_on_frozen_features_read_tables(strategy: str, tmp_path: Path) -> None:
    backbone = load("columns").fit_rows(ROWS)
    target = Data(tuple(ROWS[::2]), kind="table", clusters=np.arange(20))
    fitted = named(strategy)[1].fit(problem(backbone), Splits(DATA, target=target), Run())
    fitted.save(tmp_path / "m")
    new = [(1.0, "unheard of", None), (None, None, None)]
    assert np.array_equal(model.load(tmp_path / "m").outputs(new), fitted.outputs(new))


@pytest.mark.parametrize("strategy", ["mcc", "dann", "shot"])
def test_alignments_train_on_them(strategy: str) -> None:
    target = Data(tuple(ROWS[::2]), kind="table", clusters=np.arange(20))
    settings = {"num_train_epochs": 1, "bottleneck": 8, **({"target_epochs": 1} if strategy == "shot" else {})}
    fitted = named(strategy, settings)[1].fit(
        problem(load("columns").fit_rows(ROWS)), Splits(DATA, target=target), Run()
    )
    assert np.isfinite(fitted.outputs(ROWS)).all()
