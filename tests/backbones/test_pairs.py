"""Pairs of texts: read apart by encoders of sentences, or jointly, and the same way again in a saved run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import acclimate
import tiny_models as tm
from acclimate.api.reading import measure_with
from acclimate.backbones import load
from acclimate.data.columns import texts_of
from acclimate.data.kinds.text import TEXT
from acclimate.data.lengths import too_long
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data
from acclimate.errors import UserError
from acclimate.features import extract
from acclimate.run import Run
from acclimate.train.prefix import build

PAIRS = [
    ("red fish", "one fish two fish red fish"),
    ("a", ""),
    ("black fish blue fish old fish", "new"),
    ("two", "two"),
]


def apart(folder: Path, **settings: Any) -> Any:
    return load(str(folder), pairs="apart", **settings)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("settings", [{}, {"truncation": "chunk", "max_length": 8}])
def test_features_are_both_vectors_their_difference_and_their_product(
    kind: str, settings: dict[str, Any], folder_of: Callable[[str], Path]
) -> None:
    backbone = apart(folder_of(kind), **settings)
    found = extract(backbone, PAIRS, Run())
    alone = load(str(folder_of(kind)), **settings)
    assert found.shape == (4, backbone.width) and backbone.width == 4 * alone.width
    u, v = (extract(alone, [pair[k] for pair in PAIRS], Run()) for k in (0, 1))
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
    np.testing.assert_allclose(found, np.concatenate([u, v, abs(u - v), u * v], 1), atol=2e-6)
    backbone.padded = True
    np.testing.assert_allclose(extract(backbone, PAIRS, Run()), found, atol=2e-6)
    encoded = backbone.encode(PAIRS)
    assert [row.total for row in encoded] == [sum(row.total for row in alone.encode(list(pair))) for pair in PAIRS]


def test_rows_decide_how_they_are_read_where_nothing_was_said(
    shared_bert: Any, folder_of: Callable[[str], Path]
) -> None:
    assert shared_bert.fit_rows(["a", "b"]) is shared_bert
    assert shared_bert.fit_rows(PAIRS).text.pairs == "apart"
    assert shared_bert.fit_rows(PAIRS).fit_rows(["a"]).text.pairs == ""
    folder = str(folder_of("bert"))
    assert load(folder, pooling="cls").fit_rows(PAIRS).text.pairs == "joint"
    assert load(folder, pairs="joint").fit_rows(PAIRS).text.pairs == "joint"
    with pytest.raises(UserError, match="pairs"):
        load(folder, pairs="beside")


def test_frozen_blocks_are_replayed(folder_of: Callable[[str], Path]) -> None:
    backbone = apart(folder_of("bert")).requires_grad_(False)
    backbone.blocks[-1].requires_grad_(True)
    encoded = backbone.encode(PAIRS)
    kept, note = build(backbone, encoded, "auto", Run())
    assert kept is not None, note
    for rows in ([0, 1, 2, 3], [2], [3, 0]):
        batch = backbone.collate([encoded[i] for i in rows])
        full = backbone(batch)
        with kept.replaying():
            kept.offer(rows, batch, "cpu")
            assert torch.allclose(backbone(batch), full, atol=1e-6)


def test_what_moves_reads_one_sequence_unless_something_was_asked(
    shared_bert: Any, folder_of: Callable[[str], Path]
) -> None:
    decided = shared_bert.fit_rows(PAIRS)
    assert decided.to_tune().text.pairs == "joint" and decided.clone().to_tune().text.pairs == "joint"
    assert shared_bert.to_tune() is shared_bert
    problem = tm.problem_of("classify", Data(tuple(PAIRS), ("a", "b", "a", "b")), "str", decided, Run())
    tuned = problem.to_tune()
    assert tuned.store is problem.to_tune().store is tuned.to_tune().store  # the features of all fits and folds
    assert tuned.backbone is not None and tuned.backbone.width * 4 == decided.width
    asked = apart(folder_of("bert")).fit_rows(PAIRS)
    assert asked.to_tune() is asked


def test_what_does_not_fit_is_counted_as_it_is_read(folder_of: Callable[[str], Path]) -> None:
    """Apart each text has the limit for itself; in one sequence both share it, and windows go through one of them."""
    fits, long = ("good bad good", "great poor sad"), ("good " * 15, "bad " * 15)  # 3 and 15 tokens, unframed
    folder = str(folder_of("bert"))
    data = Data((fits, long), ("a", "b"), lines=(2, 3))
    found: dict[str, Any] = {}
    for name, truncation, moves in (("apart", "head", False), ("joint", "head", True), ("windows", "chunk", True)):
        backbone = load(folder, max_length=8, truncation=truncation).fit_rows(PAIRS)
        facts: dict[str, Any] = {}
        found[name] = too_long(data, measure_with(backbone, moves)(data.inputs), facts)[0], facts["tokens"]
    said, apart = found["apart"]
    assert (apart["over"], apart["lost"], apart["total"], said.lines) == (1, 2 * (17 - 8), 2 * 5 + 2 * 17, (3,))
    said, joint = found["joint"]
    assert (joint["over"], joint["lost"]) == (2, 9 - 8 + 33 - 8) and "as what tunes reads them" in said.message
    said, windows = found["windows"]
    assert windows["lost"] == 15 - 2 + 3 - 2 and "not read" in said.message  # the other text keeps half of the room
    frozen = load(folder, max_length=8, truncation="fail").fit_rows(PAIRS)
    assert not too_long(data.take([0]), measure_with(frozen)([fits]), {})


def test_one_of_two_texts_may_be_blank_as_in_a_file() -> None:
    rows = {"a": ["x", None, "x", " ", None], "b": [None, "y", "  ", "y", " "]}
    columns = Columns(text=("a", "b"))
    pairs = [("x", None), [float("nan"), "y"], ("x", "  "), (" ", "y"), (None, " ")]
    assert [TEXT.given(pair, columns, 0) for pair in pairs] == texts_of(read(rows), columns)
    assert TEXT.given(pairs[1], columns, 0) == ("", "y") and TEXT.given(pairs[4], columns, 0) is None
    with pytest.raises(UserError, match="give strings in pairs"):
        TEXT.given(("x", 3), columns, 0)


def table(folder: Path) -> Path:
    """Whether two texts share a colour, which only both of them tell."""
    rng = np.random.default_rng(0)
    lines = ["question,answer,label"]
    for _ in range(80):
        a, b = rng.choice(["red", "blue"], 2)
        lines.append(f"{a} fish,{b} stone,{'same' if a == b else 'other'}")
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.real  # slow
def test_a_run_reads_pairs_as_it_learned_them(tmp_path: Path) -> None:
    rows, bert = table(tmp_path), str(tm.write("bert", tmp_path / "bert", layers=2))
    how: dict[str, Any] = {"label": "label", "text_column": ["question", "answer"], "model": bert, "quiet": True}
    for pairs, width in ((None, 4), ("joint", 1)):
        run = tmp_path / str(pairs)
        model = acclimate.fit(str(rows), strategy="linear_probe", pairs=pairs, output_dir=run, **how)
        again = acclimate.load(run)
        asked = [("red fish", "red stone"), ("blue fish", "red stone")]
        assert again.predict_proba(asked).tolist() == model.predict_proba(asked).tolist()
        backbone: Any = again.predictor.backbone
        assert backbone.width == width * backbone.model.config.hidden_size
        assert f"both texts are read {'apart' if width == 4 else 'as one sequence'}" in model.report_data.decisions
    for name, more in (("full", {}), ("wise_ft", {}), ("full", {"pairs": "apart"})):
        run = tmp_path / f"{name}{len(more)}"
        model = acclimate.fit(str(rows), strategy=name, num_train_epochs=1, output_dir=run, **how, **more)
        moved: Any = model.predictor.backbone
        assert moved.text.pairs == more.get("pairs", "joint")
        assert ("where weights are tuned (full), else apart" in str(model.report_data.decisions)) == (
            run.name == "full0"
        )
        assert acclimate.load(run).predict_proba(asked).tolist() == model.predict_proba(asked).tolist()
    settings = tmp_path / "joint" / "model" / "backbone" / "acclimate_text.json"
    about = json.loads(settings.read_text())
    assert about.pop("pairs") == "joint"
    settings.write_text(json.dumps(about))  # as runs were saved before
    assert load(str(settings.parent)).width == load(bert).width
    with pytest.raises(UserError, match="there are no two"):
        acclimate.fit(str(rows), pairs="apart", output_dir=tmp_path / "one", **{**how, "text_column": "question"})
