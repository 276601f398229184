"""The second-order solver against scikit-learn, and features put to one scale and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from acclimate.tasks import TASKS
from acclimate.tasks.heads import Csr, LinearHead, OrdinalHead
from acclimate.train.solve import Rows, Scaling, minimise, path

RNG = np.random.default_rng(5)
N, D = 90, 6
F = RNG.normal(size=(N, D)) * [1, 5, 0.1, 2, 1, 1] + [0, 10, 0, -3, 1, 0]
CODES = np.argmax(F @ RNG.normal(size=(D, 3)) / [3, 3, 3] + RNG.normal(size=(N, 3)) * 4, axis=1)
SCALING = Scaling.of(F)


def rows(targets: np.ndarray, weights: np.ndarray | None = None, features: np.ndarray = F) -> Rows:  # type: ignore[type-arg]
    weight = np.ones(len(targets)) if weights is None else weights / weights.mean()
    return Rows(SCALING.apply(features), None, torch.from_numpy(targets), torch.from_numpy(weight))


@pytest.mark.parametrize("strength", [0.1, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_is_that_of_logistic_regression(strength: float, weighted: bool) -> None:
    from sklearn.linear_model import LogisticRegression

    weights = RNG.random(N) + 0.2 if weighted else None
    head = LinearHead(D, 3).double()
    minimise(head, rows(CODES, weights), TASKS["classify"].losses, strength)
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=5000)
    theirs.fit(SCALING.apply(F).numpy(), CODES, sample_weight=None if weights is None else weights / weights.mean())
    # A constant may be added to every class's weights: compare what cannot be shifted.
    mine = head.weight.detach().numpy()
    assert mine - mine.mean(0) == pytest.approx(theirs.coef_ - theirs.coef_.mean(0), abs=1e-3)
    got = TASKS["classify"].outputs(
        head(SCALING.apply(F)).detach().numpy(), TASKS["classify"].decoder(tuple(CODES.tolist()), "int")
    )
    assert got == pytest.approx(theirs.predict_proba(SCALING.apply(F).numpy()), abs=1e-3)


def test_two_classes_have_half_the_penalty_of_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    codes = (CODES > 0).astype(np.int64)
    head = LinearHead(D, 2).double()
    minimise(head, rows(codes), TASKS["classify"].losses, 0.5)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(SCALING.apply(F).numpy(), codes)
    assert (head.weight[1] - head.weight[0]).detach().numpy() == pytest.approx(theirs.coef_[0], abs=1e-3)


def test_every_label_of_a_multilabel_row_is_a_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    hot = np.stack([CODES == 0, CODES != 2], axis=1).astype(float)
    head = LinearHead(D, 2).double()
    minimise(head, rows(hot), TASKS["multilabel"].losses, 3.0)
    for k in range(2):
        theirs = LogisticRegression(C=3.0, tol=1e-10, max_iter=5000).fit(SCALING.apply(F).numpy(), hot[:, k])
        assert head.weight[k].detach().numpy() == pytest.approx(theirs.coef_[0], abs=1e-3)


def test_squared_error_is_ridge() -> None:
    from sklearn.linear_model import Ridge

    y = F @ RNG.normal(size=D) + RNG.normal(size=N)
    y = (y - y.mean()) / y.std()
    head = LinearHead(D, 1).double()
    minimise(head, rows(y), TASKS["regress"].losses, 2.0)
    theirs = Ridge(alpha=1 / (2 * 2.0)).fit(SCALING.apply(F).numpy(), y)
    assert head.weight[0].detach().numpy() == pytest.approx(theirs.coef_, abs=1e-3)
    assert float(head.bias.detach()) == pytest.approx(float(theirs.intercept_), abs=1e-4)


def test_a_weight_of_two_is_a_row_given_twice() -> None:
    """Weights have mean one, so the penalty ‖W‖²/(2Cn) is that of n rows: C is scaled by the rows there would be."""
    twice = np.r_[np.arange(N), np.arange(20)]
    weights = np.ones(N)
    weights[:20] = 2.0
    by_weight, by_copy = LinearHead(D, 3).double(), LinearHead(D, 3).double()
    minimise(by_weight, rows(CODES, weights), TASKS["classify"].losses, 1.0 * len(twice) / N)
    minimise(by_copy, rows(CODES[twice], None, F[twice]), TASKS["classify"].losses, 1.0)
    assert by_weight.weight.detach().numpy() == pytest.approx(by_copy.weight.detach().numpy(), abs=1e-3)


def test_a_proportional_odds_head_finds_the_direction() -> None:
    score = F @ np.array([0, 1.0, 0, 0, 0, 0])
    codes = np.digitize(score, np.quantile(score, [0.25, 0.5, 0.75]))
    head = OrdinalHead(D, 4).double()
    minimise(head, rows(codes), TASKS["ordinal"].losses, 100.0)
    direction = head.weight.detach().numpy()[0]
    assert abs(direction[1]) > 10 * np.abs(np.delete(direction, 1)).max()
    decoder = TASKS["ordinal"].decoder(tuple(codes.tolist()), "int")
    decided = TASKS["ordinal"].decide(head(SCALING.apply(F)).exp().detach().numpy(), decoder)
    assert (decided == codes).mean() > 0.95


def test_a_class_without_rows_keeps_a_finite_bias() -> None:
    head = LinearHead(D, 4).double()
    minimise(head, rows(CODES), TASKS["classify"].losses, 1.0)
    assert bool(torch.isfinite(head.bias).all())
    assert float(head(SCALING.apply(F)).softmax(1)[:, 3].detach().max()) < 1e-2


def test_a_path_gives_the_weighted_loss_on_rows_held_out() -> None:
    learn, judge = rows(CODES).take(range(60)), rows(CODES, RNG.random(N) + 0.5).take(range(60, N))
    strengths = (0.1, 1.0, 10.0)
    got = path(LinearHead(D, 3).double(), learn, TASKS["classify"].losses, strengths, judge)
    for strength, value in zip(strengths, got, strict=True):
        head = LinearHead(D, 3).double()  # a cold start ends where the warm one does
        minimise(head, learn, TASKS["classify"].losses, strength)
        losses = TASKS["classify"].losses(head(judge.features), judge.targets).detach()
        assert value == pytest.approx(float((losses * judge.weights).sum() / judge.weights.sum()), abs=1e-4)


def test_scaled_rows_have_mean_squared_length_one() -> None:
    scaled = SCALING.apply(F)
    assert scaled.mean(0).tolist() == pytest.approx([0] * D, abs=1e-9)
    assert float(scaled.square().sum(1).mean()) == pytest.approx(1.0)


def test_a_constant_feature_is_not_blown_up() -> None:
    wide = np.c_[F, np.full(N, 0.1), np.full(N, 3.0) + 1e-9 * RNG.normal(size=N)]
    scaling = Scaling.of(wide.astype(np.float32))
    assert scaling.spread[-2:].tolist() == [np.sqrt(8), np.sqrt(8)]
    assert float(scaling.apply(wide)[:, -2:].abs().max()) < 1e-6


def test_no_feature_at_all() -> None:
    scaling = Scaling.of(np.zeros((5, 0), np.float32))
    assert scaling.apply(np.zeros((5, 0))).shape == (5, 0)


@pytest.mark.parametrize("kind", ["linear", "ordinal"])
def test_folding_the_scale_into_the_head_is_exact(kind: str) -> None:
    head = (LinearHead(D, 3) if kind == "linear" else OrdinalHead(D, 4)).double()
    for parameter in head.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(1))
    before = head(SCALING.apply(F)).detach().numpy()
    SCALING.fold_into(head)
    assert head(torch.from_numpy(F)).detach().numpy() == pytest.approx(before, abs=1e-9)


def test_rows_are_taken_with_their_words() -> None:
    words = Csr(csr_array(np.eye(4)))
    whole = Rows(torch.arange(8.0).reshape(4, 2).double(), words, torch.arange(4), torch.ones(4))
    part = whole.take([2, 0])
    assert part.targets.tolist() == [2, 0]
    assert part.words is not None
    assert part.words.matrix.toarray().tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert len(part) == 2


def test_words_in_csr_give_the_same_logits_and_gradient_as_dense_ones() -> None:
    x = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]])
    features = torch.ones(2, 1, dtype=torch.float64)
    gradients = []
    for words in (torch.from_numpy(x), Csr(csr_array(x))):
        head = LinearHead(1, 2, words=3).double()
        head.word_weight.data.copy_(torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, 1.0]]))
        logits = head(features, words)
        assert logits.tolist() == [[-2.0, 4.0], [2.5, 3.0]]
        logits.square().sum().backward()
        assert head.word_weight.grad is not None
        gradients.append(head.word_weight.grad)
    assert torch.equal(*gradients)
