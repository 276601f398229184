"""The second-order solver against scikit-learn, and features put to one scale and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from acclimate.strategies.probe import STRENGTHS
from acclimate.tasks import TASKS
from acclimate.tasks.heads import Head, LinearHead, OrdinalHead
from acclimate.train import solve
from acclimate.train.links import link_of
from acclimate.train.solve import Axes, Rows, Scaling, minimise, path, without_unseen

RNG = np.random.default_rng(5)
N, D = 90, 6
F = RNG.normal(size=(N, D)) * [1, 5, 0.1, 2, 1, 1] + [0, 10, 0, -3, 1, 0]
CODES = np.argmax(F @ RNG.normal(size=(D, 3)) / [3, 3, 3] + RNG.normal(size=(N, 3)) * 4, axis=1)
SCALING = Scaling.of(F)


def fitted(
    head: Head, task: str, targets: Any, strength: float, weights: Any = None, features: Any = F, words: Any = None
) -> Any:
    """The head, fitted on standardised features with weights of mean one."""
    weight = np.ones(len(targets)) if weights is None else weights / weights.mean()
    link = link_of(TASKS[task], targets, head.shape["outputs"])  # type: ignore[arg-type]
    minimise(head, Rows(SCALING.apply(features), words, weight), link, strength)
    return head


def scored(head: Any, features: Any = F) -> Any:
    return head(torch.from_numpy(SCALING.apply(features))).detach()


def objective(head: Head, task: str, targets: Any, strength: float, weights: Any, words: Any = None) -> torch.Tensor:
    """F = (1/n) Σ w_i ℓ_i + ‖W‖²/(2Cn), by the head and the loss that predictions go through, biases held by 1e-7."""
    dense = None if words is None else torch.from_numpy(words.toarray())
    logits = head(torch.from_numpy(SCALING.apply(F)), dense)
    loss = (torch.from_numpy(weights / weights.mean()) * TASKS[task].losses(logits, torch.from_numpy(targets))).mean()
    held = sum((1.0 if name.endswith("weight") else 1e-7) * p.square().sum() for name, p in head.named_parameters())
    return loss + held / (2 * strength * len(targets))  # type: ignore[no-any-return]


HOT = np.stack([CODES == 0, CODES != 2], axis=1).astype(float)
TARGETS = {"classify": CODES, "pair": (CODES > 0).astype(np.int64), "multilabel": HOT, "regress": F[:, 1] / 5,
           "ordinal": CODES}  # fmt: skip


@pytest.mark.parametrize("words", [0, 12, 400])  # 400 are turned into as many columns as there are rows
@pytest.mark.parametrize("kind", TARGETS)
def test_the_gradient_is_zero_at_the_head_that_is_kept(kind: str, words: int) -> None:
    """Restated by autograd through the head itself: none of the written-out slopes is used here."""
    task, targets = kind.replace("pair", "classify"), TARGETS[kind]
    matrix = csr_array(RNG.random((N, words)) * (RNG.random((N, words)) < 0.3)) if words else None
    outputs = {"classify": 3, "pair": 2, "multilabel": 2, "regress": 1, "ordinal": 3}[kind]
    head: Any = (OrdinalHead if task == "ordinal" else LinearHead)(D, outputs, words).double()
    weights = RNG.random(N) + 0.2
    fitted(head, task, targets, 3.0, weights, words=matrix)
    objective(head, task, targets, 3.0, weights, matrix).backward()
    assert max(float(p.grad.abs().max()) for p in head.parameters()) < 1e-6
    assert max(float(p.detach().abs().max()) for p in head.parameters()) > 0.1


@pytest.mark.parametrize("features", [F, np.random.default_rng(0).normal(size=(N, 3 * N))], ids=["n > d", "n < d"])
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_logistic_regression(classes: int, features: Any) -> None:
    from sklearn.linear_model import LogisticRegression

    codes = np.minimum(CODES, classes - 1)
    x = Scaling.of(features).apply(features)
    for strength in (0.1, 1.0, 100.0):
        head = LinearHead(x.shape[1], classes).double()
        minimise(head, Rows(x, None, np.ones(N)), link_of(TASKS["classify"], codes, classes), strength)
        c = 2 * strength if classes == 2 else strength
        theirs = LogisticRegression(C=c, tol=1e-12, max_iter=20_000).fit(x, codes)
        mine = head(torch.from_numpy(x)).softmax(1).detach().numpy()
        assert mine == pytest.approx(theirs.predict_proba(x), abs=1e-4)


@pytest.mark.parametrize("strength", [0.1, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_is_that_of_logistic_regression(strength: float, weighted: bool) -> None:
    from sklearn.linear_model import LogisticRegression

    weights = RNG.random(N) + 0.2 if weighted else None
    head = LinearHead(D, 3).double()
    fitted(head, "classify", CODES, strength, weights)
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=5000)
    theirs.fit(SCALING.apply(F), CODES, sample_weight=None if weights is None else weights / weights.mean())
    # A constant may be added to every class's weights: compare what cannot be shifted.
    mine = head.weight.detach().numpy()
    assert mine - mine.mean(0) == pytest.approx(theirs.coef_ - theirs.coef_.mean(0), abs=1e-3)
    got = TASKS["classify"].outputs(scored(head).numpy(), TASKS["classify"].decoder(tuple(CODES.tolist()), "int"))
    assert got == pytest.approx(theirs.predict_proba(SCALING.apply(F)), abs=1e-3)


def test_two_classes_have_half_the_penalty_of_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    codes = (CODES > 0).astype(np.int64)
    head = LinearHead(D, 2).double()
    fitted(head, "classify", codes, 0.5)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(SCALING.apply(F), codes)
    assert (head.weight[1] - head.weight[0]).detach().numpy() == pytest.approx(theirs.coef_[0], abs=1e-3)


def test_every_label_of_a_multilabel_row_is_a_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    hot = np.stack([CODES == 0, CODES != 2], axis=1).astype(float)
    head = LinearHead(D, 2).double()
    fitted(head, "multilabel", hot, 3.0)
    for k in range(2):
        theirs = LogisticRegression(C=3.0, tol=1e-10, max_iter=5000).fit(SCALING.apply(F), hot[:, k])
        assert head.weight[k].detach().numpy() == pytest.approx(theirs.coef_[0], abs=1e-3)


def test_squared_error_is_ridge() -> None:
    from sklearn.linear_model import Ridge

    y = F @ RNG.normal(size=D) + RNG.normal(size=N)
    y = (y - y.mean()) / y.std()
    head = LinearHead(D, 1).double()
    fitted(head, "regress", y, 2.0)
    theirs = Ridge(alpha=1 / (2 * 2.0)).fit(SCALING.apply(F), y)
    assert head.weight[0].detach().numpy() == pytest.approx(theirs.coef_, abs=1e-3)
    assert float(head.bias.detach()) == pytest.approx(float(theirs.intercept_), abs=1e-4)


def test_a_weight_of_two_is_a_row_given_twice() -> None:
    """Weights have mean one, so the penalty ‖W‖²/(2Cn) is that of n rows: C is scaled by the rows there would be."""
    twice = np.r_[np.arange(N), np.arange(20)]
    weights = np.ones(N)
    weights[:20] = 2.0
    by_weight, by_copy = LinearHead(D, 3).double(), LinearHead(D, 3).double()
    fitted(by_weight, "classify", CODES, 1.0 * len(twice) / N, weights)
    fitted(by_copy, "classify", CODES[twice], 1.0, None, F[twice])
    assert by_weight.weight.detach().numpy() == pytest.approx(by_copy.weight.detach().numpy(), abs=1e-3)


def test_a_proportional_odds_head_finds_the_direction() -> None:
    score = F @ np.array([0, 1.0, 0, 0, 0, 0])
    codes = np.digitize(score, np.quantile(score, [0.25, 0.5, 0.75]))
    head = OrdinalHead(D, 4).double()
    fitted(head, "ordinal", codes, 100.0)
    direction = head.weight.detach().numpy()[0]
    assert abs(direction[1]) > 10 * np.abs(np.delete(direction, 1)).max()
    decoder = TASKS["ordinal"].decoder(tuple(codes.tolist()), "int")
    decided = TASKS["ordinal"].decide(scored(head).exp().numpy(), decoder)
    assert (decided == codes).mean() > 0.95


def test_a_class_without_rows_keeps_a_finite_bias() -> None:
    head = LinearHead(D, 4).double()
    fitted(head, "classify", CODES, 1.0)
    assert bool(torch.isfinite(head.bias).all())
    assert float(scored(head).softmax(1)[:, 3].max()) < 1e-2


def masks(folds: int) -> tuple[Any, Any]:
    """Weights of every fold's rows to learn from and to judge by; the last problem learns from all rows."""
    weights, fold = RNG.random(N) + 0.5, np.arange(N) % folds
    judge = np.equal.outer(fold, np.arange(folds + 1)).astype(float)
    return (1 - judge) * weights[:, None], judge * weights[:, None]


