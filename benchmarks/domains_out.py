"""Several sources: each kind of text left out in turn, by a probe of all rows, by group DRO, by a mixture, and by
penalties between the domains on a bottleneck, beside the same one without ("plain").

Run: python benchmarks/domains_out.py [--data FOLDER] [--seeds S] [--table]
FOLDER holds vader4 and uci_sentences. A seed draws at most 800 rows of each kind; the kind left out is the target: half
of its rows are what `source_mixture` sees without labels, and all methods are judged on the other half. Accuracy on
frozen minilm features, mean over seeds with the paired difference to `linear_probe` and its 95 % t interval; "worst" is
the kind with the least accuracy in each seed. No setting was tuned on these data.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from adapt import read
from intervals import half_width
from kept import Kept

from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "domains_out.json"
SETS = {"vader": ("movie", "tweets", "products", "NYT"), "uci": ("amazon", "imdb", "yelp")}
METHODS = ("linear_probe", "group_dro", "source_mixture")
NETWORKS = ("plain", "irm", "vrex", "source_coral")  # a bottleneck on features; plain: without penalty
MOST = 800


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS)
    if not asked.table:
        kinds, backbone = read(Path(asked.data)), load("minilm").requires_grad_(False)
        task = TASKS["classify"]
        problem = Problem(task, task.decoder((0, 1), "int"), backbone, Store(backbone, Run(cache=cache.features())))
        for seed in range(asked.seeds):
            for group, names in SETS.items():
                rng = np.random.default_rng(seed)
                drawn = {n: kinds[n].take(rng.permutation(len(kinds[n]))[:MOST]) for n in names}
                for out in names:
                    judged(problem, drawn, {"set": group, "left out": out, "seed": seed}, kept)
    table(kept.rows)


def judged(problem: Problem, drawn: dict[str, Data], about: dict[str, Any], kept: Kept) -> None:
    """Accuracy on the kind that was left out of every method that is not kept yet."""
    out = about["left out"]
    parts = [(n, d) for n, d in drawn.items() if n != out]
    train = Data(
        tuple(x for _, d in parts for x in d.inputs), tuple(y for _, d in parts for y in d.labels or ()),
        domains=tuple(n for n, d in parts for _ in range(len(d))),
    )  # fmt: skip
    half = len(drawn[out]) // 2
    seen, rest = replace(drawn[out].take(range(half)), labels=None), drawn[out].take(range(half, len(drawn[out])))
    for method in (*METHODS, *NETWORKS):
        key = {**about, "method": method}
        if kept.has(key):
            continue
        strategy = named("irm", {"weight": 0.0})[1] if method == "plain" else named(method)[1]
        fitted = strategy.fit(problem, Splits(train, target=seen), Run(seed=about["seed"]))
        right = fitted.logits(list(rest.inputs)).argmax(1) == np.array(rest.labels)
        kept.add({**key, "accuracy": float(right.mean()), "note": fitted.notes[0] if fitted.notes else ""})


def table(found: list[dict[str, Any]]) -> None:
    for group, names in SETS.items():
        for out in (*names, "worst"):
            values = {m: _by_seed(found, group, out, m) for m in (*METHODS, *NETWORKS)}
            line = [f"{group:6} {out:9}"]
            for m, v in values.items():
                gap = v - values["plain" if m in NETWORKS else "linear_probe"][: len(v)]
                cell = f"{m} {v.mean():.3f} ({gap.mean():+.3f}"
                if len(v) > 1:
                    half = half_width(gap.tolist())
                    cell += f" ± {half:.3f}"
                line.append(f"{cell})")
            print("  ".join(line))


def _by_seed(found: list[dict[str, Any]], group: str, out: str, method: str) -> Any:
    rows = [r for r in found if r["set"] == group and r["method"] == method]
    seeds = sorted({r["seed"] for r in rows})
    each = [[r["accuracy"] for r in rows if r["seed"] == s and out in ("worst", r["left out"])] for s in seeds]
    return np.array([min(e) for e in each])


if __name__ == "__main__":
    main()
