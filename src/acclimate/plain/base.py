"""What can be known of an input without a pretrained model, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray


class Plain(Protocol):
    """Features that need no pretrained network, fitted on the training rows and saved with a model."""

    kind: ClassVar[str]  # names the class, and the files that `save` writes
    dense: ClassVar[bool]  # whether most entries are not zero

    @property
    def width(self) -> int:
        """v, the number of columns."""

    @property
    def holds(self) -> str:
        """What of the training rows these features carry, in words; empty if nothing but numbers over all of them."""

    def transform(self, inputs: Sequence[Any]) -> Any:
        """A scipy CSR matrix (n, v)."""

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """Plain JSON values and arrays, from which `of_state` makes the same again."""
