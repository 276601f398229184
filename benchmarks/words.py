"""A linear head on the TF-IDF words of few long texts, its penalty chosen on folds: seconds of the processor.

Run: OMP_NUM_THREADS=1 python benchmarks/words.py --data FOLDER (holds medical_abstracts); --table prints the results of
the last run. Medical abstracts of five conditions (words), some 180 words each, 8 to 400 of each condition, one draw.
`tfidf` and `hybrid` (words beside minilm's features, which are in the cache) as they come, the same without turning
the words into as many columns as there are rows, and scikit-learn's LogisticRegressionCV on the same words, folds and
penalties; one thread each. In turn, three rounds, of which the medians are told; the
last column is the largest difference of any probability that the turning made on 500 other abstracts. Results are
added to benchmarks/results/words.json one by one; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from curve_sets import SETS
from curves import drawn, read_as
from kept import Kept
from sklearn.linear_model import LogisticRegressionCV

from acclimate.data.rows import Data
from acclimate.model import Predictor
from acclimate.plain import fit_plain
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.strategies.probe import STRENGTHS, inner
from acclimate.train import solve

RESULTS = Path(__file__).parent / "results" / "words.json"
SHOTS, ROUNDS, JUDGED = (8, 32, 128, 400), 3, 500


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not asked.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        about = SETS["medical abstracts"]
        train, tests = about.read(Path(asked.data))
        problem, judged = read_as(about, train, Path(asked.data))[""], tests[""].take(range(JUDGED))
        for shots in SHOTS:
            for way in ("tfidf", "hybrid"):
                if not kept.has({"shots": shots, "way": way}):
                    row = {
                        "shots": shots,
                        "way": way,
                        **compared(problem, train.take(drawn(train, shots, 0)), judged, way),
                    }
                    kept.add(row, threads=1, load=round(os.getloadavg()[0], 1))
    print(table(kept.rows))


def compared(problem: Problem, few: Data, judged: Data, way: str) -> dict[str, Any]:
    """Seconds of each, in turn."""
    took: dict[str, list[float]] = {"ours": [], "not turned": [], "scikit-learn": []}
    answers: dict[str, Any] = {}
    words = 0
    most = solve._MOST_TURNED
    for _ in range(ROUNDS):
        for name, turned in (("ours", most), ("not turned", 0)):
            solve._MOST_TURNED = turned
            began = time.process_time()
            fitted: Predictor = named(way)[1].fit(problem, Splits(few), Run(seed=0))
            took[name].append(time.process_time() - began)
            answers[name] = fitted.outputs(judged.inputs)
            assert fitted.plain is not None
            words = fitted.plain.width
        solve._MOST_TURNED = most
        if way == "tfidf":
            took["scikit-learn"].append(peer(problem, few))
    gap = float(np.abs(answers["ours"] - answers["not turned"]).max())
    medians = {name: round(float(np.median(each)), 3) for name, each in took.items() if each}
    return {"learned": len(few), "words": words, **medians, "gap": gap}


def peer(problem: Problem, few: Data) -> float:
    """TF-IDF as ours, and the penalty by scikit-learn."""
    began = time.process_time()
    plain = fit_plain("text", few.inputs, 50_000)
    assert plain is not None
    folds = inner(few, "classify", 4, 0)
    LogisticRegressionCV(
        Cs=list(STRENGTHS), cv=folds, scoring="neg_log_loss", max_iter=1000, use_legacy_attributes=False
    ).fit(plain.transform(few.inputs), problem.targets(few).astype(int))
    return time.process_time() - began


def table(rows: list[dict[str, Any]]) -> str:
    """Medians."""
    lines = [
        "| a class | texts | words | way | ours | not turned | scikit-learn | probabilities differ by |",
        "|---" * 8 + "|",
    ]
    for r in rows:
        theirs = f"{r['scikit-learn']:.2f} s" if "scikit-learn" in r else ""
        seconds = f"{r['ours']:.2f} s | {r['not turned']:.2f} s | {theirs}"
        lines.append(f"| {r['shots']} | {r['learned']:,} | {r['words']:,} | {r['way']} | {seconds} | {r['gap']:.0e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
