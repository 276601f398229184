"""Contrastive tuning against SetFit with its defaults, on the same backbone (minilm), rows and seeds.

Run: python benchmarks/fewshot.py [--shots 8,64] [--seeds N] [--cut STEPS] [--table]
Snippets of movies and Amazon (benchmarks/snippets.py), so many rows of each of two classes, judged on 600 others. The
probe alone stands beside. All sides in turn in one process, one thread, processor time from texts to a fitted head;
loading of the weights is not counted. With --cut SetFit is stopped after so many steps, its seconds scaled to all of
them and its answers not judged: with 64 rows a class it takes 520 steps. Needs `setfit`. Results are added to
benchmarks/results/fewshot.json as they come; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from snippets import snippets

from acclimate.backbones import load
from acclimate.catalogue import models
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "fewshot.json"
JUDGED = 600


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shots", default="8,64")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cut", type=int, default=0, help="steps of SetFit; 0: all")
    parser.add_argument("--table", action="store_true", help="show what has been run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    train, test = snippets(5000, 1500)
    test, labels = test.take(range(JUDGED)), np.array(train.labels)
    for shots in map(int, [] if arguments.table else arguments.shots.split(",")):
        for seed in range(arguments.seeds):
            key = f"2 x {shots}, seed {seed}"
            if key in found:
                continue
            rng = np.random.default_rng(seed)
            at = np.concatenate([rng.choice(np.flatnonzero(labels == c), shots, replace=False) for c in (0, 1)])
            few, row = train.take(at), {}
            sides = {"probe": ours("linear_probe"), "contrastive": ours("contrastive"), "setfit": setfit(arguments.cut)}
            for name, fit in sides.items():
                seconds, answers = fit(few, test, seed)
                right = None if answers is None else float((answers == np.array(test.labels)).mean())
                row[name] = {"seconds": round(seconds, 2), "accuracy": right}
            row["load"] = round(os.getloadavg()[0], 1)
            found[key] = row
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            print(key, row, flush=True)
    print(table(found))


def ours(strategy: str) -> Callable[[Data, Data, int], tuple[float, Any]]:
    """Seconds to fit, and answers."""

    def fit(few: Data, test: Data, seed: int) -> tuple[float, Any]:
        backbone = load("minilm").requires_grad_(False)
        _ = backbone.packing  # type: ignore[attr-defined]
        task, run = TASKS["classify"], Run(seed=seed)
        start = time.process_time()
        problem = Problem(task, task.decoder((0, 1), "int"), backbone, Store(backbone, run))
        fitted = named(strategy)[1].fit(problem, Splits(few), run)
        seconds = time.process_time() - start
        return seconds, fitted.task.decide(fitted.outputs(test.inputs, run), fitted.decoder)

    return fit


def setfit(cut: int) -> Callable[[Data, Data, int], tuple[float, Any]]:
    """The same of SetFit; where it is cut, seconds are scaled and there are no answers."""

    def fit(few: Data, test: Data, seed: int) -> tuple[float, Any]:
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments

        peer = SetFitModel.from_pretrained(str(models.pull("minilm")))
        rows = Dataset.from_dict({"text": list(few.inputs), "label": list(few.labels or ())})
        start = time.process_time()
        with tempfile.TemporaryDirectory() as place:
            arguments = TrainingArguments(
                output_dir=place, seed=seed, report_to=[], save_strategy="no", max_steps=cut or -1
            )
            Trainer(peer, arguments, train_dataset=rows).train()
        seconds = time.process_time() - start
        if cut:
            counts = np.bincount(np.array(few.labels))
            pairs = 2 * max(int((counts * (counts + 1) // 2).sum()), int(counts.prod()))  # as many unlike as alike
            return seconds * math.ceil(pairs / 16) / cut, None
        return seconds, np.asarray(peer.predict(list(test.inputs)))

    return fit


def table(found: dict[str, Any]) -> str:
    """Means over seeds, and ratios of times seed by seed."""
    lines = []
    for shots in sorted({int(key.split(",")[0].split()[-1]) for key in found}):
        rows = [row for key, row in found.items() if key.startswith(f"2 x {shots},")]
        judged = [r for r in rows if r["setfit"]["accuracy"] is not None]
        sides = ("probe", "contrastive", "setfit") if judged else ("probe", "contrastive")
        means = {n: statistics.mean(r[n]["accuracy"] for r in judged or rows) for n in sides}
        gaps = [r["contrastive"]["accuracy"] - r["setfit"]["accuracy"] for r in judged]
        ratios = [r["setfit"]["seconds"] / r["contrastive"]["seconds"] for r in rows]
        told = ", ".join(f"{n} {value:.3f}" for n, value in means.items())
        by_seed = ", ".join(f"{gap:+.3f}" for gap in gaps)
        lines += [
            f"2 x {shots} ({len(rows)} seeds): {told}",
            f"  contrastive less setfit {statistics.mean(gaps):+.4f} (by seed {by_seed})"
            if gaps
            else "  setfit not judged",
            f"  {statistics.median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
