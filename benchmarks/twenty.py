"""The whole flow of `acclimate fit --target-data`: the verdict, the rows it asks to be labelled, and what they choose.

Run: OMP_NUM_THREADS=1 python benchmarks/twenty.py --data FOLDER (folders vader4, uci_sentences, heart and fsdd);
--table prints the results of the last run. The pairs of verdict.py, at most 500 source rows; one half of the target (of
each class) is given without labels, and 20 of its rows are labelled, drawn at random as label_these.csv holds
them; the other half judges and is untouched. Every way learns from all of them for its accuracy, and is judged on them
out of fold as the product does, to be chosen; beside them stands the adaptation that the verdict leads with. How many
rows make many, and which ways are run below that, were set on the first six pairs of "made on". Results are added to
benchmarks/results/twenty.json one by one; a run that is cut off goes on.
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
from features import problem_of
from kept import Kept
from pairs import Domain, drawn, every_domain
from scipy.stats import binomtest
from verdict import PAIRS, SITES

from acclimate.advise.crossfit import crossfit
from acclimate.advise.labels import NEEDS_EVERY_CLASS, OnTarget, asked_of, chosen_of, label_folds, missing_classes, once
from acclimate.api.deciding import ASK, DOUBT, GENTLE, beside_labels, candidates
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, FEW_LABELS, STRATEGIES, Splits
from acclimate.validate import decide, settle

RESULTS = Path(__file__).parent / "results" / "twenty.json"
SOURCE = 500
COUNTS = (ASK,)
KINDS = ("made on", "new", "new, skewed")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        domains = every_domain(Path(arguments.data))
        for seed, kind in itertools.product(range(arguments.seeds), KINDS):
            for source, target in PAIRS[kind]:
                key = {"pair": f"{source} → {target}", "seed": seed}
                if kept.has(key):
                    continue
                flow = Flow(*drawn(domains, source, target, seed), seed, balanced=source in SITES)
                rows = [{**key, "n": n, "kind": kind, **flow.labelled(n)} for n in COUNTS]
                said = {**key, "chosen": [row["chosen"] for row in rows]}
                kept.add(*rows, say=said, load=os.getloadavg()[0], threads=1)
    print(table(kept.rows))


class Flow:
    """One pair and seed: source rows, target rows that may be labelled, target rows that judge; verdict and models."""

    def __init__(self, source: Domain, target: Domain, seed: int, *, balanced: bool) -> None:
        n, self.balanced, self.run = min(SOURCE, len(source.y)), balanced, Run(seed=seed)
        source, rng = source.take(np.arange(n)), np.random.default_rng(seed)
        self.x = np.concatenate([source.x, target.x]).astype(np.float32)
        self.y = np.concatenate([source.y, target.y])
        halves = [np.array_split(rng.permutation(np.flatnonzero(target.y == k)), 2) for k in np.unique(target.y)]
        self.pool, self.judge = (n + rng.permutation(np.concatenate(h)) for h in zip(*halves, strict=True))
        self.problem = problem_of(self.x, sorted({int(v) for v in source.y}))
        train, unlabelled = self.data(np.arange(n)), self.data(self.pool, labels=False)
        self.splits = Splits(train, target=unlabelled)
        made, rows = candidates(self.problem, train, unlabelled, self.run)
        self.verdict = decide(made, rows, gentle=GENTLE)
        self.free = beside_labels(self.verdict)
        self.ways = {"source_only": STRATEGIES["linear_probe"], self.free: ADAPTATIONS[self.free]}
        self.accuracy = {
            c.name: self.share(
                (ADAPTATIONS | {"source_only": STRATEGIES["linear_probe"]})[c.name].fit(
                    self.problem, self.splits, self.run
                )
            )
            for c in made
        }

    def data(self, at: Any, *, labels: bool = True) -> Data:
        """Rows by number."""
        names = tuple(int(v) for v in self.y[at]) if labels else None
        return Data(tuple(map(str, at)), names, clusters=np.asarray(at))

    def share(self, fitted: Any) -> float:
        """Of right answers on the rows that judge."""
        logits = fitted.head(torch.from_numpy(self.x[self.judge])).detach().numpy()
        right, truth = logits.argmax(1) == self.y[self.judge], self.y[self.judge]
        return float(np.mean([right[truth == k].mean() for k in np.unique(truth)]) if self.balanced else right.mean())

    def labelled(self, n: int) -> dict[str, Any]:
        """Answers out of fold and accuracy of every way that n labels allow, and the one chosen."""
        n = min(n, len(self.pool))
        at = self.pool[np.random.default_rng([self.run.seed, n]).choice(len(self.pool), n, replace=False)]
        few = self.data(at)
        trials = [
            once(name, strategy, self.problem, self.splits, few, self.run) for name, strategy in self.ways.items()
        ]
        accuracy, lacking, chosen = dict(self.accuracy), missing_classes(self.problem, few), "source_only"
        try:
            pairs = label_folds(few, "classify", self.run.seed)
            for name, way in FEW_LABELS.items():
                if (lacking and name in NEEDS_EVERY_CLASS) or not asked_of(name, n):
                    continue
                trials.append(crossfit(name, OnTarget(way, self.splits), self.problem, few, pairs, self.run, True))
                splits = Splits(self.splits.train, target=self.splits.target, target_labelled=few)
                accuracy[name] = self.share(way.fit(self.problem, splits, self.run))
            chosen = chosen_of(self.problem, few, "accuracy", trials)[0].name
        except UserError as error:  # all of one class: more are to be labelled
            print(error)
        told = settle(trials[0].logits, trials[1].logits, self.y[at])
        return {
            "answer": self.verdict.answer, "name": self.verdict.name, "free": self.free, "chosen": chosen,
            "right": {t.name: "".join(map(str, (t.logits.argmax(1) == self.y[at]).astype(int))) for t in trials},
            "accuracy": accuracy, "wins": told.wins, "losses": told.losses, "judged": len(self.judge),
        }  # fmt: skip


def p_of(row: dict[str, Any]) -> float:
    """Of the two-sided exact sign test."""
    both = row["wins"] + row["losses"]
    return float(binomtest(row["wins"], both).pvalue) if both else 1.0


def by_test(row: dict[str, Any]) -> str:
    """The adaptation where the sign test is for it, the source alone where it is against it, else what was taken."""
    if p_of(row) > DOUBT:
        return str(row["name"])
    return str(row["free"]) if row["wins"] > row["losses"] else "source_only"


def table(rows: list[dict[str, Any]]) -> str:
    """For each kind of pair what each way of choosing gave; how often the sign test was right; then every pair."""
    lines = ["| kind | way | runs | accuracy | regret: mean, worst | gain: mean, worst | harmed by > 1 point |",
             "|---" * 7 + "|"]  # fmt: skip
    for kind in dict.fromkeys(r["kind"] for r in rows):
        first = [r for r in rows if (r["kind"], r["n"]) == (kind, ASK)]
        taken: dict[str, Any] = {
            f"always {n}": (first, lambda r, n=n: n) for n in ("source_only", "self_train", "shot")
        }
        taken["the verdict without labels"] = (first, lambda r: r["name"])
        for n in COUNTS:
            some = [r for r in rows if (r["kind"], r["n"]) == (kind, n)]
            taken[f"{n} labels: what is taken"] = (some, lambda r: r["chosen"])
            taken[f"{n} labels: the sign test, else the verdict"] = (some, by_test)
        for label, (some, way) in taken.items():
            points = np.array([lost(r, way(r)) for r in some])
            lines.append(
                f"| {kind} | {label} | {len(some)} | {points[:, 0].mean():.1f} | {points[:, 1].mean():+.1f}, "
                f"{points[:, 1].max():.1f} | {points[:, 2].mean():+.1f}, {points[:, 2].min():+.1f} | "
                f"{int((points[:, 2] < -1).sum())} |"
            )
    return "\n".join([*lines, "", *tested(rows), "", *by_pair([r for r in rows if r["n"] == ASK])])


def lost(row: dict[str, Any], way: str) -> tuple[float, float, float]:
    """Points: accuracy, less than the best candidate's of those without labels, gain over the source alone."""
    accuracy = row["accuracy"]
    best = max(v for name, v in accuracy.items() if name not in FEW_LABELS)
    return 100 * accuracy[way], 100 * (best - accuracy[way]), 100 * (accuracy[way] - accuracy["source_only"])


