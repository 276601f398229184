"""The number, what stands beside it, and how probabilities become decisions (cases F8, F9)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json, rows, sentences

import acclimate
import tiny_models as tm

Fit = Callable[..., acclimate.Model]
CLASSES = ("anger", "fear", "joy")


# -- F8 ----------------------------------------------------------------------------------------------------------------


def lopsided(n: int, seed: int = 0) -> dict[str, list[Any]]:
    """One row in twenty is rare, and its words say so."""
    labels = ["rare" if i % 20 == 0 else "usual" for i in range(n)]
    return {"text": sentences(labels, seed), "label": labels}


def test_where_one_class_is_nearly_all_the_metric_is_balanced(fit: Fit, tmp_path: Path) -> None:
    model = fit(lopsided(200), test_data=lopsided(200, seed=1), output_dir=tmp_path / "run")
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["metric"] == "balanced_accuracy"
    assert {"accuracy", "macro_f1"} <= set(metrics["metrics"])
    majority = metrics["baseline"]["majority"]
    assert (majority["value"], majority["n"]) == (0.5, 200)
    assert majority["difference"]["value"] == pytest.approx(metrics["value"] - 0.5)
    found = {f["kind"]: f for f in read_json(tmp_path / "run" / "audit.json")[0]["findings"]}
    assert found["imbalance"]["severity"] == "warning"
    assert model.scores is not None and model.scores.metric == "balanced_accuracy"
    assert "majority class" in (tmp_path / "run" / "report.md").read_text()


def test_balanced_weights_lift_the_recall_of_the_rare_class(fit: Fit) -> None:
    test = lopsided(200, seed=1)

    def recall(**settings: Any) -> float:
        model = fit(lopsided(200), strategy="linear_probe", test_data=test, settings={"strength": 0.03}, **settings)
        found = model.evaluate(test).per_class["rare"]["recall"].value
        assert found is not None
        return found

    assert recall() < 0.2
    assert recall(class_weight="balanced") > 0.5
    assert recall(class_weight={"rare": 19.0}) > 0.5


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("heavy", "class_weight 'heavy' is not understood"),
        ({"rear": 2.0}, "unknown class in class_weight 'rear'; did you mean 'rare'"),
    ],
)
def test_class_weights_that_make_no_sense(weights: Any, message: str, fit: Fit) -> None:
    with pytest.raises(acclimate.UserError, match=message):
        fit(lopsided(60), class_weight=weights)


# -- F9 ----------------------------------------------------------------------------------------------------------------


def several(n: int = 120, seed: int = 0) -> dict[str, list[str]]:
    """Each class is in a sixth of the rows by a word of its own; half of the rows have no class."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for i in range(n):
        mine = [c for c in CLASSES if rng.random() < 1 / 6]
        words = [*(f"{c} {c}" for c in mine), *rng.choice(tm.NEUTRAL, 3), str(seed * 1000 + i)]
        texts.append(" ".join(words))
        labels.append(";".join(mine) or "none")
    return {"text": texts, "label": labels}


def test_rare_labels_are_found_by_thresholds_of_their_own(fit: Fit, tmp_path: Path) -> None:
    test = several(seed=1)
    model = fit(several(), label_delimiter=";", strategy="tfidf", test_data=test, output_dir=tmp_path / "run")
    assert model.classes_ == ("anger", "fear", "joy", "none")
    thresholds = model.predictor.decoder.thresholds
    assert len(thresholds) == 4 and any(t != 0.5 for t in thresholds)
    answers = model.predict(test["text"])
    assert {type(a) for a in answers} == {tuple}
    assert set().union(*answers) == {"anger", "fear", "joy", "none"}  # not all zeros
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["metric"] == "macro_f1"
    assert metrics["value"] > 0.8
    empty = sum(not a for a in answers) / len(answers)
    assert metrics["metrics"]["empty_rate"]["value"] == pytest.approx(empty)
    truth = [set(y.split(";")) for y in test["label"]]
    both = sum(len(set(a) & y) for a, y in zip(answers, truth, strict=True))
    micro = 2 * both / (sum(map(len, answers)) + sum(map(len, truth)))
    assert metrics["metrics"]["micro_f1"]["value"] == pytest.approx(micro)
    assert {"micro_f1", "macro_f1", "empty_rate"} <= {
        line.split()[0] for line in str(model).splitlines() if line.split()
    }
    _, new = model.predict_table({"text": test["text"][:40]})
    assert new["prediction"] == [";".join(a) for a in answers[:40]]
    assert [*new][:2] == ["prediction", "confidence"]
    assert read_json(tmp_path / "run" / "report.json")["thresholds"]["per_class"].keys() == set(model.classes_)


