"""Adaptation on frozen features without target labels: real pairs of domains x methods x seeds.

Run: python benchmarks/adapt.py --data FOLDER (with vader4, uci_sentences and heart in it). Texts are read by MiniLM, at
most 1,600 rows a domain drawn by the seed (uci sentences and hospitals have fewer: all are used, so that methods
without random numbers have no spread there); patients are their own columns. Every method gets the labelled source and
the unlabelled target and is scored on those target rows: accuracy, for hospitals balanced accuracy. source-only is the
linear probe (and the bottleneck with λ = 0); target-trained is the probe on target labels, by 5 folds. Defaults were
chosen on movie → tweets and yelp → imdb alone. Results are kept in benchmarks/results/adapt.json as they come, and what
is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from domains import Numbers, domain
from uci_sentences import interval

PAIRS = {  # the first two are those that defaults were chosen on
    "movie → tweets": ("vader", "movie", "tweets"),
    "yelp → imdb": ("uci", "yelp", "imdb"),
    "movie → Amazon": ("vader", "movie", "amazon"),
    "tweets → NYT": ("vader", "tweets", "nyt"),
    "amazon → yelp": ("uci", "amazon", "yelp"),
    "Cleveland → Hungary": ("heart", "cleveland", "hungary"),
    "Cleveland → VA": ("heart", "cleveland", "va"),
    "Cleveland → Switzerland": ("heart", "cleveland", "switzerland"),
}
RESULTS = Path(__file__).parent / "results" / "adapt.json"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", default="", help="some alone, with commas between")
    parser.add_argument("--out", default=str(RESULTS))
    parser.add_argument("--table", action="store_true", help="print the table of what has been run")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    if not arguments.table and not Path(arguments.data).is_dir():
        print(f"no folder {arguments.data}: showing the results of the last run")
    elif not arguments.table:
        run(Path(arguments.data), arguments.seeds, arguments.methods, out)
    print(table(json.loads(out.read_text())["scores"]))


def run(folder: Path, seeds: int, only: str, out: Path) -> None:
    import torch

    from acclimate.backbones import load
    from acclimate.catalogue import cache
    from acclimate.features import Store
    from acclimate.run import Run
    from acclimate.strategies import ADAPTATIONS, Problem
    from acclimate.strategies.adapt import Adapt
    from acclimate.strategies.probe import Probe
    from acclimate.strategies.selftrain import SelfTrain
    from acclimate.tasks import TASKS

    torch.set_num_threads(1)
    methods: dict[str, Any] = {
        "target-trained": Probe(),
        "source-only probe": Probe(),
        "source-only bottleneck": Adapt(weight=0.0),
        "per-domain probe": SelfTrain(rounds=0, standardise="per_domain"),
        **ADAPTATIONS,
    }
    chosen = [m for m in methods if m in only.split(",")] if only else list(methods)
    done: list[dict[str, Any]] = json.loads(out.read_text())["scores"] if out.is_file() else []
    seen = {(r["pair"], r["method"], r["seed"]) for r in done}
    task = TASKS["classify"]
    reader = load("minilm").requires_grad_(False)
    texts = Store(reader, Run(cache=cache.features()))
    for pair, (family, source, target) in PAIRS.items():
        for seed in range(seeds):
            left = [m for m in chosen if (pair, m, seed) not in seen]
            here, there = (domain(family, name, folder, seed) for name in (source, target))
            numbers = Numbers(len(here.inputs[0]))
            backbone, store = (numbers, Store(numbers, Run())) if family == "heart" else (reader, texts)
            problem = Problem(task, task.decoder((0, 1), "int"), backbone, store)
            for method in left:
                started = time.process_time()
                answers = answered(problem, methods[method], method == "target-trained", here, there, seed)
                score = scored(answers, np.array(there.labels), family == "heart")
                done.append(
                    {
                        "pair": pair, "method": method, "seed": seed, "n_source": len(here), "n_target": len(there),
                        "score": round(score, 4), "cpu_seconds": round(time.process_time() - started, 2),
                    }
                )  # fmt: skip
            about = {"threads": 1, "load_average": os.getloadavg()[0], "scores": done}
            out.write_text(json.dumps(about, indent=0, ensure_ascii=False))
        print(pair, "done", flush=True)


def answered(problem: Any, strategy: Any, on_target: bool, here: Any, there: Any, seed: int) -> Any:
    """The classes of the target rows; target labels are read by `on_target` alone, a fold at a time."""
    from acclimate.data.split import folds
    from acclimate.run import Run
    from acclimate.strategies import Splits

    run = Run(seed=seed)
    if not on_target:
        fitted = strategy.fit(problem, Splits(here, target=there), run)
        return problem.task.decide(fitted.outputs(there.inputs, run, problem.store), problem.decoder)
    answers = np.zeros(len(there), int)
    for learn, judge in folds(there, "classify", k=5, seed=seed):
        fitted = strategy.fit(problem, Splits(there.take(learn)), run)
        judged = fitted.outputs(there.take(judge).inputs, run, problem.store)
        answers[judge] = problem.task.decide(judged, problem.decoder)
    return answers


def scored(answers: Any, truth: Any, balanced: bool) -> float:
    """Accuracy, or the mean over classes of each one's."""
    right = answers == truth
    return float(np.mean([right[truth == k].mean() for k in np.unique(truth)]) if balanced else right.mean())


def table(rows: list[dict[str, Any]]) -> str:
    """Mean over seeds ± the half width of its 95 % t interval, and the mean processor time of a fit."""
    value = {(r["pair"], r["method"], r["seed"]): r for r in rows}
    methods = list(dict.fromkeys(r["method"] for r in rows))
    lines = ["| method | " + " | ".join(PAIRS) + " | CPU s |", "|---" * (len(PAIRS) + 2) + "|"]
    for method in methods:
        cells = []
        for pair in PAIRS:
            found = [value[pair, method, s]["score"] for s in range(100) if (pair, method, s) in value]
            mean, half = interval(found)
            cells.append(f"{mean:.3f} ± {half:.3f}" if len(found) > 1 else f"{mean:.3f}")
        seconds = np.mean([r["cpu_seconds"] for r in rows if r["method"] == method])
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {seconds:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
