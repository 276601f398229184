"""What leaving each domain out says of a domain that is not there."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from acclimate.api.finish import Judged, scores_of
from acclimate.api.prepare import Prepared
from acclimate.metrics.tables import METRICS
from acclimate.strategies import Problem
from acclimate.tasks.base import Floats

LIMITS = {"unit": (0.0, 1.0), "signed": (-1.0, 1.0), "positive": (0.0, np.inf), "below one": (-np.inf, 1.0)}


def said(prepared: Prepared, problem: Problem, judged: Judged, metric: str, seed: int) -> tuple[str, ...]:
    """The best and the worst domain, and where the number of a new one will lie; nothing without domains.

    A new domain's value: mean ± t_{D−1} s √(1 + 1/D) over the D domains, taken as draws from one normal distribution.
    """
    column = prepared.columns.domain
    if column is None or prepared.test is not None or judged.data.domains is None:
        return ()
    table = scores_of(judged, problem.task, problem.decoder, metric, seed).per_subgroup[column]
    found = {name: row[metric].value for name, row in table.items() if metric in row}
    values = {name: v for name, v in found.items() if v is not None}
    if len(values) < 2:
        return ()
    measure = METRICS[problem.task.name][metric]
    first, *_, last = sorted(values, key=lambda name: values[name], reverse=measure.greater_is_better)
    told = f"Each domain was left out: {metric} from {values[first]:.3f} ({first}) to {values[last]:.3f} ({last})."
    if len(values) < 3:
        return (f"{told} Two domains do not tell how a third will do.",)
    least, most = LIMITS.get(measure.scale, (-np.inf, np.inf))
    low, high = np.clip(prediction_interval(np.array(list(values.values()))), least, most)
    return (
        f"{told} For a new domain like these expect {np.mean(list(values.values())):.3f}, 95 % interval "
        f"{low:.3f} to {high:.3f} (from {len(values)} domains; the intervals beside the numbers are of these domains' "
        "own rows).",
    )


def prediction_interval(values: Floats) -> tuple[float, float]:
    """Where one more value from the same normal distribution lies in 95 of 100 cases.

    >>> [round(v, 2) for v in prediction_interval(np.array([0.7, 0.8, 0.9]))]
    [0.3, 1.3]
    """
    n = len(values)
    half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) * (1 + 1 / n) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half
