"""What every method on features promises, in one parametrised suite (cases A6 and A8, defects of other libraries)."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from acclimate.errors import UserError
from acclimate.shallow import SHALLOW, Adapter, Jda, JdotRegressor, Reweighter

Floats = NDArray[np.float64]
MAPS = {name: kind for name, kind in SHALLOW.items() if issubclass(kind, Adapter)}
WEIGHTS = {name: kind for name, kind in SHALLOW.items() if issubclass(kind, Reweighter)}
QUICK: dict[str, dict[str, Any]] = {
    "tca": {"n_components": 3}, "jda": {"n_components": 3, "rounds": 3}, "subspace": {"n_components": 3},
    "gfk": {"n_components": 2}, "jdot": {"rounds": 2},
}  # fmt: skip
every = pytest.mark.parametrize("name", SHALLOW)
maps = pytest.mark.parametrize("name", MAPS)
weights = pytest.mark.parametrize("name", WEIGHTS)


def rows(n: int = 60, m: int = 45, d: int = 5, seed: int = 0) -> tuple[Floats, Any, Floats]:
    """Both domains in one table, mixed; the target is turned, stretched and moved."""
    rng = np.random.default_rng(seed)
    source, target = (
        rng.normal(size=(n, d)),
        rng.normal(size=(m, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d))) + 0.7,
    )
    order = rng.permutation(n + m)
    table = np.concatenate([source, target])[order]
    return table, np.repeat([0, 1], [n, m])[order], table @ np.arange(1.0, d + 1) + 0.1 * rng.normal(size=n + m)


def made(name: str) -> Any:
    return SHALLOW[name](**QUICK.get(name, {}))


def taught(name: str, y: Floats) -> Any:
    """What a method is given as y: numbers, or (JDA) two classes."""
    return np.where(np.isnan(y), np.nan, y > 3.0) if issubclass(SHALLOW[name], Jda) else y


def answer(name: str, X: Floats, domain: Any, y: Floats) -> Floats:
    """One row of numbers for every row of X."""
    method, y = made(name), taught(name, y)
    if isinstance(method, JdotRegressor):
        return np.asarray(method.fit(X, y, domain=domain).predict(X))[:, None]
    if isinstance(method, Reweighter):
        return method.fit(X, y, domain=domain).weights_[:, None]
    return np.asarray(method.fit_transform(X, y, domain=domain))


@every
def test_the_order_of_the_rows_does_not_matter(name: str) -> None:  # A8
    X, domain, y = rows()
    before = answer(name, X, domain, y)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(X))
        assert answer(name, X[order], domain[order], y[order]) == pytest.approx(before[order], abs=1e-9)


@every
def test_target_labels_are_never_read(name: str) -> None:  # A6
    X, domain, y = rows()
    other = np.where(domain == 1, np.nan, y)
    assert np.array_equal(answer(name, X, domain, y), answer(name, X, domain, other))


@every
def test_the_same_rows_give_the_same_answer_and_are_not_changed(name: str) -> None:
    X, domain, y = rows()
    kept = X.copy()
    assert np.array_equal(answer(name, X, domain, y), answer(name, X, domain, y))
    assert np.array_equal(X, kept)


@every
def test_units_of_columns_do_not_matter(name: str) -> None:
    X, domain, y = rows()
    if name in ("standardise", "subspace", "gfk", "tca", "jda") or not issubclass(SHALLOW[name], Adapter):
        scaled = answer(name, X * np.array([1.0, 1e3, 1e-3, 10.0, 1.0]), domain, y)
        assert scaled == pytest.approx(answer(name, X, domain, y), abs=1e-6)
    else:  # maps that stay in the columns given
        unit = np.array([1.0, 1e3, 1e-3, 10.0, 1.0])
        assert answer(name, X * unit, domain, y) / unit == pytest.approx(answer(name, X, domain, y), abs=1e-6)


@every
def test_it_is_a_scikit_learn_estimator(name: str) -> None:
    method = made(name)
    again = clone(method)
    assert again.get_params() == method.get_params()
    assert again.set_params(**method.get_params()) is again
    X, domain, y = rows()
    method.fit(X, taught(name, y), domain=domain)
    assert clone(method).get_params() == made(name).get_params()  # nothing fitted is a setting
    assert pickle.loads(pickle.dumps(method)).n_features_in_ == 5


# What these cannot do with rows that are all the same, and say.
SPEAKS = {
    "subspace": "there is no direction to align", "gfk": "there is no direction to align",
    "density_ratio": "nothing can be held out",
}  # fmt: skip


@every
@pytest.mark.parametrize("case", ["constant", "one column constant", "more columns than rows", "copies", "two rows"])
def test_hard_rows_give_finite_numbers(name: str, case: str) -> None:
    X, domain, y = rows()
    if case == "two rows" and name == "density_ratio":
        X, domain, y = (np.concatenate([part[domain == 0][:6], part[domain == 1][:6]]) for part in (X, domain, y))
    elif case == "two rows":
        X, domain, y = (np.concatenate([part[domain == 0][:2], part[domain == 1][:2]]) for part in (X, domain, y))
    if case == "constant":
        X = np.ones_like(X)
        if name in SPEAKS:
            with pytest.raises(UserError, match=SPEAKS[name]):
                SHALLOW[name]().fit(X, domain=domain)
            return
    if case == "one column constant":
        X[:, 2] = 4.0
        X[domain == 1, 3] = 0.0  # heart: cholesterol is 0 in every row of one hospital
    if case == "more columns than rows":
        X, domain, y = rows(8, 7, 30)
    if case == "copies":
        X, domain, y = np.repeat(X, 3, 0), np.repeat(domain, 3), np.repeat(y, 3)
    if name in QUICK and case == "two rows":
        one = {"n_components": 1} if name in ("subspace", "gfk") else QUICK[name]
        SHALLOW[name](**one).fit(X, taught(name, y), domain=domain)
        return
    assert np.isfinite(answer(name, X, domain, y)).all()


@every
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, d: (X, np.zeros(len(X))), "domain marks 0 rows as target"),
        (lambda X, d: (X, d * 2), "domain must be 0 .source. or 1 .target. in every row, got 2"),
        (lambda X, d: (X, d[:-1]), "domain must hold one number a row"),
        (lambda X, d: (np.where(X > 2, np.nan, X), d), "rows hold NaN or infinity"),
        (lambda X, d: (X[:, 0], d), "features must be a table"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, change: Any, message: str) -> None:
    X, domain, y = rows()
    wrong, sides = change(X, domain)
    with pytest.raises(UserError, match=message):
        made(name).fit(wrong, taught(name, y), domain=sides)


def test_no_setting_of_scikit_learn_is_changed() -> None:  # another library turns metadata routing on for the process
    assert sklearn.get_config()["enable_metadata_routing"] is False


@maps
def test_new_rows_are_taken_for_target_rows(name: str) -> None:
    X, domain, y = rows()
    method = made(name).fit(X, taught(name, y), domain=domain)
    whole = method.transform(X, domain=domain)
    assert method.transform(X[domain == 1]) == pytest.approx(whole[domain == 1], abs=1e-9)
    assert method.transform(X[domain == 0], domain=0) == pytest.approx(whole[domain == 0], abs=1e-9)
    assert method.transform(X[:0]).shape == (0, whole.shape[1])
    with pytest.raises(UserError, match="fitted on 5 columns, got 4"):
        method.transform(X[:, :4])
    with pytest.raises(UserError, match="not fitted"):
        made(name).transform(X)


@maps
def test_it_works_in_a_pipeline(name: str) -> None:
    X, domain, y = rows()
    pipeline = make_pipeline(made(name), LogisticRegression())
    step = pipeline.steps[0][0]
    labels = (y > np.median(y)).astype(int)
    fit = {f"{step}__domain": domain, "logisticregression__sample_weight": (domain == 0) * 1.0}
    pipeline.fit(X, labels, **fit)
    assert set(pipeline.predict(X[domain == 1])) <= {0, 1}


@weights
def test_weights_stand_by_their_rows(name: str) -> None:
    X, domain, _ = rows()
    method = made(name).fit(X, domain=domain)
    assert (method.weights_[domain == 1] == 0).all()
    ours = method.weights_[domain == 0]
    assert (ours >= 0).all()
    assert ours.mean() == pytest.approx(1.0)
    assert method.effective_rows_ == pytest.approx(ours.sum() ** 2 / (ours**2).sum())
    assert 1 <= method.effective_rows_ <= len(ours) + 1e-9


@weights
def test_source_rows_near_the_target_count_more(name: str) -> None:
    rng = np.random.default_rng(3)
    X, domain = (
        np.concatenate([rng.normal(size=(200, 2)), rng.normal(1.0, 0.7, size=(150, 2))]),
        np.repeat([0, 1], [200, 150]),
    )
    ours = made(name).fit(X, domain=domain).weights_[:200]
    weighted = np.average(X[:200], axis=0, weights=ours)
    gap = np.linalg.norm(weighted - X[200:].mean(0)) / np.linalg.norm(X[:200].mean(0) - X[200:].mean(0))
    assert gap < (0.7 if name == "nearest_neighbour" else 0.4)  # its weights are smoothed
