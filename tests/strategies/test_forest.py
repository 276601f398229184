"""A forest of trees: the arrays answer as the library does, whatever the task, and none of their answers is sure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acclimate import model
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named, without_transfer
from acclimate.strategies.forest import Forest
from acclimate.tasks import TASKS
from acclimate.train import forest as module
from acclimate.train.boost import Rows
from acclimate.train.forest import Growth, forest

GROWTH = Growth(trees=7, least=1, share=None, seed=0)
BITS = np.random.default_rng(0).integers(0, 2, (60, 12)).astype(float)
SCALED = BITS / np.sqrt(np.maximum(1, BITS.sum(1, keepdims=True)))  # as a head reads them
WEIGHTS = np.random.default_rng(1).uniform(0.5, 2.0, 60)
MOLECULES = tuple(start + "C" * n for n in range(1, 9) for start in ("O", "N", "CC(=O)O", "c1ccccc1"))


def library(targets: Any, value: bool = False, at: Any = slice(None)) -> Any:
    return module._model(Rows(BITS[at], targets[at], WEIGHTS[at]), targets[at], GROWTH, value)


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_the_librarys_shares_and_never_sure(classes: int) -> None:
    codes = (BITS @ np.arange(12)).astype(int) % classes
    head = forest(Rows(BITS, codes, WEIGHTS), TASKS["classify"], GROWTH, classes)
    shares = library(codes).predict_proba(BITS)
    logits = head(torch.from_numpy(SCALED)).numpy()
    assert np.allclose(np.exp(logits), (7 * shares + 1) / (7 + classes)) and shares.max() == 1.0


def test_a_class_without_rows_and_a_class_alone() -> None:
    codes = np.where(BITS[:, 0] > 0, 2, 0)
    head = forest(Rows(BITS, codes, WEIGHTS), TASKS["classify"], GROWTH, 3)
    logits = head(torch.from_numpy(SCALED)).numpy()
    assert np.allclose(logits[:, 1], np.log(0.5 / 60)) and set(logits.argmax(1)) == {0, 2}
    alone = forest(Rows(BITS, np.ones(60, int), WEIGHTS), TASKS["classify"], GROWTH, 3)
    assert set(alone(torch.from_numpy(SCALED)).numpy().argmax(1)) == {1}


def test_many_classes_cost_little_more_than_two() -> None:
    codes = np.arange(60) % 20
    head = forest(Rows(BITS, codes, WEIGHTS), TASKS["classify"], GROWTH, 20)
    assert len(head.root) == GROWTH.trees  # each is walked once, and not once a class
    logits = head(torch.from_numpy(SCALED))
    assert np.allclose(np.exp(logits.numpy()), (7 * library(codes).predict_proba(BITS) + 1) / 27)
    again = type(head)(**head.shape)  # type: ignore[arg-type]
    again.load_state_dict(head.state_dict())
    ones = [again(torch.from_numpy(row[None])) for row in SCALED]
    assert torch.equal(torch.cat(ones), logits)


def test_trees_of_one_leaf_say_the_shares_of_the_rows() -> None:
    codes, same = (BITS[:, 0] > 0).astype(int), np.ones_like(BITS)
    head = forest(Rows(same, codes, WEIGHTS), TASKS["classify"], GROWTH, 2)
    models = module._model(Rows(same, codes, WEIGHTS), codes, GROWTH).estimators_
    assert {one.tree_.node_count for one in models} == {1}
    shares = np.mean([one.predict_proba(same[:1]) for one in models], axis=0)
    assert np.allclose(np.exp(head(torch.from_numpy(same)).numpy()), (7 * shares + 1) / 9)


def test_labels_learn_where_they_are_known_and_values_are_means() -> None:
    labels = np.column_stack([BITS[:, 0], BITS[:, 1], np.ones(60)])
    labels[:20, 1] = np.nan
    head = forest(Rows(BITS, labels, WEIGHTS), TASKS["multilabel"], GROWTH, 3)
    shares = library(labels[:, 1], at=slice(20, None)).predict_proba(BITS)[:, 1]
    found = torch.sigmoid(head(torch.from_numpy(SCALED))).numpy()
    assert np.allclose(found[:, 1], (7 * shares + 1) / 9) and (found[:, 2] > 0.8).all()
    values = BITS @ np.linspace(-1, 1, 12)
    head = forest(Rows(BITS, values, WEIGHTS), TASKS["regress"], GROWTH, 1)
    assert np.allclose(head(torch.from_numpy(SCALED)).numpy()[:, 0], library(values, True).predict(BITS))


def test_molecules_have_it_beside_them_and_it_is_kept_whole(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    labels = tuple("ring" if "c1" in smiles else "chain" for smiles in MOLECULES)
    data = Data(MOLECULES, labels, clusters=np.arange(len(MOLECULES)), kind="molecule")
    assert list(without_transfer(data)) == ["majority", "fingerprints", "forest", "boosting"]
    problem = Problem(TASKS["classify"], TASKS["classify"].decoder(labels, "str"))
    fitted = named("forest", {"trees": 9})[1].fit(problem, Splits(data), Run())
    fitted.save(tmp_path / "m")
    loaded = model.load(tmp_path / "m")
    outputs = loaded.outputs(MOLECULES)
    assert np.array_equal(outputs, fitted.outputs(MOLECULES)) and outputs.min() > 0 and outputs.max() < 1
    assert [("chain", "ring")[i] for i in outputs.argmax(1)] == list(labels)
    one = [loaded.outputs([x])[0] for x in MOLECULES[:3]]
    assert np.array_equal(one, outputs[:3])


def test_settings_without_sense_are_refused() -> None:
    for setting, value in (("trees", 0), ("least", 0), ("share", 1.5)):
        with pytest.raises(UserError, match=setting):
            replace(Forest(), **{setting: value})
