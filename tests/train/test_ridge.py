"""Ridge in closed form against scikit-learn, and leaving out against fitting again without the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from acclimate.train import ridge
from acclimate.train.ridge import Ridge, judged, leave_out

RNG = np.random.default_rng(11)
N = 40
Y = RNG.normal(size=(N, 2))
WEIGHTS = RNG.random(N) + 0.3
UNITS = np.r_[np.arange(20), np.repeat([30, 31, 32], [5, 5, 10])][RNG.permutation(N)]


def features(d: int) -> Any:
    return RNG.normal(size=(N, d)) + 3 + Y[:, :1]


def reference(x: Any, strength: float, keep: Any) -> Any:
    from sklearn.linear_model import Ridge as Theirs

    return Theirs(alpha=1 / (2 * strength), solver="cholesky").fit(x[keep], Y[keep], sample_weight=WEIGHTS[keep])


@pytest.mark.parametrize("d", [6, 90])
@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_the_head_is_weighted_ridge_regression(d: int, strength: float) -> None:
    x = features(d)
    weight, bias = Ridge.of(x, Y, WEIGHTS).head(strength)
    theirs = reference(x, strength, np.arange(N))
    assert weight == pytest.approx(theirs.coef_.T, abs=1e-8)
    assert bias == pytest.approx(theirs.intercept_, abs=1e-8)


@pytest.mark.parametrize("d", [6, 90])
@pytest.mark.parametrize("units", [np.arange(N), UNITS], ids=["rows", "groups"])
def test_the_error_without_a_unit_is_that_of_a_fit_without_it(d: int, units: Any) -> None:
    x, strengths = features(d), (0.1, 10.0)
    fitted, total = Ridge.of(x, Y, WEIGHTS), []
    for strength in strengths:
        expected = np.empty_like(Y)
        for unit in np.unique(units):
            out = units == unit
            expected[out] = Y[out] - reference(x, strength, ~out).predict(x[out])
        assert next(fitted.errors([strength], units)) == pytest.approx(expected, abs=1e-8)
        total.append(WEIGHTS @ np.square(expected).sum(1) / WEIGHTS.sum())
    assert leave_out(fitted, strengths, units) == pytest.approx(np.array(total))


def test_a_stack_of_units_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    x = features(6)
    whole = next(Ridge.of(x, Y, WEIGHTS).errors([1.0], UNITS))
    seen = [at.shape for at in ridge._together(UNITS)]
    assert sorted(seen) == [(1, 10), (2, 5)]
    monkeypatch.setattr(ridge, "_STACK", 25)
    assert sorted(at.shape for at in ridge._together(UNITS)) == [(1, 5), (1, 5), (1, 10)]
    assert next(Ridge.of(x, Y, WEIGHTS).errors([1.0], UNITS)) == pytest.approx(whole, abs=1e-12)


def test_other_rows_are_judged_by_their_own_weights() -> None:
    x = features(6)
    a, b = np.arange(25), np.arange(25, N)
    got = judged(Ridge.of(x[a], Y[a], WEIGHTS[a]), (0.5,), x[b], Y[b], WEIGHTS[b])
    errors = np.square(Y[b] - reference(x, 0.5, a).predict(x[b])).sum(1)
    assert got == pytest.approx([WEIGHTS[b] @ errors / WEIGHTS[b].sum()])


def test_features_that_never_change_predict_the_mean() -> None:
    weight, bias = Ridge.of(np.ones((N, 3)), Y, WEIGHTS).head(1.0)
    assert weight == pytest.approx(np.zeros((3, 2)))
    assert bias == pytest.approx(np.average(Y, axis=0, weights=WEIGHTS))
    none, bias = Ridge.of(np.ones((N, 90)), Y, WEIGHTS).head(1.0)  # no direction is left
    assert (np.abs(none).max(), bias) == (pytest.approx(0), pytest.approx(np.average(Y, axis=0, weights=WEIGHTS)))


@pytest.mark.parametrize("d", [6, 90])
def test_rows_of_weight_zero_count_for_nothing_and_are_judged_like_others(d: int) -> None:
    x, weights = features(d), WEIGHTS.copy()
    weights[:7] = 0
    fitted, without = Ridge.of(x, Y, weights), Ridge.of(x[7:], Y[7:], weights[7:])
    for a, b in zip(fitted.head(1.0), without.head(1.0), strict=True):
        assert a == pytest.approx(b, abs=1e-8)
    weight, bias = without.head(1.0)
    errors = next(fitted.errors([1.0], np.arange(N)))
    assert errors[:7] == pytest.approx(Y[:7] - x[:7] @ weight - bias, abs=1e-8)
    assert errors[7:] == pytest.approx(next(without.errors([1.0], np.arange(N - 7))), abs=1e-8)


def test_with_more_features_than_rows_no_matrix_is_wider_than_the_rows() -> None:
    fitted = Ridge.of(features(90), Y, WEIGHTS)
    assert fitted.turn.shape in ((N, N - 1), (N, N))  # the last square is 0 but for rounding, of either sign
    assert fitted.rows is not None and fitted.rows.shape == (N, 90)
    assert Ridge.of(features(6), Y, WEIGHTS).rows is None


def test_directions_that_hardly_vary_are_not_lost() -> None:
    """Spreads from 1 to 1e-8, a small penalty, more features than rows: the normal equations hold all the same."""
    x = RNG.normal(size=(N, 60)) * np.logspace(0, -8, 60) @ np.linalg.qr(RNG.normal(size=(60, 60)))[0]
    weight, _ = Ridge.of(x, Y, np.ones(N)).head(1e3)
    centred, rest = x - x.mean(0), Y - Y.mean(0)
    gap = centred.T @ (rest - centred @ weight) - weight / 2e3
    assert np.abs(gap).max() < 1e-9 * np.abs(centred.T @ rest).max()
