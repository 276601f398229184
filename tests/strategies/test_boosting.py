"""Boosting on the columns of a table: repeatable, kept whole, chosen on rows left out; maps and weights in front."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acclimate import model
from acclimate.data.column_types import rows_of
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.shallow import SHALLOW
from acclimate.strategies import Problem, Splits, adapts, named
from acclimate.strategies.boosting import Boosting
from acclimate.tasks import TASKS
from acclimate.train.boost import Growth, Rows, boosted, chosen_columns

NAMES = ("x", "kind", "y", "empty")


def table(n: int, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> Data:
    """Class 1 where x is above its usual middle; y is missing in half of its rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    labels = (x + 0.3 * rng.normal(size=n) > 0).astype(int)
    gone = (labels == 1) & (rng.random(n) < 0.5)
    cells = [
        (float(shift + scale * v), "ab"[k], None if g else float(w), None)
        for v, k, w, g in zip(x, rng.integers(0, 2, n), rng.normal(size=n), gone, strict=True)
    ]
    kinds = {"empty": "none"} if n % 2 else {}
    rows = rows_of(cells, NAMES, kinds)
    return Data(tuple(rows), tuple(labels.tolist()), clusters=np.arange(n), kind="table")


SOURCE = table(200)
PROBLEM = Problem(TASKS["classify"], TASKS["classify"].decoder((0, 1), "int"))
QUICK = {"most_rounds": 40}


def fit(data: Data = SOURCE, target: Data | None = None, seed: int = 0, **settings: Any) -> Predictor:
    return Boosting(**{**QUICK, **settings}).fit(PROBLEM, Splits(data, target=target), Run(seed=seed))


def accuracy(predictor: Predictor, data: Data) -> float:
    return float((predictor.outputs(data.inputs).argmax(1) == np.array(data.labels)).mean())


def test_it_learns_and_is_the_same_after_saving_and_for_every_row_alone(tmp_path: Path) -> None:
    fitted, test = fit(), table(300, seed=1)
    assert accuracy(fitted, test) > 0.85
    fitted.save(tmp_path / "m")
    again = model.load(tmp_path / "m")
    assert np.array_equal(again.logits(test.inputs), fitted.logits(test.inputs))
    assert {p.suffix for p in (tmp_path / "m").iterdir()} == {".json", ".safetensors"}
    alone = np.concatenate([again.logits([row]) for row in test.inputs[:20]])
    assert np.array_equal(alone, fitted.logits(test.inputs[:20]))
    assert model.holds(fitted) == "the values of the table's categories"


def test_the_same_seed_is_the_same_model_and_another_one_is_another() -> None:
    one, two, other = fit(), fit(), fit(seed=1)
    assert np.array_equal(one.logits(SOURCE.inputs), two.logits(SOURCE.inputs))
    assert not np.array_equal(one.logits(SOURCE.inputs), other.logits(SOURCE.inputs))


def test_unseen_categories_missing_cells_and_columns_without_any_are_read() -> None:
    new = [(None, "never", None, "something"), (5.0, None, 1e9, None), ("text", "a", "?", None)]
    assert np.isfinite(fit().outputs(new)).all()


def test_missing_cells_are_information() -> None:
    fitted = fit(rounds=40, leaves=3)
    there, gone = fitted.outputs([(0.0, "a", 0.0, None), (0.0, "a", None, None)])[:, 1]
    assert gone > there + 0.1


def test_rounds_and_leaves_are_chosen_on_rows_left_out_or_given() -> None:
    chosen = fit().settings
    assert 1 <= chosen["rounds"] <= 40 and chosen["leaves"] in (3, 16)
    assert (lambda s: (s["rounds"], s["leaves"]))(fit(rounds=7, leaves=5).settings) == (7, 5)
    noise = replace(SOURCE, labels=tuple(np.random.default_rng(3).integers(0, 2, 200).tolist()))
    assert fit(noise).settings["rounds"] <= 5  # nothing holds on rows left out
    valid = table(100, seed=5)
    strategy = named("boosting", QUICK)[1]
    by_valid = strategy.fit(PROBLEM, Splits(SOURCE, valid), Run())
    assert by_valid.settings["rounds"] >= 1
    assert (
        Boosting().fit(PROBLEM, Splits(SOURCE.take(range(6))), Run()).settings["rounds"] == 50
    )  # too few to leave out


