"""Segmentation: a class for every pixel of a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from acclimate.data import pictures
from acclimate.data.account import Audit, by_file, named_files
from acclimate.data.masks import IGNORED, checked, legend_of, masked, settled, unpacked
from acclimate.data.rows import Columns, Data, FloatArray
from acclimate.errors import UserError, unknown
from acclimate.metrics.base import divide
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.base import Asked, Baseline, Measure, New, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.drawing import with_masks
from acclimate.structured.gate import accounted
from acclimate.structured.picture_rows import SIDE_INSTEAD, keys_of, new_pictures, paths_given
from acclimate.structured.segment_baselines import ByColour, ByPlace, confusion

_DECODERS = ("unet", "fpn")


@dataclass(frozen=True)
class Segment(Structured):
    """A class index for every pixel, as a grey PNG; mean intersection over union.

    Use when the shape or the area of things matters. Rows: a folder with `images/` and `masks/`, or a table with the
    columns image and mask. Masks are PNGs of indices or palettes, or of colours that `classes.csv` names; index 255
    counts for nothing. `side` is the longer side that pictures are read at. `balance` above 0 finds small classes
    sooner and tells their pixels too often rather than too seldom; with 1 all classes count alike, however small.
    """

    side: int = 256  # pixels of the longer side
    decoder: str = "unet"  # or "fpn"; of Hugging Face folders their own
    width: int = 16  # channels of the decoder's finest layer
    dice: float = 1.0  # weight of the Dice loss beside the cross-entropy
    balance: float = 0.5  # b: a class with the share f of all pixels counts f^−b in the cross-entropy; 0: all alike

    name: ClassVar[str] = "segment"
    noun: ClassVar[str] = "picture"
    metric: ClassVar[str] = "miou"
    model: ClassVar[str] = "mobilenetv2"
    strategies: ClassVar[Mapping[str, Tune | None]] = {
        "linear_probe": Tune(moves="head", batch_size=8, augment="light"),
        "partial": Tune(moves="top:3", batch_size=8, learning_rate=3e-4, augment="light"),
        "full": Tune(batch_size=8, learning_rate=3e-4, augment="light"),
    }
    instead: ClassVar[Mapping[str, str]] = {"image_size": SIDE_INSTEAD}
    candidates: ClassVar[tuple[str, ...]] = ("linear_probe", "full")

    def __post_init__(self) -> None:
        if self.decoder not in _DECODERS:
            raise unknown("decoder", self.decoder, _DECODERS)
        if self.side < 32 or self.width < 1 or self.dice < 0 or not 0 <= self.balance <= 1:
            raise UserError(
                f"side {self.side} must be 32 or more, width {self.width} 1 or more, dice {self.dice} 0 or more, "
                f"balance {self.balance} from 0 to 1"
            )

    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """Pictures with their masks; those without one, or with one of another size, are named."""
        rows, legend, table = masked(source, asked.columns)
        with asked.progress.steps("looking at masks", len(rows)) as advance, ThreadPoolExecutor(2) as pool:
            found = []
            for one in pool.map(lambda row: checked(row, legend), rows):
                found.append(one)
                advance(1)
        known = None if state is None else len(state["classes"])
        masks, reasons, findings, pixels = settled(rows, found, legend, known)
        kept = [i for i, reason in enumerate(reasons) if reason is None]
        data = Data(
            inputs=tuple(rows[i].picture for i in kept),
            labels=tuple(mask for mask in masks if mask is not None),  # none where there is a reason
            lines=tuple(rows[i].line for i in kept),
            source=table.source,
            kind="image",
        )
        names = legend.names or tuple(map(str, range(max([0, *(k for k in pixels if k != IGNORED)]) + 1)))
        counts = {names[k]: n for k, n in sorted(pixels.items()) if n and k < len(names)}
        columns = Columns(file=next((n for n in table.columns if n.lower() in ("file", "image", "path")), None))
        audit = accounted(self, table, role, reasons, by_file(findings, table, columns, asked.private), counts)
        if audit.dropped and columns.file is not None and not asked.private:
            told = {r: named_files(table, columns, lines, False) for r, lines in audit.dropped.items()}
            audit.facts["dropped_files"] = {reason: text.removeprefix(": ") for reason, text in told.items()}
        audit.facts["classes"] = list(names)
        return data, audit

    def read_new(self, source: Any, asked: Asked) -> New:
        """Pictures to look at; masks in the source are not read."""

        def rows() -> tuple[Sequence[Any], Any]:
            found, _, table = masked(source, asked.columns)
            return found, table

        return new_pictures(source, asked, rows)

    def given(self, inputs: Any) -> list[Any] | None:
        """Paths of pictures, or what Python holds of them."""
        found = paths_given(inputs)
        return super().given(inputs) if found is None and not isinstance(inputs, (str, Path)) else found

    def learn(self, train: Data) -> State:
        """The classes, and the size that pictures are read at."""
        from acclimate.backbones.maps import canvas_of

        path = Path(train.source).expanduser()
        names = list(legend_of(path if path.is_dir() else path.parent).names)
        pixels = np.zeros(IGNORED + 1, np.int64)
        for mask in labels_of(train):
            pixels += np.bincount(unpacked(mask).reshape(-1), minlength=IGNORED + 1)
        used = set(np.flatnonzero(pixels).tolist()) - {IGNORED}
        if len(used) < 2:
            raise UserError(f"{train.source}: all pixels have one class, so there is nothing to learn")
        names += [str(i) for i in range(len(names), max(used) + 1)]
        sizes = [pictures.look(one).size for one in train.inputs]
        counts = [int(n) for n in pixels[: len(names)]]
        return {"classes": names, "canvas": list(canvas_of(sizes, self.side)), "pixels": counts}

    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """The backbone with a decoder, or the Hugging Face model whole."""
        from acclimate.backbones.maps import image_backbone
        from acclimate.structured.hub_vision import is_hub, load_hub_vision
        from acclimate.structured.segment_network import HubSegmentNetwork, MapsNetwork, ReadMasks

        canvas, classes = (int(state["canvas"][0]), int(state["canvas"][1])), state["classes"]
        weights = balanced(state.get("pixels", ()), self.balance)
        if is_hub(model, "ForSemanticSegmentation"):
            whole = load_hub_vision(model, "segmentation", classes)
            return HubSegmentNetwork(whole, ReadMasks(whole.image, canvas, len(classes), self.dice, weights))
        backbone = image_backbone(model, "segmentation")
        read = ReadMasks(backbone.image, canvas, len(classes), self.dice, weights)
        return MapsNetwork(backbone, read, self.decoder, self.width)

    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """The usual class of a pixel's colour, and of its place."""
        count = len(state["classes"])
        return {"colour": partial(ByColour, train, count, run.seed), "usual_place": partial(ByPlace, train, count)}

    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """Mean intersection over union and mean Dice over the classes that are there, and the share of right pixels:
        all of pixels summed over pictures."""
        counts = _counts(truth, answers, state)
        right, every = counts.diagonal(axis1=1, axis2=2).sum(1), counts.sum((1, 2))
        return {
            "miou": Measure(partial(_mean, counts, _iou)),
            "dice": Measure(partial(_mean, counts, _dice)),
            "pixel_accuracy": Measure(lambda w: divide(w @ right, w @ every)),
        }

    def per_class(
        self, truth: Sequence[Any], answers: Sequence[Any], state: State
    ) -> dict[str, dict[str, tuple[Measure, int]]]:
        """The same of each class, with the number of pictures that hold it."""
        counts = _counts(truth, answers, state)
        found: dict[str, dict[str, tuple[Measure, int]]] = {}
        for k, name in enumerate(state["classes"]):
            cases = int((counts[:, k].sum(1) > 0).sum())
            each = {"iou": partial(_of_class, counts, _iou, k), "dice": partial(_of_class, counts, _dice, k)}
            found[name] = {metric: (Measure(at), cases) for metric, at in each.items()}
        return found

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """That pixels of a picture are no independent cases."""
        return ("pixels are summed over pictures; intervals are over pictures",) if truth else ()

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """The share of wrong pixels of each picture."""
        found = []
        for true, said in zip(truth, answers, strict=True):
            a, b = unpacked(true), unpacked(said)
            keep = a != IGNORED
            found.append(float((a[keep] != b[keep]).mean()))
        return found

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """By the bytes of the file."""
        return keys_of(inputs)

    def told(self, network: StructuredNetwork, inputs: Sequence[Any], state: State, run: Run) -> list[Any]:
        """Masks with the names of their classes."""
        said = super().told(network, inputs, state, run)
        return [mask._replace(classes=tuple(state["classes"])) for mask in said]

    def columns(self, inputs: Sequence[Any], answers: Sequence[Any]) -> dict[str, list[Any]]:
        """The file of the mask (`files`), and the share of the picture that each class has."""
        shares: list[str | None] = []
        for mask in answers:
            if mask is None:
                shares.append(None)
                continue
            counts = np.bincount(unpacked(mask).ravel(), minlength=len(mask.classes))
            names = mask.classes or range(len(counts))
            shares.append(", ".join(f"{c}: {n / counts.sum():.1%}" for c, n in zip(names, counts, strict=True) if n))
        return {"mask": _names(answers), "shares": shares}

    def files(self, answers: Sequence[Any]) -> dict[str, bytes]:
        """The masks as grey PNGs of class indices, as large as the pictures."""
        return {name: mask.png for name, mask in zip(_names(answers), answers, strict=True) if name is not None}

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """The picture with the true mask on the left and the one told on the right."""
        found = []
        for one, true, said, wrong in zip(inputs, truth, answers, self.errors(truth, answers), strict=True):
            row = {"input": Path(pictures.name_of(one)).name, "truth": "left", "predicted": f"right; {wrong:.1%} wrong"}
            found.append(row | {"picture": with_masks(one, unpacked(true), unpacked(said))})
        return found


