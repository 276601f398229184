from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from acclimate.data.rows import Data, Label
from acclimate.data.split import folds, hash_of, holdout, plan, units
from acclimate.errors import UserError


def make(labels: list[Label] | None, groups: list[str] | None = None, n: int | None = None, **more: object) -> Data:
    size = len(labels) if labels is not None else n or 0
    return Data(
        inputs=tuple(f"text number {i}" for i in range(size)),
        labels=None if labels is None else tuple(labels),
        groups=None if groups is None else tuple(groups),
        lines=tuple(range(2, size + 2)),
        **more,  # type: ignore[arg-type]
    )


def test_units_join_groups_and_duplicates_transitively() -> None:
    data = Data(inputs=("a", "b", "B!", "c", "d", "C"), groups=("1", "1", "2", "2", "3", "4"))
    assert units(data).tolist() == [0, 0, 0, 0, 1, 0]
    assert units(Data(inputs=("x", "y", "X"))).tolist() == [0, 1, 0]
    assert units(Data(inputs=("x", "y", "z"), clusters=np.array([9, 4, 9]))).tolist() == [0, 1, 0]


def test_units_on_a_long_chain() -> None:
    """Each group shares a text with the next: one unit, found without deep recursion."""
    n = 5_000
    data = Data(inputs=tuple(f"t{i // 2}" for i in range(n)), groups=tuple(f"g{(i + 1) // 2}" for i in range(n)))
    assert set(units(data).tolist()) == {0}


def test_holdout_is_stratified_exactly() -> None:
    data = make(["a"] * 50 + ["b"] * 30 + ["c"] * 20)
    train, test = holdout(data, "classify", seed=3)
    assert sorted([*train, *test]) == list(range(100))
    assert Counter(data.labels[i] for i in test) == {"a": 10, "b": 6, "c": 4}  # type: ignore[index]
    assert train.tolist() == sorted(train.tolist())


def test_seeds_decide() -> None:
    data = make([i % 3 for i in range(90)])
    one, again, other = (holdout(data, "classify", seed=s)[1].tolist() for s in (1, 1, 2))
    assert one == again
    assert one != other
    first, second = folds(data, "classify", k=5, seed=1), folds(data, "classify", k=5, seed=1)
    assert all((a[1] == b[1]).all() for a, b in zip(first, second, strict=True))


def test_order_of_rows_keeps_the_guarantees() -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{g}" for g in rng.integers(0, 40, 400)]
    labels: list[Label] = [int(x) for x in rng.random(400) < 0.3]
    for seed in range(5):
        data = make(labels, groups)
        train, test = holdout(data, "classify", seed=seed)
        assert not {groups[i] for i in train} & {groups[i] for i in test}
        assert 0.12 <= len(test) / 400 <= 0.28
        share = np.mean([float(str(labels[i])) for i in test])
        assert abs(share - np.mean([float(str(x)) for x in labels])) < 0.08


def test_f14_duplicates_never_straddle() -> None:
    texts = [f"Text {i % 37}" + ("!" if i % 2 else "") for i in range(200)]
    data = Data(inputs=tuple(texts), labels=tuple(i % 2 for i in range(200)), lines=tuple(range(200)))
    for train, test in [holdout(data, "classify", seed=0), *folds(data, "classify", k=5, seed=0, repeats=2)]:
        folded = [t.strip("!") for t in texts]
        assert not {folded[i] for i in train} & {folded[i] for i in test}


def test_folds_partition_each_repeat() -> None:
    data = make(["a"] * 33 + ["b"] * 22)
    out = folds(data, "classify", k=5, seed=0, repeats=3)
    assert len(out) == 15
    for r in range(3):
        part = out[5 * r : 5 * r + 5]
        assert sorted(int(i) for _, valid in part for i in valid) == list(range(55))
        for train, valid in part:
            assert sorted([*train, *valid]) == list(range(55))
            assert len(valid) == 11
            assert Counter(data.labels[i] for i in valid)["a"] in (6, 7)  # type: ignore[index]
    assert out[0][1].tolist() != out[5][1].tolist()


def test_k_is_lowered_and_said() -> None:
    data = make(["a"] * 20 + ["b"] * 3)
    assert plan(data, "classify", 5).k == 3
    assert plan(data, "classify", 5).notes == ("3 folds instead of 5: class 'b' has 3 groups of rows",)
    assert len(folds(data, "classify", k=5, seed=0)) == 3
    grouped = make(["a", "b"] * 20, [f"g{i // 10}" for i in range(40)])
    assert plan(grouped, "classify", 5).k == 4
    assert plan(make(["a", "b"] * 20), "classify", 5).notes == ()