def test_class_weights_move_the_share_of_answers() -> None:
    some = SOURCE.take([i for i, y in enumerate(SOURCE.labels or ()) if y == 0 or i % 5 == 0])
    strategy = named("boosting", {**QUICK, "rounds": 30, "leaves": 3})[1]
    plain = strategy.fit(PROBLEM, Splits(some), Run())
    balanced = strategy.fit(replace(PROBLEM, class_weight="balanced"), Splits(some), Run())
    test = table(200, seed=2).inputs
    assert balanced.outputs(test)[:, 1].mean() > plain.outputs(test)[:, 1].mean() + 0.05


def test_a_map_in_front_undoes_a_change_of_units(tmp_path: Path) -> None:
    target = table(300, shift=50.0, scale=10.0, seed=3)
    without = replace(target, labels=None)
    plain = fit()
    assert accuracy(plain, target) < 0.6
    for by in ("standardise", "coral", "linear_ot"):
        fitted = fit(target=without, by=by)
        assert fitted.strategy == "adapted_boosting" and accuracy(fitted, target) > 0.8, by
        fitted.save(tmp_path / by)
        again = model.load(tmp_path / by)
        assert np.array_equal(again.logits(target.inputs), fitted.logits(target.inputs))


def test_weights_in_front_are_row_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    target = replace(table(100, shift=1.0, seed=4), labels=None)
    settings = {"rounds": 10, "leaves": 3}
    fitted = fit(target=target, by="density_ratio", **settings)
    assert "the weighted source rows are worth" in fitted.notes[0]
    seen: list[Any] = []
    kind: Any = SHALLOW["density_ratio"]
    usual = kind._weigh
    monkeypatch.setattr(kind, "_weigh", lambda self, a, b: seen.append(usual(self, a, b)) or seen[-1])
    assert np.array_equal(
        fit(target=target, by="density_ratio", **settings).logits(SOURCE.inputs), fitted.logits(SOURCE.inputs)
    )
    monkeypatch.setattr(kind, "_weigh", lambda self, a, b: np.ones(len(a)))
    even = fit(target=target, by="density_ratio", **settings)
    assert np.array_equal(even.logits(SOURCE.inputs), fit(**settings).logits(SOURCE.inputs))
    assert not np.array_equal(even.logits(SOURCE.inputs), fitted.logits(SOURCE.inputs))


def test_its_names_and_settings() -> None:
    assert not adapts(named("boosting")[1]) and adapts(named("adapted_boosting")[1])
    with pytest.raises(UserError, match="unknown by 'corral'; did you mean 'coral'"):
        named("boosting", {"by": "corral"})
    with pytest.raises(UserError, match="share=2 must be at most 1"):
        named("boosting", {"share": 2})
    with pytest.raises(UserError, match="leaves=1 must be 2 or more"):
        named("boosting", {"leaves": 1})
    with pytest.raises(UserError, match="give them with --target-data"):
        fit(by="coral")


def test_bins_are_those_of_the_library_and_thresholds_lie_on_the_features() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))  # more values than bins
    x[rng.random(600) < 0.2, 1] = np.nan
    y = (x[:, 0] + np.nan_to_num(x[:, 1]) > 0).astype(int)
    growth = Growth(10, 6, 0.1, 5, 1.0, 1.0, 0, 1000)
    ours = boosted(Rows(x, y, np.ones(600)), TASKS["classify"], growth)
    theirs = HistGradientBoostingClassifier(
        max_iter=10, max_leaf_nodes=6, min_samples_leaf=5, l2_regularization=1.0, early_stopping=False, random_state=0
    ).fit(x, y)
    new = rng.normal(size=(200, 3)) * 2
    p = ours.head(3, 2, x)(torch.from_numpy(new).float()).softmax(1).numpy()
    np.testing.assert_allclose(p, theirs.predict_proba(new.astype(np.float32)), atol=1e-9)


