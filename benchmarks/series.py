"""Series: labels of multichannel series, and forecasts, beside what does without transfer.

Run: python benchmarks/series.py [--data FOLDER] [--seeds S] [--sets NAMES] [--table]
`vowels` and `daphnet` come from the catalogue. FOLDER holds what the catalogue does not: motions_train.npz and
motions_test.npz (BasicMotions, 40 and 40 series of 6 channels, of the package aeon, whose data name no licence), and
co2.csv and elnino.csv (public domain, of the package statsmodels). Sets whose files are not there are left out.

Labels: learned from all training rows, or from 5 of each class drawn by the seed; judged on the set's own test rows.
"masked" reads all training rows without labels first. `fracast, tuned` is left out where all rows are learned from: it
takes minutes. Forecasts: judged on the latest fifth of windows that do not overlap. Means with the 95 % t interval over
seeds; what draws nothing at random has one. Seconds are of the whole `fit`, on a machine with other work.

The weight of places in series-transformer was looked at on motions: its figures there are not independent of that.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from kept import Kept
from scipy import stats

import acclimate
from acclimate.catalogue import datasets
from acclimate.data.read import read
from acclimate.data.rows import Columns, Table
from acclimate.data.series_tables import gathered

RESULTS = Path(__file__).parent / "results" / "series.json"
CLASSIFY = {"vowels": {"label": "speaker", "id_column": "recording"}, "motions": {"label": "y"}}
METHODS = {  # name -> strategy, model
    "statistics + linear": ("statistics", "series-cnn"),
    "fracast, frozen + linear": ("linear_probe", "fracast"),
    "fracast + statistics, linear": ("hybrid", "fracast"),
    "fracast, tuned": ("full", "fracast"),
    "series-cnn, random, tuned": ("full", "series-cnn"),
    "series-transformer, random, tuned": ("full", "series-transformer"),
    "series-transformer, masked, tuned": ("full", "series-transformer"),  # after masked_steps on all training rows
}
MASKED = "series-transformer, masked, tuned"
FORECAST: dict[str, dict[str, Any]] = {
    "co2": {"horizon": 26, "time_column": "date"},
    "elnino": {"horizon": 12},
    "daphnet": {
        "horizon": 32, "label": ["trunk_horiz_fwd", "trunk_vert", "trunk_horiz_lateral"], "settings": {"context": 512},
    },
}  # fmt: skip
FORECASTERS = {
    "fracast, zero-shot": ("zero_shot", "fracast"),
    "fracast, its head tuned": ("linear_probe", "fracast"),
    "fracast, tuned": ("full", "fracast"),
    "series-cnn, random, tuned": ("full", "series-cnn"),
    "series-transformer, random, tuned": ("full", "series-transformer"),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data/series")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", default="vowels,motions,co2,elnino,daphnet")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, lines=True)
    for name in [] if asked.table else asked.sets.split(","):
        for seed in range(asked.seeds):
            if name in CLASSIFY:
                labels(name, seed, Path(asked.data), kept)
            else:
                forecasts(name, seed, Path(asked.data), kept)
    table(kept.rows)


def note(kept: Kept, about: dict[str, Any], began: float, values: dict[str, Any]) -> None:
    kept.add(about | values | {"seconds": round(time.monotonic() - began, 1)})


def labels(name: str, seed: int, folder: Path, kept: Kept) -> None:
    if name == "vowels":
        paths = [datasets.pull("vowels") / f"{part}.csv" for part in ("train", "test")]
    else:
        paths = [folder / f"{name}_{part}.npz" for part in ("train", "test")]
    if not all(path.is_file() for path in paths):
        return
    given = CLASSIFY[name]
    columns = Columns(kind="series", id=given.get("id_column"), label=given["label"])
    train, test = (gathered(read(path), columns) for path in paths)
    for rows in ("all", "5 a class"):
        for method, (strategy, model) in METHODS.items():
            frozen = strategy != "full"
            about = {"set": name, "rows": rows, "method": method, "seed": seed}
            if kept.has(about) or (rows == "all" and (frozen and seed or method in ("fracast, tuned", MASKED))):
                continue
            began = time.monotonic()
            some = train if rows == "all" else few(train, given["label"], seed)
            more = {"target_data": train, "pretrain": "masked_steps"} if method == MASKED else {}
            with tempfile.TemporaryDirectory() as out:
                fitted = acclimate.fit(
                    some, test_data=test, modality="series", strategy=strategy, model=model, seed=seed, quiet=True,
                    output_dir=Path(out) / "run", **given, **more,
                )  # fmt: skip
            one = fitted.scores.estimates["accuracy"]
            note(kept, about, began, {"n": one.n, "value": one.value, "low": one.low, "high": one.high})


def few(table: Table, label: str, seed: int) -> Table:
    """Five rows of each class."""
    order = np.random.default_rng(seed).permutation(len(table)).tolist()
    cells, kept, count = table.columns[label], [], {}
    for i in order:
        count[cells[i]] = count.get(cells[i], 0) + 1
        if count[cells[i]] <= 5:
            kept.append(i)
    kept.sort()
    columns = {name: [values[i] for i in kept] for name, values in table.columns.items()}
    return Table(columns, tuple(range(1, len(kept) + 1)), (None,) * len(kept), table.source, table.typed, table.facts)


def forecasts(name: str, seed: int, folder: Path, kept: Kept) -> None:
    path = datasets.pull("daphnet") / "walk.csv" if name == "daphnet" else folder / f"{name}.csv"
    if not path.is_file():
        return
    source: Any = path
    if name == "elnino":  # a line a year, a column a month
        lines = list(csv.reader(path.open()))[1:]
        source = {"temperature": [float(cell) for line in lines for cell in line[1:]]}
    for method, (strategy, model) in FORECASTERS.items():
        about = {"set": name, "rows": "all", "method": method, "seed": seed}
        if kept.has(about) or (strategy == "zero_shot" and seed):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as out:
            fitted = acclimate.fit(
                source, task="forecast", strategy=strategy, model=model, seed=seed, quiet=True,
                output_dir=Path(out) / "run", **FORECAST[name],
            )  # fmt: skip
        one = fitted.scores.estimates["mase"]
        more = {m: fitted.scores.estimates[m].value for m in ("mae", "rmse")}
        note(kept, about, began, {"n": one.n, "value": one.value, "low": one.low, "high": one.high, **more})
        for key, row in fitted.scores.baseline.items():
            beside = {**about, "method": key.replace("_", " "), "seed": 0}
            if not kept.has(beside):
                values = {k: row[k] for k in ("n", "value", "low", "high")}
                note(kept, beside, time.monotonic(), values)


def table(found: list[dict[str, Any]]) -> None:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in found:
        groups.setdefault((row["set"], row["rows"], row["method"]), []).append(row)
    for (name, rows, method), mine in sorted(groups.items(), key=lambda item: item[0][:2]):
        values = np.array([row["value"] for row in mine])
        wide = ""
        if len(values) > 1:
            wide = f" ± {stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5:.3f}"
        elif mine[0]["low"] is not None:
            wide = f" [{mine[0]['low']:.3f}, {mine[0]['high']:.3f}]"
        seconds = float(np.median([row["seconds"] for row in mine]))
        told = f"n={mine[0]['n']} seeds={len(mine)} {seconds:.0f} s"
        print(f"{name:8} {rows:10} {method:36} {values.mean():.3f}{wide} {told}")


if __name__ == "__main__":
    main()
