"""Free text among the columns of a table: read by a frozen text model, kept whole, and nothing where nothing stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import model
from acclimate.backbones import load
from acclimate.backbones.base import Backbone
from acclimate.backbones.table import Columns, TableMlp
from acclimate.data.column_types import rows_of
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.features import Store, extract
from acclimate.plain.words import joined
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

WORDS = [(tm.GOOD if i % 2 else tm.BAD)[i % 8] + " table " + tm.NEUTRAL[i % 12] for i in range(40)]
CELLS = [(float(i % 5), None if i == 7 else word, "ab"[i % 3 % 2]) for i, word in enumerate(WORDS)]
ROWS = rows_of(CELLS, ("x", "notes", "kind"), {"notes": "text"})
DATA = Data(tuple(ROWS), tuple(i % 2 for i in range(40)), clusters=np.arange(40), kind="table")
NEW = [(1.0, "good river", "a"), (None, None, None), (2.0, " ", "never seen")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tm.write("bert", tmp_path_factory.mktemp("texts") / "bert", layers=2)


def problem(backbone: Backbone, run: Run) -> Problem:
    task = TASKS["classify"]
    return Problem(task, task.decoder((0, 1), "int"), backbone, Store(backbone, run))


def test_features_are_those_of_the_columns_and_of_each_text_at_length_one(folder: Path) -> None:
    beside = load(f"columns+{folder}").fit_rows(ROWS)
    assert isinstance(beside, Columns) and beside.pretrained and not beside.untrained
    assert beside.origin.name == f"columns+{folder.name}"
    found, numbers = extract(beside, ROWS, Run()), extract(load("columns").fit_rows(ROWS), ROWS, Run())
    assert beside.cells == numbers.shape[1] and np.array_equal(found[:, : beside.cells], numbers)
    texts = np.stack([extract(load(str(folder)), [word], Run())[0] for word in WORDS])
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    texts[7] = 0  # nothing is written
    np.testing.assert_allclose(found[:, beside.cells :], texts, atol=1e-5)


def test_texts_are_kept_by_themselves_and_found_again_when_columns_are_learned_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(cache=tmp_path)
    first = Store(load(f"columns+{folder}").fit_rows(ROWS), run).get(ROWS)
    other = load(f"columns+{folder}").fit_rows(ROWS[:20])

    def never(*given: Any) -> None:
        raise AssertionError("a text was read again")

    monkeypatch.setattr(type(other.parts["text"].backbone), "forward", never)
    again = Store(other, run).get(ROWS)
    assert np.array_equal(again[:, other.cells :], first[:, -other.parts["text"].width :])


@pytest.mark.parametrize("table", ["columns", "mlp"])
def test_a_bundle_holds_the_text_model_and_answers_alike(table: str, folder: Path, tmp_path: Path) -> None:
    backbone = load(f"{table}+{folder}").fit_rows(ROWS)
    strategy = named("linear_probe")[1] if table == "columns" else named("full", {"num_train_epochs": 1})[1]
    before = {k: v.clone() for k, v in backbone.parts["text"].backbone.state_dict().items()}  # type: ignore[union-attr]
    fitted = strategy.fit(problem(backbone, Run()), Splits(DATA), Run())
    fitted.save(tmp_path / "m")
    again = model.load(tmp_path / "m")
    np.testing.assert_array_equal(again.logits(NEW), fitted.logits(NEW))
    assert again.backbone is not None and again.backbone.fingerprint() == fitted.backbone.fingerprint()  # type: ignore[union-attr]
    assert isinstance(again.backbone, Columns if table == "columns" else TableMlp)
    after = fitted.backbone.parts["text"].backbone.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(after[k], v) for k, v in before.items())  # frozen, whatever moved beside it


def test_boosting_reads_columns_as_they_are_and_principal_axes_of_the_text(folder: Path, tmp_path: Path) -> None:
    backbone = load(f"columns+{folder}").fit_rows(ROWS)
    settings = {"rounds": 5, "leaves": 3, "axes": 4, "least": 2}
    fitted = named("feature_boosting", settings)[1].fit(problem(backbone, Run()), Splits(DATA), Run())
    assert fitted.strategy == "feature_boosting" and fitted.plain is None
    matrix, offset = fitted.head.state_dict()["matrix"].numpy(), fitted.head.state_dict()["offset"].numpy()
    assert matrix.shape == (backbone.cells + 4, backbone.width)
    features = extract(backbone, ROWS, Run()).astype(float)
    rest = features[:, backbone.cells :] - features[:, backbone.cells :].mean(0)
    u, s, _ = np.linalg.svd(rest, full_matrices=False)
    found = features @ matrix.T + offset
    np.testing.assert_array_equal(found[:, : backbone.cells], features[:, : backbone.cells])
    np.testing.assert_allclose(np.abs(found[:, backbone.cells :]), np.abs(u[:, :4] * s[:4]), atol=1e-6)
    fitted.save(tmp_path / "m")
    np.testing.assert_array_equal(model.load(tmp_path / "m").logits(NEW), fitted.logits(NEW))
    assert model.holds(fitted) == ""


def test_adapted_boosting_moves_what_the_axes_give(folder: Path) -> None:
    backbone = load(f"columns+{folder}").fit_rows(ROWS)
    target = Data(tuple(ROWS[::2]), kind="table", clusters=np.arange(20))
    for by in ("standardise", "density_ratio"):
        settings = {"features": True, "rounds": 3, "leaves": 3, "axes": 4, "by": by}
        strategy = named("adapted_boosting", settings)[1]
        fitted = strategy.fit(problem(backbone, Run()), Splits(DATA, target=target), Run())
        assert np.isfinite(fitted.outputs(NEW)).all()


def test_the_words_of_a_row_are_those_of_its_free_text(folder: Path) -> None:
    assert joined(ROWS[0]) == WORDS[0] and joined(ROWS[7]) == "" and joined(("a", "b")) == "a\nb"
    backbone = load(f"columns+{folder}").fit_rows(ROWS)
    words = named("tfidf")[1].fit(problem(backbone, Run()), Splits(DATA), Run())
    assert words.strategy == "tfidf" and words.backbone is None
    assert (words.outputs(ROWS).argmax(1) == np.array(DATA.labels)).mean() > 0.9
    both = named("hybrid")[1].fit(problem(backbone, Run()), Splits(DATA), Run())
    assert both.strategy == "hybrid" and np.isfinite(both.outputs(ROWS)).all()


def test_a_model_of_other_inputs_cannot_stand_beside_columns() -> None:
    with pytest.raises(UserError, match="'small-cnn' holds random weights, and a network beside columns is frozen"):
        load("columns+small-cnn")
    with pytest.raises(UserError, match="'series-cnn' reads series, and beside columns stand networks that read free"):
        load("columns+series-cnn")
    with pytest.raises(UserError, match="unknown model 'minilmm'"):
        load("columns+minilmm")
