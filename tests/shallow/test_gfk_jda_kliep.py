"""Geodesic flow kernel, joint distribution adaptation and KLIEP against their formulas, built another way."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import eigh, null_space, sqrtm, subspace_angles
from scipy.optimize import minimize

from acclimate.errors import UserError
from acclimate.shallow import Gfk, Jda, Kliep, Tca
from acclimate.shallow.geodesic import disagreement, flow_root
from acclimate.shallow.joint import class_gaps
from acclimate.shallow.weights import WIDTHS, held_out, mixture_shares
from shallow_oracles import pooled, slow_kernel, slow_median, two

Floats = NDArray[np.float64]


def bases(d: int, k: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return tuple(np.linalg.qr(rng.normal(size=(d, k)))[0] for _ in range(2))  # type: ignore[return-value]


def flow(ours: Floats, theirs: Floats, t: float) -> Floats:
    """Φ(t) with the complement of the source's subspace built in full, as the paper writes it."""
    rest = null_space(ours.T)
    u, gamma, vt = np.linalg.svd(ours.T @ theirs)
    angles = np.arccos(np.clip(gamma, -1, 1))
    across = -rest.T @ theirs @ vt.T / np.sin(angles)  # R_sᵀ P_t = -U₂ Σ Vᵀ
    return np.asarray(ours @ u * np.cos(t * angles) - rest @ across * np.sin(t * angles))


@pytest.mark.parametrize(("d", "k"), [(7, 3), (6, 3), (5, 1)])
def test_the_flow_kernel_is_the_integral_over_the_geodesic(d: int, k: int) -> None:
    ours, theirs = bases(d, k)
    assert np.abs(subspace_angles(flow(ours, theirs, 0.0), ours)).max() < 1e-7
    assert np.abs(subspace_angles(flow(ours, theirs, 1.0), theirs)).max() < 1e-7
    nodes, weights = np.polynomial.legendre.leggauss(20)
    wanted = np.zeros((d, d))
    for node, weight in zip(nodes, weights, strict=True):
        step = flow(ours, theirs, (node + 1) / 2)
        wanted += weight / 2 * step @ step.T
    root = flow_root(ours, theirs)
    assert root.shape == (d, 2 * k)
    assert root @ root.T == pytest.approx(wanted, abs=1e-9)


def test_the_flow_kernel_with_more_than_half_of_the_columns_and_with_equal_subspaces() -> None:
    # Other code needs d ≤ p/2, and takes arccos of 1 and a little more.
    ours, theirs = bases(4, 3)  # two of the three angles are 0
    assert flow_root(ours, theirs).shape == (4, 4)
    assert np.trace(flow_root(ours, theirs) @ flow_root(ours, theirs).T) == pytest.approx(3.0)  # that of every step
    same = flow_root(ours, ours)
    assert same.shape == (4, 3)
    assert same @ same.T == pytest.approx(ours @ ours.T, abs=1e-12)
    near = np.linalg.qr(ours + 1e-9 * theirs)[0]
    assert flow_root(ours, near) @ flow_root(ours, near).T == pytest.approx(ours @ ours.T, abs=1e-7)


def test_gfk_gives_the_inner_products_of_its_kernel_and_of_its_symmetric_root() -> None:
    source, target, both, side = two(d=4)
    unit = both.std(0)
    centred = np.where(side[:, None] == 0, both - source.mean(0), both - target.mean(0)) / unit
    leading = [np.linalg.svd(centred[side == k], full_matrices=False)[2][:2].T for k in (0, 1)]
    nodes, weights = np.polynomial.legendre.leggauss(20)
    kernel = sum(
        w / 2 * flow(*leading, (t + 1) / 2) @ flow(*leading, (t + 1) / 2).T for t, w in zip(nodes, weights, strict=True)
    )
    mapped = Gfk(n_components=2).fit_transform(both, domain=side)
    assert mapped.shape == (70, 4)
    assert mapped @ mapped.T == pytest.approx(centred @ kernel @ centred.T, abs=1e-8)
    whole = centred @ np.real(sqrtm(kernel))
    assert mapped @ mapped.T == pytest.approx(whole @ whole.T, abs=1e-6)


