"""What n labels bought, as they tell it themselves, against the truth: bias and coverage of `advise.labels.bought`.

Run: OMP_NUM_THREADS=1 python benchmarks/few_labels_coverage.py --data FOLDER (folders vader4 and uci_sentences);
--table counts anew from the results of the last run. Each draw: 500 source rows and n labelled target rows at random,
two rounds of five folds, every way fitted on folds and on all n; all other target rows give the true gain of the way
that is told. Results are added to benchmarks/results/few_labels_coverage.json; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from features import problem_of
from pairs import Domain, sentences

from acclimate.advise.labels import asked_of, honest_gain, taken
from acclimate.data.rows import Data
from acclimate.data.split import folds
from acclimate.run import Run
from acclimate.strategies import FEW_LABELS, Splits
from acclimate.strategies.probe import Probe

RESULTS = Path(__file__).parent / "results" / "few_labels_coverage.json"
PAIRS = [("movie", "tweets"), ("yelp", "imdb"), ("tweets", "NYT")]
COUNTS, ROUNDS, SOURCE = (20, 50), 2, 500
WAYS = ("source_only", "last_layer", "pooled", "augmented", "target_only")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--draws", type=int, default=17)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"draws": []}
    if not arguments.table:
        torch.set_num_threads(1)
        domains = sentences(Path(arguments.data))
        done = {(d["pair"], d["n"], d["seed"]) for d in found["draws"]}
        for seed, (source, target), n in itertools.product(range(arguments.draws), PAIRS, COUNTS):
            key = (f"{source} → {target}", n, seed)
            if key not in done:
                right, truth = one(domains[source], domains[target], n, seed)
                found["draws"].append(
                    {"pair": key[0], "n": n, "seed": seed, "right": right.astype(int).tolist(), "accuracy": truth}
                )
                RESULTS.write_text(json.dumps(found))
                print(*key, flush=True)
    print(table(found["draws"]))


def one(source: Domain, target: Domain, n: int, seed: int) -> tuple[Any, list[float]]:
    """Right answers on rows left out (ways, n), and true accuracies."""
    rng = np.random.default_rng([seed, n])
    at = rng.permutation(len(source.y))[:SOURCE]
    x = np.concatenate([source.x[at], target.x]).astype(np.float32)
    y = np.concatenate([source.y[at], target.y])
    problem = problem_of(x, (0, 1))

    def data(rows: Any) -> Data:
        return Data(tuple(map(str, rows)), tuple(int(v) for v in y[rows]), clusters=np.asarray(rows))

    def logits(fitted: Any, rows: Any) -> Any:
        return fitted.head(torch.from_numpy(x[rows])).detach().numpy()

    order = SOURCE + rng.permutation(len(target.y))
    few, test = order[:n], order[n:]
    train, labelled, run = data(np.arange(SOURCE)), data(few), Run(seed=seed)
    alone = Probe().fit(problem, Splits(train), run)
    right = [logits(alone, few).argmax(1) == y[few]]
    truth = [float((logits(alone, test).argmax(1) == y[test]).mean())]
    pairs = list(folds(labelled, "classify", k=5, seed=seed, repeats=ROUNDS))
    for name in WAYS[1:]:
        total = np.zeros((n, 2))
        for learn, judge in pairs:
            splits = Splits(train, target_labelled=labelled.take(learn))
            total[judge] += logits(FEW_LABELS[name].fit(problem, splits, run), few[judge])
        right.append(total.argmax(1) == y[few])
        fitted = FEW_LABELS[name].fit(problem, Splits(train, target_labelled=labelled), run)
        truth.append(float((logits(fitted, test).argmax(1) == y[test]).mean()))
    return np.array(right), truth


def table(draws: list[dict[str, Any]]) -> str:
    """Means over draws, in points."""
    lines = [
        "| pair | labels | draws | true gain of the chosen | plain difference: bias | told: bias | intervals that hold "
        "| mean width | say better than 0 |",
        "|---" * 9 + "|",
    ]
    every = {(d["pair"], d["n"]): [e for e in draws if (e["pair"], e["n"]) == (d["pair"], d["n"])] for d in draws}
    for (pair, n), some in {**every, ("all", 0): draws}.items():
        rows = []
        for d in some:
            run = [i for i, name in enumerate(WAYS) if not i or asked_of(name, d["n"])]  # those that the product runs
            right, accuracy = np.array(d["right"], float)[run], np.array(d["accuracy"])[run]
            chosen = taken(right, np.ones(right.shape[1]), right.shape[1])
            way = chosen or 1 + int(np.argmax(right[1:].mean(1)))
            told = honest_gain(right, range(len(run)), way, 0, np.arange(right.shape[1]))
            true = accuracy[way] - accuracy[0]
            assert told.value is not None and told.low is not None and told.high is not None
            plain = right[way].mean() - right[0].mean()
            rows.append(
                (accuracy[chosen] - accuracy[0], plain - true, told.value - true,
                 told.low <= true <= told.high, told.high - told.low, told.low > 0)
            )  # fmt: skip
        mean = np.array(rows, float).mean(0)
        held, better = (int(sum(r[i] for r in rows)) for i in (3, 5))
        lines.append(
            f"| {pair} | {n or ''} | {len(rows)} | {100 * mean[0]:+.1f} | {100 * mean[1]:+.1f} | {100 * mean[2]:+.1f} "
            f"| {held} | {100 * mean[4]:.0f} | {better} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