def tested(rows: list[dict[str, Any]]) -> list[str]:
    """How often the sign test between the source alone and the adaptation decided, and how often rightly."""
    lines = ["| labels | runs | decided | right | wrong by > 1 point |", "|---" * 5 + "|"]
    for n in COUNTS:
        some = [r for r in rows if r["n"] == n]
        said = [r for r in some if p_of(r) <= DOUBT]
        true = [(r["accuracy"][r["free"]] - r["accuracy"]["source_only"]) * np.sign(r["wins"] - r["losses"])
                for r in said]  # fmt: skip
        right, wrong = sum(t > 0 for t in true), sum(t < -0.01 for t in true)
        lines.append(f"| {n} | {len(some)} | {len(said)} | {right} | {wrong} |")
    return lines


def by_pair(rows: list[dict[str, Any]]) -> list[str]:
    """Means over seeds with 20 labels."""
    lines = ["| pair | kind | source only | the verdict | chosen with 20 labels | accuracy of it |", "|---" * 6 + "|"]
    for pair in dict.fromkeys(r["pair"] for r in rows):
        some = [r for r in rows if r["pair"] == pair]
        names = (lambda r: "source_only", lambda r: r["name"], lambda r: r["chosen"])
        mean = [np.mean([r["accuracy"][name(r)] for r in some]) for name in names]
        chosen = ", ".join(r["chosen"] for r in some)
        lines.append(f"| {pair} | {some[0]['kind']} | {mean[0]:.3f} | {mean[1]:.3f} | {chosen} | {mean[2]:.3f} |")
    return lines


if __name__ == "__main__":
    main()
