"""Whether masked language modelling on the target's texts before tuning pays: accuracy there, with it and without.

Two pairs: yelp -> imdb (UCI data set 331; 1,000 sentences each) and movie -> tweets (vader4; at most `--most` of each).
Tuning takes 3 epochs of source rows; pretraining reads the target's texts without labels, the very ones that are judged
afterwards with labels (transductive). Nothing was chosen by these labels. Minutes are of processor time, one thread.
Run: python benchmarks/pretrain.py --data FOLDER [--seeds N] [--pairs yelp-imdb] [--strategies full,lora]. Results are
added to benchmarks/results/pretrain.json as they come; what is there is not run again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import raw
from kept import Kept

RESULTS = Path(__file__).parent / "results" / "pretrain.json"
PAIRS = ("yelp-imdb", "movie-tweets")
EPOCHS, MOST = 3, 1600


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--strategies", default="full,lora")
    parser.add_argument("--ways", default="none,mlm")
    parser.add_argument("--most", type=int, default=MOST, help="rows of a kind")
    arguments = parser.parse_args()
    if Path(arguments.data).is_dir():
        asked = (part.split(",") for part in (arguments.pairs, arguments.strategies, arguments.ways))
        run(Path(arguments.data), arguments.seeds, *asked, arguments.most)
    print(table(Kept(RESULTS).rows))


def rows(folder: Path, pair: str, seed: int, most: int) -> tuple[Any, Any]:
    """Source and target."""
    from acclimate.data.rows import Data

    found = []
    for kind in pair.split("-"):
        if pair == "yelp-imdb":
            parts = raw.reviews(folder)[kind]
        else:
            parts = [(snippet.text, snippet.label) for snippet in raw.snippets(folder)[kind]]
        order = np.random.default_rng(seed).permutation(len(parts))[:most]
        found.append(Data(tuple(parts[i][0] for i in order), tuple(parts[i][1] for i in order)))
    return found[0], found[1]


def run(folder: Path, seeds: int, pairs: list[str], strategies: list[str], ways: list[str], most: int) -> None:
    import torch

    from acclimate.backbones import load
    from acclimate.features import Store
    from acclimate.progress import Progress
    from acclimate.run import Run
    from acclimate.strategies import Problem, Splits, named
    from acclimate.tasks import TASKS

    torch.set_num_threads(1)
    kept = Kept(RESULTS)
    backbone = load("minilm").requires_grad_(False)
    task = TASKS["classify"]
    decoder = task.decoder((0, 1), "int")
    for seed in range(seeds):
        for pair in pairs:
            source, target = rows(folder, pair, seed, most)
            for strategy in strategies:
                for way in ways:
                    key = {"pair": pair, "strategy": strategy, "pretrain": way, "seed": seed}
                    if kept.has(key):
                        continue
                    problem = Problem(task, decoder, backbone, Store(backbone, Run()))
                    made = named(strategy, {"num_train_epochs": EPOCHS, "pretrain": way, "mixed_precision": "no"})[1]
                    start, progress = time.process_time(), Progress(quiet=True)
                    fitted = made.fit(problem, Splits(source, target=target), Run(seed=seed, progress=progress))
                    minutes = (time.process_time() - start) / 60
                    answers = task.decide(fitted.outputs(target.inputs, Run(progress=progress)), decoder)
                    accuracy = float((answers == task.truth(target.labels or (), decoder)).mean())
                    kept.add(
                        {
                            **key,
                            "source_rows": len(source),
                            "n": len(target),
                            "accuracy": accuracy,
                            "minutes": round(minutes, 2),
                            "notes": [note for note in fitted.notes if note.startswith("pretrained")],
                        }
                    )


def table(results: list[dict[str, Any]]) -> str:
    """Accuracy and minutes, a line each."""
    lines = ["| pair | strategy | pretrain | seed | rows judged | accuracy | minutes |", "|---" * 7 + "|"]
    for r in sorted(results, key=lambda r: (r["pair"], r["strategy"], r["seed"], r["pretrain"])):
        cells = [r[k] for k in ("pair", "strategy", "pretrain", "seed", "n")]
        lines.append("| " + " | ".join(map(str, [*cells, f"{r['accuracy']:.3f}", f"{r['minutes']:.1f}"])) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
