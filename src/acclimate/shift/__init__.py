"""How far a target is from a source: can they be told apart, where do they differ, have class shares moved, and is that
all?

`measure` does all of it on features. No target label is used anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from acclimate.shallow.domains import tell_apart
from acclimate.shift import differing
from acclimate.shift.differing import Differing
from acclimate.shift.discrepancy import Mmd, mmd
from acclimate.shift.mixture import Decision, Explained, decide, explained
from acclimate.shift.prior import Prior, bbse, em, held_out
from acclimate.shift.telling import Apart, apart

Table = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class LabelShift:
    """Estimated class shares of the target, whether such a shift explains it, and so whether to use them."""

    bbse: Prior
    em: Prior
    explained: Explained
    decision: Decision  # on the shares by EM


@dataclass(frozen=True)
class Shift:
    """What `measure` found."""

    apart: Apart
    mmd: Mmd
    source_rows: tuple[int, ...]  # positions of the rows least like the other domain
    target_rows: tuple[int, ...]
    words: tuple[Differing, ...]
    columns: tuple[Differing, ...]
    labels: LabelShift | None  # None without labels of the source

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return asdict(self)


def measure(
    source: ArrayLike,
    target: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    texts: tuple[Sequence[str], Sequence[str]] | None = None,
    tables: tuple[Table, Table] | None = None,
    groups: tuple[ArrayLike, ArrayLike] | None = None,
    seed: int = 0,
) -> Shift:
    """Everything about the shift between features (n, d) and (m, d); texts, tables and groups are (source, target).

    `labels` are the source's, 0 ... K-1.
    """
    both = None if groups is None else np.concatenate([np.asarray(side).astype(str) for side in groups])
    told = tell_apart(source, target, groups=both, seed=seed)
    rows = differing.rows(told)
    return Shift(
        apart(told),
        mmd(source, target, groups=both, seed=seed),
        tuple(rows[0].tolist()),
        tuple(rows[1].tolist()),
        tuple(differing.words(*texts)) if texts is not None else (),
        tuple(differing.columns(*tables)) if tables is not None else (),
        None if labels is None else label_shift(source, labels, target, groups=both, seed=seed),
    )


def label_shift(
    source: ArrayLike, labels: ArrayLike, target: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> LabelShift:
    """Class shares of the target by both estimates, and the test whether they are to be used.

    `groups` are those of the source rows, then of the target rows.
    """
    ours = None if groups is None else np.asarray(groups)[: len(np.asarray(labels))]
    proba, theirs = held_out(source, labels, target, groups=ours, seed=seed)
    shares = em(proba, labels, theirs, seed=seed)
    found = explained(source, labels, target, groups=groups, seed=seed)
    return LabelShift(bbse(proba, labels, theirs, seed=seed), shares, found, decide(shares, found))
