"""Adapting without labels on real pairs of kinds of text, by the strategies of `acclimate` on frozen minilm features.

Run: python benchmarks/adapt.py [--data FOLDER] [--seeds S] [--table]
FOLDER holds vader4 and uci_sentences. A seed draws at most 1,600 source rows; every method sees the unlabelled rows of
one half of the target (at most 1,600) and is judged on the other half, whose labels serve for nothing else. "target"
learns from the labels of the first half. Accuracy, with the paired difference to the source-only probe and its 95 % t
interval over seeds.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from intervals import half_width
from kept import Kept
from raw import reviews, snippets

from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "adapt.json"
MOST = 1600
PAIRS = (
    ("movie", "tweets"), ("movie", "products"), ("tweets", "NYT"), ("movie", "NYT"), ("yelp", "imdb"),
    ("amazon", "yelp"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS)
    if not asked.table:
        domains, backbone = read(Path(asked.data)), load("minilm").requires_grad_(False)
        store = Store(backbone, Run(cache=cache.features()))
        task = TASKS["classify"]
        problem = Problem(task, task.decoder((0, 1), "int"), backbone, store)
        for seed in range(asked.seeds):
            for pair in PAIRS:
                judged(problem, *(domains[name] for name in pair), " → ".join(pair), seed, kept)
    print(table(kept.rows))


def read(folder: Path) -> dict[str, Data]:
    """All seven kinds of text, in an order of chance; of the long ones twice `MOST` rows."""
    found = {n: Data(tuple(r.text for r in rows), tuple(r.label for r in rows)) for n, rows in snippets(folder).items()}
    for name, pairs in reviews(folder).items():
        found[name] = Data(tuple(text for text, _ in pairs), tuple(label for _, label in pairs))
    return {
        name: data.take(np.random.default_rng(7).permutation(len(data))[: 2 * MOST]) for name, data in found.items()
    }


def judged(problem: Problem, source: Data, target: Data, pair: str, seed: int, kept: Kept) -> None:
    rng = np.random.default_rng(seed)
    learn = source.take(rng.permutation(len(source))[:MOST])
    order = rng.permutation(len(target))
    half = len(order) // 2
    seen, rest = target.take(order[:half][:MOST]), target.take(order[half:])
    truth = np.array(rest.labels)
    for name in ("linear_probe", *(n for n, s in ADAPTATIONS.items() if s.frozen), "target"):
        key = {"pair": pair, "seed": seed, "method": name}
        if kept.has(key):
            continue
        splits = Splits(seen) if name == "target" else Splits(learn, None, seen)
        fitted = named("linear_probe" if name == "target" else name)[1].fit(problem, splits, Run(seed=seed))
        logits = fitted.logits(list(rest.inputs), store=problem.store)
        right = fitted.task.decide(fitted.task.outputs(logits, fitted.decoder), fitted.decoder) == truth
        kept.add({**key, "accuracy": float(right.mean()), "n": len(truth)})


def table(found: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(r["method"] for r in found))
    pairs = list(dict.fromkeys(r["pair"] for r in found))
    at = {(r["pair"], r["method"], r["seed"]): r["accuracy"] for r in found}
    seeds = sorted({r["seed"] for r in found})
    lines = ["| pair | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for pair in pairs:
        cells = []
        for name in names:
            gaps = [at[pair, name, s] - at[pair, "linear_probe", s] for s in seeds]
            half = half_width(gaps) if len(gaps) > 1 else 0.0
            mean = statistics.mean(at[pair, name, s] for s in seeds)
            beside = "" if name == "linear_probe" else f" ({statistics.mean(gaps):+.3f} ±{half:.3f})"
            cells.append(f"{mean:.3f}{beside}")
        lines.append(f"| {pair} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
