"""The pairs of domains that benchmarks of adaptation share: labelled rows of two places; nothing is run here."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.data.rows import Data

MOST = 1600  # rows of a domain
SNIPPETS = {"movie": "movieReview", "tweets": "tweets", "amazon": "amazonReview", "nyt": "nytEditorial"}
SENTENCES = {"amazon": "amazon_cells_labelled.txt", "imdb": "imdb_labelled.txt", "yelp": "yelp_labelled.txt"}
HOSPITALS = {"cleveland": "Cleveland", "hungary": "Hungary", "va": "VA Long Beach", "switzerland": "Switzerland"}
NUMBERS = ("age", "trestbps", "chol", "thalch", "oldpeak", "ca")
FLAGS = ("fbs", "exang")
KINDS = {
    "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
    "restecg": ("normal", "lv hypertrophy", "st-t abnormality"),
    "slope": ("upsloping", "flat", "downsloping"),
    "thal": ("normal", "fixed defect", "reversable defect"),
}


def domain(family: str, name: str, folder: Path, seed: int) -> Data:
    """At most 1,600 rows of one domain, drawn with this seed. `folder` holds vader4, uci_sentences and heart."""
    data = {"vader": snippets, "uci": sentences, "heart": patients}[family](name, folder)
    order = np.random.default_rng(seed).permutation(len(data))
    return data.take(order[:MOST])


def snippets(name: str, folder: Path) -> Data:
    """Snippets whose mean valence is beyond 0.3 on either side."""
    found = sorted((folder / "vader4").glob(f"{SNIPPETS[name]}*_GroundTruth.txt"))[0]
    with open(found, encoding="utf-8", errors="replace") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    rows = [r for r in rows if len(r) >= 3 and abs(float(r[1])) > 0.3 and r[2].strip()]
    return Data(tuple(r[2] for r in rows), tuple(int(float(r[1]) > 0) for r in rows))


def sentences(name: str, folder: Path) -> Data:
    """Sentences and their sentiment."""
    with open(folder / "uci_sentences" / SENTENCES[name], encoding="utf-8", newline="\n") as file:
        rows = [line.rstrip("\n").rsplit("\t", 1) for line in file]
    return Data(tuple(r[0] for r in rows), tuple(int(r[1]) for r in rows))


def patients(name: str, folder: Path) -> Data:
    """Patients of one hospital as rows of numbers; a number that is missing is Cleveland's median."""
    with open(folder / "heart" / "heart_disease_uci.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    home = [r for r in rows if r["dataset"] == "Cleveland"]
    usual = {c: float(np.median([float(r[c]) for r in home if r[c]])) for c in NUMBERS}
    rows = [r for r in rows if r["dataset"] == HOSPITALS[name]]
    found: Any = tuple(_patient(r, usual) for r in rows)
    return Data(found, tuple(int(int(r["num"]) > 0) for r in rows), clusters=np.arange(len(rows)))


def _patient(row: dict[str, str], usual: dict[str, float]) -> tuple[float, ...]:
    values = [float(row[c]) if row[c] else usual[c] for c in NUMBERS]
    values += [float(row["sex"] == "Male"), *(float(row[c] == "TRUE") for c in FLAGS)]
    return tuple(values + [float(row[c] == kind) for c, kinds in KINDS.items() for kind in kinds])


class Numbers(Backbone):
    """Rows of numbers that are their own features."""

    modality = "table"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.origin = Origin("numbers")
        self.width = width

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """As they are."""
        return [Encoded((torch.tensor(x, dtype=torch.float32),), 1) for x in inputs]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """(n, d)."""
        return {"numbers": torch.stack([row.parts[0] for row in rows])}

    def forward(self, batch: Batch) -> Tensor:
        """(n, d)."""
        return batch["numbers"]

    @property
    def blocks(self) -> list[nn.Module]:
        """None."""
        return []

    def settings(self) -> dict[str, object]:
        """Nothing to set."""
        return {"modality": "table"}

    def save(self, folder: Path) -> None:
        """Not saved in benchmarks."""
        raise AssertionError(folder)

    def clone(self) -> Numbers:
        """There is nothing to copy."""
        return self
