from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acclimate.data.audit import Audit, Lengths, audit, cross_check, render
from acclimate.data.find_task import find_task
from acclimate.data.kinds import KINDS
from acclimate.data.kinds.image import IMAGE
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data, Input
from acclimate.errors import UserError
from drawn import folder

TL = Columns(label="label", text=("text",))


def distinct(n: int) -> list[object]:
    return [f"text with the number {i} in words {i * 7}" for i in range(n)]


def kinds(account: Audit) -> dict[str, int]:
    return {f.kind: f.count for f in account.findings}


def message(account: Audit, kind: str) -> str:
    return next(f.message for f in account.findings if f.kind == kind)


def test_f12_every_row_is_accounted_for(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text(
        'n,text,label\n0,"a\nb",x\n1,NA,y\n2,null,x\n3,short\n4,,y\n5,"   ",x\n6,fine,\n7,fine too,NA\n',
        encoding="utf-8",
    )
    data, account = audit(read(path), TL, "classify")
    assert account.read == 8
    assert account.kept == len(data) == 4
    assert account.dropped == {"unparsed": (6,), "blank_input": (7, 8), "missing_label": (9,)}
    assert data.inputs == ("a\nb", "NA", "null", "fine too")
    assert data.labels == ("x", "y", "x", "NA")
    assert data.lines == (2, 4, 5, 10)
    assert account.labels == {"x": 2, "NA": 1, "y": 1}
    with pytest.raises(UserError) as error:
        audit(read(path), TL, "classify", on_bad="fail")
    assert "1 row not parsed (wrong number of fields) (line 6)" in str(error.value)
    assert "2 rows no text to read (blank or null) (lines 7, 8)" in str(error.value)
    with pytest.raises(UserError, match="on_bad must be 'skip' or 'fail'"):
        audit(read(path), TL, "classify", on_bad="drop")


def test_the_sum_is_enforced() -> None:
    with pytest.raises(AssertionError, match="do not add up"):
        Audit("f", "train", 3, 1, {"blank_input": (2,)})


def test_every_part_is_filled() -> None:
    table = read(
        {
            "a": ["x one", "x two", "x three"],
            "b": ["y", "z", None],
            "label": [1, 0, 1],
            "who": ["p", None, "p"],
            "when": ["2020-01-02", "2020-01-01", "2020-01-03"],
            "key": [10, 11, 12],
            "sex": ["f", "m", None],
            "w": [1, 2.5, 0],
        }
    )
    columns = Columns(
        label="label", text=("a", "b"), group="who", time="when", id="key", subgroup=("sex",), weight="w"
    )  # fmt: skip
    data, account = audit(table, columns, "classify")
    assert data.inputs == (("x one", "y"), ("x two", "z"), ("x three", ""))
    assert data.labels == (1, 0, 1)
    assert data.groups == ("p", "(none, line 2)", "p")
    assert data.times is not None and np.diff(data.times[[1, 0, 2]]).tolist() == [86400.0, 86400.0]
    assert data.ids == (10, 11, 12)
    assert data.subgroups == {"sex": ("f", "m", "(none)")}
    assert data.weights is not None and data.weights.tolist() == [1.0, 2.5, 0.0]
    assert data.clusters is not None and data.clusters.tolist() == [0, 1, 2]
    assert kinds(account)["half_blank"] == 1
    assert kinds(account)["missing_group"] == 1


def test_bad_times_weights_and_numbers_are_dropped() -> None:
    table = read(
        {
            "text": distinct(5),
            "label": ["1.5", "n/a", "2", "3", "-1e2"],
            "t": ["2020-01-01", "2020-01-02", "soon", "2020-01-03", "2020-01-04"],
            "w": [1, 1, 1, -2, 1],
        }
    )
    data, account = audit(table, Columns(label="label", text=("text",), time="t", weight="w"), "regress")
    assert account.dropped == {"bad_label": (2,), "bad_time": (3,), "bad_weight": (4,)}
    assert data.labels == (1.5, -100.0)


def test_ambiguous_dates_are_refused() -> None:
    table = read({"text": distinct(2), "t": ["03/04/2020", "05/06/2020"]})
    with pytest.raises(UserError, match="can be read day-first or month-first; write dates as YYYY-MM-DD"):
        audit(table, Columns(text=("text",), time="t"), "classify")


def test_no_usable_row() -> None:
    with pytest.raises(UserError, match="has no usable row: 2 rows no text"):
        audit(read({"text": ["", None], "label": [0, 1]}), TL, "classify")
    with pytest.raises(UserError, match="does not hold numbers: write them as 1234.5, use --task classify"):
        audit(read({"text": distinct(2), "label": ["a", "b"]}), TL, "regress")


def test_f14_duplicates_and_conflicts() -> None:
    texts = ["Crust is not good.", "crust  IS not good", "Crust is not good.", "loved it", "Ｌoved it!", ":)", ":("]
    data, account = audit(read({"text": texts, "label": ["n", "p", "n", "p", "p", "p", "n"]}), TL, "classify")
    assert data.clusters is not None
    assert data.clusters.tolist() == [0, 0, 0, 1, 1, 2, 3]
    found = {f.kind: f.lines for f in account.findings}
    assert found["duplicate"] == (3,)
    assert found["near_duplicate"] == (2, 5)
    assert found["conflicting_label"] == (1, 2, 3)


def test_symbols_and_formulas_are_not_folded_away() -> None:
    data, _ = audit(read({"text": ["great 👍", "great 👎", "great!", "+1", "-1"]}), Columns(text=("text",)), "classify")
    assert data.clusters is not None and len(set(data.clusters.tolist())) == 5
    smiles = ["C(=O)C", "C=OC", "c1ccccc1", "C1CCCCC1", "C(=O)C"]
    data, _ = audit(read({"text": smiles}), Columns(text=("text",)), "classify")
    assert data.clusters is not None and data.clusters.tolist() == [0, 1, 2, 3, 0]
    both = {"ask": ["Is it?", "is it", "Is it?", "is it", "Is it?"], "of": smiles}
    data, _ = audit(read(both), Columns(text=("ask", "of")), "classify")
    assert data.clusters is not None and data.clusters.tolist() == [0, 1, 2, 3, 0]


def test_conflicts_of_numbers_need_distance() -> None:
    texts = [*distinct(8), "same text", "same text", "other text", "other text"]
    table = read({"text": texts, "label": [0.0, 1, 2, 3, 4, 5, 6, 7, 3.0, 3.5, 0.0, 7.0]})
    _, account = audit(table, TL, "regress")
    assert next(f for f in account.findings if f.kind == "conflicting_label").lines == (11, 12)
    assert account.labels == {}


def test_label_typos() -> None:
    labels = ["positive"] * 5 + ["Positive "] + ["negative"] * 4 + ["NEGATIVE", "very_good", "very good"]
    table = read({"text": distinct(len(labels)), "label": labels})
    _, account = audit(table, TL, "classify")
    typos = [f for f in account.findings if f.kind == "label_typo"]
    assert [f.lines for f in typos] == [(6,), (11,), (13,)]
    assert "'positive' (5 rows) and 'Positive ' (1 row) differ only by case, spaces" in typos[0].message
    _, account = audit(table, TL, "classify", private=True)
    assert not any("ositive" in f.message for f in account.findings if f.kind == "label_typo")


def test_numbers_of_either_sign_are_no_typos() -> None:
    labels = ["-2.2", "2.2", "?"] * 4
    _, account = audit(read({"text": distinct(len(labels)), "label": labels}), TL, "classify")
    assert "label_typo" not in kinds(account)


def test_numbers_among_a_few_other_cells_are_hinted_at() -> None:
    cells = [f"{i / 7:.3f}" for i in range(24)] + ["?"] * 6
    assert find_task(cells, False) == (
        "classify",
        "task classify: the labels are 25 texts; 24 of 30 are numbers: give --task regress if they are amounts",
    )
    assert "regress" not in find_task(["a", "b", "7"] * 9, False)[1]


def test_f8_imbalance_and_tiny_classes() -> None:
    table = read({"text": distinct(200), "label": ["a"] * 190 + ["b"] * 9 + ["c"]})
    _, account = audit(table, TL, "classify")
    assert kinds(account)["imbalance"] == 190
    assert "95% of the rows" in message(account, "imbalance")
    assert [f.lines for f in account.findings if f.kind == "tiny_class"] == [(200,)]
    _, account = audit(read({"text": distinct(10), "label": ["a"] * 8 + ["b"] * 2}), TL, "classify")
    assert "imbalance" not in kinds(account)


def test_one_class_and_one_text_are_errors() -> None:
    _, account = audit(read({"text": distinct(3), "label": ["a"] * 3}), TL, "classify")
    assert account.findings[0].kind == "one_class"
    assert account.findings[0].severity == "error"
    _, account = audit(read({"text": ["a", "A", "a."], "label": [0, 1, 0]}), TL, "classify")
    assert account.findings[0].kind == "constant"


def test_odd_columns() -> None:
    n = 30
    columns = {
        "text": distinct(n),
        "label": [i % 2 for i in range(n)],
        "row": list(range(n)),
        "code": [f"X{i * 37}" for i in range(n)],
        "same": ["k"] * n,
        "none": [None] * n,
        "amount": [i * 0.37 for i in range(n)],
        "topic": [f"t{i % 3}" for i in range(n)],
    }
    _, account = audit(read(columns), TL, "classify")
    named = {(f.kind, f.message.split("'")[1]) for f in account.findings}
    assert named == {("id_like", "row"), ("id_like", "code"), ("constant", "same"), ("constant", "none")}


def test_leaking_columns() -> None:
    n = 100
    labels = ["pos" if (i * 7) % 10 < 5 else "neg" for i in range(n)]
    nearly = ["P" if label == "pos" else "N" for label in labels]
    nearly[3] = "P" if nearly[3] == "N" else "N"
    columns = {
        "text": distinct(n),
        "label": labels,
        "twin": nearly,
        "score": [(1.0 if label == "pos" else -1.0) * (1 + 0.01 * i) for i, label in enumerate(labels)],
        "chance": [f"g{(i * 3) % 4}" for i in range(n)],
        "amount": [((i * 37) % 101) / 10 for i in range(n)],
        "row": list(range(n)),
    }
    _, account = audit(read(columns), TL, "classify")
    named = {f.message.split("'")[1] for f in account.findings if f.kind == "leak"}
    assert named == {"score"}  # one row in a hundred off: 99.0 % is not above 99 %
    nearly[3] = "P" if labels[3] == "pos" else "N"
    _, account = audit(read({**columns, "twin": nearly}), TL, "classify")
    assert {f.message.split("'")[1] for f in account.findings if f.kind == "leak"} == {"score", "twin"}
    _, account = audit(
        read({**columns, "twin": nearly}), Columns(label="label", text=("text",), drop=("twin", "score")), "classify"
    )
    assert "leak" not in kinds(account)


def test_no_leak_from_few_rows_or_one_large_class() -> None:
    _, account = audit(read({"text": distinct(10), "label": [0, 1] * 5, "twin": ["a", "b"] * 5}), TL, "classify")
    assert "leak" not in kinds(account)
    table = read({"text": distinct(300), "label": [0] * 298 + [1, 1], "any": ["a", "b", "c"] * 100})
    _, account = audit(table, TL, "classify")
    assert "leak" not in kinds(account)


def test_leak_of_a_number() -> None:
    values = [float((i * 37) % 101) for i in range(60)]
    table = read(
        {
            "text": distinct(60),
            "label": values,
            "double": [2 * v + 1 for v in values],
            "other": [float(i % 7) for i in range(60)],
        }
    )
    _, account = audit(table, TL, "regress")
    assert {f.message.split("'")[1] for f in account.findings if f.kind == "leak"} == {"double"}


def test_label_spelled_out_in_the_text() -> None:
    labels = ["sports", "politics"] * 20
    said = [f"[{label.upper()}] story number {i}" for i, label in enumerate(labels)]
    _, account = audit(read({"text": said, "label": labels}), TL, "classify")
    assert "spells out the label ('politics', 'sports'; 100% of the rows)" in message(account, "leak")
    some = [f"a story on {label} {i}" if i % 3 == 0 else f"a story {i}" for i, label in enumerate(labels)]
    _, account = audit(read({"text": some, "label": labels}), TL, "classify")
    assert "leak" not in kinds(account)
    both = [f"sports or politics, story {i}" for i in range(40)]
    _, account = audit(read({"text": both, "label": labels}), TL, "classify")
    assert "leak" not in kinds(account)


def test_f13_truncation() -> None:
    table = read({"text": distinct(10), "label": [0, 1] * 5})

    def measure(limit: int, truncation: str):  # type: ignore[no-untyped-def]
        return lambda inputs: Lengths(np.array([100] * 7 + [300, 400, 500]), limit, truncation)

    _, account = audit(table, TL, "classify", measure=measure(256, "head"))
    found = next(f for f in account.findings if f.kind == "truncated")
    assert (found.count, found.lines) == (3, (8, 9, 10))
    assert "3 rows (30%) are longer than 256 tokens; 432 tokens (23% of all) from their end" in found.message
    assert "--truncation head-tail or chunk" in found.message
    assert account.facts["tokens"] == {
        "limit": 256, "median": 100.0, "max": 500, "total": 1900, "over": 3, "lost": 432, "truncation": "head",
    }  # fmt: skip
    _, account = audit(table, TL, "classify", measure=measure(256, "chunk"))
    assert "nothing is lost" in message(account, "truncated")
    _, account = audit(table, TL, "classify", measure=measure(512, "fail"))
    assert "truncated" not in kinds(account)
    with pytest.raises(UserError, match=r"are longer than 256 tokens \(lines 8, 9, 10\); shorten them"):
        audit(table, TL, "classify", measure=measure(256, "fail"))


def test_f3_classes_of_another_source() -> None:
    table = read({"text": distinct(4), "label": ["a", "z", "b", "z"]})
    data, account = audit(table, TL, "classify", classes=("a", "b", "c"), role="test")
    assert data.labels == ("a", "z", "b", "z")
    assert [f.lines for f in account.findings if f.kind == "unseen_class"] == [(2, 4)]
    assert "('z'); they count as wrong" in message(account, "unseen_class")
    assert "1 of the model's classes have no row here: 'c'" in message(account, "absent_class")
    data, _ = audit(read({"text": distinct(2), "label": [1.0, 2.0]}), TL, "classify", classes=(1, 2), role="test")
    assert data.labels == (1, 2)
    assert [type(v) for v in data.labels or ()] == [int, int]


def test_multilabel() -> None:
    table = read({"text": distinct(4), "label": ["b|a", "a", None, "c|A"]})
    data, account = audit(table, TL, "multilabel", label_delimiter="|")
    assert data.labels == (("a", "b"), ("a",), ("A", "c"))
    assert account.labels == {"a": 2, "A": 1, "b": 1, "c": 1}
    assert kinds(account)["label_typo"] == 1
    data, _ = audit(read({"text": distinct(2), "label": [["x"], []]}), TL, "multilabel")
    assert data.labels == (("x",), ())


def test_without_labels() -> None:
    data, account = audit(read({"text": ["a b", None]}), Columns(text=("text",)), "classify")
    assert data.labels is None
    assert (account.read, account.kept, account.labels) == (2, 1, {})


def test_private_keeps_inputs_and_labels_out() -> None:
    secret = "patient Zebulon"
    table = read(
        {
            "text": [f"{secret} {i}" for i in range(30)] + [f"{secret} 1"],
            "label": ["Quokka", "wombat"] * 14 + ["quokka", "Wombat ", "wombat"],
            "who": [f"Zebulon{i % 7}" for i in range(31)],
        }
    )
    data, account = audit(table, Columns(label="label", text=("text",), group="who"), "classify", private=True)
    told = " ".join(f.message for f in [*account.findings, *cross_check(data, data, "test")])
    assert "label_typo" in kinds(account)
    assert not any(word in told for word in ("Zebulon", "uokka", "ombat"))


def test_json_and_table() -> None:
    table = read({"text": [*distinct(3), None], "label": ["a", "b", "[red]x", "a"]})
    _, account = audit(table, TL, "classify", role="valid")
    plain = json.loads(json.dumps(account.to_json()))
    assert plain["role"] == "valid"
    assert plain["dropped"] == {"blank_input": [4]}
    assert plain["read"] == plain["kept"] + 1
    assert plain["facts"]["columns"] == {"label": "label", "text": ["text"]}
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(account))
    text = console.export_text()
    assert "nothing to read (blank or null)" in text
    assert "line 4" in text