def test_of_many_columns_trees_read_those_that_go_best_with_the_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x, y, weights = rng.normal(size=(80, 6)), rng.integers(0, 3, 80), rng.uniform(0.5, 1.5, 80)
    x[:, 2] += y == 1
    x[(y == 2) & (rng.random(80) < 0.9), 4] = np.nan  # that it is missing tells more than what it holds
    x[:, 5] = 1.0
    scores = []
    for column in x.T:
        gone = np.isnan(column)
        mean = column[~gone].mean()
        both = []
        for values in (np.where(gone, mean, column), gone.astype(float)):
            if values.std() == 0:
                both.append(0.0)
                continue
            cov = [np.cov(values, y == k, aweights=weights, ddof=0) for k in range(3)]
            both.append(sum(c[0, 1] ** 2 / (c[0, 0] * c[1, 1]) for c in cov))
        scores.append(max(both))
    expected = sorted(np.argsort(scores)[::-1][:3].tolist())
    assert {2, 4} < set(expected) and 5 not in expected
    assert chosen_columns(Rows(x, y, weights), TASKS["classify"], 3).tolist() == expected
    assert chosen_columns(Rows(x, y, weights), TASKS["classify"], 6).tolist() == list(range(6))
    fitted = fit(most_columns=2, rounds=10, leaves=3)
    assert accuracy(fitted, table(200, seed=1)) > 0.8
    assert fitted.notes[-1].startswith("of 4 features trees read the 2 that go best with the labels")
    assert len(np.unique(fitted.head.state_dict()["feature"].numpy())) <= 3  # two, and 0 that leaves name
    fitted.save(tmp_path / "m")
    assert np.array_equal(model.load(tmp_path / "m").logits(SOURCE.inputs), fitted.logits(SOURCE.inputs))


def test_a_time_limit_bounds_the_rounds() -> None:
    def chosen(seconds: float) -> tuple[int, int]:
        run = Run(deadline=time.monotonic() + seconds)
        settings = Boosting(**QUICK).fit(PROBLEM, Splits(SOURCE), run).settings  # type: ignore[arg-type]
        return settings["rounds"], settings["leaves"]

    assert chosen(-1.0) == (10, 3)  # nothing is chosen once the time is up
    without = fit().settings
    assert chosen(1e6) == (without["rounds"], without["leaves"])


def test_of_molecules_many_various_trees_ask_whether_a_part_is_there(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    inputs = tuple(f"{end}{'C' * n}{ring}" for end in "NOF" for n in range(1, 9) for ring in ("c1ccccc1", "C1CCCCC1"))
    labels = tuple(int("c1" in smiles) for smiles in inputs)
    data = Data(inputs, labels, clusters=np.arange(len(inputs)), kind="molecule")
    fitted = Boosting().fit(PROBLEM, Splits(data), Run())
    assert (fitted.settings["leaves"], fitted.settings["rounds"], fitted.settings["share"]) == (16, 100, None)
    assert accuracy(fitted, data) == 1
    fitted.save(tmp_path / "m")
    assert np.array_equal(model.load(tmp_path / "m").outputs(inputs), fitted.outputs(inputs))
    short, long = (fitted.outputs([x])[0] for x in ("c1ccccc1", "c1ccccc1" + "C" * 30))
    assert short.argmax() == long.argmax() == 1
    assert Boosting(rounds=7).fit(PROBLEM, Splits(data), Run()).settings["rounds"] == 7
