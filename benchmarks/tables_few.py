"""Tables with few labels, from 8 to all: alone, with another domain's rows, and with free text among the columns.

Patients of Cleveland and credits by themselves; patients of Hungary and Long Beach, and credits for cars, with the
source that tables.py has; patients' reviews of drugs, whose columns are a text, two categories, a date and a number.
Beside ours stands what one would write with scikit-learn: one-hot columns (and, of text, TF-IDF) into
LogisticRegression or HistGradientBoostingClassifier as they come. The same rows are drawn for all ways.

Run: python benchmarks/tables_few.py [--data ../shared/data] [--seeds 5] [--table]

Adds to benchmarks/results/tables.json what is missing there. What was chosen on these data says tables.py; the number
of axes of text (32) was set before anything was measured, and so was the length of a text's vector.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import Kept
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from tables import RATE, RESULTS, Rows, both, credits, data, heart, problem, table

from acclimate.backbones import load
from acclimate.catalogue import cache, datasets
from acclimate.data.column_types import to_number
from acclimate.data.columns import guess
from acclimate.data.kinds import kind_of
from acclimate.data.kinds.table import texts_of
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data
from acclimate.features import Store
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

COUNTS = (8, 32, 128)  # and all
JUDGE = 0.3  # of the rows where no others are there to judge


class Judge:
    """Fits each way on the same rows and notes what it is worth on those that judge."""

    def __init__(self, pair: str, seed: int, test: Data) -> None:
        self.pair, self.seed, self.test, self.found = pair, seed, test, list[dict[str, Any]]()

    def __call__(self, way: str, labels: int, fit: Callable[[], Any]) -> None:
        """Fit and judge."""
        started = time.process_time()
        p = fit().outputs(self.test.inputs)
        seconds, truth = time.process_time() - started, np.array(self.test.labels)
        auc = roc_auc_score(truth, p[:, 1]) if p.shape[1] == 2 else roc_auc_score(truth, p, multi_class="ovr")
        self.found.append({
            "pair": self.pair, "seed": self.seed, "way": way, "labels": labels, "auc": float(auc),
            "seconds": round(seconds, 2), "balanced": float(balanced_accuracy_score(truth, p.argmax(1))),
            "judged": len(truth),
        })  # fmt: skip


class Sklearn:
    """The usual pipeline: numbers filled by the median, categories one-hot, text as TF-IDF where `words`."""

    def __init__(self, rows: Data, trees: bool, words: bool = False) -> None:
        from sklearn.compose import ColumnTransformer
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        held = rows.inputs[0].columns
        there = {j for j in range(len(held)) if any(to_number(row[j]) is not None for row in rows.inputs)}
        numbers = [j for j in sorted(there) if held[j].kind == "number"]  # the trees refuse a column without any
        others = [j for j, column in enumerate(held) if column.kind in ("category", "boolean", "date")]
        texts = [j for j, column in enumerate(held) if column.kind == "text" and words]
        scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        parts: list[Any] = [("numbers", "passthrough" if trees else scaled, numbers), ("others", one_hot, others)]
        parts += [(f"text {j}", TfidfVectorizer(), j) for j in texts]
        columns = ColumnTransformer(parts, sparse_threshold=0.0 if trees else 0.3)
        last = HistGradientBoostingClassifier() if trees else LogisticRegression(max_iter=1000)
        self.numbers, self.fitted = set(numbers), make_pipeline(columns, last)
        self.fitted.fit(self._frame(rows.inputs), np.array(rows.labels))

    def _frame(self, inputs: Any) -> Any:
        import pandas as pd

        wide = range(len(inputs[0]))
        return pd.DataFrame({
            j: [to_number(row[j]) if j in self.numbers else str(row[j] or "") for row in inputs] for j in wide
        }).astype({j: float for j in self.numbers})  # fmt: skip

    def outputs(self, inputs: Any) -> Any:
        """Probabilities (n, k)."""
        return self.fitted.predict_proba(self._frame(inputs))


def draws(rows: Rows, at: Any, counts: tuple[int, ...]) -> dict[int, Data]:
    """The first n rows, at least one of either class among them, and all."""
    order = [int(i) for i in at]
    first = [next(i for i in order if rows[1][i] == k) for k in sorted(set(rows[1]))]
    order = [*first, *[i for i in order if i not in first]]
    return {n: data(rows, order[:n]) for n in (*[c for c in counts if c < len(order)], len(order))}


def alone(pair: str, rows: Rows, seed: int) -> list[dict[str, Any]]:
    """Without another domain: nothing here is transfer."""
    order = np.random.default_rng(seed).permutation(len(rows[0]))
    cut = round(JUDGE * len(order))
    judge, run = Judge(pair, seed, data(rows, order[:cut])), Run(seed=seed)
    for n, few in draws(rows, order[cut:], COUNTS).items():
        mine = problem("columns", few, seed)
        judge("linear", n, lambda m=mine, f=few: named("linear_probe")[1].fit(m, Splits(f), run))
        judge("boosting", n, lambda m=mine, f=few: named("boosting")[1].fit(m, Splits(f), run))
        judge("LogisticRegression", n, lambda f=few: Sklearn(f, trees=False))
        judge("HistGradientBoosting", n, lambda f=few: Sklearn(f, trees=True))
    return judge.found


def with_source(pair: str, source: Rows, target: Rows, seed: int) -> list[dict[str, Any]]:
    """With all rows of the source: what goes on from a network that was tuned on them, or learns from both."""
    order = np.random.default_rng(seed).permutation(len(target[0]))
    cut, ours, run = len(order) // 2, data(source), Run(seed=seed)
    judge = Judge(pair, seed, data(target, order[cut:]))
    columns, network = problem("columns", ours, seed), problem("mlp", ours, seed)
    pretrained = named("full", dict(RATE))[1].fit(network, Splits(ours), run)
    judge("mlp, source", 0, lambda: pretrained)
    judge("LogisticRegression, source", 0, lambda: Sklearn(ours, trees=False))
    judge("HistGradientBoosting, source", 0, lambda: Sklearn(ours, trees=True))
    judge("boosting, source", 0, lambda: named("boosting")[1].fit(columns, Splits(ours), run))
    for n, few in draws(target, order[:cut], COUNTS).items():
        epochs = {"num_train_epochs": max(1, round(300 / -(-n // 16)))}
        theirs, tuned = problem("columns", few, seed), problem(pretrained.backbone, few, seed)
        shared = Splits(ours, target=data(target, order[:cut]), target_labelled=few)
        judge("linear, target", n, lambda m=theirs, f=few: named("linear_probe")[1].fit(m, Splits(f), run))
        judge("boosting, target", n, lambda m=theirs, f=few: named("boosting")[1].fit(m, Splits(f), run))
        judge("LogisticRegression, target", n, lambda f=few: Sklearn(f, trees=False))
        judge("HistGradientBoosting, target", n, lambda f=few: Sklearn(f, trees=True))
        full = named("full", {**RATE, **epochs})[1]
        judge("mlp pretrained, full", n, lambda m=tuned, f=few, s=full: s.fit(m, Splits(f), run))
        judge("linear, last_layer", n, lambda s=shared: named("last_layer")[1].fit(columns, s, run))
        pooled = both(ours, few)
        judge("boosting, pooled", n, lambda s=pooled: named("boosting")[1].fit(columns, Splits(s), run))
    return judge.found


def reviews() -> Rows:
    """Patients' reviews of drugs with their other columns: bad, middling or good."""
    inputs: list[Any] = []
    labels: list[int] = []
    names = {"negative": 0, "neutral": 1, "positive": 2}
    columns: Columns | None = None
    for part in ("train", "test"):
        rows = read(datasets.pull("drugs") / f"{part}.csv")
        columns = columns or guess(rows, Columns(label="rating", kind="table", drop=("id",))).columns
        inputs += kind_of(columns).read(rows, columns, Progress()).inputs
        labels += [names[str(cell)] for cell in rows.columns["rating"]]
    return inputs, labels