def test_cross_check() -> None:
    train = Data(inputs=("Good one", "bad one", "x"), labels=("p", "n", "p"), groups=("a", "b", "b"), lines=(2, 3, 4))
    test = Data(
        inputs=("good one!", "new", "bad  one"), labels=("n", "p", "n"), groups=("c", "b", "d"), lines=(2, 3, 4)
    )
    found = {f.kind: f.lines for f in cross_check(train, test, "test")}
    assert found == {"cross_split": (2, 4), "conflicting_label": (2,), "cross_group": (3,)}
    apart = Data(inputs=("entirely other",), labels=("p",), lines=(2,))
    assert cross_check(train, apart, "test") == ()


def test_cross_check_of_times() -> None:
    train = Data(inputs=("a", "b"), times=np.array([1.0, 5.0]), lines=(1, 2))
    test = Data(inputs=("c", "d"), times=np.array([4.0, 9.0]), lines=(1, 2))
    assert [(f.kind, f.count) for f in cross_check(train, test, "test")] == [("cross_time", 1)]


def test_hundred_thousand_rows_stay_linear() -> None:
    """A quadratic search for near duplicates would take hours."""
    texts: list[Input] = [f"sentence {i % 60_000}, as it was written" for i in range(100_000)]
    table = read({"text": texts, "label": [i % 2 for i in range(100_000)]})
    _, account = audit(table, TL, "classify")
    assert kinds(account)["duplicate"] == 40_000


