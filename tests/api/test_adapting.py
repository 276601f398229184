"""`target_data`: read without its labels, adapted to by name, and judged honestly."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import acclimate
import tiny_models as tm
from acclimate.api import adapting
from acclimate.errors import UserError
from acclimate.strategies import ADAPTATIONS


def table(n: int, more: str = "", seed: int = 0) -> dict[str, list[Any]]:
    data = tm.rows(n, seed=seed)
    return {"text": [f"{text} {more}".strip() for text in data.inputs], "label": list(data.labels or ())}


def fitted(folder_of: Any, where: Path, **more: Any) -> tuple[acclimate.Model, dict[str, Any]]:
    source = more.pop("source", None) or table(60)
    model = acclimate.fit(
        source, label="label", model=str(folder_of("bert")), output_dir=str(where / "run"), quiet=True, **more
    )
    return model, json.loads((where / "run" / "report.json").read_text())


def test_labels_of_the_target_change_nothing_and_that_is_said(folder_of: Any, tmp_path: Path) -> None:
    target = table(40, "river")
    turned = {**target, "label": target["label"][::-1]}
    found = []
    for i, given in enumerate((target, turned)):
        model, report = fitted(folder_of, tmp_path / str(i), strategy="self_train", target_data=given)
        found.append(model.predict_proba(target["text"]))
        assert any("its column 'label' is ignored" in d for d in report["decisions"])
    assert np.array_equal(*found)


def test_without_labels_there_it_is_not_decidable(folder_of: Any, tmp_path: Path) -> None:
    _, report = fitted(folder_of, tmp_path, strategy="self_train", target_data=table(40, "river"))
    assert any("adapted to the 40 target rows" in d and "not decidable" in d for d in report["decisions"])
    assert report["splits"]["target, without labels"] == 40
    assert [b["key"] for b in report["baselines"]] == ["majority", "tfidf", "source_only"]
    assert "the source alone" not in report["verdict"]  # the number is of source rows


def test_the_rows_that_would_tell_are_written_with_the_command_that_reads_them(folder_of: Any, tmp_path: Path) -> None:
    """Adapted to by name and no test data: 50 rows at random, judged by `evaluate`, which says that it knows them."""
    run, target = tmp_path / "run", table(60, "river")
    _, report = fitted(folder_of, tmp_path, strategy="standardise", target_data=target)
    command = report["next_steps"][0]["command"]
    assert command == f"acclimate evaluate {run} {run / 'label_these.csv'}"
    assert report["target_verdict"].endswith(f"label the 50 rows in {run / 'label_these.csv'}, then: {command}")
    truth = dict(zip(target["text"], target["label"], strict=True))
    with (run / "label_these.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50 == len({row["text"] for row in rows}) and {row["label"] for row in rows} == {""}
    labelled = {"text": [row["text"] for row in rows], "label": [truth[row["text"]] for row in rows]}
    scores, beside = acclimate.load(run).evaluation(labelled)
    assert any("50 of 50 rows given (or near duplicates) are among those that it adapted to" in n for n in scores.notes)
    assert "source_only" in beside["baseline"]
    others = acclimate.load(run).evaluate(table(20, "stone", seed=5))
    assert not any("adapted to" in note for note in others.notes)


def test_a_model_that_did_not_adapt_knows_no_target_row(folder_of: Any, tmp_path: Path) -> None:
    target = table(40, "river")
    model, report = fitted(folder_of, tmp_path, strategy="centroid", target_data=target)
    assert not any("adapted to" in note for note in model.evaluate(target).notes)
    assert (
        "not used by centroid. A classifier tells them from the training rows with an AUC of"
        in report["target_verdict"]
    )
    assert f"--target-labels {tmp_path / 'run' / 'label_these.csv'}" in report["next_steps"][0]["command"]


def test_numbers_have_no_verdict_and_the_ways_that_can_are_named(folder_of: Any, tmp_path: Path) -> None:
    data, there = table(60), table(40, "river")
    numbers = {"text": data["text"], "label": [len(text) + i / 7 for i, text in enumerate(data["text"])]}
    model, report = fitted(
        folder_of, tmp_path, source=numbers, target_data={"text": there["text"]}, candidates=["linear_probe"]
    )
    told = " ".join(report["decisions"])
    assert "not used by linear_probe. A classifier tells them" in told and "not decidable without labels" in told
    assert (
        "By name these adapt to such rows: standardise, coral, linear_ot, subspace, gfk, entropic_ot, density_ratio, "
        "kmm, kliep, " in told
    )
    assert "self_train" not in told and "mcc" not in told
    assert "--target-labels" in report["next_steps"][0]["command"]


def test_what_reads_features_alone_is_what_a_task_of_numbers_takes() -> None:
    changes, none = SimpleNamespace(augments=True), SimpleNamespace(augments=False)
    ways = adapting.that_can("regress", changes)  # type: ignore[arg-type]
    assert {"dann", "mmd", "afn", "deep_coral", "sliced_wasserstein", "iwan", "coral", "kmm"} < set(ways)
    assert not {"self_train", "mcc", "shot", "cdan", "jan", "pada", "consistency", "deepjdot", "mcd"} & set(ways)
    every = [name for name in ADAPTATIONS if name != "osbp"]  # which answers with a class more
    assert adapting.that_can("classify", changes) == tuple(every)  # type: ignore[arg-type]
    for backbone in (none, None):  # no random change is known that leaves a text's class as it is
        assert set(every) - set(adapting.that_can("classify", backbone)) == {"consistency"}  # type: ignore[arg-type]


def test_in_private_no_file_of_rows_is_written(folder_of: Any, tmp_path: Path) -> None:
    _, report = fitted(folder_of, tmp_path, strategy="standardise", target_data=table(40, "river"), private=True)
    assert "label some 40 of them, then judge the model by them" in report["target_verdict"]
    assert not (tmp_path / "run" / "label_these.csv").exists() and not (tmp_path / "run" / "adapted_to.json").exists()


def test_with_labelled_test_rows_the_gain_is_measured(folder_of: Any, tmp_path: Path) -> None:
    target = table(40, "river")
    _, report = fitted(folder_of, tmp_path, strategy="standardise", target_data=target, test_data=target)
    verdicts = [d for d in report["decisions"] if "standardise adapted" in d]
    assert len(verdicts) == 1
    assert "against the probe that learned from the source" in verdicts[0]
    assert "the source alone (" in report["verdict"] and "which did not adapt: difference " in report["verdict"]


@pytest.mark.real  # slow
def test_auto_gives_the_verdict_and_uses_no_target_row_unless_it_says_adapt(folder_of: Any, tmp_path: Path) -> None:
    _, report = fitted(folder_of, tmp_path, target_data=table(40, "river"))
    said = [d for d in report["decisions"] if d.startswith("The 40 target rows")]
    assert len(said) == 1 and "Estimated gain of" in said[0]
    assert "used none of them" in said[0] and report["strategy"] not in ADAPTATIONS


def test_a_strategy_that_adapts_needs_target_rows(folder_of: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give them with --target-data"):
        fitted(folder_of, tmp_path, strategy="coral")


def test_a_pretrained_baseline_is_not_called_one_without_transfer() -> None:
    """A probe on the source alone that wins is no sign against transfer: it is transfer."""
    from acclimate.api import collect
    from acclimate.evaluate import Estimate, Scores

    worse = {"value": -0.05, "low": -0.08, "high": -0.02, "verdict": "worse", "n": 100}
    better = {**worse, "value": 0.2, "low": 0.1, "high": 0.3, "verdict": "better"}
    rows = [
        {"key": "tfidf", "name": "TF-IDF + linear", "value": 0.6, "difference": better},
        {"key": "majority", "name": "majority class", "value": 0.65, "difference": better},
        {"key": "source_only", "name": "the source alone", "value": 0.85, "difference": worse},
    ]
    scores = Scores("classify", "accuracy", 100, {"accuracy": Estimate(0.8, 0.7, 0.9, 100)})
    said = collect.verdict(scores, "mcc", "minilm", rows, "classify")
    assert said.startswith("Transfer helps: mcc on minilm")
    assert "better than majority class (0.650)" in said  # the best of those without transfer
    beside = collect.beside_source(rows)
    assert beside == " Worse than the source alone (0.850), which did not adapt: difference −0.050 [−0.080, −0.020]."
    assert collect.beside_source(rows[:2]) == ""


def test_target_rows_known_from_elsewhere_are_named(folder_of: Any, tmp_path: Path) -> None:
    target, test = table(40, "river"), table(12, "stone", seed=2)
    both = {name: [*target[name][:30], *test[name][:5]] for name in target}
    _, report = fitted(folder_of, tmp_path / "a", strategy="self_train", target_data=both, test_data=test)
    told = [f["message"] for a in report["audits"] if a["role"] == "target" for f in a["findings"]]
    assert any("of target are also in test" in m and "judged on rows that it has seen" in m for m in told)
    _, report = fitted(folder_of, tmp_path / "b", strategy="self_train", target_data=table(60))
    told = [f["message"] for a in report["audits"] if a["role"] == "target" for f in a["findings"]]
    assert any("also in train" in m and "should be others" in m for m in told)


def test_few_different_target_rows_give_no_verdict(folder_of: Any, tmp_path: Path) -> None:
    alike = {"text": ["river stone"] * 50}
    _, report = fitted(folder_of, tmp_path, target_data=alike, candidates=["linear_probe"])
    assert any("holds 1 different row, and fewer than 20 say nothing" in d for d in report["decisions"])
    assert not (tmp_path / "run" / "label_these.csv").exists()
