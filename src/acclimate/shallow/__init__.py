"""Domain adaptation on features alone, without a gradient and without a target label: numpy in, numpy out.

Maps change the features (`fit`, `transform`), reweighters say what each source row counts (`weights_`), all with the
interface of scikit-learn and `domain` = 0 (source) or 1 (target) in each row. A new one is a class named in this dict.
"""

from __future__ import annotations

from acclimate.shallow.base import Adapter, Reweighter
from acclimate.shallow.geodesic import Gfk
from acclimate.shallow.joint import Jda
from acclimate.shallow.statistics import Coral, LinearTransport, Standardise
from acclimate.shallow.subspace import SubspaceAlignment, Tca
from acclimate.shallow.transport import EntropicTransport, JdotRegressor
from acclimate.shallow.weights import DensityRatio, Kliep, Kmm, NearestNeighbour

SHALLOW: dict[str, type[Adapter] | type[Reweighter] | type[JdotRegressor]] = {  # from cheap to dear
    "standardise": Standardise,
    "coral": Coral,
    "linear_ot": LinearTransport,
    "subspace": SubspaceAlignment,
    "gfk": Gfk,
    "tca": Tca,
    "jda": Jda,
    "entropic_ot": EntropicTransport,
    "nearest_neighbour": NearestNeighbour,
    "density_ratio": DensityRatio,
    "kmm": Kmm,
    "kliep": Kliep,
    "jdot": JdotRegressor,
}

__all__ = [
    "SHALLOW", "Adapter", "Coral", "DensityRatio", "EntropicTransport", "Gfk", "Jda", "JdotRegressor", "Kliep", "Kmm",
    "LinearTransport", "NearestNeighbour", "Reweighter", "Standardise", "SubspaceAlignment", "Tca",
]  # fmt: skip
