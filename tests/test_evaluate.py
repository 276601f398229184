"""From truth and answers to scores and verdicts, as a model's user meets them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from acclimate.errors import UserError, plural
from acclimate.evaluate import (
    Difference,
    Estimate,
    Scores,
    default_metric,
    difference,
    greater_is_better,
    metric_name,
    score,
    value,
)
from acclimate.metrics.calibration import bins_of
from acclimate.metrics.digest import Digest
from acclimate.metrics.tables import METRICS


def drawn(task: str, n: int = 120, k: int = 3, seed: int = 0) -> tuple[Any, Any, Any]:
    """Truth, outputs, decisions."""
    rng = np.random.default_rng(seed)
    if task == "regress":
        truth = rng.normal(size=n)
        given = truth + 0.5 * rng.normal(size=n)
        return truth, given, given
    if task == "multilabel":
        flags = (rng.random((n, k)) < 0.4).astype(np.int64)
        p = 1 / (1 + np.exp(-(rng.normal(size=(n, k)) + 2 * flags - 1)))
        return flags, p, (p > 0.5).astype(np.int64)
    codes = rng.integers(k, size=n)
    z = rng.normal(size=(n, k)) + 1.5 * (codes[:, None] == np.arange(k))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return codes, p, p.argmax(axis=1)


def numbers(data: Any) -> list[float]:
    """Every number anywhere in a piece of JSON."""
    if isinstance(data, dict):
        return [x for v in data.values() for x in numbers(v)]
    if isinstance(data, list):
        return [x for v in data for x in numbers(v)]
    return [data] if isinstance(data, float) else []


def checked(scores: Scores) -> Scores:
    """No NaN gets out, JSON gives back the same, limits hold the value, and there are words for what is missing."""
    data = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert all(math.isfinite(x) for x in numbers(data))
    assert Scores.from_json(data) == scores
    assert str(scores).startswith(f"{scores.task}, {plural(scores.n, 'row')}\n  {scores.metric} ")
    tables = [scores.estimates, *scores.per_class.values(), *scores.gaps.values()]
    tables += [row for rows in scores.per_subgroup.values() for row in rows.values()]
    for name, e in ((name, e) for row in tables for name, e in row.items()):
        assert e.value is not None or (e.low is None and e.note), name
        assert (e.low is None) == (e.high is None)
        if e.low is not None and e.high is not None and e.value is not None:
            assert e.covers and e.method
            assert name == "calibration_error" or e.low <= e.value <= e.high, name
        elif e.value is not None and name != "support":
            assert e.note, name
    return scores


TASKS = ["classify", "ordinal", "multilabel", "regress"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("extras", ["plain", "weights", "clusters", "both"])
def test_every_metric_has_its_interval_and_its_n(task: str, extras: str) -> None:
    truth, outputs, predicted = drawn(task)
    given: dict[str, Any] = {}
    if extras in ("weights", "both"):
        given["weights"] = np.random.default_rng(1).uniform(0.5, 2, size=120)
    if extras in ("clusters", "both"):
        given["clusters"] = [f"patient {i // 3}" for i in range(120)]
    names = () if task == "regress" else ("a", "b", "c")
    scores = checked(score(task, truth, outputs, predicted, names, resamples=200, **given))
    wanted = set(METRICS[task]) - ({"quadratic_kappa"} if task == "classify" else set())
    assert set(scores.estimates) == wanted
    for name, e in scores.estimates.items():
        assert (e.n, e.low is None) == (120, False), name
        assert ("clusters" in e.covers) == ("clusters" in given)
        assert e.value == pytest.approx(value(task, name, truth, outputs, predicted, given.get("weights")), abs=1e-12)
    assert (scores.value, scores.low) == (scores.estimates[scores.metric].value, scores.estimates[scores.metric].low)
    notes = " ".join(scores.notes)
    assert ("40 clusters" in notes) == ("clusters" in given) and ("weighted" in notes) == ("weights" in given)


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_the_rows_changes_nothing(task: str) -> None:
    n = 260  # above 200 the jackknife leaves out blocks of rows
    truth, outputs, predicted = drawn(task, n)
    rng = np.random.default_rng(2)
    weights, clusters = rng.uniform(0.5, 2, size=n).round(1), rng.integers(60, size=n)
    place = rng.choice(["north", "south"], size=n)
    other = drawn(task, n, seed=9)[1:]
    found, gaps = [], []
    for rows in (np.arange(n), rng.permutation(n)):
        extra: dict[str, Any] = {"weights": weights[rows], "clusters": clusters[rows]}
        mine = outputs[rows], predicted[rows]
        found.append(
            score(task, truth[rows], *mine, subgroups={"place": place[rows].tolist()}, resamples=100, **extra).to_json()
        )
        for metric in METRICS[task]:
            gaps.append(difference(task, metric, truth[rows], mine, (other[0][rows], other[1][rows]), **extra))
    assert found[0] == found[1]
    half = len(gaps) // 2
    for a, b in zip(gaps[:half], gaps[half:], strict=True):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-12), a.metric


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_few_rows_give_words_instead_of_intervals(task: str, n: int) -> None:
    truth, outputs, predicted = drawn(task, n)
    scores = checked(score(task, truth, outputs, predicted, subgroups={"s": ["x"] * n}, resamples=100))
    assert scores.n == n
    assert scores.reliability is None or len(scores.reliability) > 0
    for name, e in scores.estimates.items():
        if n == 0:
            assert e == Estimate(None, n=0, note="no rows")
        elif name not in ("accuracy", "subset_accuracy", "empty_rate"):  # Wilson's interval holds at any n
            assert e.low is None and e.note, name
    if n:
        assert {e.note for e in scores.per_subgroup["s"]["x"].values()} == {"too few"}


def test_a_perfect_score_is_not_certain() -> None:
    truth = np.array([0] * 30 + [1] * 30)
    proba = np.where(truth[:, None] == np.arange(2), 0.95, 0.05)
    scores = checked(score("classify", truth, proba, truth, ["a", "b"], resamples=200))
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "roc_auc", "average_precision"):
        e = scores.estimates[name]
        assert e.value == 1.0 and e.high == 1.0 and e.low is not None, name
        assert (0.85 if name != "mcc" else 0.7) < e.low < 0.96, name
    assert scores.estimates["accuracy"].low == pytest.approx(0.9398, abs=1e-4)  # Wilson, 60 of 60


def test_one_class_in_truth_and_constant_predictions() -> None:
    proba = np.tile([0.9, 0.1], (40, 1))
    zeros = np.zeros(40, dtype=np.int64)
    one = checked(score("classify", zeros, proba, zeros, ["a", "b"], resamples=100))
    assert one.estimates["roc_auc"].value is None and "one class only" in one.estimates["roc_auc"].note
    assert one.estimates["accuracy"].value == 1.0
    assert one.metric == "balanced_accuracy"
    assert any("one class only" in note for note in one.notes) and any("not in these rows: b" in n for n in one.notes)
    mixed = np.array([0] * 20 + [1] * 20)
    constant = checked(score("classify", mixed, proba, zeros, ["a", "b"], resamples=100))
    assert constant.estimates["balanced_accuracy"].value == 0.5 and constant.estimates["mcc"].value == 0.0
    assert constant.estimates["roc_auc"].value == 0.5
    assert constant.per_class["b"]["precision"] == Estimate(None, n=0, note="never predicted")


def test_regression_on_constants() -> None:
    y = np.full(30, 2.0)
    flat = checked(score("regress", y, y + 1, y + 1, resamples=100))
    assert flat.estimates["rmse"].value == 1.0 and flat.estimates["rmse"].low is None
    assert "same value" in flat.estimates["rmse"].note
    assert flat.estimates["r2"].value is None and flat.estimates["spearman"].value is None
    x = np.arange(30.0)
    level = checked(score("regress", x, y, y, resamples=100))
    assert level.estimates["spearman"].value is None
    perfect = checked(score("regress", x, x, x, resamples=100))
    assert perfect.estimates["rmse"].value == 0.0 and perfect.estimates["r2"].value == 1.0


def test_rows_of_a_class_never_seen_are_wrong_and_named() -> None:  # case F3
    truth, proba, predicted = drawn("classify", 100, 2)
    truth[:10] = -1
    scores = checked(
        score("classify", truth, proba, predicted, ["a", "b"], unseen=["c", "c", "d"], metric="accuracy", resamples=100)
    )
    assert scores.value == pytest.approx((truth == predicted).mean())
    assert "10 of 100 rows have a class that was never seen in training (c, d)" in scores.notes[0]
    assert scores.estimates["log_loss"].n == 90 and "10 rows of unseen classes" in scores.estimates["log_loss"].note
    assert scores.confusion is not None and sum(map(sum, scores.confusion)) == 90
    assert list(scores.per_class) == ["a", "b"]
    ordinal = checked(score("ordinal", truth, proba, predicted, ["a", "b"], resamples=100))
    assert ordinal.estimates["mae"].value == pytest.approx((truth != predicted).mean())
    labels = checked(score("multilabel", *drawn("multilabel"), ["a", "b", "c"], unseen=["zebra"], resamples=100))
    assert any("(zebra)" in note for note in labels.notes)


def test_a_class_that_is_not_in_these_rows_is_left_out_of_averages_and_named() -> None:  # case F3
    truth, proba, predicted = drawn("classify", 100, 2)
    wide = np.hstack([proba, np.zeros((100, 1))])
    scores = checked(score("classify", truth, wide, predicted, ["a", "b", "c"], resamples=100))
    narrow = score("classify", truth, proba, predicted, ["a", "b"], resamples=100)
    for name in ("macro_f1", "balanced_accuracy"):
        assert scores.estimates[name].value == narrow.estimates[name].value
    assert "not in these rows: c" in scores.notes[0]
    assert scores.per_class["c"]["recall"].note == "not in truth" and scores.per_class["c"]["support"].value == 0


def test_a_skewed_set_is_judged_by_balanced_accuracy() -> None:  # case F8
    truth = np.array([0] * 190 + [1] * 10)
    proba = np.tile([0.95, 0.05], (200, 1))
    majority = score("classify", truth, proba, proba.argmax(axis=1), ["usual", "rare"], resamples=100)
    assert majority.metric == "balanced_accuracy" and majority.value == 0.5
    assert majority.estimates["accuracy"].value == 0.95
    assert majority.estimates["macro_f1"].value == pytest.approx(190 / 390 * 2 / 2, abs=1e-3)
    model = np.where(truth[:, None] == np.arange(2), 0.9, 0.1)
    found = difference("classify", "balanced_accuracy", truth, (model, truth), (proba, proba.argmax(axis=1)))
    assert (found.value, found.verdict) == (0.5, "better")


def test_tables_reconcile() -> None:
    truth, proba, predicted = drawn("classify", 200)
    scores = score("classify", truth, proba, predicted, ["a", "b", "c"], resamples=100)
    assert scores.confusion is not None and scores.reliability is not None
    table = np.array(scores.confusion)
    assert table.sum() == 200 and scores.estimates["accuracy"].value == pytest.approx(np.trace(table) / 200)
    for c, name in enumerate(scores.classes):
        row = scores.per_class[name]
        assert row["support"].value == table[c].sum() == row["recall"].n
        assert row["recall"].value == pytest.approx(table[c, c] / table[c].sum())
        assert row["precision"].value == pytest.approx(table[c, c] / table[:, c].sum())
        assert row["precision"].n == table[:, c].sum()
    assert sum(b["n"] for b in scores.reliability) == 200
    assert sum(b["n"] * b["accuracy"] for b in scores.reliability) == pytest.approx(np.trace(table))
    assert sum(b["n"] * b["confidence"] for b in scores.reliability) == pytest.approx(proba.max(axis=1).sum())


def test_clusters_widen_intervals() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 10)
    truth = rng.integers(2, size=300)
    wrong = rng.random(30)[groups] < 0.3  # whole clusters are wrong
    predicted = np.where(wrong, 1 - truth, truth)
    proba = np.where(predicted[:, None] == np.arange(2), 0.8, 0.2)
    y = rng.normal(size=30)[groups]
    cases: list[tuple[str, tuple[Any, Any, Any]]] = [
        ("classify", (truth, proba, predicted)),
        ("regress", (np.zeros(300), y, y)),
    ]
    for task, arrays in cases:
        rows = score(task, *arrays, resamples=300)
        whole = score(task, *arrays, clusters=groups, resamples=300)
        for name in ("accuracy", "macro_f1", "roc_auc", "log_loss") if task == "classify" else ("rmse", "mae"):
            a, b = rows.estimates[name], whole.estimates[name]
            assert a.value == pytest.approx(b.value)
            assert None not in (a.low, a.high, b.low, b.high)
            assert b.high - b.low > 1.5 * (a.high - a.low), name  # type: ignore[operator]


def test_few_clusters_say_so() -> None:
    truth, proba, predicted = drawn("classify", 60)
    scores = checked(score("classify", truth, proba, predicted, clusters=np.arange(60) % 4, resamples=100))
    assert "n too small for an interval (4 clusters" in scores.estimates["macro_f1"].note
    single = checked(score("classify", truth, proba, predicted, clusters=np.zeros(60), resamples=100))
    assert single.estimates["accuracy"].low is None and "single cluster" in single.estimates["accuracy"].note


def test_subgroups_gaps_and_too_few() -> None:
    truth = np.array([0, 1] * 60)
    place = ["north"] * 50 + ["south"] * 62 + [None] * 8
    predicted = truth.copy()
    predicted[50:90] = 1 - predicted[50:90]  # the south is served badly
    proba = np.where(predicted[:, None] == np.arange(2), 0.8, 0.2)
    scores = checked(score("classify", truth, proba, predicted, ["no", "yes"], subgroups={"place": place}))
    table = scores.per_subgroup["place"]
    assert list(table) == ["(blank)", "north", "south"]
    assert (table["south"]["accuracy"].value, table["south"]["accuracy"].n) == (pytest.approx(22 / 62), 62)
    assert table["(blank)"]["accuracy"].note == "too few"
    assert table["north"]["sensitivity"].value == 1.0 and table["north"]["sensitivity"].n == 25
    gap = scores.gaps["place"]["accuracy"]
    assert gap.value == pytest.approx(1 - 22 / 62) and gap.low is not None and gap.low > 0.3
    assert gap.note == "north against south"
    with pytest.raises(ValueError, match="2 subgroup values of .place. for 120 rows"):
        score("classify", truth, proba, predicted, subgroups={"place": ["a", "b"]})


def test_the_positive_class_of_average_precision() -> None:
    truth, proba, predicted = drawn("classify", 100, 2)
    first = score("classify", truth, proba, predicted, positive=0, resamples=50).estimates["average_precision"]
    swapped = score("classify", 1 - truth, proba[:, ::-1], 1 - predicted, resamples=50).estimates["average_precision"]
    assert first.value == pytest.approx(swapped.value)
    assert first.value != pytest.approx(score("classify", truth, proba, predicted, resamples=50).estimates["average_precision"].value)  # fmt: skip # noqa: E501


def test_names_of_metrics() -> None:
    for text, name in {
        "ACC": "accuracy",
        "f1-macro": "macro_f1",
        "AUROC": "roc_auc",
        "R²": "r2",
        "R2": "r2",
        "root mean squared error": "rmse",
        "qwk": "quadratic_kappa",
        "Balanced Accuracy": "balanced_accuracy",
    }.items():
        assert metric_name(text) == name
    assert metric_name("ap", "multilabel") == "mean_average_precision"
    assert metric_name("accuracy", "multilabel") == "subset_accuracy"
    with pytest.raises(UserError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        metric_name("acuracy")
    with pytest.raises(UserError, match="unknown metric for regress 'accuracy'"):
        metric_name("accuracy", "regress")
    for task, metrics in METRICS.items():
        for name in metrics:
            assert metric_name(name, task) == name


def test_which_metric_decides() -> None:
    assert default_metric("classify", {"a": 80, "b": 20}) == "accuracy"
    assert default_metric("classify", [81, 19]) == "balanced_accuracy"
    assert default_metric("classify") == default_metric("classify", []) == "accuracy"
    assert [default_metric(t) for t in ("ordinal", "multilabel", "regress")] == ["quadratic_kappa", "macro_f1", "rmse"]
    with pytest.raises(UserError, match="did you mean 'regress'"):
        default_metric("regres")
    assert greater_is_better("classify", "macro_f1") and not greater_is_better("regress", "rmse")


def test_numbers_that_are_not_finite_are_refused() -> None:
    truth, proba, predicted = drawn("classify", 50, 2)
    proba[3] = np.nan
    with pytest.raises(UserError, match="1 of 50 rows have outputs that are not finite numbers"):
        score("classify", truth, proba, predicted)
    y, given, _ = drawn("regress", 50)
    with pytest.raises(UserError, match="1 of 50 rows have truth that are not finite"):
        score("regress", np.where(np.arange(50) == 1, np.inf, y), given, given)
    with pytest.raises(UserError, match="row weights must not be negative"):
        score("regress", y, given, given, weights=np.full(50, -1.0))
    with pytest.raises(UserError, match="unknown task 'clasify'; did you mean 'classify'"):
        score("clasify", y, given, given)


def test_shapes_that_do_not_fit_are_refused() -> None:
    truth, proba, predicted = drawn("classify", 50, 3)
    with pytest.raises(ValueError, match="do not fit each other"):
        score("classify", truth[:-1], proba, predicted)
    with pytest.raises(ValueError, match="2 classes were named for 3 columns"):
        score("classify", truth, proba, predicted, ["a", "b"])
    with pytest.raises(ValueError, match="49 clusters were given for 50 rows"):
        score("classify", truth, proba, predicted, clusters=np.arange(49))


def two(task: str, n: int, better: float, worse: float, seed: int = 0) -> tuple[Any, Any, Any]:
    """Truth and two models with noise of these sizes around the same evidence."""
    rng = np.random.default_rng(seed)
    if task == "regress":
        y = rng.normal(size=n)
        both = [y + s * rng.normal(size=n) for s in (better, worse)]
        return y, (both[0], both[0]), (both[1], both[1])
    truth = rng.integers(2, size=n)
    models = []
    for s in (better, worse):
        p = 1 / (1 + np.exp(-2 * (truth - 0.5 + s * rng.normal(size=n))))
        models.append((np.stack([1 - p, p], axis=1), (p > 0.5).astype(np.int64)))
    return truth, models[0], models[1]


VERDICTS = [("classify", m) for m in METRICS["classify"] if m not in ("calibration_error", "quadratic_kappa")]
VERDICTS += [("regress", m) for m in METRICS["regress"]]


@pytest.mark.parametrize(("task", "metric"), VERDICTS)
def test_verdicts_are_about_a_whichever_way_the_metric_points(task: str, metric: str) -> None:
    truth, good, bad = two(task, 400, 0.3, 1.5)
    ahead = difference(task, metric, truth, good, bad)
    behind = difference(task, metric, truth, bad, good)
    assert (ahead.verdict, behind.verdict) == ("better", "worse")
    assert ahead.value is not None and (ahead.value > 0) is greater_is_better(task, metric)
    assert (-ahead.value, -ahead.high, -ahead.low) == pytest.approx(  # type: ignore[operator]
        (behind.value, behind.low, behind.high), abs=1e-12
    )
    assert ahead.value == pytest.approx(value(task, metric, truth, *good) - value(task, metric, truth, *bad))
    truth, a, b = two(task, 40, 0.8, 0.8, seed=1)
    assert difference(task, metric, truth, a, b).verdict == "not decidable"


@pytest.mark.parametrize("task", TASKS)
def test_a_model_is_not_better_than_itself(task: str) -> None:
    truth, outputs, predicted = drawn(task)
    for metric in METRICS[task]:
        found = difference(task, metric, truth, (outputs, predicted), (outputs, predicted))
        assert (found.value, found.verdict) == (0.0, "not decidable"), metric
        assert found.low is None or found.low < 0 < found.high, metric  # type: ignore[operator]


@pytest.mark.parametrize("n", [0, 1, 5, 9])
def test_few_rows_decide_nothing_but_shares(n: int) -> None:
    truth, a, b = two("regress", n, 0.1, 3.0)
    found = difference("regress", "rmse", truth, a, b)
    assert found.verdict == "not decidable" and found.low is None and found.note


def test_pairing_sees_what_two_separate_intervals_cannot() -> None:
    rng = np.random.default_rng(0)
    y, hard = rng.normal(size=200), 3 * rng.normal(size=200)
    a, b = y + hard, y + 1.1 * hard  # both fail on the same rows
    found = difference("regress", "rmse", y, (a, a), (b, b))
    apart = [score("regress", y, o, o).estimates["rmse"] for o in (a, b)]
    assert found.verdict == "better"
    assert apart[0].high is not None and apart[1].low is not None and apart[0].high > apart[1].low


def test_a_flawless_model_against_a_constant_one() -> None:
    """Neither score changes when a row is left out, and yet the difference is plain."""
    truth = np.array([0] * 90 + [1] * 30)
    right = np.where(truth[:, None] == np.arange(2), 0.9, 0.1)
    still = np.tile([0.9, 0.1], (120, 1))
    for metric in ("balanced_accuracy", "macro_f1", "mcc", "roc_auc", "average_precision"):
        found = difference("classify", metric, truth, (right, truth), (still, still.argmax(axis=1)))
        assert found.verdict == "better", metric
        assert found.low is not None and found.high is not None and found.high - found.low > 0.03, metric
        assert difference("classify", metric, truth, (still, still.argmax(axis=1)), (right, truth)).verdict == "worse"


def test_clusters_can_make_a_difference_undecidable() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(12), 20)
    truth = np.zeros(240)
    a = np.ones(240)
    b = 1 + (rng.random(12) < 0.6)[cluster] * 0.5 - (rng.random(12) < 0.4)[cluster] * 0.5
    rows = difference("regress", "mae", truth, (a, a), (b, b))
    whole = difference("regress", "mae", truth, (a, a), (b, b), clusters=cluster)
    assert rows.value == pytest.approx(whole.value)
    assert None not in (rows.low, rows.high, whole.low, whole.high)
    assert whole.high - whole.low > 2 * (rows.high - rows.low)  # type: ignore[operator]
    assert "clusters" in whole.covers


def test_a_difference_as_json() -> None:
    truth, a, b = two("classify", 100, 0.3, 1.5)
    found = difference("classify", "acc", truth, a, b)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert Difference(**data) == found and data["metric"] == "accuracy"


def test_scores_carry_baselines_and_uses() -> None:
    truth, proba, predicted = drawn("classify", 100, 2)
    scores = score("classify", truth, proba, predicted, ["a", "b"], resamples=100)
    assert not {"baseline", "uses"} & set(scores.to_json())
    still = np.tile([0.5, 0.5], (100, 1))
    gap = difference("classify", scores.metric, truth, (proba, predicted), (still, np.zeros(100, dtype=np.int64)))
    beside = score("classify", truth, still, np.zeros(100, dtype=np.int64), resamples=100).estimates[scores.metric]
    from dataclasses import replace

    full = checked(replace(scores, baseline={"majority": {**beside.to_json(), "difference": gap.to_json()}}, uses=3))
    assert full.to_json()["uses"] == 3
    assert full.to_json()["baseline"]["majority"]["difference"]["verdict"] == "better"
    text = str(full)
    assert f"majority (accuracy): {beside.value:.3f} [" in text and "this model less it 0." in text
    assert ", better\n" in text and "scored 3 times" in text


def test_the_text_of_many_classes_stops_at_twenty() -> None:
    truth, proba, predicted = drawn("classify", 400, 25)
    scores = score("classify", truth, proba, predicted, [f"class {i}" for i in range(25)], resamples=50)
    text = str(scores)
    assert "class 19: precision" in text and "class 20:" not in text and "... and 5 more classes" in text


def test_the_text_of_an_estimate_has_digits_that_count() -> None:
    assert str(Estimate(0.81234, 0.7, 0.9, 50)) == "0.812 [0.700, 0.900] (n = 50)"
    assert str(Estimate(1234.5678, 1100.0, 1300.0, 50)) == "1235 [1100, 1300] (n = 50)"
    assert str(Estimate(0.00012345, 0.0001, 0.0002, 50)) == "0.000123 [0.000100, 0.000200] (n = 50)"
    assert str(Estimate(0.0, n=3, note="too few")) == "0.000 (n = 3; too few)"
    assert str(Estimate(None, note="no rows")) == "- (no rows)"


def test_above_a_hundred_classes_nothing_is_ranked_and_the_notes_say_so() -> None:
    truth, proba, predicted = drawn("classify", 600, 120)
    scores = checked(score("classify", truth, proba, predicted, resamples=50))
    assert scores.confusion is None
    for name in ("roc_auc", "average_precision"):
        estimate = scores.estimates[name]
        assert estimate.value is None and estimate.note.startswith("not measured above 100 classes")
    assert any(note.startswith("120 classes: above 100, ROC-AUC") for note in scores.notes)
    with pytest.raises(UserError, match="roc_auc is not measured above 100 classes.* there are 120; choose by"):
        score("classify", truth, proba, predicted, metric="auc")


def test_a_digest_gives_the_numbers_of_the_probabilities() -> None:
    truth, proba, predicted = drawn("classify", 600, 120)
    truth[:3] = -1
    mine = score("classify", truth, proba, predicted, resamples=50)
    few = value("classify", "log_loss", truth, proba, predicted), value("classify", "brier", truth, proba, predicted)
    own = proba[np.arange(3, 600), truth[3:]]
    assert few[0] == pytest.approx(-np.log(own).mean(), rel=1e-12)
    hot = np.eye(120)[np.maximum(truth, 0)] * (truth >= 0)[:, None]
    missed = (truth < 0) * 1.0  # an unseen class lies outside of the columns
    assert few[1] == pytest.approx((((proba - hot) ** 2).sum(1) + missed).mean(), rel=1e-12)
    assert (mine.estimates["log_loss"].value, mine.estimates["brier"].value) == pytest.approx(few, rel=1e-12)
    claimed, right = proba.max(1), proba.argmax(1) == truth
    place = bins_of(claimed)
    gaps = [abs((right[place == b] - claimed[place == b]).sum()) for b in range(place.max() + 1)]
    assert mine.estimates["calibration_error"].value == pytest.approx(sum(gaps) / 600, rel=1e-12)
    shuffled = np.random.default_rng(0).permutation(600)
    given = Digest.of(truth, proba, predicted)[shuffled]
    assert score("classify", truth[shuffled], given, predicted[shuffled], resamples=50) == mine


def test_the_gap_of_three_subgroups_allows_for_having_picked_the_extremes() -> None:
    truth = np.zeros(90, dtype=np.int64)
    predicted = np.array(([0] * 27 + [1] * 3) + ([0] * 20 + [1] * 10) + ([0] * 12 + [1] * 18))
    proba = np.where(predicted[:, None] == np.arange(2), 0.8, 0.2)
    place = ["x"] * 30 + ["y"] * 30 + ["z"] * 30
    scores = score("classify", truth, proba, predicted, metric="accuracy", subgroups={"place": place}, resamples=50)
    top, bottom = (scores.per_subgroup["place"][name]["accuracy"] for name in ("x", "z"))
    assert None not in (top.value, top.low, bottom.value, bottom.high)
    widen = 2.393980 / 1.959964  # normal quantiles at 1 - 0.025/3 and 0.975
    down = widen * math.hypot(top.value - top.low, bottom.high - bottom.value)  # type: ignore[operator]
    gap = scores.gaps["place"]["accuracy"]
    assert (gap.value, gap.low) == pytest.approx((0.5, 0.5 - down), abs=1e-5)


def test_a_flawless_average_over_classes_is_worth_fewer_rows_where_one_class_is_rare() -> None:
    truth = np.array([0] * 90 + [1] * 10)
    proba = np.where(truth[:, None] == np.arange(2), 0.95, 0.05)
    found = score("classify", truth, proba, truth, resamples=50).estimates["macro_f1"]
    assert found.low == pytest.approx(36 / (36 + 1.959964**2), abs=1e-6)  # Wilson, 36 of 36; 36 = 4 / (1/90 + 1/10)
