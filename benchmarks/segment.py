"""Segmentation: blood cells by a decoder on an ImageNet backbone, and by the same from scratch, on masks that are made.

Run: OMP_NUM_THREADS=1 python benchmarks/segment.py [--data FOLDER] [--seeds S] [--side N] [--epochs E] [--rows N]
[--ways W,...]; --table prints what is stored. The masks are MADE: the ellipse inside each box of BCCD (red cells first,
white cells and platelets over them), so they are near the cells' shape and no annotator's. The data set's own parts: N
of 292 pictures to learn from (0: all; 15 % of them to choose the epoch by), 72 to judge on. A seed draws the pictures,
the new weights and the order. Ways: "probe" (mobilenetv2 of ImageNet, frozen), "full" (the same, all weights move),
"scratch" (random weights). Beside: the usual class of a pixel's colour, and of its place. Results are added to
benchmarks/results/segment.json one by one; a run that is cut off goes on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from detect import fitted, parser, run, three
from intervals import plus_minus
from kept import Kept
from PIL import Image, ImageDraw

from acclimate.data.box_files import boxed
from acclimate.data.boxes import Boxed, settled
from acclimate.data.rows import Columns

RESULTS = Path(__file__).parent / "results" / "segment.json"
CLASSES = ("ground", "RBC", "WBC", "Platelets")  # in the order in which they are drawn
METRICS = ("miou", "dice", "pixel_accuracy")


def main() -> None:
    kept, options = Kept(RESULTS), parser()
    options.add_argument("--rows", type=int, default=0)
    options.add_argument("--balance", type=float, default=0.5)
    run(kept, options.parse_args(), one, "side", "epochs", "rows", "balance", "way", "seed")
    print(table(kept.rows))


def made(rows: Sequence[Boxed], folder: Path) -> Path:
    """A folder of pictures (links) and masks of ellipses."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for row in rows:
        path = Path(row.picture).resolve()
        with Image.open(path) as picture:
            mask = Image.new("L", picture.size, 0)
        pen = ImageDraw.Draw(mask)
        for box in sorted(settled(row).boxes, key=lambda b: CLASSES.index(b.label)):
            pen.ellipse(box[:4], fill=CLASSES.index(box.label))
        (folder / "images" / path.name).symlink_to(path)
        mask.save(folder / "masks" / f"{path.stem}.png")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def one(folder: Path, way: str, side: int, epochs: int, rows: int, balance: float, seed: int) -> dict[str, Any]:
    """Metrics on the test pictures of one way, with the interval over pictures, and those of both baselines."""
    sets = folder / "ImageSets" / "Main"
    train, test = (boxed(sets / f"{name}.txt", Columns(), "train")[0] for name in ("trainval", "test"))
    at = np.random.default_rng(seed).permutation(len(train))[: rows or len(train)]
    with tempfile.TemporaryDirectory() as held:
        place = Path(held)
        parts = made([train[i] for i in at], place / "train"), made(test, place / "test")
        scores, cost = fitted("segment", parts, way, side, epochs, seed, place, balance=balance)
    by_class = {label: row["iou"].value for label, row in scores.per_class.items()}
    beside = {name: three(base) for name, base in scores.baseline.items()}
    return {**{m: three(vars(scores.estimates[m])) for m in METRICS}, "iou": by_class, **beside, **cost}


def table(found: list[dict[str, Any]]) -> str:
    """Mean over seeds with the 95 % half-width; IoU of each class; minutes."""
    names = ("way", "rows", "side", "epochs", "balance")
    head = ["way", "pictures", *names[2:], "seeds", *METRICS, *(f"IoU {label}" for label in CLASSES), "minutes"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for key in dict.fromkeys(tuple(r[name] for name in names) for r in found):
        mine = [r for r in found if tuple(r[name] for name in names) == key]
        cells = [plus_minus([r[m][0] for r in mine]) for m in METRICS]
        cells += [f"{np.mean([r['iou'][label] or 0 for r in mine]):.3f}" for label in CLASSES]
        cells.append(f"{np.median([r['seconds'] for r in mine]) / 60:.1f}")
        first = [key[0], str(key[1] or 292), *map(str, key[2:]), str(len(mine))]
        lines.append("| " + " | ".join([*first, *cells]) + " |")
    for name in ("colour", "usual_place"):
        values = {tuple(r[name]) for r in found}
        lines.append(
            f"\n{name}: mIoU " + "; ".join(f"{v:.3f} ({low:.3f} to {high:.3f})" for v, low, high in sorted(values))
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
