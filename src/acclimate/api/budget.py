"""What the run will take, told before it begins, and fewer rows where the time limit does not allow for all."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil

from acclimate import ranks
from acclimate.api.prepare import Prepared
from acclimate.data.rows import Data, Input
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem

SAMPLE = 48  # rows whose features are timed
ENOUGH = 1.0  # seconds; where they took less, MOST others are timed
MOST = 192
FOR_FEATURES = 0.6  # the share of the time left that features may take; the rest is for folds, the last fit, the report
TO_FINISH = 4.0  # seconds for the last head, the baselines, the figures and the files
LEAST = 60  # rows that are kept in any case
JUDGED = 500  # rows that give the number: of more, those beyond are left out before any training row


@dataclass(frozen=True)
class Plan:
    """Rows to work with, and what was foreseen."""

    prepared: Prepared
    seconds_a_row: float  # of features; 0 where all are in the cache
    said: tuple[str, ...] = ()
    seconds: float = 0.0  # of all features
    cut: tuple[str, ...] = ()  # that rows were left out


def plan(prepared: Prepared, problem: Problem, run: Run) -> Plan:
    """Time the backbone on a few rows, foretell what all rows take, and leave rows out where that is too long."""
    if problem.store is None:
        return Plan(prepared, 0.0)
    fresh = problem.store.missing(prepared.everything)
    many = ranks.agreed(len(fresh)) >= 2 * SAMPLE
    # Read again by a run that goes on, though it finds features in the cache: the rows must be the same ones.
    found = run.once("features", lambda: _foretold(fresh, problem, run) if many else None)
    if found is None:
        return Plan(prepared, 0.0)
    seconds, share, memory, inputs = found["seconds"], found["share"], found["memory"], found["inputs"]
    a_row = seconds / inputs if many else 0.0
    said = f"features of {inputs:,} inputs take about {seconds:.0f} s here ({memory:,.0f} MB in use)"
    if share >= 1:
        run.progress.say(said)
        return Plan(prepared, a_row, (said,), seconds)
    to_learn, to_judge = shares(share, len(prepared.train), len(prepared.test or ()))
    train, test = _some(prepared.train, to_learn, run.seed), prepared.test and _some(prepared.test, to_judge, run.seed)
    every = len(train) == len(prepared.train)
    used = f"all {len(train):,}" if every else f"{len(train):,} of {len(prepared.train):,}"
    note = f"{said}, more than the time limit allows: {used} training rows are used"
    if test is not None and prepared.test is not None:
        note += f", and {len(test):,} of {len(prepared.test):,} rows give the number"
    run.progress.say(note)
    smaller = replace(prepared, train=train, test=test, how=_how(prepared, test))
    cut = f"For the time limit {len(train):,} of {len(prepared.train):,} training rows were used."
    return Plan(smaller, a_row, (f"{note}; raise --time-limit to use all.",), share * seconds, () if every else (cut,))


def shares(share: float, learned: int, judged: int) -> tuple[float, float]:
    """The shares of training and of test rows that together are this share of all: rows that judge are left out first.

    >>> shares(0.5, 100, 1900), shares(0.5, 900, 1100)
    ((1.0, 0.47368421052631576), (0.7142857142857143, 0.3246753246753247))
    """
    allowed, enough = share * (learned + judged), min(judged, JUDGED)
    if learned + enough <= allowed:
        return 1.0, (allowed - learned) / max(1, judged)
    part = allowed / max(1, learned + enough)
    return part, part * enough / max(1, judged)


def before_the_end(run: Run, reserve: float) -> Run:
    """The run with a deadline that leaves so many seconds for what comes after; at most half of what is left."""
    if run.deadline is None:
        return run
    return replace(run, deadline=run.deadline - min(reserve, max(0.0, 0.5 * run.left())))


def _foretold(fresh: list[Input], problem: Problem, run: Run) -> dict[str, Any]:
    backbone, store = problem.network()
    order = np.random.default_rng(0).permutation(len(fresh))[: 2 * SAMPLE]
    sample = [fresh[i] for i in order]
    store.get(sample[:SAMPLE])  # first use of a kernel and of the tokeniser is not taken for speed
    timed, read = sample[SAMPLE:], 2 * SAMPLE
    took = _seconds(store, timed)
    more = min(len(fresh) - read, MOST)
    if took < ENOUGH and more >= 2 * SAMPLE:  # so few rows say little where they are read in an instant
        timed = [fresh[i] for i in np.random.default_rng(0).permutation(len(fresh))[read : read + more]]
        took, read = _seconds(store, timed), read + more
    cost = sum(row.cost for row in backbone.encode(timed))
    rest = cost / len(timed) * (len(fresh) - read)
    seconds = took * rest / max(1, cost)
    left = max(0.0, run.left() - TO_FINISH)
    share = 1.0 if seconds <= FOR_FEATURES * left else FOR_FEATURES * left / seconds
    memory = psutil.Process().memory_info().rss / 1e6
    return {"seconds": seconds, "share": share, "memory": memory, "inputs": len(fresh)}


def _seconds(store: Store, inputs: list[Input]) -> float:
    start = time.monotonic()
    store.get(inputs)
    return time.monotonic() - start


def _some(data: Data, share: float, seed: int) -> Data:
    """A random part; every class keeps a row."""
    n = min(len(data), max(LEAST, int(share * len(data))))
    order = np.random.default_rng([seed, 17]).permutation(len(data))
    chosen = set(order[:n].tolist())
    if data.labels is not None and not isinstance(data.labels[0], (float, tuple)):
        first = {data.labels[i]: int(i) for i in order[::-1]}
        chosen |= set(first.values())
    return data.take(sorted(chosen))


def _how(prepared: Prepared, test: Data | None) -> str:
    if test is None or prepared.test is None or len(test) == len(prepared.test):
        return prepared.how
    return f"{prepared.how}; for the time limit {len(test):,} of these rows, drawn at random, give the number"
