"""Whether it pays to read a table's numbers, text, pictures and sounds together: each kind alone beside all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from acclimate.advise.crossfit import Pairs
from acclimate.api.alongside import fitted_beside
from acclimate.api.collect import ALONE, baseline_name
from acclimate.api.finish import Judged, gap_between, scores_of
from acclimate.api.prepare import Prepared
from acclimate.backbones.table import Columns
from acclimate.data.rows import Data
from acclimate.evaluate import Difference, greater_is_better
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import STRATEGIES, Problem, Strategy
from acclimate.tasks.multitask import Multitask
from acclimate.usage import duration

SOON = 120.0  # seconds that the kinds alone may take where there is no time limit
_SHARE = 0.1  # of the time that is left, where there is one


@dataclass(frozen=True)
class Fused:
    """Each kind of column alone on the rows of the number, by its name among the baselines; and what it says."""

    alone: Mapping[str, Judged] = field(default_factory=dict)
    said: tuple[str, ...] = ()


def alone(
    prepared: Prepared,
    problem: Problem,
    model: tuple[str, Strategy],
    judged: Judged,
    folds: tuple[Data, Pairs],
    metric: str,
    seconds: float,
    run: Run,
) -> Fused:
    """A linear probe on the features of each kind of column, and on all of them, where there are several kinds.

    Features are known by then, so that this costs a probe each; it is left out, and that is said, where even that takes
    more than two minutes (or a tenth of what a time limit leaves). `seconds` is what the last fit of the model took.
    """
    table, (name, probe) = problem.backbone, model
    if not isinstance(table, Columns) or problem.store is None or isinstance(problem.task, Multitask):
        return Fused()
    kinds = table.kinds
    if len(kinds) < 2:
        return Fused()
    took = seconds * (1 if prepared.test is not None else 1 + len(folds[1]))
    if name != "linear_probe":
        start, probe = time.monotonic(), STRATEGIES["linear_probe"]
        judged = fitted_beside("all_kinds", probe, prepared, problem, folds, run)[1]
        took = time.monotonic() - start
    limit = SOON if run.deadline is None else _SHARE * run.left()
    if not run.once("kinds/affordable", lambda: took * len(kinds) <= limit):
        said = f"What each kind of column gives alone was not measured: it takes about {duration(took * len(kinds))}."
        return Fused(said=(said,))
    found: dict[str, Judged] = {}
    for kind in kinds:
        only = table.only(kind)
        one = replace(problem, backbone=only, store=Store(only, replace(problem.store.run, cache=None)))
        found[ALONE + kind] = fitted_beside(ALONE + kind, probe, prepared, one, folds, run)[1]
    said = _said(problem, judged, found, metric, run.seed)
    run.progress.say(said)
    return Fused(found, (said,))


def _said(problem: Problem, together: Judged, found: Mapping[str, Judged], metric: str, seed: int) -> str:
    """What all columns gain on each kind alone, and on the best of these."""
    task, decoder = problem.task, problem.decoder
    gaps = {name: gap_between(together, one, task, metric, seed) for name, one in found.items()}
    told = "; ".join(f"{baseline_name(name, task.name)} {_text(gap)}" for name, gap in gaps.items())
    values = {name: scores_of(one, task, decoder, metric, seed).estimates[metric].value for name, one in found.items()}
    known = {name: value for name, value in values.items() if value is not None}
    first = f"All columns together, less each kind by itself (linear_probe, {metric.replace('_', ' ')}): {told}."
    if not known:
        return first
    best = (max if greater_is_better(task.name, metric) else min)(known, key=lambda name: known[name])
    name = baseline_name(best, task.name)
    end = {
        "better": f"Reading them together pays: it is better than {name}, the best of them.",
        "worse": f"Reading them together does not pay: {name} does better; leave the others out (--column-kind).",
    }
    undecided = f"These rows cannot tell whether reading them together is better than {name}, the best of them."
    return f"{first} {end.get(gaps[best].verdict, undecided)}"


def _text(gap: Difference) -> str:
    if gap.value is None or gap.low is None or gap.high is None:
        return "undefined"
    return f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]".replace("-", "−") + f" ({gap.verdict})"
