"""A few target labels: each head against its objective written out and minimised by another solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Problem, Splits
from acclimate.strategies.fewlabels import COARSE, FEW_LABELS, LAMBDAS, Augmented, LastLayer, Pooled, TargetOnly
from acclimate.strategies.probe import Probe
from acclimate.tasks import TASKS
from acclimate.train.solve import Scaling

RUN = Run()
Floats = NDArray[np.float64]


class Width:
    """What a frozen strategy asks of a backbone that it never calls."""

    width = 3
    groups = ()


class Fixed:
    """A store of features by number."""

    def __init__(self, backbone: Width, features: Floats) -> None:
        self.backbone, self.features = backbone, features.astype(np.float32)

    def prepare(self, inputs: Any) -> None:
        """All are there."""

    def get(self, inputs: Any) -> NDArray[np.float32]:
        return self.features[[int(x) for x in inputs]]


def made(task: str = "classify", n: int = 60, m: int = 24, seed: int = 0) -> tuple[Problem, Splits, Floats, Floats]:
    """Source rows, and target rows whose classes lie elsewhere; features and targets of both, source first."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + m, 3))
    score = x @ [1.5, -1.0, 0.5] + rng.logistic(size=n + m) * 0.5
    score[n:] = x[n:] @ [0.5, -1.0, 1.5] - 1.0 + rng.logistic(size=m) * 0.5
    x[n:] += 0.7
    if task == "regress":
        labels: tuple[Any, ...] = tuple(score.tolist())
    elif task == "classify":
        labels = tuple(("no", "yes")[int(s > 0)] for s in score)
    else:
        labels = tuple(int(s > -1) + int(s > 1) for s in score)
    backbone = Width()
    every = Data(tuple(map(str, range(n + m))), labels, clusters=np.arange(n + m))
    kind = {"classify": "str", "regress": "float", "ordinal": "int", "three": "int"}[task]
    settings = TASKS["classify" if task == "three" else task]
    decoder = settings.decoder(labels[:n], kind)
    problem = Problem(settings, decoder, backbone, Fixed(backbone, x))  # type: ignore[arg-type]
    train, few = every.take(range(n)), every.take(range(n, n + m))
    scaled = Scaling.of(x[:n].astype(np.float32)).apply(x.astype(np.float32))
    return problem, Splits(train, target=few, target_labelled=few), scaled, problem.targets(every)


def logits(fitted: Any, problem: Problem, splits: Splits) -> Floats:
    assert splits.target_labelled is not None
    return np.asarray(fitted.logits(splits.target_labelled.inputs, RUN, problem.store))


def least(objective: Callable[[Floats], float], size: int) -> Floats:
    return np.asarray(minimize(objective, np.zeros(size), method="BFGS", options={"gtol": 1e-7}).x)


def log_losses(z: Floats, y: Floats) -> Floats:
    return np.asarray(np.logaddexp(0, z) - y * z)


def test_pooled_minimises_the_two_mean_losses_with_a_bias_for_each_domain() -> None:
    problem, splits, x, y = made()
    lam, strength, n = 0.5, 2.0, 60

    def objective(p: Floats) -> float:
        w, shared, own = p[:3], p[3], p[4]
        z = x @ w + shared
        z[n:] += own
        loss = log_losses(z, y)
        both = (loss[:n].mean() + lam * loss[n:].mean()) / (1 + lam)
        # Two rows of W at ±w/2 have half the penalty; the bias of the target is held as a weight of 1/10 its size.
        return float(n * both + 0.5 * (w @ w + own**2 / 100) / (2 * strength))

    p = least(objective, 5)
    found = logits(Pooled(lam=lam, strength=strength).fit(problem, splits, RUN), problem, splits)
    assert found[:, 1] - found[:, 0] == pytest.approx(x[n:] @ p[:3] + p[3] + p[4], abs=1e-4)


