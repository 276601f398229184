"""Another model on the same rows as the one that is kept: fitted, finished and judged as that one is."""

from __future__ import annotations

from dataclasses import replace

from acclimate.advise.crossfit import Pairs, Trial, crossfit
from acclimate.api.finish import Choice, Judged, finished, judged_on, judged_out_of_fold
from acclimate.api.prepare import Prepared
from acclimate.data.rows import Data
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, Strategy, multitask


def fitted_beside(
    name: str,
    strategy: Strategy,
    prepared: Prepared,
    problem: Problem,
    folds: tuple[Data, Pairs],
    run: Run,
    trial: Trial | None = None,
) -> tuple[Predictor, Judged]:
    """The predictor, and its answers to the rows that give the number; `trial`: where its folds were judged before."""
    data, pairs = folds
    usual = Choice(positive=problem.decoder.positive)
    fitted = replace(multitask.fit(strategy, problem, Splits(prepared.train, prepared.valid), run), strategy=name)
    trial = trial or crossfit(name, strategy, problem, data, pairs, run, prepared.test is None)
    at = trial.judged
    fitted, _ = finished(problem, fitted, trial.logits, at, data.take(at), usual)
    if prepared.test is not None:
        return fitted, judged_on(fitted, prepared.test, run, problem)
    return fitted, judged_out_of_fold(problem, trial, data, pairs, usual)
