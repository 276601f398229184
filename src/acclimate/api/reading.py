"""How long inputs are to the backbone that reads them, and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from acclimate.backbones.base import Backbone
from acclimate.backbones.sound import SoundBackbone
from acclimate.backbones.table_parts import READS
from acclimate.backbones.tokens import EncodedApart
from acclimate.data.kinds.table import MODELS, sounds_of, texts_of
from acclimate.data.lengths import Lengths, Seconds
from acclimate.data.rows import Columns, Input
from acclimate.data.sounds import examine

_TOGETHER = {"apart": " with one of their two texts", "joint": " with both texts in one sequence"}


def unread(columns: Columns, backbone: Backbone) -> str:
    """What columns of a table this backbone leaves out since it has no network for them; empty where there are none."""
    said, name = [], backbone.origin.name
    for kind, usual in MODELS.items():
        names = [name for name, held in zip(columns.features, columns.holds, strict=True) if held == kind]
        if names and kind not in backbone.parts:
            model = f"{name}+{usual}" if backbone.parts else usual
            it = "it" if kind == "text" else "them"
            said.append(f"{', '.join(names)}: {READS[kind]}, which {name} leaves out; --model {model} reads {it}, too")
    return "; ".join(said)


def pairs_told(backbone: Backbone | None, tuning: Sequence[str]) -> list[str]:
    """A sentence on how two texts are read, by the strategies that tune (of these names) and by the others."""
    pairs = "" if backbone is None else backbone.settings().get("pairs")
    if backbone is None or not pairs:
        return []
    if tuning and not backbone.fixed and backbone.to_tune() is not backbone:
        who = ", ".join(tuning)
        return [f"both texts are read as one sequence where weights are tuned ({who}), else apart; --pairs changes it"]
    return ["both texts are read apart" if pairs == "apart" else "both texts are read as one sequence"]


def measure_with(backbone: Backbone | None, moves: bool = False) -> Any:
    """A function that counts tokens, or seconds, as the backbone would, for the gate's truncation report.

    Of a row of a table it counts those of its longest text; without a model of text those of its longest sound.
    `moves`: as it is read where its weights move, or may move.
    """
    frozen = backbone
    if backbone is not None and moves and not backbone.fixed:
        backbone = backbone.to_tune()
    if backbone is not None and "text" in backbone.parts:
        text = backbone.parts["text"].backbone
        return lambda rows: _longest(rows, measure_with(text))
    if backbone is not None and "audio" in backbone.parts:
        return partial(_longest_sounds, backbone.parts["audio"].backbone)
    if backbone is None or backbone.modality not in ("text", "audio"):
        return None
    if backbone.modality == "audio":
        assert isinstance(backbone, SoundBackbone)
        return partial(_seconds, backbone)

    how = _TOGETHER.get(str(backbone.settings().get("pairs", "")), "")
    if backbone is not frozen:
        how += ", as what tunes reads them"

    def measure(inputs: Sequence[Input]) -> Lengths:
        rows = backbone.encode(list(inputs))  # with truncation "fail", raises at the first text that does not fit
        longest = [row.longest if isinstance(row, EncodedApart) else row.total for row in rows]
        settings = backbone.settings()
        return Lengths(
            np.array(longest, dtype=np.int64), int(str(settings["max_length"])), str(settings["truncation"]),
            np.array([row.lost for row in rows], dtype=np.int64), sum(row.total for row in rows), how,
        )  # fmt: skip

    return measure


def _seconds(backbone: SoundBackbone, inputs: Sequence[Input]) -> Seconds:
    each = np.array([examine(one).seconds for one in inputs])
    sound = backbone.sound
    windows = sum(backbone.count(seconds) for seconds in each[each > sound.seconds].tolist())
    return Seconds(each, sound.seconds, backbone.filled and sound.merged == 1, sound.truncation, windows)


def _longest_sounds(backbone: Backbone, rows: Sequence[Input]) -> Seconds:
    assert isinstance(backbone, SoundBackbone)
    sounds = [max(sounds_of(row), key=lambda one: examine(one).seconds, default=None) for row in rows]
    found = _seconds(backbone, [one for one in sounds if one is not None])
    each = np.zeros(len(rows))
    each[[i for i, one in enumerate(sounds) if one is not None]] = found.each
    return replace(found, each=each)


def _longest(rows: Sequence[Input], measure: Callable[[list[Input]], Lengths]) -> Lengths:
    texts = [texts_of(row) for row in rows]
    found = measure([text for some in texts for text in some])
    ends = np.cumsum([0, *map(len, texts)])
    parts = [found.tokens[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    tokens = np.array([max(part, default=0) for part in parts], dtype=np.int64)
    assert found.lost is not None
    sums = np.concatenate([[0], np.cumsum(found.lost)])
    return replace(found, tokens=tokens, lost=sums[ends[1:]] - sums[ends[:-1]])
