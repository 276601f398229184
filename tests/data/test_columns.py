from __future__ import annotations

from pathlib import Path

import pytest

from acclimate.data.columns import guess, task_name, texts_of, typed_labels
from acclimate.data.labels import label_set, match_classes, respelled
from acclimate.data.read import read
from acclimate.data.rows import Columns
from acclimate.errors import UserError

TEXTS = [
    "so good a film",
    "what a bad film it was",
    "fine I think",
    "not my taste at all",
    "quite right",
    "never again",
]


@pytest.mark.parametrize(
    ("cells", "typed", "kind", "values"),
    [
        (["1", "2", "5"], False, "int", [1, 2, 5]),
        (["1.0", "2.0", "5.0"], False, "float", [1.0, 2.0, 5.0]),
        (["1", "2.5", None], False, "float", [1.0, 2.5, None]),
        (["true", "False", "TRUE"], False, "bool", [True, False, True]),
        (["01", "2", "5"], False, "str", ["01", "2", "5"]),
        (["NA", "null", " "], False, "str", ["NA", "null", None]),
        ([" 1", "2 ", ""], False, "int", [1, 2, None]),
        (["Positive ", "positive"], False, "str", ["Positive ", "positive"]),
        ([1, 2, 5], True, "int", [1, 2, 5]),
        (["1", "2", "5"], True, "str", ["1", "2", "5"]),
        ([1.0, 2.0, None], True, "float", [1.0, 2.0, None]),
        ([True, False], True, "bool", [True, False]),
        ([1, 2.5], True, "float", [1.0, 2.5]),
        ([1, "a"], True, "str", ["1", "a"]),
        ([["b", "a"], []], True, "list", [("a", "b"), ()]),
        ([None, None], False, "str", [None, None]),
    ],
)
def test_f2_label_types(cells: list[object], typed: bool, kind: str, values: list[object]) -> None:
    found, found_kind = typed_labels(cells, typed)
    assert found_kind == kind
    assert found == values
    assert [type(v) for v in found] == [type(v) for v in values]


@pytest.mark.parametrize("labels", [["1", "2", "5"] * 4, [1, 2, 5] * 4, [1.0, 2.0, 5.0] * 4, [True, False, True] * 4])
def test_f2_task_is_classify_each_time(labels: list[object]) -> None:
    table = read({"text": [f"text number {i}" for i in range(12)], "label": labels})
    assert guess(table, Columns(), None).task == "classify"


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        ([0.5 * i for i in range(40)], "regress"),
        ([18 + i for i in range(40)], "regress"),
        ([i % 77 for i in range(770)], "classify"),
        ([1 + i % 5 for i in range(40)], "classify"),
        ([["a"], ["b", "c"]] * 20, "multilabel"),
        ([f"c{i % 3}" for i in range(40)], "classify"),
    ],
)
def test_task_is_inferred_and_said(labels: list[object], task: str) -> None:
    table = read({"text": [f"some text {i}" for i in range(len(labels))], "label": labels})
    found = guess(table, Columns(), None)
    assert found.task == task
    assert any(reason.startswith(f"task {task}") for reason in found.reasons)


def test_label_delimiter_means_multilabel() -> None:
    table = read({"text": TEXTS, "label": ["a|b", "a", "b", "c|a", "b", "c"]})
    found = guess(table, Columns(), None)
    assert found.task == "classify"
    assert any("give --label-delimiter '|'" in reason for reason in found.reasons)
    assert guess(table, Columns(), None, "|").task == "multilabel"
    with pytest.raises(UserError, match="is for the task multilabel, not for 'classify'"):
        guess(table, Columns(), "classify", "|")


@pytest.mark.parametrize(
    ("columns", "label", "text"),
    [
        ({"text": TEXTS, "label": [0, 1] * 3}, "label", ("text",)),
        ({"Review": TEXTS, "Sentiment": ["a", "b"] * 3}, "Sentiment", ("Review",)),
        ({"id": [*range(6)], "body": TEXTS, "is_good": [0, 1] * 3}, "is_good", ("body",)),
        ({"x": TEXTS, "condition_label": [0, 1] * 3}, "condition_label", ("x",)),
        ({"premise": TEXTS, "hypothesis": TEXTS[::-1], "label": [0, 1] * 3}, "label", ("premise", "hypothesis")),
        ({"label": [0, 1] * 3, "label_text": ["n", "p"] * 3, "text": TEXTS}, "label", ("text",)),
        ({"text": TEXTS}, None, ("text",)),
    ],
)
def test_columns_are_inferred(columns: dict[str, list[object]], label: str | None, text: tuple[str, ...]) -> None:
    found = guess(read(columns), Columns(), None)
    assert (found.columns.label, found.columns.text) == (label, text)


def test_named_and_dropped_columns_are_never_guessed() -> None:
    table = read({"text": TEXTS, "label": [0, 1] * 3, "note": TEXTS[::-1], "gold": ["x", "y"] * 3})
    found = guess(table, Columns(drop=("label", "text"), subgroup=("gold",)), None)
    assert found.columns.text == ("note",)
    assert found.columns.label is None
    assert "no label column found" in found.reasons[0]


