"""Detection: blood cells (BCCD, three classes) by a detector on an ImageNet backbone, and by the same from scratch.

Run: OMP_NUM_THREADS=1 python benchmarks/detect.py [--data FOLDER] [--seeds S] [--side N] [--epochs E] [--ways W,...];
--table prints what is stored. The data set's own parts: 292 pictures to learn from (15 % of them to choose the epoch
by), 72 to judge on. A seed draws the new weights, the order and the pictures to choose by. Ways: "probe" (mobilenetv2
of ImageNet, frozen), "full" (the same, all weights move), "scratch" (the same network with random weights). Beside:
boxes at the usual places. Results are added to benchmarks/results/detect.json one by one; a run that is cut off goes
on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import timm
import torch
from intervals import plus_minus
from kept import Kept

import acclimate
from acclimate.backbones.base import Origin
from acclimate.backbones.image import ImageBackbone
from acclimate.backbones.maps import image_backbone
from acclimate.metrics.results import Scores

RESULTS = Path(__file__).parent / "results" / "detect.json"
METRICS = ("map", "map_50", "f1_50")
RATES = {"probe": 1e-3, "full": 3e-4, "scratch": 1e-3}


def main() -> None:
    kept = Kept(RESULTS)
    run(kept, parser().parse_args(), one, "way", "side", "epochs", "seed")
    print(table(kept.rows))


def parser() -> argparse.ArgumentParser:
    """The options that segment.py has as well."""
    made = argparse.ArgumentParser()
    made.add_argument("--data", default="../shared/data")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--side", type=int, default=224)
    made.add_argument("--epochs", type=int, default=8)
    made.add_argument("--ways", default="full,scratch,probe")
    made.add_argument("--table", action="store_true")
    return made


def run(kept: Kept, asked: argparse.Namespace, measure: Callable[..., dict[str, Any]], *names: str) -> None:
    """Add the rows that are not kept yet; `names` are those of a key: the way, the seed and of `asked` the others."""
    if asked.table:
        return
    torch.set_num_threads(1)
    turns = itertools.product(range(asked.seeds), asked.ways.split(","))
    every = ({**vars(asked), "way": way, "seed": seed} for seed, way in turns)
    for key in kept.missing({name: values[name] for name in names} for values in every):
        kept.add({**key, **measure(Path(asked.data) / "bccd" / "BCCD", **key)})


def random_folder(folder: Path, seed: int) -> Path:
    """The architecture of mobilenetv2 with random weights."""
    known = image_backbone("mobilenetv2", "detection")
    torch.manual_seed(seed)
    model = timm.create_model(known.architecture, pretrained=False, num_classes=0).eval()
    folder.mkdir()
    ImageBackbone(model, known.architecture, known.image, Origin("random mobilenetv2")).save(folder)
    return folder


def one(folder: Path, way: str, side: int, epochs: int, seed: int) -> dict[str, Any]:
    """Metrics on the test pictures of one way, with the interval over pictures, and those of the usual places."""
    sets = folder / "ImageSets" / "Main"
    with tempfile.TemporaryDirectory() as place:
        scores, cost = fitted(
            "detect", (sets / "trainval.txt", sets / "test.txt"), way, side, epochs, seed, Path(place)
        )
    by_class = {label: row["ap_50"].value for label, row in scores.per_class.items()}
    base = scores.baseline["usual_places"]
    return {
        **{m: three(vars(scores.estimates[m])) for m in METRICS}, "ap_50": by_class, "usual_places": three(base),
        "gain": base["difference"], **cost,
    }  # fmt: skip


def fitted(
    task: str, parts: tuple[Path, Path], way: str, side: int, epochs: int, seed: int, place: Path, **more: Any
) -> tuple[Scores, dict[str, Any]]:
    """The scores of one way that learns from the first part and is judged on the second; what that took."""
    model = str(random_folder(place / "random", seed)) if way == "scratch" else "mobilenetv2"
    began = time.monotonic()
    scores = acclimate.fit(
        str(parts[0]), task=task, model=model, test_data=str(parts[1]), seed=seed, quiet=True,
        strategy="linear_probe" if way == "probe" else "full", output_dir=place / "run",
        settings={"side": side, "num_train_epochs": epochs, "batch_size": 4, "learning_rate": RATES[way]} | more,
    ).scores  # fmt: skip
    assert scores is not None
    return scores, {"seconds": round(time.monotonic() - began), "load": round(os.getloadavg()[0], 1)}


def three(estimate: dict[str, Any]) -> list[Any]:
    """A value and its interval."""
    return [estimate[name] for name in ("value", "low", "high")]


def table(found: list[dict[str, Any]]) -> str:
    """Mean over seeds with the 95 % half-width; AP at 0.5 of each class; minutes."""
    labels = sorted({label for row in found for label in row["ap_50"]})
    head = ["way", "side", "epochs", "seeds", *METRICS, *(f"AP50 {label}" for label in labels), "minutes"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for key in dict.fromkeys((r["way"], r["side"], r["epochs"]) for r in found):
        mine = [r for r in found if (r["way"], r["side"], r["epochs"]) == key]
        cells = [plus_minus([r[m][0] for r in mine]) for m in METRICS]
        cells += [f"{np.mean([r['ap_50'][label] or 0 for r in mine]):.3f}" for label in labels]
        minutes = f"{np.median([r['seconds'] for r in mine]) / 60:.1f}"
        lines.append("| " + " | ".join([*map(str, key), str(len(mine)), *cells, minutes]) + " |")
    if found:
        low, high = found[0]["usual_places"][1:]
        lines.append(f"\nUsual places: mAP {found[0]['usual_places'][0]:.3f} ({low:.3f} to {high:.3f}).")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