def text(pair: str, rows: Rows, seed: int) -> list[dict[str, Any]]:
    """With and without the text, and the text alone."""
    order = np.random.default_rng(seed).permutation(len(rows[0]))
    cut = round(JUDGE * len(order))
    run = Run(seed=seed, cache=cache.features())
    judge, task = Judge(pair, seed, data(rows, order[:cut])), TASKS["classify"]
    minilm = load("minilm")
    words = replace(judge.test, inputs=tuple("\n".join(texts_of(row)) for row in judge.test.inputs), kind="text")

    def on(backbone: Any) -> Problem:
        return Problem(task, task.decoder((0, 1, 2), "int"), backbone, Store(backbone, run))

    for n, few in draws(rows, order[cut:], (128,)).items():
        beside = on(load("columns+minilm").fit_rows(few.inputs))
        for way in ("linear_probe", "hybrid", "feature_boosting"):
            judge(f"columns and text, {way}", n, lambda m=beside, f=few, w=way: named(w)[1].fit(m, Splits(f), run))
        judge("columns, boosting", n, lambda m=beside, f=few: named("boosting")[1].fit(m, Splits(f), run))
        judge("text, tfidf", n, lambda m=beside, f=few: named("tfidf")[1].fit(m, Splits(f), run))
        judge("LogisticRegression with TF-IDF", n, lambda f=few: Sklearn(f, trees=False, words=True))
        judge("HistGradientBoosting with TF-IDF", n, lambda f=few: Sklearn(f, trees=True, words=True))
        of_text = replace(few, inputs=tuple("\n".join(texts_of(row)) for row in few.inputs), kind="text")
        judge.test, usual = words, judge.test
        plain = on(minilm)
        judge("text, minilm", n, lambda m=plain, f=of_text: named("linear_probe")[1].fit(m, Splits(f), run))
        judge.test = usual
    return judge.found


def main() -> None:
    """Run what is missing in the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(__file__).parents[1] / "shared" / "data"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="print what there is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    patients, banks = heart(Path(arguments.data)), credits(Path(arguments.data))
    every = ([*banks["goods"][0], *banks["cars"][0]], [*banks["goods"][1], *banks["cars"][1]])
    ways: dict[str, Callable[[str, int], list[dict[str, Any]]]] = {
        "few: Cleveland": lambda name, seed: alone(name, patients["Cleveland"], seed),
        "few: german_credit": lambda name, seed: alone(name, every, seed),
        "few: Cleveland → Hungary": lambda n, seed: with_source(n, patients["Cleveland"], patients["Hungary"], seed),
        "few: reviews of drugs": lambda name, seed: text(name, reviews(), seed),
        "few: Cleveland → VA Long Beach": lambda n, s: with_source(
            n, patients["Cleveland"], patients["VA Long Beach"], s
        ),
        "few: goods → cars": lambda name, seed: with_source(name, banks["goods"], banks["cars"], seed),
    }
    kept = Kept(RESULTS, under="rows")
    for name, way in ways.items():
        for seed in range(0 if arguments.table else arguments.seeds):
            key = {"pair": name, "seed": seed}
            if not kept.has(key):
                kept.add(*way(name, seed), say=key)
    print(table([row for row in kept.rows if row["pair"] in ways]))


if __name__ == "__main__":
    main()