def test_a_column_of_owners_is_pointed_out() -> None:
    rows = {
        "text": [f"note number {i} of a visit" for i in range(40)],
        "label": ["a", "b"] * 20,
        "patient_id": [f"p{i // 4}" for i in range(40)],
        "ward": [f"w{i // 20}" for i in range(40)],
    }
    table = read(rows)
    _, report = audit(table, Columns(label="label", text=("text",)), "classify")
    assert [f.message[:60] for f in report.findings if f.kind == "group_like"] == [
        "column 'patient_id' may say whose a row is (10 different valu"[:60]
    ]
    _, named = audit(table, Columns(label="label", text=("text",), group="patient_id"), "classify")
    assert not [f for f in named.findings if f.kind == "group_like"]


def test_weights_whose_sum_overflows_keep_their_ratios() -> None:
    rows = {"text": ["one text", "another text", "a third"], "label": ["a", "b", "a"], "w": [1e308, 1e308, 5e307]}
    data, _ = audit(read(rows), Columns(label="label", text=("text",), weight="w"), "classify")
    assert data.weights is not None and data.weights.tolist() == [1.0, 1.0, 0.5]


def test_private_names_no_class_and_no_number() -> None:
    rows = read({"text": [f"text {i}" for i in range(30)], "label": ["Quokka"] * 28 + ["wombat"] * 2})
    told = audit(rows, Columns(label="label", text=("text",)), "classify", classes=("Quokka", "wombat", "emu"))[1]
    assert {"imbalance", "absent_class"} <= kinds(told).keys() and "Quokka" in json.dumps(told.to_json()["findings"])
    told = audit(
        rows, Columns(label="label", text=("text",)), "classify", classes=("Quokka", "wombat", "emu"), private=True
    )[1]
    said = json.dumps(told.to_json()["findings"])
    assert {"imbalance", "absent_class"} <= kinds(told).keys() and not any(
        w in said for w in ("Quokka", "wombat", "emu")
    )
    written = read({"text": ["a", "b", "c"], "label": [1, 2, 3]})
    facts = audit(written, Columns(label="label", text=("text",)), "regress", private=True)[1].facts
    assert "target" not in facts


def test_labels_of_a_regression_with_commas_are_noted(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("text;label\na;3,5\nb;4,25\nc;5\n")
    data, account = audit(read(tmp_path / "f.csv"), Columns(label="label", text=("text",)), "regress")
    assert data.labels == (3.5, 4.25, 5.0)
    assert "the numbers in 'label' are read with commas as the decimal sign" in account.facts["notes"]  # type: ignore[operator]


def test_content_is_read_once_for_exact_and_near_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, 4)
    calls: list[int] = []
    keys = IMAGE.keys
    counted = replace(IMAGE, keys=lambda inputs: calls.append(1) or keys(inputs))  # type: ignore[func-returns-value]
    counted = replace(counted, exact=counted.keys)
    monkeypatch.setitem(KINDS, "image", counted)
    table = read(tmp_path)
    audit(table, Columns(label="label", file="file", kind="image"), "classify")
    assert calls == [1]
