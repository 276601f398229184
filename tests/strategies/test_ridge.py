from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tiny_models as tm
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Splits
from acclimate.strategies.probe import STRENGTHS, Known, Probe, ridge_strength, tied
from acclimate.strategies.ridge import RidgeProbe
from acclimate.train.ridge import Ridge, judged

RUN = Run()
KINDS = {"classify": "str", "ordinal": "int", "multilabel": "list", "regress": "float"}


def fit(strategy: Any, backbone: Any, data: Data, task: str, valid: Data | None = None) -> Any:
    problem = tm.problem_of(task, data, KINDS[task], backbone, RUN)
    return strategy.fit(problem, Splits(data, valid), RUN), problem


def test_for_regression_it_is_the_linear_probe(shared_bert: Any) -> None:
    data, _ = tm.task_rows("regress", 60)
    data = replace(data, weights=np.random.default_rng(0).random(60) + 0.5)
    for valid in (None, tm.task_rows("regress", 24)[0]):
        mine, _ = fit(RidgeProbe(), shared_bert, data, "regress", valid)
        probe, _ = fit(Probe(), shared_bert, data, "regress", valid)
        assert mine.settings["strength"] == probe.settings["strength"]
        assert np.array_equal(mine.logits(data.inputs), probe.logits(data.inputs))


def test_the_strength_is_that_of_leaving_one_out(shared_bert: Any) -> None:
    """Fitted again without each row, features scaled once."""
    data, _ = tm.task_rows("regress", 24)
    fitted, problem = fit(Probe(), shared_bert, data, "regress")
    known = Known.of(problem, Splits(data), True, None)
    x, y, n = known.rows.features, known.targets[:, None], len(data)
    units = tied(data)
    assert units is not None
    total = np.zeros(len(STRENGTHS))
    for unit in np.unique(units):
        out = units == unit
        part = Ridge.of(x[~out], y[~out], np.ones(n)[~out])
        total += judged(part, STRENGTHS, x[out], y[out], np.ones(out.sum())) * out.sum()
    assert fitted.settings["strength"] == STRENGTHS[int(np.argmin(total))]


def test_rows_are_left_out_with_their_group_and_never_judged_by_their_future() -> None:
    data = tm.rows(40)
    assert tied(data).tolist() == list(range(40))  # type: ignore[union-attr]
    grouped = replace(data, groups=tuple(str(i // 4) for i in range(40)))
    assert tied(grouped).tolist() == [i // 4 for i in range(40)]  # type: ignore[union-attr]
    assert tied(replace(data, times=np.arange(40.0))) is None
    assert tied(replace(data, groups=("one",) * 20 + ("two",) * 20)) is None  # two units say little about a third
    assert tied(data.take(range(7))) is None


def test_folds_are_used_where_rows_cannot_be_left_out(monkeypatch: pytest.MonkeyPatch, shared_bert: Any) -> None:
    data, _ = tm.task_rows("regress", 40)
    problem = tm.problem_of("regress", data, "float", shared_bert, RUN)
    known = Known.of(problem, Splits(data), True, None)
    x, y = known.rows.features, known.targets[:, None]
    fitted = Ridge.of(x, y, np.ones(40))
    timed = replace(data, times=np.arange(40.0))
    rest = np.zeros(40)
    strength = ridge_strength(fitted, x, y, rest, timed, "regress", 4, 0)
    assert strength in STRENGTHS
    seen = []
    monkeypatch.setattr("acclimate.strategies.probe.inner", lambda *a: seen.append(a) or [])
    assert ridge_strength(fitted, x, y, rest, timed, "regress", 4, 0) == 1.0
    assert len(seen) == 1


@pytest.mark.parametrize("task", ["classify", "ordinal", "multilabel"])
def test_scores_are_turned_into_probabilities(task: str, shared_bert: Any) -> None:
    """No worse on new rows than logistic regression by more than a tenth, and far better than class shares."""
    data, new = tm.task_rows(task, 90)[0], tm.task_rows(task, 120)[0].take(range(90, 120))
    losses = []
    for strategy in (RidgeProbe(), Probe(), Probe(strength=1e-6)):  # the last one knows class shares alone
        fitted, problem = fit(strategy, shared_bert, data, task)
        p = fitted.outputs(new.inputs)
        truth = problem.targets(new)
        if task == "multilabel":
            losses.append(-np.log(np.where(truth > 0, p, 1 - p)).sum(1).mean())
        else:
            losses.append(-np.log(p[np.arange(30), truth.astype(int)]).mean())
    assert losses[0] < losses[1] + 0.1
    assert losses[0] < 0.95 * losses[2]


@pytest.mark.parametrize(("settings", "said"), [({"strength": 0.0}, "above 0"), ({"inner_folds": 1}, "2 or more")])
def test_settings_without_a_meaning_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        RidgeProbe(**settings)
