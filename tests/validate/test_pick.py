"""Picking, the verdict and the rows to label: by hand on small cases; no label of the target can come in."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
from scipy.special import expit, softmax

from acclimate import validate
from acclimate.errors import UserError
from acclimate.validate import (
    ENSEMBLE,
    VALIDATORS,
    Candidate,
    Rows,
    decide,
    label_apart,
    label_next,
    pick,
    score,
    settle,
)
from acclimate.validate.base import Floats
from acclimate.validate.pick import ranks
from acclimate.validate.verdict import KEEP, UNKNOWN, moved_at_least


def pair(n: int = 200, m: int = 300, positive: float = 0.5, seed: int = 0) -> tuple[Rows, list[Candidate]]:
    """Two Gaussian classes at ±1.5, the right rule, and rules that move its threshold; `positive` of the target."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    truth = (np.arange(m) < positive * m).astype(int)
    source = rng.normal(size=(n, 1)) + 3.0 * labels[:, None] - 1.5
    target = rng.normal(size=(m, 1)) + 3.0 * truth[:, None] - 1.5

    def rule(name: str, threshold: float) -> Candidate:
        def predict(x: Floats) -> Floats:
            p = expit(3.0 * (x[:, 0] - threshold))
            return np.column_stack([1 - p, p])

        return Candidate(name, predict(source), predict(target), predict=predict)

    middle = float(np.median(target))
    made = [rule("source-only", 0.0), *(rule(f"balanced {i}", middle + 0.05 * i) for i in range(4))]
    return Rows(labels, source, target), made


def test_no_label_of_the_target_has_a_place() -> None:
    """A6: what is chosen cannot depend on what nobody can hand over."""
    assert [f.name for f in dataclasses.fields(Rows)] == ["labels", "source", "target", "seed", "own"]
    assert [f.name for f in dataclasses.fields(Candidate)] == [
        "name", "source", "target", "source_features", "target_features", "predict",
    ]  # fmt: skip
    for function in (pick, decide, score):
        assert not {"y", "y_target", "truth"} & set(inspect.signature(function).parameters)
    with pytest.raises(UserError, match="4 labels for 3 source rows"):
        Rows(np.array([0, 1, 0, 1]), np.zeros((3, 2)), np.zeros((4, 2)))


def test_every_validator_scores_every_candidate_and_twice_the_same() -> None:
    rows, made = pair()
    first, second = score(made, rows, list(VALIDATORS)), score(made, rows, list(VALIDATORS))
    assert list(first) == list(VALIDATORS)
    assert all(values.shape == (5,) and np.isfinite(values).all() for values in first.values())
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize("name", list(VALIDATORS))
def test_the_order_of_target_rows_does_not_matter(name: str) -> None:
    rows, made = pair()
    order = np.random.default_rng(1).permutation(len(rows.target))
    moved = [dataclasses.replace(c, target=c.target[order]) for c in made]
    shuffled = dataclasses.replace(rows, target=rows.target[order])
    # The folds of a domain classifier are other ones then; all else is the same but for rounding.
    apart = 0.05 if name in ("importance_weighted", "deep_embedded") else 1e-9
    assert score(moved, shuffled, [name])[name] == pytest.approx(score(made, rows, [name])[name], abs=apart)


def test_ranks_are_means_over_validators_with_ties_shared() -> None:
    found = ranks({"a": np.array([3.0, 1.0, 2.0, 2.0]), "b": np.array([0.0, 0.0, 0.0, 9.0])}, 4)
    assert found.tolist() == pytest.approx([(3 / 3 + 1 / 3) / 2, (0 + 1 / 3) / 2, (0.5 + 1 / 3) / 2, (0.5 + 1) / 2])


def test_of_equal_candidates_the_first_is_picked() -> None:
    rows, made = pair()
    same = [dataclasses.replace(made[0], name=name) for name in ("source-only", "copy")]
    assert pick(same, rows).name == "source-only"
    assert decide(same, rows).answer == KEEP


def test_a_collapsed_candidate_is_not_picked() -> None:
    rows, made = pair()
    one = np.tile([1.0, 0.0], (300, 1))
    for validators in (ENSEMBLE, ("neighbourhood_density",), ("infomax",), ("circular",), ("plausible_shares",)):
        assert pick([Candidate("collapsed", made[0].source, one), *made], rows, validators).name != "collapsed"


def test_label_shift_without_any_other_shift_is_never_answered_with_adapt() -> None:
    """A9: 90 % of the target is of one class; rules that halve it are wrong in two of five rows."""
    rows, made = pair(positive=0.9)
    assert made[0].target.argmax(1).mean() == pytest.approx(0.9, abs=0.05)
    found = decide(made, rows, gentle=made[-1].name)
    assert 0.2 < found.moved <= 0.4  # a lower bound of what has moved
    assert (found.answer, found.name) == (UNKNOWN, "source-only")
    assert len(set(found.label)) == 20 and "label these 20 rows" in found.why


def test_classes_that_the_target_lacks_count_as_shares_that_moved() -> None:
    """A10: ten classes in the source, four in the target."""
    rng = np.random.default_rng(0)
    labels, there = np.arange(200) % 10, np.arange(120) % 4
    sure = [softmax(8.0 * np.eye(10)[y] + rng.normal(size=(len(y), 10)), axis=1) for y in (labels, there)]
    rows = Rows(labels, np.zeros((200, 2)), np.zeros((120, 2)))
    assert moved_at_least(Candidate("source-only", *sure), rows) > 0.5


