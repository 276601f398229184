"""Tables: boosting, a linear model and a small network, without transfer and with it, on patients and on credits.

Patients of one hospital (Cleveland) are the source, those of another (Hungary, Long Beach, Switzerland) the target;
credits for goods are the source, those for cars the target. Of the target 100 rows (50 in Switzerland) are drawn, of
which the first n have labels; the others of them are known without. The rest of the target judges. What is said to be
pretrained learned from the source alone and is then tuned on the n rows.

Run: python benchmarks/tables.py [--data ../shared/data] [--seeds 5] [--peers FOLDER_WITH_LIGHTGBM] [--table]

Adds to benchmarks/results/tables.json what is missing there. The learning rate of `mlp`, the scale of columns and the
settings of `boosting` were chosen on german_credit, Cleveland and Hungary, each by itself (docs/tables.md): there the
numbers are not independent of them.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from intervals import half_width
from kept import Kept
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from acclimate.backbones import load
from acclimate.data.column_types import rows_of
from acclimate.data.rows import Data
from acclimate.data.table_numbers import Coding
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, Strategy, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "tables.json"
TARGETS = ("Hungary", "VA Long Beach", "Switzerland")
CARS = ("car (new)", "car (used)")
LABELLED = (20, 50, 100)
RATE = {"learning_rate": 3e-4, "head_learning_rate": 3e-4}
STEPS, BATCH = 300, 16  # of tuning, however few the rows
WIDE = 50  # columns from which boosting after coral takes 20 s a fit (it was no better on credits)
Rows = tuple[list[Any], list[int]]


def heart(folder: Path) -> dict[str, Rows]:
    """Patients by hospital; a cholesterol or a blood pressure of 0 is none. 1 for the ill."""
    with (folder / "heart" / "heart_disease_uci.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    names = [name for name in table[0] if name not in ("id", "dataset", "num")]
    zero = ("chol", "trestbps")
    cells = [[None if r[n] == "" or (n in zero and float(r[n]) == 0) else r[n] for n in names] for r in table]
    found: dict[str, Rows] = {}
    for row, r in zip(rows_of(cells, names), table, strict=True):
        inputs, labels = found.setdefault(r["dataset"], ([], []))
        inputs.append(row)
        labels.append(int(r["num"] != "0"))
    return found


def credits(folder: Path) -> dict[str, Rows]:
    """Credits for goods and for cars; 1 for the bad ones."""
    with (folder / "german_credit" / "germancredit.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    names = [name for name in table[0] if name not in ("creditability", "purpose")]
    found: dict[str, Rows] = {}
    for row, r in zip(rows_of([[r[n] for n in names] for r in table], names), table, strict=True):
        inputs, labels = found.setdefault("cars" if r["purpose"] in CARS else "goods", ([], []))
        inputs.append(row)
        labels.append(int(r["creditability"] == "bad"))
    return found


def data(rows: Rows, at: Any = None) -> Data:
    """Some rows, or all."""
    chosen = range(len(rows[0])) if at is None else [int(i) for i in at]
    inputs, labels = tuple(rows[0][i] for i in chosen), tuple(rows[1][i] for i in chosen)
    return Data(inputs, labels, clusters=np.arange(len(chosen)), kind="table")


def problem(model: Any, rows: Data, seed: int) -> Problem:
    """Classification with a backbone by name, made from these rows, or with one that was tuned before."""
    task, backbone = TASKS["classify"], load(model) if isinstance(model, str) else model
    backbone = backbone.fit_rows(rows.inputs)
    if isinstance(model, str) and model == "mlp":
        backbone.reset(seed)
    return Problem(task, task.decoder((0, 1), "int"), backbone, Store(backbone, Run()))


def both(source: Data, few: Data) -> Data:
    """Source rows and a few target rows with as much weight together."""
    weights = np.concatenate([np.ones(len(source)), np.full(len(few), len(source) / len(few))])
    n = len(source) + len(few)
    return Data(
        (*source.inputs, *few.inputs), (*(source.labels or ()), *(few.labels or ())), weights, clusters=np.arange(n),
        kind="table",
    )  # fmt: skip


def one(source: Rows, target: Rows, seed: int, peers: list[str]) -> list[dict[str, Any]]:
    """Every way on the same rows."""
    order = np.random.default_rng(seed).permutation(len(target[0]))
    most = 50 if len(order) < 150 else 100
    pool, test = order[:most], data(target, order[most:])
    ours, run, found = data(source), Run(seed=seed), []
    there = data(target, pool)

    def judge(way: str, labels: int, fit: Callable[[], Any]) -> Any:
        started = time.process_time()
        fitted = fit()
        seconds = time.process_time() - started
        p = fitted.outputs(test.inputs)[:, 1]
        truth = np.array(test.labels)
        found.append({
            "way": way, "labels": labels, "auc": float(roc_auc_score(truth, p)), "seconds": round(seconds, 2),
            "balanced": float(balanced_accuracy_score(truth, p > 0.5)), "judged": len(test),
        })  # fmt: skip
        return fitted

    def by(name: str, p: Problem, splits: Splits, **settings: Any) -> Callable[[], Any]:
        strategy: Strategy = named(name, settings)[1]
        return lambda: strategy.fit(p, splits, run)

    columns, network = problem("columns", ours, seed), problem("mlp", ours, seed)
    alone, adapting = Splits(ours), Splits(ours, target=there)
    judge("linear, source", 0, by("linear_probe", columns, alone))
    judge("boosting, source", 0, by("boosting", columns, alone))
    pretrained = judge("mlp, source", 0, by("full", network, alone, **RATE)).backbone
    for way in ("density_ratio", "standardise", "coral"):
        judge(f"linear, {way}", 0, by(way, columns, adapting))
        if way != "coral" or columns.network()[0].width < WIDE:
            judge(f"boosting, {way}", 0, by("adapted_boosting", columns, adapting, by=way))
    judge("linear, self_train", 0, by("self_train", columns, adapting))
    for n in LABELLED:
        if n > most:
            continue
        few = data(target, pool[:n])
        epochs = {"num_train_epochs": round(STEPS / math.ceil(n / BATCH))}
        theirs, scratch = problem("columns", few, seed), problem("mlp", few, seed)
        shared = replace(adapting, target_labelled=few)
        judge("linear, target", n, by("linear_probe", theirs, Splits(few)))
        judge("boosting, target", n, by("boosting", theirs, Splits(few)))
        judge("mlp, target", n, by("full", scratch, Splits(few), **RATE, **epochs))
        judge("linear, last_layer", n, by("last_layer", columns, shared))
        judge("linear, pooled", n, by("pooled", columns, shared))
        judge("boosting, pooled", n, by("boosting", columns, Splits(both(ours, few))))
        tuned = problem(pretrained, few, seed)
        judge("mlp pretrained, full", n, by("full", tuned, Splits(few), **RATE, **epochs))
        judge("mlp pretrained, lp_ft", n, by("lp_ft", tuned, Splits(few), learning_rate=1e-4))
        judge("mlp pretrained, probe", n, by("linear_probe", tuned, Splits(few)))
        for name in peers:
            judge(name, n, lambda name=name, few=few: Peer(name, few, seed))
    return found


class Peer:
    """What another library gives on the plain columns, as it stands."""

    def __init__(self, name: str, rows: Data, seed: int) -> None:
        self.coding = Coding.of(rows.inputs)
        x, y = self.coding.plain(rows.inputs), np.array(rows.labels)
        x = np.where(np.isnan(x).all(0), 0, x)
        if name == "lightgbm":
            from lightgbm import LGBMClassifier

            self.model = LGBMClassifier(n_jobs=1, verbosity=-1, random_state=seed).fit(x, y)
        else:
            from sklearn.ensemble import HistGradientBoostingClassifier

            self.model = HistGradientBoostingClassifier(random_state=seed).fit(x, y)

    def outputs(self, inputs: Any) -> Any:
        """Probabilities."""
        return np.asarray(self.model.predict_proba(self.coding.plain(inputs)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", help="a folder that holds lightgbm, where it is not installed")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not arguments.table:
        torch.set_num_threads(1)
        sys.path += [arguments.peers] if arguments.peers else []
        patients, banks = heart(Path(arguments.data)), credits(Path(arguments.data))
        pairs = {f"Cleveland → {name}": (patients["Cleveland"], patients[name]) for name in TARGETS}
        pairs["goods → cars"] = (banks["goods"], banks["cars"])
        for seed in range(arguments.seeds):
            for pair, (source, target) in pairs.items():
                key = {"pair": pair, "seed": seed}
                if kept.has(key):
                    continue
                rows = one(source, target, seed, ["sklearn"] + (["lightgbm"] if arguments.peers else []))
                kept.add(*({**key, **row} for row in rows), say=key, load=os.getloadavg()[0], threads=1)
    print(table(kept.rows))


def interval(values: list[float]) -> str:
    half = half_width(values) if values[1:] else 0.0
    return f"{np.mean(values):.3f} ± {half:.3f}"


def table(rows: list[dict[str, Any]]) -> str:
    """Mean AUC over seeds with the half width of its 95 % t interval, then balanced accuracy; seconds of one fit."""
    lines = []
    for pair in dict.fromkeys(r["pair"] for r in rows):
        mine = [r for r in rows if r["pair"] == pair]
        counts = sorted({r["labels"] for r in mine})
        lines += [
            "",
            f"{pair}, {mine[0]['judged']} rows judge",
            "| way | " + " | ".join(f"n = {n}" for n in counts) + " | s |",
        ]
        lines.append("|---" * (len(counts) + 2) + "|")
        for way in dict.fromkeys(r["way"] for r in mine):
            cells = []
            for n in counts:
                some = [r for r in mine if r["way"] == way and r["labels"] == n]
                auc, balanced = ([r[key] for r in some] for key in ("auc", "balanced"))
                cells.append(f"{interval(auc)}, {np.mean(balanced):.3f}" if some else "")
            seconds = float(np.median([r["seconds"] for r in mine if r["way"] == way]))
            lines.append(f"| {way} | " + " | ".join(cells) + f" | {seconds:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
