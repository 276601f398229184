"""The verdict as `acclimate fit --target-data` forms it, on real pairs, and the model that is then handed back.

Run: OMP_NUM_THREADS=1 python benchmarks/verdict.py --data FOLDER (folders vader4, uci_sentences, heart and fsdd);
--table prints the results of the last run. The same candidates as the product's, on frozen features (minilm; pixels;
columns; spectral statistics; mobilenetv2), fitted on three quarters of
the source rows; what is taken is then fitted on all of them.
The rule and its thresholds were made on the pairs of kind "made on"; "new" pairs took no part in any choice and were
looked at once; "new, skewed" are such, of whose target five in six rows of the lower classes are left out. Labels of
the target score alone. Accuracy; balanced accuracy for heart disease. Results are added to
benchmarks/results/verdict.json pair by pair; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from features import adaptation
from kept import Kept
from pairs import Domain, digits_by, drawn, every_domain, mfcc, speech
from validators import accuracy

from acclimate.api.deciding import GENTLE, candidates
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, STRATEGIES, Splits
from acclimate.validate import decide

RESULTS = Path(__file__).parent / "results" / "verdict.json"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SITES = ("Cleveland", "Hungary", "VA Long Beach", "Switzerland")
PAIRS = {
    "made on": [
        ("movie", "tweets"), ("yelp", "imdb"), ("digits", "MNIST"),
        ("movie", "tweets, skewed"), ("yelp", "imdb, skewed"), ("digits", "MNIST, skewed"),
        ("movie", "products"), ("amazon", "yelp"), ("tweets", "NYT"),
        ("Cleveland", "Hungary"), ("Cleveland", "VA Long Beach"), ("Cleveland", "Switzerland"),
        *[(f"not {name}", name) for name in SPEAKERS],
    ],
    "new": [
        ("NYT", "tweets"), ("products", "tweets"), ("products", "NYT"), ("NYT", "products"), ("tweets", "movie"),
        ("tweets", "products"), ("NYT", "movie"), ("products", "movie"), ("movie", "NYT"),
        ("imdb", "yelp"), ("imdb", "amazon"), ("yelp", "amazon"), ("amazon", "imdb"),
        ("Hungary", "Cleveland"), ("Hungary", "VA Long Beach"), ("VA Long Beach", "Cleveland"),
        ("Hungary", "Switzerland"), ("VA Long Beach", "Switzerland"),
        ("MNIST", "digits"), ("george", "theo"), ("lucas", "jackson"),
    ],
    "new, skewed": [
        ("imdb", "yelp, skewed"), ("products", "movie, skewed"), ("amazon", "imdb, skewed"),
        ("MNIST", "digits, skewed"), ("not theo", "theo, skewed"), ("not lucas", "lucas, skewed"),
    ],
    "other features": [
        *[(f"not {name} (mfcc)", f"{name} (mfcc)") for name in SPEAKERS],
        ("digits (mobilenetv2)", "MNIST (mobilenetv2)"), ("MNIST (mobilenetv2)", "digits (mobilenetv2)"),
    ],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="targets between semicolons")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        folder = Path(arguments.data)
        kinds = {"mfcc": speech(folder, mfcc), "mobilenetv2": digits_by("mobilenetv2")}
        other = {f"{name} ({by})": domain for by, found_by in kinds.items() for name, domain in found_by.items()}
        domains = {**every_domain(folder), **other}
        for seed, kind in itertools.product(range(arguments.seeds), PAIRS):
            for source, target in PAIRS[kind]:
                wanted = arguments.only is None or target in arguments.only.split(";")
                pair = f"{source} → {target}"
                if wanted and not kept.has({"pair": pair, "seed": seed}):
                    row = one(*drawn(domains, source, target, seed), seed, balanced=source in SITES)
                    said = f"{seed} {pair} {row['answer']} {row['taken']}"
                    row = {"pair": pair, "kind": kind, "seed": seed, **row}
                    kept.add(row, say=said, load=os.getloadavg()[0], threads=1)
    print(table(kept.rows))


def one(source: Domain, target: Domain, seed: int, balanced: bool) -> dict[str, Any]:
    """Verdict, true accuracy of every candidate, and of what the product hands back, fitted on all source rows."""
    run, (problem, train, theirs) = Run(seed=seed), adaptation(source, target)
    made, rows = candidates(problem, train, theirs, run)
    verdict = decide(made, rows, gentle=GENTLE)

    def after(name: str) -> float:
        strategy = ADAPTATIONS[name] if name in ADAPTATIONS else STRATEGIES["linear_probe"]
        fitted = strategy.fit(problem, Splits(train, target=theirs), run)
        return accuracy(np.asarray(fitted.outputs(theirs.inputs, run, problem.store), float), target.y, balanced)

    alone = after(made[0].name)
    return {
        "accuracy": {c.name: accuracy(c.target, target.y, balanced) for c in made},
        "answer": verdict.answer, "best": verdict.best, "name": verdict.name, "values": verdict.values,
        "own": verdict.own, "moved": verdict.moved, "gain": verdict.gain, "alone": alone,
        "taken": alone if verdict.name == made[0].name else after(verdict.name),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """What is lost against the best candidate, what is gained, how often harm is done, in points; then every pair."""
    lines = ["| way | kind | regret: mean, worst | gain: mean, worst | harmed by > 1 point |", "|---" * 5 + "|"]
    ways = [*(f"always {name}" for name in rows[0]["accuracy"]), "the verdict"]
    for kind, way in itertools.product(PAIRS, ways):
        part = common([r for r in rows if r["kind"] == kind])
        if part:
            taken = [r["accuracy"][r["name"] if way == "the verdict" else way.removeprefix("always ")] for r in part]
            lost = [max(r["accuracy"].values()) - t for r, t in zip(part, taken, strict=True)]
            won = [t - r["accuracy"]["source_only"] for r, t in zip(part, taken, strict=True)]
            lines.append(
                f"| {way} | {kind} | {100 * np.mean(lost):.1f}, {100 * max(lost):.1f} | "
                f"{100 * np.mean(won):+.1f}, {100 * min(won):+.1f} | {sum(w < -0.01 for w in won)} of {len(part)} |"
            )
    lines += ["", "| pair | kind | adapt / not / undecided | candidates: source only | best | handed back, all rows: "
              "source only | taken | worst seed |", "|---" * 8 + "|"]  # fmt: skip
    for pair in dict.fromkeys(r["pair"] for r in rows):
        some = [r for r in rows if r["pair"] == pair]
        answers = [sum(r["answer"] == a for r in some) for a in ("adapt", "do not adapt", "not decidable")]
        best, alone = (
            np.mean([f(r["accuracy"]) for r in some]) for f in (lambda a: max(a.values()), lambda a: a["source_only"])
        )
        before, taken = (np.mean([r[k] for r in some]) for k in ("alone", "taken"))
        lines.append(
            f"| {pair} | {some[0]['kind']} | {' / '.join(map(str, answers))} | {alone:.3f} | {best:.3f} | "
            f"{before:.3f} | {taken:.3f} | {min(r['taken'] for r in some):.3f} |"
        )
    lines += ["", f"| kind | {' | '.join(('adapt: right (gain), harmed', 'estimated gain off by: median, 90 %'))} |",
              "|---" * 3 + "|"]  # fmt: skip
    for kind in PAIRS:
        part = common([r for r in rows if r["kind"] == kind])
        won = [r["accuracy"][r["name"]] - r["accuracy"]["source_only"] for r in part if r["answer"] == "adapt"]
        off = [
            abs(r["accuracy"][r["best"]] - r["accuracy"]["source_only"] - r["gain"])
            for r in part if r["best"] != "source_only"
        ]  # fmt: skip
        if won and off:
            lines.append(
                f"| {kind} | {sum(w > 0 for w in won)} ({100 * np.mean(won):+.1f}), {sum(w < -0.01 for w in won)} of "
                f"{len(won)} | {100 * np.median(off):.1f}, {100 * np.quantile(off, 0.9):.1f} |"
            )
    return "\n".join(lines)


def common(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of seeds that most of the pairs here were run with: a mean over pairs weighs them alike."""
    pairs = {r["pair"] for r in rows}
    return [r for r in rows if 2 * len({o["pair"] for o in rows if o["seed"] == r["seed"]}) > len(pairs)]


if __name__ == "__main__":
    main()
