"""Several label columns that are a task each: how they are read, accounted for, and spread over a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from acclimate.data.audit import audit
from acclimate.data.columns import guess
from acclimate.data.label_cells import column_of, tasks_of
from acclimate.data.label_columns import Cells, contradict
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data
from acclimate.data.split import folds, holdout
from acclimate.errors import UserError

NAMES = ("topic", "stars", "score")


def table(**changed: Any) -> Any:
    rows = {
        "text": [f"text {i}" for i in range(6)],
        "topic": ["a", "b", "", "a", "b", ""],
        "stars": [1, 5, 3, None, 1, None],
        "score": ["0.25", "1e3", "-2", "7.5", "n/a", ""],
    }
    return read({**rows, **changed})


def guessed(asked: str | None = None, **changed: Any) -> tuple[Any, Any]:
    one = table(**changed)
    return one, guess(one, Columns(label=NAMES, text=("text",)), asked)


def test_each_column_gets_its_own_task() -> None:
    _, found = guessed("score=regress,stars=ordinal")
    assert found.task == "multitask"
    assert found.columns.tasks == ("classify", "ordinal", "regress")
    assert found.reasons[-3:] == (
        "label column topic: classify, the labels are 2 texts",
        "label column stars: ordinal, as asked",
        "label column score: regress, as asked",
    )
    assert guessed("regress", topic=["1.5"] * 6)[1].columns.tasks == ("regress",) * 3


def test_yes_and_no_in_every_column_stay_one_multilabel_task() -> None:
    marks = {name: ["1", "0", "", "1", "0", "1"] for name in NAMES}
    assert guessed(**marks)[1].task == "multilabel"
    assert guessed("multitask", **marks)[1].columns.tasks == ("classify",) * 3


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("starz=regress", "unknown label column in --task 'starz'; did you mean 'stars'"),
        ("stars=multilabel", "label column 'stars' is multilabel; of several label columns each is one of"),
        ("multilabel", "label column 'topic' of .* holds"),
    ],
)
def test_tasks_that_cannot_be(asked: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        one, found = guessed(asked)
        audit(one, found.columns, found.task)


def test_one_label_takes_no_task_of_several() -> None:
    with pytest.raises(UserError, match="speaks of several label columns, and there is one, 'topic'"):
        guess(table(), Columns(label="topic", text=("text",)), "topic=classify")


def test_every_cell_is_accounted_for() -> None:
    one, found = guessed("score=regress")
    data, account = audit(one, found.columns, found.task)
    assert (account.read, account.kept, account.dropped) == (6, 5, {"missing_label": (6,)})
    assert data.labels is not None
    assert list(data.labels[1]) == ["b", 5, 1000.0]  # type: ignore[arg-type]
    assert list(data.labels[4]) == ["b", 1, None]  # type: ignore[arg-type]
    told: Any = account.facts["label_tasks"]
    assert {name: (t["known"], t["not known"]) for name, t in told.items()} == {
        "topic": (4, 1), "stars": (4, 1), "score": (4, 1),
    }  # fmt: skip
    assert told["topic"]["classes"] == {"a": 2, "b": 2}
    assert (told["score"]["target"]["min"], told["score"]["target"]["max"]) == (-2.0, 1000.0)
    assert "target" not in audit(one, found.columns, found.task, private=True)[1].facts["label_tasks"]["score"]  # type: ignore[index]
    assert account.facts["notes"] == ["1 cell of label column 'score' holds no number (line 5) and counts as not known"]
    assert "topic: 1 of 5 cells (20%) are not known and count nowhere" in {f.message for f in account.findings}


def test_a_cell_that_is_no_number_stops_a_strict_gate() -> None:
    one, found = guessed("score=regress")
    with pytest.raises(UserError, match=r"holds no number \(line 5\); correct them, leave them empty, or give --task"):
        audit(one, found.columns, found.task, on_bad="fail")


def test_classes_of_a_model_are_matched_column_by_column() -> None:
    one, found = guessed("score=regress", stars=["1.0", "5", "9", "", "1", ""])
    data, account = audit(one, found.columns, found.task, classes=(("a",), (1, 5), None), role="test")
    assert data.labels is not None and data.labels[0][1] == 1 and isinstance(data.labels[0][1], int)  # type: ignore[index]
    new = [f.message for f in account.findings if "never" in f.message or "unseen" in f.kind]
    assert any(m.startswith("topic: ") for m in new) and any(m.startswith("stars: ") for m in new)


def test_the_rows_of_one_column() -> None:
    rows = Data(("x", "y", "z"), (Cells(("a", None)), Cells((None, 2.0)), Cells(("b", 3.0))))
    known, part = column_of(rows, 1)
    assert (known.tolist(), part.inputs, part.labels) == ([1, 2], ("y", "z"), (2.0, 3.0))


def many(n: int = 400) -> Data:
    rng = np.random.default_rng(0)
    labels = tuple(
        Cells((
            None if rng.random() < 0.3 else str(rng.choice(["a", "b", "c"], p=[0.8, 0.15, 0.05])),
            None if rng.random() < 0.5 else float(rng.exponential()),
        ))
        for _ in range(n)
    )  # fmt: skip
    return Data(tuple(f"text {i}" for i in range(n)), labels)


def test_a_split_spreads_the_classes_and_the_numbers_of_every_column() -> None:
    data = many()
    assert data.labels is not None
    _, test = holdout(data, "multitask", share=0.25, seed=1)
    for name in ("a", "b", "c"):
        rows = [i for i, row in enumerate(data.labels) if row[0] == name]  # type: ignore[index]
        assert len(set(rows) & set(test.tolist())) == pytest.approx(len(rows) / 4, abs=1.5)
    known = [i for i, row in enumerate(data.labels) if row[1] is not None]  # type: ignore[index]
    order = sorted(known, key=lambda i: data.labels[i][1])  # type: ignore[index]
    for half in (order[: len(order) // 2], order[len(order) // 2 :]):
        assert len(set(half) & set(test.tolist())) == pytest.approx(len(half) / 4, abs=5)
    assert len(folds(data, "multitask", k=5)) == 5


def test_tasks_of_gives_reasons() -> None:
    tasks, reasons = tasks_of(table(), ("stars", "score"), "score=regress")
    assert tasks == ("classify", "regress")
    assert reasons[0].startswith("label column stars: classify, the labels are 3 whole numbers (give --task stars=regr")


def test_copies_contradict_each_other_only_in_what_both_know() -> None:
    one, two, other = Cells(("a", None, 1.0)), Cells((None, 2, 1.0)), Cells(("a", None, 3.0))
    assert not contradict([one, two]) and contradict([one, other]) and contradict([one, two, other])
