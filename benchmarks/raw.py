"""The files that several benchmarks read, as rows; nothing is chosen, drawn or run here."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SNIPPETS = {
    "movie": "movieReviewSnippets", "tweets": "tweets", "products": "amazonReviewSnippets",
    "NYT": "nytEditorialSnippets",
}  # fmt: skip
REVIEWS = {"amazon": "amazon_cells", "imdb": "imdb", "yelp": "yelp"}
CLEAR = 0.3  # snippets whose mean rating is nearer to 0 are left out: people disagreed on the sign


class Snippet(NamedTuple):
    """One rated text."""

    id: str
    rating: float
    text: str

    @property
    def label(self) -> int:
        """1 for a good word."""
        return int(self.rating > 0)


class Patients(NamedTuple):
    """One row a patient."""

    site: Any  # (n,)
    id: Any  # (n,)
    x: Any  # (n, d) float64
    y: Any  # (n,) 1 for the ill


def snippets(folder: Path) -> dict[str, list[Snippet]]:
    """The four kinds of vader4, in the order of the files."""
    found = {}
    for name, file in SNIPPETS.items():
        lines = (folder / "vader4" / f"{file}_GroundTruth.txt").read_text(encoding="utf-8").splitlines()
        parts = [p for p in (line.split("\t", 2) for line in lines) if len(p) == 3]
        rows = [Snippet(p[0], float(p[1]), p[2]) for p in parts]
        found[name] = [row for row in rows if abs(row.rating) > CLEAR]
    return found


def reviews(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """Sentence and label of the three kinds of uci_sentences."""
    found = {}
    for name, file in REVIEWS.items():
        lines = (folder / "uci_sentences" / f"{file}_labelled.txt").read_text(encoding="utf-8").split("\n")
        parts = [line.rsplit("\t", 1) for line in lines if line.strip()]
        found[name] = [(p[0].strip(), int(p[1])) for p in parts]
    return found


def patients(folder: Path) -> Patients:
    """Numbers, Cleveland's median where they are missing, and a column that says so; one column a value of the rest."""
    with (folder / "heart" / "heart_disease_uci.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    sites = np.array([row["dataset"] for row in table])
    columns = []
    for name in ("age", "trestbps", "chol", "thalch", "oldpeak", "ca"):
        numbers = np.array([float(row[name]) if row[name] else np.nan for row in table])
        columns.append(np.where(np.isnan(numbers), np.nanmedian(numbers[sites == "Cleveland"]), numbers))
        columns.append(np.isnan(numbers).astype(float))
    for name in ("sex", "cp", "fbs", "restecg", "exang", "slope", "thal"):
        columns += [np.array([row[name] == v for row in table], float) for v in sorted({row[name] for row in table})]
    ill = np.array([int(int(row["num"]) > 0) for row in table])
    return Patients(sites, np.array([row["id"] for row in table]), np.stack(columns, axis=1), ill)


def mnist() -> tuple[Any, Any]:
    """Pictures (n, 28, 28) of bytes, and labels."""
    from acclimate.catalogue import datasets

    with (datasets.pull("mnist5k") / "mnist5k.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    table, label = np.array(rows[1:]), rows[0].index("label")
    return np.delete(table, label, axis=1).astype(np.uint8).reshape(-1, 28, 28), table[:, label].astype(int)


def digits(kind: type) -> dict[str, tuple[Any, Any]]:
    """Pictures (n, 8, 8) from 0 to 1 and labels: scikit-learn's, and MNIST's cropped to 20 x 20 and averaged."""
    import torch
    import torch.nn.functional as F
    from sklearn.datasets import load_digits

    small, (large, label) = load_digits(), mnist()
    pixels = large[:, 4:24, 4:24].astype(kind)
    shrunk = F.interpolate(torch.from_numpy(pixels)[:, None], (8, 8), mode="area")[:, 0].numpy() / 255
    return {
        "digits": ((small.images / 16).astype(kind), small.target),
        "MNIST": (shrunk.astype(kind), label),
    }
