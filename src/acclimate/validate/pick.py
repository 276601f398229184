"""Which candidate to take, when nobody may look at a target label: validators by name, and their ranks together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy.stats import rankdata

from acclimate.errors import unknown
from acclimate.validate import neighbours, relative, risks, structure, unlabelled
from acclimate.validate.base import Candidate, Floats, Ints, Rows

Validator: TypeAlias = Callable[[Sequence[Candidate], Rows], Floats]  # a score for each; more is better, NaN: no answer


def _source_risk(candidates: Sequence[Candidate], rows: Rows) -> Floats:
    return np.array([-risks.source_risk(risks.zero_one(c.source, rows.labels)) for c in candidates])


def _importance_weighted(candidates: Sequence[Candidate], rows: Rows) -> Floats:
    weights = risks.density_ratio(rows.source, rows.target, seed=rows.seed)
    losses = [risks.zero_one(c.source, rows.labels) for c in candidates]
    return np.array([-risks.importance_weighted(loss, weights) for loss in losses])


def _deep_embedded(candidates: Sequence[Candidate], rows: Rows) -> Floats:
    found = []
    known: dict[tuple[int, int], Floats] = {}  # candidates on the same features share their weights
    for c in candidates:
        source, target = (
            (rows.source, rows.target) if c.source_features is None else (c.source_features, c.target_features)
        )
        key = (id(source), id(target))
        if key not in known:
            known[key] = risks.density_ratio(*rows.features(c), seed=rows.seed)
        found.append(-risks.deep_embedded(risks.zero_one(c.source, rows.labels), known[key]))
    return np.array(found)


def _circular(candidates: Sequence[Candidate], rows: Rows) -> Floats:
    found = []
    for c in candidates:
        source, target = rows.features(c)
        found.append(relative.circular(source, target, c.target.argmax(1), rows.labels, c.target.shape[1]))
    return np.array(found)


def _neighbours(candidates: Sequence[Candidate], rows: Rows) -> Floats:
    at = neighbours.some(rows.target, rows.seed)
    around = neighbours.nearest(rows.target[at])
    return np.array([neighbours.from_neighbours(c.target.argmax(1)[at], around) for c in candidates])


def _mixval(candidates: Sequence[Candidate], rows: Rows) -> Floats:
    """NaN, which is no answer, where a candidate cannot be asked about new rows."""
    known = [c.predict for c in candidates if c.predict is not None]
    if len(known) < len(candidates):
        return np.full(len(candidates), np.nan)
    return structure.mean_ranks([structure.mixval(rows.target, predict, seed=rows.seed) for predict in known])


def _rankme(candidates: Sequence[Candidate], rows: Rows) -> Floats:
    known: dict[int, float] = {}
    for c in candidates:
        key = id(c.target_features)
        if key not in known:
            known[key] = structure.rankme(rows.features(c)[1])
    return np.array([known[id(c.target_features)] for c in candidates])


def _class_ami(candidates: Sequence[Candidate], rows: Rows) -> Floats:
    found = []
    known: dict[int, tuple[Ints, Ints]] = {}  # candidates on the same features share their clusters
    for c in candidates:
        key = id(c.target_features)
        if key not in known:
            known[key] = structure.clusters(rows.features(c)[1], c.target.shape[1], rows.seed)
        at, found_there = known[key]
        found.append(structure.class_ami(c.target[at].argmax(1), found_there))
    return np.array(found)


def _each(score: Callable[[Floats], float]) -> Validator:
    return lambda candidates, rows: np.array([score(c.target) for c in candidates])


def _beside_source(score: Callable[[Floats, Floats], float]) -> Validator:
    """A score that also reads the source's class shares."""
    return lambda candidates, rows: np.array([score(c.target, source_shares(c, rows)) for c in candidates])


VALIDATORS: dict[str, Validator] = {
    "source_risk": _source_risk,
    "importance_weighted": _importance_weighted,
    "deep_embedded": _deep_embedded,
    "confidence": _each(unlabelled.confidence),
    "infomax": _each(unlabelled.infomax),
    "nuclear_norm": _each(unlabelled.nuclear_norm),
    "neighbourhood_density": _beside_source(unlabelled.neighbourhood_density),
    "plausible_shares": _beside_source(unlabelled.plausible_shares),
    "circular": _circular,
    "neighbour_agreement": _neighbours,
    "mixval": _mixval,
    "rankme": _rankme,
    "class_ami": _class_ami,
    "agreement": lambda candidates, rows: relative.agreement(list(candidates)),
}

# What `pick` goes by. Frozen on development pairs and judged on others: benchmarks/validators.py.
ENSEMBLE = ("plausible_shares", "agreement")


@dataclass(frozen=True)
class Pick:
    """The candidate that was chosen, and the evidence."""

    name: str
    at: int  # its place among the candidates
    ranks: tuple[float, ...]  # mean rank of each candidate over the validators, 0 (worst) to 1 (best)
    scores: dict[str, tuple[float, ...]]  # of each validator that had an answer

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return asdict(self)


def source_shares(candidate: Candidate, rows: Rows) -> Floats:
    """Class shares of the source.  # (K,)"""
    return np.bincount(rows.labels, minlength=candidate.target.shape[1]) / len(rows.labels)


def score(candidates: Sequence[Candidate], rows: Rows, validators: Sequence[str]) -> dict[str, Floats]:
    """What each validator says of each candidate; one that has no answer for a candidate is left out."""
    rows.check(list(candidates))
    found = {}
    for name in validators:
        if name not in VALIDATORS:
            raise unknown("validator", name, VALIDATORS)
        values = np.asarray(VALIDATORS[name](candidates, rows), np.float64)
        if np.isfinite(values).all():
            found[name] = values
    return found


def ranks(scores: dict[str, Floats], count: int) -> Floats:
    """The mean over validators of (rank − 1)/(count − 1), equal scores sharing a rank; ½ where there is none.  # (c,)

    >>> ranks({"a": np.array([1.0, 2.0, 3.0]), "b": np.array([5.0, 5.0, 0.0])}, 3).tolist()
    [0.375, 0.625, 0.5]
    """
    if not scores or count < 2:
        return np.full(count, 0.5)
    rounded = [np.round(values, 9) for values in scores.values()]  # a tie stays one on another machine
    return np.asarray(np.mean([(rankdata(values) - 1) / (count - 1) for values in rounded], axis=0))


def pick(candidates: Sequence[Candidate], rows: Rows, validators: Sequence[str] = ENSEMBLE) -> Pick:
    """The candidate with the best mean rank over the validators; of equal ones the first, so give the simplest first.

    Formula: argmax_c (1/V) Σ_v rank_v(c).
    Source: ranks are summed as by Borda (1781), so that no validator's scale counts; the make-up, `ENSEMBLE`, was
    frozen on development pairs and judged on others (`benchmarks/validators.py`).
    Use when: candidates must be ordered. Whether the best of them is better than the source alone is another question:
    `decide` answers it, or says that it cannot.

    >>> labels, x = np.array([0, 1, 0, 1]), np.zeros((4, 1))
    >>> sure, torn = np.eye(2)[labels], np.full((4, 2), 0.5)
    >>> pick([Candidate("torn", sure, torn), Candidate("sure", sure, sure)], Rows(labels, x, x), ["infomax"]).name
    'sure'
    """
    scores = score(candidates, rows, validators)
    mean = ranks(scores, len(candidates))
    at = int(np.argmax(np.round(mean, 9)))
    plain = {name: tuple(float(v) for v in values) for name, values in scores.items()}
    return Pick(candidates[at].name, at, tuple(float(v) for v in mean), plain)
