"""Each method's formula, restated as slow loops or in closed form, and the defects of other libraries shown absent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import eigh, sqrtm, subspace_angles
from scipy.optimize import linprog, minimize

from acclimate.errors import UserError
from acclimate.shallow import (
    Coral,
    DensityRatio,
    EntropicTransport,
    JdotRegressor,
    Kmm,
    LinearTransport,
    NearestNeighbour,
    Standardise,
    SubspaceAlignment,
    Tca,
    base,
    statistics,
)
from acclimate.shallow.weights import box_program
from shallow_oracles import pooled, slow_kernel, slow_median, two

Floats = NDArray[np.float64]


def test_standardise_is_the_formula() -> None:
    source, target, both, side = two()
    mapped = Standardise().fit_transform(both, domain=side)
    for i, row in enumerate(both):
        own = source if i < len(source) else target
        for j in range(3):
            mean = sum(own[:, j]) / len(own)
            deviation = math.sqrt(sum((v - mean) ** 2 for v in own[:, j]) / len(own))
            assert mapped[i, j] == pytest.approx((row[j] - mean) / deviation)


@pytest.mark.parametrize("kind", [Coral, LinearTransport])
def test_without_shrinkage_mean_and_covariance_become_those_of_the_target(kind: Any) -> None:
    source, target, both, side = two()
    mapped = kind(shrinkage=0.0).fit_transform(both, domain=side)
    assert mapped[side == 0].mean(0) == pytest.approx(target.mean(0))
    assert np.cov(mapped[side == 0].T) == pytest.approx(np.cov(target.T))
    assert np.array_equal(mapped[side == 1], target)


def test_coral_is_the_formula() -> None:
    source, target, both, side = two()
    unit = both.std(0)
    a, b = (0.8 * np.cov((x / unit).T) + 0.2 * np.trace(np.cov((x / unit).T)) / 3 * np.eye(3) for x in (source, target))
    wanted = (source - source.mean(0)) / unit @ np.linalg.inv(sqrtm(a)) @ sqrtm(b) * unit + target.mean(0)
    assert Coral(shrinkage=0.2).fit_transform(both, domain=side)[side == 0] == pytest.approx(wanted)


def test_the_linear_transport_map_is_symmetric_in_scaled_columns_and_the_shortest() -> None:
    source, target, both, side = two()
    unit = both.std(0)
    method = LinearTransport(shrinkage=0.0).fit(both, domain=side)
    scaled = method.matrix_ * unit[:, None] / unit
    assert scaled == pytest.approx(scaled.T)
    assert np.linalg.eigvalsh(scaled).min() > 0
    moved = {k: k(shrinkage=0.0).fit_transform(both, domain=side)[side == 0] for k in (Coral, LinearTransport)}
    way = {k: float((((z - source) / unit) ** 2).sum()) for k, z in moved.items()}
    assert way[LinearTransport] < way[Coral]
    # Bures' distance: ‖Δμ‖² + tr(A + B - 2 (A^½ B A^½)^½), with covariances over n - 1
    a, b = np.cov((source / unit).T), np.cov((target / unit).T)
    root = sqrtm(a)
    bures = (
        np.trace(a + b - 2 * sqrtm(root @ b @ root)) + (((source.mean(0) - target.mean(0)) / unit) ** 2).sum() * 40 / 39
    )
    assert way[LinearTransport] / 39 == pytest.approx(float(np.real(bures)))


def test_shrinkage_is_checked() -> None:
    _, _, both, side = two()
    with pytest.raises(UserError, match="shrinkage must be 'auto' or a number from 0 to 1, got 2"):
        Coral(shrinkage=2).fit(both, domain=side)
    assert statistics.covariance(np.ones((4, 2)), "auto") == pytest.approx(np.zeros((2, 2)))


def test_subspace_alignment_is_the_formula() -> None:
    source, target, both, side = two()
    unit = both.std(0)
    bases = []
    for own in (source, target):
        values, vectors = np.linalg.eigh(np.cov((own / unit).T))
        bases.append(vectors[:, np.argsort(-values)[:2]])
    ours, theirs = bases
    mapped = SubspaceAlignment(n_components=2).fit_transform(both, domain=side)
    wanted = np.concatenate(
        [(source - source.mean(0)) / unit @ ours @ ours.T @ theirs, (target - target.mean(0)) / unit @ theirs]
    )
    signs = np.sign((wanted * mapped).sum(0))
    assert mapped == pytest.approx(wanted * signs)


def test_subspace_alignment_says_what_it_cannot_do() -> None:
    _, _, both, side = two()
    with pytest.raises(UserError, match="n_components must be from 1 to 3 with these rows, got 9"):
        SubspaceAlignment(n_components=9).fit(both, domain=side)
    with pytest.raises(UserError, match="there is no direction"):
        SubspaceAlignment().fit(np.where(side[:, None] == 1, 1.0, both), domain=side)


def slow_tca(both: Floats, side: Any, kernel: Floats, mu: float, k: int) -> Floats:
    """The generalised problem of Pan et al., equation 14, by a general solver on full matrices."""
    n = len(both)
    v = np.where(side == 0, 1 / (side == 0).sum(), -1 / (side == 1).sum())
    centre = np.eye(n) - 1 / n
    left, right = kernel @ centre @ kernel, kernel @ np.outer(v, v) @ kernel + mu * np.eye(n)
    _, vectors = eigh((left + left.T) / 2, (right + right.T) / 2)
    z = kernel @ vectors[:, ::-1][:, :k]
    return np.asarray(z / z.std(0))


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_tca_is_the_formula(kernel: str) -> None:
    _, _, both, side = two()
    scaled = pooled(both)
    gram = slow_kernel(scaled, slow_median(scaled)) if kernel == "rbf" else scaled @ scaled.T
    wanted = slow_tca(both, side, gram, 0.7, 3)
    mapped = Tca(n_components=3, kernel=kernel, mu=0.7).fit_transform(both, domain=side)
    assert mapped * np.sign((mapped * wanted).sum(0)) == pytest.approx(wanted, abs=1e-6)


def test_tca_with_all_rows_as_landmarks_is_exact_and_with_some_is_near() -> None:
    source, target, both, side = two(200, 150)
    exact = Tca(n_components=4, landmarks=350).fit_transform(both, domain=side)
    nearly = Tca(n_components=4, landmarks=349).fit_transform(both, domain=side)
    some = Tca(n_components=4, landmarks=60).fit_transform(both, domain=side)
    assert np.abs(subspace_angles(exact, nearly)).max() < 0.02
    assert np.abs(subspace_angles(exact, some)).max() < 0.2


def test_tca_brings_the_means_together_and_keeps_tiny_embeddings_apart() -> None:
    # Other libraries do not scale: rows of length 1e-3 all have kernel value 1.
    _, _, both, side = two()
    mapped = Tca(n_components=2).fit_transform(both, domain=side)
    tiny = Tca(n_components=2).fit_transform(both * 1e-4, domain=side)
    assert tiny == pytest.approx(mapped, abs=1e-6)
    gap = np.abs(mapped[side == 0].mean(0) - mapped[side == 1].mean(0))
    assert (gap < np.abs(pooled(both)[side == 0].mean(0) - pooled(both)[side == 1].mean(0)).max()).all()


def test_shuffled_rows_stay_beside_their_labels_in_tca() -> None:
    # The reference library returns source rows first: accuracy fell from .50 to .04 on shuffled rows.
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    both = np.eye(3)[y] * 4 + rng.normal(size=(90, 3)) * 0.3
    side = np.repeat([0, 1], 45)
    order = rng.permutation(90)
    z = Tca(n_components=2).fit_transform(both[order], domain=side[order])
    middle = np.stack([z[(side[order] == 0) & (y[order] == c)].mean(0) for c in range(3)])
    nearest = ((z[:, None] - middle) ** 2).sum(2).argmin(1)
    assert (nearest == y[order]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"kernel": "rbg"}, "unknown kernel 'rbg'; did you mean 'rbf'"), ({"mu": 0.0}, "mu must be above 0")],
)
def test_tca_checks_its_settings(settings: dict[str, Any], message: str) -> None:
    _, _, both, side = two()
    with pytest.raises(UserError, match=message):
        Tca(**settings).fit(both, domain=side)


def test_density_ratio_weights_a_known_shift() -> None:
    # p_s = N(0, 1), p_t = N(1, 1): log w(x) = x - 1/2, which is linear, so that the model is right.
    rng = np.random.default_rng(0)
    both = np.concatenate([rng.normal(size=2000), rng.normal(size=2000) + 1])[:, None]
    ours = DensityRatio(limit=100).fit(both, domain=np.repeat([0, 1], 2000)).weights_[:2000]
    slope, _ = np.polyfit(both[:2000, 0], np.log(ours), 1)
    assert slope == pytest.approx(1.0, abs=0.1)
    assert np.average(both[:2000, 0], weights=ours) == pytest.approx(1.0, abs=0.1)


def test_density_ratio_limits_the_largest_weight() -> None:
    rng = np.random.default_rng(0)
    both = np.concatenate([rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) + 3])
    wild, held = (DensityRatio(limit=v).fit(both, domain=np.repeat([0, 1], 100)) for v in (100.0, 0.2))
    assert held.effective_rows_ > 2 * wild.effective_rows_
    assert held.weights_.max() < wild.weights_.max()
    with pytest.raises(UserError, match="limit must be above 0, got 0"):
        DensityRatio(limit=0).fit(both, domain=np.repeat([0, 1], 100))


def test_nearest_neighbour_is_the_formula() -> None:
    source, target, both, side = two()
    scaled = pooled(both)
    counts = [1.0] * len(source)
    for j in range(len(target)):
        distances = [((scaled[i] - scaled[40 + j]) ** 2).sum() for i in range(len(source))]
        counts[int(np.argmin(distances))] += 1
    assert NearestNeighbour().fit(both, domain=side).weights_[:40] == pytest.approx(np.array(counts) / np.mean(counts))


@pytest.mark.parametrize(("most", "epsilon"), [(1000.0, None), (1.5, None), (1000.0, 0.0), (2.0, 0.05)])
def test_kmm_solves_its_quadratic_program(most: float, epsilon: float | None) -> None:
    source, target, both, side = two(20, 15)
    scaled = pooled(both)
    kernel = slow_kernel(scaled, slow_median(scaled))
    gram, kappa = kernel[:20, :20] + 1e-3 * np.eye(20), kernel[:20, 20:].mean(1) * 20
    slack = 20 * ((math.sqrt(20) - 1) / math.sqrt(20) if epsilon is None else epsilon)
    found = minimize(
        lambda w: 0.5 * w @ gram @ w - kappa @ w,
        np.ones(20),
        jac=lambda w: gram @ w - kappa,
        bounds=[(0, most)] * 20,
        constraints=[
            {"type": "ineq", "fun": lambda w: w.sum() - 20 + slack},
            {"type": "ineq", "fun": lambda w: 20 + slack - w.sum()},
        ],
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-14},
    )
    raw = box_program(gram, kappa, most, (20 - slack, 20 + slack))
    assert (raw >= 0).all() and (raw <= most).all() and abs(raw.sum() - 20) <= slack + 1e-4
    assert 0.5 * raw @ gram @ raw - kappa @ raw <= found.fun + 1e-5 * abs(found.fun)
    ours = Kmm(most=most, epsilon=epsilon).fit(both, domain=side).weights_[:20]
    assert ours == pytest.approx(found.x / found.x.mean(), abs=1e-2)


def slow_sinkhorn(costs: Floats, epsilon: float) -> Floats:
    kernel = np.exp(-costs / epsilon)
    u, v = np.ones(len(costs)), np.ones(costs.shape[1])
    for _ in range(5000):
        u = 1 / len(u) / (kernel @ v)
        v = 1 / len(v) / (kernel.T @ u)
    return np.asarray(u[:, None] * kernel * v)


def test_entropic_transport_is_the_formula_and_the_same_on_new_rows() -> None:
    pytest.importorskip("ot")
    source, target, both, side = two(20, 15)
    scaled = pooled(both)
    costs = np.array([[((a - b) ** 2).sum() for b in scaled[20:]] for a in scaled[:20]])
    plan = slow_sinkhorn(costs, 0.3 * slow_median(scaled))
    method = EntropicTransport(regularisation=0.3).fit(both, domain=side)
    wanted = plan @ target / plan.sum(1, keepdims=True)
    mapped = method.transform(both, domain=side)
    assert mapped[:20] == pytest.approx(wanted, abs=1e-3)
    assert np.array_equal(mapped[20:], target)
    assert method.transform(source[:3], domain=0) == pytest.approx(wanted[:3], abs=1e-3)
    assert method.error_ < 1e-3


def test_entropic_transport_keeps_within_its_rows_and_says_what_it_cannot_use() -> None:
    pytest.importorskip("ot")
    source, target, both, side = two(60, 50)
    method = EntropicTransport(most=20).fit(both, domain=side)
    assert len(method.rows_) == 20
    assert np.isfinite(method.transform(both, domain=side)).all()
    with pytest.raises(UserError, match="regularisation must be above 0"):
        EntropicTransport(regularisation=0).fit(both, domain=side)


def test_jdot_lowers_its_objective_and_follows_a_moved_regression() -> None:
    pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-2, 2, (120, 1)), rng.uniform(-2, 2, (100, 1))
    y_a, y_b = np.sin(a[:, 0]), np.sin(b[:, 0])
    both = np.concatenate([a, b + 0.8])  # the whole of p(x, y) moved to the right
    side, y = np.repeat([0, 1], [120, 100]), np.concatenate([y_a, np.full(100, np.nan)])
    method = JdotRegressor(alpha=0.1, ridge=0.05, rounds=8).fit(both, y, domain=side)
    assert (np.diff(method.objective_) <= 1e-9).all()
    from sklearn.kernel_ridge import KernelRidge

    plain = KernelRidge(alpha=0.05, kernel="rbf").fit(a, y_a).predict(b + 0.8)
    assert np.mean((method.predict(b + 0.8) - y_b) ** 2) < 0.5 * np.mean((plain - y_b) ** 2)


def test_one_round_of_jdot_is_the_formula() -> None:
    pytest.importorskip("ot")
    source, target, both, side = two(8, 6)
    y = np.concatenate([source[:, 0] - source[:, 1], np.full(6, np.nan)])
    scaled = pooled(both)
    known = (y[:8] - y[:8].mean()) / y[:8].std()
    square = slow_median(scaled)
    kernel = slow_kernel(scaled, square)
    said = kernel[8:, :8] @ np.linalg.solve(kernel[:8, :8] + np.eye(8), known)
    distances = ((scaled[:8, None] - scaled[8:]) ** 2).sum(2)
    costs = distances / distances.max() + (known[:, None] - said) ** 2
    sums = np.concatenate([np.kron(np.eye(8), np.ones(6)), np.kron(np.ones(8), np.eye(6))])
    plan = linprog(costs.ravel(), A_eq=sums, b_eq=np.repeat([1 / 8, 1 / 6], [8, 6])).x.reshape(8, 6)
    carried = 6 * plan.T @ known
    wanted = y[:8].mean() + y[:8].std() * (kernel[8:, 8:] @ np.linalg.solve(kernel[8:, 8:] + np.eye(6), carried))
    assert JdotRegressor(rounds=1).fit(both, y, domain=side).predict(target) == pytest.approx(wanted, abs=1e-6)


def test_jdot_needs_values_of_the_source() -> None:
    _, _, both, side = two(8, 6)
    with pytest.raises(UserError, match="1 source rows have no finite value"):
        JdotRegressor().fit(both, np.where(np.arange(14) == 3, np.nan, 1.0), domain=side)
    with pytest.raises(UserError, match="y must hold one value a row"):
        JdotRegressor().fit(both, np.ones(3), domain=side)
    with pytest.raises(UserError, match="not fitted"):
        JdotRegressor().predict(both)


def test_rows_are_put_in_order_by_content_alone() -> None:
    rows = np.array([[2.0, 1.0], [0.0, 3.0], [2.0, 1.0], [-0.0, 3.0]])
    order = base.by_content(rows)
    again = base.by_content(rows[::-1])
    assert np.array_equal(rows[order], rows[::-1][again])
