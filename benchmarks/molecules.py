"""Molecules through `rxn-albert`, beside Morgan fingerprints that need no transfer, with a linear head and with trees.

Run: OMP_NUM_THREADS=1 python benchmarks/molecules.py --data FOLDER (holds molecules/BBBP.csv, delaney-processed.csv and
tox21.csv; rdkit is needed); --table prints the results of the last run. Five seeds, each with its own fifth of the rows
held out, by scaffold (or, for two of the sets, at random, to see what that hides). Nothing was tuned on these rows: all
strategies are as they come, but that the defaults of `boosting` on fingerprints were looked at on BBBP (curves.py) and
ESOL. scikit-learn's forest has 200 trees on 2,048 bits, and is otherwise as it comes. Results are added to
benchmarks/results/molecules.json one by one; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import Kept
from scipy.stats import t as student

from acclimate.api.finish import Judged, judged_on, scores_of
from acclimate.api.prepare import Gate, Prepared, gather, prepare
from acclimate.backbones import load
from acclimate.data.molecules import fingerprints
from acclimate.data.rows import Columns
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "molecules.json"
TOX21 = ("NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma", "SR-ARE", "SR-ATAD5",
         "SR-HSE", "SR-MMP", "SR-p53")  # fmt: skip
SETS: dict[str, tuple[str, Any, str]] = {
    "BBBP": ("BBBP.csv", "BBBP", "roc_auc"),
    "ESOL": ("delaney-processed.csv", "measured log solubility in mols per litre", "rmse"),
    "Tox21": ("tox21.csv", TOX21, "roc_auc"),
}
FROZEN = ("fingerprints", "linear_probe", "hybrid")
PLAIN = (*FROZEN, "scikit-learn's forest", "forest", "boosting")
WAYS = (  # in order of what they cost
    ("BBBP", "scaffold", PLAIN), ("ESOL", "scaffold", PLAIN), ("BBBP", "random", PLAIN), ("ESOL", "random", PLAIN),
    ("Tox21", "scaffold", (*FROZEN, "forest", "boosting")), ("ESOL", "scaffold", ("lp_ft",)),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="one set")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        backbone = load("rxn-albert").requires_grad_(False).eval()
        for (name, split, ways), seed in itertools.product(WAYS, range(arguments.seeds)):
            key = {"set": name, "split": split, "seed": seed}
            left = [way for way in ways if not kept.has({**key, "way": way})]
            if not left or arguments.only not in (None, name):
                continue
            file, label, metric = SETS[name]
            run = Run(seed=seed, cache=Path("~/.cache/acclimate/features").expanduser())
            columns = Columns(label=label)
            sources = gather(Path(arguments.data) / "molecules" / file, columns, None, Gate(split=split))
            prepared = prepare(sources, None, Gate(split=split), run)
            task = TASKS[prepared.task]
            problem = Problem(task, task.decoder(prepared.train.labels or (), "str"), backbone, Store(backbone, run))
            for way in left:
                began = time.process_time()
                judged = (forest if way == PLAIN[3] else fitted)(way, prepared, problem, run)
                scores = scores_of(judged, task, problem.decoder, metric, seed)
                row = {**key, "way": way, "metric": metric, "value": scores.value, "low": scores.low,
                       "high": scores.high, "n": scores.n, "cpu": time.process_time() - began}  # fmt: skip
                kept.add(row, threads=1, load=os.getloadavg()[0])
    print(table(kept.rows))


def fitted(way: str, prepared: Prepared, problem: Problem, run: Run) -> Judged:
    """A strategy as it comes, on the rows that were not held out."""
    assert prepared.test is not None
    predictor = named(way)[1].fit(problem, Splits(prepared.train), run)
    return judged_on(predictor, prepared.test, run, problem)


def forest(way: str, prepared: Prepared, problem: Problem, run: Run) -> Judged:
    """A random forest on the fingerprints."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    train, test, task = prepared.train, prepared.test, problem.task
    assert test is not None
    bits = [fingerprints(part.inputs).astype(np.float32) for part in (train, test)]
    y, truth = problem.targets(train), task.truth(test.labels or (), problem.decoder)
    if task.name == "regress":
        model = RandomForestRegressor(200, random_state=run.seed).fit(bits[0], y)
        outputs = model.predict(bits[1]) * problem.decoder.scale + problem.decoder.mean
        return Judged(test, truth, outputs, outputs)
    outputs = RandomForestClassifier(200, random_state=run.seed).fit(bits[0], y).predict_proba(bits[1])
    return Judged(test, truth, outputs, task.decide(outputs, problem.decoder))


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds with t intervals, and the paired differences to fingerprints with a linear head."""
    by: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for r in rows:
        by[r["set"], r["split"], r["way"]][r["seed"]] = r["value"]
    lines = ["| set | split | way | seeds | mean [95 %] | less fingerprints + linear |", "|---|---|---|---|---|---|"]
    for (name, split, way), values in by.items():
        base = by[name, split, "fingerprints"]
        both = [values[s] - base[s] for s in values if s in base]
        cells = interval(list(values.values())), "" if way == "fingerprints" else interval(both)
        lines.append(f"| {name} ({SETS[name][2]}) | {split} | {way} | {len(values)} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def interval(values: list[float]) -> str:
    """Mean and t interval over seeds: which rows were held out, and the seed of the fit."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{mean:.3f}"
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


if __name__ == "__main__":
    main()
