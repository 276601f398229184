"""Adaptations on frozen features, each as it comes, on the pairs of verdict.py: mcd beside mcc, dann and shot.

Run: OMP_NUM_THREADS=1 python benchmarks/methods.py --data FOLDER (folders vader4, uci_sentences, heart and fsdd);
--table prints the results of the last run. All source rows (1,600 at most) are learned from, all target rows seen
without labels and judged. "source" is the bottleneck that sees the source alone. λ, turns and balance of mcd were
chosen on movie → tweets, yelp → imdb and digits → MNIST. Results are added to benchmarks/results/methods.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from features import adaptation
from pairs import Domain, digits, drawn, heart, sentences, speech
from validators import accuracy
from verdict import PAIRS, SITES

from acclimate.run import Run
from acclimate.strategies import Splits, named

RESULTS = Path(__file__).parent / "results" / "methods.json"
WAYS = {name: named(name)[1] for name in ("mcd", "mcc", "dann", "shot")} | {"source": named("mcc", {"weight": 0.0})[1]}
CHOSEN_ON = ("movie → tweets", "yelp → imdb", "digits → MNIST")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        folder = Path(arguments.data)
        domains = {**sentences(folder), **heart(folder), **digits(), **speech(folder)}
        done = {(row["pair"], row["seed"]) for row in found}
        for seed, (source, target) in itertools.product(range(arguments.seeds), PAIRS["made on"]):
            if (f"{source} → {target}", seed) not in done:
                parts = drawn(domains, source, target, seed)
                found += [
                    {"pair": f"{source} → {target}", "seed": seed, **row}
                    for row in one(*parts, seed, balanced=source in SITES)
                ]
                RESULTS.write_text(json.dumps(found, indent=0) + "\n")
    print(table(found))


def one(source: Domain, target: Domain, seed: int, balanced: bool) -> list[dict[str, Any]]:
    """Accuracy and processor seconds of every way."""
    run, (problem, train, theirs) = Run(seed=seed), adaptation(source, target)
    rows = []
    for name, way in WAYS.items():
        start = time.process_time()
        fitted = way.fit(problem, Splits(train, target=theirs), run)
        seconds = time.process_time() - start
        made = np.asarray(fitted.outputs(theirs.inputs, run, problem.store), float)
        rows.append({"way": name, "accuracy": accuracy(made, target.y, balanced), "seconds": round(seconds, 2)})
    return rows


def table(found: list[dict[str, Any]]) -> str:
    """Means over pairs and seeds; harmed: by more than a point against the source's bottleneck, same pair and seed."""
    kinds = {
        "the three of the choice": lambda p: p in CHOSEN_ON,
        "spoken digits, six new speakers": lambda p: p.startswith("not "),
        "other sentences": lambda p: p in ("movie → products", "amazon → yelp", "tweets → NYT"),
        "heart disease (balanced accuracy)": lambda p: p.startswith("Cleveland"),
        "the three of the choice, skewed": lambda p: p.endswith("skewed"),
        "all but the three": lambda p: p not in CHOSEN_ON,
    }
    names = ["source", *(name for name in WAYS if name != "source")]
    lines = ["| pairs | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for kind, holds in kinds.items():
        cells = [np.mean([r["accuracy"] for r in found if holds(r["pair"]) and r["way"] == name]) for name in names]
        lines.append(f"| {kind} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    alone = {(r["pair"], r["seed"]): r["accuracy"] for r in found if r["way"] == "source"}
    harmed = [
        sum(r["accuracy"] < alone[r["pair"], r["seed"]] - 0.01 for r in found if r["way"] == name) for name in names
    ]
    return "\n".join([*lines, f"| harmed, of {len(alone)} | " + " | ".join(map(str, harmed)) + " |"])


if __name__ == "__main__":
    main()
