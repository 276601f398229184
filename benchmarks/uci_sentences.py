"""Every strategy against TF-IDF on three kinds of sentences (Amazon, IMDb, Yelp), at home and across, over seeds.

Each fit learns from 800 sentences of one kind and is judged on the other 200 of that kind and on all 1,000 of each
other. Run: python benchmarks/uci_sentences.py --data FOLDER (amazon_cells_labelled.txt, imdb_labelled.txt,
yelp_labelled.txt; UCI data set 331). Results are added to benchmarks/results/uci_sentences.json as they come, so that a
run that is cut off goes on where it was; what is there is not run again.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from intervals import half_width
from kept import Kept

KINDS = {"amazon": "amazon_cells_labelled.txt", "imdb": "imdb_labelled.txt", "yelp": "yelp_labelled.txt"}
STRATEGIES = ("tfidf", "centroid", "knn", "linear_probe", "ridge", "hybrid", "partial", "lora", "full", "lp_ft")
RESULTS = Path(__file__).parent / "results" / "uci_sentences.json"
EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data/uci_sentences")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--out", default=str(RESULTS), help="another file, so that two processes can share the work")
    parser.add_argument("--table", action="store_true", help="print the table of what has been run")
    arguments = parser.parse_args()
    if not arguments.table and not Path(arguments.data).is_dir():
        print(f"no folder {arguments.data}: showing the results of the last run")
    elif not arguments.table:
        run(
            Path(arguments.data),
            arguments.seeds,
            arguments.threads,
            arguments.strategies.split(","),
            Path(arguments.out),
        )
    print(table(Kept(RESULTS).rows))


def run(folder: Path, seeds: int, threads: int, strategies: list[str], out: Path) -> None:
    import torch

    from acclimate.backbones import load
    from acclimate.catalogue import cache
    from acclimate.data.read import read
    from acclimate.data.rows import Data
    from acclimate.features import Store
    from acclimate.run import Run
    from acclimate.strategies import Problem, Splits, named
    from acclimate.tasks import TASKS

    torch.set_num_threads(threads)
    kinds: dict[str, Data] = {}
    for kind, name in KINDS.items():
        read_table = read(folder / name)
        texts, labels = list(read_table.columns.values())
        assert len(texts) == 1000 and not any(read_table.problems), f"{name}: {len(texts)} rows"
        kinds[kind] = Data(tuple(map(str, texts)), tuple(int(str(y)) for y in labels))
    kept = Kept(out)
    backbone = load("minilm").requires_grad_(False)
    task = TASKS["classify"]
    decoder = task.decoder((0, 1), "int")
    store = Store(backbone, Run(cache=cache.features()))
    for seed in range(seeds):
        for strategy in strategies:
            for source, data in kinds.items():
                if kept.has({"strategy": strategy, "source": source, "seed": seed}):
                    continue
                order = np.random.default_rng(seed).permutation(len(data))
                train, test = data.take(order[200:]), data.take(order[:200])
                settings = {"num_train_epochs": EPOCHS} if strategy in ("partial", "lora", "full", "lp_ft") else None
                problem, started = Problem(task, decoder, backbone, store), time.monotonic()
                fitted = named(strategy, settings)[1].fit(problem, Splits(train), Run(seed=seed))
                seconds = time.monotonic() - started
                judged = []
                for target in kinds:
                    rows = test if target == source else kinds[target]
                    answers = task.decide(fitted.outputs(rows.inputs, Run(), store), decoder)
                    accuracy = float((answers == task.truth(rows.labels or (), decoder)).mean())
                    judged.append(
                        {
                            "strategy": strategy,
                            "source": source,
                            "target": target,
                            "seed": seed,
                            "n": len(rows),
                            "accuracy": accuracy,
                            "seconds": round(seconds, 1),
                        }
                    )
                kept.add(*judged, say=f"{seed} {strategy} {source} {seconds:.0f} s")


def table(rows: list[dict[str, Any]]) -> str:
    """Mean over seeds with its 95 % t interval, and the paired difference to TF-IDF."""
    pairs = [(s, t) for s in KINDS for t in KINDS]
    value = {(r["strategy"], r["source"], r["target"], r["seed"]): r["accuracy"] for r in rows}
    lines = ["| strategy | " + " | ".join(f"{s}→{t}" for s, t in pairs) + " |", "|---" * (len(pairs) + 1) + "|"]
    for strategy in STRATEGIES:
        cells = []
        for s, t in pairs:
            seeds = [k for k in range(100) if (strategy, s, t, k) in value and ("tfidf", s, t, k) in value]
            mean, half = interval([value[strategy, s, t, k] for k in seeds])
            cell = f"{mean:.3f} ± {half:.3f}" if seeds else ""
            if strategy != "tfidf" and seeds:
                gap, width = interval([value[strategy, s, t, k] - value["tfidf", s, t, k] for k in seeds])
                cell += f" ({gap:+.3f} ± {width:.3f})"
            cells.append(cell)
        lines.append(f"| {strategy} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and the half width of its 95 % interval over seeds."""
    n = len(values)
    if n < 2:
        return (values[0] if values else math.nan), math.nan
    return float(np.mean(values)), half_width(values)


if __name__ == "__main__":
    main()
