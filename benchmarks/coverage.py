"""How often the stated 95 % intervals hold the true value, by simulation. Prints a table and writes
results/coverage.json.

    python benchmarks/coverage.py [--replicates 2000] [--full] [--only accuracy]

Each world draws test sets of n rows from a known distribution, scores them with the library's own code, and asks
whether the interval holds the value that a million rows have. The Monte-Carlo standard error at 2,000 replicates is 0.5
points.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acclimate.evaluate import difference
from acclimate.metrics.tables import Answers, estimates, value_of

SIZES = (30, 100, 300)
MILLION = 1_000_000
Draw = Callable[[np.random.Generator, int], Answers]


@dataclass(frozen=True)
class World:
    """A way of drawing n rows, and the metrics to look at."""

    name: str
    draw: Draw
    metrics: tuple[str, ...]
    sizes: tuple[int, ...] = SIZES
    slow: bool = False  # many resamples: a quarter of the replicates unless --full, standard error 1 point


def binary(accuracy: float, share: float = 0.5, temperature: float = 1.0) -> Draw:
    """Two normal classes, told apart as well as `accuracy` says when they are balanced; probabilities calibrated at T =
    1."""
    from scipy.special import expit, ndtri

    apart = 2 * float(ndtri(accuracy))

    def draw(rng: np.random.Generator, n: int) -> Answers:
        truth = (rng.random(n) < share).astype(np.int64)
        score = rng.normal((truth - 0.5) * apart)
        p = expit((score * apart + np.log(share / (1 - share))) / temperature)
        proba = np.stack([1 - p, p], axis=1)
        return Answers("classify", truth, proba, (score > 0).astype(np.int64))

    return draw


def classes(k: int, task: str = "classify") -> Draw:
    """k classes: softmax over noisy evidence; ordinal: a noisy position on a line."""

    def draw(rng: np.random.Generator, n: int) -> Answers:
        truth = rng.integers(k, size=n)
        if task == "ordinal":
            distance = np.abs((truth + rng.normal(scale=0.9, size=n))[:, None] - np.arange(k))
            z = -(distance**2)
        else:
            z = rng.normal(size=(n, k)) + 1.5 * (truth[:, None] == np.arange(k))
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return Answers(task, truth, p, p.argmax(axis=1))

    return draw


def numbers(tail: str) -> Draw:
    """y = x + error; normal errors, or Student's at 5 degrees."""

    def draw(rng: np.random.Generator, n: int) -> Answers:
        x = rng.normal(size=n)
        error = rng.normal(size=n) if tail == "normal" else rng.standard_t(5, size=n)
        y = x + 0.7 * error
        return Answers("regress", y, x, x)

    return draw


def labels(k: int = 5) -> Draw:
    """k labels a row, each set with probability 0.3."""

    def draw(rng: np.random.Generator, n: int) -> Answers:
        truth = (rng.random((n, k)) < 0.3).astype(np.int64)
        p = 1 / (1 + np.exp(-(rng.normal(size=(n, k)) + 2 * truth - 1)))
        return Answers("multilabel", truth, p, (p > 0.5).astype(np.int64))

    return draw