@pytest.mark.parametrize("kind", TARGETS)
def test_a_path_gives_the_weighted_loss_on_rows_held_out(kind: str) -> None:
    """Against each fold fitted alone, cold and exactly."""
    task, targets, x = kind.replace("pair", "classify"), TARGETS[kind], SCALING.apply(F)
    outputs = {"classify": 3, "pair": 2, "multilabel": 2, "regress": 1, "ordinal": 3}[kind]

    def fresh() -> Any:
        return (OrdinalHead if task == "ordinal" else LinearHead)(D, outputs).double()

    strengths, (learn, judge), link = (0.1, 0.3, 1.0, 3.0), masks(3), link_of(TASKS[task], targets, outputs)
    rows, kept = Rows(x, None, learn[:, -1]), fresh()
    got = path(kept, rows, link, strengths, learn, judge, Axes.of(rows))
    for strength, value in zip(strengths, got, strict=True):
        total = 0.0
        for p in range(3):
            head = fresh()
            minimise(head, Rows(x, None, learn[:, p]), link, strength)
            losses = TASKS[task].losses(scored(head), torch.from_numpy(targets)).numpy()
            total += float(losses @ judge[:, p])
        assert value == pytest.approx(total / judge.sum(), abs=2e-3)
    exact = fresh()
    minimise(exact, rows, link, strengths[int(np.argmin(got))])
    assert scored(kept).numpy() == pytest.approx(scored(exact).numpy(), abs=0.05)  # a good start for the last fit


