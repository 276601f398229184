"""Choosing a model without a single target label: numpy in, numbers out, and no place where a target label could stand.

Every validator scores candidates on the same held-out source rows (with labels) and target rows (without). `pick` takes
the best mean rank of a frozen few of them. `decide` says whether to adapt at all, and by which candidate, from one of
them, `neighbour_agreement`; `label_apart` names the rows whose labels would tell.
"""

from __future__ import annotations

from acclimate.validate.base import Candidate, Rows
from acclimate.validate.neighbours import neighbour_agreement
from acclimate.validate.pick import ENSEMBLE, VALIDATORS, Pick, pick, score
from acclimate.validate.relative import agreement, circular
from acclimate.validate.risks import deep_embedded, density_ratio, importance_weighted, source_risk
from acclimate.validate.rows import disagreement, label_apart, label_next
from acclimate.validate.structure import class_ami, clusters, mixval, rankme
from acclimate.validate.unlabelled import (
    confidence,
    infomax,
    neighbourhood_density,
    nuclear_norm,
    plausible_shares,
)
from acclimate.validate.verdict import Settled, Verdict, decide, moved_at_least, settle

__all__ = [
    "ENSEMBLE", "VALIDATORS", "Candidate", "Pick", "Rows", "Settled", "Verdict", "agreement", "circular", "class_ami",
    "clusters", "confidence", "decide", "deep_embedded", "density_ratio", "disagreement", "importance_weighted",
    "infomax", "label_apart", "label_next", "mixval", "moved_at_least", "neighbour_agreement", "neighbourhood_density",
    "nuclear_norm", "pick", "plausible_shares", "rankme", "score", "settle", "source_risk",
]  # fmt: skip
