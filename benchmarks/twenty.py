"""The whole flow of `acclimate fit --target-data`: the verdict, the rows it asks to be labelled, and what they choose.

Run: OMP_NUM_THREADS=1 python benchmarks/twenty.py --data FOLDER (folders vader4, uci_sentences, heart and fsdd);
--table prints the results of the last run; --kind development|judged runs one part alone, --ways few leaves out what
only the rule as it was before needs (the dear ways at 20 labels). The pairs of verdict.py, at most 500 source rows; one
half of the target (of each class) is given without labels, and its rows may be asked for; the other half judges and is
untouched. Rows to label: "random" as label_these.csv holds them now, "apart" half where source_only and self_train
differ and half from the rest, with weights, "spread" as it held them before (label_next). Every way learns from all of
them for its accuracy, and is judged on them out of fold as the product does, to be chosen. Only the development pairs
of verdict.py took part in any choice; "judged" are all others. Results are added to benchmarks/results/twenty.json one
by one; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from few_labels import Fixed, Width
from pairs import Domain, digits, drawn, heart, sentences, speech
from scipy.stats import binomtest
from verdict import PAIRS

from acclimate.advise.crossfit import Trial, crossfit
from acclimate.advise.labels import NEEDS_EVERY_CLASS, OnTarget, asked_of, chosen_of, label_folds, missing_classes, once
from acclimate.api.deciding import ASK, DOUBT, candidates
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.metrics.differences import paired_shares
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, FEW_LABELS, STRATEGIES, Problem, Splits
from acclimate.tasks import TASKS
from acclimate.validate import decide, label_apart, label_next, settle

RESULTS = Path(__file__).parent / "results" / "twenty.json"
SOURCE = 500
DESIGNS, COUNTS = ("apart", "random", "spread"), (ASK, 50)
FREE = {"source_only": STRATEGIES["linear_probe"], "self_train": ADAPTATIONS["self_train"]}
LABEL_FREE = ("source_only", "standardise", "coral", "linear_ot", "self_train")  # regret is against the best of these
BEFORE = ("source_only", "self_train", "last_layer", "pooled", "augmented", "target_only")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kind", choices=("development", "judged"))
    parser.add_argument("--ways", choices=("all", "few"), default="all")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    path = arguments.results
    found = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        folder = Path(arguments.data)
        domains = {**sentences(folder), **heart(folder), **digits(), **speech(folder)}
        for seed, kind, source, target in jobs(arguments.seeds, arguments.kind):
            pair, flow = f"{source} → {target}", None
            for n, design in itertools.product(arguments.counts, DESIGNS):
                key = {"pair": pair, "seed": seed, "n": n, "design": design, "ways": arguments.ways}
                if any(key.items() <= row.items() for row in found["rows"]):
                    continue
                flow = flow or Flow(*drawn(domains, source, target, seed), seed, heart=source == "Cleveland")
                found["rows"].append({**key, "kind": kind, **flow.labelled(design, n, arguments.ways == "all")})
                found |= {"load": os.getloadavg()[0], "threads": 1}
                path.write_text(json.dumps(found, indent=0))
                print(seed, pair, n, design, found["rows"][-1]["chosen"], flush=True)
    print(table(found["rows"]))


def jobs(seeds: int, only: str | None) -> Iterator[tuple[int, str, str, str]]:
    """Seed, kind, source and target of every run."""
    for seed, part in itertools.product(range(seeds), PAIRS):
        kind = "development" if part == "development" else "judged"
        for source, target in PAIRS[part] if only in (None, kind) else ():
            yield seed, kind, source, target


class Flow:
    """One pair and seed: source rows, target rows that may be labelled, target rows that judge; verdict and models."""

    def __init__(self, source: Domain, target: Domain, seed: int, *, heart: bool) -> None:
        n, self.heart, self.run = min(SOURCE, len(source.y)), heart, Run(seed=seed)
        source, rng = source.take(np.arange(n)), np.random.default_rng(seed)
        self.x = np.concatenate([source.x, target.x]).astype(np.float32)
        self.y = np.concatenate([source.y, target.y])
        halves = [np.array_split(rng.permutation(np.flatnonzero(target.y == k)), 2) for k in np.unique(target.y)]
        self.pool, self.judge = (n + rng.permutation(np.concatenate(h)) for h in zip(*halves, strict=True))
        task, backbone = TASKS["classify"], Width(self.x.shape[1])
        classes = tuple(sorted({int(v) for v in source.y}))
        store: Any = Fixed(backbone, self.x)
        self.problem = Problem(task, task.decoder(classes, "int"), backbone, store)  # type: ignore[arg-type]
        train, unlabelled = self.data(np.arange(n)), self.data(self.pool, labels=False)
        self.splits = Splits(train, target=unlabelled)
        self.made, self.rows = candidates(self.problem, train, unlabelled, self.run)
        self.verdict = decide(self.made, self.rows)
        self.free = {name: strategy.fit(self.problem, self.splits, self.run) for name, strategy in FREE.items()}
        self.accuracy = {c.name: 0.0 for c in self.made}
        for c in self.made:  # the maps as they came; the two that are chosen from are fitted on all source rows
            fitted = self.free.get(c.name) or ADAPTATIONS[c.name].fit(self.problem, self.splits, self.run)
            self.accuracy[c.name] = self.share(fitted)

    def data(self, at: Any, weights: Any = None, *, labels: bool = True) -> Data:
        """Rows by number."""
        names = tuple(int(v) for v in self.y[at]) if labels else None
        return Data(tuple(map(str, at)), names, weights=weights, clusters=np.asarray(at))

    def logits(self, fitted: Any, at: Any) -> Any:
        """Of rows by number."""
        return fitted.head(torch.from_numpy(self.x[at])).detach().numpy()

    def share(self, fitted: Any) -> float:
        """Of right answers on the rows that judge."""
        return float((self.logits(fitted, self.judge).argmax(1) == self.y[self.judge]).mean())

    def asked(self, design: str, n: int) -> tuple[Any, Any]:
        """Places in the pool of the rows to label, and their weights, if any."""
        both = {c.name: c.target for c in self.made}
        n = min(n, len(self.pool))
        if design == "random":
            return np.random.default_rng([self.run.seed, n]).choice(len(self.pool), n, replace=False), None
        if design == "spread":
            other = self.made[self.verdict.pick.at or -1]
            return label_next(self.rows.target, [self.made[0].target, other.target], n, seed=self.run.seed), None
        return label_apart(self.rows.target, both["source_only"], both["self_train"], n, seed=self.run.seed, apart=0.5)

    def labelled(self, design: str, n: int, every: bool) -> dict[str, Any]:
        """Answers out of fold and accuracy of every way that n labels of this design allow, and the one chosen."""
        places, weights = self.asked(design, n)
        at = self.pool[places]
        few = self.data(at, weights)
        trials = [once(name, strategy, self.problem, self.splits, few, self.run) for name, strategy in FREE.items()]
        accuracy, lacking, chosen = dict(self.accuracy), missing_classes(self.problem, few), "source_only"
        try:
            pairs = label_folds(few, "classify", self.run.seed)
            for name, way in FEW_LABELS.items():
                if (lacking and name in NEEDS_EVERY_CLASS) or not (asked_of(name, n) or (every and design != "apart")):
                    continue
                trials.append(crossfit(name, OnTarget(way, self.splits), self.problem, few, pairs, self.run, True))
                splits = Splits(self.splits.train, target=self.splits.target, target_labelled=few)
                accuracy[name] = self.share(way.fit(self.problem, splits, self.run))
            some = [t for t in trials if t.name in FREE or asked_of(t.name, n)]
            chosen = chosen_of(self.problem, few, "accuracy", some)[0].name
        except UserError as error:  # all of one class: more are to be labelled
            print(error)
        told = settle(trials[0].logits, trials[1].logits, self.y[at])
        return {
            "answer": self.verdict.answer, "pick": self.verdict.pick.name, "chosen": chosen, "accuracy": accuracy,
            "right": {t.name: "".join(map(str, (t.logits.argmax(1) == self.y[at]).astype(int))) for t in trials},
            "weights": None if weights is None else [round(float(w), 4) for w in weights],
            "before": before(trials, self.y[at]), "wins": told.wins, "losses": told.losses,
            "heart": self.heart, "judged": len(self.judge),
        }  # fmt: skip


def before(trials: list[Trial], y: Any) -> str:
    """The choice as it was: of the best and all within one standard error of it the one nearest to the source."""
    known = {t.name: (t.logits.argmax(1) == y).astype(float) for t in trials if t.name in BEFORE}
    best = max(known, key=lambda name: known[name].mean())
    for name, right in known.items():
        gap, interval = paired_shares(known[best], right)
        if name == best or (interval is not None and gap <= (interval.high - interval.low) / (2 * 1.96)):
            return name
    return best


def ways_of(n: int, design: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What could be done with n labels of this design: name -> the way taken in a row."""
    some = [r for r in rows if (r["n"], r["design"]) == (n, design)]
    found: dict[str, Any] = {f"{n} rows, {design}: the contest": lambda r: r["chosen"]}
    found[f"{n} rows, {design}: sign test, else source-only"] = by_test
    if all(r["ways"] == "all" for r in some) and design != "apart":
        found[f"{n} rows, {design}: as it was chosen before"] = lambda r: r["before"]
    else:
        found[f"{n} rows, {design}: one standard error, without the dear ways"] = lambda r: r["before"]
    return found