def test_a_class_of_one_row_is_always_in_train() -> None:
    data = make(["a"] * 20 + ["b"] * 20 + ["rare"])
    for seed in range(10):
        _, test = holdout(data, "classify", seed=seed)
        assert 40 not in test
    out = folds(data, "classify", k=5, seed=0)
    assert all(40 in train for train, _ in out)
    assert sorted(int(i) for _, v in out for i in v) == list(range(40))
    assert "always in train" in plan(data, "classify", 5).notes[0]


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(UserError, match="all 10 rows belong to one group"):
        holdout(make(["a", "b"] * 5, ["g"] * 10), "classify", seed=0)
    with pytest.raises(UserError, match="all 3 rows are copies of each other.*or rows that differ"):
        holdout(Data(inputs=("a", "A", "a."), labels=(0, 1, 0)), "classify", seed=0)
    with pytest.raises(UserError, match="the test part would be empty, because each class"):
        holdout(make(["a"] * 5 + ["b"] * 5, ["g"] * 5 + ["h"] * 5), "classify", seed=0)
    with pytest.raises(UserError, match="no class has rows in two groups, so nothing can be judged"):
        folds(make(["a"] * 5 + ["b"] * 5, ["g"] * 5 + ["h"] * 5), "classify", k=5, seed=0)
    with pytest.raises(UserError, match="1 row cannot be split"):
        holdout(make(["a"]), "classify", seed=0)
    with pytest.raises(UserError, match="between 0 and 1, got 2"):
        holdout(make(["a", "b"]), "classify", share=2, seed=0)


def test_regression_uses_quantiles() -> None:
    rng = np.random.default_rng(0)
    values: list[Label] = [float(v) for v in rng.lognormal(size=500)]
    data = make(values)
    truth = np.array([float(str(v)) for v in values])
    for seed in range(5):
        train, test = holdout(data, "regress", seed=seed)
        assert len(test) == 100
        assert abs(np.median(truth[test]) - np.median(truth)) < 0.1
    sizes = [len(v) for _, v in folds(data, "regress", k=5, seed=0)]
    assert sizes == [100] * 5


def test_regression_with_constant_or_few_values() -> None:
    assert len(holdout(make([1.0] * 20), "regress", seed=0)[1]) == 4
    assert len(folds(make([1.0, 2.0, 3.0]), "regress", k=5, seed=0)) == 3


def test_multilabel_keeps_shares_of_every_class() -> None:
    rng = np.random.default_rng(1)
    names = [f"c{j}" for j in range(12)]
    chance = np.linspace(0.03, 0.4, 12)
    labels: list[Label] = [tuple(n for n, p in zip(names, chance, strict=True) if rng.random() < p) for _ in range(600)]
    data = make(labels)
    train, test = holdout(data, "multilabel", seed=0)
    assert abs(len(test) - 120) <= 3
    for name in names:
        total = sum(name in row for row in labels)  # type: ignore[operator]
        held = sum(name in labels[i] for i in test)  # type: ignore[operator]
        assert abs(held - 0.2 * total) <= 2, (name, total, held)
    for _, valid in folds(data, "multilabel", k=5, seed=0):
        assert abs(len(valid) - 120) <= 6


def test_without_labels() -> None:
    assert len(holdout(make(None, n=50), "classify", seed=0)[1]) == 10


def test_time_runs_forward() -> None:
    times = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0, 10.0])
    data = make(["a", "a", "b", "b", *"abababab"[:6]], times=times)
    train, test = holdout(data, "classify", seed=0)
    assert times[test].tolist() == [9.0, 10.0]
    assert times[train].max() < times[test].min()
    out = folds(data, "classify", k=4, seed=0, repeats=3)
    assert [len(v) for _, v in out] == [2, 2, 2, 2]
    assert all(times[t].max() < times[v].min() for t, v in out)
    assert [len(t) for t, _ in out] == [2, 4, 6, 8]


def test_equal_times_stay_together() -> None:
    times = np.array([1.0] * 5 + [2.0] * 4 + [3.0])
    train, test = holdout(make(["a", "b"] * 5, times=times), "classify", seed=0)
    assert set(times[test]) == {3.0}
    with pytest.raises(UserError, match="all rows have the same time"):
        holdout(make(["a", "b"] * 5, times=np.ones(10)), "classify", seed=0)


def test_time_and_groups_together() -> None:
    """A customer on both sides of the cut keeps the side with most of its rows; the others are left out."""
    times = np.arange(20.0)
    groups = [f"g{i}" for i in range(20)]
    groups[2] = groups[16] = groups[17] = "late"
    groups[3] = groups[4] = groups[18] = "early"
    data = make(["a", "b"] * 10, groups, times=times)
    train, test = holdout(data, "classify", seed=0)
    assert times[train].max() < times[test].min()
    assert not {groups[i] for i in train} & {groups[i] for i in test}
    assert test.tolist() == [16, 17, 19]
    assert 2 not in train and 3 in train and 4 in train


def test_time_needs_two_classes_before_the_cut() -> None:
    data = make(["a"] * 8 + ["b"] * 2, times=np.arange(10.0))
    with pytest.raises(UserError, match="the train part would hold one class only"):
        holdout(data, "classify", seed=0)


def test_large_and_many_groups_are_quick() -> None:
    rng = np.random.default_rng(0)
    data = make([int(v) for v in rng.integers(0, 20, 50_000)], [f"g{g}" for g in rng.integers(0, 5_000, 50_000)])
    train, test = holdout(data, "classify", seed=0)
    assert abs(len(test) - 10_000) < 50


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"text,label\n")
    assert hash_of(path) == hash_of(str(path)) == hashlib.sha256(b"text,label\n").hexdigest()
    one, other = make(["a", "b"]), make(["a", "c"])
    assert hash_of(one) == hash_of(make(["a", "b"]))
    assert len({hash_of(one), hash_of(other), hash_of(make([1, 2])), hash_of(make(["1", "2"]))}) == 4
