"""Several kinds of columns in one row: the group of an emoji from its picture, name and numbers, alone and together.

Run: OMP_NUM_THREADS=1 python benchmarks/mixed.py [--emoji FOLDER] [--answers FOLDER] [--draws N]. The first FOLDER
holds google/, unpacked from the npm package emoji-datasource-google 16.0.0 (emoji.json and img/google/64). Numbers:
the version of Emoji that brought it, how many short names and how many typed faces it has, whether it comes in skin
tones; none of them orders the groups (the package's sort_order does, and is left out). Nine groups (Component, of
five, is left out). A draw is a random order of the rows: the last 450 judge, 60 to 1,400 of the others are learned
from. "one scale" standardises every feature by itself, as for one network alone, so that 1,280 features of a picture
outweigh four numbers; acclimate gives every column that a network reads, and all numbers together, the same weight.
Results are added to benchmarks/results/mixed.json one by one; a run that is cut off goes on; --table prints what is
stored.

The second FOLDER holds training/3way/beetle of SemEval-2013 task 7: a student's answer, the question as a category, and
how many words the answer has and shares with the reference, for its grade (correct, contradictory, incorrect). The
weights of kinds were chosen on emoji; this is where the choice is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from intervals import plus_minus
from kept import Kept

from acclimate.backbones import load
from acclimate.backbones.base import Backbone
from acclimate.data.column_types import Row, rows_of
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "mixed.json"
TEST, SIZES = 450, (60, 200, 600, 1400)
KINDS = {  # what the columns of each data set hold
    "emoji": {
        "photo": "image",
        "name": "text",
        "added": "number",
        "names": "number",
        "faces": "number",
        "tones": "number",
    },
    "answers": {"answer": "text", "question": "category", "words": "number", "shared": "number"},
}
BOOSTED = {"all, feature_boosting": 600}  # labels up to which it is tried, since it takes longest
NUMBERS = "number category"
WAYS = {  # kinds of columns that are read, by a strategy
    "emoji": {
        "numbers": (NUMBERS, "linear_probe"),
        "numbers, boosting": (NUMBERS, "boosting"),
        "name": ("text", "linear_probe"),
        "picture": ("image", "linear_probe"),
        "name and numbers": (f"text {NUMBERS}", "linear_probe"),
        "picture and name": ("text image", "linear_probe"),
        "all, one scale": (f"text image {NUMBERS}", "linear_probe"),
        "all": (f"text image {NUMBERS}", "linear_probe"),
        "all, hybrid": (f"text image {NUMBERS}", "hybrid"),
        "all, feature_boosting": (f"text image {NUMBERS}", "feature_boosting"),
    },
    "answers": {
        "numbers": (NUMBERS, "linear_probe"),
        "text": ("text", "linear_probe"),
        "all, one scale": (f"text {NUMBERS}", "linear_probe"),
        "all": (f"text {NUMBERS}", "linear_probe"),
    },
}
MODELS = {"text": "minilm", "image": "mobilenetv2"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--emoji")
    parser.add_argument("--answers")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS)
    if not arguments.table:
        torch.set_num_threads(1)
        sources = {"emoji": (arguments.emoji, emoji), "answers": (arguments.answers, answers)}
        for data, (folder, reader) in sources.items():
            if folder:
                measure(kept, data, *reader(Path(folder)), arguments.draws)
    print("\n\n".join(f"{data}\n{table([r for r in kept.rows if r['data'] == data], WAYS[data])}" for data in WAYS))


def measure(kept: Kept, data: str, cells: list[tuple[Any, ...]], labels: list[str], draws: int) -> None:
    """Add what is not stored yet, one by one."""
    for draw, n, way in product(range(draws), SIZES, WAYS[data]):
        key = {"data": data, "draw": draw, "labels": n, "way": way}
        if not (kept.has(key) or ("boosting" in way and n > BOOSTED.get(way, n))):
            kept.add({**key, **one(data, cells, labels, draw, n, way)})


def emoji(folder: Path) -> tuple[list[tuple[Any, ...]], list[str]]:
    """The cells of every emoji that has a picture and a group, and its group."""
    cells, labels = [], []
    for row in json.loads((folder / "google" / "emoji.json").read_text()):
        path = folder / "google" / "img" / "google" / "64" / row["image"]
        if row.get("name") and path.is_file() and row["category"] != "Component":
            numbers = (row["added_in"], len(row["short_names"]), len(row["texts"] or ()), "skin_variations" in row)
            cells.append((path, row["name"].lower(), *map(float, numbers)))
            labels.append(row["category"])
    return cells, labels


def answers(folder: Path) -> tuple[list[tuple[Any, ...]], list[str]]:
    """The cells of every answer to Beetle's questions, and its grade."""
    cells, labels = [], []
    for path in sorted((folder / "training" / "3way" / "beetle").glob("*.xml")):
        question = ElementTree.parse(path).getroot()
        wanted = set(max((r.text or "" for r in question.iter("referenceAnswer")), key=len).lower().split())
        for answer in question.iter("studentAnswer"):
            text = (answer.text or "").strip()
            words = text.lower().split()
            cells.append((text, question.get("id"), float(len(words)), float(len(set(words) & wanted))))
            labels.append(str(answer.get("accuracy")))
    return cells, labels