def by_test(row: dict[str, Any]) -> str:
    """Self-training where the exact sign test is for it, else the source alone."""
    return "self_train" if row["wins"] > row["losses"] and p_of(row) <= DOUBT else "source_only"


def p_of(row: dict[str, Any]) -> float:
    """Of the two-sided exact sign test."""
    both = row["wins"] + row["losses"]
    return float(binomtest(row["wins"], both).pvalue) if both else 1.0


def lost(row: dict[str, Any], way: str) -> tuple[float, float, float]:
    """Points: accuracy, less than the best candidate's of those without labels, gain over the source alone."""
    accuracy = row["accuracy"]
    best = max(accuracy[name] for name in LABEL_FREE)
    return 100 * accuracy[way], 100 * (best - accuracy[way]), 100 * (accuracy[way] - accuracy["source_only"])


def table(rows: list[dict[str, Any]]) -> str:
    """For each kind of pair what each way of choosing gave; then each pair; then how often the sign test was right."""
    lines = []
    for kind, ways in itertools.product(("development", "judged"), ("all", "few")):
        part = [r for r in rows if (r["kind"], r["ways"]) == (kind, ways)]
        if not part:
            continue
        runs = len({(r["pair"], r["seed"]) for r in part})
        lines += ["", f"{kind}, {runs} runs ({ways} ways)", "",
                  "| way | runs | accuracy | regret: mean, worst | gain: mean, worst | harmed by > 1 point |",
                  "|---" * 6 + "|"]  # fmt: skip
        first = [r for r in part if (r["n"], r["design"]) == (ASK, "apart")]
        taken = {f"always {name}": (first, lambda r, name=name: name) for name in FREE}
        taken["the verdict without labels"] = (first, without_labels)
        for n, design in dict.fromkeys((r["n"], r["design"]) for r in part):
            some = [r for r in part if (r["n"], r["design"]) == (n, design)]
            taken |= {label: (some, way) for label, way in ways_of(n, design, part).items()}
            if (n, design) == (ASK, "apart"):
                taken["20 rows, apart, where the verdict is not decidable alone"] = (some, flow)
        for label, (some, way) in taken.items():
            points = np.array([lost(r, way(r)) for r in some])
            lines.append(
                f"| {label} | {len(some)} | {points[:, 0].mean():.1f} | {points[:, 1].mean():+.1f}, "
                f"{points[:, 1].max():.1f} | {points[:, 2].mean():+.1f}, {points[:, 2].min():+.1f} | "
                f"{int((points[:, 2] < -1).sum())} |"
            )
        lines += ["", *settled(part)]
        lines += ["", *by_pair(first)]
    return "\n".join(lines)


