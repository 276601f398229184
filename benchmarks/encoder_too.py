"""Where the verdict is to adapt by mcc: the frozen encoder that is then handed back, and the one that moves too.

Run: OMP_NUM_THREADS=1 python benchmarks/encoder_too.py --data FOLDER [--seeds 0,1] [--most 1000] [--only A>B,...]
(folders vader4 and uci_sentences); --table prints the results of the last run. Sentences of seven kinds through MiniLM,
drawn as in verdict.py. The verdict is formed as `acclimate fit --target-data` forms it; then on all rows the source
alone, mcc on frozen features, and lora with mcc, whatever the verdict was. Labels of the target score alone. That the
encoder moves was decided on the pairs "made on" (movie -> tweets and yelp -> imdb also in moved.py); the others were
looked at afterwards. Results are added to benchmarks/results/encoder_too.json one by one; a run that is cut goes on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from intervals import plus_minus
from kept import Kept
from pairs import Domain, drawn, sentences
from validators import accuracy

from acclimate.api.deciding import GENTLE, candidates
from acclimate.api.encoder_too import moving
from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, STRATEGIES, Problem, Splits, Strategy
from acclimate.tasks import TASKS
from acclimate.validate import decide
from acclimate.validate.neighbours import alike, neighbour_agreement

RESULTS = Path(__file__).parent / "results" / "encoder_too.json"
PAIRS = {
    "made on": ("yelp>imdb", "movie>tweets", "amazon>yelp", "movie>products"),
    "new": (
        "NYT>movie", "products>tweets", "tweets>products", "NYT>tweets", "products>movie", "NYT>products",
        "yelp>amazon", "imdb>amazon", "amazon>imdb", "imdb>yelp", "products>NYT", "tweets>NYT", "tweets>movie",
        "movie>NYT",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--most", type=int, default=1000, help="rows of each side")
    parser.add_argument("--only", help="pairs between commas")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS)
    if not asked.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        domains = sentences(Path(asked.data))
        pairs = asked.only.split(",") if asked.only else [pair for some in PAIRS.values() for pair in some]
        for seed, pair in itertools.product(map(int, asked.seeds.split(",")), pairs):
            key = {"pair": pair, "seed": seed, "most": asked.most}
            if not kept.has(key):
                ours, theirs = (
                    one.take(np.arange(min(asked.most, len(one.y)))) for one in drawn(domains, *pair.split(">"), seed)
                )
                kept.add({**key, **one(ours, theirs, seed)})
    print(table(kept.rows))


def one(ours: Domain, theirs: Domain, seed: int) -> dict[str, Any]:
    """The verdict, and the accuracy on the target of what could be handed back."""
    run = Run(seed=seed, progress=Progress(quiet=True), cache=cache.features())
    backbone, task = load("minilm"), TASKS["classify"]
    train = Data(tuple(ours.text), tuple(int(v) for v in ours.y))
    target = Data(tuple(theirs.text), None)
    problem = Problem(task, task.decoder(train.labels or (), "int"), backbone, Store(backbone, run))
    features = np.asarray(problem.store.get(target.inputs), float)
    made, rows = candidates(problem, train, target, run)
    verdict = decide(made, rows, gentle=GENTLE)
    ways: dict[str, Strategy] = {"alone": STRATEGIES["linear_probe"], GENTLE: ADAPTATIONS[GENTLE], "moved": moving()}
    result: dict[str, Any] = {"answer": verdict.answer, "name": verdict.name, "own": verdict.own}
    answers = {}
    for way, strategy in ways.items():
        start = time.process_time()
        fitted = strategy.fit(problem, Splits(train, target=target), run)
        p = np.asarray(fitted.outputs(target.inputs, run, problem.store), float)
        answers[way] = p.argmax(1)
        result |= {
            way: accuracy(p, theirs.y, False), f"κ of {way}": neighbour_agreement(p.argmax(1), features),
            f"minutes of {way}": round((time.process_time() - start) / 60, 2),
        }  # fmt: skip
    return result | {"moved like mcc": alike(answers[GENTLE], answers["moved"])}


def table(found: list[dict[str, Any]]) -> str:
    """Every pair, then what moving gained where the verdict was to adapt by mcc."""
    lines = ["| source → target | kind | seeds | rows | verdict | source alone | mcc, frozen | moves too | minutes |"]
    lines.append("|---" * 9 + "|")
    for pair, most in dict.fromkeys((row["pair"], row["most"]) for row in found):
        some = [row for row in found if (row["pair"], row["most"]) == (pair, most)]
        kind = next((kind for kind, pairs in PAIRS.items() if pair in pairs), "")
        answers = ", ".join(dict.fromkeys(f"{row['answer']} ({row['name']})" for row in some))
        cells = [plus_minus([row[way] for row in some]) for way in ("alone", GENTLE, "moved")]
        minutes = np.median([row["minutes of moved"] for row in some])
        lines.append(
            f"| {pair.replace('>', ' → ')} | {kind} | {len(some)} | {most:,} | {answers} | {' | '.join(cells)} | "
            f"{minutes:.1f} |"
        )
    for kind, pairs in PAIRS.items():
        some = [row for row in found if row["pair"] in pairs and row["name"] == GENTLE]
        for way in ("alone", GENTLE):
            each = [np.mean([r["moved"] - r[way] for r in some if r["pair"] == p]) for p in {r["pair"] for r in some}]
            if each:
                lines.append(
                    f"{kind}, adapt by mcc, {len(each)} pairs: moves too less {way} {100 * np.mean(each):+.1f} points, "
                    f"worst {100 * min(each):+.1f}, best {100 * max(each):+.1f}"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
