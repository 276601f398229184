"""What `fit --target-data` picks by itself on tiny pictures: written digits to MNIST and back, as folders of files.

Run: OMP_NUM_THREADS=1 python benchmarks/digits_fit.py [--seeds S]; --table prints the results of the last run.
A seed draws 2,000 of MNIST's 5,000 digits. Both sides are PNG files of 8 x 8 pixels in class folders; nothing but the
folders and the seed is given to `fit`: network, candidates, verdict and strategy are its own. The target's labels (the
names of its folders) are not read by `fit`; here they judge all its rows afterwards. Results are added to
benchmarks/results/digits_fit.json one by one; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import raw
from intervals import half_width
from kept import Kept

import acclimate

RESULTS = Path(__file__).parent / "results" / "digits_fit.json"
PAIRS = (("digits", "MNIST"), ("MNIST", "digits"))
DRAWN = 2000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS)
    if not arguments.table:
        every = raw.digits(float)
        for seed in range(arguments.seeds):
            for pair in PAIRS:
                key = {"pair": " → ".join(pair), "seed": seed}
                if not kept.has(key):
                    kept.add({**key, **one(every, pair, seed)})
    print(table(kept.rows))


def one(every: dict[str, tuple[Any, Any]], pair: tuple[str, str], seed: int) -> dict[str, Any]:
    """What was picked, and how often it is right on the target."""
    with tempfile.TemporaryDirectory() as place:
        for name in pair:
            x, y = every[name]
            at = np.random.default_rng(seed).permutation(len(x))[:DRAWN]
            write(Path(place) / name, x[at], y[at])
        source, target = (Path(place) / name for name in pair)
        start = time.process_time()
        model = acclimate.fit(source, target_data=target, output_dir=Path(place) / "run", seed=seed, quiet=True)
        seconds = time.process_time() - start
        scores = model.evaluate(target)
    accuracy = scores.estimates["accuracy"]
    return {"picked": model.predictor.strategy, "accuracy": accuracy.value, "n": accuracy.n, "seconds": round(seconds)}


def write(folder: Path, pixels: Any, labels: Any) -> None:
    """CLASS/number.png."""
    from PIL import Image

    for i, (values, label) in enumerate(zip(pixels, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(values * 255).astype(np.uint8)).save(folder / str(label) / f"{i:05}.png")


def table(found: list[dict[str, Any]]) -> str:
    """Means with the 95 % t interval over seeds, the lowest, and what was picked."""
    lines = ["| source → target | seeds | picked | accuracy | lowest | seconds |", "|---" * 6 + "|"]
    for pair in dict.fromkeys(row["pair"] for row in found):
        rows = [row for row in found if row["pair"] == pair]
        values = [row["accuracy"] for row in rows]
        wide = half_width(values) if len(values) > 1 else 0.0
        picked = ", ".join(sorted({row["picked"] for row in rows}))
        seconds = statistics.median(row["seconds"] for row in rows)
        lines.append(
            f"| {pair} | {len(rows)} | {picked} | {statistics.mean(values):.3f} ±{wide:.3f} | {min(values):.3f} | "
            f"{seconds:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
