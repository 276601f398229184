"""Multi-label truth with cells that nobody knows: every number is that of the known cells alone."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from acclimate.evaluate import difference, score, value
from acclimate.metrics.calibration import calibration_error, fit_temperature, reliability
from acclimate.metrics.decisions import multilabel_thresholds
from acclimate.tasks import MultiLabel
from acclimate.tasks.heads import LinearHead
from acclimate.train.links import Logistic
from acclimate.train.solve import Rows, minimise

N, K = 120, 3


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth with NaN in about a third of the cells, probabilities, and decisions."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((N, K)) < [0.5, 0.3, 0.2]).astype(float)
    p = 1 / (1 + np.exp(-(rng.normal(size=(N, K)) + 2 * truth - 1)))
    truth[rng.random((N, K)) < 0.35] = np.nan
    truth[np.isnan(truth).all(1), 0] = 1.0
    return truth, p, (p > 0.5).astype(float)


TRUTH, P, CALLED = drawn()
KNOWN = ~np.isnan(TRUTH)


def columns(measure: object) -> list[float]:
    return [measure(TRUTH[KNOWN[:, c], c], P[KNOWN[:, c], c]) for c in range(K)]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        ("roc_auc", np.mean(columns(roc_auc_score))),
        ("mean_average_precision", np.mean(columns(average_precision_score))),
        ("macro_f1", np.mean(columns(lambda t, p: f1_score(t, p > 0.5)))),
        ("micro_f1", f1_score(TRUTH[KNOWN], CALLED[KNOWN])),
        ("hamming", (TRUTH[KNOWN] != CALLED[KNOWN]).mean()),
        ("subset_accuracy", np.mean([(t[k] == c[k]).all() for t, c, k in zip(TRUTH, CALLED, KNOWN, strict=True)])),
        ("empty_rate", (CALLED.sum(1) == 0).mean()),
    ],
)
def test_a_metric_is_that_of_the_known_cells(metric: str, wanted: float) -> None:
    assert value("multilabel", metric, TRUTH, P, CALLED) == pytest.approx(wanted, abs=1e-12)
    spoiled = np.where(KNOWN, P, 1 - P), np.where(KNOWN, CALLED, 1 - CALLED)
    if metric != "empty_rate":  # of what is said, whether known or not
        assert value("multilabel", metric, TRUTH, *spoiled) == pytest.approx(wanted, abs=1e-12)


def test_scores_say_how_many_cells_each_label_rests_on_and_what_is_not_known() -> None:
    found = score("multilabel", TRUTH, P, CALLED, ("x", "y", "z"), metric="roc_auc")
    assert found.notes[0].startswith(f"{(~KNOWN).sum()} of {N * K} cells")
    for c, name in enumerate(("x", "y", "z")):
        area = found.per_class[name]["roc_auc"]
        alone = score("multilabel", TRUTH[KNOWN[:, c]][:, [c]], P[KNOWN[:, c]][:, [c]], CALLED[KNOWN[:, c]][:, [c]])
        assert area.n == KNOWN[:, c].sum()
        assert area.value == pytest.approx(columns(roc_auc_score)[c], abs=1e-12)
        one = alone.per_class["0"]
        assert (area.low, area.high) == pytest.approx((one["roc_auc"].low, one["roc_auc"].high), abs=2e-3)
        for metric in ("precision", "recall"):
            assert found.per_class[name][metric] == one[metric]
        assert found.per_class[name]["support"] == one["support"]
    mean = found.estimates["roc_auc"]
    assert mean.low is not None and mean.value is not None and mean.low < mean.value < mean.high  # type: ignore[operator]
    assert mean.method == "DeLong on the logit scale"


def test_no_cell_unknown_changes_nothing_and_minus_one_is_not_known_either() -> None:
    full = np.nan_to_num(TRUTH)
    as_codes = np.where(KNOWN, TRUTH, -1).astype(int)
    for metric in ("roc_auc", "macro_f1", "hamming", "mean_average_precision"):
        assert value("multilabel", metric, as_codes, P, CALLED) == value("multilabel", metric, TRUTH, P, CALLED)
        assert value("multilabel", metric, full, P, CALLED) == value("multilabel", metric, full.astype(int), P, CALLED)
    assert score("multilabel", full, P, CALLED).notes == ()


def test_a_model_that_differs_only_where_nothing_is_known_is_not_told_from_the_other() -> None:
    other = np.where(KNOWN, P, 1 - P), np.where(KNOWN, CALLED, 1 - CALLED)
    for metric in ("roc_auc", "macro_f1", "subset_accuracy"):
        gap = difference("multilabel", metric, TRUTH, (P, CALLED), other)
        assert (gap.value, gap.verdict) == (pytest.approx(0, abs=1e-12), "not decidable")


def test_calibration_and_temperature_rest_on_the_known_cells() -> None:
    codes = np.where(KNOWN, TRUTH, -1).astype(int)
    bins = reliability(codes, P)
    assert sum(b.n for b in bins) == KNOWN.sum()
    wanted = sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / KNOWN.sum()
    assert calibration_error(codes, P)(np.ones((1, N)))[0] == pytest.approx(wanted, abs=1e-12)
    z = np.log(P / (1 - P)) * 3
    flat = np.stack([np.zeros(KNOWN.sum()), z[KNOWN]], axis=1)
    assert fit_temperature(z, TRUTH) == pytest.approx(fit_temperature(flat, TRUTH[KNOWN].astype(int)), rel=1e-9)


def test_thresholds_rest_on_the_known_cells() -> None:
    spoiled = np.where(KNOWN, P, 0.999)
    assert multilabel_thresholds(TRUTH, P) == pytest.approx(multilabel_thresholds(TRUTH, spoiled))
    full = np.nan_to_num(TRUTH).astype(int)
    assert not np.allclose(multilabel_thresholds(TRUTH, P), multilabel_thresholds(full, P))


def test_a_head_is_fitted_as_if_each_label_had_only_its_known_rows() -> None:
    features = np.random.default_rng(2).normal(size=(N, 4)) / 2
    features[:, :K] += np.nan_to_num(TRUTH) / 2
    together = LinearHead(4, K).double()
    minimise(together, Rows(features, None, np.ones(N)), Logistic(TRUTH), 2.0)
    for c in range(K):
        here, alone = KNOWN[:, c], LinearHead(4, 1).double()
        minimise(alone, Rows(features[here], None, np.ones(here.sum())), Logistic(TRUTH[here, c]), 2.0)
        assert together.weight[c].detach().numpy() == pytest.approx(alone.weight[0].detach().numpy(), abs=1e-5)
        assert together.bias[c].item() == pytest.approx(alone.bias[0].item(), abs=1e-5)


def test_losses_and_their_slopes_are_sums_over_known_cells() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(N, K))
    wanted = np.zeros(N)
    for i, c in product(range(N), range(K)):
        if KNOWN[i, c]:
            wanted[i] += np.log1p(np.exp(z[i, c])) - TRUTH[i, c] * z[i, c]
    logits = torch.from_numpy(z).requires_grad_()
    losses = MultiLabel().losses(logits, torch.from_numpy(TRUTH))
    assert losses.detach().numpy() == pytest.approx(wanted, abs=1e-12)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    link, weights = Logistic(TRUTH), rng.random((N, 1))
    assert link.losses(z[:, :, None], np.zeros((K, 1)))[:, 0] == pytest.approx(wanted, abs=1e-12)
    total, slope, free = link.slopes(z[:, :, None], np.zeros((K, 1)), weights)
    assert logits.grad is not None
    each = logits.grad.numpy() * weights
    assert total[0] == pytest.approx((wanted * weights[:, 0]).sum(), abs=1e-12)
    assert slope[:, :, 0] == pytest.approx(each, abs=1e-12)
    assert free[:, 0] == pytest.approx(each.sum(0), abs=1e-12)
    assert not slope[~KNOWN].any()
    p = 1 / (1 + np.exp(-z))
    bend = link.curvature(z[:, :, None], np.zeros((K, 1)), weights)[:, 0]
    assert bend == pytest.approx((p * (1 - p) * weights * KNOWN).sum(0), abs=1e-12)
