"""What columns hold: told from cells as files and frames give them, said with a reason, and what the user says wins."""

from __future__ import annotations

import pickle
from datetime import datetime

import pytest

from acclimate.data.column_types import (
    Row,
    columns_of,
    held,
    how_written,
    label_numbers,
    rows_of,
    to_boolean,
    to_category,
    to_number,
)
from acclimate.errors import UserError


def kinds(*columns: list[object], **asked: str) -> list[str]:
    names = [f"c{j}" for j in range(len(columns))]
    return [column.kind for column in held(list(zip(*columns, strict=True)), names, asked)]


def why(*cells: object, name: str = "x") -> str:
    return held([(cell,) for cell in cells], (name,))[0].why


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", "-3e2"], "number"),
        ([1, None, 2.5], "number"),
        (["1", "?", "NA", "2"], "number"),
        (["1", "two", "3"], "category"),
        (["TRUE", "FALSE", None], "boolean"),
        ([True, False, True], "boolean"),
        (["yes", "no", "no"], "boolean"),
        (["yes", "no", "perhaps"], "category"),
        (["0", "1", "1"], "number"),
        (["2020-01-31", "2021-02-01", None], "date"),
        (["31.01.2020", "01.02.2020", "05.03.2020"], "date"),
        (["1/31/2020", "2/1/2020", "3/5/2020"], "date"),
        ([datetime(2020, 1, 31), None, datetime(2021, 2, 1, 8)], "date"),
        ([None, "", " "], "none"),
        (["a", "a", "a"], "none"),
        (["a", None, "a"], "category"),
        ([float("nan"), 1.0, 2.0], "number"),
    ],
)
def test_a_column_is_what_nearly_all_of_its_cells_are(cells: list[object], kind: str) -> None:
    assert kinds(cells) == [kind]


def test_numbers_written_with_commas() -> None:
    assert held([("265,000",), ("1,263,358.5",), ("12",)], ("x",))[0].written == "thousands"
    assert held([("0,5",), ("12,25",), ("3",)], ("x",))[0].written == "comma"
    assert [to_number(c, "thousands") for c in ("265,000", "1,263,358.5", "12", "1,2")] == [265000, 1263358.5, 12, None]
    assert [to_number(c, "comma") for c in ("0,5", "12", "1,234,5")] == [0.5, 12, None]


def test_numbers_of_rows_and_names_are_left_out_and_it_is_said() -> None:
    assert kinds([f"K{i}" for i in range(30)]) == ["none"] and "every row has another value" in why(
        *[f"K{i}" for i in range(30)]
    )
    assert "numbers the rows" in why("11", "12", "13", name="patient_id")
    assert kinds(["11", "12", "13"]) == ["number"]  # without such a name it may be an amount


def test_free_text_is_told_by_its_words_or_by_the_user() -> None:
    notes: list[object] = [f"the patient number {i} came in with a pain" for i in range(30)]
    assert kinds(notes) == ["text"] and why(*notes) == "free text, 9 words in a cell on average"
    assert kinds(notes, c0="none") == ["none"] and kinds(notes, c0="category") == ["category"]
    assert kinds(["well", "ill", "well"], c0="text") == ["text"]
    assert kinds([None, " "], c0="text") == ["none"]  # nothing to read


def test_odd_cells_and_codes_are_named() -> None:
    assert "2 cells that are none ('?', 'NA') count as missing" in why("1", "?", "NA", "2.5")
    assert "4 whole numbers: --column-kind x=category" in why(*([1, 2, 3, 4] * 13))


def test_what_the_user_says_wins_or_is_refused() -> None:
    assert kinds(["1", "2", "2"], c0="category") == ["category"]
    assert kinds(["1", "2", "2"], c0="none") == ["none"]
    with pytest.raises(UserError, match=r"column 'c0' was to be read as number.*such as 'a'.*looks like category"):
        kinds(["a", "b", "a"], c0="number")
    with pytest.raises(UserError, match=r"unknown kind of column 'c0' 'numbr'; did you mean 'number'"):
        kinds(["a", "b", "a"], c0="numbr")
    with pytest.raises(UserError, match=r"unknown column 'c1'"):
        kinds(["a", "b", "a"], c1="number")


def test_dates_that_can_be_read_two_ways_are_refused() -> None:
    with pytest.raises(UserError, match=r"column 'x' can be read day-first or month-first.*or leave the column out"):
        held([("01/02/2020",), ("03/04/2020",)], ("x",))


def test_one_value_is_one_however_it_is_written() -> None:
    assert [to_category(v) for v in (1, 1.0, "1", " 1 ", True, None)] == ["1", "1", "1", "1", "true", None]
    assert [to_boolean(v) for v in (True, "FALSE", "Yes", "n", "2", None)] == [1.0, 0.0, 1.0, 0.0, None, None]


def test_rows_are_tuples_that_know_their_columns() -> None:
    rows = rows_of([("1", "a"), ("2", "b")], ("x", "y"))
    assert rows[0] == ("1", "a") and hash(rows[0]) == hash(("1", "a"))
    assert [c.name for c in columns_of(rows)] == ["x", "y"]
    again = pickle.loads(pickle.dumps(rows[0]))
    assert isinstance(again, Row) and again == rows[0] and again.columns == rows[0].columns
    assert [c.name for c in columns_of([("1", "a"), ("2", "b")])] == ["column 1", "column 2"]


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(UserError, match="row 2 has 1 cell, and there are 2 columns"):
        rows_of([("1", "a"), ("2",)], ("x", "y"))


def test_times_of_day_are_minutes() -> None:
    assert how_written(["12:07", "7:30", "23:59:30", "?"]) == "clock"
    assert [to_number(c, "clock") for c in ("12:07", "7:30", "23:59:30", "24:00", "7:61", None)] == [
        727.0, 450.0, 1439.5, None, None, None,
    ]  # fmt: skip
    assert how_written(["12:07", "soon: now", "a:b"]) == ""


def test_labels_with_decimal_commas_are_read_and_it_is_said() -> None:
    found, said = label_numbers(["3,5", "4", "-0,25", None, "bad"], "y")
    assert found == [3.5, 4.0, -0.25, None, "bad"] and said.endswith("with commas as the decimal sign")
    assert label_numbers(["1,234,567", "12"], "y")[0] == [1234567.0, 12.0]
    assert label_numbers([1.5, 2], "y") == ([1.5, 2.0], "")
    with pytest.raises(UserError, match=r"such as '3,125'\) can be decimal signs or signs of thousands; write 3.125"):
        label_numbers(["3,125", "2,500"], "y")


def test_a_label_whose_square_overflows_is_refused() -> None:
    with pytest.raises(UserError, match=r"'y' holds 1e\+308, whose square is beyond .* divide the labels"):
        label_numbers([1.0, 1e308], "y")
    with pytest.raises(UserError, match="'y' holds a number, whose square"):
        label_numbers([1.0, -1e308], "y", private=True)


def test_in_private_no_reason_quotes_a_cell() -> None:
    rows = [("secret", f"{i}", "secret" if i < 5 else None) for i in range(30)] + [("secret", "secret?", None)]
    for private in (False, True):
        found = held(rows, ("same", "number", "gaps"), {"number": "number"}, private=private)
        assert [c.kind for c in found] == ["none", "number", "category"]
        assert any("secret" in c.why for c in found) is not private
        with pytest.raises(UserError) as refused:
            held([("secret 1",), ("secret 2",)], ("x",), {"x": "number"}, private=private)
        assert ("secret" in str(refused.value)) is not private and "--column-kind x=category" in str(refused.value)
