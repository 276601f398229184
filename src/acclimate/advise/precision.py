"""What fewer digits cost on the user's own rows: how far the features move, and what a probe on them loses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from acclimate.advise.crossfit import crossfit
from acclimate.advise.race import compare, gap_text, value_of
from acclimate.backbones.text import TextBackbone
from acclimate.data.rows import Data
from acclimate.data.split import folds
from acclimate.errors import UserError
from acclimate.features import Features, Store
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies import Problem
from acclimate.strategies.probe import Probe

_ROWS = 512


def precision_cost(problem: Problem, data: Data, metric: str, run: Run) -> str:
    """A sentence on up to 512 training rows read in both precisions; the same probe is fitted and judged on folds."""
    backbone, store = problem.network()
    assert isinstance(backbone, TextBackbone)
    at = np.random.default_rng(run.seed).permutation(len(data))[:_ROWS]
    rows = data.take(np.sort(at))
    quiet = replace(run, progress=Progress(quiet=True))
    full = backbone.with_settings(replace(backbone.text, precision="fp32"))
    exact = replace(problem, backbone=full, store=Store(full, quiet))
    assert exact.store is not None
    error = _cosine_errors(exact.store.get(rows.inputs), store.get(rows.inputs))
    moved = (
        f"precision {backbone.text.precision}: on {len(rows):,} training rows the features differ from fp32 by a "
        f"cosine distance of {error.mean():.2g} on average and {error.max():.2g} at most"
    )
    try:
        pairs = folds(rows, problem.task.name, seed=run.seed)
        trials = [crossfit("linear_probe", Probe(), p, rows, pairs, quiet) for p in (problem, exact)]
        values = [value_of(problem, rows, metric, trial) for trial in trials]
        gap = compare(problem, rows, metric, *trials)
    except UserError:
        return f"{moved}; they are too few or too alike to judge a probe by."
    return (
        f"{moved}; a linear probe judged on folds of them has {metric} {values[0]:.3f} in "
        f"{backbone.text.precision} and {values[1]:.3f} in fp32, a difference of {gap_text(gap)}."
    )


def _cosine_errors(a: Features, b: Features) -> Features:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: Features = np.maximum(0.0, 1 - (a * b).sum(1) / np.maximum(norms, 1e-30))
    return found
