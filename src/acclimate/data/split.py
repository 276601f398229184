"""Which rows train and which give the number: groups and duplicates never straddle, classes keep their shares, time
runs forward."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.data.duplicates import connected
from acclimate.data.kinds import kind_of
from acclimate.data.label_cells import MULTITASK
from acclimate.data.rows import Data, FloatArray, IntArray
from acclimate.errors import UserError, plural
from acclimate.keys import key_of

MANY = ("multilabel", MULTITASK)  # tasks of which a row has several classes
Pair = tuple[IntArray, IntArray]
NDArrayBool = NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """How many folds there can be, and a sentence for each way in which that differs from what was asked."""

    k: int
    notes: tuple[str, ...]


def units(data: Data) -> IntArray:
    """What must stay together: the connected components of groups, duplicate clusters and rows that hold a file in
    common, numbered by first appearance.  # (n,)

    A text that occurs in the groups A and B joins the two, and everything that is joined to either.
    """
    cluster, shared = data.clusters, data.shared
    if cluster is None:
        kind = kind_of(data)
        cluster, shared = kind.clusters(data.inputs, kind.keys(data.inputs)), kind.shared(data.inputs)
    n = len(data)
    if shared is not None:  # as if copies of each other
        firsts = np.unique(cluster, return_index=True, return_inverse=True)
        cluster = connected(firsts[1][firsts[2]].tolist(), _first_pairs(shared))
    if data.groups is None:
        return _renumber(np.asarray(cluster, dtype=np.int64))
    parent: dict[tuple[str, object], tuple[str, object]] = {}

    def root(node: tuple[str, object]) -> tuple[str, object]:
        top = node
        while parent.setdefault(top, top) != top:
            top = parent[top]
        while parent[node] != top:
            parent[node], node = top, parent[node]
        return top

    for i in range(n):
        a, b = root(("group", data.groups[i])), root(("cluster", int(cluster[i])))
        if a != b:
            parent[b] = a
    numbers: dict[tuple[str, object], int] = {}
    return np.array([numbers.setdefault(root(("group", g)), len(numbers)) for g in data.groups], dtype=np.int64)


def _first_pairs(numbers: IntArray) -> list[tuple[int, int]]:
    """Each row with the first one of the same number."""
    first: dict[int, int] = {}
    return [(first.setdefault(c, i), i) for i, c in enumerate(numbers.tolist())]


def _renumber(values: IntArray) -> IntArray:
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def holdout(data: Data, task: str, *, share: float = 0.2, seed: int = 0) -> Pair:
    """(train rows, test rows), each in the order of the source. With times, the test rows are the latest.

    A class that lives in a single unit stays in train. With times, a unit on both sides of the cut keeps the side
    where most of its
    rows are and the others are left out, so the two parts may not add up to all rows.

    >>> data = Data(inputs=tuple(f"text {i}" for i in range(10)), labels=("a", "b") * 5)
    >>> train, test = holdout(data, "classify", share=0.2, seed=0)
    >>> len(train), sorted(data.labels[i] for i in test)
    (8, ['a', 'b'])
    """
    if not 0 < share < 1:
        raise UserError(f"the held-out share must lie between 0 and 1, got {share}")
    if len(data) < 2:
        raise UserError(f"{len(data)} row cannot be split into train and test; give more rows or a test file")
    unit = units(data)
    _refuse_one_unit(data, unit)
    if data.times is not None:
        train, test = _by_time(data.times, unit, share)
    else:
        fold = _assign(data, task, unit, np.array([1 - share, share]), seed)
        train, test = np.flatnonzero(fold != 1), np.flatnonzero(fold == 1)
    _check_parts(data, task, train, test)
    return train, test


def plan(data: Data, task: str, k: int = 5) -> Plan:
    """The number of folds that the rarest class allows: with fewer than k groups (or distinct texts), k is lowered."""
    if k < 2:
        raise UserError(f"folds need k of at least 2, got {k}")
    unit = units(data)
    count = int(unit.max()) + 1 if len(unit) else 0
    notes: list[str] = []
    lowest = min(k, count)
    if lowest < k:
        notes.append(f"{lowest} folds instead of {k}: there are only {count} groups of rows that must stay together")
    if data.times is not None:
        distinct = len(np.unique(data.times))
        if distinct - 1 < lowest:
            lowest = distinct - 1
            notes.append(f"{plural(lowest, 'fold')} instead of {k}: there are only {distinct} different times")
        return Plan(max(lowest, 1), tuple(notes))
    if task != "regress" and data.labels is not None:
        matrix, names = _indicators(data, task, unit)
        homes = np.bincount(matrix.indices, minlength=len(names))
        pinned = [names[j] for j in np.flatnonzero(homes == 1)]
        if pinned:
            notes.append(
                f"{len(pinned)} class{'es' if len(pinned) > 1 else ''} found in one group of rows only: always "
                "in train, never validated"
            )
        several = homes[homes > 1]
        if len(several) and several.min() < lowest and task not in MANY:
            lowest = int(several.min())
            notes.append(
                f"{plural(lowest, 'fold')} instead of {k}: class {names[int(np.flatnonzero(homes == lowest)[0])]!r} "
                f"has {plural(lowest, 'group of rows', 'groups of rows')}"
            )
    return Plan(lowest, tuple(notes))


def folds(data: Data, task: str, *, k: int = 5, seed: int = 0, repeats: int = 1) -> list[Pair]:
    """k (train rows, valid rows) pairs, `repeats` times over with other seeds; `plan` says when k had to be lowered.

    Every row is validated once a repeat, except rows of a class that lives in a single unit: they are always in
    train. With times
    the window expands: fold i trains on everything before its block and validates on the block; `repeats` then
    changes nothing.
    """
    unit = units(data)
    _refuse_one_unit(data, unit)
    number = plan(data, task, k).k
    if data.times is not None:
        return _expanding(data, task, unit, number)
    out: list[Pair] = []
    for r in range(repeats):
        fold = _assign(data, task, unit, np.full(number, 1 / number), seed + 7919 * r)
        for i in range(number):
            train, valid = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
            if len(valid):
                _check_parts(data, task, train, valid)
                out.append((train, valid))
    if not out:
        raise UserError(
            "no class has two different texts, so nothing can be judged; give more rows of each class, or a test file"
            if data.groups is None
            else "no class has rows in two groups, so nothing can be judged; give more groups, or a test file"
        )
    return out


def _refuse_one_unit(data: Data, unit: IntArray) -> None:
    if len(unit) and unit.max() == 0:
        grouped = data.groups is not None
        every = "the one row" if len(data) == 1 else f"all {len(data):,} rows"
        why = f"{every} belong to one group" if grouped else f"{every} are copies of each other"
        what = "another group column" if grouped else "rows that differ"
        raise UserError(
            f"cannot split {data.source}: {why}, which must not stand on both sides; give a test file or {what}"
        )


def _check_parts(data: Data, task: str, train: IntArray, test: IntArray) -> None:
    if not len(train) or not len(test):
        empty = "train" if not len(train) else "test"
        why = (
            f"too few different rows ({len(np.unique(units(data))):,} of {len(data):,} differ, and some class needs 3)"
        )
        what = "give more rows, or a test file"
        if data.groups is not None:
            why = f"one group only ({len(data):,} rows of {len(set(data.groups)):,} groups, and some class needs 3)"
            what = "give a test file, more groups, or no group column"
        raise UserError(
            f"cannot split {data.source}: the {empty} part would be empty, because each class or time has {why}; {what}"
        )
    if data.labels is None or task not in ("classify", "ordinal"):
        return
    every, kept = {str(x) for x in data.labels}, {str(data.labels[i]) for i in train}
    told = data.groups is not None or data.times is not None
    if len(every) > 1 and len(kept) < 2:
        raise UserError(
            f"cannot split {data.source}: the train part would hold one class only ({len(data):,} rows of {len(every)} "
            "classes, two of which need rows on both sides); "
            + ("give a test file, or another group or time column" if told else "give more rows, or a test file")
        )


def _indicators(data: Data, task: str, unit: IntArray) -> tuple[Any, list[str]]:
    """Rows of each class in each unit, sparse (units, classes), and the names of the classes."""
    from scipy.sparse import csr_array

    n_units = int(unit.max()) + 1
    if data.labels is None:
        rows: list[tuple[str, ...]] = [("",)] * len(data)
    elif task == "multilabel":
        rows = [tuple(map(str, label)) if isinstance(label, tuple) else (str(label),) for label in data.labels]
    elif task == MULTITASK:
        rows = _of_cells(data.labels)
    elif task == "regress":
        rows = [(str(b),) for b in _bins(np.array([float(str(v)) for v in data.labels]))]
    else:
        rows = [(str(label),) for label in data.labels]
    names = sorted({name for row in rows for name in row})
    column = {name: j for j, name in enumerate(names)}
    at_unit = [u for u, row in zip(unit.tolist(), rows, strict=True) for _ in row]
    at_class = [column[name] for row in rows for name in row]
    return csr_array((np.ones(len(at_unit)), (at_unit, at_class)), shape=(n_units, len(names))), names


def _of_cells(labels: Sequence[Any]) -> list[tuple[str, ...]]:
    """What is to be spread evenly of several label columns: each class, or bin of a number, of each column."""
    rows: list[tuple[str, ...]] = [()] * len(labels)
    for j in range(len(labels[0])):
        known = [i for i, row in enumerate(labels) if row[j] is not None]
        values = [labels[i][j] for i in known]
        numbers = all(isinstance(value, float) for value in values)
        named = _bins(np.array(values)).tolist() if numbers and values else values
        for i, name in zip(known, named, strict=True):
            rows[i] = (*rows[i], f"{j}={name}")
    return rows


def _dense(matrix: Any, u: int) -> FloatArray:
    """One row of a sparse matrix."""
    row = np.zeros(matrix.shape[1])
    here = slice(matrix.indptr[u], matrix.indptr[u + 1])
    row[matrix.indices[here]] = matrix.data[here]
    return row


def _bins(values: FloatArray) -> IntArray:
    """Quantile bins of a numeric target, about ten, at least five rows each."""
    count = max(1, min(10, len(values) // 5))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1])) if count > 1 else np.array([])
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def _assign(data: Data, task: str, unit: IntArray, weights: FloatArray, seed: int) -> IntArray:
    """The fold of each row (-1: always train), shares of classes and of rows as near to `weights` as whole units
    allow."""
    from scipy.sparse import hstack

    matrix, _ = _indicators(data, task, unit)
    size = np.bincount(unit).astype(np.float64)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(size))
    fold = np.full(len(size), -2, dtype=np.int64)
    if task != "regress" and data.labels is not None:
        entries = matrix.tocoo()
        homes = np.bincount(entries.col, minlength=matrix.shape[1])
        fold[entries.row[homes[entries.col] == 1]] = -1
    have = np.zeros((len(weights), matrix.shape[1] + 1))
    full = hstack([matrix, size[:, None]], format="csr")
    if len(weights) == 2:  # a holdout: what is pinned counts as train
        have[0] = full[fold == -1].sum(axis=0)
        want = weights[:, None] * full.sum(axis=0)
    else:
        want = weights[:, None] * full[fold != -1].sum(axis=0)
    single = (size == 1) & (matrix.sum(axis=1) <= 1)
    big = [u for u in order if fold[u] == -2 and (task in MANY or not single[u])]
    _place_big(big, full, want, have, fold, multilabel=task in MANY)
    _deal_single([u for u in order if fold[u] == -2], full, want, have, fold)
    return fold[unit]


def _place_big(
    big: list[int], full: Any, want: FloatArray, have: FloatArray, fold: IntArray, *, multilabel: bool
) -> None:
    """Greedy: the rarest class (multi-label) or the largest unit first, each to the fold where it is missed most.

    Missed is measured as the increase of the chi-square distance sum((have - want)^2 / want), so that folds of unequal
    size fill in proportion.
    """
    scale = 1.0 / np.maximum(want, 1e-9)
    size = full[:, [-1]].toarray()[:, 0]
    if multilabel:
        scale[:, -1] *= np.sqrt(full.shape[1])  # else many classes outvote the number of rows
        entries, total = full[:, :-1].tocoo(), full.sum(axis=0)
        rank = np.full(full.shape[0], np.inf)
        np.minimum.at(rank, entries.row, total[entries.col])
        big = sorted(big, key=lambda u: (rank[u], -size[u]))
    else:
        big = sorted(big, key=lambda u: -size[u])
    for u in big:
        row = _dense(full, u)
        gain = ((2 * (have - want) + row) * row * scale).sum(axis=1)
        best = np.flatnonzero(gain <= gain.min() + 1e-12)
        at = int(best[np.argmax((want - have)[best, -1])])
        fold[u] = at
        have[at] += row


def _deal_single(order: list[int], full: Any, want: FloatArray, have: FloatArray, fold: IntArray) -> None:
    """Units of one row, class by class, by largest remainder; the fold that is short of rows gets the odd one."""
    entries = full[:, :-1].tocoo()
    only = np.full(full.shape[0], -1, dtype=np.int64)
    only[entries.row] = entries.col
    kind = only[np.array(order, dtype=np.int64)]
    members = np.array(order, dtype=np.int64)
    for c in np.unique(kind):
        rows = members[kind == c]
        column = c if c >= 0 else full.shape[1] - 1
        need = np.maximum(want[:, column] - have[:, column], 0.0)
        need = need / need.sum() * len(rows) if need.sum() > 0 else np.full(len(need), len(rows) / len(need))
        counts = np.floor(need + 1e-9).astype(np.int64)
        short = (want - have)[:, -1] - counts
        left = len(rows) - int(counts.sum())
        first = sorted(range(len(need)), key=lambda f: (-round(float(need[f] - counts[f]), 9), -float(short[f]), f))
        for f in first[:left]:
            counts[f] += 1
        fold[rows] = np.repeat(np.arange(len(counts)), counts)
        for f in range(len(counts)):
            have[f] += _dense(full, int(rows[0])) * counts[f]


def _by_time(times: FloatArray, unit: IntArray, share: float) -> Pair:
    """The cut between two different times that leaves a test share nearest to `share`."""
    values, counts = np.unique(times, return_counts=True)
    if len(values) < 2:
        raise UserError(
            "all rows have the same time, so none lies in the future of another; name another time column or none"
        )
    later = counts[::-1].cumsum()[::-1][1:] / len(times)  # share of rows after each possible cut
    cut = values[int(np.argmin(np.abs(later - share)))]
    return _two_sides(unit, times <= cut, times > cut)


def _two_sides(unit: IntArray, past: NDArrayBool, future: NDArrayBool) -> Pair:
    """Rows of the past and of the future; a unit on both sides keeps the side with most of its rows, the others are
    left out."""
    n = int(unit.max()) + 1
    before = np.bincount(unit[past], minlength=n)
    after = np.bincount(unit[future], minlength=n)
    stays = before >= after
    train = past & ((after == 0) | stays)[unit]
    test = future & ((before == 0) | ~stays)[unit]
    return np.flatnonzero(train), np.flatnonzero(test)


def _expanding(data: Data, task: str, unit: IntArray, k: int) -> list[Pair]:
    assert data.times is not None
    times = data.times
    ranks = np.searchsorted(np.sort(times), times, side="left")  # equal times share a rank, so they share a block
    _, block = np.unique(ranks * (k + 1) // len(times), return_inverse=True)
    out: list[Pair] = []
    for b in range(1, int(block.max()) + 1):
        train, valid = _two_sides(unit, block < b, block == b)
        try:
            _check_parts(data, task, train, valid)
        except UserError:
            continue  # an early window that has one class yet
        out.append((train, valid))
    if not out:
        raise UserError(
            f"cannot validate {data.source} by time: no window has two classes before it and rows after it; "
            "give a validation file"
        )
    return out


def hash_of(source: Data | str | Path) -> str:
    """The sha256 of a file's bytes, of those of a folder, or of the rows (inputs, labels, weights, groups, times)."""
    digest = hashlib.sha256()
    if not isinstance(source, Data):
        if Path(source).is_dir():
            for path in sorted(p for p in Path(source).rglob("*") if p.is_file()):
                digest.update(str(path.relative_to(source)).encode() + b"\0" + key_of(path))
            return digest.hexdigest()
        with Path(source).open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()
    for part in (source.inputs, source.labels, source.weights, source.groups, source.times):
        digest.update(b"\x1d")
        for value in [] if part is None else part.tolist() if isinstance(part, np.ndarray) else part:
            digest.update(repr(value).encode("utf-8", "surrogatepass") + b"\x1e")
    return digest.hexdigest()
