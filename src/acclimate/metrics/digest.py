"""What is kept of many probabilities: a few numbers a row, from which every metric that ranks nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.metrics.intervals import FloatArray, IntArray

MANY_CLASSES = 100  # above this a row keeps its digest alone: no ranking of each class against the rest, no confusion
NUMBERS = 1_000_000  # probabilities that are held at a time
UNRANKED = f"not measured above {MANY_CLASSES} classes: it ranks the rows for each of them"


@dataclass(frozen=True)
class Digest:
    """One class a row out of many: five numbers in place of K probabilities. `own` belongs to one truth, `said` to one
    answer."""

    top: IntArray  # (n,) the likeliest class
    highest: FloatArray  # (n,) its probability
    own: FloatArray  # (n,) the probability of the true class; of class 0 for a class never seen
    said: FloatArray  # (n,) the probability of the class that was answered
    squares: FloatArray  # (n,) Σ_k p_k²
    classes: int  # K

    @staticmethod
    def of(truth: NDArray[Any], proba: NDArray[Any], predicted: NDArray[Any]) -> Digest:
        """From probabilities (n, K), codes of the truth (-1 for a class never seen) and of the answers.

        >>> found = Digest.of(np.array([1]), np.array([[0.5, 0.25, 0.25]]), np.array([0]))
        >>> found.highest.tolist(), found.own.tolist(), found.squares.tolist()
        ([0.5], [0.25], [0.375])
        """
        found = []
        for part in slices(len(proba), proba.shape[1]):
            p = np.asarray(proba[part], dtype=np.float64)
            at = np.arange(len(p))
            own, said = p[at, np.maximum(truth[part], 0).astype(int)], p[at, predicted[part].astype(int)]
            found.append(Digest(p.argmax(axis=1), p.max(axis=1), own, said, (p**2).sum(axis=1), p.shape[1]))
        return Digest.joined(found)

    @staticmethod
    def joined(parts: Sequence[Digest]) -> Digest:
        """The rows of all parts, one part after the other."""
        top, highest, own, said, squares = map(np.concatenate, zip(*(part.columns() for part in parts), strict=True))
        return Digest(top, highest, own, said, squares, parts[0].classes)

    def columns(self) -> tuple[NDArray[Any], ...]:
        """The numbers of the rows, each (n,)."""
        return self.top, self.highest, self.own, self.said, self.squares

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, rows: NDArray[Any]) -> Digest:
        top, highest, own, said, squares = (column[rows] for column in self.columns())
        return Digest(top, highest, own, said, squares, self.classes)


def own_of(truth: NDArray[Any], proba: NDArray[Any] | Digest) -> FloatArray:
    """The probability of the true class, (n,); of class 0 for a class never seen."""
    if isinstance(proba, Digest):
        return proba.own
    return np.asarray(np.asarray(proba, dtype=np.float64)[np.arange(len(truth)), np.maximum(truth, 0)])


def is_wide(task: str, classes: int) -> bool:
    """Whether only digests of the rows are kept: one class a row out of more than 100."""
    return task in ("classify", "ordinal") and classes > MANY_CLASSES


def slices(n: int, classes: int) -> Iterator[slice]:
    """The rows of n, in order: all at once up to 100 classes, else as many as have a million probabilities."""
    step = max(1, n) if classes <= MANY_CLASSES else max(1, NUMBERS // classes)
    for start in range(0, max(1, n), step):  # no row at all is one empty part
        yield slice(start, min(start + step, n))
