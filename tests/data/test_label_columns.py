"""Several yes/no columns: what is read as yes, as no, and as not known, and what the gate says of it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from acclimate.data.audit import audit, cross_check
from acclimate.data.columns import guess
from acclimate.data.label_columns import Marks, classes_of, contradict, counted, read_marks
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data
from acclimate.data.split import hash_of
from acclimate.errors import UserError

OF = ("b", "a")
TEXTS = [f"text number {i}" for i in range(6)]


def gate(a: list[Any], b: list[Any], texts: list[str] | None = None, **settings: Any) -> Any:
    table = read({"text": texts or TEXTS[: len(a)], "a": a, "b": b})
    found = guess(table, Columns(label=OF, text=("text",)))
    return audit(table, found.columns, found.task, **settings)


@pytest.mark.parametrize(
    ("cell", "said"),
    [("1", True), ("1.0", True), (1.0, True), (True, True), (" Yes ", True), ("T", True), ("0", False), (0, False),
     ("FALSE", False), ("n", False), (None, None), (" ", None), (float("nan"), None)],
)  # fmt: skip
def test_a_cell_says_yes_or_no_or_nothing(cell: Any, said: bool | None) -> None:
    row = read_marks({"x": [cell], "y": ["1"]}, "t")[0][0]
    assert isinstance(row, Marks)
    assert ("x" in row, "x" in row.no, "x" in row.unknown) == (said is True, said is False, said is None)


def test_marks_keep_what_is_not_known_when_they_are_compared_hashed_and_pickled() -> None:
    row = Marks(("a",), ("b",), OF)
    assert row != Marks(("a",), (), OF)
    assert len({row, Marks(("a",), ("b",), OF), Marks(("a",), (), OF)}) == 2
    again = pickle.loads(pickle.dumps(row))
    assert (again, again.unknown, again.of) == (row, ("b",), OF)
    some = Data(("x", "y"), (row, row)), Data(("x", "y"), (row, Marks(("a",), (), OF)))
    assert hash_of(some[0]) != hash_of(some[1])


def test_the_gate_counts_every_cell_and_keeps_rows_of_which_something_is_known() -> None:
    data, report = gate([1, 0, None, None, 1, 0], [None, 1, 1, None, 0, 0])
    assert report.dropped == {"missing_label": (4,)}
    assert report.facts["label_columns"] == {
        "b": {"yes": 2, "no": 2, "not known": 1},
        "a": {"yes": 2, "no": 2, "not known": 1},
    }
    assert report.labels == {"a": 2, "b": 2}
    assert report.facts["columns"]["label"] == ["b", "a"]
    gaps = next(f for f in report.findings if f.kind == "unknown_labels")
    assert gaps.message.startswith("2 of 10 label cells (20%) are empty and count neither as yes nor as no: b 1, a 1")
    assert data.labels is not None and classes_of(data.labels) == OF
    assert counted(data.take([0]).labels or ()) == {
        "b": {"yes": 0, "no": 0, "not known": 1}, "a": {"yes": 1, "no": 0, "not known": 0}
    }  # fmt: skip


def test_a_column_without_a_yes_is_named_and_stays_a_class() -> None:
    data, report = gate([0] * 6, [1, 0, 1, 0, 1, 0])
    thin = next(f for f in report.findings if f.kind == "thin_label")
    assert thin.severity == "warning" and "a (0 yes, 6 no)" in thin.message
    assert classes_of(data.labels or ()) == OF
    assert next(f for f in gate([0] * 6, [1] * 6)[1].findings if f.kind == "thin_label").severity == "error"


def test_a_cell_that_says_neither_is_told_or_refused() -> None:
    _, report = gate([1, 0, "?", 1, 0, 1], [1, 0, 1, 0, 1, 0])
    said = "1 cell of label column 'a' says neither yes nor no and counts as not known (line 3)"
    assert said in report.facts["notes"]
    with pytest.raises(UserError, match=r"says neither yes nor no \(line 3\); correct them"):
        gate([1, 0, "?", 1, 0, 1], [1, 0, 1, 0, 1, 0], on_bad="fail")
    with pytest.raises(UserError, match="label column 'a' of <dict> holds 'low', 'high'; of several label columns"):
        read_marks({"a": ["low", "high", "low", "high", "1", "0"], "b": [1, 0, 1, 0, 1, 0]}, "<dict>")
    with pytest.raises(UserError, match="label column 'a' of <dict> holds cells that say neither; of several"):
        read_marks({"a": ["low", "high", "low", "high", "1", "0"], "b": [1, 0, 1, 0, 1, 0]}, "<dict>", private=True)


def test_copies_contradict_each_other_only_in_what_both_know() -> None:
    yes_a, no_a, silent = Marks(("a",), ("b",), OF), Marks(("b",), (), OF), Marks(("b",), ("a",), OF)
    assert contradict([yes_a, no_a]) and not contradict([yes_a, silent])
    texts = ["same text", "same text", *TEXTS[:4]]
    kinds = {f.kind for f in gate([1, None, 1, 0, 1, 0], [None, 1, 0, 1, 0, 1], texts)[1].findings}
    assert "duplicate" in kinds and "conflicting_label" not in kinds
    kinds = {f.kind for f in gate([1, 0, 1, 0, 1, 0], [None, 1, 0, 1, 0, 1], texts)[1].findings}
    assert "conflicting_label" in kinds
    found = cross_check(Data(("x",), (yes_a,)), Data(("x",), (silent,), lines=(1,)), "test")
    assert [f.kind for f in found] == ["cross_split"]
    found = cross_check(Data(("x",), (yes_a,)), Data(("x",), (no_a,), lines=(1,)), "test")
    assert [f.kind for f in found] == ["cross_split", "conflicting_label"]


def test_several_label_columns_are_one_multilabel_task_and_no_other() -> None:
    table = read({"text": TEXTS, "a": [1, 0] * 3, "b": [0, 1] * 3})
    assert guess(table, Columns(label=OF)).task == "multilabel"
    for columns, settings, said in (
        (Columns(label=OF), {"label_delimiter": ";"}, "a label delimiter"),
        (Columns(label=("a", "a")), {}, "a label column is named twice"),
        (Columns(label=("a", "c")), {}, "there is no column 'c'"),
        (Columns(label=OF, text=("a",)), {}, "'a' cannot be both the label"),
    ):
        with pytest.raises(UserError, match=said):
            guess(table, columns, **settings)
