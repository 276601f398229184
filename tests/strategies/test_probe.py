from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Splits
from acclimate.strategies.probe import STRENGTHS, Probe, inner
from acclimate.tasks import TASKS

RUN = Run()


def fit(probe: Probe, backbone: Any, data: Data, task: str = "classify", valid: Data | None = None, **more: Any) -> Any:
    kind = {"classify": "str", "ordinal": "int", "multilabel": "list", "regress": "float"}[task]
    problem = tm.problem_of(task, data, kind, backbone, RUN, **more)
    return probe.fit(problem, Splits(data, valid), RUN), problem


def test_the_probe_is_logistic_regression_on_standardised_features(shared_bert: Any) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    data, _ = tm.task_rows("classify", 60)
    fitted, problem = fit(Probe(strength=3.0), shared_bert, data)
    raw = problem.store.get(data.inputs).astype(np.float64)
    x = StandardScaler().fit_transform(raw) / np.sqrt(raw.shape[1])
    theirs = LogisticRegression(C=3.0, tol=1e-10, max_iter=5000).fit(x, data.labels)
    assert fitted.decoder.classes == tuple(theirs.classes_)
    assert fitted.outputs(data.inputs) == pytest.approx(theirs.predict_proba(x), abs=1e-3)


def test_a_regression_probe_is_ridge(shared_bert: Any) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    data, _ = tm.task_rows("regress", 60)
    fitted, problem = fit(Probe(strength=1.0), shared_bert, data, "regress")
    raw = problem.store.get(data.inputs).astype(np.float64)
    x, y = StandardScaler().fit_transform(raw) / np.sqrt(raw.shape[1]), np.array(data.labels)
    # The target is standardised too, which scales both sides alike.
    theirs = Ridge(alpha=0.5).fit(x, (y - y.mean()) / y.std())
    assert fitted.outputs(data.inputs) == pytest.approx(theirs.predict(x) * y.std() + y.mean(), abs=1e-2)


def test_the_strength_comes_from_folds_inside_the_training_rows(shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 60)
    fitted, problem = fit(Probe(), shared_bert, data)
    losses = []
    for strength in STRENGTHS:
        total = 0.0
        for learn, judge in inner(data, "classify", 4, RUN.seed):
            head = Probe(strength=strength).fit(problem, Splits(data.take(learn)), RUN)
            logits = torch.from_numpy(head.logits(data.take(judge).inputs))
            total += float(TASKS["classify"].losses(logits, torch.from_numpy(problem.targets(data.take(judge)))).sum())
        losses.append(total)
    # Here each fold is standardised by itself, there once: the choice is as good as the best to 2 %.
    assert losses[STRENGTHS.index(fitted.settings["strength"])] < 1.02 * min(losses)
    assert fitted.notes == (f"linear_probe: C = {fitted.settings['strength']:g}",)


def test_rows_to_choose_by_are_used_where_given(shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 48)
    noise = Data(data.inputs, tuple(np.random.default_rng(0).permutation(np.array(data.labels)).tolist()))
    strong, _ = fit(Probe(), shared_bert, data, valid=tm.task_rows("classify", 60)[0])
    weak, _ = fit(Probe(), shared_bert, data, valid=noise)
    assert weak.settings["strength"] == STRENGTHS[0]  # nothing carries over to random labels
    assert strong.settings["strength"] > STRENGTHS[0]


@pytest.mark.parametrize("words", [False, True])
def test_a_class_that_only_the_validation_rows_hold_is_passed_over(words: bool, shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 48)
    valid = tm.rows(12, labels=("good", "strange", "bad"), seed=3)
    known = valid.take([i for i, y in enumerate(valid.labels or ()) if y != "strange"])
    with_it, _ = fit(Probe(plain=words), shared_bert, data, valid=valid)
    without, _ = fit(Probe(plain=words), shared_bert, data, valid=known)
    assert with_it.settings == without.settings
    none, _ = fit(Probe(), shared_bert, data, valid=tm.rows(6, labels=("odd", "strange")))
    assert none.settings["strength"] in STRENGTHS


def test_the_order_of_the_rows_does_not_matter(shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 42)
    order = np.random.default_rng(1).permutation(42)
    for probe in (Probe(strength=1.0), Probe(strength=1.0, plain=True)):
        a, _ = fit(probe, shared_bert, data)
        b, _ = fit(probe, shared_bert, data.take(order))
        assert a.logits(data.inputs) == pytest.approx(b.logits(data.inputs), abs=1e-4)


def test_a_weight_of_zero_is_a_row_left_out(shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 42)
    weights = np.ones(42)
    weights[:9] = 0
    for probe in (Probe(), Probe(plain=True)):
        a, _ = fit(probe, shared_bert, replace(data, weights=weights))
        b, _ = fit(probe, shared_bert, data.take(range(9, 42)))
        assert a.settings == b.settings
        assert np.array_equal(a.logits(data.inputs), b.logits(data.inputs))


def test_weights_of_nothing_but_zero_are_refused(shared_bert: Any) -> None:
    data, _ = tm.task_rows("classify", 12)
    with pytest.raises(UserError, match="every weight in <memory> is zero"):
        fit(Probe(), shared_bert, replace(data, weights=np.zeros(12)))