@cache
def loaded(model: str) -> Backbone:
    """A model, which keeps the features of pictures and names that it has read."""
    return load(model)


def one(data: str, cells: list[tuple[Any, ...]], labels: list[str], draw: int, n: int, way: str) -> dict[str, Any]:
    """Accuracy on the rows that judge, and the seconds of the fit once features are there."""
    reads, strategy = WAYS[data][way]
    kinds = {name: kind if kind in reads.split() else "none" for name, kind in KINDS[data].items()}
    rows = rows_of(cells, tuple(kinds), kinds)
    order = np.random.default_rng(draw).permutation(len(rows))
    train, test = (data_of(rows, labels, at) for at in (order[:n], order[-TEST:]))
    run = Run(seed=draw)
    model = "+".join(["columns", *(MODELS[kind] for kind in MODELS if kind in reads.split())])
    backbone = loaded(model).fit_rows(train.inputs)
    store = Store(backbone, run)
    store.prepare([*train.inputs, *test.inputs])
    task = TASKS["classify"]
    problem = Problem(task, task.decoder(train.labels or (), "str"), backbone, store)
    if way == "all, one scale":
        backbone.groups = ()
    began = time.monotonic()
    fitted = named(strategy)[1].fit(problem, Splits(train), run)
    seconds = time.monotonic() - began
    said = fitted.outputs(test.inputs, run).argmax(1)
    right = [problem.decoder.classes[k] == label for k, label in zip(said, test.labels or (), strict=True)]
    return {"accuracy": float(np.mean(right)), "seconds": round(seconds, 2)}


def data_of(rows: list[Row], labels: list[str], at: Any) -> Data:
    """These rows as data of a table."""
    return Data(
        tuple(rows[i] for i in at), tuple(labels[i] for i in at), clusters=np.arange(len(at)), kind="table",
        lines=tuple(range(1, len(at) + 1)),
    )  # fmt: skip


def table(found: list[dict[str, Any]], ways: dict[str, tuple[str, str]]) -> str:
    """Accuracy by way and number of labels; then what all gain on the parts, draw by draw."""
    lines = ["| | " + " | ".join(f"{n:,} labels" for n in SIZES) + " |", "|---|" + "---|" * len(SIZES)]
    values = {(r["way"], r["labels"], r["draw"]): r["accuracy"] for r in found}

    def cell(way: str, n: int, less: str = "") -> str:
        draws = sorted({d for w, m, d in values if (w, m) == (way, n)})
        each = [values[way, n, d] - (values[less, n, d] if less else 0.0) for d in draws]
        if not each:
            return ""
        return ("+" if less and np.mean(each) >= 0 else "") + plus_minus(each).replace("-", "−")

    lines += [f"| {way} | " + " | ".join(cell(way, n) for n in SIZES) + " |" for way in ways]
    for less in (way for way in ways if way != "all" and not ways[way][1].endswith(("hybrid", "boosting"))):
        lines.append(f"| all − {less} | " + " | ".join(cell("all", n, less) for n in SIZES) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