def test_wrong_names() -> None:
    table = read({"text": TEXTS, "label": [0, 1] * 3})
    with pytest.raises(
        UserError, match=r"no column 'lable' in <dict>; did you mean 'label'\? Its columns: text, label"
    ):
        guess(table, Columns(label="lable"), None)
    with pytest.raises(UserError, match="did you mean 'text'"):
        guess(table, Columns(text=("TEXT",)), None)
    with pytest.raises(UserError, match="both the label and something else"):
        guess(table, Columns(label="text", text=("text",)), None)
    with pytest.raises(UserError, match="to be dropped and is also given a part"):
        guess(table, Columns(label="label", drop=("label",)), None)
    with pytest.raises(UserError, match="unknown task 'clasify'; did you mean 'classify'"):
        guess(table, Columns(), "clasify")
    with pytest.raises(UserError, match="no text column found"):
        guess(read({"a": [1, 2, 3], "label": [0, 1, 0]}), Columns(kind="text"), None)
    with pytest.raises(UserError, match="no text column found in <dict>, and no other beside the label"):
        guess(read({"label": [0, 1, 0]}), Columns(), None)
    with pytest.raises(UserError, match="no text column found in <dict>, and no other to learn from .'a' is left out"):
        guess(read({"a": [3, 3, 3], "label": [0, 1, 0]}), Columns(), None)


def test_without_text_every_other_column_of_a_table_is_learned_from() -> None:
    cells = {"id": [7, 8, 9], "age": ["1,5", "2", "3"], "site": ["A", "B", "A"]}
    found = guess(read({**cells, "label": [0, 1, 0]}), Columns(domain="site"))
    assert (found.columns.kind, found.columns.label, found.columns.text) == ("table", "label", ())
    assert found.columns.inputs == found.columns.features == ("id", "age")
    assert found.columns.holds == ("none", "number:comma")
    assert found.reasons[:3] == (
        "label column 'label', by its name",
        "rows of a table with 2 columns: no column of <dict> holds text (say --text-column NAME if one does)",
        "numbers: age",
    )
    assert any(reason.startswith("column 'id': left out") for reason in found.reasons)


def test_what_columns_hold_can_be_said() -> None:
    table = read({"age": [1, 2, 2, 5], "cp": [1, 2, 1, 2], "sex": ["m", "f", "f", "m"], "label": [0, 1, 0, 1]})
    found = guess(table, Columns(kind="table", features=("sex", "cp"), holds=("none", "category")))
    assert found.columns.features == ("age", "cp", "sex")
    assert found.columns.holds == ("number", "category", "none")
    assert "column 'sex': left out, as asked" in found.reasons
    with pytest.raises(UserError, match="no column 'cpp' in <dict>; did you mean 'cp'"):
        guess(table, Columns(kind="table", features=("cpp",), holds=("category",)))


def test_a_table_with_text_is_read_as_one_where_that_is_asked_for() -> None:
    table = read({"text": TEXTS, "age": [1, 5, 3, 4, 5, 6], "label": [0, 1] * 3})
    assert guess(table, Columns()).columns.kind == "text"
    assert guess(table, Columns(kind="table")).columns.features == ("text", "age")


@pytest.mark.parametrize(
    ("alias", "name"),
    [("classification", "classify"), ("Multi-Label", "multilabel"), ("multi_label_classification", "multilabel"),
     ("regression", "regress"), ("binary", "classify"), ("multiclass", "classify"), ("ordinal", "ordinal"),
     ("text-classification", "classify"), ("ordinal regression", "ordinal")],
)  # fmt: skip
def test_task_aliases(alias: str, name: str) -> None:
    assert task_name(alias) == name


def test_texts_are_always_one_a_row_in_order(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text('text,label\nNA,1\nnull,2\n,1\n"  ",2\nshort\nNone,1\n\u200b,2\nnan,1\n', encoding="utf-8")
    table = read(path)
    assert texts_of(table, Columns(text=("text",))) == ["NA", "null", None, None, None, "None", None, "nan"]


def test_two_texts_and_numbers() -> None:
    table = read({"a": ["x", None, " ", 3], "b": ["y", "z", None, 2.0]})
    assert texts_of(table, Columns(text=("a", "b"))) == [("x", "y"), ("", "z"), None, ("3", "2")]
    with pytest.raises(UserError, match="no column 'c'"):
        texts_of(table, Columns(text=("c",)))


def test_label_sets_and_matching() -> None:
    assert label_set("b; a ;b", ";") == ("a", "b")
    assert label_set("['x', 'y']", None) == ("x", "y")
    assert label_set("[]", ",") == ()
    assert match_classes(["1", 2.0, True, None, "zz"], [1, 2]) == ([1, 2, True, None, "zz"], 2)
    assert match_classes(["true", "False"], [False, True]) == ([True, False], 2)
    assert match_classes(["1.0"], ["1"]) == (["1"], 1)


def test_codes_beyond_64_bits_stay_apart() -> None:
    big = ["12345678901234567890", "12345678901234567891"]
    assert typed_labels([*big, "1"], False) == ([*big, "1"], "str")
    assert typed_labels(["12345678901234567", "12345678901234568.5"], False)[1] == "str"
    assert typed_labels([2**60, 2**60 + 1], True) == ([2**60, 2**60 + 1], "int")
    assert typed_labels([2**60, 0.5], True)[1] == "str"


def test_labels_written_differently_are_told() -> None:
    assert "'1000' and '1e3'" in respelled(["1000", "1e3", "2.5"], False)
    assert respelled(["1", "1", "2"], False) == "" and respelled([1.0, 1], True) == ""


def test_a_second_text_is_pointed_out() -> None:
    rows = {
        "question": [f"what is the capital of country number {i} in the list" for i in range(8)],
        "answer": [f"the capital of country {i} is a town of that name" for i in range(8)],
        "grade": [0, 1] * 4,
    }
    reasons = guess(read(rows), Columns(label="grade")).reasons
    assert any("'answer' holds text too: give --text-column question --text-column answer" in r for r in reasons)
