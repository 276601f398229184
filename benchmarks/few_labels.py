"""What 0, 20, 50 and 200 labelled rows of the target bring, by every way of `acclimate.strategies.fewlabels`.

Run: OMP_NUM_THREADS=1 python benchmarks/few_labels.py --data FOLDER (folders vader4 and uci_sentences); --table prints
the results of the last run. MiniLM features, at most 3,200 source rows; labels are the first of a random order of the
target, by seed; up to 1,600 other rows judge. "target" learns from all rows that do not judge. Results are added to
benchmarks/results/few_labels.json fit by fit; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from features import problem_of
from intervals import half_width
from kept import Kept
from pairs import MOST, Domain, sentences

from acclimate.data.rows import Data
from acclimate.run import Run
from acclimate.strategies import Splits
from acclimate.strategies.fewlabels import FEW_LABELS
from acclimate.strategies.probe import Probe

RESULTS = Path(__file__).parent / "results" / "few_labels.json"
PAIRS = [("movie", "tweets"), ("tweets", "NYT"), ("yelp", "imdb")]
COUNTS = (20, 50, 200)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not arguments.table:
        torch.set_num_threads(1)
        domains = sentences(Path(arguments.data))
        for source, target in PAIRS:
            for seed in range(arguments.seeds):
                key = {"pair": f"{source} → {target}", "seed": seed}
                if not kept.has(key):
                    rows = one(domains[source], domains[target], seed)
                    kept.add(*({**key, **row} for row in rows), say=key, load=os.getloadavg()[0], threads=1)
    print(table(kept.rows))


def one(source: Domain, target: Domain, seed: int) -> list[dict[str, Any]]:
    """Accuracy on the same rows by every way and count."""
    x = np.concatenate([source.x, target.x]).astype(np.float32)
    y, n = np.concatenate([source.y, target.y]), len(source.y)
    problem = problem_of(x, (0, 1))

    def data(at: Any) -> Data:
        return Data(tuple(map(str, at)), tuple(int(v) for v in y[at]), clusters=np.asarray(at))

    order = n + np.random.default_rng(seed).permutation(len(target.y))
    pool, test = order[: max(COUNTS)], order[max(COUNTS) :][:MOST]
    if len(order) - len(pool) - len(test) < max(COUNTS):  # small domains: half judges
        test = order[max(COUNTS) :][: (len(order) - max(COUNTS)) // 2]
    rest = np.setdiff1d(order, test)
    train, run, rows = data(np.arange(n)), Run(seed=seed), []

    def judge(way: str, labels: int, fit: Any) -> None:
        started = time.process_time()
        fitted = fit()
        seconds = time.process_time() - started
        right = fitted.head(torch.from_numpy(x[test])).detach().numpy().argmax(1) == y[test]
        rows.append(
            {"way": way, "labels": labels, "accuracy": float(right.mean()), "seconds": round(seconds, 2),
             "chosen": fitted.notes[0], "judged": len(test)}
        )  # fmt: skip

    judge("source-only", 0, lambda: Probe().fit(problem, Splits(train), run))
    judge("target", len(rest), lambda: Probe().fit(problem, Splits(data(rest)), run))
    for count in COUNTS:
        splits = Splits(train, target=data(rest), target_labelled=data(pool[:count]))
        for way, strategy in FEW_LABELS.items():
            judge(way, count, lambda s=strategy, p=splits: s.fit(problem, p, run))
    return rows


def interval(values: list[float]) -> str:
    half = half_width(values) if values[1:] else 0.0
    return f"{np.mean(values):.3f} ± {half:.3f}"


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds with the half width of their 95 % t interval, and of the paired difference to source-only."""
    lines = ["| pair | way | " + " | ".join(f"{c} labels" for c in COUNTS) + " | CPU s at 200 |", "|---" * 6 + "|"]
    for pair in dict.fromkeys(r["pair"] for r in rows):
        mine = [r for r in rows if r["pair"] == pair]
        base = {r["seed"]: r["accuracy"] for r in mine if r["way"] == "source-only"}
        full = [r["accuracy"] for r in mine if r["way"] == "target"]
        lines.append(f"| {pair} | source-only {interval(list(base.values()))}; target {interval(full)} | | | | |")
        for way in FEW_LABELS:
            cells = []
            for count in COUNTS:
                some = {r["seed"]: r["accuracy"] for r in mine if r["way"] == way and r["labels"] == count}
                gap = interval([v - base[s] for s, v in some.items()])
                cells.append(f"{interval(list(some.values()))} ({'' if gap[0] == '-' else '+'}{gap})")
            seconds = [r["seconds"] for r in mine if r["way"] == way and r["labels"] == max(COUNTS)]
            lines.append(f"| {pair} | {way} | " + " | ".join(cells) + f" | {np.median(seconds):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
