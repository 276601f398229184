"""Which rows are the same text, exactly or after folding. One pass over the rows: no pair is ever compared."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from acclimate.data.rows import Input, IntArray

_FORMULA = re.compile(r"[()\[\]=#@+\\/\d]")


@functools.cache
def _punctuation() -> dict[int, str]:
    """Every punctuation mark to a space. Symbols (emoji, currency, mathematics) carry meaning and stay."""
    return {c: " " for c in range(min(sys.maxunicode, 0x1FFFF)) if unicodedata.category(chr(c)).startswith("P")}


def fold(text: str) -> str:
    """A text without differences of case, width, white space and punctuation; text of punctuation only keeps it.

    >>> fold("  Crust is  NOT good!"), fold("crust is not good."), fold(":-)")
    ('crust is not good', 'crust is not good', ':-)')
    """
    plain = (
        text.casefold()
        if text.isascii()
        else unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    )
    bare = " ".join(plain.translate(_punctuation()).split())
    return bare or " ".join(plain.split())


def keys(inputs: Sequence[Input]) -> list[str]:
    """One key an input; equal keys mean duplicates. Formulas (SMILES, code) are only trimmed: there, punctuation is
    the content."""
    parts = [_parts(one) for one in inputs]
    exact = [_are_formulas(column) for column in zip(*parts, strict=True)]  # of two texts one may be a formula
    return ["\x1f".join(p.strip() if e else fold(p) for p, e in zip(one, exact, strict=True)) for one in parts]


def _parts(one: Input) -> tuple[str, ...]:
    return (one,) if isinstance(one, str) else one


def _are_formulas(texts: Sequence[str]) -> bool:
    sample = texts[:2_000]
    bare = [s for s in sample if s.isascii() and " " not in s.strip()]
    return len(bare) > 0.9 * len(sample) and sum(bool(_FORMULA.search(s)) for s in bare) > 0.5 * len(bare)


def clusters(inputs: Sequence[Input], folded: Sequence[str] | None = None) -> IntArray:
    """Cluster numbers, by first appearance: rows with one number are (near) duplicates.  # (n,)

    >>> clusters(["Good.", "bad", "good"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in (folded or keys(inputs))], dtype=np.int64)


def connected(first: Sequence[int], pairs: Iterable[tuple[int, int]]) -> IntArray:
    """Cluster numbers, by first appearance: row i repeats row `first[i]`, and each pair of rows is one, or nearly.

    >>> connected([0, 1, 0, 3, 4], [(4, 3), (3, 1)]).tolist()
    [0, 1, 0, 1, 1]
    """
    parent = list(range(len(first)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(i), len(numbers)) for i in first], dtype=np.int64)
