"""How far what is foretold of a fit lies from what it takes: seconds and memory of full, partial and lora on minilm.

Run: python benchmarks/estimate.py [--rounds R] [--csv FILE --text COLUMN --label COLUMN] [--table]
Movie and Amazon snippets of three sizes; with --csv also rows of that file, of two sizes (long texts, say). Seconds are
processor time with one thread, those of the estimate too; a fifth of the rows choose the epoch. Every figure is taken /
foreseen.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from snippets import snippets

from acclimate import usage
from acclimate.backbones import load
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, foresee, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "estimate.json"
STRATEGIES = ("full", "partial", "lora")
EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--text")
    parser.add_argument("--label")
    parser.add_argument("--table", action="store_true", help="show the results of the last run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        clock = SimpleNamespace(monotonic=time.process_time)  # other programs run on the same cores
        foresee.time = usage.time = clock  # type: ignore[attr-defined, assignment]
        found: dict[str, Any] = {}
        parts = {f"snippets, {n} rows": snippets(n, 1)[0] for n in (150, 400, 1000)}
        if arguments.csv:
            parts |= {f"{arguments.csv.stem}, {n} rows": _rows(arguments, n) for n in (60, 150)}
        for what, data in parts.items():
            for name in STRATEGIES:
                found[f"{name}, {what}"] = compared(name, data, arguments.rounds)
                print(name, what, found[f"{name}, {what}"], flush=True)
                found["threads"], found["load"] = 1, round(os.getloadavg()[0], 1)
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(RESULTS.read_text())


def _rows(arguments: argparse.Namespace, n: int) -> Data:
    with open(arguments.csv, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    some = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:n]]
    return Data(tuple(r[arguments.text] for r in some), tuple(r[arguments.label] for r in some))


def compared(name: str, data: Data, rounds: int) -> dict[str, Any]:
    """Medians over rounds, in one process."""
    backbone = load("minilm").requires_grad_(False)
    task = TASKS["classify"]
    labels = data.labels or ()
    problem = Problem(task, task.decoder(labels, "str"), backbone, Store(backbone, Run()))
    problem.network()[1].prepare(data.inputs)
    strategy: Any = named(name, {"num_train_epochs": EPOCHS})[1]
    learn = int(0.8 * len(data))
    splits = Splits(data.take(range(learn)), data.take(range(learn, len(data))))
    found = []
    for _ in range(rounds):
        with usage.watched("cpu") as probe:
            one = foresee.foresee(strategy, problem, splits, Run())
        with usage.watched("cpu") as taken:
            strategy.fit(problem, splits, Run())
        found.append((one.seconds, taken.seconds, one.memory / 1e6, taken.memory / 1e6, probe.seconds))
    names = ("seconds_foreseen", "seconds", "mb_foreseen", "mb", "probe_seconds")
    middle = {k: round(statistics.median(v), 1) for k, v in zip(names, zip(*found, strict=True), strict=True)}
    ratios = {
        "seconds_ratio": round(statistics.median(f[1] / f[0] for f in found), 2),
        "memory_ratio": round(statistics.median(f[3] / f[2] for f in found), 2),
    }
    return {**middle, **ratios}


if __name__ == "__main__":
    main()
