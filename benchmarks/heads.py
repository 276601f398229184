"""The head alone, penalty chosen: acclimate against scikit-learn on the same cached features. CPU seconds, one thread.

Run: OMP_NUM_THREADS=1 python benchmarks/heads.py [--rounds 3] [--quick]. The main table: sentences of `vader` (movie
and amazon, |valence| > 0.5; the label is its sign) through `minilm`; every round draws other 5,000 of 10,000 to learn
from, the remaining 2,986 are held out. The rows for other sizes and for 20 classes are made features (for speed; their
labels follow a random linear rule with noise). scikit-learn is shown on the features as they are and after
StandardScaler, with its default iterations. Contestants take turns inside every round; a ratio is the median over
rounds, an accuracy the mean over rounds, a difference is paired by row. --quick leaves the slow peers out of all but
the main table. Results: benchmarks/results/heads.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EXACT = "the same, 25, StandardScaler, tol=1e-6"  # solved as exactly as acclimate solves the head that it keeps
RESULTS = Path(__file__).parent / "results" / "heads.json"
Fit = Callable[[Any, Any], Callable[[Any], Any]]  # features, codes -> a function from features to codes


def ours(name: str, settings: dict[str, Any], classes: int) -> Fit:
    from features import problem_of

    from acclimate.data.rows import Data
    from acclimate.run import Run
    from acclimate.strategies import Splits, named

    def fit(x: Any, y: Any) -> Callable[[Any], Any]:
        import torch

        data = Data(tuple(map(str, range(len(x)))), tuple(y.tolist()), clusters=np.arange(len(x)))
        problem = problem_of(x, range(classes))
        head = named(name, settings)[1].fit(problem, Splits(data), Run()).head
        return lambda new: head(torch.from_numpy(new)).detach().numpy().argmax(1)

    return fit


def contestants(classes: int) -> dict[str, Fit]:
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def peer(make: Callable[[], Any]) -> Fit:
        return lambda x, y: make().fit(x, y).predict  # type: ignore[no-any-return]

    def scaled(make: Callable[[], Any]) -> Fit:
        return peer(lambda: make_pipeline(StandardScaler(), make()))

    return {
        "linear_probe, 25 values, 5 folds": ours("linear_probe", {"inner_folds": 5}, classes),
        "ridge, 25 values, leave-one-out": ours("ridge", {}, classes),
        "LogisticRegressionCV(Cs=25, cv=5)": peer(lambda: LogisticRegressionCV(Cs=25, cv=5, **_new())),
        "LogisticRegressionCV(Cs=10, cv=5)": peer(lambda: LogisticRegressionCV(Cs=10, cv=5, **_new())),
        "the same, 25, StandardScaler": scaled(lambda: LogisticRegressionCV(Cs=25, cv=5, **_new())),
        "the same, 10, StandardScaler": scaled(lambda: LogisticRegressionCV(Cs=10, cv=5, **_new())),
        EXACT: scaled(lambda: LogisticRegressionCV(Cs=25, cv=5, tol=1e-6, max_iter=5000, **_new())),
        "LogisticRegression, one C": peer(LogisticRegression),
        "RidgeClassifierCV(25)": peer(lambda: RidgeClassifierCV(np.logspace(-3, 3, 25))),
    }


def _new() -> dict[str, Any]:
    """What newer releases ask to be said so that nothing changes."""
    import inspect

    from sklearn.linear_model import LogisticRegressionCV

    known = inspect.signature(LogisticRegressionCV).parameters
    return {name: value for name, value in (("use_legacy_attributes", True), ("scoring", "accuracy")) if name in known}


def sentences() -> tuple[Any, Any]:
    """Features (12986, 384) and codes of the sentences, in a fixed random order."""
    from acclimate.backbones import load
    from acclimate.catalogue import cache, datasets
    from acclimate.features import Store
    from acclimate.run import Run

    folder, rows = datasets.pull("vader"), []
    for kind in ("movie", "amazon"):
        with open(folder / f"{kind}.csv", encoding="utf-8", newline="") as file:
            rows += [(r["text"], float(r["valence"])) for r in csv.DictReader(file)]
    rows = [(text, v) for text, v in rows if abs(v) > 0.5]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    x = Store(load("minilm"), Run(cache=cache.features())).get([text for text, _ in rows])
    return x, np.array([int(v > 0) for _, v in rows])


def made(n: int, d: int, classes: int) -> tuple[Any, Any]:
    """Unit features with a falling spectrum, labels by a random linear rule with noise."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n, d)) * np.linspace(1, 0.1, d) @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.argmax(x @ rng.normal(size=(d, classes)) * 3 + rng.gumbel(size=(n, classes)), axis=1)
    return x.astype(np.float32), y


def race(
    title: str, x: Any, y: Any, train: int, names: list[str], rounds: int, classes: int, held_out: int = 1000
) -> dict[str, Any]:
    """Every contestant in turn, `rounds` times over, each round on other rows; judged on the last `held_out` rows."""
    every, rest = contestants(classes), len(x) - held_out
    seconds: dict[str, list[float]] = {name: [] for name in names}
    hits: dict[str, list[Any]] = {name: [] for name in names}
    for r in range(rounds):
        rows = np.random.default_rng(r).permutation(rest)[:train]
        for name in names:
            started = time.process_time()
            predict = every[name](x[rows], y[rows])
            seconds[name].append(time.process_time() - started)
            hits[name].append(predict(x[rest:]) == y[rest:])
    right = {name: np.mean(rows, axis=0) for name, rows in hits.items()}
    print(f"\n{title}")
    found: dict[str, Any] = {}
    for name in names:
        ratio = float(np.median(np.array(seconds[name]) / np.array(seconds[names[0]])))
        gap = right[names[0]] - right[name]
        half = 1.96 * gap.std(ddof=1) / math.sqrt(len(gap))
        found[name] = {
            "cpu_seconds": round(float(np.median(seconds[name])), 4),
            "times_ours": round(ratio, 2),
            "accuracy": round(float(right[name].mean()), 4),
            "first_minus_this": [round(float(gap.mean()), 4), round(float(half), 4)],
        }
        print(
            f"  {name:40} {found[name]['cpu_seconds']:9.3f} s  {ratio:7.1f} x   accuracy {right[name].mean():.4f}"
            f"   first minus this {gap.mean():+.4f} ± {half:.4f}"
        )
    return {"rows": train, "columns": x.shape[1], "classes": classes, "held_out": len(gap), "found": found}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # peers that stop at their default number of iterations say so every time
    names = list(contestants(2))
    quick = [n for n in names if "Cs" not in n and "the same" not in n]
    x, y = sentences()
    race("warming up", x[:1200], y[:1200], 200, quick, 1, 2)
    title = "vader, minilm, 5,000 rows"
    results = {title: race(title, x, y, 5000, names, arguments.rounds, 2, len(x) - 10_000)}
    for n, classes in ((200, 2), (1000, 2), (20_000, 2), (5000, 20)):
        a, b = made(n + 1000, 384, classes)
        title = f"made features, {n:,} rows, {classes} classes"
        rounds = arguments.rounds if n * classes <= 20_000 else 1
        few = quick if arguments.quick else [m for m in names if m != EXACT and (n < 20_000 or "25, Sta" not in m)]
        results[title] = race(title, a, b, n, few, rounds, classes)
    load = os.getloadavg()
    print(f"\n1 thread, load average {load[0]:.1f}")
    about = {"threads": 1, "load": load, "rounds": arguments.rounds, "seconds": "CPU, median"}
    RESULTS.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