def test_the_shares_have_moved_by_what_wrong_answers_cannot_explain() -> None:
    rows, made = pair(positive=0.5)
    assert moved_at_least(made[0], rows) < 0.0


def test_the_verdict_is_plain_json() -> None:
    import json

    rows, made = pair(positive=0.9)
    found = json.loads(json.dumps(decide(made, rows).to_json()))
    assert found["values"].keys() == {c.name for c in made}


def test_rows_to_label_lie_where_candidates_differ_and_all_over() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0], [20.0, 20.0]])
    x = np.repeat(corners, 50, axis=0) + rng.normal(size=(200, 2))
    a = np.tile([0.9, 0.1], (200, 1))
    b = a.copy()
    differ = np.arange(200) % 10 == 0  # five in each corner
    b[differ] = [0.1, 0.9]
    found = label_next(x, [a, b], 4)
    assert sorted((found // 50).tolist()) == [0, 1, 2, 3] and differ[found].all()
    order = rng.permutation(200)
    assert set(order[label_next(x[order], [a[order], b[order]], 4)].tolist()) == set(found.tolist())
    assert label_next(x, [a, b], 4, seed=1).tolist() == label_next(x, [a, b], 4, seed=1).tolist()


def test_rows_to_label_are_different_ones_also_among_copies() -> None:
    x, p = np.zeros((30, 2)), np.tile([0.5, 0.5], (30, 1))
    assert len(set(label_next(x, [p, p], 20).tolist())) == 20
    assert len(set(label_next(x, [p, p], 30).tolist())) == 30
    with pytest.raises(UserError, match="31 rows to label"):
        label_next(x, [p, p], 31)


def test_settling_counts_only_rows_where_one_alone_is_right() -> None:
    y = np.zeros(10, int)
    first, second = np.eye(2)[[0, 1, 1, 1, 1, 1, 1, 0, 0, 1]], np.eye(2)[[0, 0, 0, 0, 0, 0, 0, 0, 1, 1]]
    found = settle(first, second, y)
    assert (found.wins, found.losses, found.n, found.better) == (6, 1, 10, "not decidable")
    assert found.p == pytest.approx(2 * (1 + 7) / 2**7)
    assert settle(second, second, y).p == 1.0


def test_faults_are_named() -> None:
    rows, made = pair()
    with pytest.raises(UserError, match="did you mean 'infomax'"):
        pick(made, rows, ["infomx"])
    with pytest.raises(UserError, match="two candidates are called 'source-only'"):
        pick([made[0], made[0]], rows)
    with pytest.raises(UserError, match="no candidate"):
        pick([], rows)
    with pytest.raises(UserError, match="rows of sum 1"):
        Candidate("odd", made[0].source, made[0].target * 2)
    with pytest.raises(UserError, match="speaks of 200 source and 299 target rows"):
        pick([dataclasses.replace(made[0], target=made[0].target[1:])], rows)


def test_every_validator_says_when_to_use_it() -> None:
    for name in ("source_risk", "importance_weighted", "deep_embedded", "confidence", "infomax", "nuclear_norm",
                 "neighbourhood_density", "plausible_shares", "circular", "agreement", "label_apart", "label_next",
                 "neighbour_agreement", "pick", "decide", "settle", "moved_at_least"):  # fmt: skip
        text = inspect.getdoc(getattr(validate, name)) or ""
        assert "Source:" in text and "Use when:" in text, name


def test_rows_that_tell_two_models_apart_are_half_of_those_asked_for_and_stand_for_all() -> None:
    x = np.arange(200.0)[:, None]
    a = np.tile([0.9, 0.1], (200, 1))
    b = a.copy()
    b[:30] = [0.1, 0.9]
    at, weights = label_apart(x, a, b, 20, apart=0.5)
    assert len(set(at.tolist())) == 20 and (at < 30).sum() == 10
    assert weights[at < 30] == pytest.approx(0.15 * 20 / 10) and weights[at >= 30] == pytest.approx(0.85 * 20 / 10)
    order = np.random.default_rng(0).permutation(200)
    again, same = label_apart(x[order], a[order], b[order], 20, apart=0.5)
    assert order[again].tolist() == at.tolist() and same.tolist() == weights.tolist()
    gains = []  # the true gain of b is 10 wins less 20 losses of 200
    for seed in range(400):
        at, weights = label_apart(x, a, b, 20, seed=seed, apart=0.5)
        gains.append(np.average(np.where(at < 10, 1.0, np.where(at < 30, -1.0, 0.0)), weights=weights))
    assert np.mean(gains) == pytest.approx(-0.05, abs=0.005)


@pytest.mark.parametrize(("differ", "drawn"), [(0, 0), (4, 4), (200, 20), (195, 15)])
def test_one_kind_of_row_takes_over_what_the_other_lacks(differ: int, drawn: int) -> None:
    a, b = np.eye(2)[np.zeros(200, int)], np.eye(2)[(np.arange(200) < differ).astype(int)]
    at, weights = label_apart(np.arange(200.0)[:, None], a, b, 20, apart=0.5)
    assert (at < differ).sum() == drawn and weights.mean() == pytest.approx(1.0)
    with pytest.raises(UserError, match="201 rows to label"):
        label_apart(np.arange(200.0)[:, None], a, b, 201)
