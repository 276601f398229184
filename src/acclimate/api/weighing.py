"""`--lambda auto`: how much L_target weighs on frozen features, chosen along a path without a label of the target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from acclimate import ranks
from acclimate.api.deciding import FEWEST, some_of
from acclimate.api.prepare import Prepared
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, Strategy, adapts
from acclimate.validate import Along, along

PATH = (1.0, 0.0, 0.1, 0.3, 3.0)  # times the usual λ, which comes first


def weighed(name: str, strategy: Any, prepared: Prepared, problem: Problem, run: Run) -> tuple[Strategy, str]:
    """The strategy with the λ that `validate.along` takes, and why; the usual one where nothing can be told."""
    usual = f"λ of {name}: {strategy.weight:g}, the usual one"
    if problem.task.name != "classify" or problem.store is None:
        return strategy, f"{usual}: without labels only answers of one class a row can be compared"
    if not adapts(strategy):
        return strategy, f"{usual}, with which the target is not read"
    assert prepared.target is not None
    train, target = (some_of(data, run) for data in (prepared.train, prepared.target))
    features = np.asarray(problem.store.get(target.inputs), np.float64)
    if len(np.unique(features, axis=0)) < FEWEST:
        return strategy, f"{usual}: fewer than {FEWEST} different target rows do not tell another"
    weights = [float(f"{times * strategy.weight:.6g}") for times in PATH]
    run.progress.say(f"choosing λ of {name} among {', '.join(f'{w:g}' for w in sorted(weights))} without labels")
    answers = []
    for weight in weights:
        part = run.at(f"lambda-{weight:g}")
        fitted = replace(strategy, weight=weight).fit(problem, Splits(train, target=target), part)
        answers.append(np.asarray(fitted.outputs(target.inputs, run, problem.store), np.float64).argmax(1))
    found = ranks.agreed(along(answers, features, usual=0, seed=run.seed))
    return replace(strategy, weight=weights[found.at]), said(name, weights, found)


def said(name: str, weights: list[float], found: Along) -> str:
    """Which λ, and by what."""
    path = ", ".join(f"{v:.2f} with {w:g}" for w, v in sorted(zip(weights, found.values, strict=True)))
    told = f"how well answers to the target rows hang together (κ; 0: as by chance, 1: always) is {path}"
    if found.at:
        return f"λ of {name}: {weights[found.at]:g} in place of the usual {weights[0]:g}, chosen without labels: {told}"
    kept = f"λ of {name}: {weights[0]:g}, the usual one, since without labels no other is surely better"
    return f"{kept}: {told}" + (
        "" if found.best == 0 else f" (lead {found.lead:.2f}, standard error {found.error:.2f})"
    )
