"""A target that holds only some of the source's classes: source alone, dann, pada and iwan beside each other.

Run: python benchmarks/partial_sets.py [--data FOLDER] [--seeds S]
FOLDER holds fsdd. Spoken digits: five speakers are the source, of the sixth the digits 0 to 3 alone are the target (one
half without labels, the other half judged). Made-up points: ten Gaussians of which the target has four, in place or all
moved. Defaults of each strategy. Accuracy, mean over the seeds. Nothing was tuned on these.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from domains import Domain, Given, drawn, speakers

from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "partial_sets.json"
METHODS = {"source": ("dann", {"weight": 0.0}), "dann": ("dann", {}), "pada": ("pada", {}), "iwan": ("iwan", {})}
HERE = 4  # classes of the target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(given.seeds):
        for name, source, target in pairs(given.data, seed):
            parts = drawn(source, target.take(np.flatnonzero(target.y < HERE)), seed)
            for method in METHODS:
                found.setdefault(name, {}).setdefault(method, []).append(accuracy(method, *parts, seed))
            print(seed, name, {m: v[-1] for m, v in found[name].items()}, flush=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print("| target | " + " | ".join(METHODS) + " |\n" + "|---" * (len(METHODS) + 1) + "|")
    for name, values in found.items():
        print(f"| {name} | " + " | ".join(f"{statistics.mean(v):.3f}".lstrip("0") for v in values.values()) + " |")


def pairs(folder: Path, seed: int) -> Iterator[tuple[str, Domain, Domain]]:
    """Name, source, target with every class."""
    people = speakers(folder)
    for name in people:
        others = [d for other, d in people.items() if other != name]
        yield name, Domain(np.concatenate([d.x for d in others]), np.concatenate([d.y for d in others])), people[name]
    rng = np.random.default_rng(seed)
    for name, move in (("points in place", 0.0), ("points moved", 1.0)):
        sides = []
        for shift in (0.0, move):
            y = np.arange(1000) % 10
            x = rng.normal(size=(1000, 10)) + shift * (np.arange(10) % 3 - 1)
            x[np.arange(1000), y] += 3.0
            sides.append(Domain(x.astype(np.float32), y))
        yield name, *sides


def accuracy(method: str, source: Domain, seen: Domain, rest: Domain, seed: int) -> float:
    """On the half of the target that took no part."""
    name, settings = METHODS[method]
    backbone, task, learn = Given(source.x.shape[1]), TASKS["classify"], source.data()
    assert learn.labels is not None
    problem = Problem(task, task.decoder(learn.labels, "int"), backbone, Store(backbone, Run()))
    model = named(name, settings)[1].fit(problem, Splits(learn, None, seen.data()), Run(seed=seed))
    answers = task.decide(task.outputs(model.logits(list(rest.inputs())), model.decoder), model.decoder)
    return round(float((np.array(task.answers(answers, model.decoder)) == rest.y).mean()), 4)


if __name__ == "__main__":
    main()
