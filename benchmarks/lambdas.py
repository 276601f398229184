"""Choosing λ, the seed and the stopping point of an adaptation without a target label, on real pairs.

Run: OMP_NUM_THREADS=1 python benchmarks/lambdas.py --data FOLDER (folders vader4, uci_sentences, heart and fsdd);
--table prints the results of the last run. The pairs of verdict.py on frozen features, without "other features". For
every pair and draw of rows each method is fitted on all source rows with λ at 0, 0.1, 0.3, 1 and 3 times its usual
value; `mcc` (every λ) and `shot` from three seeds, and `mcc` with its usual λ also for a quarter and a half of its
epochs. λ = 0 is the same bottleneck on the source alone (of `self_train`, a probe on standardised features). All target
rows are seen without labels, and all judge. Accuracy; balanced accuracy for heart disease. The rule of `--lambda auto`,
and for which methods it counts, were fixed on the pairs of kind "made on"; the others, in random order, were looked at
once, after that. Results are added to benchmarks/results/lambdas.json pair by pair; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from features import adaptation
from kept import Kept
from pairs import Domain, drawn, every_domain
from validators import accuracy
from verdict import PAIRS, SITES

from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, Splits, Strategy
from acclimate.validate import along

RESULTS = Path(__file__).parent / "results" / "lambdas.json"
KINDS = ("made on", "new", "new, skewed")
TIMES = (0.1, 0.3, 1.0, 3.0)  # the usual λ
SEEDS = (0, 1, 2)  # the draw's own, and two more
SHORT = (0.25, 0.5)  # of the usual number of epochs

# What is chosen between, the usual first. A name holds the method, how many times the usual λ, and the seed.
PATHS = {name: [f"{name} {t:g} 0" for t in (1.0, 0.1, 0.3, 3.0)] for name in ("mcc", "dann", "mmd", "self_train")}
NONE = {name: f"{'self_train' if name == 'self_train' else 'none'} 0 0" for name in PATHS}
CHOICES = {
    **{f"λ of {name}": [*path, NONE[name]] for name, path in PATHS.items()},
    "seed of mcc": [f"mcc 1 {s}" for s in SEEDS],
    "seed of shot": [f"shot 1 {s}" for s in SEEDS],
    "λ and seed of mcc": [f"mcc {t:g} {s}" for t in (1.0, 0.1, 0.3, 3.0) for s in SEEDS] + ["none 0 0"],
    "epochs of mcc": ["mcc 1 0", *(f"mcc@{share:g} 1 0" for share in SHORT)],
}
# On the pairs of kind "made on" no rule chose the others better than their usual values.
AFTER = ("λ of mcc", "seed of mcc", "λ and seed of mcc", "λ of self_train")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--only", choices=KINDS, help="pairs of this kind alone")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS, lines=True)
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        domains = every_domain(Path(arguments.data))
        for draw, kind in itertools.product(range(arguments.draws), [arguments.only] if arguments.only else KINDS):
            for source, target in np.random.default_rng(0).permutation(PAIRS[kind]).tolist():
                key = {"pair": f"{source} → {target}", "kind": kind, "draw": draw}
                if not kept.has(key):
                    choices = {what: c for what, c in CHOICES.items() if kind == "made on" or what in AFTER}
                    pair = drawn(domains, source, target, draw)
                    row = {**key, **one(*pair, draw, choices, balanced=source in SITES)}
                    kept.add(row, say={**key, "taken": row["taken"]})
    print(table(kept.rows))


def strategy_of(name: str, rows: int) -> Strategy:
    """Of a name of `CHOICES`; `rows` of the source."""
    method, times, _ = name.split()
    method, _, share = method.partition("@")
    usual: Any = ADAPTATIONS["mcc" if method == "none" else method]
    if share:
        return replace(usual, num_train_epochs=max(1, round(float(share) * usual.epochs(rows))))
    return replace(usual, weight=float(times) * usual.weight) if hasattr(usual, "weight") else usual


def one(
    source: Domain, target: Domain, draw: int, choices: dict[str, list[str]], *, balanced: bool
) -> dict[str, dict[str, Any]]:
    """True accuracy and κ of each fit; what the rule takes of each choice."""
    problem, train, theirs = adaptation(source, target)
    answers, right = {}, {}
    for name in dict.fromkeys(itertools.chain(*choices.values())):
        seed = int(name.split()[2])
        run = Run(seed=int(np.random.SeedSequence([draw, seed]).generate_state(1)[0]) if seed else draw)
        fitted = strategy_of(name, len(train)).fit(problem, Splits(train, target=theirs), run)
        said = np.asarray(fitted.outputs(theirs.inputs, run, problem.store), float)
        answers[name], right[name] = said.argmax(1), accuracy(said, target.y, balanced)
    found = {what: along([answers[n] for n in names], target.x, usual=0) for what, names in choices.items()}
    kappa = {n: v for what, names in choices.items() for n, v in zip(names, found[what].values, strict=True)}
    return {"accuracy": right, "kappa": kappa, "taken": {what: choices[what][f.at] for what, f in found.items()}}


# Ways to choose: the value of what a row's choice comes to. The best of equal ones is the first.
WAYS: dict[str, Callable[[dict[str, Any], str], float]] = {
    "the usual": lambda r, what: r["accuracy"][CHOICES[what][0]],
    "at random": lambda r, what: float(np.mean([r["accuracy"][n] for n in CHOICES[what]])),
    "λ = 0": lambda r, what: r["accuracy"][CHOICES[what][-1]],
    "the highest κ": lambda r, what: r["accuracy"][max(CHOICES[what], key=lambda n: round(r["kappa"][n], 9))],
    "the rule": lambda r, what: r["accuracy"][r["taken"][what]],
}


def table(rows: list[dict[str, Any]]) -> str:
    """Points lost against the best by labels, and gained over the usual."""
    lines = ["| choice | by | " + " | ".join(f"{k}: regret; over the usual" for k in KINDS) + " |", "|---" * 5 + "|"]
    for what, (way, value) in itertools.product(CHOICES, WAYS.items()):
        if way == "λ = 0" and "λ" not in what:
            continue
        cells = []
        for kind in KINDS:
            part = [r for r in rows if r["kind"] == kind and what in r["taken"]]
            if not part:
                cells.append("")
                continue
            taken = np.array([value(r, what) for r in part])
            best = np.array([max(r["accuracy"][n] for n in CHOICES[what]) for r in part])
            over = taken - [r["accuracy"][CHOICES[what][0]] for r in part]
            cells.append(
                f"{100 * np.mean(best - taken):.1f}, {100 * np.max(best - taken):.1f}; {100 * over.mean():+.1f}, "
                f"{100 * over.min():+.1f}"
            )
        lines.append(f"| {what} | {way} | " + " | ".join(cells) + " |")
    left = [(r, what) for r in rows for what, name in r["taken"].items() if name != CHOICES[what][0]]
    lines += ["", "| pair | choice | the usual | taken | |", "|---" * 5 + "|"]
    for r, what in left:
        usual, name = CHOICES[what][0], r["taken"][what]
        lines.append(f"| {r['pair']} | {what} | {r['accuracy'][usual]:.3f} | {r['accuracy'][name]:.3f} | {name} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
