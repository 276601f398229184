"""Pictures through frozen networks, beside pixels that need no transfer and, of tiny ones, a network from scratch.

Run: OMP_NUM_THREADS=1 python benchmarks/pictures.py --data FOLDER (holds pacs_mini and bccd; digits are fetched);
--table prints the results of the last run. A seed redraws the rows; features are computed once and kept in the cache.
- Dogs and guitars (PACS), photos and cartoons: one half of each kind judges, near duplicates on one side; 8 of each
  class, or all, of the other half of one kind are learned from. From kind to kind, some ways are also given that half
  of the kind that is judged, without labels.
- Single blood cells, cut out of microscope images by their boxes: a square of 1.2 times the longer side, at most 300 of
  a type, drawn once. One half of the images judges, so that the cells of one image are on one side.
- Written digits, scikit-learn's (8 x 8) and MNIST's (28 x 28, 5,000): 8, 32 or 128 of each class are learned from, all
  but the 128 judge. "full" is as it comes; "from scratch" has the learning rate that `consistency` has for random
  weights and at least 600 steps, "augmented" changes its pictures at random as well. `consistency` was made on digits
  of these two sets.
Nothing else was tuned on any of these rows. Results are added to benchmarks/results/pictures.json one by one; a run
that is cut off goes on.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import raw
import torch
from kept import Kept
from molecules import interval
from PIL import Image
from sklearn.datasets import load_digits

from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.kinds import KINDS
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.metrics.classification import METRICS
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "pictures.json"
PHOTOS = ("pixels", "mobilenetv2", "efficientnet-lite0")
ADAPTED = ("standardise", "coral", "self_train")
TINY = ("pixels", "mobilenetv2", "efficientnet-lite0", "full", "from scratch", "augmented")
FEW, MOST, LEAST, MARGIN, STEPS, RATE = 8, 300, 8, 1.2, 600, 2e-3
TRAINED: dict[str, dict[str, Any]] = {
    "full": {},
    "from scratch": {"learning_rate": RATE, "head_learning_rate": RATE},
    "augmented": {"learning_rate": RATE, "head_learning_rate": RATE, "augment": 0.5},
}
Split = tuple[str, Any, Any, Any]  # name, rows to learn from, rows without labels or None, rows to be judged on


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="sets between commas")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not asked.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        for name in asked.only.split(",") if asked.only else SETS:
            data, ways, splits = SETS[name](Path(asked.data))
            measure(name, data, ways, splits, asked.seeds, kept)
    print(table(kept.rows))


def measure(name: str, data: Data, ways: tuple[str, ...], splits: Any, seeds: int, kept: Kept) -> None:
    """Every way on every split that was not judged before, from the quickest way to the slowest."""
    for way in ways:
        problem = problem_of(way, data)
        if problem.store is not None and way not in TRAINED:
            for at in range(0, len(data), 100):  # kept in the cache as they come
                problem.store.prepare(data.inputs[at : at + 100])
        for seed in range(seeds):
            for split, train, target, test in splits(seed):
                row: dict[str, Any] = {"set": name, "split": split, "seed": seed, "way": way}
                if kept.has(row) or (target is None and ", " in way):
                    continue
                began = time.process_time()
                row |= {"learned": len(train), "n": len(test)}
                some = None if target is None else data.take(target)
                row |= judged(way, problem, Splits(data.take(train), target=some), data.take(test), seed)
                row["cpu"] = round(time.process_time() - began, 2)
                kept.add(row, threads=1, load=os.getloadavg()[0])


def problem_of(way: str, data: Data) -> Problem:
    """The classes, and the network that this way reads or trains."""
    task = TASKS["classify"]
    assert data.labels is not None
    decoder = task.decoder(data.labels, type(data.labels[0]).__name__)
    if way == "pixels":
        return Problem(task, decoder)
    backbone = load(f"small-cnn:{len(data.inputs[0])}" if way in TRAINED else way.partition(", ")[0])
    return Problem(task, decoder, backbone, Store(backbone, Run(cache=None if way in TRAINED else cache.features())))


def judged(way: str, problem: Problem, rows: Splits, test: Data, seed: int) -> dict[str, float]:
    """Accuracy and macro-F1 on the rows to be judged on."""
    strategy: Any = named("pixels" if way == "pixels" else way.partition(", ")[2] or "linear_probe")[1]
    if way in TRAINED:
        problem.network()[0].reset(seed)
        strategy = replace(named("full")[1], **TRAINED[way])  # type: ignore[type-var]
        if way != "full":
            strategy = replace(strategy, num_train_epochs=math.ceil(STEPS / math.ceil(len(rows.train) / 16)))
    fitted = strategy.fit(problem, rows, Run(seed=seed))
    parts = list(fitted.parts(test.inputs, Run(seed=seed), None if way in TRAINED else problem.store))
    truth, said = problem.targets(test).astype(int), np.concatenate(parts).argmax(1)
    return {name: float(METRICS[name](truth, said)) for name in ("accuracy", "macro_f1")}


def pacs(folder: Path) -> tuple[Data, tuple[str, ...], Any]:
    """Files of two kinds and two classes."""
    paths = sorted((folder / "pacs_mini" / "PACS").glob("*/*/*.jpg"))
    inputs, image = tuple(map(str, paths)), KINDS["image"]
    data = Data(inputs, tuple(p.parent.name for p in paths), domains=tuple(p.parts[-3] for p in paths),
                clusters=image.clusters(inputs, image.keys(inputs)), kind="image")  # fmt: skip
    kinds = np.array(data.domains)
    alone = replace(data, domains=None)  # of one kind each time: there is nothing to leave out

    def splits(seed: int) -> Iterator[Split]:
        learn, judge = halves(data.clusters, seed)
        for source in ("photo", "cartoon"):
            some = learn[kinds[learn] == source]
            for target in ("photo", "cartoon"):
                test = judge[kinds[judge] == target]
                unlabelled = None if source == target else learn[kinds[learn] == target]
                yield f"{source} → {target}, {FEW} a class", few(some, data.labels, FEW), unlabelled, test
                yield f"{source} → {target}, half", some, unlabelled, test

    return alone, (*PHOTOS, *(f"{name}, {how}" for name in PHOTOS[1:] for how in ADAPTED)), splits


def cells(folder: Path) -> tuple[Data, tuple[str, ...], Any]:
    """Crops, with the image that each is of."""
    boxes: dict[str, list[tuple[str, tuple[int, ...]]]] = defaultdict(list)
    for path in sorted((folder / "bccd" / "BCCD" / "Annotations").glob("*.xml")):
        for one in ElementTree.parse(path).iter("object"):
            box = tuple(int(one.findtext(f"bndbox/{c}") or 0) for c in ("xmin", "ymin", "xmax", "ymax"))
            if min(box[2] - box[0], box[3] - box[1]) >= LEAST:  # some boxes are empty
                boxes[str(one.findtext("name"))].append((path.stem, box))
    rng, rows = np.random.default_rng(0), []
    for name, found in sorted(boxes.items()):
        rows += [(name, *found[i]) for i in sorted(rng.permutation(len(found))[:MOST])]
    images = folder / "bccd" / "BCCD" / "JPEGImages"
    data = Data(tuple(crop(images / f"{stem}.jpg", box) for _, stem, box in rows), tuple(r[0] for r in rows),
                groups=tuple(r[1] for r in rows), kind="image")  # fmt: skip

    def splits(seed: int) -> Iterator[Split]:
        learn, judge = halves(np.unique(data.groups, return_inverse=True)[1], seed)
        yield f"{FEW} a class", few(learn, data.labels, FEW), None, judge
        yield "half", learn, None, judge

    return data, PHOTOS, splits


def crop(path: Path, box: tuple[int, ...]) -> Any:
    """A square around the box, as far as the image goes: (h, w, 3)."""
    with Image.open(path) as image:
        half = MARGIN * max(box[2] - box[0], box[3] - box[1]) / 2
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        edges = max(0, x - half), max(0, y - half), min(image.width, x + half), min(image.height, y + half)
        return np.asarray(image.convert("RGB").crop(tuple(map(round, edges))))


def written(pixels: Any, labels: Any) -> tuple[Data, tuple[str, ...], Any]:
    """Grey arrays."""
    data = Data(tuple(pixels), tuple(map(int, labels)), kind="image")

    def splits(seed: int) -> Iterator[Split]:
        order = np.random.default_rng(seed).permutation(len(data))
        most = few(order, data.labels, 128)
        for count in (FEW, 32, 128):
            yield f"{count} a class", few(order, data.labels, count), None, np.setdiff1d(order, most)

    return data, TINY, splits


def halves(units: Any, seed: int) -> tuple[Any, Any]:
    """Rows of one half of these units and of the other, each in random order."""
    rng = np.random.default_rng(seed)
    order, chosen = rng.permutation(len(units)), rng.permutation(np.unique(units))
    first = np.isin(units[order], chosen[: len(chosen) // 2])
    return order[first], order[~first]


def few(order: Any, labels: Any, count: int) -> Any:
    """The first rows of each class in this order."""
    of = np.array(labels)[order]
    return np.concatenate([order[of == name][:count] for name in np.unique(of)])


def digits(_: Path) -> tuple[Data, tuple[str, ...], Any]:
    """Scikit-learn's."""
    small = load_digits()
    return written(small.images / 16, small.target)


SETS = {"PACS": pacs, "blood cells": cells, "digits": digits, "MNIST": lambda _: written(*raw.mnist())}


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds with t intervals, and the paired differences to pixels."""
    by: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for r in rows:
        by[r["set"], r["split"], r["way"]][r["seed"]] = r
    lines = ["| set | split | way | seeds | learned | judged | accuracy | macro-F1 | macro-F1 less pixels | CPU s |",
             "|---" * 10 + "|"]  # fmt: skip
    for name, split, way in sorted(by, key=lambda k: list(by).index((k[0], k[1], "pixels"))):
        found, base = by[name, split, way], by[name, split, "pixels"]
        cells = [interval([r[m] for r in found.values()]) for m in ("accuracy", "macro_f1")]
        gap = interval([r["macro_f1"] - base[s]["macro_f1"] for s, r in found.items()]) if way != "pixels" else ""
        sizes = [" to ".join(str(v) for v in sorted({min(n), max(n)})) for n in
                 ([r[k] for r in found.values()] for k in ("learned", "n"))]  # fmt: skip
        cpu = np.median([r["cpu"] for r in found.values()])
        lines.append(f"| {' | '.join([name, split, way, str(len(found)), *sizes, *cells, gap, f'{cpu:.1f}'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
