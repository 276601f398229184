"""Neighbour agreement against a slow loop and by hand; the rule that it decides by, branch by branch."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from acclimate.validate import Candidate, Rows, decide, neighbour_agreement, score
from acclimate.validate import neighbours as parts
from acclimate.validate.verdict import ADAPT, CLEAR, KEEP, MOVED, UNKNOWN, answer_of, own_agreement


def slow(answers: list[int], features: list[list[float]], k: int) -> float:
    """Row by row, as the formula is written."""
    x = np.asarray(features)
    x = (x - x.mean(0)) / x.std(0)
    same = total = 0
    for i in range(len(x)):
        others = sorted((j for j in range(len(x)) if j != i), key=lambda j: float(((x[i] - x[j]) ** 2).sum()))
        for j in others[:k]:
            same += answers[i] == answers[j]
            total += 1
    chance = sum((answers.count(c) / len(answers)) ** 2 for c in set(answers))
    return (same / total - chance) / (1 - chance)


@pytest.mark.parametrize(("k", "n"), [(1, 60), (3, 530), (10, 60)])  # 512 rows are looked at at a time
def test_it_is_the_formula(k: int, n: int) -> None:
    rng = np.random.default_rng(k)
    x, answers = rng.normal(size=(n, 4)), rng.integers(0, 3, n)
    x[:, 0] += answers
    assert neighbour_agreement(answers, x, k) == pytest.approx(slow(answers.tolist(), x.tolist(), k), abs=1e-12)


def test_scale_shift_and_order_of_rows_and_names_of_classes_change_nothing() -> None:
    rng = np.random.default_rng(0)
    x, answers = rng.normal(size=(80, 3)), rng.integers(0, 2, 80)
    order = rng.permutation(80)
    found = neighbour_agreement(answers, x)
    assert neighbour_agreement(answers[order], x[order]) == pytest.approx(found, abs=1e-12)
    assert neighbour_agreement(7 - 3 * answers, x * [1.0, 50.0, 1e-3] + 9.0) == pytest.approx(found, abs=1e-9)


def test_answers_that_follow_clusters_have_more_than_random_ones_and_one_answer_for_all_has_none() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 3
    x = 6.0 * np.eye(3)[truth] + rng.normal(size=(300, 3))
    half = np.where(np.arange(300) % 2 == 0, truth, rng.integers(0, 3, 300))
    values = [neighbour_agreement(a, x) for a in (truth, half, rng.integers(0, 3, 300), np.zeros(300, int))]
    assert values[0] > 0.98 and 0.2 < values[1] < 0.6 and abs(values[2]) < 0.05 and values[3] == 0.0


def test_odd_tables_have_a_value() -> None:
    assert neighbour_agreement(np.array([0]), np.zeros((1, 2))) == 0.0
    assert neighbour_agreement(np.array([0, 1]), np.array([[0.0], [1.0]])) == -1.0  # the other one differs
    assert -1 <= neighbour_agreement(np.array([0, 1, 0, 1]), np.ones((4, 3))) <= 1  # all rows alike


def test_alike_is_cohens_kappa() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    b[:120] = a[:120]
    assert parts.alike(a, b) == pytest.approx(cohen_kappa_score(a, b))
    assert parts.alike(np.zeros(5, int), np.zeros(5, int)) == 0.0


def test_many_rows_are_sampled_the_same_in_any_order_and_few_are_all_taken() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 3))
    assert parts.some(x[:10], 0).tolist() == list(range(10))
    found, order = parts.some(x, 0), rng.permutation(5000)
    assert len(found) == len(set(found.tolist())) == parts.MOST
    assert order[parts.some(x[order], 0)].tolist() == found.tolist()
    answers = (x[:, 0] > 0).astype(int)
    truth = [Candidate(name, np.eye(2)[a[:50]], np.eye(2)[a]) for name, a in (("one", answers), ("two", 1 - answers))]
    turned = [Candidate(c.name, c.source, c.target[order]) for c in truth]
    values = [decide(made, Rows(answers[:50], x[:50], rows)).values for made, rows in ((truth, x), (turned, x[order]))]
    assert values[0] == pytest.approx(values[1], abs=1e-12)


@pytest.mark.parametrize(
    ("values", "best", "mild", "own", "moved", "mixed", "error", "answer", "about"),
    [
        ((0.5, 0.4, 0.4), 0, 2, 0.1, -0.1, 0.0, 0.0, KEEP, 0),  # nothing leads
        ((0.5, 0.505, 0.4), 1, 2, 0.1, -0.1, 0.0, 0.0, KEEP, 1),  # by too little
        ((0.5, CLEAR, 0.4), 1, 2, 0.9, -0.1, 0.0, 0.0, ADAPT, 1),  # clusters
        ((0.5, CLEAR, 0.4), 1, 2, 0.1, -0.1, 0.0, 0.07, UNKNOWN, 1),  # a lead that few rows give by chance
        ((0.5, CLEAR, 0.4), 1, 2, 0.9, -0.1, 0.0, 0.05, ADAPT, 1),
        ((0.5, CLEAR, 0.4), 1, 2, 0.9, 0.3, 0.0, 0.0, ADAPT, 1),  # shares of wrong answers say nothing where there are
        ((0.5, CLEAR, 0.4), 1, 2, 0.9, 0.3, 0.6, 0.0, UNKNOWN, 1),  # other shares alone explain the target
        ((0.59, CLEAR, 0.4), 1, 2, 0.9, -0.1, 0.0, 0.0, UNKNOWN, 1),  # clusters, which the source follows as well
        ((0.3, 0.4, 0.35), 1, 2, 0.34, -0.1, 0.0, 0.0, ADAPT, 2),  # the gentle one
        ((0.3, 0.4, 0.35), 1, 2, 0.36, -0.1, 0.0, 0.0, UNKNOWN, 1),  # less than the source's own labels
        ((0.3, 0.4, 0.35), 1, 2, 0.34, MOVED + 0.01, 0.0, 0.0, UNKNOWN, 1),  # shares have moved
        ((0.3, 0.4, 0.35), 1, 0, 0.34, -0.1, 0.0, 0.0, UNKNOWN, 1),  # no gentle one
    ],
)
def test_every_branch(
    values: tuple[float, ...],
    best: int,
    mild: int,
    own: float,
    moved: float,
    mixed: float,
    error: float,
    answer: str,
    about: int,
) -> None:
    found = answer_of(["source_only", "shot", "mcc"], values, best, mild, own, moved, mixed, error)
    assert (found[0], found[2]) == (answer, about)
    assert (values[best] - values[0] > 0 and "close" not in found[1]) or "rows that lie close share an answer" in found[
        1
    ]


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_error_of_a_lead_is_the_jackknife_with_every_neighbour_found_anew(k: int) -> None:
    rng = np.random.default_rng(k)
    x = rng.normal(size=(60, 3))
    x = (x - x.mean(0)) / x.std(0)
    first, second = rng.integers(0, 3, 60), (x[:, 0] > 0).astype(int)

    def kappa(answers: np.ndarray, rows: np.ndarray) -> float:
        same = []
        for i in range(len(rows)):
            far = ((rows - rows[i]) ** 2).sum(1)
            far[i] = np.inf
            same += [answers[j] == answers[i] for j in np.argsort(far, kind="stable")[:k]]
        chance = sum(float((answers == c).mean()) ** 2 for c in set(answers.tolist()))
        return (float(np.mean(same)) - chance) / (1 - chance)

    rest = [np.delete(np.arange(60), i) for i in range(60)]
    leads = np.array([kappa(second[at], x[at]) - kappa(first[at], x[at]) for at in rest])
    expected = float(np.sqrt(59 / 60 * ((leads - leads.mean()) ** 2).sum()))
    assert parts.error_of_lead(first, second, parts.nearest(x, k + 1)) == pytest.approx(expected, abs=1e-12)


def test_a_lead_over_too_few_rows_has_no_error_and_one_answer_for_all_no_agreement() -> None:
    few = parts.nearest(np.arange(8.0)[:, None], 11)
    assert parts.error_of_lead(np.zeros(8, int), np.arange(8) % 2, few) == np.inf
    near = parts.nearest(np.arange(30.0)[:, None], 11)
    assert parts.error_of_lead(np.zeros(30, int), np.zeros(30, int), near) == 0.0


def test_the_error_covers_what_other_draws_of_the_rows_would_give() -> None:
    """Of 200 draws of 80 rows the leads spread by what the jackknife of one draw says, and not by much less."""
    rng = np.random.default_rng(0)
    leads, errors = [], []
    for _ in range(200):
        x = np.concatenate([rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + [2.0, 0.0]])
        first, second = (x[:, 1] > 0).astype(int), (x[:, 0] > 1).astype(int)
        near = parts.nearest(x, 11)
        leads.append(neighbour_agreement(second, x) - neighbour_agreement(first, x))
        errors.append(parts.error_of_lead(first, second, near))
    assert 0.9 < float(np.mean(errors)) / float(np.std(leads)) < 1.6


def test_an_adapted_model_that_has_nothing_to_do_with_the_source_is_not_taken() -> None:
    """Clusters are there, and a candidate follows them with the classes the wrong way round."""
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    x = np.column_stack([4.0 * truth + rng.normal(size=200), rng.normal(size=200)])
    source_only = np.where(rng.random(200) < 0.8, truth, 1 - truth)

    def candidate(name: str, answers: np.ndarray) -> Candidate:
        return Candidate(name, np.eye(2)[truth], np.eye(2)[answers])

    rows = Rows(truth, x, x)
    turned = decide([candidate("source", source_only), candidate("turned", 1 - truth)], rows)
    assert (turned.answer, turned.name, turned.gain) == (KEEP, "source", 0.0)
    right = decide([candidate("source", source_only), candidate("right", truth)], rows)
    assert (right.answer, right.name) == (ADAPT, "right") and right.lead == pytest.approx(right.gain / 0.8)
    assert score([candidate("a", truth)], rows, ["neighbour_agreement"])["neighbour_agreement"][0] > 0.8


def test_what_the_sources_own_labels_have_is_read_where_it_is_known() -> None:
    rng = np.random.default_rng(0)
    labels, x = np.arange(100) % 2, rng.normal(size=(100, 3))
    x[:, 0] += labels
    plain = Candidate("source", np.eye(2)[labels], np.eye(2)[labels])
    assert decide([plain], Rows(labels, x, x)).own == own_agreement(labels, x, 0, 100)
    assert decide([plain], Rows(labels, x, x, own=0.25)).own == 0.25
    half = Candidate("source", np.eye(2)[labels], np.eye(2)[labels[:50]])
    found = decide([half], Rows(labels, x, x[:50])).own
    assert found == own_agreement(labels, x, 0, 50) != own_agreement(labels, x, 0, 100)