def test_augmented_is_three_copies_folded_into_the_head_of_the_target() -> None:
    problem, splits, x, y = made()
    lam, strength, n = 2.0, 1.0, 60
    one = np.column_stack([x, np.ones(len(x))])

    def objective(p: Floats) -> float:
        shared, source, target, free = p[:4], p[4:8], p[8:12], p[12]
        z = one @ shared + free
        z[:n] += one[:n] @ source
        z[n:] += one[n:] @ target
        loss = log_losses(z, y)
        both = (loss[:n].mean() + lam * loss[n:].mean()) / (1 + lam)
        return float(n * both + 0.5 * (p[:12] @ p[:12]) / (2 * strength))

    p = least(objective, 13)
    found = logits(Augmented(lam=lam, strength=strength).fit(problem, splits, RUN), problem, splits)
    assert found[:, 1] - found[:, 0] == pytest.approx(one[n:] @ (p[:4] + p[8:12]) + p[12], abs=1e-4)


def test_the_last_layer_is_held_to_the_head_of_the_source() -> None:
    problem, splits, x, y = made()
    n, strength = 60, 3.0
    head = Probe().fit(problem, Splits(splits.train), RUN)
    z0 = logits(head, problem, splits)
    z0 = z0[:, 1] - z0[:, 0]

    def objective(p: Floats) -> float:
        return float(log_losses(z0 + x[n:] @ p[:3] + p[3], y[n:]).sum() + 0.5 * p[:3] @ p[:3] / (2 * strength))

    p = least(objective, 4)
    found = logits(LastLayer(strength=strength).fit(problem, splits, RUN), problem, splits)
    assert found[:, 1] - found[:, 0] == pytest.approx(z0 + x[n:] @ p[:3] + p[3], abs=1e-4)


def test_held_without_end_the_last_layer_moves_in_its_biases_alone() -> None:
    problem, splits, _, _ = made("three")
    before = Probe().fit(problem, Splits(splits.train), RUN).head.state_dict()["weight"]
    after = LastLayer(strength=1e-9).fit(problem, splits, RUN).head.state_dict()
    assert after["weight"].numpy() == pytest.approx(before.numpy(), abs=1e-5)


def test_regression_by_the_last_layer_is_ridge_on_what_the_source_leaves() -> None:
    problem, splits, x, y = made("regress")
    n, strength = 60, 2.0
    z0 = logits(Probe().fit(problem, Splits(splits.train), RUN), problem, splits)[:, 0]
    f, rest = x[n:] - x[n:].mean(0), (y[n:] - z0) - (y[n:] - z0).mean()
    v = np.linalg.solve(f.T @ f + np.eye(3) / (2 * strength), f.T @ rest)
    expected = z0 + f @ v + (y[n:] - z0).mean()
    found = logits(LastLayer(strength=strength).fit(problem, splits, RUN), problem, splits)[:, 0]
    assert found == pytest.approx(expected, abs=1e-4)


def test_target_only_is_the_probe_of_the_target_rows() -> None:
    problem, splits, _, _ = made()
    assert splits.target_labelled is not None
    theirs = Probe(strength=2.0).fit(problem, Splits(splits.target_labelled), RUN)
    mine = TargetOnly(strength=2.0).fit(problem, splits, RUN)
    assert logits(mine, problem, splits) == pytest.approx(logits(theirs, problem, splits), abs=1e-6)
    assert mine.strategy == "target_only"


@pytest.mark.real  # slow
def test_lambda_and_strength_have_the_least_held_out_loss_of_the_target() -> None:
    from acclimate.strategies.fewlabels import Domains

    problem, splits, _, _ = made()
    assert splits.target_labelled is not None
    folds = Domains.of(problem, splits, RUN.seed).folds
    y = problem.targets(splits.target_labelled)
    best = (np.inf, 0.0, 0.0)
    for lam in LAMBDAS:
        for strength in COARSE:
            total = 0.0
            for learn, judge in folds:
                part = replace(splits, target_labelled=splits.target_labelled.take(learn))
                fitted = Pooled(lam=lam, strength=strength).fit(problem, part, RUN)
                z = np.asarray(fitted.logits(splits.target_labelled.take(judge).inputs, RUN, problem.store))
                total += float(log_losses(z[:, 1] - z[:, 0], y[judge]).sum())
            best = min(best, (total, lam, strength))
    chosen = Pooled().fit(problem, splits, RUN).settings
    assert (chosen["lam"], chosen["strength"]) == best[1:]