def test_many_scores_are_held_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    learn, judge = masks(3)
    rows, link = Rows(SCALING.apply(F), None, np.ones(N)), link_of(TASKS["classify"], CODES, 3)
    found = []
    for numbers in (10**9, 300, 1):  # all four problems at once, two by two, one by one
        monkeypatch.setattr(solve, "_NUMBERS", numbers)
        head = LinearHead(D, 3).double()
        found.append((path(head, rows, link, (0.1, 1.0), learn, judge, Axes.of(rows)), scored(head).numpy()))
    for scores, logits in found[1:]:
        assert scores == pytest.approx(found[0][0], abs=2e-3)
        assert logits == pytest.approx(found[0][1], abs=0.05)


def test_wide_features_are_fitted_without_turning_them(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = fitted(LinearHead(D, 3).double(), "classify", CODES, 3.0)
    monkeypatch.setattr(solve, "_WIDEST", 2)
    assert Axes.of(Rows(SCALING.apply(F), None, np.ones(N))).turn is None
    plain = fitted(LinearHead(D, 3).double(), "classify", CODES, 3.0)
    assert scored(plain).numpy() == pytest.approx(scored(turned).numpy(), abs=1e-5)


def test_a_class_that_a_fold_never_saw_does_not_choose_the_penalty() -> None:
    rng, n = np.random.default_rng(0), 600
    codes, features = rng.integers(0, 5, n), rng.normal(size=(n, 40))
    features[np.arange(n), codes] += 2.0
    fold = np.arange(n) % 5
    codes[:3], fold[:3] = 5, 0  # a class that lives in one fold alone
    rows = Rows(Scaling.of(features).apply(features), None, np.ones(n))
    judge = np.equal.outer(fold, np.arange(6)).astype(float)
    link, fit = link_of(TASKS["classify"], codes, 6), 1 - judge
    known = without_unseen(codes, fit, judge)
    assert (judge - known).sum(0).tolist() == [3, 0, 0, 0, 0, 0]
    scores = path(LinearHead(40, 6).double(), rows, link, STRENGTHS, fit, known, Axes.of(rows))
    assert 1 < STRENGTHS[int(np.argmin(scores))] < 20


def test_a_path_ends_after_four_strengths_that_are_worse() -> None:
    noise = RNG.permutation(CODES)
    learn, judge = masks(3)
    rows = Rows(SCALING.apply(F), None, np.ones(N))
    strengths = (1e-3, 1e-2, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
    link = link_of(TASKS["classify"], noise, 3)
    got = path(LinearHead(D, 3).double(), rows, link, strengths, learn, judge, Axes.of(rows))
    best = int(np.argmin(got))
    assert best < 3
    assert np.isfinite(got).tolist() == [i <= best + 4 for i in range(8)]


def test_widely_unequal_rows_are_fitted_too() -> None:
    """Weights over six orders of magnitude, and a class of one row: unit steps alone would not do."""
    codes, weights = np.where(np.arange(N) == 7, 1, 0), 10.0 ** RNG.uniform(-3, 3, N)
    head = fitted(LinearHead(D, 2).double(), "classify", codes, 1e4, weights)
    objective(head, "classify", codes, 1e4, weights).backward()
    assert max(float(p.grad.abs().max()) for p in head.parameters()) < 1e-6


def test_scaled_rows_have_mean_squared_length_one() -> None:
    scaled = SCALING.apply(F)
    assert scaled.mean(0).tolist() == pytest.approx([0] * D, abs=1e-9)
    assert float(np.square(scaled).sum(1).mean()) == pytest.approx(1.0)


def test_a_constant_feature_is_not_blown_up() -> None:
    wide = np.c_[F, np.full(N, 0.1), np.full(N, 3.0) + 1e-9 * RNG.normal(size=N)]
    scaling = Scaling.of(wide.astype(np.float32))
    assert scaling.spread[-2:].tolist() == [np.sqrt(8), np.sqrt(8)]
    assert float(np.abs(scaling.apply(wide)[:, -2:]).max()) < 1e-6


def test_no_feature_at_all() -> None:
    scaling = Scaling.of(np.zeros((5, 0), np.float32))
    assert scaling.apply(np.zeros((5, 0))).shape == (5, 0)


@pytest.mark.parametrize("kind", ["linear", "ordinal"])
def test_folding_the_scale_into_the_head_is_exact(kind: str) -> None:
    head = (LinearHead(D, 3) if kind == "linear" else OrdinalHead(D, 4)).double()
    for parameter in head.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(1))
    before = scored(head).numpy()
    SCALING.fold_into(head)
    assert head(torch.from_numpy(F)).detach().numpy() == pytest.approx(before, abs=1e-9)


def test_words_of_few_rows_are_turned_with_the_features_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows(SCALING.apply(F), csr_array(RNG.random((N, 400)) * (RNG.random((N, 400)) < 0.05)), np.ones(N))
    link, folds, found = link_of(TASKS["classify"], CODES, 3), np.repeat(np.eye(3), N // 3, 0), []
    for most in (solve._MOST_TURNED, 0):
        monkeypatch.setattr(solve, "_MOST_TURNED", most)
        axes = Axes.of(rows)
        assert (axes.words is None, axes.dense.shape[1]) == ((True, N) if most else (False, D))
        head = LinearHead(D, 3, 400).double()
        scores = path(head, rows, link, (0.1, 1.0, 10.0), 1 - folds, folds, axes)
        minimise(head, rows, link, 1.0, axes)
        found.append((scores, *(p.detach().numpy() for p in head.parameters())))
    assert np.allclose(found[0][0], found[1][0], rtol=5e-3)  # to what ranks strengths
    assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(found[0][1:], found[1][1:], strict=True))