def clustered(size: int, spread: float, level: float) -> Draw:
    """Rows in clusters of `size` that share how hard they are (normal on the logit scale)."""

    def draw(rng: np.random.Generator, n: int) -> Answers:
        groups = max(1, n // size)
        cluster = np.repeat(np.arange(groups), size)
        m = len(cluster)
        hard = rng.normal(scale=spread, size=groups)[cluster]
        right = rng.random(m) < 1 / (1 + np.exp(-(level + hard)))
        truth = rng.integers(2, size=m)
        predicted = np.where(right, truth, 1 - truth)
        sure = rng.beta(4, 2, size=m) / 2 + 0.5
        p = np.where(predicted == 1, sure, 1 - sure)
        return Answers("classify", truth, np.stack([1 - p, p], axis=1), predicted, clusters=cluster)

    return draw


def clustered_numbers(size: int) -> Draw:
    """As `numbers`, with an error that the rows of a cluster share."""

    def draw(rng: np.random.Generator, n: int) -> Answers:
        groups = max(1, n // size)
        cluster = np.repeat(np.arange(groups), size)
        m = len(cluster)
        x = rng.normal(size=m)
        y = x + 0.5 * rng.normal(size=m) + 0.5 * rng.normal(size=groups)[cluster]
        return Answers("regress", y, x, x, clusters=cluster)

    return draw


WORLDS = (
    World("binary .60", binary(0.60), ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "roc_auc")),
    World(
        "binary .80",
        binary(0.80, temperature=0.6),
        (
            "accuracy",
            "balanced_accuracy",
            "macro_f1",
            "weighted_f1",
            "mcc",
            "roc_auc",
            "log_loss",
            "brier",
        ),
    ),
    World("binary .60", binary(0.60), ("average_precision",), slow=True),
    World("binary .80", binary(0.80), ("average_precision",), slow=True),
    World("binary .80", binary(0.80, temperature=0.6), ("calibration_error",), slow=True),
    World("binary .80, calibrated", binary(0.80), ("calibration_error",), slow=True),
    World("binary .80, calibrated", binary(0.80), ("log_loss", "brier")),
    World("binary .95", binary(0.95), ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "roc_auc", "log_loss")),
    World(
        "binary .80, one in five",
        binary(0.80, share=0.2),
        ("balanced_accuracy", "macro_f1", "mcc", "roc_auc"),
        (100, 300),
    ),
    World("3 classes", classes(3), ("balanced_accuracy", "macro_f1", "mcc", "roc_auc"), (100, 300)),
    World("3 classes", classes(3), ("accuracy", "weighted_f1", "log_loss", "brier")),
    World("3 classes", classes(3), ("calibration_error",), slow=True),
    World("5 ordered classes", classes(5, "ordinal"), ("mae",)),
    World("5 ordered classes", classes(5, "ordinal"), ("quadratic_kappa", "spearman"), slow=True),
    World("normal errors", numbers("normal"), ("mae", "rmse", "r2")),
    World("normal errors", numbers("normal"), ("spearman",), slow=True),
    World("heavy errors (t, 5)", numbers("t"), ("mae", "rmse", "r2")),
    World("heavy errors (t, 5)", numbers("t"), ("spearman",), slow=True),
    World("5 labels a row", labels(), ("micro_f1", "subset_accuracy", "hamming"), slow=True),
    World("5 labels a row", labels(), ("macro_f1",), (100, 300)),
    World("5 labels a row", labels(), ("mean_average_precision",), (100, 300), slow=True),
    World("clusters of 3", clustered(3, 1.0, 1.5), ("accuracy", "macro_f1", "roc_auc")),
    World("clusters of 10", clustered(10, 1.0, 1.5), ("accuracy", "macro_f1"), (100, 300)),
    World("clusters of 3, .95", clustered(3, 1.0, 3.4), ("accuracy",)),
    World("clusters of 3, numbers", clustered_numbers(3), ("mae", "rmse", "r2")),
    World("clusters of 3, numbers", clustered_numbers(3), ("spearman",), slow=True),
)


def pair(task: str, lift: float, noise: float) -> Callable[[np.random.Generator, int], tuple[Answers, Answers]]:
    """Two models with much in common; b sees the same evidence as a with more noise."""

    def draw(rng: np.random.Generator, n: int) -> tuple[Answers, Answers]:
        if task == "regress":
            y, shared = rng.normal(size=(2, n))
            both = [y + 0.5 * shared + s * rng.normal(size=n) for s in (0.4, 0.4 + lift)]
            return Answers(task, y, both[0], both[0]), Answers(task, y, both[1], both[1])
        truth = rng.integers(2, size=n)
        evidence = rng.normal((truth - 0.5) * 2.2)
        made = []
        for extra in (noise, noise + lift):
            z = evidence + extra * rng.normal(size=n)
            p = 1 / (1 + np.exp(-2 * z))
            made.append(Answers(task, truth, np.stack([1 - p, p], axis=1), (p > 0.5).astype(np.int64)))
        return made[0], made[1]

    return draw


