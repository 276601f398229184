"""`measure_shift`: how far the rows of one file are from those of another, without any label of the second."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.api.collect import projection
from acclimate.api.inspecting import columns_of
from acclimate.api.loading import backbone_for
from acclimate.api.prepare import Gate, gated, has_inputs, unlabelled
from acclimate.api.reading import measure_with
from acclimate.catalogue import cache
from acclimate.data.columns import guess
from acclimate.data.kinds import kind_of, model_for
from acclimate.data.read import read
from acclimate.data.rows import Data
from acclimate.errors import UserError, plural
from acclimate.features import Store
from acclimate.progress import Progress
from acclimate.report.html import render_page
from acclimate.report.markdown import render_text
from acclimate.report.shift import ShiftData, document, verdict
from acclimate.run import Run, pick_device
from acclimate.settings import check_seed
from acclimate.shift import measure
from acclimate.tasks import TASKS

MOST = 4000  # rows of a side: the MMD looks at every pair


@dataclass(frozen=True)
class ShiftReport:
    """What was found; prints as a few lines."""

    data: ShiftData

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return self.data.to_json()

    def report(self, path: str | Path) -> Path:
        """Write the report as one HTML file, or as Markdown where the name ends in .md."""
        place, doc = Path(path), document(self.data)
        text = render_text(doc) if place.suffix == ".md" else render_page(doc)
        place.write_text(text, encoding="utf-8")
        return place

    def __str__(self) -> str:
        from rich.console import Console

        from acclimate.report.terminal import of_document

        console = Console(width=max(72, min(120, shutil.get_terminal_size((100, 24)).columns)))
        with console.capture() as captured:
            console.print(of_document(document(self.data)))
        return captured.get().rstrip()

    @property
    def verdict(self) -> str:
        """What it comes to."""
        return verdict(self.data)


def measure_shift(
    source: Any,
    target: Any,
    *,
    label: str | None = None,
    model: str | None = None,
    text_column: str | Sequence[str] | None = None,
    file_column: str | None = None,
    modality: str | None = None,
    rate: float | None = None,
    column_kinds: Mapping[str, str] | None = None,
    group_column: str | None = None,
    max_length: int | None = None,
    max_seconds: float | None = None,
    image_size: int | None = None,
    seed: int = 0,
    on_bad: str = "skip",
    private: bool = False,
    quiet: bool = True,
) -> ShiftReport:
    """How far `target` is from `source`: can they be told apart, where, and have class shares moved (see `shift`).

    `label` names the source's label column, where it has one: without it class shares are left out. A label column in
    the target is not looked at.
    """
    seed = check_seed(seed)
    progress = Progress(quiet=quiet)
    run = Run(seed=seed, device=pick_device(), cache=cache.features(), progress=progress)
    columns = columns_of(
        label=label,
        text=text_column,
        group=group_column,
        file=file_column,
        modality=modality,
        kinds=column_kinds,
        rate=rate,
    )
    gate = Gate(on_bad, None, private)
    tables = read(source), read(target)
    guessed = guess(tables[0], columns, private=private)
    has_inputs(tables[1], guessed.columns)
    kind = kind_of(guessed.columns)
    usual = model_for(tables, guessed.columns)[0] if kind.name == "table" else kind.model
    backbone = backbone_for(
        guessed.columns, model or usual, max_length=max_length, seconds=max_seconds, image_size=image_size
    )
    measured = measure_with(backbone)
    ours, _ = gated(tables[0], guessed.columns, guessed.task, gate, measured, "source", None, progress)
    theirs, _, said = unlabelled(tables[1], guessed, gate, measured, progress)
    if min(len(ours), len(theirs)) < 20:
        raise UserError(
            f"{ours.source} has {plural(len(ours), 'row')} and {theirs.source} {len(theirs)}; at least 20 on both "
            f"sides are "
            "needed to tell a difference from chance"
        )
    some = [_some(data, seed) for data in (ours, theirs)]
    backbone = backbone.fit_rows([x for data in some for x in data.inputs])  # of both: their differences are looked for
    store = Store(backbone, run)
    features = [store.get(data.inputs) for data in some]
    codes, classes = _codes(some[0], guessed.task)
    found = measure(
        features[0],
        features[1],
        labels=codes,
        texts=None if private or not kind.has_words else (_texts(some[0]), _texts(some[1])),
        groups=_groups(*some),
        seed=seed,
    )
    sides = ["source"] * len(some[0]) + ["target"] * len(some[1])
    at = (found.source_rows, found.target_rows)
    data = ShiftData(
        Path(str(ours.source)).name,
        Path(str(theirs.source)).name,
        (len(ours), len(theirs)),
        (len(some[0]), len(some[1])),
        backbone.origin.name,
        datetime.now().astimezone().isoformat(timespec="seconds"),
        found.to_json(),
        classes,
        ((), ()) if private else tuple(tuple(_texts(d.take(rows))) for d, rows in zip(some, at, strict=True)),  # type: ignore[arg-type]
        tuple(tuple(d.lines[i] for i in rows) for d, rows in zip(some, at, strict=True)),  # type: ignore[arg-type]
        projection(np.concatenate(features), sides, seed),
        (*guessed.reasons, *said, *_cut((ours, theirs), some)),
        private,
    )
    return ShiftReport(data)


def _some(data: Data, seed: int) -> Data:
    if len(data) <= MOST:
        return data
    return data.take(np.sort(np.random.default_rng(seed).permutation(len(data))[:MOST]))


def _cut(whole: tuple[Data, Data], some: list[Data]) -> list[str]:
    return [
        f"{len(part):,} of the {plural(len(data), 'row')} of {data.source}, drawn at random, were looked at."
        for data, part in zip(whole, some, strict=True)
        if len(part) < len(data)
    ]


def _texts(data: Data) -> list[str]:
    shown = map(kind_of(data).shown, data.inputs)
    return [x if isinstance(x, str) else "\n".join(x) for x in shown]


def _groups(a: Data, b: Data) -> Any:
    """Groups of both sides, where the source names some; a side without has every row alone."""
    if a.groups is None and b.groups is None:
        return None
    return tuple(
        np.array(d.groups) if d.groups is not None else np.array([f"{side} {i}" for i in range(len(d))])
        for side, d in (("source", a), ("target", b))
    )


def _codes(data: Data, task: str) -> tuple[Any, tuple[str, ...]]:
    """Class numbers of the source rows; nothing where there are no classes or too few rows of one."""
    if data.labels is None or task not in ("classify", "ordinal"):
        return None, ()
    if len(set(data.labels)) < 2:
        return None, ()
    decoder = TASKS["classify"].decoder(data.labels, "str")
    codes = TASKS["classify"].targets(data.labels, decoder).astype(int)
    return (codes, decoder.column_names()) if np.bincount(codes).min() >= 10 else (None, ())
