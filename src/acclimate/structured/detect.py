"""Detection: what is in a picture, and where, as boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from acclimate.data import pictures
from acclimate.data.account import Audit, by_file, named_files
from acclimate.data.box_files import boxed, cell_of
from acclimate.data.boxes import Box, findings, settled_all
from acclimate.data.rows import Columns, Data, FloatArray
from acclimate.errors import UserError, plural, unknown
from acclimate.metrics.base import divide
from acclimate.metrics.detection import IOUS, Matches, average_precision, match, matches_of
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.base import Asked, Baseline, Measure, New, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.detect_baselines import UsualBoxes
from acclimate.structured.drawing import with_boxes
from acclimate.structured.gate import accounted
from acclimate.structured.picture_rows import SIDE_INSTEAD, keys_of, new_pictures, paths_given

_DETECTORS = ("fcos", "faster_rcnn")


@dataclass(frozen=True)
class Detect(Structured):
    """Boxes (x1, y1, x2, y2, in pixels of the upright picture) with a class and a score each; mAP@[.5:.95].

    Use when it matters where things are, or how many. Rows: a folder of Pascal VOC or YOLO, a COCO JSON, or a table.
    `side` is the longer side that pictures are read at: small things need a larger one, and the time grows with its
    square. A timm model gets one of torchvision's detectors; a Hugging Face folder made for detection is taken whole.
    """

    side: int = 320  # pixels of the longer side
    detector: str = "fcos"  # or "faster_rcnn"; of Hugging Face folders their own
    width: int = 128  # channels of the pyramid and the detector
    convs: int = 2  # layers of the detector, of fcos
    score_threshold: float = 0.05  # boxes below are not found at all; mAP needs many
    told_threshold: float = 0.4  # boxes below are not told by predict nor drawn; F1 is of those above
    nms: float = 0.5  # of boxes of one class that overlap more, the best is kept
    most: int = 100  # boxes a picture

    name: ClassVar[str] = "detect"
    noun: ClassVar[str] = "picture"
    metric: ClassVar[str] = "map"
    model: ClassVar[str] = "mobilenetv2"
    strategies: ClassVar[Mapping[str, Tune | None]] = {
        "linear_probe": Tune(moves="head", batch_size=8, augment="light"),
        "partial": Tune(moves="top:3", batch_size=8, learning_rate=3e-4, augment="light"),
        "full": Tune(batch_size=8, learning_rate=3e-4, augment="light"),
    }
    instead: ClassVar[Mapping[str, str]] = {"image_size": SIDE_INSTEAD}
    candidates: ClassVar[tuple[str, ...]] = ("linear_probe", "full")

    def __post_init__(self) -> None:
        if self.detector not in _DETECTORS:
            raise unknown("detector", self.detector, _DETECTORS)
        for name in ("score_threshold", "told_threshold", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)!r} must be from 0 to 1")
        if self.side < 32 or self.most < 1:
            raise UserError(f"side {self.side} must be 32 or more, and most {self.most} 1 or more")
        if self.width < 32 or self.width % 32:
            raise UserError(f"width {self.width} must be a multiple of 32")

    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """Pictures with their boxes; those without any word on them, and those that cannot be read, are named."""
        rows, table = boxed(source, asked.columns, role)
        with asked.progress.steps("looking at pictures", len(rows)) as advance:
            found = settled_all(rows, advance)
        kept = [i for i, one in enumerate(found) if one.reason is None]
        data = Data(
            inputs=tuple(rows[i].picture for i in kept),
            labels=tuple(found[i].boxes for i in kept),
            lines=tuple(rows[i].line for i in kept),
            source=table.source,
            kind="image",
        )
        counts = Counter(box.label for i in kept for box in found[i].boxes)
        columns = Columns(file="file")
        named = by_file(findings(rows, found), table, columns, asked.private)
        audit = accounted(self, table, role, [one.reason for one in found], named, dict(counts.most_common()))
        if audit.dropped and not asked.private:
            names = {r: named_files(table, columns, lines, False) for r, lines in audit.dropped.items()}
            audit.facts["dropped_files"] = {reason: text.removeprefix(": ") for reason, text in names.items()}
        return data, audit

    def read_new(self, source: Any, asked: Asked) -> New:
        """Pictures to look at; boxes in the source are not read."""
        return new_pictures(source, asked, lambda: boxed(source, asked.columns, "test"))

    def given(self, inputs: Any) -> list[Any] | None:
        """Paths of pictures, or what Python holds of them."""
        found = paths_given(inputs)
        return super().given(inputs) if found is None and not isinstance(inputs, (str, Path)) else found

    def learn(self, train: Data) -> State:
        """The classes, and the size that pictures are read at."""
        from acclimate.backbones.maps import canvas_of

        classes = sorted({box.label for row in labels_of(train) for box in row})
        if not classes:
            raise UserError(f"{train.source}: no picture has a box, so there is nothing to learn")
        sizes = [pictures.look(one).size for one in train.inputs]
        return {"classes": classes, "canvas": list(canvas_of(sizes, self.side))}

    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """The backbone with a detector, or the Hugging Face model whole."""
        from acclimate.backbones.maps import image_backbone
        from acclimate.structured.detect_heads import Limits
        from acclimate.structured.detect_network import DetectNetwork, HubDetectNetwork, Read
        from acclimate.structured.hub_vision import is_hub, load_hub_vision

        limits = Limits(self.score_threshold, self.nms, self.most)
        classes, canvas = tuple(state["classes"]), (int(state["canvas"][0]), int(state["canvas"][1]))
        if is_hub(model, "ForObjectDetection"):
            whole = load_hub_vision(model, "detection", classes)
            return HubDetectNetwork(whole, Read(whole.image, canvas, classes), limits)
        backbone = image_backbone(model, "detection")
        read = Read(backbone.image, canvas, classes)
        return DetectNetwork(backbone, read, self.detector, self.width, self.convs, limits)

    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """Boxes where training pictures have them, whatever the picture shows."""
        return {"usual_places": partial(UsualBoxes, train, self.most, run.seed)}

    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """mAP over overlaps 0.5 to 0.95, and at 0.5 and 0.75 alone (COCO's, all sizes, 100 boxes a class); and of the
        boxes that are told: precision, recall and F1 at overlap 0.5."""
        tables = [_Table(matches_of(truth, answers, label)) for label in _labels(truth, state)]
        hits, said, there = self._told_counts(truth, answers)
        found = {
            "map": Measure(partial(_mean_of, tables, None)),
            "map_50": Measure(partial(_mean_of, tables, 0)),
            "map_75": Measure(partial(_mean_of, tables, 5)),
            "f1_50": Measure(lambda w: divide(2 * (w @ hits), w @ (said + there))),
            "precision_50": Measure(lambda w: divide(w @ hits, w @ said), rows=int((said > 0).sum())),
            "recall_50": Measure(lambda w: divide(w @ hits, w @ there), rows=int((there > 0).sum())),
        }
        return found

    def per_class(
        self, truth: Sequence[Any], answers: Sequence[Any], state: State
    ) -> dict[str, dict[str, tuple[Measure, int]]]:
        """AP of each class, with the number of pictures that hold it: boxes of one picture are no independent cases."""
        found: dict[str, dict[str, tuple[Measure, int]]] = {}
        for label in _labels(truth, state):
            table = _Table(matches_of(truth, answers, label))
            cases = int((table.matches.there > 0).sum())
            measures = {
                "ap": Measure(partial(_mean_of, [table], None)),
                "ap_50": Measure(partial(_mean_of, [table], 0)),
            }
            found[label] = {name: (measure, cases) for name, measure in measures.items()}
        return found

    def _told_counts(self, truth: Sequence[Any], answers: Sequence[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Hits, told boxes and true boxes of each picture, at overlap 0.5."""
        hits = []
        for true, said in zip(truth, self._told(answers), strict=True):
            labels = {box.label for box in said}
            hits.append(float(sum(_hits(true, said, label) for label in labels)))
        said_counts = np.array([len(row) for row in self._told(answers)], float)
        return np.array(hits, float), said_counts, np.array([len(row) for row in truth], float)

    def _told(self, answers: Sequence[Any]) -> list[tuple[Box, ...]]:
        return [tuple(b for b in row if b.score >= self.told_threshold) for row in answers]

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """Classes that were never seen in training, and how many boxes there are."""
        boxes = sum(len(row) for row in truth)
        new = sorted({box.label for row in truth for box in row} - set(state["classes"]))
        said = [f"{plural(boxes, 'true box', 'true boxes')} in {plural(len(truth), 'picture')}"] if truth else []
        if new:
            said.append(f"classes never seen in training, counted as missed: {', '.join(new)}")
        return tuple(said)

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """Boxes missed and boxes told of nothing, at overlap 0.5."""
        hits, said, there = self._told_counts(truth, answers)
        return [float(v) for v in said + there - 2 * hits]

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """By the bytes of the file."""
        return keys_of(inputs)

    def strata(self, data: Data) -> tuple[str, ...]:
        """The rarest class in the picture, so that it stands on both sides."""
        counts = Counter(label for row in labels_of(data) for label in {box.label for box in row})
        return tuple(min({b.label for b in row}, key=lambda k: (counts[k], k), default="") for row in labels_of(data))

    def columns(self, inputs: Sequence[Any], answers: Sequence[Any]) -> dict[str, list[Any]]:
        """The boxes that are told as JSON, and how many there are of each class."""
        told = [None if row is None else self._told([row])[0] for row in answers]
        counts = [None if row is None else Counter(box.label for box in row) for row in told]
        return {
            "boxes": [None if row is None else cell_of(row, score=True) for row in told],
            "found": [
                None if one is None else ", ".join(f"{n} {label}" for label, n in one.most_common()) or "nothing"
                for one in counts
            ],
        }

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """The picture with true boxes (green) and those told (orange), and how many of each class there are."""
        found = []
        for one, true, said in zip(inputs, truth, self._told(answers), strict=True):
            row = {"input": Path(pictures.name_of(one)).name, "truth": _counted(true), "predicted": _counted(said)}
            found.append(row | {"picture": with_boxes(one, true, said)})
        return found


class _Table:
    """AP of one class at each overlap: computed once for one set of weights, though several metrics ask for it."""

    def __init__(self, matches: Matches) -> None:
        self.matches = matches
        self._last: tuple[FloatArray, FloatArray] | None = None

    def at(self, weights: FloatArray) -> FloatArray:
        """(r, n) -> (r, overlaps)."""
        if self._last is None or not (self._last[0] is weights or np.array_equal(self._last[0], weights)):
            self._last = (weights, average_precision(self.matches, weights))
        return self._last[1]


def _mean_of(tables: Sequence[_Table], overlap: int | None, weights: FloatArray) -> FloatArray:
    """The mean over classes that are there, and over overlaps unless one is named."""
    each = np.stack([t.at(weights) if overlap is None else t.at(weights)[:, [overlap]] for t in tables])  # (k, r, t)
    by_class = each.mean(2)
    there = np.isfinite(by_class)
    return divide(np.where(there, by_class, 0.0).sum(0), there.sum(0).astype(float))


def _labels(truth: Sequence[Any], state: State) -> list[str]:
    return sorted({*state["classes"], *(box.label for row in truth for box in row)})


def _hits(true: Sequence[Box], said: Sequence[Box], label: str) -> int:
    mine = np.array([b[:4] for b in sorted(said, key=lambda b: -b.score) if b.label == label], float).reshape(-1, 4)
    real = np.array([b[:4] for b in true if b.label == label], float).reshape(-1, 4)
    return int(match(mine, real, IOUS[:1]).sum())


def _counted(boxes: Sequence[Box]) -> str:
    return ", ".join(f"{n} {label}" for label, n in sorted(Counter(b.label for b in boxes).items())) or "nothing"