def test_the_disagreement_measure_compares_the_first_d_directions_of_each() -> None:
    rng = np.random.default_rng(4)
    parts = [np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(3)]
    values = []
    for d in range(1, 7):
        largest = [subspace_angles(part[:, :d], parts[2][:, :d]).max() for part in parts[:2]]
        values.append(0.5 * (math.sin(largest[0]) + math.sin(largest[1])))
    assert disagreement(*parts) == int(np.argmax(values)) + 1
    assert max(values) < 0.99 and values[-1] == pytest.approx(0.0, abs=1e-7)
    turned = parts[2].copy()
    turned[:, [1, 5]] = turned[:, [5, 1]]  # the second direction of both domains is none of the first five of all
    assert disagreement(turned, turned, parts[2]) == 2


def test_gfk_says_what_it_cannot_do() -> None:
    _, _, both, side = two()
    with pytest.raises(UserError, match="n_components must be from 1 to 3 with these rows, got 4"):
        Gfk(n_components=4).fit(both, domain=side)
    assert 1 <= Gfk().fit(both, domain=side).n_components_ <= 3


def slow_jda(kernel: Floats, v: list[Floats], mu: float, k: int) -> Floats:
    """Equation 10 by a general solver on full matrices."""
    n = len(kernel)
    m = sum(np.outer(one, one) for one in v)
    centre = np.eye(n) - 1 / n
    left, right = kernel @ centre @ kernel, kernel @ m @ kernel / np.linalg.norm(m) + mu * np.eye(n)
    _, vectors = eigh((left + left.T) / 2, (right + right.T) / 2)
    z = kernel @ vectors[:, ::-1][:, :k]
    return np.asarray(z / z.std(0))


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_jda_is_its_algorithm(kernel: str) -> None:
    source, target, both, side = two()
    y = np.where(source[:, 0] > source[:, 0].mean(), "b", "a")
    scaled = pooled(both)
    gram = slow_kernel(scaled, slow_median(scaled)) if kernel == "rbf" else scaled @ scaled.T
    v = [np.where(side == 0, 1 / 40, -1 / 30)]
    for _ in range(3):
        z = slow_jda(gram, v, 0.5, 2)
        guessed = [y[min(range(40), key=lambda i: float(((z[i] - row) ** 2).sum()))] for row in z[40:]]
        v = v[:1]
        for c in ("a", "b"):
            if c in guessed:
                ours = [(1 / int((y == c).sum())) * (label == c) for label in y]
                v.append(np.array([*ours, *(-(g == c) / guessed.count(c) for g in guessed)]))
    wanted = slow_jda(gram, v, 0.5, 2)
    labels = np.concatenate([y.astype(object), np.full(30, None)])
    mapped = Jda(n_components=2, kernel=kernel, mu=0.5, rounds=4).fit_transform(both, labels, domain=side)
    assert mapped * np.sign((mapped * wanted).sum(0)) == pytest.approx(wanted, abs=1e-5)


def test_one_round_of_jda_is_tca_and_its_guesses_stay() -> None:
    _, _, both, side = two()
    y = np.where(both[:, 0] > 0, 1, 0)
    norm = float(np.linalg.norm(class_gaps(np.zeros(40, int), None, 30)) ** 2)
    one = Jda(n_components=2, rounds=1).fit_transform(both, y, domain=side)
    assert one == pytest.approx(Tca(n_components=2, mu=norm).fit_transform(both, domain=side), abs=1e-8)
    assert Jda(n_components=2).fit(both, y, domain=side).rounds_ < 10


def test_jda_brings_each_class_together_where_tca_brings_the_means_alone() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    both = np.stack([6.0 * y, np.zeros(200), rng.normal(size=200)], axis=1) + 0.3 * rng.normal(size=(200, 3))
    side = np.repeat([0, 1], 100)
    both[side == 1, 1] += np.where(y[side == 1] == 1, 2.0, -2.0)  # classes moved apart: the mean of all stays
    gaps = {}
    for method in (Tca(n_components=2, kernel="linear", mu=1e-2), Jda(n_components=2, kernel="linear", mu=1e-2)):
        z = method.fit_transform(both, np.where(side == 0, y, -1), domain=side)
        gaps[type(method)] = sum(
            float(((z[(side == 0) & (y == c)].mean(0) - z[(side == 1) & (y == c)].mean(0)) ** 2).sum()) for c in (0, 1)
        )
    assert gaps[Jda] < 0.1 * gaps[Tca]


