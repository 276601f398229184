"""Adaptation where the encoder moves: LoRA and full fine-tuning of MiniLM, with MCC between the domains and without.

Run: OMP_NUM_THREADS=1 python benchmarks/moved.py --data FOLDER [--seeds S] [--ways NAME,...] (folders uci_sentences and
vader4); --table prints the results of the last run. Beside them the linear probe and the same loss on a bottleneck of
frozen features. A seed draws at most 1,000 rows of each side; every target row is seen without its label, and all judge
(labels of the target score alone). Defaults of every strategy, λ = 1, no label-free choice. Minutes are of one thread,
beside other work, or by the clock on a GPU. Results are added to benchmarks/results/moved.json one by one; a run that
is cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from intervals import half_width
from kept import Kept
from raw import reviews, snippets

from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.progress import Progress
from acclimate.run import Run, pick_device
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "moved.json"
MOST = 1000
PAIRS = (("yelp", "imdb"), ("movie", "tweets"))
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear_probe": ("linear_probe", {}),
    "mcc on frozen features": ("mcc", {}),
    "lora": ("lora", {}),
    "lora + mcc": ("lora", {"align": "mcc"}),
    "full": ("full", {}),
    "full + mcc": ("full", {"align": "mcc"}),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--results", default=str(RESULTS))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(Path(arguments.results))
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        folder = Path(arguments.data)
        domains: dict[str, list[tuple[str, int]]] = {
            name: [(row.text, row.label) for row in rows] for name, rows in snippets(folder).items()
        } | dict(reviews(folder))
        for seed, (source, target), way in itertools.product(range(arguments.seeds), PAIRS, arguments.ways.split(",")):
            key = {"pair": f"{source} → {target}", "seed": seed, "way": way}
            if not kept.has(key):
                kept.add({**key, **one(domains[source], domains[target], seed, way, arguments.model)})
    print(table(kept.rows))


def one(
    source: list[tuple[str, int]], target: list[tuple[str, int]], seed: int, way: str, model: str
) -> dict[str, Any]:
    """Accuracy on the target, and minutes: of the processor, or by the clock where there is a GPU."""
    ours, theirs = (
        [rows[i] for i in np.random.default_rng([seed, side]).permutation(len(rows))[:MOST]]
        for side, rows in enumerate((source, target))
    )
    device = pick_device()
    run = Run(seed=seed, device=device, progress=Progress(quiet=True), cache=cache.features())
    backbone, task = load(model), TASKS["classify"]
    train = Data(tuple(text for text, _ in ours), tuple(label for _, label in ours))
    problem = Problem(task, task.decoder(train.labels or (), "int"), backbone, Store(backbone, run))
    name, settings = WAYS[way]
    clock = time.process_time if device == "cpu" else time.monotonic
    start = clock()
    fitted = named(name, settings)[1].fit(
        problem, Splits(train, target=Data(tuple(text for text, _ in theirs), None)), run
    )
    minutes = (clock() - start) / 60
    logits = fitted.logits([text for text, _ in theirs])
    right = np.asarray(logits).argmax(1) == np.array([label for _, label in theirs])
    return {"accuracy": round(float(right.mean()), 4), "n": len(theirs), "minutes": round(minutes, 2), "device": device}


def table(found: list[dict[str, Any]]) -> str:
    """Means over seeds with the 95 % t interval, and the paired difference that MCC makes."""
    lines = ["| pair | way | seeds | accuracy | with MCC less without, same seeds | minutes |", "|---" * 6 + "|"]
    for pair, way in itertools.product((f"{a} → {b}" for a, b in PAIRS), WAYS):
        some = {r["seed"]: r for r in found if (r["pair"], r["way"]) == (pair, way)}
        if some:
            bare = {r["seed"]: r for r in found if (r["pair"], r["way"]) == (pair, way.removesuffix(" + mcc"))}
            gaps = [r["accuracy"] - bare[s]["accuracy"] for s, r in some.items() if way.endswith("+ mcc") and s in bare]
            lines.append(
                f"| {pair} | {way} | {len(some)} | {interval([r['accuracy'] for r in some.values()])} | "
                f"{interval(gaps) if gaps else ''} | {statistics.median(r['minutes'] for r in some.values()):.1f} |"
            )
    return "\n".join(lines)


def interval(values: list[float]) -> str:
    """Mean ± half the width."""
    mean = f"{statistics.mean(values):.3f}"
    if len(values) < 2:
        return mean
    return f"{mean} ±{half_width(values):.3f}"


if __name__ == "__main__":
    main()
