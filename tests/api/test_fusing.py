"""Each kind of column of a table alone, beside all of them: what is measured, what is said of it, and when not."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny_models as tm
from acclimate.api import fusing
from acclimate.api.alongside import fitted_beside
from acclimate.api.collect import ALONE
from acclimate.api.finish import Judged
from acclimate.api.fusing import Fused, alone
from acclimate.api.prepare import Prepared
from acclimate.backbones import load
from acclimate.backbones.table import Columns as Table
from acclimate.data.column_types import rows_of
from acclimate.data.rows import Columns, Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import STRATEGIES, Problem
from acclimate.tasks import TASKS

PROBE = ("linear_probe", STRATEGIES["linear_probe"])
PAIRS = [(np.arange(20, 60), np.arange(20))]


def visits(n: int, seed: int) -> Data:
    """The number says the class; what stands in the text has nothing to do with it."""
    rng = np.random.default_rng(seed)
    ill = [i % 2 for i in range(n)]
    cells = [(4.0 * y + rng.normal(), " ".join(rng.choice(tm.NEUTRAL, 4))) for y in ill]
    inputs = rows_of(cells, ("pulse", "notes"), {"notes": "text"})
    return Data(tuple(inputs), tuple(["no", "yes"][y] for y in ill), kind="table", lines=tuple(range(2, n + 2)))


@pytest.fixture
def given(folder: Path) -> tuple[Prepared, Problem]:
    train, test = visits(60, 0), visits(40, 1)
    backbone = load(f"columns+{folder}").fit_rows(train.inputs)  # type: ignore[attr-defined]
    task = TASKS["classify"]
    decoder = replace(task.decoder(train.labels or (), "str"), positive="yes")
    problem = Problem(task, decoder, backbone, Store(backbone, Run()))
    return Prepared(Columns(label="ill"), "classify", (), train, test, None, (), "a file"), problem


def together(prepared: Prepared, problem: Problem) -> Judged:
    return fitted_beside("linear_probe", PROBE[1], prepared, problem, (prepared.train, PAIRS), Run())[1]


def test_each_kind_is_a_probe_on_its_own_columns_and_the_best_is_named(given: tuple[Prepared, Problem]) -> None:
    prepared, problem = given
    judged = together(prepared, problem)
    found = alone(prepared, problem, PROBE, judged, (prepared.train, PAIRS), "accuracy", 0.1, Run())
    assert list(found.alone) == [f"{ALONE}columns", f"{ALONE}text"]
    right = {name: float((one.decisions == one.truth).mean()) for name, one in found.alone.items()}
    assert right[f"{ALONE}columns"] > 0.9 and right[f"{ALONE}text"] < 0.75
    assert isinstance(problem.backbone, Table)
    only = replace(problem, backbone=problem.backbone.only("columns"))
    only = replace(only, store=Store(only.backbone, Run()))  # type: ignore[arg-type]
    own = together(prepared, only)
    np.testing.assert_allclose(found.alone[f"{ALONE}columns"].outputs, own.outputs)
    (said,) = found.said
    assert "numbers and categories alone, the best of them" in said
    assert "the text alone +" in said.split("numbers and categories alone")[1] and "(better)" in said


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (0.1, "Reading them together pays: it is better than the text alone, the best of them."),
        (3.0, "does not pay: the text alone does better; leave the others out (--column-kind)."),
        (1.0, "cannot tell whether reading them together is better than the text alone, the best of them."),
    ],
)
def test_of_errors_the_least_is_the_best(error: float, end: str) -> None:
    rng, task = np.random.default_rng(0), TASKS["regress"]
    truth = rng.normal(size=80)
    data = replace(visits(80, 0), labels=tuple(truth.tolist()))
    problem = Problem(task, task.decoder(data.labels or (), "float"))

    def off_by(size: float) -> Judged:
        answers = truth + size * rng.permutation(np.linspace(0.9, 1.1, 80))
        return Judged(data, truth, answers, answers)

    kinds = {f"{ALONE}columns": off_by(2.0), f"{ALONE}text": off_by(1.0)}
    assert fusing._said(problem, off_by(error), kinds, "mae", 0).endswith(end)


def test_nothing_is_fitted_where_time_is_short_or_there_is_one_kind(
    given: tuple[Prepared, Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, problem = given
    judged, folds = together(prepared, problem), (prepared.train, PAIRS)
    monkeypatch.setattr(fusing, "fitted_beside", lambda *args: pytest.fail("fitted"))
    short = Run(deadline=time.monotonic() + 60)  # a tenth of it is less than two probes of five seconds
    found = alone(prepared, problem, PROBE, judged, folds, "accuracy", 5.0, short)
    assert not found.alone
    assert found.said == ("What each kind of column gives alone was not measured: it takes about 10 s.",)
    cross = replace(prepared, test=None)  # one fit more for every fold: 2 kinds, 61 s, a last fit and a fold
    assert "about 4 min" in alone(cross, problem, PROBE, judged, folds, "accuracy", 61.0, Run()).said[0]
    assert isinstance(problem.backbone, Table)
    one = replace(problem, backbone=problem.backbone.only("text"))
    assert alone(prepared, one, PROBE, judged, folds, "accuracy", 0.1, Run()) == Fused()
