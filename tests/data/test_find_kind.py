"""Which column holds the inputs: never one that has another part, and what is given up for it is said."""

from __future__ import annotations

from typing import Any

import pytest

from acclimate.data.columns import guess
from acclimate.data.find_kind import spotted
from acclimate.data.read import read
from acclimate.data.rows import Columns

PATHS = [f"p{i}.png" for i in range(6)]
SMILES = ["CCO", "c1ccccc1", "CC(=O)O", "CCN", "C1CCCC1", "CO"]
LABELS = ["a", "b"] * 3


@pytest.mark.parametrize("part", ["group", "id", "time", "weight", "domain", "subgroup"])
@pytest.mark.parametrize(("name", "cells"), [("photo", PATHS), ("smiles", SMILES)])
def test_a_column_with_another_part_holds_no_inputs(part: str, name: str, cells: list[str]) -> None:
    table = read({name: cells, "x": range(6), "label": LABELS})
    given: dict[str, Any] = {part: (name,) if part == "subgroup" else name}
    columns, _ = spotted(table, Columns(label="label", **given))
    assert (columns.file, columns.text, columns.kind) == (None, (), "text")


def test_digits_alone_are_no_molecules() -> None:
    numbers = read({"smiles": [str(100 + i) for i in range(6)], "label": LABELS})
    assert spotted(numbers, Columns(label="label"))[0].kind == "text"
    assert spotted(read({"smiles": SMILES, "label": LABELS}), Columns(label="label"))[0].text == ("smiles",)


@pytest.mark.parametrize(("name", "cells"), [("photo", PATHS), ("smiles", SMILES)])
def test_text_that_is_given_up_is_mentioned(name: str, cells: list[str]) -> None:
    notes = [f"what the patient told us on day {i} of the stay" for i in range(6)]
    table = read({"story": notes, name: cells, "label": LABELS})
    said = " ".join(guess(table, Columns()).reasons)
    told = "column 'story' holds text, which is not read; --text-column story reads it in the place of"
    assert f"{told} {name!r}" in said
    for asked in (Columns(kind="image" if name == "photo" else "molecule"), Columns(text=("story",))):
        assert "which is not read" not in " ".join(guess(table, asked).reasons)


def test_times_of_day_are_numbers_and_no_text() -> None:
    times = [f"{i % 24}:{i % 60:02}" for i in range(40)]
    found = guess(read({"at": times, "x": [i * 0.7 for i in range(40)], "label": ["a", "b"] * 20}), Columns())
    assert found.columns.kind == "table" and dict(zip(found.columns.features, found.columns.holds, strict=True)) == {
        "at": "number:clock",
        "x": "number",
    }
    assert "column 'at': numbers of minutes since midnight, from times of day" in found.reasons


def test_labels_that_look_like_decimal_commas_are_pointed_out() -> None:
    rows = {"text": [f"some words {i}" for i in range(12)], "label": [f"{i},{i % 3 + 4}" for i in range(12)]}
    found = guess(read(rows), Columns())
    assert found.task == "classify" and "decimal commas: give --task regress if so" in " ".join(found.reasons)