PAIRS = (
    ("classify", "accuracy", 0.0, 0.7),
    ("classify", "accuracy", 1.0, 0.5),
    ("classify", "accuracy", 0.0, 0.1),
    ("classify", "macro_f1", 1.0, 0.5),
    ("classify", "balanced_accuracy", 1.0, 0.5),
    ("classify", "roc_auc", 1.0, 0.5),
    ("classify", "log_loss", 1.0, 0.5),
    ("regress", "mae", 0.3, 0.4),
    ("regress", "rmse", 0.3, 0.4),
)


def cover(world: World, replicates: int, resamples: int, seed: int) -> list[dict[str, object]]:
    """The share of intervals that hold the truth, for each metric and size of one world."""
    rng = np.random.default_rng(seed)
    big = world.draw(rng, MILLION)
    true = {m: value_of(big, m) for m in world.metrics}
    rows = []
    for n in world.sizes:
        found: dict[str, list[tuple[float, float]]] = {m: [] for m in world.metrics}
        for r in range(replicates):
            table = estimates(world.draw(rng, n), list(world.metrics), seed=r, resamples=resamples)
            for m, e in table.items():
                if e.low is not None and e.high is not None:
                    found[m].append((e.low, e.high))
        rows += [row(world.name, m, n, true[m], np.array(found[m]), replicates) for m in world.metrics]
    return rows


def cover_difference(
    task: str, metric: str, lift: float, noise: float, replicates: int, seed: int
) -> list[dict[str, object]]:
    """The same for paired differences."""
    rng = np.random.default_rng(seed)
    draw = pair(task, lift, noise)
    a, b = draw(rng, MILLION)
    true = 0.0 if lift == 0 else value_of(a, metric) - value_of(b, metric)
    rows = []
    for n in SIZES:
        found = []
        for r in range(replicates):
            a, b = draw(rng, n)
            d = difference(task, metric, a.truth, (a.outputs, a.predicted), (b.outputs, b.predicted), seed=r)
            if d.low is not None and d.high is not None:
                found.append((d.low, d.high))
        rows.append(row(f"paired difference, lift {lift}, noise {noise}", metric, n, true, np.array(found), replicates))
    return rows


def row(world: str, metric: str, n: int, true: float, found: NDArray[np.float64], replicates: int) -> dict[str, object]:
    """One line of the table, in percent."""
    if not len(found):
        return {"world": world, "metric": metric, "n": n, "true": round(true, 4), "given": 0.0}
    low, high = found.T
    return {
        "world": world,
        "metric": metric,
        "n": n,
        "replicates": replicates,
        "true": round(true, 4),
        "given": round(100 * len(found) / replicates, 1),  # how often there was an interval
        "covers": round(100 * float(((low <= true) & (true <= high)).mean()), 1),
        "too_low": round(100 * float((high < true).mean()), 1),
        "too_high": round(100 * float((low > true).mean()), 1),
        "width": round(float((high - low).mean()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--full", action="store_true", help="as many replicates for the slow ones too (11 minutes)")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", default="", help="worlds or metrics whose name holds this text")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coverage.json")
    args = parser.parse_args()
    start, rows = time.time(), []
    for i, world in enumerate(WORLDS):
        if args.only in world.name:
            rows += show(cover(world, args.replicates // (4 if world.slow and not args.full else 1), args.resamples, i))
    for i, (task, metric, lift, noise) in enumerate(PAIRS):
        if args.only in f"paired {metric}":
            rows += show(cover_difference(task, metric, lift, noise, args.replicates, 100 + i))
    seconds = round(time.time() - start)
    facts = {"replicates": args.replicates, "resamples": args.resamples, "seconds": seconds, "level": 95, "rows": rows}
    if not args.only:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    outside = [r for r in rows if "covers" in r and not 93 <= float(str(r["covers"])) <= 97]
    print(f"{len(rows)} cells in {seconds} s; {len(outside)} outside 93 to 97 %")


def show(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Print as they come."""
    for r in rows:
        covers = r.get("covers")
        mark = " " if covers is not None and 93 <= float(str(covers)) <= 97 else "*"
        print(
            f"{mark} {r['world']!s:38} {r['metric']!s:24} n={r['n']!s:4} true {r['true']!s:8} covers {covers!s:6}"
            f" low {r.get('too_low')!s:5} high {r.get('too_high')!s:5} width {r.get('width')!s:7} given {r['given']}",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    main()