def without_labels(row: dict[str, Any]) -> str:
    """The pick where the verdict says so, else the source alone."""
    return str(row["pick"]) if row["answer"] == "adapt" else "source_only"


def flow(row: dict[str, Any]) -> str:
    """As it was: labels were asked for where the verdict is not decidable, and there alone."""
    return str(row["chosen"]) if row["answer"] == "not decidable" else without_labels(row)


def settled(rows: list[dict[str, Any]]) -> list[str]:
    """How often the sign test between source_only and self_train decided, and how often rightly."""
    lines = ["| rows | decided | right | wrong by > 1 point | not decidable |", "|---" * 5 + "|"]
    for n, design in dict.fromkeys((r["n"], r["design"]) for r in rows):
        some = [r for r in rows if (r["n"], r["design"]) == (n, design)]
        said = [r for r in some if p_of(r) <= DOUBT]
        true = [(r["accuracy"]["self_train"] - r["accuracy"]["source_only"]) * np.sign(r["wins"] - r["losses"])
                for r in said]  # fmt: skip
        right, wrong = sum(t > 0 for t in true), sum(t < -0.01 for t in true)
        lines.append(f"| {n}, {design} | {len(said)} | {right} | {wrong} | {len(some) - len(said)} |")
    return lines


def by_pair(rows: list[dict[str, Any]]) -> list[str]:
    """Means over seeds, of the rows of label_these.csv."""
    lines = ["| pair | source_only | self_train | chosen with 20 labels | accuracy of it | wins : losses |",
             "|---" * 6 + "|"]  # fmt: skip
    for pair in dict.fromkeys(r["pair"] for r in rows):
        some = [r for r in rows if r["pair"] == pair]
        mean = [np.mean([r["accuracy"][r["chosen"] if n == "chosen" else n] for r in some])
                for n in ("source_only", "self_train", "chosen")]  # fmt: skip
        names = ", ".join(r["chosen"] for r in some)
        counts = ", ".join(f"{r['wins']} : {r['losses']}" for r in some)
        lines.append(f"| {pair} | {mean[0]:.3f} | {mean[1]:.3f} | {names} | {mean[2]:.3f} | {counts} |")
    return lines


if __name__ == "__main__":
    main()
