"""The verdict as `acclimate fit --target-data` forms it, on real pairs: adapt, do not adapt, or not decidable.

Run: OMP_NUM_THREADS=1 python benchmarks/verdict.py --data FOLDER (folders vader4, uci_sentences, heart and fsdd);
--table prints the results of the last run. The same candidates as the product's, on frozen features (minilm; pixels;
columns; spectral statistics). Thresholds were set on the development pairs with other candidates (validators.py), after
some "seen" pairs had been looked at; the "untouched" ones took no part in any choice. Labels of the target score alone.
Accuracy; balanced accuracy for heart. Results are added to benchmarks/results/verdict.json pair by pair; a run that is
cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from few_labels import Fixed, Width
from pairs import Domain, digits, drawn, heart, sentences, speech
from validators import accuracy

from acclimate.api.deciding import candidates
from acclimate.data.rows import Data
from acclimate.run import Run
from acclimate.strategies import Problem
from acclimate.tasks import TASKS
from acclimate.validate import agreement, decide
from acclimate.validate.verdict import CLEAR, OPTIMISM, answer_of

RESULTS = Path(__file__).parent / "results" / "verdict.json"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
PAIRS = {
    "development": [
        ("movie", "tweets"), ("yelp", "imdb"), ("digits", "MNIST"),
        ("movie", "tweets, skewed"), ("yelp", "imdb, skewed"), ("digits", "MNIST, skewed"),
    ],
    "seen": [
        ("movie", "products"), ("amazon", "yelp"), ("tweets", "NYT"),
        ("Cleveland", "Hungary"), ("Cleveland", "VA Long Beach"), ("Cleveland", "Switzerland"),
    ],
    "untouched": [(f"not {name}", name) for name in SPEAKERS],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"rows": []}
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        folder = Path(arguments.data)
        domains = {**sentences(folder), **heart(folder), **digits(), **speech(folder)}
        done = {(row["pair"], row["seed"]) for row in found["rows"]}
        for seed, kind in itertools.product(range(arguments.seeds), PAIRS):
            for source, target in PAIRS[kind]:
                if (f"{source} → {target}", seed) not in done:
                    row = one(*drawn(domains, source, target, seed), seed, balanced=source == "Cleveland")
                    found["rows"].append({"pair": f"{source} → {target}", "kind": kind, "seed": seed, **row})
                    found |= {"load": os.getloadavg()[0], "threads": 1}
                    RESULTS.write_text(json.dumps(found, indent=0))
                    print(seed, source, target, row["answer"], flush=True)
    print(table(found["rows"]))


def one(source: Domain, target: Domain, seed: int, balanced: bool) -> dict[str, Any]:
    """Verdict and true accuracy of every candidate."""
    n = len(source.y)
    x = np.concatenate([source.x, target.x]).astype(np.float32)
    task, backbone = TASKS["classify"], Width(x.shape[1])
    classes = tuple(sorted({int(v) for v in source.y}))
    problem = Problem(task, task.decoder(classes, "int"), backbone, Fixed(backbone, x))  # type: ignore[arg-type]

    def data(start: int, end: int, labels: tuple[int, ...] | None) -> Data:
        return Data(tuple(map(str, range(start, end))), labels, clusters=np.arange(start, end))

    train, theirs = data(0, n, tuple(int(v) for v in source.y)), data(n, len(x), None)
    made, rows = candidates(problem, train, theirs, Run(seed=seed))
    verdict = decide(made, rows)
    agrees = agreement(made)
    return {
        "accuracy": {c.name: accuracy(c.target, target.y, balanced) for c in made},
        "answer": verdict.answer, "pick": verdict.pick.name, "lead": verdict.lead, "moved": verdict.moved,
        "agreement gain": float(agrees[verdict.pick.at] - agrees[0]),
    }  # fmt: skip


def now(row: dict[str, Any]) -> str:
    """The answer by today's thresholds; the one in `row` is by those of the day of the run."""
    return answer_of(row["pick"], row["lead"], row["moved"])[0]


def gain(row: dict[str, Any]) -> float:
    return float(row["accuracy"][row["pick"]] - row["accuracy"]["source_only"])


def table(rows: list[dict[str, Any]]) -> str:
    """Regret against the best candidate in points (mean, worst), then every pair, then how wrong estimates were."""
    lines = ["| regret: mean, worst | " + " | ".join(PAIRS) + " | all |", "|---" * (len(PAIRS) + 2) + "|"]
    parts = [[r for r in rows if r["kind"] == kind] for kind in PAIRS] + [rows]
    ways: dict[str, Any] = {f"always {name}": name for name in rows[0]["accuracy"]}
    for label, name in {
        **ways,
        "the pick, whatever the verdict": "pick",
        f"the verdict (CLEAR {CLEAR:.2f})": now,
        "the verdict as first measured (CLEAR 0.30)": lambda r: r["answer"],
    }.items():
        cells = []
        for part in parts:
            lost = []
            for r in part:
                adapted = name == "pick" or (callable(name) and name(r) == "adapt")
                taken = r["pick"] if adapted else "source_only" if callable(name) else name
                lost.append(max(r["accuracy"].values()) - r["accuracy"][taken])
            cells.append(f"{100 * np.mean(lost):.1f}, {100 * np.max(lost):.1f}" if lost else "")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += ["", "| pair | kind | source only | best | adapt / not / undecided | gain of the pick | lead | moved |",
              "|---" * 8 + "|"]  # fmt: skip
    for pair in dict.fromkeys(r["pair"] for r in rows):
        some = [r for r in rows if r["pair"] == pair]
        answers = [sum(now(r) == a for r in some) for a in ("adapt", "do not adapt", "not decidable")]
        best = np.mean([max(r["accuracy"].values()) for r in some])
        alone = np.mean([r["accuracy"]["source_only"] for r in some])
        lines.append(
            f"| {pair} | {some[0]['kind']} | {alone:.3f} | {best:.3f} | "
            f"{' / '.join(map(str, answers))} | {', '.join(f'{100 * gain(r):+.1f}' for r in some)} | "
            f"{np.mean([r['lead'] for r in some]):.2f} | {np.mean([r['moved'] for r in some]):+.2f} |"
        )
    others = [r for r in rows if r["kind"] != "development"]
    for kind, part in zip([*PAIRS, "all", "all but development"], [*parts, others], strict=True):
        off = [abs(gain(r) - (r["agreement gain"] - OPTIMISM if r["pick"] != "source_only" else 0.0)) for r in part]
        over = [r["agreement gain"] - gain(r) for r in part if r["pick"] != "source_only"]
        adapt = np.array([gain(r) for r in part if now(r) == "adapt"])
        lines.append(
            f"{kind}: estimated gain off by {100 * np.median(off):.1f} in the median, nine in ten below "
            f"{100 * np.quantile(off, 0.9):.1f} points (agreement alone too high by {100 * np.mean(over):.1f}); "
            f"adapt {len(adapt)} of {len(part)}"
        )
        if len(adapt):
            lines[-1] += f", gain {100 * adapt.mean():+.1f}, worst {100 * adapt.min():+.1f}"
            lines[-1] += f"; {int((adapt < -0.01).sum())} lost more than a point"
    return "\n".join(lines)


if __name__ == "__main__":
    main()
