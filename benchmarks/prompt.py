"""Classes by prompting: SmolLM2 (135 million weights) asked whether a sentence is negative or positive, beside a probe.

Run: OMP_NUM_THREADS=1 python benchmarks/prompt.py [--data FOLDER] [--seeds S,...] [--rows N] [--test M]; --table prints
what is stored. UCI's sentences from reviews: a seed draws M to be judged on and N to learn from. `zero_shot` and
`few_shot` (8 examples, evenly over the classes) are what `fit --prompt smollm2` shows beside the model, here the
linear probe of MiniLM on all N; the probe on 8 sentences stands beside them, too. Results are added to
benchmarks/results/prompt.json one by one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from intervals import plus_minus
from kept import Kept

import acclimate

RESULTS = Path(__file__).parent / "results" / "prompt.json"
NAMES = {"0": "negative", "1": "positive"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS)
    if not arguments.table:
        torch.set_num_threads(1)
        rows = sentences(Path(arguments.data) / "uci_sentences")
        for seed in map(int, arguments.seeds.split(",")):
            key = {"seed": seed, "rows": arguments.rows, "test": arguments.test}
            if not kept.has(key):
                kept.add({**key, **one(rows, seed, arguments.rows, arguments.test)})
    print(table(kept.rows))


def sentences(folder: Path) -> list[dict[str, str]]:
    """Every sentence of the three files once, with the name of its class."""
    found = {}
    for path in sorted(folder.glob("*_labelled.txt")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            text, mark, label = line.rpartition("\t")
            if mark:
                found[text.strip()] = NAMES[label.strip()]
    return [{"text": text, "label": label} for text, label in found.items()]


def one(rows: list[dict[str, str]], seed: int, size: int, judged: int) -> dict[str, Any]:
    """Accuracy of the probes and of the prompts on the same sentences, each with its interval."""
    order = np.random.default_rng(seed).permutation(len(rows))
    test, train = [rows[i] for i in order[:judged]], [rows[i] for i in order[judged : judged + size]]
    few = [row for name in NAMES.values() for row in [r for r in train if r["label"] == name][:4]]
    how = {"strategy": "linear_probe", "test_data": test, "metric": "accuracy", "seed": seed, "quiet": True}
    with tempfile.TemporaryDirectory() as folder:
        small = acclimate.fit(few, output_dir=Path(folder) / "few", **how)  # type: ignore[arg-type]
        began = time.monotonic()
        model = acclimate.fit(train, output_dir=Path(folder) / "run", prompt="smollm2", **how)  # type: ignore[arg-type]
        took = time.monotonic() - began
    assert model.scores is not None and small.scores is not None
    beside = {name: _three(one) for name, one in model.scores.baseline.items()}
    mine = {f"probe on {size}": model.scores, "probe on 8": small.scores}
    every = {name: _three(vars(scores.estimates["accuracy"])) for name, scores in mine.items()}
    return {"accuracy": {**beside, **every}, "seconds": round(took)}


def _three(one: Any) -> list[float]:
    return [round(float(one[name]), 4) for name in ("value", "low", "high")]


def table(found: list[dict[str, Any]]) -> str:
    """Mean over seeds with the 95 % half-width, and the interval over sentences of the first seed."""
    lines = ["| way | accuracy | of the first seed |", "|---|---:|---:|"]
    for name in found[0]["accuracy"] if found else ():
        cells = [row["accuracy"][name] for row in found if name in row["accuracy"]]
        lines.append(f"| {name} | {plus_minus([c[0] for c in cells])} | [{cells[0][1]:.3f}, {cells[0][2]:.3f}] |")
    minutes = np.median([row["seconds"] for row in found]) / 60 if found else 0.0
    return "\n".join(lines) + f"\n\n{len(found)} seeds, {minutes:.1f} minutes each."


if __name__ == "__main__":
    main()
