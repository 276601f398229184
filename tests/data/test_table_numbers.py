"""Rows as numbers: statistics of the fitted rows alone, restated here; unseen, rare and missing; JSON and back."""

from __future__ import annotations

import json
import statistics
from datetime import UTC, datetime

import numpy as np
import pytest

from acclimate.data.column_types import rows_of
from acclimate.data.table_numbers import MOST_VALUES, Coding
from acclimate.errors import UserError


def test_a_number_is_scaled_by_the_fitted_rows_and_filled_with_their_median() -> None:
    coding = Coding.of(rows_of([(v,) for v in [1.0, 2.0, None, 4.0, 9.0]], ("x",)))
    assert coding.names("dense") == ("x", "x is missing")
    spread = (4 + 0.25 * 5) - (1 + 0.75 * 1)  # quartiles of 1, 2, 4, 9 between their neighbours
    found = coding.dense([("7",), (None,), ("?",)])
    np.testing.assert_allclose(found, [[(7 - 3) / spread, 0], [0, 1], [0, 1]], 1e-6)
    np.testing.assert_array_equal(coding.plain([("7",), (None,)]), np.array([[7], [np.nan]], np.float32))


def test_where_the_quartiles_are_equal_the_deviation_scales() -> None:
    values = [0.0] * 9 + [10.0]
    coding = Coding.of(rows_of([(v,) for v in values], ("x",)))
    np.testing.assert_allclose(coding.dense([(10,)]), [[10 / statistics.pstdev(values)]], 1e-6)


def test_categories_rare_unseen_and_missing() -> None:
    cells = [("a",)] * 5 + [("b",)] * 4 + [("seldom",), (None,)]
    coding = Coding.of(rows_of(cells, ("x",)))
    assert coding.names("dense") == coding.names("plain") == ("x = a", "x = b", "x: rare or unseen", "x is missing")
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert coding.dense([("a",), ("seldom",), ("new",), (" ",)]).tolist() == expected
    without = Coding.of(rows_of([("a",), ("b",)] * 4, ("x",)))
    assert without.names("dense") == ("x = a", "x = b")
    assert without.dense([("new",), (None,), ("b",)]).tolist() == [[0, 0], [0, 0], [0, 1]]


def test_of_many_values_the_most_frequent_are_kept() -> None:
    cells = [(f"v{i}",) for i in range(60) for _ in range(60 - i)]
    coding = Coding.of(rows_of(cells, ("x",)))
    assert len(coding.columns[0].values) == MOST_VALUES and coding.columns[0].rare
    assert "v0" in coding.columns[0].values and "v55" not in coding.columns[0].values


def test_booleans_and_dates() -> None:
    rows = rows_of([("yes", "2020-02-29T06:00:00"), ("no", "1969-12-31"), (None, None)], ("b", "d"))
    coding = Coding.of(rows)
    assert coding.names("plain") == ("b", "d: year", "d: month", "d: weekday", "d: days")
    then = datetime(2020, 2, 29, 6, tzinfo=UTC).timestamp() / 86400
    np.testing.assert_allclose(coding.plain(rows[:2]), [[1, 2020, 2, 6, then], [0, 1969, 12, 3, -1]], 1e-6)
    assert np.isnan(coding.plain(rows[2:])).all()
    assert coding.dense(rows)[:, :2].tolist() == [[1, 0], [0, 0], [0.5, 1]]


def test_only_the_fitted_rows_count() -> None:
    rows = rows_of([(float(i), "ab"[i % 2]) for i in range(20)], ("x", "y"))
    coding = Coding.of(rows[:10])
    assert coding == Coding.of(rows_of([tuple(row) for row in rows[:10]], ("x", "y")))
    assert coding != Coding.of(rows)


def test_settings_are_json_and_a_column_that_does_not_vary_is_not_blown_up() -> None:
    rows = rows_of(
        [(1.0, 5, "a", None), (2.5, 5, "b", None), (None, 5, "a", None)] * 4, ("x", "k", "y", "n"), {"k": "number"}
    )
    coding = Coding.of(rows)
    assert Coding.from_json(json.loads(json.dumps(coding.to_json()))) == coding
    assert coding.names("plain") == ("x", "k", "y = a", "y = b")
    assert np.isfinite(coding.dense([(1e9, 7, "a", 3)])).all()


def test_what_cannot_be_learned_from_is_said() -> None:
    with pytest.raises(UserError, match=r"no column of the table is left to learn from .'x'."):
        Coding.of(rows_of([("a",), ("a",)], ("x",)))
    with pytest.raises(UserError, match="without a row"):
        Coding.of([])
    coding = Coding.of(rows_of([(1,), (2,)], ("x",)))
    with pytest.raises(UserError, match="row 2 is no tuple of 1 cells"):
        coding.dense([(1,), (1, 2)])
    with pytest.raises(UserError, match="row 1 is no tuple of 1 cells"):
        coding.dense(["1"])
    assert coding.dense([]).shape == (0, 1) and coding.plain([]).shape == (0, 1)
