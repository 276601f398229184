"""Corrections: what is counted, what is learned, what is kept, and where the training rows are gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made import rows, write_csv
from typer.testing import CliRunner

import acclimate
from acclimate.api.correcting import without
from acclimate.cli.main import app
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.strategies.correction import moved

Fit = Callable[..., acclimate.Model]
TURNED = {"bad": "good", "good": "bad"}


@pytest.fixture
def run(fit: Fit, tmp_path: Path) -> Path:
    """A run of linear_probe on a file, judged on a file."""
    train, test = write_csv(tmp_path / "a.csv", rows(48)), write_csv(tmp_path / "t.csv", rows(20, seed=1))
    fit(str(train), strategy="linear_probe", test_data=str(test), output_dir=tmp_path / "run")
    return tmp_path / "run"


def given(n: int = 12, seed: int = 5, turned: bool = False) -> list[dict[str, Any]]:
    found = rows(n, seed=seed)
    pairs = zip(found["text"], found["label"], strict=True)
    return [{"text": t, "label": TURNED[y] if turned else y} for t, y in pairs]


def test_counts_of_what_was_corrected_confirmed_and_blank(run: Path, tmp_path: Path) -> None:
    model = acclimate.load(run)
    texts = rows(10, seed=3)["text"]
    said = model.predict(texts)
    file = [{"text": t, "prediction": s, "right": s} for t, s in zip(texts, said, strict=True)]
    file[0]["right"] = TURNED[said[0]]
    file[1]["right"] = None
    file[2]["text"] = " "
    done = acclimate.correct(run, file, label="right", force=True)
    assert done.counts == {
        "read": 10, "corrected": 1, "confirmed": 7, "blank": 1, "unusable": 1, "contradicting": 0, "earlier": 0,
        "new classes": 0,
    }  # fmt: skip
    assert done.model.run_dir == tmp_path / "run-corrected"


def test_what_is_corrected_is_learned_and_the_run_is_whole(run: Path) -> None:
    wrong = given(16, turned=True)
    done = acclimate.correct(run, wrong, force=True)
    answers = done.model.predict([r["text"] for r in wrong])
    before = acclimate.load(run).predict([r["text"] for r in wrong])
    right = [r["label"] for r in wrong]
    assert done.followed == sum(a == y for a, y in zip(answers, right, strict=True))
    assert f"answers {done.followed} of {len(right)} rows as it was told" in str(done)
    assert sum(a == y for a, y in zip(answers, right, strict=True)) > sum(
        a == y for a, y in zip(before, right, strict=True)
    )
    folder = done.model.run_dir
    assert folder is not None and (folder / "report.html").is_file()
    made = json.loads((folder / "run.json").read_text())
    assert made["corrections"][0]["corrected"] == done.counts["corrected"]
    assert repr(acclimate.load(folder).predict_proba(["good"])) == repr(done.model.predict_proba(["good"]))


def test_harm_to_what_was_known_is_refused_unless_forced(run: Path, tmp_path: Path) -> None:
    wrong = given(40, turned=True)
    done = acclimate.correct(run, wrong)
    assert not done.taken and done.known is not None and done.known.verdict == "worse"
    assert not (tmp_path / "run-corrected").exists() and "former model is kept" in str(done)
    assert acclimate.correct(run, wrong, force=True).taken


def test_corrections_add_up_and_a_newer_one_counts(run: Path) -> None:
    first = acclimate.correct(run, given(6, seed=6), force=True)
    assert first.model.run_dir is not None
    second = acclimate.correct(first.model.run_dir, given(4, seed=7) + given(6, seed=6)[:1], force=True)
    assert second.counts["earlier"] == 5 and second.counts["read"] == 5
    assert second.model.run_dir is not None
    assert len((second.model.run_dir / "corrections.jsonl").read_text().splitlines()) == 10


def test_a_new_class_needs_the_training_rows(run: Path, tmp_path: Path) -> None:
    new = [{"text": f"river stone {i}", "label": "neutral"} for i in range(4)]
    done = acclimate.correct(run, new, force=True)
    assert done.counts["new classes"] == 1 and done.model.classes_ == ("bad", "good", "neutral")
    (tmp_path / "a.csv").unlink()
    with pytest.raises(UserError, match="needs the training rows"):
        acclimate.correct(run, new)


def test_without_the_training_rows_the_head_moves_a_little(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text() + "another one,good\n")
    done = acclimate.correct(run, given(12, turned=True))
    assert done.known is None and any("has changed since" in note for note in done.notes)
    assert "moved by 12 corrections" in done.how
    folder = done.model.run_dir  # numbers of the former model are none of this one's
    assert folder is not None and not (folder / "metrics.json").exists() and done.model.scores is None
    assert "not known" in json.loads((folder / "report.json").read_text())["verdict"]
    assert acclimate.correct(folder, given(4, seed=8)).counts["earlier"] == 12


def test_a_corrected_row_is_learned_as_the_person_says_and_judges_nothing(run: Path) -> None:
    made, held = rows(48), rows(20, seed=1)
    turned = [{"text": t, "label": TURNED[y]} for t, y in zip(made["text"][:4], made["label"][:4], strict=True)]
    known = [{"text": t, "label": y} for t, y in zip(held["text"][:5], held["label"][:5], strict=True)]
    done = acclimate.correct(run, turned + known, force=True)
    assert "44 known rows and 9 corrections" in done.how
    assert done.known is not None and done.known.n == 15


def test_a_single_correction_among_formulas_is_found_in_the_training_rows() -> None:
    known = Data(tuple(f"x{i}=Y" for i in range(9)) + ("Abc",), tuple("ab" * 5))
    assert len(without(known, Data(("Abc",), ("a",)))) == 9


def test_a_strong_pull_leaves_the_head_where_it_was(run: Path) -> None:
    model = acclimate.load(run)
    assert isinstance(model, acclimate.Model)
    from acclimate.run import Run
    from acclimate.strategies import Problem, correction

    data = Data(tuple(r["text"] for r in given(8)), tuple(TURNED[r["label"]] for r in given(8)))
    problem = Problem(model.predictor.task, model.predictor.decoder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correction, "PULLS", (1e9, 1e9))
        found = moved(model.predictor, problem, data, Run())
    for a, b in zip(found.predictor.head.parameters(), model.predictor.head.parameters(), strict=True):
        assert a.detach().numpy() == pytest.approx(b.detach().numpy(), abs=1e-4)


def test_a_tuned_backbone_stays_and_a_private_run_keeps_no_rows(fit: Fit, tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "a.csv", rows(40)), write_csv(tmp_path / "t.csv", rows(16, seed=1))
    fit(str(train), strategy="full", test_data=str(test), output_dir=tmp_path / "run", private=True,
        num_train_epochs=1)  # fmt: skip
    done = acclimate.correct(tmp_path / "run", given(8), force=True)
    folder = done.model.run_dir
    assert folder is not None and not (folder / "corrections.jsonl").exists() and "moved by" in done.how
    assert done.known is not None


def test_numbers_are_corrected_too(fit: Fit, tmp_path: Path) -> None:
    made = rows(48)
    train = write_csv(
        tmp_path / "n.csv",
        {"text": made["text"], "label": [1.5 if y == "good" else 0.25 * i / 48 for i, y in enumerate(made["label"])]},
    )
    fit(str(train), strategy="ridge", task="regress", output_dir=tmp_path / "run")
    done = acclimate.correct(tmp_path / "run", [{"text": r["text"], "label": 3.5} for r in given(8)], force=True)
    assert done.after.value is not None and done.before.value is not None and done.after.value < done.before.value


def test_from_the_command_line(run: Path, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "c.csv", rows(8, seed=9))
    done = CliRunner().invoke(app, ["correct", str(run), str(file), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["counts"]["read"] == 8
    missing = CliRunner().invoke(app, ["correct", str(run), str(file), "--label", "nothing"])
    assert missing.exit_code == 2 and "no column 'nothing'" in missing.output


def test_new_classes_are_named(run: Path) -> None:
    done = acclimate.correct(run, [*given(6), {"text": "odd one", "label": "goood"}], force=True)
    assert "No class of the model before: 'goood'." in str(done)
