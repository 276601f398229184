"""The columns of a table as they are: what trees read without transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate.data.table_numbers import Coding


@dataclass(frozen=True)
class ColumnFeatures:
    """Numbers as they are, NaN where they are missing, and a column for each value of a category (`Coding.plain`)."""

    coding: Coding
    kind: ClassVar[str] = "cells"  # columns.json is the user's model's own
    dense: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """v, the number of columns."""
        return len(self.coding.names("plain"))

    @property
    def holds(self) -> str:
        """Values that two rows or more had."""
        return "the values of the table's categories" if any(c.values for c in self.coding.columns) else ""

    def transform(self, inputs: Sequence[Any]) -> Any:
        """A scipy CSR matrix (n, v)."""
        from scipy.sparse import csr_matrix

        return csr_matrix(self.coding.plain(inputs).astype(np.float64))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """The coding."""
        return self.coding.to_json(), {}

    @staticmethod
    def of_state(values: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> ColumnFeatures:
        """What `state` gave."""
        return ColumnFeatures(Coding.from_json(values))


def fit_columns(inputs: Sequence[Any]) -> ColumnFeatures:
    """Learn the values of categories."""
    return ColumnFeatures(Coding.of(inputs))
