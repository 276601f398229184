from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest

from acclimate.data.read import read
from acclimate.errors import UserError

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402


def test_pandas_nothings_become_none_and_the_frame_is_untouched() -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", None, "NA", np.nan],
            "label": pd.array([1, None, 2, 2], dtype="Int64"),
            "score": [0.5, np.nan, 1.0, 2.0],
            "when": pd.to_datetime(["2020-01-01", None, "2020-01-03", "2020-01-04"]),
            "kind": pd.Categorical(["x", "y", None, "x"]),
            "ok": [True, False, None, True],
        },
        index=[7, 7, 8, 9],
    )
    before = frame.copy(deep=True)
    table = read(frame)
    assert table.columns["text"] == ["a", None, "NA", None]
    assert table.columns["label"] == [1, None, 2, 2]
    assert table.columns["score"] == [0.5, None, 1.0, 2.0]
    assert table.columns["when"][:2] == [datetime.datetime(2020, 1, 1), None]
    assert table.columns["kind"] == ["x", "y", None, "x"]
    assert table.columns["ok"] == [True, False, None, True]
    assert [type(v) for v in table.columns["label"]] == [int, type(None), int, int]
    assert table.lines == (1, 2, 3, 4)
    assert table.typed
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("dtype", ["object", "string", "str"])
def test_pandas_text_types(dtype: str) -> None:
    frame = pd.DataFrame({"text": pd.Series(["a", "null"], dtype=dtype)})
    assert read(frame).columns["text"] == ["a", "null"]


def test_pandas_odd_column_names() -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "a", 0])
    assert read(frame).columns == {"a": [1], "a_2": [2], "0": [3]}


def test_arrow_and_parquet(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", None], "label": [1, 0], "tags": [["x"], []]})
    assert read(table).columns == {"text": ["a", None], "label": [1, 0], "tags": [["x"], []]}
    path = tmp_path / "f.csv"  # the content decides, not the name
    pq.write_table(table, path)
    found = read(path)
    assert found.columns == {"text": ["a", None], "label": [1, 0], "tags": [["x"], []]}
    assert found.source == str(path)
    assert found.facts["format"] == "parquet"


def test_hugging_face_class_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b", None], "label": [1, 0, -1]}, features=features)
    table = read(data)
    assert table.columns == {"text": ["a", "b", None], "label": ["pos", "neg", None]}
    path = tmp_path / "f.parquet"
    data.to_parquet(str(path))
    assert read(path).columns["label"] == ["pos", "neg", None]
    with pytest.raises(UserError, match=r"parts train; give one of them, such as data\['train'\]"):
        read(datasets.DatasetDict({"train": data}))


def test_lists_and_dicts() -> None:
    assert read([{"text": "a"}, {"text": float("nan"), "label": 1}]).columns == {
        "text": ["a", None],
        "label": [None, 1],
    }
    assert read({"text": ["a", "b"], "x": np.array([1, 2])}).columns == {"text": ["a", "b"], "x": [1, 2]}
    assert read(["a", "b"]).columns == {"text": ["a", "b"]}
    with pytest.raises(UserError, match="differ in length"):
        read({"text": ["a"], "x": [1, 2]})
    with pytest.raises(UserError, match="row 2 of <list> is a int"):
        read([{"text": "a"}, 3])
    with pytest.raises(UserError, match="is a str; give a list"):
        read({"text": "a"})
    with pytest.raises(UserError, match="cannot read a builtins.int"):
        read(3)
