"""What differs most between source and target: rows, words and columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr
from scipy.stats import chi2_contingency, ks_2samp

from acclimate.shallow.base import Floats, Ints
from acclimate.shallow.domains import Told

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|[^\w\s]+")  # words, and runs of punctuation or emoji


@dataclass(frozen=True)
class Differing:
    """A word or column by how unlike it is in the two domains."""

    name: str
    source: float  # share of source texts that hold the word; mean of the column, or share of its commonest value
    target: float
    size: float  # log-odds ratio of the shares; distance between the distributions, 0 to 1
    p: float  # adjusted for the number of words or columns looked at
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return asdict(self)


def rows(told: Told, most: int = 10) -> tuple[Ints, Ints]:
    """Positions of the source rows least like the target, and of the target rows least like the source, by log-odds."""
    return np.argsort(told.source, kind="stable")[:most], np.argsort(-told.target, kind="stable")[:most]


def words(source: Sequence[str], target: Sequence[str], most: int = 20) -> list[Differing]:
    """Words whose share of texts differs most, by z of the log-odds ratio with a prior from both domains together.

    δ = logit((s + a)/(n + 1)) - logit((t + a)/(m + 1)), a the word's share in both, (count + 1)/(texts + 2);
    z = δ / √(1/(s+a) + 1/(n-s+1-a) + the same of the target). Monroe, Colaresi and Quinn (2008), Political Analysis 16,
    on texts instead of tokens, so that one text that repeats a word does not decide. p by Holm over all words.
    """
    counts = [
        Counter(word for text in texts for word in set(_WORD.findall(text.casefold()))) for texts in (source, target)
    ]
    names = sorted(set(counts[0]) | set(counts[1]))
    if not names:
        return []
    s, t = (np.array([count[name] for name in names], np.float64) for count in counts)
    n, m = len(source), len(target)
    a = (s + t + 1) / (n + m + 2)
    yes, no, yes_t, no_t = s + a, n - s + 1 - a, t + a, m - t + 1 - a
    size = np.log(yes_t / no_t) - np.log(yes / no)
    z = size / np.sqrt(1 / yes + 1 / no + 1 / yes_t + 1 / no_t)
    p = holm(2 * ndtr(-np.abs(z)))
    order = np.lexsort((np.arange(len(names)), -np.abs(z)))[:most]
    return [Differing(names[i], float(s[i] / n), float(t[i] / m), float(size[i]), float(p[i])) for i in order]


def columns(source: Mapping[str, Sequence[Any]], target: Mapping[str, Sequence[Any]]) -> list[Differing]:
    """Columns of both tables, the most different first.

    Numbers: the Kolmogorov-Smirnov distance sup |F_s - F_t| and its p. Other values: half the sum of the differences of
    their shares, p by χ². Missing values (None, NaN, empty) are told apart and noted. p by Holm over the columns.
    """
    found = []
    for name in source:
        if name in target:
            found.append(_column(name, list(source[name]), list(target[name])))
    p = holm(np.array([one.p for one in found]))
    adjusted = [Differing(**{**asdict(one), "p": float(q)}) for one, q in zip(found, p, strict=True)]
    return sorted(adjusted, key=lambda one: (-one.size, one.name))


def _column(name: str, source: list[Any], target: list[Any]) -> Differing:
    there = [[v for v in side if not _missing(v)] for side in (source, target)]
    empty = [1 - len(kept) / max(len(side), 1) for kept, side in zip(there, (source, target), strict=True)]
    note = "" if abs(empty[0] - empty[1]) < 0.02 else f"missing: {empty[0]:.0%} of source, {empty[1]:.0%} of target"
    a, b = (_numbers(side) for side in there)
    if not there[0] or not there[1]:
        return Differing(name, np.nan, np.nan, abs(empty[0] - empty[1]), 1.0, note or "no values on one side")
    if a is not None and b is not None:
        test = ks_2samp(a, b, method="asymp")
        return Differing(name, float(a.mean()), float(b.mean()), float(test.statistic), float(test.pvalue), note)
    names = sorted({str(v) for side in there for v in side})
    counts = np.array([[Counter(map(str, side))[v] for v in names] for side in there], np.float64)
    shares = counts / counts.sum(1, keepdims=True)
    p = float(chi2_contingency(counts).pvalue) if len(names) > 1 else 1.0
    common = int(counts.sum(0).argmax())
    size = 0.5 * float(np.abs(shares[0] - shares[1]).sum())
    note = "; ".join(part for part in (f"shares of {names[common]!r}", note) if part)
    return Differing(name, float(shares[0, common]), float(shares[1, common]), size, p, note)


def _missing(value: Any) -> bool:
    return value is None or value == "" or value != value


def _numbers(values: list[Any]) -> Floats | None:
    try:
        return np.array([float(v) for v in values])
    except (TypeError, ValueError):
        return None


def holm(p: Floats) -> Floats:
    """p values adjusted for their number by Holm's steps (1979, Scandinavian Journal of Statistics 6).

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    out = np.empty(len(p))
    out[order] = stepped
    return out
