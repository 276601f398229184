from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from acclimate.cli.write import with_columns, write
from acclimate.errors import UserError

COLUMNS = {
    "text": ['say "hi"\nthere', "a,b", None],
    "p": [np.float64(0.1), float("nan"), 1.0],
    "n": [np.int64(3), None, 5],
    "yes": [True, False, np.bool_(True)],
    "set": [("a", "b"), (), None],
}


def test_csv_comes_back_as_it_was(tmp_path: Path) -> None:
    write(COLUMNS, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["text", "p", "n", "yes", "set"],
        ['say "hi"\nthere', "0.1", "3", "true", '["a", "b"]'],
        ["a,b", "", "", "false", "[]"],
        ["", "1.0", "5", "true", ""],
    ]


def test_tsv_has_tabs(tmp_path: Path) -> None:
    write({"a": ["x,y"], "b": ["z"]}, tmp_path / "x.tsv")
    assert (tmp_path / "x.tsv").read_text(encoding="utf-8") == "a\tb\nx,y\tz\n"


def test_a_row_of_one_empty_cell_is_not_a_blank_line(tmp_path: Path) -> None:
    write({"a": ["x", None, "y"]}, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text(encoding="utf-8") == 'a\nx\n""\ny\n'


def test_jsonl_keeps_types_and_letters(tmp_path: Path) -> None:
    write({**COLUMNS, "text": ["好", "b", "c"]}, tmp_path / "x.jsonl")
    lines = (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"text": "好", "p": 0.1, "n": 3, "yes": true, "set": ["a", "b"]}'
    assert json.loads(lines[1]) == {"text": "b", "p": None, "n": None, "yes": False, "set": []}


def test_parquet_keeps_types(tmp_path: Path) -> None:
    import pyarrow.parquet

    write(COLUMNS, tmp_path / "x.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == list(COLUMNS)
    assert table.column("n").to_pylist() == [3, None, 5]
    assert table.column("p").to_pylist() == [0.1, None, 1.0]


@pytest.mark.parametrize(
    ("name", "message"), [("x.xlsx", "cannot tell the format"), ("nowhere/x.csv", "there is no folder .*nowhere")]
)
def test_a_name_that_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write(COLUMNS, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="shorter"):
        write({"a": ["1", "2"], "b": ["1"]}, target)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("x.csv", "old")]


def test_a_taken_name_gets_the_next_free_number() -> None:
    columns, renamed = with_columns({"p": ["1"], "p_2": ["2"]}, {"p": ["3"], "q": ["4"]})
    assert columns == {"p": ["1"], "p_2": ["2"], "p_3": ["3"], "q": ["4"]}
    assert renamed == {"p": "p_3"}
