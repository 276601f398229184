"""Rows of several domains: each is left out in turn and judged by what was learned from the others."""

from __future__ import annotations

import numpy as np

from acclimate.data.rows import Data, IntArray
from acclimate.data.split import units
from acclimate.errors import UserError, plural

MOST = 50  # domains beyond which the column is more likely a group column, and every one costs a fit


def of(data: Data) -> tuple[tuple[str, ...], IntArray]:
    """The domains' names in order, and each row's position among them.  # (n,)"""
    assert data.domains is not None
    names, codes = np.unique(np.array(data.domains, dtype=object).astype(str), return_inverse=True)
    return tuple(str(n) for n in names), codes.reshape(-1).astype(np.int64)


def leave_one_out(data: Data, task: str) -> list[tuple[IntArray, IntArray]]:
    """One (train rows, judged rows) pair a domain, in the order of the names.

    Rows that share a group or a text with the judged domain are left out of the training rows: the model would know
    them. Refused with one domain, with more than 50, and where the others hold one class only.

    >>> data = Data(("a", "b", "c", "d"), labels=("x", "y", "x", "y"), domains=("north", "north", "south", "south"))
    >>> [(a.tolist(), b.tolist()) for a, b in leave_one_out(data, "classify")]
    [([2, 3], [0, 1]), ([0, 1], [2, 3])]
    """
    names, codes = of(data)
    if len(names) < 2:
        raise UserError(f"every row of {data.source} is of the domain {names[0]!r}; leaving one out needs two or more")
    if len(names) > MOST:
        raise UserError(
            f"the domain column of {data.source} holds {plural(len(names), 'value')}, and each would be left out "
            f"once; if they "
            "are people or documents, name it with --group-column instead"
        )
    unit, pairs = units(data), []
    for code, name in enumerate(names):
        judged = np.flatnonzero(codes == code)
        train = np.flatnonzero((codes != code) & ~np.isin(unit, unit[judged]))
        if not len(train):
            raise UserError(
                f"without the domain {name!r} no row is left that shares no group and no text with it, so it cannot be "
                "judged by the others; look at the group and domain columns"
            )
        labels = {data.labels[i] for i in train.tolist()} if data.labels is not None else set()
        if task in ("classify", "ordinal") and len(labels) < 2:
            raise UserError(
                f"without the domain {name!r} all rows are of the class {next(iter(labels))!r}, so it cannot be judged "
                "by the others; give domains that hold every class, or leave out --domain-column"
            )
        pairs.append((train, judged))
    return pairs
