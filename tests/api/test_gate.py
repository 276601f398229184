"""Every row is accounted for, on the way in and on the way out (cases F3, F12, F13, F14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json, rows, write_csv

import acclimate
import tiny_models as tm
from acclimate.api import prepare

Fit = Callable[..., acclimate.Model]


def findings(audit: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["kind"]: f for f in audit["findings"]}


# -- F3 ----------------------------------------------------------------------------------------------------------------


def test_a_class_never_seen_is_named_and_counted_wrong(fit: Fit, tmp_path: Path) -> None:
    model = fit(rows(45, ("bad", "fine", "good")), output_dir=tmp_path / "run")
    other = rows(20, ("bad", "weird"), seed=1)  # "weird" is new, "fine" and "good" are missing
    answers = model.predict(other["text"])
    scores = model.evaluate(other)
    right = sum(a == y for a, y in zip(answers, other["label"], strict=True))
    assert scores.n == 20
    assert scores.estimates["accuracy"].value == pytest.approx(right / 20)
    assert right <= 10
    assert model.predict_proba(other["text"]).shape == (20, 3)
    assert any(note.startswith("10 of 20 rows have a class that was never seen") for note in scores.notes)
    assert any("(weird)" in note for note in scores.notes)
    assert any("not in these rows: fine, good" in note for note in scores.notes)


def test_a_test_file_with_a_class_never_seen_does_not_stop_the_fit(fit: Fit, tmp_path: Path) -> None:
    model = fit(rows(45, ("bad", "good")), test_data=rows(20, ("bad", "weird"), seed=1), output_dir=tmp_path / "run")
    assert model.classes_ == ("bad", "good")
    found = findings(read_json(tmp_path / "run" / "audit.json")[1])
    assert found["unseen_class"]["count"] == 10
    assert found["absent_class"]["count"] == 1
    assert "weird" in (tmp_path / "run" / "report.md").read_text()


def test_valid_data_with_a_class_never_seen_does_not_stop_the_fit(fit: Fit, tmp_path: Path) -> None:
    """No temperature and no conformal score can come from a row whose class the model does not have."""
    valid = rows(30, ("bad", "good", "weird"), seed=1)
    known = {k: [v for v, y in zip(column, valid["label"], strict=True) if y != "weird"] for k, column in valid.items()}
    given = {"test_data": rows(10, seed=2)}
    with_unseen = fit(rows(45), valid_data=valid, output_dir=tmp_path / "a", **given)
    without = fit(rows(45), valid_data=known, output_dir=tmp_path / "b", **given)
    assert with_unseen.predictor.decoder == without.predictor.decoder


# -- F12 ---------------------------------------------------------------------------------------------------------------

MESSY = (
    "\ufeff;text;label\r\n"
    '0;"good; ""very"" good stone";pos\r\n'  # line 2: quotes and the delimiter inside a cell
    '1;"good\r\ngreat table";pos\r\n'  # lines 3-4: a line break inside a cell
    "2;NA;neg\r\n"  # line 5: a text
    "3;null;neg\r\n"  # line 6: a text
    "4;   ;neg\r\n"  # line 7: blank
    "5;;pos\r\n"  # line 8: null
    "6;short row\r\n"  # line 9: a field is missing
    "7;bad awful river;\r\n"  # line 10: no label
)


def messy(tmp_path: Path) -> Path:
    extra = rows(24, ("neg", "pos"))
    lines = [f"{8 + i};{t};{y}\r\n" for i, (t, y) in enumerate(zip(*extra.values(), strict=True))]
    path = tmp_path / "messy.csv"
    path.write_bytes((MESSY + "".join(lines)).encode("utf-8"))
    return path


def test_every_row_of_a_messy_file_is_accounted_for(fit: Fit, tmp_path: Path) -> None:
    fit(messy(tmp_path), label="label", output_dir=tmp_path / "run")
    audit = read_json(tmp_path / "run" / "audit.json")[0]
    dropped = {reason: tuple(lines) for reason, lines in audit["dropped"].items()}
    assert dropped == {"unparsed": (9,), "blank_input": (7, 8), "missing_label": (10,)}
    assert (audit["read"], audit["kept"]) == (32, 28)
    assert audit["labels"] == {"neg": 14, "pos": 14}


def test_prediction_gives_one_row_a_row_in_order_with_blanks_marked(fit: Fit, tmp_path: Path) -> None:
    path = messy(tmp_path)
    model = fit(path, label="label")
    table, new = model.predict_table(path)
    assert len(table) == 32
    assert {name: len(values) for name, values in new.items()} == dict.fromkeys(
        ("prediction", "confidence", "p_neg", "p_pos", "note"), 32
    )
    blank = [i for i, answer in enumerate(new["prediction"]) if answer is None]
    assert blank == [4, 5, 6]
    assert [new["note"][i] for i in (4, 5)] == ["no text to judge"] * 2
    assert "2" in new["note"][6] and "3" in new["note"][6]  # fields found and expected
    assert [i for i, note in enumerate(new["note"]) if note] == blank
    texts = table.columns["text"]
    assert texts[:4] == ['good; "very" good stone', "good\r\ngreat table", "NA", "null"]
    alone = [model.predict([t])[0] for t in texts[:4] + texts[7:]]
    assert alone == [a for i, a in enumerate(new["prediction"]) if i not in blank]
    assert model.predict(str(path)) == new["prediction"]
    assert np.isnan(model.predict_proba(path)[blank]).all()


def test_on_bad_fail_stops_at_the_first_look(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(acclimate.UserError, match=r"1 row dropped|1 row .*line 9"):
        fit(messy(tmp_path), label="label", on_bad="fail", output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("nothing", [None, float("nan"), "", " \t\n", np.nan])
def test_what_cannot_be_judged_has_no_answer(nothing: Any, fit: Fit) -> None:
    model = fit(rows(40))
    assert model.predict(["good table", nothing, "bad table"])[1] is None
    assert np.isnan(model.predict_proba([nothing])).all()


def test_every_kind_of_input_is_taken(fit: Fit, tmp_path: Path) -> None:
    import pandas as pd
    import pyarrow

    model = fit(rows(40))
    texts = ["good table", "awful river", "kind stone"]
    wanted = model.predict(texts)
    frame = pd.DataFrame({"text": texts, "other": 1})
    path = write_csv(tmp_path / "new.csv", {"text": texts})
    inputs = {
        "frame": frame, "series": frame["text"], "string series": frame["text"].astype("string"),
        "array": np.array(texts), "arrow": pyarrow.table({"text": texts}), "dict": {"text": texts},
        "dicts": [{"text": t} for t in texts],
        "path": path, "path as text": str(path), "tuple": tuple(texts), "generator": (t for t in texts),
    }  # fmt: skip
    assert {name: model.predict(value) for name, value in inputs.items()} == dict.fromkeys(inputs, wanted)
    assert model.predict("good table") == wanted[:1]
    assert model.predict(pd.Series(["good table", pd.NA], dtype="string")) == [wanted[0], None]
    assert model.predict([]) == []
    assert model.predict_proba([]).shape == (0, 2)


# -- F13 ---------------------------------------------------------------------------------------------------------------


def long_rows(n: int = 40) -> dict[str, list[Any]]:
    """Of every ten texts three have 34 words more than fit; what decides stands at the end."""
    data = rows(n)
    filler = "stone " * 60
    data["text"] = [filler + t if i % 10 < 3 else t for i, t in enumerate(data["text"])]
    return data


def test_texts_that_are_cut_are_counted_and_how_much_is_lost(fit: Fit, tmp_path: Path) -> None:
    data = long_rows()
    backbone = fit(rows(40)).predictor.backbone
    total = np.array([row.total for row in backbone.encode(data["text"])])
    fit(data, max_length=32, output_dir=tmp_path / "run")
    found = findings(read_json(tmp_path / "run" / "audit.json")[0])["truncated"]
    assert found["count"] == 12 == (total > 32).sum()
    lost = int((total - 32)[total > 32].sum())
    assert f"{lost:,}" in found["message"] or str(lost) in found["message"]
    assert "30" in found["message"]
    steps = read_json(tmp_path / "run" / "report.json")["next_steps"]
    assert any("--truncation chunk" in step["command"] for step in steps)


def test_truncation_fail_refuses(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(acclimate.UserError, match="tokens"):
        fit(long_rows(), max_length=32, truncation="fail", output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    fit(rows(40), max_length=32, truncation="fail")


def test_chunk_reads_everything(fit: Fit, tmp_path: Path) -> None:
    model = fit(long_rows(), max_length=32, truncation="chunk", output_dir=tmp_path / "run")
    audit = read_json(tmp_path / "run" / "audit.json")[0]
    found = findings(audit)["truncated"]
    assert (found["severity"], found["count"]) == ("info", 12)
    assert audit["facts"]["tokens"]["lost"] == 0
    steps = read_json(tmp_path / "run" / "report.json")["next_steps"]
    assert not any("cut off" in step["text"] for step in steps)  # nothing is left to do about it
    filler = "stone " * 60
    head, chunk = fit(long_rows(), max_length=32), acclimate.load(tmp_path / "run")
    ends = [filler + "good great", filler + "bad awful"]
    assert np.array_equal(*head.predict_proba(ends))  # the end is not read
    assert not np.array_equal(*chunk.predict_proba(ends))
    assert np.array_equal(chunk.predict_proba(ends), model.predict_proba(ends))


# -- F14 ---------------------------------------------------------------------------------------------------------------


def repeated(n: int = 250) -> dict[str, list[Any]]:
    """A fifth of the rows say again what another says, in other case, spaces and punctuation; two of them disagree."""
    data = rows(n)
    for i in range(n // 5):
        j = n - 1 - i
        text = data["text"][i]
        data["text"][j] = (text, text.upper(), f"  {text} ", f"{text}!!", text.replace(" ", "   "))[i % 5]
        data["label"][j] = data["label"][i]
    for i in (0, 1):
        data["label"][n - 1 - i] = "good" if data["label"][i] == "bad" else "bad"
    return data


def test_copies_are_on_one_side_and_contradictions_are_listed(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[prepare.Prepared] = []
    real = prepare.prepare

    def spy(*args: Any) -> prepare.Prepared:
        seen.append(real(*args))
        return seen[0]

    monkeypatch.setattr("acclimate.api.fitting.prepare", spy)
    data = repeated()
    fit(data, output_dir=tmp_path / "run")
    train, test = seen[0].train, seen[0].test
    assert test is not None

    def folded(texts: Sequence[Any]) -> set[str]:
        return {" ".join(str(t).lower().replace("!", "").split()) for t in texts}

    assert not folded(train.inputs) & folded(test.inputs)
    assert len(train) + len(test) == 250
    assert 40 <= len(test) <= 60
    for fit_at, judge_at in prepare.folds_of(seen[0], 0):
        assert not folded([train.inputs[i] for i in fit_at]) & folded([train.inputs[i] for i in judge_at])
    found = findings(read_json(tmp_path / "run" / "audit.json")[0])
    assert found["duplicate"]["count"] + found["near_duplicate"]["count"] == 50
    conflict = found["conflicting_label"]
    assert conflict["count"] == 4
    assert sorted(conflict["lines"]) == [1, 2, 249, 250]


def test_a_test_file_is_checked_against_the_training_rows(fit: Fit, tmp_path: Path) -> None:
    data, test = rows(60), rows(20, seed=1)
    test["text"][:3] = [t.upper() for t in data["text"][:3]]
    test["label"][0] = "good" if data["label"][0] == "bad" else "bad"
    fit(data, test_data=test, output_dir=tmp_path / "run")
    found = [f for f in read_json(tmp_path / "run" / "audit.json")[1]["findings"] if f["kind"] == "cross_split"]
    assert [f["count"] for f in found] == [3]
    everything = read_json(tmp_path / "run" / "audit.json")[1]["findings"]
    assert any(f["kind"] == "conflicting_label" and f["count"] >= 1 for f in everything)


def test_predicting_pairs(fit: Fit, tmp_path: Path) -> None:
    data = rows(40)
    table = {"sentence1": data["text"], "sentence2": list(reversed(tm.NEUTRAL * 4))[:40], "label": data["label"]}
    model = fit(table, output_dir=tmp_path / "run")
    assert model.columns.text == ("sentence1", "sentence2")
    pairs = list(zip(table["sentence1"], table["sentence2"], strict=True))
    assert model.predict(pairs) == model.predict(table)
    with pytest.raises(acclimate.UserError, match="input 1 is one text, and this model reads two"):
        model.predict(["alone"])
    with pytest.raises(acclimate.UserError, match="input 2 is a pair, and this model reads one text"):
        fit(data).predict(["one", ("two", "three")])


def test_classes_of_two_rows_are_judged_by_folds(fit: Fit, tmp_path: Path) -> None:
    """300 rows in 150 classes: no fifth of them holds every class, and folds of two do."""
    made = {"text": [f"fish {i // 2} stone {i}" for i in range(300)], "label": [f"c{i // 2}" for i in range(300)]}
    fit(made, strategy="centroid", output_dir=tmp_path / "run")
    report = read_json(tmp_path / "run" / "report.json")
    assert "no fifth of the 300 rows can be held out" in report["how_tested"]
    assert report["scores"]["n"] == 300


def test_a_number_from_one_class_says_so(fit: Fit, tmp_path: Path) -> None:
    made = {"text": [f"fish {i}" for i in range(40)], "label": ["a"] * 39 + ["b"]}
    fit(made, strategy="linear_probe", output_dir=tmp_path / "run")
    report = read_json(tmp_path / "run" / "report.json")
    assert "are of one class, so it says nothing of the others" in report["verdict"]
