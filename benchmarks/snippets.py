"""The rows that several benchmarks share; nothing is run here."""

from __future__ import annotations

import csv

import numpy as np

from acclimate.catalogue import datasets
from acclimate.data.rows import Data


def snippets(n: int, m: int) -> tuple[Data, Data]:
    """Movie and Amazon snippets of people's agreed sentiment, n to learn from and m others to judge on."""
    folder, rows = datasets.pull("vader"), []
    for part in ("movie", "amazon"):
        with open(folder / f"{part}.csv", encoding="utf-8", newline="") as file:
            rows += [r for r in csv.DictReader(file) if abs(float(r["valence"])) > 0.5 and r["text"].strip()]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    data = Data(tuple(r["text"] for r in rows), tuple(int(float(r["valence"]) > 0) for r in rows))
    return data.take(range(n)), data.take(range(n, n + m))
