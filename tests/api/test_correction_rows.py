"""Which rows of a file of corrections can be used, what became of the others, and what the file must hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acclimate.api.correction_rows import KEPT, rows_of, with_earlier
from acclimate.api.model import Model
from acclimate.data.read import read
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.plain.words import WordFeatures
from acclimate.tasks import TASKS
from acclimate.tasks.decoder import Decoder
from acclimate.tasks.heads import LinearHead


def model_of(columns: Columns) -> Model:
    """Answers "good" where the word good stands, else "bad"."""
    head = LinearHead(0, 2, 2)
    with torch.no_grad():
        head.word_weight.copy_(torch.eye(2))
    words = WordFeatures("word", (1, 1), ("bad", "good"), np.ones(2))
    return Model(Predictor(TASKS["classify"], Decoder("classify", ("bad", "good"), "str"), head, plain=words), columns)


TEXT = model_of(Columns(text=("text",), label="y"))
ROWS: list[dict[str, Any]] = [
    {"text": "good one", "right": "good"},
    {"text": "bad one", "right": "good"},
    {"text": "bad two", "right": None},
    {"text": " ", "right": "good"},
    {"text": "bad three", "right": "bad"},
    {"text": "bad three", "right": "good"},
]


def test_what_became_of_every_row() -> None:
    data, counts = rows_of(TEXT, read(ROWS), "right")
    assert (data.inputs, data.labels, data.lines) == (("good one", "bad one"), ("good", "good"), (1, 2))
    assert counts == {"read": 6, "corrected": 1, "confirmed": 1, "blank": 1, "unusable": 1, "contradicting": 2}


@pytest.mark.parametrize(
    ("rows", "label", "said"),
    [
        (ROWS[4:], "right", r"its rows contradict each other \(lines 1, 2\); correct each once"),
        ([{"text": "a", "right": None}, {"text": "b", "right": " "}], "right", "every cell of 'right' is blank"),
        ([{"text": " ", "right": "good"}], "right", "has no usable row: 1 row no text to read"),
    ],
)
def test_no_row_that_can_be_used(rows: list[dict[str, Any]], label: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        rows_of(TEXT, read(rows), label)


@pytest.mark.parametrize(
    ("columns", "given", "lacking"),
    [
        (Columns(text=("title", "body"), label="y"), ("y", "body"), "no column 'title', which the model reads"),
        (
            Columns(label="y", kind="table", features=("pulse", "age", "ward"), holds=("number", "number", "category")),
            ("age", "y"),
            "no columns 'pulse', 'ward', which the model reads",
        ),
        (Columns(label="y", kind="image", file="photo"), ("id", "y"), "no column 'photo', which the model reads"),
        (
            Columns(label="y", kind="image", file="photo"),
            ("id",),
            "no column 'photo', which the model reads, and no column 'y' of right labels (--label names another)",
        ),
        (
            Columns(label="y", kind="table", features=tuple(f"g{i}" for i in range(1000)), holds=("number",) * 1000),
            ("id", "y"),
            "'g18', 'g19', and 980 more, which the model reads",
        ),
    ],
)
def test_what_a_file_lacks_is_said_at_once_with_what_is_there(
    columns: Columns, given: tuple[str, ...], lacking: str
) -> None:
    with pytest.raises(UserError) as raised:
        rows_of(model_of(columns), read([dict.fromkeys(given, "1")]), None)
    assert lacking in str(raised.value) and f"(its columns: {', '.join(given)})" in str(raised.value)


def test_a_newer_correction_of_the_same_row_counts(tmp_path: Path) -> None:
    before = [{"input": "Bad  One", "label": "bad"}, {"input": "bad nine", "label": "good"}]
    (tmp_path / KEPT).write_text("".join(json.dumps(row) + "\n" for row in before))
    data, _ = rows_of(TEXT, read(ROWS[:2]), "right")
    model = model_of(TEXT.columns)
    model.run_dir = tmp_path
    both, earlier = with_earlier(model, data)
    assert earlier == 1
    assert (both.inputs, both.labels) == (("good one", "bad one", "bad nine"), ("good", "good", "good"))