def test_labels_in_lists_need_no_delimiter(fit: Fit) -> None:
    data = several(60)
    lists = [{"text": t, "label": y.split(";")} for t, y in zip(data["text"], data["label"], strict=True)]
    model = fit(lists, strategy="tfidf")
    same = fit(data, label_delimiter=";", strategy="tfidf")
    assert model.predictor.task.name == "multilabel"
    assert np.array_equal(model.predict_proba(data["text"]), same.predict_proba(data["text"]))


# -- numbers -----------------------------------------------------------------------------------------------------------


def amounts(n: int, seed: int = 0) -> dict[str, list[Any]]:
    data = rows(n, (0, 1, 2, 3), seed=seed)
    noise = np.random.default_rng(seed).normal(0, 0.1, n)
    data["label"] = [100.0 + 10.0 * y + float(e) for y, e in zip(data["label"], noise, strict=True)]
    return data


def test_a_number_to_predict(fit: Fit, tmp_path: Path) -> None:
    test = amounts(60, seed=1)
    model = fit(amounts(120), strategy="tfidf", test_data=test, output_dir=tmp_path / "run")
    answers = model.predict(test["text"])
    assert {type(a) for a in answers} == {float}
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["task"] == "regress" and metrics["metric"] == "rmse"
    rmse = math.sqrt(np.mean((np.array(answers) - test["label"]) ** 2))
    assert metrics["value"] == pytest.approx(rmse)
    assert metrics["baseline"]["majority"]["value"] > 2 * rmse
    assert set(metrics["metrics"]) == {"rmse", "mae", "r2", "spearman"}
    with pytest.raises(acclimate.UserError, match="predict_proba speaks of classes"):
        model.predict_proba(test["text"])
    with pytest.raises(acclimate.UserError, match="--abstain-below needs probabilities"):
        model.predict_table(test, abstain_below=0.5)
    _, new = model.predict_table(test, conformal=0.9)
    assert [*new] == ["prediction", "low", "high"]
    inside = [a <= y <= b for a, y, b in zip(new["low"], test["label"], new["high"], strict=True)]
    assert 0.8 <= np.mean(inside) <= 1
    widths = {round(b - a, 5) for a, b in zip(new["low"], new["high"], strict=True)}
    assert len(widths) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"threshold": 0.3}, "threshold speaks of classes, and the task is regression"),
        ({"positive": 1}, "positive speaks of classes, and the task is regression"),
        ({"class_weight": "balanced"}, "class_weight speaks of classes, and regression has none"),
    ],
)
def test_what_speaks_of_classes_is_refused_for_numbers(setting: dict[str, Any], message: str, fit: Fit) -> None:
    with pytest.raises(acclimate.UserError, match=message):
        fit(amounts(60), strategy="linear_probe", **setting)


# -- decisions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def judged(fit: Fit) -> Callable[..., tuple[acclimate.Model, np.ndarray, list[Any]]]:
    """Fit the word model, and give the probability of "ill" and the answer for 100 new rows."""
    new = rows(100, ("ill", "well"), seed=7)["text"]

    def run(**settings: Any) -> tuple[acclimate.Model, np.ndarray, list[Any]]:
        model = fit(noisy(300), strategy="tfidf", **settings)
        return model, model.predict_proba(new)[:, model.classes_.index("ill")], model.predict(new)

    return run


def noisy(n: int, seed: int = 0) -> dict[str, list[Any]]:
    """Every fifth label is wrong, so that probabilities are not all 0 or 1."""
    data = rows(n, ("ill", "well"), seed=seed)
    data["label"] = [("well" if y == "ill" else "ill") if i % 10 in (3, 6) else y for i, y in enumerate(data["label"])]
    return data


def test_a_threshold_as_told(judged: Any) -> None:
    model, p, answers = judged(positive="ill", threshold=0.3)
    assert answers == ["ill" if v >= 0.3 else "well" for v in p]
    assert any(0.3 <= v < 0.5 for v in p)
    assert model.report_data.thresholds == {"positive": "ill", "threshold": 0.3}
    again = acclimate.load(model.run_dir)
    assert again.predictor.decoder == model.predictor.decoder
    _, p_well, answers = judged(positive="well", threshold=0.3)
    assert answers == ["well" if 1 - v >= 0.3 else "ill" for v in p_well]


def test_costs_choose_the_cheaper_answer(judged: Any) -> None:
    cost = {"ill": {"well": 9.0}, "well": {"ill": 1.0}}
    model, p, answers = judged(cost=cost)
    assert answers == ["ill" if 9.0 * v > 1 - v else "well" for v in p]
    assert model.report_data.thresholds["cost"] == [[0.0, 9.0], [1.0, 0.0]]
    assert acclimate.load(model.run_dir).predictor.decoder.cost == ((0.0, 9.0), (1.0, 0.0))


