"""The backbone that reads the inputs at hand, and how long they are to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from acclimate.backbones import beside_columns
from acclimate.backbones import load as load_backbone
from acclimate.backbones.base import Backbone
from acclimate.data.findings import Lengths, Seconds
from acclimate.data.kinds import kind_of
from acclimate.data.kinds.table import holds_text, texts_of
from acclimate.data.rows import Columns, Input
from acclimate.data.sounds import examine
from acclimate.errors import UserError


def backbone_for(columns: Columns, name: str, reading: Mapping[str, Any]) -> Backbone:
    """The backbone of this name, frozen, or an error where it does not read what these columns hold; of a table that
    holds free text a text model reads that, beside the other columns."""
    kind, backbone = kind_of(columns), load_backbone(name, **reading)
    if backbone.modality == "text" and holds_text(columns):
        backbone = beside_columns(backbone)
    if backbone.modality not in kind.models:
        raise UserError(
            f"{name!r} reads {backbone.modality}, and the inputs here are {kind.plural}; "
            f"`acclimate models list` shows those that read {' or '.join(kind.models)} (such as {kind.model})"
        )
    return backbone.requires_grad_(False).eval()


def unread(columns: Columns, backbone: Backbone) -> str:
    """That free text of a table is left out by this backbone; empty where it is not."""
    texts = [name for name, held in zip(columns.features, columns.holds, strict=True) if held == "text"]
    if not texts or backbone.texts is not None:
        return ""
    return f"{', '.join(texts)}: free text, which {backbone.origin.name} leaves out; --model minilm reads it, too"


def measure_with(backbone: Backbone | None) -> Any:
    """A function that counts tokens, or seconds, as the backbone would, for the gate's truncation report.

    Of a row of a table it counts those of its longest text.
    """
    if backbone is not None and backbone.texts is not None:
        text = backbone.texts.backbone
        return lambda rows: _longest(rows, measure_with(text))
    if backbone is None or backbone.modality not in ("text", "audio"):
        return None
    if backbone.modality == "audio":
        limit, filled = float(str(backbone.settings()["seconds"])), bool(backbone.settings()["filled"])
        return lambda inputs: Seconds(np.array([examine(one).seconds for one in inputs]), limit, filled)

    def measure(inputs: Sequence[Input]) -> Lengths:
        rows = backbone.encode(list(inputs))  # with truncation "fail", raises at the first text that does not fit
        total = np.array([row.total for row in rows], dtype=np.int64)
        return Lengths(total, int(str(backbone.settings()["max_length"])), str(backbone.settings()["truncation"]))

    return measure


def _longest(rows: Sequence[Input], measure: Callable[[list[Input]], Lengths]) -> Lengths:
    texts = [texts_of(row) for row in rows]
    found = measure([text for some in texts for text in some])
    ends = np.cumsum([0, *map(len, texts)])
    parts = [found.tokens[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    return replace(found, tokens=np.array([max(part, default=0) for part in parts], dtype=np.int64))
