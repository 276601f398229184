"""Ridge with its penalty chosen by exact leave-one-out, on 4,096 features: ours against scikit-learn's RidgeCV.

Run: python benchmarks/ridge_wide.py [--rounds R] [--rows N ...] [--table]
Made features with a spectrum that falls off as those of pretrained networks do; two targets, 25 penalties, both sides.
One thread, processor time, both sides in turn in one process; medians of the rounds' ratios. The error is the largest
difference of weights at one penalty, as a share of the largest weight.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from sklearn.linear_model import Ridge as Peer
from sklearn.linear_model import RidgeCV

from acclimate.strategies.probe import STRENGTHS
from acclimate.train.ridge import Ridge, leave_out

RESULTS = Path(__file__).parent / "results" / "ridge_wide.json"
WIDTH = 4096


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000, 5000])
    parser.add_argument("--table", action="store_true", help="show the results of the last run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        found: dict[str, Any] = {str(n): compared(n, arguments.rounds) for n in arguments.rows}
        found |= {"threads": 1, "load": round(os.getloadavg()[0], 1)}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(RESULTS.read_text())


def compared(n: int, rounds: int) -> dict[str, Any]:
    """Medians of seconds and of ratios."""
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(n, WIDTH)) * np.exp(-np.arange(WIDTH) / 300) @ rng.normal(size=(WIDTH, WIDTH)) / 64
    features = ((raw - raw.mean(0)) / raw.std(0)).astype(np.float32).astype(np.float64)
    score = features[:, :1] + 3 * rng.normal(size=(n, 1))
    targets, weights = np.hstack([np.sign(score), score]), np.ones(n)
    penalties = [1 / (2 * c) for c in STRENGTHS]

    def ours() -> Any:
        fitted = Ridge.of(features, targets, weights)
        best = STRENGTHS[int(np.argmin(leave_out(fitted, STRENGTHS, np.arange(n))))]
        return fitted, best, fitted.head(best)

    def theirs() -> Any:
        return RidgeCV(penalties).fit(features, targets)

    mine, peer = [], []
    for _ in range(rounds):
        seconds, (fitted, best, _) = _timed(ours)
        mine.append(seconds)
        seconds, other = _timed(theirs)
        peer.append(seconds)
    exact = Peer(1 / (2 * best), solver="cholesky").fit(features, targets).coef_.T
    error = float(np.abs(fitted.head(best)[0] - exact).max() / np.abs(exact).max())
    return {
        "seconds": round(statistics.median(mine), 2),
        "peer_seconds": round(statistics.median(peer), 2),
        "times_as_fast": round(statistics.median(p / m for m, p in zip(mine, peer, strict=True)), 2),
        "same_penalty": bool(np.isclose(other.alpha_, 1 / (2 * best))),
        "error": f"{error:.0e}",
    }


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


if __name__ == "__main__":
    main()