def test_jda_takes_classes_of_any_name_one_class_and_classes_without_a_guess() -> None:
    _, _, both, side = two()
    y = np.where(both[:, 0] > 0, 1, 0)
    plain = Jda(n_components=2).fit_transform(both, y, domain=side)
    # Other code counts classes from 1 and divides by 0 where a class is not guessed.
    assert np.array_equal(plain, Jda(n_components=2).fit_transform(both, y * 7 - 3, domain=side))
    for labeller in ("nearest", "logistic"):
        alone = Jda(n_components=2, labeller=labeller).fit_transform(both, np.zeros(70), domain=side)
        assert np.isfinite(alone).all()
    rare = np.where(np.arange(70) == np.argmin(both[:40, 0]), 2, y)
    assert np.isfinite(Jda(n_components=2).fit_transform(both, rare, domain=side)).all()
    assert class_gaps(np.array([0, 1]), np.array([0, 0]), 2).shape == (2, 4)


@pytest.mark.parametrize("labeller", ["nearest", "logistic"])
def test_equal_rows_of_two_classes_do_not_depend_on_their_order(labeller: str) -> None:
    _, _, both, side = two()
    both[:20] = both[20:40]
    y = np.repeat([0, 1, 0], [20, 20, 30])
    method = Jda(n_components=2, labeller=labeller, rounds=3)
    order = np.random.default_rng(1).permutation(70)
    whole = method.fit_transform(both, y, domain=side)
    assert method.fit_transform(both[order], y[order], domain=side[order]) == pytest.approx(whole[order], abs=1e-7)


@pytest.mark.parametrize(
    ("y", "settings", "message"),
    [
        (None, {}, "jda needs y"),
        (np.zeros(3), {}, "y must hold one class a row: 70 rows"),
        (np.full(70, np.nan), {}, "40 source rows have no class"),
        (np.linspace(0, 1, 70), {}, "y holds numbers such as"),
        (np.arange(70) % 2, {"labeller": "neares"}, "unknown labeller 'neares'; did you mean 'nearest'"),
        (np.arange(70) % 2, {"rounds": 0}, "rounds must be at least 1, got 0"),
        (np.arange(70) % 2, {"mu": -1.0}, "mu must be above 0"),
    ],
)
def test_jda_says_what_it_needs(y: Any, settings: dict[str, Any], message: str) -> None:
    _, _, both, side = two()
    with pytest.raises(UserError, match=message):
        Jda(**settings).fit(both, y, domain=side)


def test_jda_keeps_to_landmarks_with_many_rows_and_stays_near() -> None:
    _, _, both, side = two(200, 150)
    y = np.where(both[:, 0] > 0, 1, 0)
    exact = Jda(n_components=3, rounds=2).fit(both, y, domain=side)
    some = Jda(n_components=3, rounds=2, landmarks=80).fit(both, y, domain=side)
    assert some.weights_.shape[0] <= 80 < exact.weights_.shape[0] == 350
    assert np.abs(subspace_angles(exact.transform(both, domain=side), some.transform(both, domain=side))).max() < 0.25


def objective(alpha: Floats, ours: Floats, theirs: Floats) -> float:
    """(1/m) Σ_j log Σ_l α_l k(x_j, c_l), by loops, with α scaled to keep the constraint."""
    n, m = len(ours), len(theirs)
    whole = sum(sum(a * k for a, k in zip(alpha, row, strict=True)) for row in ours) / n
    return sum(math.log(sum(a / whole * k for a, k in zip(alpha, row, strict=True))) for row in theirs) / m


def test_kliep_solves_its_program() -> None:
    _, _, both, side = two(25, 12)
    scaled = pooled(both)
    square = 0.25 * slow_median(scaled)
    kernel = slow_kernel(scaled, square)
    ours, theirs = kernel[:25, 25:], kernel[25:, 25:]
    found = minimize(
        lambda a: -float(np.log(theirs @ a).mean()),
        np.full(12, 1 / (ours.mean(0) @ np.ones(12))),
        bounds=[(1e-12, None)] * 12,
        constraints=[{"type": "eq", "fun": lambda a: ours.mean(0) @ a - 1}],
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-14},
    )
    weights = Kliep(width=0.5).fit(both, domain=side).weights_[:25]
    level = np.log(ours.mean(0))
    shares = mixture_shares(np.log(theirs) - level)
    alpha = shares / ours.mean(0)
    assert weights == pytest.approx(ours @ alpha, rel=1e-6)
    assert weights.mean() == pytest.approx(1.0)
    best = objective(alpha, ours, theirs)
    assert best >= -found.fun - 1e-6
    assert best == pytest.approx(-found.fun, abs=1e-4)
    # Karush, Kuhn and Tucker: no centre would gain, and those in use gain exactly 1. A bound on what is missing, too.
    gain = np.mean(theirs / ours.mean(0) / (theirs @ alpha)[:, None], axis=0)
    assert gain.max() < 1 + 1e-4
    assert gain[shares > 1e-3] == pytest.approx(1.0, abs=1e-3)
    # The reference library's gradient step is 2.2e-16 long: what it gives is what its projection alone makes of even α.
    b, projected = ours.mean(0), np.ones(12)
    for _ in range(1000):
        projected = np.maximum(0.0, projected + (1 - b @ projected) * b / (b @ b))
        projected /= b @ projected
    assert best > max(objective(np.ones(12), ours, theirs), objective(projected, ours, theirs)) + 0.05


