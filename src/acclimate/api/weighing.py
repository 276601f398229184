"""`--lambda auto`: λ and the start of an adaptation on frozen features, chosen along a path without a target label."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from acclimate import ranks
from acclimate.api.deciding import FEWEST, some_of
from acclimate.api.prepare import Prepared
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, Strategy
from acclimate.validate import Along, along

TIMES = (1.0, 0.1, 0.3, 3.0)  # the usual λ, which comes first; and the source alone
STARTS = 3  # with random numbers of their own, where there are any
# For others (dann, mmd) the same rule lost more than it gained on the pairs it was made on: benchmarks/lambdas.py.
JUDGED = ("mcc", "self_train")


def weighed(name: str, strategy: Any, prepared: Prepared, problem: Problem, run: Run) -> tuple[Strategy, str]:
    """The strategy with the λ and start that `validate.along` takes, and why; as it is where nothing can be told."""
    usual = f"λ of {name}: {strategy.weight:g}, the usual one"
    if name not in JUDGED:
        return strategy, f"{usual}: without labels another was found for {' and '.join(JUDGED)} alone"
    if problem.task.name != "classify" or problem.store is None:
        return strategy, f"{usual}: without labels only answers of one class a row can be compared"
    assert prepared.target is not None
    train, target = (some_of(data, run) for data in (prepared.train, prepared.target))
    features = np.asarray(problem.store.get(target.inputs), np.float64)
    if len(np.unique(features, axis=0)) < FEWEST:
        return strategy, f"{usual}: fewer than {FEWEST} different target rows do not tell another"
    tried = path(strategy)
    run.progress.say(f"choosing λ of {name} without labels among {len(tried)} fits")
    answers = []
    with run.progress.steps(f"{name} along λ", len(tried)) as advance:
        for number, one in enumerate(tried):
            fitted = one.fit(problem, Splits(train, target=target), run.at(f"lambda-{number}"))
            answers.append(np.asarray(fitted.outputs(target.inputs, run, problem.store), np.float64).argmax(1))
            advance(1)
    found = ranks.agreed(along(answers, features, usual=0, seed=run.seed))
    return tried[found.at], said(name, tried, found)


def path(strategy: Any) -> list[Any]:
    """The strategy as it is, then with other λ and starts; last λ = 0."""
    starts = range(STARTS) if hasattr(strategy, "restart") else (None,)
    found = [_with(strategy, times, start) for times, start in product(TIMES, starts)]
    return [*found, _with(strategy, 0.0, starts[0])]


def _with(strategy: Any, times: float, start: int | None) -> Any:
    more = {} if start is None else {"restart": strategy.restart + start}
    return replace(strategy, weight=float(f"{times * strategy.weight:.6g}"), **more)


def said(name: str, tried: list[Any], found: Along) -> str:
    """Which λ and start, and by what."""
    best: dict[float, float] = {}
    for one, value in zip(tried, found.values, strict=True):
        best[one.weight] = max(value, best.get(one.weight, value))
    usual, taken = tried[0], tried[found.at]
    told = ", ".join(f"{value:.2f} with {weight:g}" for weight, value in sorted(best.items()))
    told = f"how well answers to the target rows hang together (κ; 0: as by chance, 1: always) is at most {told}"
    if found.at:
        start = f", start {found.at % STARTS + 1} of {STARTS}" if hasattr(taken, "restart") else ""
        return f"λ of {name}: {taken.weight:g}{start}, chosen without labels (usually {usual.weight:g}): {told}"
    lead = f" (lead {found.lead:.2f}, standard error {found.error:.2f})" if found.best else ""
    return f"λ of {name}: {usual.weight:g}, the usual one, since without labels no other is surely better: {told}{lead}"
