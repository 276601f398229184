"""How well a classifier tells the domains apart, on rows it has not seen."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from acclimate.metrics.estimate import Estimate
from acclimate.metrics.intervals import on_scale, proportion, wilson
from acclimate.metrics.ranks import area_influence
from acclimate.shallow.domains import Told

_COVERS = "which rows of both domains were drawn; not how they were dealt to folds"


@dataclass(frozen=True)
class Apart:
    """Both are 0.5 and 0 where the domains cannot be told apart, 1 and 2 where they always can."""

    auc: Estimate
    a_distance: Estimate

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return asdict(self)


def apart(told: Told) -> Apart:
    """Area under the ROC curve and proxy A-distance of a cross-fitted domain classifier, with 95 % intervals.

    d_A = 2(1 - 2ε), ε the mean of both domains' error rates, never below 0. Ben-David et al. (2007), NeurIPS 19. The
    interval of ε is Wilson's at the effective number of units (equal rows and groups count as one), that of the area
    DeLong's on the logit scale; both are widened by √(1 + k/(k-1)) for k folds, since their models share rows (Nadeau
    and Bengio 2003, Machine Learning 52: near no shift the plain ones miss in 15 of 100 samples). Use the area to see
    whether there is any shift: ε saturates and hides small ones.

    >>> told = Told(np.array([-2.0, -1.0, 0.5]), np.array([1.0, -0.5, 2.0]), np.arange(6), np.zeros(6, int), 1.0)
    >>> found = apart(told)
    >>> round(found.auc.value, 3), round(found.a_distance.value, 3)
    (0.889, 0.667)
    """
    odds = np.concatenate([told.source, told.target])
    side = np.repeat([0.0, 1.0], [len(told.source), len(told.target)])
    half = np.where(side == 1, 0.5 / len(told.target), 0.5 / len(told.source))
    return Apart(_area(odds, side, told), _distance(odds, side, half, told))


def _area(odds: np.ndarray[Any, Any], side: np.ndarray[Any, Any], told: Told) -> Estimate:
    """The mean of the folds' areas: scores of different models are not ranked against each other."""
    value, pulls = 0.0, np.empty(len(side))
    for fold in np.unique(told.fold):
        rows = told.fold == fold
        share = float(rows.mean())
        area, pull = area_influence(side[rows], odds[rows], np.ones(int(rows.sum())))
        value += share * area
        pulls[rows] = share * pull
    units = np.bincount(told.units, pulls)
    count = len(units)
    error = _wider(told) * float(np.sqrt((units**2).sum() * count / max(count - 1, 1)))
    limits = on_scale(value, error, 1.96, "unit")
    method = "DeLong on the logit scale"
    if limits is None:  # every pair in order, or none
        fewest = min(len(np.unique(told.units[side == s])) for s in (0, 1))
        edge = wilson(value * fewest / _wider(told) ** 2, fewest / _wider(told) ** 2)
        limits, method = (edge.low, edge.high), "Wilson at the smaller domain's number of units"
    return Estimate(value, limits[0], limits[1], len(side), "", method, _COVERS)


def _distance(
    odds: np.ndarray[Any, Any], side: np.ndarray[Any, Any], half: np.ndarray[Any, Any], told: Told
) -> Estimate:
    wrong = np.where(odds == 0, 0.5, (odds > 0) != (side == 1)).astype(np.float64)
    value = float(half @ wrong)
    found = proportion(wrong, weights=half, clusters=told.units)
    low, high = (0.0, 1.0) if found is None else (found.low, found.high)
    low, high = (max(0.0, value - _wider(told) * (value - low)), min(1.0, value + _wider(told) * (high - value)))
    method = "none: fewer than 2 units" if found is None else found.method
    return Estimate(_from_error(value), _from_error(high), _from_error(low), len(side), "", method, _COVERS)


def _from_error(error: float) -> float:
    return max(0.0, 2 * (1 - 2 * error))


def _wider(told: Told) -> float:
    """How much more a cross-fitted score varies than its rows alone would make it."""
    folds = int(told.fold.max()) + 1
    return math.sqrt(1 + folds / (folds - 1)) if folds > 1 else 1.0
