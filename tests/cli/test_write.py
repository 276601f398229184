from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from acclimate.cli.write import ROWS_A_GROUP, free_names, write
from acclimate.data.columns import guess
from acclimate.data.kinds.series import SERIES
from acclimate.data.read import read
from acclimate.data.rows import Columns
from acclimate.data.series import Series
from acclimate.errors import UserError
from acclimate.progress import Progress

COLUMNS = {
    "text": ['say "hi"\nthere', "a,b", None],
    "set": [("a", "b"), (), None],
    "p": [np.float64(0.1), float("nan"), 1.0],
    "n": [np.int64(3), None, 5],
    "yes": [True, False, np.bool_(True)],
}
KINDS = {"p": float, "n": int, "yes": bool, "a": str, "b": str}


def put(columns: dict[str, list[object]], path: Path) -> None:
    """Write with the columns of KINDS as new ones, in two parts: the first row, and the others."""
    kinds = {name: KINDS[name] for name in columns if name in KINDS}
    own = {name: values for name, values in columns.items() if name not in kinds}
    parts = [{name: columns[name][rows] for name in kinds} for rows in (slice(0, 1), slice(1, None))]
    write(own, kinds, parts, path)


def test_csv_comes_back_as_it_was(tmp_path: Path) -> None:
    put(COLUMNS, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["text", "set", "p", "n", "yes"],
        ['say "hi"\nthere', '["a", "b"]', "0.1", "3", "true"],
        ["a,b", "[]", "", "", "false"],
        ["", "", "1.0", "5", "true"],
    ]


def test_tsv_has_tabs(tmp_path: Path) -> None:
    put({"a": ["x,y"], "b": ["z"]}, tmp_path / "x.tsv")
    assert (tmp_path / "x.tsv").read_text(encoding="utf-8") == "a\tb\nx,y\tz\n"


def test_a_row_of_one_empty_cell_is_not_a_blank_line(tmp_path: Path) -> None:
    put({"a": ["x", None, "y"]}, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text(encoding="utf-8") == 'a\nx\n""\ny\n'


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_series_are_written_as_they_are_read(ending: str, tmp_path: Path) -> None:
    """Channels as lists, what was not measured as null, and the rate not among them."""
    series = Series(np.array([[0.5, np.nan, 2.0], [1.0, -1.0, 0.0]]), 50.0)
    put({"series": [series] * 20, "p": [0.5] * 19 + [float("inf")]}, tmp_path / f"x{ending}")
    listed = [[0.5, None, 2.0], [1.0, -1.0, 0.0]]
    if ending == ".csv":
        with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
            cells = [json.loads(row["series"], parse_constant=pytest.fail) for row in csv.DictReader(file)]
        assert cells == [listed] * 20
        return
    if ending == ".jsonl":
        lines = (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[-1], parse_constant=pytest.fail) == {"series": listed, "p": None}
    table = read(tmp_path / f"x{ending}")
    rows = SERIES.read(table, guess(table, Columns(kind="series")).columns, Progress()).inputs
    np.testing.assert_array_equal(rows[3].values, series.values)


def test_jsonl_keeps_types_and_letters(tmp_path: Path) -> None:
    put({**COLUMNS, "text": ["好", "b", "c"]}, tmp_path / "x.jsonl")
    lines = (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"text": "好", "set": ["a", "b"], "p": 0.1, "n": 3, "yes": true}'
    assert json.loads(lines[1]) == {"text": "b", "p": None, "n": None, "yes": False, "set": []}


def test_parquet_keeps_types(tmp_path: Path) -> None:
    import pyarrow.parquet

    put(COLUMNS, tmp_path / "x.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == list(COLUMNS)
    assert table.column("n").to_pylist() == [3, None, 5]
    assert table.column("p").to_pylist() == [0.1, None, 1.0]


@pytest.mark.parametrize(
    ("name", "message"), [("x.xlsx", "cannot tell the format"), ("nowhere/x.csv", "there is no folder .*nowhere")]
)
def test_a_name_that_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        put(COLUMNS, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="shorter"):
        put({"a": ["1", "2"], "b": ["1"]}, target)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("x.csv", "old")]


def test_a_taken_name_gets_the_next_free_number() -> None:
    assert free_names(["p", "p_2"], ["p", "q"]) == {"p": "p_3", "q": "q"}


def test_rows_go_to_the_file_part_by_part(tmp_path: Path) -> None:
    """Nothing of a part is asked for before the one ahead of it is in the file, whatever the format."""
    n = 5
    for name in ("x.csv", "x.jsonl"):
        beside: list[int] = []

        def parts(beside: list[int] = beside) -> Iterator[dict[str, list[object]]]:
            for i in range(n):
                beside.append(sum(path.stat().st_size for path in tmp_path.glob(".*.part")))
                yield {"a": [str(i) * 20_000]}

        write({"text": [str(i) for i in range(n)]}, {"a": str}, parts(), tmp_path / name)
        assert beside[-1] >= 20_000 * (n - 2), (name, beside)
        assert (tmp_path / name).stat().st_size > 20_000 * n


def test_parquet_is_written_in_groups_of_rows(tmp_path: Path) -> None:
    import pyarrow.parquet

    half = ROWS_A_GROUP // 2
    parts = ({"p": [float(i)] * half} for i in range(5))
    write({"text": [str(i) for i in range(5 * half)]}, {"p": float}, parts, tmp_path / "x.parquet")
    file = pyarrow.parquet.ParquetFile(tmp_path / "x.parquet")
    assert [file.metadata.row_group(g).num_rows for g in range(3)] == [ROWS_A_GROUP, ROWS_A_GROUP, half]
    assert file.read().column("p").to_pylist()[half - 1 : half + 1] == [0.0, 1.0]
    assert file.read().column("text").to_pylist() == [str(i) for i in range(5 * half)]


def test_a_column_without_a_value_keeps_its_type_in_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet

    put({"text": ["a", "b"], "n": [None, None]}, tmp_path / "x.parquet")
    assert str(pyarrow.parquet.read_schema(tmp_path / "x.parquet").field("n").type) == "int64"