def test_kliep_finds_a_known_ratio() -> None:
    # p_s = N(0, 1), p_t = N(1, 1/4): log w(x) = log 2 - 2(x - 1)² + x²/2.
    rng = np.random.default_rng(0)
    both = np.concatenate([rng.normal(size=800), 0.5 * rng.normal(size=500) + 1])[:, None]
    method = Kliep().fit(both, domain=np.repeat([0, 1], [800, 500]))
    x, ours = both[:800, 0], method.weights_[:800]
    true = 2 * np.exp(-2 * (x - 1) ** 2 + x**2 / 2)
    assert np.abs(ours - true).mean() < 0.15 * true.mean()
    assert np.average(x, weights=ours) == pytest.approx(1.0, abs=0.05)
    assert method.width_ < 1


def test_the_width_is_that_of_the_largest_held_out_likelihood_by_loops() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(size=(30, 2)), 0.4 * rng.normal(size=(20, 2)) + 0.8
    at, fold = np.array([1, 4, 7, 12, 18]), np.arange(20) % 3
    values = []
    for width in WIDTHS:
        total = 0.0
        near = [
            np.array([[((x - theirs[c]) ** 2).sum() / (2 * width**2) for c in at] for x in z]) for z in (ours, theirs)
        ]
        for k in range(3):
            own = [i for i in range(5) if fold[at[i]] != k]
            level = [math.log(sum(math.exp(-near[0][i, c]) for i in range(30)) / 30) for c in own]
            logs = np.array([[-near[1][j, c] - b for c, b in zip(own, level, strict=True)] for j in range(20)])
            shares = mixture_shares(logs[fold != k])
            new = [
                math.log(sum(s * math.exp(v) for s, v in zip(shares, logs[j], strict=True)))
                for j in range(20)
                if fold[j] == k
            ]
            total += sum(new) / len(new) / 3
        values.append(total)
        assert held_out(near[0], near[1], fold, at) == pytest.approx(total, abs=1e-9)
    assert np.argmax(values) not in (0, len(WIDTHS) - 1)


def test_copies_of_target_rows_change_nothing() -> None:
    # A row that is held out beside its copy, or has a centre of its own, would make the narrowest width win.
    rng = np.random.default_rng(3)
    source, target = rng.normal(size=(300, 2)), 0.5 * rng.normal(size=(40, 2)) + 0.5
    once, thrice = (
        Kliep(centres=1000).fit(np.concatenate([source, rows]), domain=np.repeat([0, 1], [300, len(rows)]))
        for rows in (target, np.repeat(target, 3, 0))
    )
    assert once.width_ == thrice.width_ == 0.25


def test_kliep_stays_finite_without_overlap() -> None:
    rng = np.random.default_rng(0)
    both = np.concatenate([rng.normal(size=(50, 2)), rng.normal(size=(40, 2)) + 1e4])
    weights = Kliep().fit(both, domain=np.repeat([0, 1], [50, 40])).weights_[:50]
    assert np.isfinite(weights).all() and weights.mean() == pytest.approx(1.0)


@pytest.mark.parametrize("method", [Kliep(width=0.5), Jda(rounds=2), Gfk()])
def test_many_rows_make_no_square_matrix(method: Any) -> None:
    rng, n = np.random.default_rng(0), 5000
    both = np.concatenate([rng.normal(size=(n, 3)), rng.normal(size=(n, 3)) + 0.5])
    tracemalloc.start()
    method.fit(both, both[:, 0] > 0, domain=np.repeat([0, 1], n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (2 * n) ** 2 * 8 / 8


@pytest.mark.parametrize("settings", [{"width": 0.0}, {"centres": 1}, {"folds": 1}])
def test_kliep_checks_its_settings(settings: dict[str, Any]) -> None:
    _, _, both, side = two()
    with pytest.raises(UserError, match="width must be above 0, centres at least 2 and folds at least 2"):
        Kliep(**settings).fit(both, domain=side)
