"""What can be known of an input without a pretrained model, as numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

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

    @classmethod
    def of_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> Self:
        """What `state` gave."""


@dataclass(frozen=True)
class Standardised(ABC):
    """A fixed number of values an input, each by mean and spread of the training rows: (x − m)/(s √v).

    Rows have about length one. A kind of its own says what the values are, in `raw`.
    """

    mean: NDArray[np.float64]  # (v,)
    spread: NDArray[np.float64]  # (v,); 1 where a value never changes
    dense: ClassVar[bool] = True

    @staticmethod
    @abstractmethod
    def raw(inputs: Sequence[Any]) -> NDArray[np.float64]:
        """The values (n, v) as they are."""

    @classmethod
    def of(cls, inputs: Sequence[Any]) -> Self:
        """Mean and spread of these rows."""
        values = cls.raw(inputs)
        spread = values.std(0)
        return cls(values.mean(0), np.where(spread > 1e-6, spread, 1.0))

    @property
    def width(self) -> int:
        """v, the number of columns."""
        return len(self.mean)

    @property
    def holds(self) -> str:
        """Nothing of any one input."""
        return ""

    def transform(self, inputs: Sequence[Any]) -> Any:
        """A scipy CSR matrix (n, v)."""
        from scipy.sparse import csr_matrix

        return csr_matrix((self.raw(inputs) - self.mean) / (self.spread * np.sqrt(self.width)))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """Mean and spread."""
        return {"width": self.width}, {"mean": self.mean, "spread": self.spread}

    @classmethod
    def of_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> Self:
        """What `state` gave."""
        return cls(arrays["mean"], arrays["spread"])
