"""Components along which the domains agree class by class, by labels of the source and guesses for the target."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from acclimate.errors import UserError, unknown
from acclimate.shallow.base import Adapter, Floats, Ints, pair
from acclimate.shallow.domains import units_of
from acclimate.shallow.subspace import check_components, components, kernel_of

LABELLERS = ("nearest", "logistic")


class Jda(Adapter):
    """Joint distribution adaptation: TCA whose components bring together the means of every class, too.

    The leading solutions of KHK w = λ (K M K/‖M‖ + μI) w, M = Σ_c v_c v_cᵀ, ‖M‖ its Frobenius norm; z = Wᵀk(x), each
    component brought to deviation 1. v_0 is 1/n in source and -1/m in target rows; v_c is 1/n_c in source rows of class
    c, -1/m_c in target rows that are guessed to be of class c, and is left out where either count is 0. Guesses come
    from a classifier on z of the source (`labeller`: the "nearest" row, as in the paper, or "logistic") and are made
    anew, up to `rounds` times or until they stay. Long, Wang, Ding, Sun and Yu (2013), ICCV, equation 10 and Algorithm
    1; ‖M‖ is in the authors' code alone. v_0 counts as much as one class, and no round keeps the guesses of those
    before. `kernel` and `landmarks` as in `tca` (all rows up to 1,000, else Nyström's of 250). `fit` reads the classes
    of source rows, and no y of a target row. Use when the first guesses are mostly right and `tca` mixes classes.
    Prefer `tca` for numbers, or where guesses are poor: wrong ones are then aligned.
    """

    def __init__(
        self,
        n_components: int = 30,
        kernel: str = "rbf",
        mu: float = 1.0,
        landmarks: int | None = None,
        labeller: str = "nearest",
        rounds: int = 10,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.mu = mu
        self.landmarks = landmarks
        self.labeller = labeller
        self.rounds = rounds
        self.seed = seed

    def fit(self, X: ArrayLike, y: object = None, *, domain: ArrayLike) -> Self:
        """Learn from all rows and from `y`, the classes of source rows; what stands in target rows is not read."""
        check_components(self.kernel, self.mu, self.n_components, self.landmarks)
        if self.labeller not in LABELLERS:
            raise unknown("labeller", self.labeller, LABELLERS)
        if self.rounds < 1:
            raise UserError(f"rounds must be at least 1, got {self.rounds}")
        rows = pair(X, domain)
        codes = classes_of(y, len(rows.source) + len(rows.target), rows.source_at)
        order = np.lexsort((codes, units_of(rows.source)))  # equal rows by class: the order given must not matter
        self._iterate(rows.source[order], codes[order], rows.target)
        self.n_features_in_ = rows.source.shape[1]
        return self

    def _iterate(self, source: Floats, codes: Ints, target: Floats) -> None:
        both = np.concatenate([source, target])
        self.map_ = kernel_of(both, self.kernel, self.landmarks, self.seed)
        seen = self.map_(both)
        guessed: Ints | None = None
        for number in range(1, self.rounds + 1):
            gaps = class_gaps(codes, guessed, len(target))
            gaps /= np.sqrt(np.linalg.norm(gaps @ gaps.T))  # ‖VVᵀ‖ = ‖VᵀV‖
            self.weights_ = components(self.map_, seen, gaps, self.mu, self.n_components)
            z, self.rounds_ = seen @ self.weights_, number
            if number == self.rounds:
                break
            before, guessed = guessed, guesses(z[: len(source)], codes, z[len(source) :], self.labeller)
            if before is not None and np.array_equal(before, guessed):
                break

    def _move(self, rows: Floats, side: int) -> Floats:
        return np.asarray(self.map_(rows) @ self.weights_)


def class_gaps(codes: Ints, guessed: Ints | None, m: int) -> Floats:
    """v_0 and, with guesses for m target rows, every v_c that has rows on both sides.  # (r, n + m)

    >>> class_gaps(np.array([0, 0, 1]), np.array([0]), 1).tolist()
    [[0.3333333333333333, 0.3333333333333333, 0.3333333333333333, -1.0], [0.5, 0.5, 0.0, -1.0]]
    """
    n = len(codes)
    found = [np.repeat([1 / n, -1 / m], [n, m])]
    if guessed is None:
        return np.asarray(found)
    for c in range(int(codes.max()) + 1):
        ours, theirs = np.equal(codes, c), np.equal(guessed, c)
        if theirs.any():
            found.append(np.concatenate([ours / ours.sum(), theirs / -float(theirs.sum())]))
    return np.asarray(found)


def guesses(known: Floats, codes: Ints, new: Floats, labeller: str) -> Ints:
    """The classes of new rows by a classifier on known ones.  # (m,)"""
    if labeller == "nearest" or codes.max() == 0:
        at = NearestNeighbors(n_neighbors=1).fit(known).kneighbors(new, return_distance=False)[:, 0]
        return np.asarray(codes[at])
    return np.asarray(LogisticRegression(max_iter=2000).fit(known, codes).predict(new))


def classes_of(y: object, n: int, source_at: Ints) -> Ints:
    """Numbers from 0 for the classes of source rows, in sorted order.  # (n_s,)"""
    if y is None:
        raise UserError("jda needs y, the classes of the source rows; tca needs none")
    given = np.asarray(y)
    if given.shape != (n,):
        raise UserError(f"y must hold one class a row: {n} rows, got the shape {given.shape}")
    ours = given[source_at]
    missing = np.array([value is None or value != value for value in ours.tolist()])
    if missing.any():
        raise UserError(f"{int(missing.sum())} source rows have no class; leave them out")
    if given.dtype.kind == "O":
        ours = np.array([str(value) for value in ours.tolist()])
    if ours.dtype.kind == "f" and (ours != np.floor(ours)).any():
        number = ours[ours != np.floor(ours)][0]
        raise UserError(f"jda aligns classes, and y holds numbers such as {number}; use tca")
    return np.unique(ours, return_inverse=True)[1].reshape(-1).astype(np.int64)
