"""Intervals against formulas written out, against SciPy and on the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import stdtrit

from acclimate.metrics.base import mean_of
from acclimate.metrics.differences import paired, paired_shares
from acclimate.metrics.intervals import (
    BLOCKS,
    bca,
    limits,
    mean,
    mean_of_proportions,
    on_scale,
    proportion,
    resample,
    score_limits,
    wilson,
)
from acclimate.metrics.ranks import area, area_influence


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (29, 30), (30, 30), (500, 1000)])
def test_wilson_equals_scipy(hits: int, n: int):
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    found = wilson(hits, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_wilson_on_the_edges():
    assert wilson(1, 1).low == pytest.approx(1 / (1 + 1.959963985**2))
    assert wilson(1, 1).high == 1.0
    assert wilson(0, 1).low == 0.0
    with pytest.raises(ValueError, match="n > 0"):
        wilson(0, 0)


def test_proportion_of_plain_rows_is_wilson():
    hits = np.array([1.0] * 17 + [0.0] * 3)
    assert proportion(hits) == wilson(17, 20)
    assert proportion(hits, weights=np.ones(20)).low == pytest.approx(wilson(17, 20).low, abs=0.02)


def test_copies_within_clusters_count_once():
    once = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    alone = proportion(once, clusters=np.arange(12))
    copied = proportion(np.repeat(once, 5), clusters=np.repeat(np.arange(12), 5))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    assert proportion(np.repeat(once, 5)).low > copied.low + 0.1


def test_proportion_at_the_effective_n_by_hand():
    hits, group = np.array([1.0, 1.0, 1.0, 0.0, 1.0, 0.0]), np.array([0, 0, 1, 1, 2, 2])
    p = 4 / 6
    apart = [2 - 2 * p, 1 - 2 * p, 1 - 2 * p]
    variance = sum(a * a for a in apart) * 3 / 2 / 36
    n = min(12.0, p * (1 - p) / variance)
    expected = wilson(p * n, n, freedom=2)
    assert proportion(hits, clusters=group).low == pytest.approx(expected.low)


def test_a_perfect_score_in_clusters_keeps_a_lower_limit_below_that_of_rows():
    found = proportion(np.ones(40), clusters=np.repeat(np.arange(10), 4))
    assert found.high == 1.0
    assert found.low == pytest.approx(wilson(20, 20, freedom=9).low)  # √4 = 2 rows a cluster
    assert proportion(np.ones(5), clusters=np.zeros(5, dtype=int)) is None
    assert proportion(np.ones(5), of=np.zeros(5)) is None


def test_weights_shrink_n():
    hits = np.array([1.0, 0.0] * 20)
    heavy = np.array([10.0, 10.0] + [1.0] * 38)
    assert proportion(hits, weights=heavy).low < proportion(hits).low - 0.01


def test_mean_of_proportions_by_hand():
    a, b = wilson(9, 10), wilson(15, 20)
    found = mean_of_proportions([(0.9, a), (0.75, b)])
    assert found.low == pytest.approx(0.825 - math.hypot(0.9 - a.low, 0.75 - b.low) / 2)
    assert found.high == pytest.approx(0.825 + math.hypot(a.high - 0.9, b.high - 0.75) / 2)


def test_mean_of_symmetric_rows_is_student():
    x = np.array([-1.0, 1.0] * 15)
    half = stdtrit(29, 0.975) * x.std(ddof=1) / math.sqrt(30)
    found = mean(x)
    assert (found.low, found.high) == pytest.approx((-half, half))


def test_mean_of_skewed_rows_reaches_further_to_the_long_side():
    x = np.random.default_rng(0).exponential(size=40)
    found = mean(x)
    assert found.high - x.mean() > 1.2 * (x.mean() - found.low)
    assert mean(np.full(20, 3.0)) is None
    assert mean(np.array([1.0])) is None


def test_mean_of_copies_in_clusters_equals_the_mean_of_the_rows():
    x = np.random.default_rng(1).exponential(size=15)
    once, copied = mean(x), mean(np.repeat(x, 4), clusters=np.repeat(np.arange(15), 4))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    weighted = mean(x, weights=np.full(15, 7.0))
    assert (weighted.low, weighted.high) == pytest.approx((once.low, once.high))


def test_bca_agrees_with_scipy_where_n_is_large_enough_for_its_widening_not_to_matter():
    x = np.random.default_rng(2).exponential(size=400)
    found = bca(lambda rows: float(np.median(x[rows])), 400, resamples=4000)
    expected = stats.bootstrap((x,), np.median, n_resamples=4000, rng=np.random.default_rng(3)).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_resampling_is_the_same_for_the_same_seed_and_for_slow_and_fast_functions():
    x = np.random.default_rng(4).normal(size=25)
    fast = limits(resample([mean_of(x)], 25, seed=7)[0])
    slow = bca(lambda rows: float(x[rows].mean()), 25, seed=7)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high))
    assert limits(resample([mean_of(x)], 25, seed=8)[0]) != fast


def test_whole_clusters_are_drawn():
    x = np.repeat(np.random.default_rng(5).normal(size=12), 10)
    group = np.repeat(np.arange(12), 10)
    rows, clusters = limits(resample([mean_of(x)], 120)[0]), limits(resample([mean_of(x)], 120, clusters=group)[0])
    assert clusters.high - clusters.low > 2 * (rows.high - rows.low)


def test_no_spread_gives_no_interval_and_no_warning():
    same = resample([mean_of(np.ones(20)), lambda w: np.full(len(w), np.nan)], 20, resamples=50)
    assert limits(same[0]) is None
    assert limits(same[1]) is None
    assert score_limits(same[0]) is None
    assert limits(resample([mean_of(np.array([1.0]))], 1, resamples=50)[0]) is None


def test_resamples_without_a_value_are_left_out():
    x = np.random.default_rng(6).normal(size=30)

    def sometimes(w):
        values = mean_of(x)(w)
        return np.where((w[:, 0] == 0) & (w.sum(axis=1) == 30), np.nan, values)

    found = limits(resample([sometimes], 30, resamples=400)[0])
    assert found.low < x.mean() < found.high


def test_jackknife_stands_in_where_the_bootstrap_would_be_too_much_work():
    n = 60_000
    x = np.random.default_rng(7).normal(size=n)
    draws = resample([mean_of(x)], n, resamples=1000)[0]
    assert draws.replicates.shape == (0, 1)
    assert draws.blocks.shape == (BLOCKS, 1)
    found = limits(draws)
    assert (found.high - found.low) / 2 == pytest.approx(1.972 * x.std() / math.sqrt(n), rel=0.15)


def test_exact_jackknife_of_a_mean_on_the_real_scale():
    x = np.random.default_rng(8).normal(size=50)
    draws = resample([mean_of(x)], 50, resamples=0)[0]
    found = limits(draws)
    half = stdtrit(49, 0.975) * x.std(ddof=1) / math.sqrt(50)
    assert found.low <= x.mean() - half + 1e-9
    assert found.high >= x.mean() + half - 1e-9
    assert found.high - found.low < 2.3 * half


def test_score_limits_of_a_share_are_close_to_wilson():
    hits = np.array([1.0] * 45 + [0.0] * 15)
    found = score_limits(resample([mean_of(hits)], 60, resamples=0)[0])
    expected = wilson(45, 60)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.003)
    signed = score_limits(resample([mean_of(2 * hits - 1)], 60, resamples=0)[0], scale="signed")
    assert (signed.low, signed.high) == pytest.approx((2 * found.low - 1, 2 * found.high - 1))


@pytest.mark.parametrize(
    ("scale", "value"), [("unit", 0.9), ("signed", -0.5), ("positive", 2.0), ("below one", -3.0), ("real", 0.0)]
)
def test_scales_keep_their_range_and_agree_for_small_errors(scale: str, value: float):
    low, high = on_scale(value, 1e-4, 2.0, scale)
    assert (value - low, high - value) == pytest.approx((2e-4, 2e-4), rel=0.01)


def test_scales_give_up_on_the_edge():
    assert on_scale(1.0, 0.1, 2.0, "unit") is None
    assert on_scale(0.5, 0.0, 2.0, "unit") is None


def test_delong_by_slow_loops():
    rng = np.random.default_rng(9)
    y, s, w = rng.integers(2, size=40), rng.integers(8, size=40) + 0.0, rng.integers(1, 3, size=40) + 0.0
    s += y
    pairs = [(i, j) for i in np.flatnonzero(y == 1) for j in np.flatnonzero(y == 0)]
    wins = {(i, j): float(s[i] > s[j]) + 0.5 * float(s[i] == s[j]) for i, j in pairs}
    p, q = w[y == 1].sum(), w[y == 0].sum()
    expected = sum(w[i] * w[j] * v for (i, j), v in wins.items()) / (p * q)
    value, pull = area_influence(y == 1, s, w)
    assert value == pytest.approx(expected)
    assert area(y == 1, s)(w[None, :])[0] == pytest.approx(expected)
    first = int(np.flatnonzero(y == 1)[0])
    below = sum(w[j] * wins[first, j] for j in np.flatnonzero(y == 0)) / q
    assert pull[first] == pytest.approx(w[first] * (below - expected) / p)
    assert pull.sum() == pytest.approx(0, abs=1e-12)


def tango_by_search(wins: int, losses: int, n: int) -> tuple[float, float]:
    """All d at which the score statistic, with the nuisance share found by search, does not exceed 1.96."""
    inside = []
    for d in np.linspace(-0.999, 0.999, 1999):
        q = np.linspace(max(0.0, -d) + 1e-9, (1 - d) / 2 - 1e-9, 4001)  # share of losses; wins have q + d
        rest = 1 - 2 * q - d
        fit = wins * np.log(q + d) + losses * np.log(q) + (n - wins - losses) * np.log(rest)
        best = q[np.argmax(fit)]
        if abs(wins - losses - n * d) <= 1.959964 * math.sqrt(n * (2 * best + d - d * d)):
            inside.append(d)
    return min(inside), max(inside)


@pytest.mark.parametrize(("wins", "losses", "n"), [(9, 3, 40), (4, 4, 30), (1, 6, 25)])
def test_tango_by_search(wins: int, losses: int, n: int):
    a = np.array([1.0] * wins + [0.0] * losses + [1.0] * (n - wins - losses))
    b = np.array([0.0] * wins + [1.0] * losses + [1.0] * (n - wins - losses))
    value, found = paired_shares(a, b)
    assert value == pytest.approx((wins - losses) / n)
    assert (found.low, found.high) == pytest.approx(tango_by_search(wins, losses, n), abs=0.002)


def test_equal_answers_differ_by_at_most_what_n_can_tell():
    value, found = paired_shares(np.ones(30), np.ones(30))
    assert value == 0.0
    assert -0.12 < found.low < 0 < found.high < 0.12
    assert found.low == pytest.approx(-found.high)


def test_clusters_widen_a_paired_difference():
    rng = np.random.default_rng(10)
    a = np.repeat(rng.integers(2, size=20), 6).astype(float)
    b = np.repeat(rng.integers(2, size=20), 6).astype(float)
    group = np.repeat(np.arange(20), 6)
    _, rows = paired_shares(a, b)
    _, clusters = paired_shares(a, b, clusters=group)
    assert clusters.high - clusters.low > 2 * (rows.high - rows.low)
    _, rows = paired(mean_of(a), mean_of(b), 120)
    _, clusters = paired(mean_of(a), mean_of(b), 120, clusters=group)
    assert clusters.high - clusters.low > 2 * (rows.high - rows.low)


def test_paired_difference_of_means_is_at_least_student_on_the_differences():
    rng = np.random.default_rng(11)
    a, b = rng.normal(size=(2, 30))
    value, found = paired(mean_of(a), mean_of(b), 30)
    half = stdtrit(29, 0.975) * (a - b).std(ddof=1) / math.sqrt(30)
    assert value == pytest.approx((a - b).mean())
    assert found.low <= value - half + 1e-9
    assert found.high >= value + half - 1e-9
    assert paired(mean_of(a), mean_of(a), 30) == (0.0, None)