def test_a_specificity_holds_on_the_rows_it_was_chosen_by(judged: Any) -> None:
    strict, p, answers = judged(positive="ill", specificity=0.95)
    loose, _, _ = judged(positive="ill", specificity=0.6)
    t = strict.predictor.decoder.threshold
    assert loose.predictor.decoder.threshold < t
    assert answers == ["ill" if v >= t else "well" for v in p]
    assert strict.scores.per_class["well"]["recall"].value > loose.scores.per_class["well"]["recall"].value


def test_an_alert_budget_flags_about_that_share(judged: Any) -> None:
    model, p, answers = judged(positive="ill", alert_budget=0.1)
    assert 0.02 <= answers.count("ill") / 100 <= 0.25
    assert answers == ["ill" if v >= model.predictor.decoder.threshold else "well" for v in p]


def test_predictive_values_at_a_prevalence(judged: Any) -> None:
    model, _, _ = judged(positive="ill", prevalence=0.01)
    found = read_json(model.run_dir / "metrics.json")["at_prevalence"]
    table = np.array(model.scores.confusion)
    ill, well = model.classes_.index("ill"), model.classes_.index("well")
    s, t = table[ill, ill] / table[ill].sum(), table[well, well] / table[well].sum()
    assert found["ppv"]["value"] == pytest.approx(s * 0.01 / (s * 0.01 + (1 - t) * 0.99))
    assert found["npv"]["value"] == pytest.approx(t * 0.99 / (t * 0.99 + (1 - s) * 0.01))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.3, "specificity": 0.9}, "threshold and specificity each set the decision; give one of them"),
        ({"positive": "il"}, "unknown class for --positive 'il'; did you mean 'ill'"),
        ({"cost": {"ill": {"wel": 1.0}}}, "unknown class in the cost table 'wel'; did you mean 'well'"),
        ({"cost": {"ill": {"well": "dear"}}}, "the cost of 'well' for 'ill' must be a number, got 'dear'"),
        ({"threshold": 1.3}, "threshold 1.3 is not a share; give a number between 0 and 1"),
        ({"threshold": "0.3"}, "threshold '0.3' is not a share"),
        ({"specificity": 90}, "specificity 90 is not a share"),
        ({"alert_budget": -0.1}, "alert_budget -0.1 is not a share"),
        ({"prevalence": 0}, "prevalence 0 is not a share"),
    ],
)
def test_decisions_that_make_no_sense_are_refused_before_anything_is_fitted(
    settings: dict[str, Any], message: str, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("fitting began")

    monkeypatch.setattr("acclimate.api.fitting._choose_and_fit", never)
    with pytest.raises(acclimate.UserError, match=message):
        fit(noisy(40), strategy="tfidf", **settings)


def test_a_threshold_needs_two_classes(fit: Fit) -> None:
    with pytest.raises(acclimate.UserError, match="needs a task of two classes; this one is classify with 3"):
        fit(rows(45, ("a", "b", "c")), threshold=0.3)
    with pytest.raises(acclimate.UserError, match="positive 'a' is the class that a threshold is for"):
        fit(rows(45, ("a", "b", "c")), positive="a")
    with pytest.raises(acclimate.UserError, match="a cost table speaks of one class a row"):
        fit(several(60), label_delimiter=";", strategy="tfidf", cost={"joy": {"fear": 2}})


def test_prediction_sets_hold_the_truth_as_often_as_asked(fit: Fit) -> None:
    model = fit(noisy(400), strategy="tfidf", test_data=noisy(100, seed=2))
    new = noisy(300, seed=3)
    for level in (0.7, 0.9):
        _, columns = model.predict_table(new, conformal=level)
        held = [y in s.split("|") for y, s in zip(new["label"], columns["prediction_set"], strict=True)]
        assert level - 0.07 <= np.mean(held) <= level + 0.1
    for level in (-0.1, 1.0, 1.5):
        with pytest.raises(acclimate.UserError, match="between 0 and 1"):
            model.predict_table(new, conformal=level)


def test_an_uncertain_row_is_left_unanswered(fit: Fit) -> None:
    model = fit(noisy(300), strategy="tfidf")
    new = noisy(100, seed=4)
    _, plain = model.predict_table(new)
    _, columns = model.predict_table(new, abstain_below=0.7)
    assert columns["confidence"] == plain["confidence"]
    for answer, before, confidence, note in zip(
        columns["prediction"], plain["prediction"], plain["confidence"], columns["note"], strict=True
    ):
        unsure = confidence < 0.7
        assert (answer, note) == ((None, "abstained: confidence below 0.7") if unsure else (before, ""))
    assert 0 < columns["prediction"].count(None) < 100


def test_the_metric_can_be_named(fit: Fit) -> None:
    model = fit(rows(60), metric="f1_macro")
    assert model.scores is not None and model.scores.metric == "macro_f1"
    assert model.evaluate(rows(20, seed=1)).metric == "macro_f1"
    assert model.evaluate(rows(20, seed=1), metric="acc").metric == "accuracy"
