"""Fingerprints: what a linear model can see of molecules without transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate.data import molecules


@dataclass(frozen=True)
class FingerprintFeatures:
    """Morgan fingerprints x ∈ {0, 1}^b, rows scaled to length one: x / √Σx. Nothing is fitted.

    Rogers & Hahn 2010, J. Chem. Inf. Model. 50. Needs rdkit.
    """

    radius: int = molecules.RADIUS
    bits: int = molecules.BITS
    kind: ClassVar[str] = "fingerprints"
    dense: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """v, the number of bits."""
        return self.bits

    @property
    def holds(self) -> str:
        """Nothing of any one molecule."""
        return ""

    def transform(self, inputs: Sequence[Any]) -> Any:
        """A scipy CSR matrix (n, v)."""
        from scipy.sparse import diags_array

        found = molecules.fingerprints(inputs, self.radius, self.bits)
        length = np.sqrt(np.maximum(np.diff(found.indptr), 1))
        return (diags_array(1 / length) @ found).tocsr()

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """Radius and number of bits."""
        return {"radius": self.radius, "bits": self.bits}, {}

    @staticmethod
    def of_state(values: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> FingerprintFeatures:
        """What `state` gave."""
        return FingerprintFeatures(int(values["radius"]), int(values["bits"]))
