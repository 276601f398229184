"""When a column called sampling_weight weighs rows, and when it is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acclimate.api.model import weightless
from acclimate.api.prepare import sampled
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data, Table
from acclimate.errors import UserError

CELLS = {"text": ["a", "b"], "label": ["x", "y"], "sampling_weight": ["0.5", ""]}


def table(**columns: list[str]) -> Table:
    return read({**CELLS, **columns})


def test_it_weighs_rows_where_nothing_else_is_asked_of_it() -> None:
    columns, said = sampled(Columns(label="label", text=("text",)), table())
    assert columns.weight == "sampling_weight" and "its rows count by sampling_weight" in said[0]


@pytest.mark.parametrize(
    "columns",
    [
        Columns(label="sampling_weight", text=("text",)),
        Columns(label="label", text=("sampling_weight",)),
        Columns(label="label", text=("text",), group="sampling_weight"),
        Columns(label="label", text=("text",), weight="own"),
    ],
)
def test_a_part_that_was_given_stays(columns: Columns) -> None:
    assert sampled(columns, table(own=["1", "2"])) == (columns, ())


def test_other_things_than_numbers_weigh_nothing() -> None:
    columns, said = sampled(Columns(label="label", text=("text",)), table(sampling_weight=["heavy", "1"]))
    assert columns.weight is None and "holds other things than numbers" in said[0]


def test_rows_that_weigh_nothing_are_counted() -> None:
    rows = Data(inputs=("a", "b"), labels=("x", "y"), weights=np.array([0.0, 1.0]), source="these.csv")
    assert weightless(rows, "w") == ["these.csv: a weight of 0 by 'w' for 1 row (not counted)"]
    assert weightless(replace(rows, weights=None), None) == []
    with pytest.raises(UserError, match="every row weighs 0 by 'w'"):
        weightless(replace(rows, weights=np.zeros(2)), "w")