def _names(answers: Sequence[Any]) -> list[str | None]:
    """masks-1a2b3c4d/00001.png ...: the folder is named by what lies in it, so that no other table's masks are lost."""
    digest = hashlib.blake2b(digest_size=4)
    for mask in answers:
        digest.update(b"" if mask is None else mask.png)
    folder = f"masks-{digest.hexdigest()}"
    return [None if mask is None else f"{folder}/{i:05d}.png" for i, mask in enumerate(answers, 1)]


def _counts(truth: Sequence[Any], answers: Sequence[Any], state: State) -> FloatArray:
    """(n, k, k)."""
    k = len(state["classes"])
    both = [confusion(unpacked(t), unpacked(a), k) for t, a in zip(truth, answers, strict=True)]
    return np.stack(both) if both else np.zeros((0, k, k))


def _parts(counts: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Right pixels, true pixels and told pixels of each class, (r, k) each."""
    right, true, said = counts.diagonal(axis1=1, axis2=2), counts.sum(2), counts.sum(1)
    return weights @ right, weights @ true, weights @ said


def balanced(pixels: Sequence[int], balance: float) -> tuple[float, ...]:
    """Weights of classes: f^−b, f the share of all pixels, so that the mean over all pixels is 1; a class without
    pixels has weight 0. None where all count alike.

    >>> [round(w, 3) for w in balanced([900, 100, 0], 0.5)]
    [0.833, 2.5, 0.0]
    """
    if not balance or not sum(pixels):
        return ()
    share = np.array(pixels, float) / sum(pixels)
    raw = np.where(share > 0, np.where(share > 0, share, 1.0) ** -balance, 0.0)
    return tuple((raw / (share @ raw)).tolist())


def _iou(right: FloatArray, true: FloatArray, said: FloatArray) -> FloatArray:
    return divide(right, true + said - right)


def _dice(right: FloatArray, true: FloatArray, said: FloatArray) -> FloatArray:
    return divide(2 * right, true + said)


def _of_class(counts: FloatArray, what: Callable[..., FloatArray], k: int, weights: FloatArray) -> FloatArray:
    return what(*(part[:, k] for part in _parts(counts, weights)))


def _mean(counts: FloatArray, what: Callable[..., FloatArray], weights: FloatArray) -> FloatArray:
    """Over the classes that the weighted pictures hold."""
    right, true, said = _parts(counts, weights)
    there = true > 0
    each = np.where(there, np.nan_to_num(what(right, true, said)), 0.0)
    return divide(each.sum(1), there.sum(1).astype(float))
