"""Spoken digits of five people, then a sixth, through whisper-tiny: every candidate without labels, and the verdict.

Run: OMP_NUM_THREADS=1 python benchmarks/speakers.py --data FOLDER [--seeds S] [--max-seconds T]; --table prints the
results of the last run. FOLDER holds fsdd: six speakers, ten digits, 50 takes of each, as sound files. A seed draws
1,600 recordings of five speakers; all 500 of the sixth are given without labels. The network stays as it is. As in
verdict.py candidates learn from three quarters of the source, and what the verdict takes is then fitted on all of it;
all are judged on all rows of the target. "target" learns from labels of a half of these rows and is judged on the
other half. Nothing was tuned on these features; the rule of the verdict was made on other features of the same six
pairs (mel bands). T is what whisper reads of a sound and fills with silence: 3 s is a tenth of the work of its 30, and
the recordings are shorter. Results are added to benchmarks/results/speakers.json one by one; a run that is cut off
goes on, and so does the reading of features, which are kept.
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from kept import Kept
from pairs import MOST
from sounds import SPEAKERS, digits
from validators import accuracy

from acclimate.api.deciding import GENTLE, candidates
from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, STRATEGIES, Problem, Splits, Strategy
from acclimate.tasks import TASKS
from acclimate.validate import decide

RESULTS = Path(__file__).parent / "results" / "speakers.json"
TAKES = 50


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--max-seconds", type=float, default=3.0)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, lines=True)
    if not asked.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        rows = digits(Path(asked.data), TAKES)
        backbone = load("whisper-tiny", seconds=asked.max_seconds)
        store = Store(backbone, Run(cache=cache.features()))
        for at in range(0, len(rows), 50):  # kept in the cache as they come
            store.get(rows.inputs[at : at + 50])
        problem = Problem(TASKS["classify"], TASKS["classify"].decoder(tuple(range(10)), "int"), backbone, store)
        for seed in range(asked.seeds):
            for name in SPEAKERS:
                key = {"target": name, "seed": seed, "seconds": asked.max_seconds}
                if not kept.has(key):
                    kept.add({**key, **one(problem, rows, name, seed)})
    print(table(kept.rows))


def one(problem: Problem, rows: Data, name: str, seed: int) -> dict[str, Any]:
    """The verdict, and shares of right answers: of each candidate, of the source alone and of what is taken."""
    run, order = Run(seed=seed), np.random.default_rng(seed).permutation(len(rows))
    there = np.array(rows.domains)[order] == name
    train, target = (replace(rows.take(at), domains=None) for at in (order[~there][:MOST], order[there]))
    truth, unlabelled = np.array(target.labels), replace(target, labels=None)
    made, judged = candidates(problem, train, unlabelled, run)
    verdict = decide(made, judged, gentle=GENTLE)

    def right(strategy: Strategy, splits: Splits, at: Any) -> float:
        fitted = strategy.fit(problem, splits, run)
        said = np.asarray(fitted.outputs(target.take(at).inputs, run, problem.store), float)
        return accuracy(said, truth[at], balanced=False)

    every, half = np.arange(len(target)), len(target) // 2
    probe, both = STRATEGIES["linear_probe"], Splits(train, target=unlabelled)
    alone = right(probe, both, every)
    return {
        "answer": verdict.answer, "name": verdict.name, "values": verdict.values,
        "accuracy": {c.name: accuracy(c.target, truth, balanced=False) for c in made},
        "alone": alone,
        "taken": right(ADAPTATIONS[verdict.name], both, every) if verdict.name in ADAPTATIONS else alone,
        "half": right(probe, both, every[half:]),
        "labelled": right(probe, Splits(target.take(every[:half])), every[half:]),
    }  # fmt: skip


def table(found: list[dict[str, Any]]) -> str:
    """Means over seeds, with the lowest of what is handed back."""
    names = list(found[0]["accuracy"])
    lines = [
        f"| target | read | adapt / not / undecided | {' | '.join(names)} | handed back: source only | taken | "
        "lowest | other half: source only | target |",
        "|---" * (len(names) + 8) + "|",
    ]
    for seconds, name in dict.fromkeys((r["seconds"], r["target"]) for r in found):
        some = [r for r in found if (r["seconds"], r["target"]) == (seconds, name)]
        answers = [sum(r["answer"] == a for r in some) for a in ("adapt", "do not adapt", "not decidable")]
        cells = [np.mean([r["accuracy"][n] for r in some]) for n in names]
        cells += [np.mean([r[k] for r in some]) for k in ("alone", "taken")]
        cells += [min(r["taken"] for r in some), *(np.mean([r[k] for r in some]) for k in ("half", "labelled"))]
        numbers = " | ".join(f"{cell:.3f}" for cell in cells)
        lines.append(f"| {name} | {seconds:g} s | {' / '.join(map(str, answers))} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
