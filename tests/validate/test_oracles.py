"""Every validator against its formula restated as slow loops, and the defects of other libraries shown absent."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from acclimate.errors import UserError
from acclimate.validate import (
    Candidate,
    agreement,
    circular,
    confidence,
    deep_embedded,
    density_ratio,
    importance_weighted,
    infomax,
    neighbourhood_density,
    nuclear_norm,
    plausible_shares,
    source_risk,
)
from acclimate.validate.base import Floats
from acclimate.validate.risks import ratio_of
from acclimate.validate.unlabelled import soft_density


def predictions(m: int, k: int, seed: int = 0, sharp: float = 2.0) -> Floats:
    z = np.random.default_rng(seed).normal(size=(m, k)) * sharp
    p = np.exp(z)
    return np.asarray(p / p.sum(1, keepdims=True))


def h(p: Floats) -> float:
    return -sum(float(v) * math.log(float(v)) for v in p if v > 0)


@pytest.mark.parametrize("k", [2, 5])
def test_confidence_and_infomax_are_their_formulas(k: int) -> None:
    p = predictions(30, k)
    mean_entropy = sum(h(row) for row in p) / 30
    mean = [sum(row[j] for row in p) / 30 for j in range(k)]
    assert confidence(p) == pytest.approx(-mean_entropy, abs=1e-12)
    assert infomax(p) == pytest.approx(h(np.array(mean)) - mean_entropy, abs=1e-12)


def test_soft_density_is_its_formula_with_the_diagonal_left_out() -> None:
    p, total = predictions(13, 3), 0.0
    for i in range(13):
        cosines = {
            j: float(p[i] @ p[j]) / math.sqrt(float(p[i] @ p[i]) * float(p[j] @ p[j])) for j in range(13) if j != i
        }
        whole = sum(math.exp(c / 0.05) for c in cosines.values())
        total += sum(-(q := math.exp(c / 0.05) / whole) * math.log(q) for c in cosines.values() if c > -1)
    assert soft_density(p) == pytest.approx(total / 13, abs=1e-10)


def test_soft_density_does_not_depend_on_the_blocks_of_rows() -> None:
    p = predictions(700, 4)  # two blocks of at most 512
    unit = p / np.linalg.norm(p, axis=1, keepdims=True)
    s = np.exp(unit @ unit.T / 0.05)
    np.fill_diagonal(s, 0.0)
    q = s / s.sum(1, keepdims=True)
    expected = -(q * np.log(np.where(q > 0, q, 1.0))).sum(1).mean()
    assert soft_density(p) == pytest.approx(expected, abs=1e-9)


def test_collapsed_predictions_have_the_highest_density_and_the_guard_takes_it_away() -> None:
    half = np.array([0.5, 0.5])
    good, collapsed = predictions(200, 2, sharp=6.0), np.tile([0.98, 0.02], (200, 1))
    torn = np.full((200, 2), 0.5) + np.random.default_rng(0).uniform(-1e-4, 1e-4, 200)[:, None] * [1, -1]
    for bad in (collapsed, torn):
        assert soft_density(bad) == pytest.approx(math.log(199), abs=1e-6)
        assert soft_density(bad) > soft_density(good)
        assert neighbourhood_density(bad, half) < 1e-3 < 1 < neighbourhood_density(good, half)


def test_nuclear_norm_is_the_sum_of_roots_of_eigenvalues() -> None:
    p = predictions(20, 3)
    gram = [[sum(float(p[i, a] * p[i, b]) for i in range(20)) for b in range(3)] for a in range(3)]
    roots = sum(math.sqrt(v) for v in np.linalg.eigvalsh(np.array(gram)))
    assert nuclear_norm(p) == pytest.approx(roots / math.sqrt(60), abs=1e-12)


def test_plausible_shares_is_its_formula() -> None:
    p, given = predictions(40, 3, seed=3), np.array([0.7, 0.2, 0.1])
    worst = 0.0
    for k in range(3):
        count = sum(int(max(range(3), key=lambda j: row[j]) == k) for row in p)
        worst = max(worst, abs(math.log((count + 0.5) / (40 + 1.5) / given[k])) - math.log(1.5))
    assert plausible_shares(p, given) == pytest.approx(-worst, abs=1e-12)
    assert worst > 0


def test_plausible_shares_stays_finite_for_a_class_that_the_source_lacks() -> None:
    assert math.isfinite(plausible_shares(np.eye(3)[[0, 1, 2]], np.array([0.5, 0.5, 0.0])))


def test_circular_is_ridge_there_and_shares_of_right_answers_back() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(25, 4)), rng.normal(size=(30, 4)) * 2 + 1
    answers, labels = rng.integers(0, 3, 30), rng.integers(0, 3, 25)
    mean, spread = target.mean(0), target.std(0) * 2
    f, g = (target - mean) / spread, (source - mean) / spread
    back = np.zeros((25, 3))
    for k in range(3):  # [F 1]ᵀ[F 1] with a free bias, solved with the bias as a column
        design = np.column_stack([f, np.ones(30)])
        pull = np.diag([0.5] * 4 + [0.0])
        w = np.linalg.solve(design.T @ design + pull, design.T @ (answers == k))
        back[:, k] = np.column_stack([g, np.ones(25)]) @ w
    right = [np.mean([back[i].argmax() == k for i in range(25) if labels[i] == k]) for k in range(3)]
    assert circular(source, target, answers, labels, 3) == pytest.approx(float(np.mean(right)), abs=1e-12)


def test_agreement_is_counted_row_by_row() -> None:
    made = [Candidate(str(s), predictions(4, 3, s), predictions(50, 3, s, 1.0)) for s in range(4)]
    for c, value in enumerate(agreement(made)):
        same = 0
        for j in range(50):
            others = sum(made[o].target[j] for o in range(4) if o != c)
            same += int(made[c].target[j].argmax() == np.argmax(others))
        assert value == pytest.approx(same / 50)
    assert agreement(made[:1]).tolist() == [1.0]


# A7: the deep embedded validation risk


def dev_by_loops(losses: Floats, weights: Floats) -> float:
    n = len(losses)
    mean_wl = sum(float(w * x) for w, x in zip(weights, losses, strict=True)) / n
    mean_w = sum(float(w) for w in weights) / n
    cov = sum((float(w * x) - mean_wl) * (float(w) - mean_w) for w, x in zip(weights, losses, strict=True)) / n
    var = sum((float(w) - mean_w) ** 2 for w in weights) / n
    eta = -cov / var
    return mean_wl + eta * mean_w - eta


def test_dev_is_its_formula_and_not_the_product_of_means() -> None:
    rng = np.random.default_rng(0)
    weights, losses = rng.gamma(2.0, size=200), rng.uniform(size=200)
    losses = losses * weights / weights.max()  # losses are larger where the target is
    value = deep_embedded(losses, weights)
    assert value == pytest.approx(dev_by_loops(losses, weights), abs=1e-12)
    assert abs(value - weights.mean() * losses.mean()) > 0.05


def test_dev_with_weights_of_one_is_the_plain_mean() -> None:
    losses = np.random.default_rng(1).uniform(size=50)
    assert deep_embedded(losses, np.ones(50)) == pytest.approx(losses.mean(), abs=1e-15)
    nearly = np.ones(50) + np.random.default_rng(2).normal(size=50) * 1e-12  # η would be noise over noise
    assert deep_embedded(losses, nearly) == pytest.approx(losses.mean(), abs=1e-9)


def test_dev_finds_the_target_risk_with_a_known_density_ratio_and_varies_less_than_the_weighted_mean() -> None:
    """Source N(0, 1), target N(1, 1): w(x) = exp(x − ½); ℓ(x) = [x > 0], whose target risk is Φ(1) = 0.8413."""
    rng, plain, controlled = np.random.default_rng(0), [], []
    for _ in range(200):
        x = rng.normal(size=500)
        weights, losses = np.exp(x - 0.5), (x > 0).astype(float)
        plain.append(importance_weighted(losses, weights))
        controlled.append(deep_embedded(losses, weights))
    assert np.mean(plain) == pytest.approx(0.8413, abs=0.02)
    assert np.mean(controlled) == pytest.approx(0.8413, abs=0.02)
    assert np.std(controlled) < 0.8 * np.std(plain)


def test_the_classifier_finds_a_known_density_ratio() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(1500, 1)), rng.normal(size=(700, 1)) + 1.0
    found = density_ratio(source, target)
    true = np.exp(source[:, 0] - 0.5)
    assert np.corrcoef(np.log(found), np.log(true))[0, 1] > 0.99
    assert found.mean() == pytest.approx(1.0, abs=0.1)
    losses = (source[:, 0] > 0).astype(float)
    assert deep_embedded(losses, found) == pytest.approx(0.8413, abs=0.03)
    assert source_risk(losses) < 0.6


def test_domains_that_do_not_overlap_give_finite_weights_and_finite_risks() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 100
    weights = density_ratio(source, target)
    assert np.isfinite(weights).all() and math.isfinite(deep_embedded(rng.uniform(size=60), weights))
    assert np.isfinite(ratio_of(np.array([0.0, 1.0]), 10, 20)).all()


def test_weights_that_are_all_zero_are_no_answer() -> None:
    assert math.isnan(deep_embedded(np.ones(3), np.zeros(3)))


@pytest.mark.parametrize("risk", [importance_weighted, deep_embedded])
def test_losses_and_weights_of_unlike_shapes_are_refused(risk: Callable[[Floats, Floats], float]) -> None:
    with pytest.raises(UserError, match=r"shapes \(3,\) and \(3, 1\)"):
        risk(np.ones(3), np.ones((3, 1)))
    with pytest.raises(UserError, match="not negative"):
        risk(np.ones(3), np.array([1.0, -1.0, 1.0]))
