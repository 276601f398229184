"""What `auto` loses by its choice: its rule beside others, on few labels, against the best strategy in hindsight.

Run: OMP_NUM_THREADS=1 python benchmarks/regret.py --data FOLDER [--only SETS] [--shots 8;32] [--seeds 3]; --table
prints the last results.
The sets and draws are those of curves.py. Each candidate is judged on the folds that `auto` would use, among the drawn
rows alone; then it is fitted on all of them and judged on the rows of the set that nobody has seen. A rule sees the
folds; its regret is the macro-F1 there of the best candidate less that of the one it chose. Kept are the values on
folds and the paired intervals, so that any rule can be tried on them: what was tried says docs/measured.md. Results are
added to benchmarks/results/regret.json one by one; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from curve_sets import SETS
from curves import drawn, of, ours, read_as
from kept import Kept

from acclimate.advise.crossfit import Pairs, Trial, crossfit
from acclimate.advise.race import compare, value_of
from acclimate.api.prepare import FEW
from acclimate.data.rows import Data
from acclimate.data.split import folds
from acclimate.metrics.classification import METRICS
from acclimate.run import Run
from acclimate.strategies import Problem, named

RESULTS = Path(__file__).parent / "results" / "regret.json"
FROZEN = ("linear_probe", "centroid", "knn", "hybrid")
MOVING = ("contrastive", "lp_ft")
METRIC = "macro_f1"
SHOTS = (8, 16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="sets between semicolons")
    parser.add_argument("--shots", help="rows of each class between semicolons")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not asked.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        for name in asked.only.split(";") if asked.only else SETS:
            shots = [int(n) for n in asked.shots.split(";")] if asked.shots else SHOTS
            measure(name, Path(asked.data), shots, asked.seeds, kept)
    print(table(kept.rows))


def measure(name: str, folder: Path, sizes: list[int] | tuple[int, ...], seeds: int, kept: Kept) -> None:
    """Every candidate on every draw that was not judged before."""
    train, tests = SETS[name].read(folder)
    problem = of(read_as(SETS[name], train, folder), "")
    for shots in sizes:
        for seed in range(seeds):
            key = {"set": name, "shots": shots, "seed": seed}
            if kept.has(key):
                continue
            few = train.take(drawn(train, shots, seed))
            pairs = folds(few, "classify", k=5, seed=seed, repeats=3 if len(few) < FEW else 1)
            kept.add({**key, **judged(problem, few, pairs, tests, seed)}, threads=1)


def judged(problem: Problem, few: Data, pairs: Pairs, tests: dict[str, Data], seed: int) -> dict[str, Any]:
    """Of each candidate the value on folds, the seconds of a fit, the values on other rows; and the gaps between."""
    trials: dict[str, Trial] = {}
    found: dict[str, Any] = {}
    for name in (*FROZEN, *MOVING):
        began = time.process_time()
        trials[name] = crossfit(
            name, named(name)[1], problem, few, pairs[: 5 if name in MOVING else None], Run(seed=seed)
        )
        took = time.process_time() - began
        answer = ours(problem, name, few, seed)
        others = [METRICS[METRIC](problem.targets(rows).astype(int), answer(rows)) for rows in tests.values()]
        value = value_of(problem, few, METRIC, trials[name])
        found[name] = {"folds": round(value, 5), "cpu": round(took, 2), "new": [round(float(v), 5) for v in others]}
    gaps = {}
    for one in MOVING:
        for other in (*FROZEN, *MOVING):
            if one != other:
                gap = compare(problem, few, METRIC, trials[one], trials[other])
                gaps[f"{one} - {other}"] = [
                    None if v is None else round(float(v), 5) for v in (gap.value, gap.low, gap.high)
                ]
    return {"candidates": found, "gaps": gaps}


def surely(row: dict[str, Any], moving: tuple[str, ...] = MOVING) -> str:
    """The frozen candidate with the best value on folds, unless one that tunes is better beyond the 95 % interval."""
    best = max(FROZEN, key=lambda name: row["candidates"][name]["folds"])
    for name in moving:
        low = row["gaps"].get(f"{name} - {best}", [None, None, None])[1]
        best = name if low is not None and low > 0 else best
    return best


def likely(row: dict[str, Any], moving: tuple[str, ...] = MOVING) -> str:
    """The best value on folds, whatever it costs."""
    return str(max((*FROZEN, *moving), key=lambda name: row["candidates"][name]["folds"]))


def in_doubt(row: dict[str, Any]) -> str:
    """As `auto`: contrastive tuning unless the best frozen one is better beyond the interval; lp_ft only beyond its."""
    best = max(FROZEN, key=lambda name: row["candidates"][name]["folds"])
    high = row["gaps"][f"contrastive - {best}"][2]
    best = "contrastive" if high is None or high >= 0 else best
    low = row["gaps"].get(f"lp_ft - {best}", [None, None, None])[1]
    return "lp_ft" if low is not None and low > 0 else best


RULES: dict[str, Callable[[dict[str, Any]], str]] = {
    "auto: contrastive in doubt": in_doubt,
    "tuning beyond the interval alone": surely,
    "the best on folds": likely,
    "frozen alone": lambda row: surely(row, ()),
    **{f"always {name}": lambda row, name=name: name for name in ("linear_probe", *MOVING)},  # type: ignore[misc]
}


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and worst regret of each rule by the number of labels, in points of macro-F1."""
    lines = ["| rule | " + " | ".join(f"{s} a class" for s in SHOTS) + " | all draws | worst |", "|---" * 7 + "|"]
    for rule, choose in RULES.items():
        by: dict[int, list[float]] = defaultdict(list)
        for row in rows:
            new = {name: float(np.mean(one["new"])) for name, one in row["candidates"].items()}
            by[row["shots"]].append(100 * (max(new.values()) - new[choose(row)]))
        every = [v for values in by.values() for v in values]
        cells = [f"{np.mean(by[s]):.1f} ({len(by[s])})" if by[s] else "" for s in SHOTS]
        lines.append(f"| {rule} | " + " | ".join(cells) + f" | {np.mean(every):.1f} | {max(every):.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
