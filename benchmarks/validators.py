"""Choosing among label-free candidates on real pairs without a target label: validators, alone and together.

Run: OMP_NUM_THREADS=1 python benchmarks/validators.py --data FOLDER (folders vader4, uci_sentences and heart); --table
prints the results of the last run. The make-up of the ensemble was set on the development pairs; the others judge it.
(`neighbour_agreement` came later, when all of them were known.) Labels of the target are used for scoring alone.
Accuracy; balanced accuracy for heart. Results are added to benchmarks/results/validators.json pair by pair; a run that
is cut off goes on; for validators that are new the candidates are fitted again, and "refit" is how far the accuracy of
any of them then is from that of the first time. Whether to adapt at all is another question: verdict.py.
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
from kept import Kept
from pairs import Domain, candidates, digits, drawn, heart, sentences

from acclimate.validate import ENSEMBLE, VALIDATORS, Candidate, Rows, score
from acclimate.validate.pick import ranks

RESULTS = Path(__file__).parent / "results" / "validators.json"
DEVELOPMENT = [
    ("movie", "tweets"), ("yelp", "imdb"), ("digits", "MNIST"),
    ("movie", "tweets, skewed"), ("yelp", "imdb, skewed"), ("digits", "MNIST, skewed"),
]  # fmt: skip
JUDGED = [
    ("movie", "products"), ("amazon", "yelp"), ("tweets", "NYT"),
    ("Cleveland", "Hungary"), ("Cleveland", "VA Long Beach"), ("Cleveland", "Switzerland"),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")  # a path of logistic regressions says where it stopped early
        run(Path(arguments.data), arguments.seeds, kept)
    print(tables(kept.rows))


def run(folder: Path, seeds: int, kept: Kept) -> None:
    domains = {**sentences(folder), **heart(folder), **digits()}
    known = {(row["pair"], row["seed"]): row for row in kept.rows}
    for seed, (source, target) in itertools.product(range(seeds), DEVELOPMENT + JUDGED):
        old = known.get((f"{source} → {target}", seed))
        new = [name for name in VALIDATORS if old is None or name not in (*old["scores"], *old.get("silent", ()))]
        if not new:
            continue
        row = one(domains, source, target, seed, new)
        if old is not None:
            old["refit"] = max(abs(v - old["accuracy"][name]) for name, v in row["accuracy"].items())
            old["scores"] |= row["scores"]
            old["silent"] = [*old.get("silent", ()), *row["silent"]]
        said = f"{seed} {source} {target} done {(old or {}).get('refit', '')}"
        kept.add(*([row] if old is None else []), say=said, load=os.getloadavg()[0], threads=1)


def one(domains: dict[str, Domain], source: str, target: str, seed: int, validators: list[str]) -> dict[str, Any]:
    """A quarter of the source rows is held out for the validators; the target's rows are all seen without labels."""
    ours, theirs = drawn(domains, source, target, seed)
    learn = len(ours.y) * 3 // 4
    held = ours.take(slice(learn, None))
    made = [Candidate(*m) for m in candidates(ours.take(slice(0, learn)), held, theirs.x, seed)]
    scores = score(made, Rows(held.y, held.x, theirs.x, seed), validators)
    return {
        "pair": f"{source} → {target}",
        "seed": seed,
        "accuracy": {c.name: accuracy(c.target, theirs.y, source == "Cleveland") for c in made},
        "scores": {name: values.tolist() for name, values in scores.items()},
        "silent": [name for name in validators if name not in scores],  # had no answer for a candidate
    }


def accuracy(probabilities: Any, y: Any, balanced: bool) -> float:
    right = probabilities.argmax(1) == y
    return float(np.mean([right[y == k].mean() for k in np.unique(y)]) if balanced else right.mean())


def spearman(a: Any, b: Any) -> float:
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def chosen(row: dict[str, Any], names: tuple[str, ...]) -> tuple[Any, int]:
    """Mean ranks by these validators, and the place of the best."""
    scores = {v: np.array(row["scores"][v]) for v in names if v in row["scores"]}
    mean = ranks(scores, len(row["accuracy"]))
    return mean, int(np.argmax(np.round(mean, 9)))


def tables(rows: list[dict[str, Any]]) -> str:
    names = [f"{s} → {t}" for s, t in DEVELOPMENT]
    development = [r for r in rows if r["pair"] in names]
    natural = [r for r in development if "skewed" not in r["pair"]]
    judged = [r for r in rows if r["pair"] not in names]
    parts = (("development", natural), ("with skewed classes", development), ("judged", judged))
    lines = [
        "Rank correlation with true accuracy; regret (mean, worst) in points; pairs x seeds: "
        + ", ".join(f"{name} {len(part)}" for name, part in parts),
        "| chosen by | " + " | ".join(name for name, _ in parts) + " |",
        "|---|---|---|---|",
    ]
    ways: dict[str, tuple[str, ...]] = {**{v: (v,) for v in VALIDATORS}, "ensemble: " + " + ".join(ENSEMBLE): ENSEMBLE}
    for name, validators in ways.items():
        cells = []
        for _, every in parts:
            part = [r for r in every if any(v in r["scores"] for v in validators)]
            picks = [chosen(r, validators) for r in part]
            values = [np.array(list(r["accuracy"].values())) for r in part]
            rho = np.mean([spearman(p[0], v) for p, v in zip(picks, values, strict=True)])
            few = "" if len(part) == len(every) else f" ({len(part)} of {len(every)})"
            cells.append(
                f"{rho:+.2f}; " + regret([v.max() - v[p[1]] for p, v in zip(picks, values, strict=True)]) + few
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    fixed = list(rows[0]["accuracy"])
    for name in ["source-only", best_fixed(fixed, development), best_fixed(fixed, judged)]:
        cells = [regret([max(r["accuracy"].values()) - r["accuracy"][name] for r in part]) for _, part in parts]
        lines.append(f"| always {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", makeup(development, judged)])


def regret(values: list[float]) -> str:
    return f"{100 * np.mean(values):.1f}, {100 * np.max(values):.1f}"


def best_fixed(names: list[str], part: list[dict[str, Any]]) -> str:
    return max(names, key=lambda n: float(np.mean([r["accuracy"][n] for r in part])))


def makeup(development: list[dict[str, Any]], judged: list[dict[str, Any]]) -> str:
    """Sets of at most four validators by mean rank correlation on the development pairs: how the make-up was found."""
    found = []
    development, judged = ([r for r in part if set(VALIDATORS) <= set(r["scores"])] for part in (development, judged))
    for k in range(1, 5):
        for names in itertools.combinations(VALIDATORS, k):
            rho = [
                np.mean([spearman(chosen(r, names)[0], list(r["accuracy"].values())) for r in part])
                for part in (development, judged)
            ]
            found.append((rho[0], rho[1], " + ".join(names)))
    found.sort(reverse=True)
    lines = [f"{a:+.3f} (judged {b:+.3f}) {names}" for a, b, names in found[:5]]
    return "\n".join(["Best sets by rank correlation on the development pairs, skewed ones included:", *lines])


if __name__ == "__main__":
    main()
