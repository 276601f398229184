"""Pictures read at several sizes by frozen mobilenetv2: milliseconds a picture, and how well a linear probe does.

Run: OMP_NUM_THREADS=1 python benchmarks/image_sizes.py --data FOLDER (holds bccd; digits are scikit-learn's); --table
prints the results of the last run. Data and draws are those of benchmarks/pictures.py: written digits of 8 x 8 pixels,
and single blood cells cut out of microscope images. 32 of each class are learned from; a seed redraws them.
Time is that of one thread from a picture in memory to its features, by the runtime that acclimate chose for the size:
all sizes in turn on the same 64 cells, 15 rounds, of which the medians are told. Nothing was tuned on these rows, and
the default stays the model's own size. Results are added to benchmarks/results/image_sizes.json one by one; a run that
is cut off goes on.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pictures
import torch
from kept import Kept
from molecules import interval

from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store, extract
from acclimate.run import Run
from acclimate.strategies import Problem, Splits
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "image_sizes.json"
MODEL, OWN, SIZES = "mobilenetv2", 224, (64, 96, 128, 160, 224)
LEARNED, TIMED, ROUNDS, TO_CHOOSE = 32, 64, 15, 256


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not asked.table:
        torch.set_num_threads(1)
        sets = {name: pictures.SETS[name](Path(asked.data))[0] for name in ("digits", "blood cells")}
        if not kept.has({"part": "time"}):
            kept.add(*timed(sets["blood cells"]), threads=1, load=os.getloadavg()[0])
        for name, data in sets.items():
            for size in SIZES:
                measure(name, data, size, asked.seeds, kept)
    print(table(kept.rows))


def timed(data: Data) -> list[dict[str, Any]]:
    """CPU milliseconds a picture at every size."""
    backbones = {size: load(MODEL, image_size=size).requires_grad_(False) for size in SIZES}
    some, run = [data.inputs[i] for i in np.random.default_rng(0).permutation(len(data))[:TO_CHOOSE]], Run(cache=None)
    for backbone in backbones.values():  # so many that a runtime is chosen
        extract(backbone, some, run)
    took = defaultdict(list)
    for _ in range(ROUNDS):
        for size, backbone in backbones.items():
            began = time.process_time()
            extract(backbone, some[:TIMED], run)
            took[size].append(1000 * (time.process_time() - began) / TIMED)
    return [
        {"part": "time", "size": size, "runtime": backbones[size].runtime, "ms": round(float(np.median(each)), 2),
         "least": round(min(each), 2), "most": round(max(each), 2)}
        for size, each in took.items()
    ]  # fmt: skip


def measure(name: str, data: Data, size: int, seeds: int, kept: Kept) -> None:
    """Accuracy of a linear probe at this size, on every draw that was not judged before."""
    keys = list(kept.missing({"part": "probe", "set": name, "size": size, "seed": seed} for seed in range(seeds)))
    if not keys:
        return
    assert data.labels is not None
    backbone, task = load(MODEL, image_size=size), TASKS["classify"]
    store = Store(backbone, Run(cache=cache.features()))
    problem = Problem(task, task.decoder(data.labels, type(data.labels[0]).__name__), backbone, store)
    store.prepare(data.inputs)
    for key in keys:
        learn, judge = drawn(data, key["seed"])
        found = pictures.judged(MODEL, problem, Splits(data.take(learn)), data.take(judge), key["seed"])
        kept.add({**key, "learned": len(learn), "n": len(judge), **found})


def drawn(data: Data, seed: int) -> tuple[Any, Any]:
    """Rows to learn from and rows that judge, as benchmarks/pictures.py draws them: cells of one image on one side."""
    if data.groups is None:
        order = np.random.default_rng(seed).permutation(len(data))
        most = pictures.few(order, data.labels, 128)
        return pictures.few(order, data.labels, LEARNED), np.setdiff1d(order, most)
    learn, judge = pictures.halves(np.unique(data.groups, return_inverse=True)[1], seed)
    return pictures.few(learn, data.labels, LEARNED), judge


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds with t intervals, and the paired differences to the model's own size."""
    times = {r["size"]: r for r in rows if r["part"] == "time"}
    sets = list(dict.fromkeys(r["set"] for r in rows if r["part"] == "probe"))
    heads = [
        "size",
        "ms a picture",
        "times as fast",
        *(f"{name}{more}" for name in sets for more in ("", ", less 224")),
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for size in SIZES:
        cells = [str(size), f"{times[size]['ms']:.1f}", f"{times[OWN]['ms'] / times[size]['ms']:.1f}"]
        for name in sets:
            cells += accuracies(rows, name, size)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def accuracies(rows: list[dict[str, Any]], name: str, size: int) -> Iterator[str]:
    """The mean, and the difference to the model's own size on the same draws."""
    by = {
        at: {r["seed"]: r["accuracy"] for r in rows if r.get("set") == name and r["size"] == at} for at in (size, OWN)
    }
    yield interval(list(by[size].values()))
    yield "" if size == OWN else interval([value - by[OWN][seed] for seed, value in by[size].items()])


if __name__ == "__main__":
    main()
