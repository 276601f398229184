"""How much an adaptation should weigh, when nobody may look at a target label: answers along a path of λ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acclimate.errors import UserError
from acclimate.validate.base import Floats, Ints
from acclimate.validate.neighbours import NEAREST, error_of_lead, from_neighbours, nearest, some
from acclimate.validate.verdict import CLEAR, LEAD, SURE


@dataclass(frozen=True)
class Along:
    """The place on the path that is taken, and the evidence."""

    at: int
    values: tuple[float, ...]  # κ, the neighbour agreement of the answers of every place
    best: int  # the place of the highest κ; the usual one where it is as high
    lead: float  # of that κ over the usual one's
    error: float  # standard error of that lead


def along(answers: Sequence[Ints], features: Floats, usual: int, seed: int = 0) -> Along:
    """Stay at the usual fit unless the answers of another follow clusters, and surely better.

    Formula: κ_i is `neighbour_agreement` of `answers[i]`, and b = argmax_i κ_i; b is taken where κ_b ≥ `CLEAR`, and
    κ_b − κ_usual is `LEAD` or more and `SURE` standard errors (`error_of_lead`) or more; else the usual one.
    Source: ours; it is the rule by which `decide` leaves the source alone, with the usual λ in its place, and its
    numbers are those.
    Use when: a method is fitted along a path in seconds, and its usual λ was chosen on other data.
    Prefer `decide` for whether to adapt at all; prefer some labelled target rows to both: κ sees no class that has
    become rare. The highest κ without these conditions lost up to 8 points (benchmarks/lambdas.py).

    >>> import numpy as np
    >>> x = np.repeat([[-9.0], [9.0]], 40, axis=0) + np.arange(80)[:, None] / 100
    >>> two, three = np.repeat([0, 1], 40), np.r_[np.repeat([0, 1], 20), np.full(40, 2)]
    >>> torn = np.arange(80) % 2
    >>> along([torn, torn, two], x, usual=1).at, along([torn, two, three], x, usual=1).at
    (2, 1)
    """
    if not 0 <= usual < len(answers):
        raise UserError(f"usual={usual} must be the place of one of {len(answers)} answers")
    at = some(features, seed)
    around = nearest(features[at], NEAREST + 1)
    values = tuple(from_neighbours(a[at], around[:, :NEAREST]) for a in answers)
    best = max(range(len(answers)), key=lambda i: (round(values[i], 9), i == usual))
    lead, error = values[best] - values[usual], error_of_lead(answers[usual][at], answers[best][at], around)
    sure = values[best] >= CLEAR and lead >= max(LEAD, SURE * error)
    return Along(best if sure else usual, values, best, lead, error)
