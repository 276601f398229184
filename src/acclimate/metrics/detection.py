"""Average precision of boxes, as COCO defines it, for many sets of picture weights at once.

Boxes are matched once, picture by picture; a resample of pictures then only gives their matches other weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acclimate.metrics.intervals import FloatArray, IntArray

Bools: TypeAlias = NDArray[np.bool_]
IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100  # boxes of a class in a picture that count


def overlaps(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of boxes (m, 4) and (k, 4) by corners, (m, k).

    >>> overlaps(np.array([[0.0, 0.0, 2.0, 1.0]]), np.array([[1.0, 0.0, 3.0, 1.0], [5.0, 5.0, 6.0, 6.0]]))
    array([[0.33333333, 0.        ]])
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(2)
    area = (a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)[None]
    return np.asarray(both / np.maximum(area - both, 1e-12))


def match(said: FloatArray, true: FloatArray, ious: FloatArray = IOUS) -> Bools:
    """Which of the boxes `said` (m, 4), best first, hit one of `true` (k, 4) at each overlap (t,): (t, m).

    Each takes the true box with the largest overlap among those that are free, if it is large enough; of equals the
    last, as COCO's own code does.
    """
    hit = np.zeros((len(ious), len(said)), bool)
    if not len(said) or not len(true):
        return hit
    found = overlaps(said, true)
    free = np.ones((len(ious), len(true)), bool)
    for i in range(len(said)):
        worth = np.where(free, found[i][None], -1.0)
        best = worth.shape[1] - 1 - worth[:, ::-1].argmax(1)
        at = np.flatnonzero(worth[np.arange(len(ious)), best] >= np.minimum(ious, 1 - 1e-10))
        hit[at, i] = True
        free[at, best[at]] = False
    return hit


@dataclass(frozen=True)
class Matches:
    """All boxes of one class, best first: of which picture, and whether they hit at each overlap."""

    picture: IntArray  # (d,)
    hit: FloatArray  # (t, d) 0 or 1
    there: FloatArray  # (n,) how many true boxes each picture has


def matches_of(truth: Sequence[Any], answers: Sequence[Any], label: str) -> Matches:
    """Boxes (x1, y1, x2, y2, label, score) of this class, true and said, of n pictures."""
    picture, score, hits, there = [], [], [np.zeros((len(IOUS), 0), bool)], []
    for i, (true, said) in enumerate(zip(truth, answers, strict=True)):
        mine = sorted((b for b in said if b[4] == label), key=lambda b: -b[5])[:_MOST]
        real = np.array([b[:4] for b in true if b[4] == label], float).reshape(-1, 4)
        there.append(float(len(real)))
        hits.append(match(np.array([b[:4] for b in mine], float).reshape(-1, 4), real))
        picture += [i] * len(mine)
        score += [b[5] for b in mine]
    order = np.argsort(-np.array(score, float), kind="stable")
    return Matches(np.array(picture, np.int64)[order], np.concatenate(hits, 1)[:, order].astype(float), np.array(there))


def average_precision(one: Matches, weights: FloatArray) -> FloatArray:
    """AP at each overlap for every set of picture weights (r, n): (r, t); NaN where no true box has weight.

    The mean over 101 levels of recall of the best precision at that recall or more (COCO's).
    """
    found = np.full((len(weights), len(one.hit)), np.nan)
    total = weights @ one.there
    for r in np.flatnonzero(total > 0):
        mine = weights[r, one.picture]
        right = np.cumsum(one.hit * mine, 1)
        all_ = np.cumsum(mine)
        precision = right / np.maximum(all_, 1e-12)
        best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        recall = right / total[r]
        for t in range(len(recall)):
            at = np.searchsorted(recall[t], RECALLS, side="left")
            inside = at < recall.shape[1]
            found[r, t] = best[t, at[inside]].sum() / len(RECALLS)
    return found