def test_weights_say_which_rows_count_more(shared_bert: Any) -> None:
    """Two opposite labels for one text: the heavier one wins."""
    texts = ("good table river", "good table river", "bad stone paper", "bad stone paper")
    data = Data(texts * 4, ("yes", "no", "no", "yes") * 4, clusters=np.arange(16))
    for weights, expected in (([3.0, 1, 3, 1], ["yes", "no"]), ([1.0, 3, 1, 3], ["no", "yes"])):
        fitted, _ = fit(Probe(strength=30.0), shared_bert, replace(data, weights=np.array(weights * 4)))
        p = fitted.outputs([texts[0], texts[2]])
        assert fitted.task.answers(fitted.task.decide(p, fitted.decoder), fitted.decoder) == expected
        assert p.max(1).tolist() == pytest.approx([0.75, 0.75], abs=0.05)


def test_class_weights_lift_the_rare_class(shared_bert: Any) -> None:
    """F8: 95 % one class, and a rare one that can be told apart."""
    common = tuple(f"bad awful {word} {i}" for i in range(19) for word in ("table", "river", "stone", "paper", "door"))
    rare = tuple(f"good lovely warm kind {i}" for i in range(25))
    data = Data(common + rare[:5], ("common",) * 95 + ("rare",) * 5)

    def recall(class_weight: object) -> float:
        fitted, _ = fit(Probe(strength=0.1), shared_bert, data, class_weight=class_weight)
        return float((fitted.outputs(rare[5:]).argmax(1) == 1).mean())

    assert recall(None) == 0.0
    assert recall("balanced") > 0.9
    assert recall((1.0, 19.0)) == recall("balanced")  # 95 against 5 is 19 to 1


def test_rare_labels_are_found_once_their_thresholds_are_tuned() -> None:
    """F9: forty labels, each on one row in twenty; at ½ a cautious model names none of them."""
    from acclimate.metrics.decisions import multilabel_thresholds

    rng = np.random.default_rng(0)
    hot = rng.random((600, 40)) < 0.05
    texts = tuple("the " + " ".join(f"word{j}" for j in np.flatnonzero(row)) for row in hot)
    data = Data(texts, tuple(tuple(f"l{j:02}" for j in np.flatnonzero(row)) for row in hot), clusters=np.arange(600))
    learn, tune, judge = data.take(range(300)), data.take(range(300, 450)), data.take(range(450, 600))
    fitted, problem = fit(Probe(features=False, plain=True, strength=0.1), None, learn, "multilabel")
    plain = fitted.task.decide(fitted.outputs(judge.inputs), fitted.decoder)
    assert plain.sum() == 0
    thresholds = multilabel_thresholds(problem.targets(tune), fitted.outputs(tune.inputs))
    tuned = replace(fitted.decoder, thresholds=tuple(map(float, thresholds)))
    decided = fitted.task.decide(fitted.outputs(judge.inputs), tuned)
    truth = problem.targets(judge)
    hits = (decided * truth).sum()
    assert 2 * hits / (decided.sum() + truth.sum()) > 0.9  # micro F1


def test_the_hybrid_reads_what_the_backbone_cannot(shared_bert: Any) -> None:
    """A code word in digits that is one [UNK] to the tokeniser, but a word to TF-IDF."""
    texts = tuple(f"table river {'四四' if i % 2 else '五五'} stone" for i in range(40))
    data = Data(texts, tuple("even" if i % 2 else "odd" for i in range(40)), clusters=np.arange(40))
    probe, _ = fit(Probe(), shared_bert, data)
    hybrid, _ = fit(Probe(plain=True), shared_bert, data)
    tfidf, _ = fit(Probe(features=False, plain=True), None, data)
    assert abs(probe.outputs(texts)[:, 0] - 0.5).max() < 0.01
    for fitted in (hybrid, tfidf):
        assert fitted.outputs(texts)[1::2, 0].min() > 0.9
        assert fitted.outputs(texts)[::2, 0].max() < 0.1
    assert tfidf.backbone is None
    assert (probe.strategy, hybrid.strategy, tfidf.strategy) == ("linear_probe", "hybrid", "tfidf")


def test_texts_without_a_word() -> None:
    data = Data(("!!", "??", "...", "--"), ("a", "b", "a", "b"))
    with pytest.raises(UserError, match="no text holds a single word"):
        fit(Probe(features=False, plain=True), None, data)


def test_a_hybrid_without_any_word_is_a_probe(shared_bert: Any) -> None:
    data = Data(("!!", "??", "...", "--", "!?", ".-"), ("a", "b") * 3)
    fitted, _ = fit(Probe(plain=True, strength=1.0), shared_bert, data)
    assert fitted.plain is None
    assert fitted.outputs(data.inputs).shape == (6, 2)


def test_few_or_tied_rows_are_not_folded() -> None:
    data, _ = tm.task_rows("classify", 6)
    assert inner(data, "classify", 4, 0) == []
    tied = replace(tm.task_rows("classify", 12)[0], groups=("one",) * 12)
    assert inner(tied, "classify", 4, 0) == []


def test_folds_keep_groups_together() -> None:
    data = replace(tm.rows(40), groups=tuple(str(i // 4) for i in range(40)))
    pairs = inner(data, "classify", 4, 0)
    assert len(pairs) == 4
    for learn, judge in pairs:
        assert not {i // 4 for i in learn} & {i // 4 for i in judge}


def test_a_probe_needs_a_model() -> None:
    with pytest.raises(UserError, match="needs a pretrained model; give one with --model"):
        fit(Probe(), None, tm.rows(12))
