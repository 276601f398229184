"""Tagging: entities of WNUT-17 (noisy English texts, six types) through MiniLM, from few sentences and from all.

Run: OMP_NUM_THREADS=1 python benchmarks/tag.py [--data FOLDER] [--seeds S] [--rows N,...] [--ways NAME,...]; --table
prints what is stored. A seed draws N training sentences (0: all), from which the rows to choose by are taken, too; the
test file is the whole of the shared task's (1,287 sentences of other months and places), F1 of whole entities. Beside:
a conditional random field on word features and each word's usual tag, from the same sentences. Results are added to
benchmarks/results/tag.json one by one; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
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
from acclimate.data.rows import Columns
from acclimate.data.tagged import sentences

RESULTS = Path(__file__).parent / "results" / "tag.json"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default="100,400,0")
    parser.add_argument("--ways", default="linear_probe,lora,full,lp_ft")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS)
    if not arguments.table:
        torch.set_num_threads(1)
        folder = Path(arguments.data) / "wnut17"
        rows, _ = sentences(folder / "wnut17train.conll", Columns())
        sizes = [int(n) for n in arguments.rows.split(",")]
        for seed, size, way in itertools.product(range(arguments.seeds), sizes, arguments.ways.split(",")):
            key = {"seed": seed, "rows": size, "way": way}
            if not kept.has(key):
                kept.add({**key, **one(rows, folder / "emerging.test.annotated", seed, size, way)})
    print(table(kept.rows))


def one(rows: list[Any], test: Path, seed: int, size: int, way: str) -> dict[str, Any]:
    """F1 on the test file of one way, and of what does without transfer."""
    order = np.random.default_rng(seed).permutation(len(rows))
    at = order[: size or len(rows)]
    train = [{"tokens": list(rows[i].given), "tags": list(rows[i].tags)} for i in at]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        model = acclimate.fit(
            train, task="tag", strategy=way, seed=seed, test_data=str(test), quiet=True, output_dir=Path(folder) / "run"
        )
        assert model.scores is not None
        beside = {name: value["value"] for name, value in model.scores.baseline.items()}
        return {"f1": model.scores.value, **beside, "seconds": round(time.monotonic() - began)}


def table(found: list[dict[str, Any]]) -> str:
    """Mean over seeds with the 95 % half-width; a line a way, a column a number of sentences."""
    sizes = sorted({row["rows"] for row in found}, key=lambda n: n or 10**9)
    lines = ["| way | " + " | ".join(f"{n:,}" if n else "all" for n in sizes) + " |", "|---|" + "---:|" * len(sizes)]
    ways = list(dict.fromkeys(row["way"] for row in found))
    for way in ["dictionary", "crf", *ways]:
        cells = []
        for size in sizes:
            mine = [
                r
                for r in found
                if r["rows"] == size and (way in r if way in ("dictionary", "crf") else r["way"] == way)
            ]
            by_seed = {r["seed"]: r[way] if way in r else r["f1"] for r in mine}
            minutes = f" ({np.median([r['seconds'] for r in mine]) / 60:.1f} min)" if way in ways and mine else ""
            cells.append(f"{plus_minus(list(by_seed.values()))}{minutes}" if by_seed else "-")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