@pytest.mark.parametrize("name", list(FEW_LABELS))
@pytest.mark.parametrize("task", ["classify", "three", "ordinal", "regress"])
def test_every_way_gives_a_finite_linear_head_and_the_same_one_twice(name: str, task: str) -> None:
    problem, splits, _, _ = made(task)
    if name == "adapted_last_layer" and task in ("ordinal", "regress"):
        with pytest.raises(UserError, match="self_train labels target rows with classes"):
            FEW_LABELS[name].fit(problem, splits, RUN)
        return
    first, second = (FEW_LABELS[name].fit(problem, splits, RUN) for _ in range(2))
    assert first.head.kind in ("linear", "ordinal") and first.head.shape["width"] == 3
    z = logits(first, problem, splits)
    assert np.isfinite(z).all() and (z == logits(second, problem, splits)).all()


def test_the_adapted_last_layer_starts_from_the_head_of_self_training() -> None:
    from acclimate.strategies import ADAPTATIONS

    problem, splits, x, y = made()
    start = ADAPTATIONS["self_train"].fit(problem, splits, RUN).head
    fitted = LastLayer(start="self_train", strength=1e-9).fit(problem, splits, RUN).head  # nothing but biases moves
    assert np.allclose(fitted.weight.detach(), start.weight.detach(), atol=1e-5)  # type: ignore[operator]
    assert not np.allclose(fitted.bias.detach(), start.bias.detach(), atol=1e-2)  # type: ignore[operator]
    with pytest.raises(UserError, match="did you mean 'self_train'"):
        LastLayer(start="selftrain")


@pytest.mark.parametrize("name", list(FEW_LABELS))
def test_two_rows_are_enough_to_fit(name: str) -> None:
    problem, splits, _, _ = made()
    assert splits.target_labelled is not None
    few = replace(splits, target_labelled=splits.target_labelled.take([0, 1]))
    assert np.isfinite(logits(FEW_LABELS[name].fit(problem, few, RUN), problem, few)).all()


@pytest.mark.parametrize("name", list(FEW_LABELS))
def test_without_labelled_rows_it_is_said(name: str) -> None:
    problem, splits, _, _ = made()
    with pytest.raises(UserError, match="--target-labels"):
        FEW_LABELS[name].fit(problem, Splits(splits.train), RUN)


def test_a_class_that_the_source_lacks_is_named() -> None:
    problem, splits, _, _ = made()
    assert splits.target_labelled is not None and splits.target_labelled.labels is not None
    odd = replace(splits.target_labelled, labels=("maybe", *splits.target_labelled.labels[1:]))
    with pytest.raises(UserError, match="'maybe'"):
        Pooled().fit(problem, replace(splits, target_labelled=odd), RUN)


@pytest.mark.parametrize("bad", [lambda: Pooled(lam=0.0), lambda: LastLayer(strength=-1.0)])
def test_settings_that_cannot_be_are_refused(bad: Callable[[], object]) -> None:
    with pytest.raises(UserError, match="above 0"):
        bad()


def test_rows_of_weight_zero_do_not_count() -> None:
    problem, splits, _, _ = made()
    assert splits.target_labelled is not None
    weights = np.ones(24)
    weights[:4] = 0
    weighted = Splits(splits.train, target_labelled=replace(splits.target_labelled, weights=weights))
    shorter = Splits(splits.train, target_labelled=splits.target_labelled.take(range(4, 24)))
    a, b = (Pooled(lam=1.0, strength=1.0).fit(problem, s, RUN).head.state_dict()["weight"] for s in (weighted, shorter))
    assert (a == b).all()
