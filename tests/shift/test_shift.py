"""How far apart two domains are: each figure against slow loops, closed forms and samples whose answer is known."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from acclimate.errors import UserError
from acclimate.shallow import Standardise
from acclimate.shallow.domains import Told, deal, tell_apart, units_of
from acclimate.shift import differing, discrepancy, label_shift, measure
from acclimate.shift.discrepancy import mmd, permuted
from acclimate.shift.mixture import Explained, decide, explained
from acclimate.shift.prior import Prior, bbse, calibrated, em, fit_calibration, maximised
from acclimate.shift.telling import apart

Floats = NDArray[np.float64]


def drawn(n: int, positive: float, seed: int, moved: float = 0.0, d: int = 6) -> tuple[Floats, Any]:
    """Two classes two deviations apart; `moved` moves another column, whatever the class."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < positive).astype(np.int64)
    x = rng.normal(size=(n, d))
    x[:, 0] += 2 * y
    x[:, 1] += moved
    return x, y


# --- telling apart


def test_equal_rows_and_groups_are_held_out_together() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(30, 2)), 2, axis=0)
    units = units_of(rows, np.arange(60) // 4)
    assert (units == np.arange(60) // 4).all()
    fold = deal(units, np.repeat([0, 1], 30), 5, 0)
    assert all(len(set(fold[units == u])) == 1 for u in range(15))
    assert [sorted(set(fold[s : s + 30])) for s in (0, 30)] == [[0, 1, 2, 3, 4]] * 2


def test_copies_do_not_make_domains_look_apart() -> None:
    # Twenty rows, each five times: with copies on both sides of a fold any model would know them again.
    rng = np.random.default_rng(1)
    source, target = (np.repeat(rng.normal(size=(20, 30)), 5, axis=0) for _ in range(2))
    found = apart(tell_apart(source, target)).auc
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.low < 0.5 < found.high
    assert found.high - found.low > 0.3  # 40 units, not 200 rows


def test_the_order_of_the_rows_does_not_matter() -> None:
    source, target = drawn(80, 0.5, 0)[0], drawn(60, 0.5, 1, 1.0)[0]
    told = tell_apart(source, target)
    order = np.random.default_rng(0).permutation(80)
    again = tell_apart(source[order], target)
    assert again.source == pytest.approx(told.source[order], abs=1e-9)
    assert again.target == pytest.approx(told.target, abs=1e-9)


def test_auc_and_distance_are_their_formulas() -> None:
    odds = np.array([-2.0, -1.0, 0.5, 0.2]), np.array([1.0, 0.3, -0.5])
    found = apart(Told(*odds, np.arange(7), np.zeros(7, np.int64), 1.0))
    pairs = [float(t > s) + 0.5 * float(t == s) for s in odds[0] for t in odds[1]]
    assert found.auc.value == pytest.approx(sum(pairs) / 12)
    assert found.a_distance.value == pytest.approx(2 * (1 - 2 * 0.5 * (2 / 4 + 1 / 3)))


def test_the_distance_is_never_negative_and_never_beyond_two() -> None:
    wrong = apart(Told(np.full(9, 1.0), np.full(9, -1.0), np.arange(18), np.zeros(18, np.int64), 1.0))
    right = apart(Told(np.full(9, -1.0), np.full(9, 1.0), np.arange(18), np.zeros(18, np.int64), 1.0))
    assert (wrong.a_distance.value, wrong.a_distance.low, wrong.auc.value) == (0.0, 0.0, 0.0)
    assert (right.a_distance.value, right.a_distance.high, right.auc.value) == (2.0, 2.0, 1.0)
    assert right.auc.low is not None and 0.4 < right.auc.low < 1  # nine rows prove no perfection


def test_domains_that_are_alike_and_unlike() -> None:
    alike = apart(tell_apart(drawn(300, 0.5, 0)[0], drawn(200, 0.5, 1)[0]))
    unlike = apart(tell_apart(drawn(300, 0.5, 0)[0], drawn(200, 0.5, 1, 2.0)[0]))
    assert alike.auc.low is not None and alike.auc.low < 0.5 and alike.a_distance.low == 0.0
    # The best rule for two unit Gaussians 2 apart errs with Φ(-1) = 0.159: d_A = 1.365, the area is Φ(√2) = 0.921
    assert unlike.a_distance.low is not None and unlike.a_distance.high is not None
    assert unlike.a_distance.low < 1.365 < unlike.a_distance.high < 1.6
    assert unlike.auc.low is not None and unlike.auc.high is not None
    assert 0.8 < unlike.auc.low < unlike.auc.high < 0.96  # the fitted rule is a little worse than the best


def test_what_cannot_be_told_is_said() -> None:
    with pytest.raises(UserError, match="fewer than 2 different rows"):
        tell_apart(np.ones((9, 2)), np.ones((8, 2)))
    with pytest.raises(UserError, match="source has 2 columns and target 3"):
        tell_apart(np.ones((9, 2)), np.ones((8, 3)))


# --- MMD


def slow_mmd(source: Floats, target: Floats) -> float:
    both = np.concatenate([source, target])
    both = (both - both.mean(0)) / both.std(0)
    a, b = both[: len(source)], both[len(source) :]
    n, m = len(a), len(b)
    square = np.median([((both[i] - both[j]) ** 2).sum() for i in range(n + m) for j in range(i + 1, n + m)])

    def k(x: Floats, z: Floats) -> float:
        return math.exp(-((x - z) ** 2).sum() / (2 * square))

    within = [sum(k(r[i], r[j]) for i in range(len(r)) for j in range(len(r)) if i != j) for r in (a, b)]
    across = sum(k(x, z) for x in a for z in b)
    return within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * across / (n * m)


def test_mmd_is_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = drawn(23, 0.5, 0)[0], drawn(17, 0.5, 1, 0.5)[0]
    whole = mmd(source, target, permutations=50)
    assert whole.value == pytest.approx(slow_mmd(source, target), abs=1e-12)
    monkeypatch.setattr(discrepancy, "ROWS_AT_A_TIME", 7)
    assert mmd(source, target, permutations=50).value == pytest.approx(whole.value, abs=1e-12)
    assert mmd(source[::-1], target, permutations=50) == whole


def test_mmd_keeps_its_level_and_sees_a_shift() -> None:
    p = np.array([mmd(drawn(30, 0.5, s)[0], drawn(20, 0.5, 999 + s)[0], permutations=99).p for s in range(200)])
    assert 2 <= (p <= 0.05).sum() <= 20  # 10 expected
    assert 80 <= (p <= 0.5).sum() <= 120
    assert mmd(drawn(100, 0.5, 0)[0], drawn(80, 0.5, 1, 1.0)[0], permutations=99).p == 0.01


def test_mmd_permutes_whole_groups() -> None:
    # Four groups of equal rows a side: without groups every sample "differs", with them nothing can be said.
    rng = np.random.default_rng(0)
    source, target = (
        np.repeat(rng.normal(size=(4, 3)), 25, axis=0) + rng.normal(size=(100, 3)) * 0.01 for _ in range(2)
    )
    groups = np.arange(200) // 25
    assert mmd(source, target, permutations=99).p == 0.01
    with_groups = mmd(source, target, groups=groups, permutations=99)
    assert with_groups.p > 0.05
    assert with_groups.units == 8
    side = np.repeat([1.0, 0.0], 100)
    for marks in permuted(side, groups, 5, 0):
        assert marks.sum() == 100
        assert all(len(set(marks[groups == g])) == 1 for g in range(8))


def test_mmd_of_equal_rows_is_zero() -> None:
    found = mmd(np.ones((5, 2)), np.ones((4, 2)), permutations=10)
    assert (found.value, found.p, found.units) == (0.0, 1.0, 1)


# --- class shares


def judged(n: int, m: int, share: float, seed: int) -> tuple[Floats, Any, Floats]:
    """The true posteriors at equal shares for classes N(0, 1) and N(2, 1); the target has `share` of class 1."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    t = (rng.random(m) < share).astype(int)
    proba = [1 / (1 + np.exp(-(2 * (rng.normal(size=len(v)) + 2 * v) - 2))) for v in (y, t)]
    p, q = (np.stack([1 - v, v], axis=1) for v in proba)
    return p, y, q


def test_bbse_solves_its_equations() -> None:
    p, y, q = judged(400, 300, 0.8, 0)
    found = bbse(p, y, q, resamples=20)
    confusion = np.array([[np.mean((p.argmax(1) == i) & (y == j)) for j in (0, 1)] for i in (0, 1)])
    w = np.linalg.solve(confusion, [np.mean(q.argmax(1) == i) for i in (0, 1)])
    assert found.target == pytest.approx(w / 2)
    assert found.weights == pytest.approx(w)
    assert found.condition == pytest.approx(np.linalg.cond(confusion))


def test_em_is_at_the_highest_likelihood() -> None:
    p, y, q = judged(400, 300, 0.8, 0)
    settings = fit_calibration(np.log(p), y, np.ones(400), None)
    new = calibrated(np.log(q), settings)

    def unlikely(share: Any) -> float:
        return -float(np.log(new[:, 0] / 0.5 * (1 - share[0]) + new[:, 1] / 0.5 * share[0]).sum())

    best = minimize(unlikely, [0.5], bounds=[(1e-6, 1 - 1e-6)], method="L-BFGS-B", options={"ftol": 1e-14}).x[0]
    assert maximised(new, np.array([0.5, 0.5]), np.ones(300))[1] == pytest.approx(best, abs=1e-4)
    assert em(p, y, q, resamples=2).target[1] == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("estimate", [bbse, em])
def test_estimates_find_known_shares_within_their_intervals(estimate: Any) -> None:
    inside = 0
    for seed in range(12):
        found = estimate(*judged(300, 200, 0.9, seed), resamples=60, seed=seed)
        assert sum(found.target) == pytest.approx(1.0)
        inside += found.low[1] <= 0.9 <= found.high[1]
    assert inside >= 10


def test_em_calibrates_first() -> None:
    # Probabilities of a model that is three times too sure: plain EM would go to .95.
    p, y, q = judged(2000, 1500, 0.7, 1)
    sure = [np.exp(3 * np.log(v)) / np.exp(3 * np.log(v)).sum(1, keepdims=True) for v in (p, q)]
    assert em(sure[0], y, sure[1], resamples=2).target[1] == pytest.approx(em(p, y, q, resamples=2).target[1], abs=1e-3)


def test_estimates_take_every_fold_s_model_and_name_what_is_wrong() -> None:
    p, y, q = judged(100, 80, 0.5, 0)
    assert bbse(p, y, np.stack([q, q]), resamples=5).target == bbse(p, y, q, resamples=5).target
    with pytest.raises(UserError, match="no source row has class 0"):
        em(p, np.ones(100, int), q)
    with pytest.raises(UserError, match=r"got the shapes \(100, 2\), \(99,\) and \(80, 2\)"):
        bbse(p, y[1:], q)


# --- whether label shift explains the target


def test_the_test_keeps_its_level_under_label_shift() -> None:
    p = []
    for seed in range(60):
        (x, y), (t, _) = drawn(150, 0.5, seed), drawn(120, 0.9, 500 + seed)
        p.append(explained(x, y, t, resamples=100, seed=seed).p)
    assert (np.array(p) <= 0.05).sum() <= 8  # 3 expected
    assert 18 <= (np.array(p) <= 0.5).sum() <= 42


def test_pure_label_shift_is_applied_and_finds_the_shares() -> None:
    (x, y), (t, _) = drawn(400, 0.5, 1), drawn(300, 0.9, 2)
    found = measure(x, t, labels=y).labels
    assert found is not None
    assert found.decision.apply, found.decision.why
    assert found.em.target[1] == pytest.approx(0.9, abs=0.06)
    assert found.bbse.target[1] == pytest.approx(0.9, abs=0.1)
    assert found.explained.mixture[1] == pytest.approx(0.9, abs=0.1)
    assert found.explained.share > 0.8


def test_under_label_shift_maps_harm_and_the_test_offers_weights_instead() -> None:  # A9
    (x, y), (t, truth) = drawn(400, 0.5, 1), drawn(400, 0.9, 2)
    found = label_shift(x, y, t)
    plain = LogisticRegression().fit(x, y).predict_proba(t)
    side = np.repeat([0, 1], 400)
    z = Standardise().fit_transform(np.concatenate([x, t]), domain=side)
    mapped = LogisticRegression().fit(z[:400], y).predict(z[400:])
    alone = (plain.argmax(1) == truth).mean()
    assert (mapped == truth).mean() < alone - 0.05
    assert found.decision.apply
    assert ((plain * found.em.weights).argmax(1) == truth).mean() > alone + 0.02


def test_the_test_does_not_depend_on_the_order_of_the_rows() -> None:
    (x, y), (t, _) = drawn(60, 0.5, 1), drawn(50, 0.9, 2, 0.5)
    order, groups = np.random.default_rng(0).permutation(60), np.arange(110) // 2
    found = explained(x, y, t, groups=groups, resamples=50)
    again = explained(x[order], y[order], t, groups=np.concatenate([groups[:60][order], groups[60:]]), resamples=50)
    assert again.p == found.p
    assert again.mixture == pytest.approx(found.mixture)


def test_a_shift_of_features_is_not_explained() -> None:
    (x, y), (t, _) = drawn(400, 0.5, 1), drawn(300, 0.5, 2, 1.5)
    found = measure(x, t, labels=y).labels
    assert found is not None
    assert found.explained.p < 0.01
    assert not found.decision.apply
    assert "more than the class shares has changed" in found.decision.why


def test_without_a_shift_there_is_nothing_to_apply() -> None:
    (x, y), (t, _) = drawn(400, 0.5, 1), drawn(300, 0.5, 2)
    found = measure(x, t, labels=y).labels
    assert found is not None and found.explained.p > 0.05 and not found.decision.apply


def test_the_nearest_mixture_is_the_formula() -> None:
    (x, y), (t, _) = drawn(30, 0.5, 1), drawn(20, 0.9, 2)
    both = np.concatenate([x, t])
    both = (both - both.mean(0)) / both.std(0)
    distances = ((both[:, None] - both) ** 2).sum(2)
    square = np.median(distances[np.triu_indices(50, 1)])
    kernel = np.exp(-distances / (2 * square))

    def left(share: float) -> float:
        """Unbiased: no pair of a row and itself."""
        parts = [(1 - share, np.flatnonzero(y == 0)), (share, np.flatnonzero(y == 1)), (-1.0, np.arange(30, 50))]
        total = 0.0
        for a, i in parts:
            for b, j in parts:
                block = kernel[np.ix_(i, j)]
                total += a * b * ((block.sum() - len(i)) / (len(i) * (len(i) - 1)) if i is j else block.mean())
        return total

    shares = np.linspace(0, 1, 2001)
    best = shares[int(np.argmin([left(s) for s in shares]))]
    assert explained(x, y, t, resamples=10).mixture[1] == pytest.approx(best, abs=1e-3)


def prior(target: float, half: float) -> Prior:
    low, high = (1 - target - half, target - half), (1 - target + half, target + half)
    return Prior("EM", (0.5, 0.5), (1 - target, target), low, high, 2.0)


@pytest.mark.parametrize(
    ("p", "share", "mixture", "shares", "says"),
    [
        (0.3, 0.9, 0.8, prior(0.8, 0.05), True),
        (0.01, 0.9, 0.8, prior(0.8, 0.05), False),
        (0.3, 0.9, 0.5, prior(0.52, 0.05), False),  # not moved
        (0.3, 0.2, 0.8, prior(0.8, 0.05), False),  # hardly explains
        (0.3, 0.9, 0.6, prior(0.9, 0.05), False),  # the two disagree
    ],
)
def test_shares_are_applied_only_when_all_agrees(
    p: float, share: float, mixture: float, shares: Prior, says: bool
) -> None:
    assert decide(shares, Explained(p, share, (1 - mixture, mixture), 0.0, 1.0, 100)).apply is says


def test_labels_are_checked() -> None:
    with pytest.raises(UserError, match="one whole number from 0 for each of 4 source rows"):
        explained(np.ones((4, 2)), np.ones(3, int), np.ones((4, 2)))
    with pytest.raises(UserError, match="2 source rows of each"):
        explained(np.ones((4, 2)), np.array([0, 0, 0, 1]), np.ones((4, 2)))


# --- what differs


def test_words_that_differ_most_come_first() -> None:
    source = ["a good film"] * 30 + ["a bad film"] * 30
    target = ["a good phone :)"] * 25 + ["a bad phone"] * 25
    found = differing.words(source, target, 3)
    assert [one.name for one in found] == ["film", "phone", ":)"]
    a = 61 / 112
    size = math.log((0 + a) / (50 - 0 + 1 - a)) - math.log((60 + a) / (60 - 60 + 1 - a))
    assert found[0].size == pytest.approx(size)
    assert (found[0].source, found[0].target, found[2].target) == (1.0, 0.0, 0.5)
    assert found[0].p < 0.05
    assert differing.words([""], [""]) == []


def test_columns_that_differ_most_come_first() -> None:
    rng = np.random.default_rng(0)
    source = {
        "age": rng.normal(50, 5, 100).tolist(),
        "sex": ["f", "m"] * 50,
        "chol": ["200"] * 100,
        "site": ["x"] * 100,
    }
    target = {"age": rng.normal(50, 5, 80).tolist(), "sex": ["m"] * 60 + ["f"] * 20, "chol": ["0"] * 40 + [""] * 40}
    found = differing.columns(source, target)
    assert [one.name for one in found][:2] == ["chol", "sex"]
    assert found[0].size == 1.0
    assert found[0].note == "missing: 0% of source, 50% of target"
    assert found[1].size == pytest.approx(0.25)
    assert found[1].note == "shares of 'm'"
    assert (found[1].source, found[1].target) == (0.5, 0.75)
    assert found[2].name == "age" and found[2].p > 0.05


def test_everything_at_once_is_plain_values() -> None:
    (x, y), (t, _) = drawn(60, 0.5, 1), drawn(50, 0.5, 2, 3.0)
    found = measure(
        x,
        t,
        labels=y,
        texts=(["old word"] * 60, ["new word"] * 50),
        tables=({"a": x[:, 1].tolist()}, {"a": t[:, 1].tolist()}),
        groups=(np.arange(60), np.arange(100, 150)),
    )
    assert {one.name for one in found.words[:2]} == {"old", "new"}
    assert found.columns[0].size > 0.8
    told = tell_apart(x, t, groups=np.concatenate([np.arange(60), np.arange(100, 150)]).astype(str))
    assert found.target_rows[0] == int(told.target.argmax())
    assert found.source_rows[0] == int(told.source.argmin())
    json.dumps(found.to_json())
