"""Adapting at test time on real pairs of kinds of text: plain answers, `t3a`, `lame` and `tent` beside each other.

Run: python benchmarks/testtime.py [--data FOLDER] [--seeds S] [--full-seeds S] [--table]
FOLDER holds vader4 and uci_sentences, read as in benchmarks/adapt.py. A seed draws at most 1,600 source rows, from
which minilm is fitted as a linear probe and (pairs of FULL, 2 epochs) as a whole; each model then answers at most 1,600
target rows in an order that the seed draws, whose labels serve for the score alone. Every adapter has its default
settings. Accuracy, with the paired difference to the same model's plain answers: the mean over seeds with its 95 % t
interval, or, from one seed, Tango's interval over rows. Results are added to benchmarks/results/testtime.json; what is
there is not run again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from adapt import MOST, PAIRS, read
from intervals import half_width
from kept import Kept

from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.metrics.differences import paired_shares
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS
from acclimate.testtime import ADAPTERS, Adapted

RESULTS = Path(__file__).parent / "results" / "testtime.json"
FULL = (("movie", "tweets"), ("yelp", "imdb"))
METHODS = ("t3a", "lame", "tent")
EPOCHS = 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--full-seeds", type=int, default=1)
    parser.add_argument("--strategies", default="linear_probe,full")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", default=str(RESULTS), help="another file, so that two processes can share the work")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept, methods = Kept(Path(asked.out)), asked.methods.split(",")
    if not asked.table:
        domains, backbone = read(Path(asked.data)), load("minilm").requires_grad_(False)
        store = Store(backbone, Run(cache=cache.features()))
        task = TASKS["classify"]
        problem = Problem(task, task.decoder((0, 1), "int"), backbone, store)
        for strategy in asked.strategies.split(","):
            full = strategy == "full"
            for seed in range(asked.full_seeds if full else asked.seeds):
                for pair in FULL if full else PAIRS:
                    key = {"pair": " → ".join(pair), "strategy": strategy, "seed": seed}
                    if not kept.has(key):
                        kept.add(*judged(problem, *(domains[name] for name in pair), key, methods))
    print(table(kept.rows))


def judged(
    problem: Problem, source: Data, target: Data, key: dict[str, Any], methods: Sequence[str]
) -> list[dict[str, Any]]:
    strategy, seed = key["strategy"], key["seed"]
    rng = np.random.default_rng(seed)
    learn = source.take(rng.permutation(len(source))[:MOST])
    rows = target.take(rng.permutation(len(target))[:MOST])
    truth, inputs = np.array(rows.labels), list(rows.inputs)
    settings = {"num_train_epochs": EPOCHS} if strategy == "full" else None
    model = named(strategy, settings)[1].fit(problem, Splits(learn), Run(seed=seed))
    store = None if strategy == "full" else problem.store
    plain = model.logits(inputs, store=store)
    right = {"plain": plain.argmax(1) == truth}
    out = [{"method": "plain", "accuracy": float(right["plain"].mean()), "share": float((plain.argmax(1) == 1).mean())}]
    for name in methods:
        started = time.process_time()
        adapted: Adapted = ADAPTERS[name].adapt(model, inputs, Run(seed=seed), store)
        seconds, answers = time.process_time() - started, adapted.logits.argmax(1)
        gap, interval = paired_shares((answers == truth).astype(float), right["plain"].astype(float))
        limits = (gap, gap) if interval is None else (interval.low, interval.high)
        out.append({"method": name, "accuracy": float((answers == truth).mean()), "changed": adapted.changed(model),
                    "share": float((answers == 1).mean()), "gap": gap, "low": limits[0], "high": limits[1],
                    "notes": list(adapted.notes), "seconds": round(seconds, 2)})  # fmt: skip
    facts = {**key, "n": len(truth), "true_share": float(truth.mean())}
    return [{**facts, **r} for r in out]


def table(found: Sequence[dict[str, Any]]) -> str:
    lines = ["| source → target | model | plain | t3a | lame | tent |", "|---|---|---|---|---|---|"]
    for pair, strategy in dict.fromkeys((r["pair"], r["strategy"]) for r in found):
        mine = [r for r in found if (r["pair"], r["strategy"]) == (pair, strategy)]
        cells = []
        for name in ("plain", *METHODS):
            rows = [r for r in mine if r["method"] == name]
            cell = f"{statistics.mean(r['accuracy'] for r in rows):.3f}" if rows else ""
            if rows and name != "plain":
                gaps = [r["gap"] for r in rows]
                half = half_width(gaps) if len(gaps) > 1 else 0.0
                limits = f"±{half:.3f}" if len(gaps) > 1 else f"[{rows[0]['low']:+.3f}, {rows[0]['high']:+.3f}]"
                cell += f" ({statistics.mean(gaps):+.3f} {limits})"
            cells.append(cell)
        lines.append(f"| {pair} | {strategy} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
