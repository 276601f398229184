"""What prediction adds to a table, part by part: never more than a million probabilities at once above 100 classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import tee
from typing import Any

import numpy as np

from acclimate.api.testing import Answers, Told
from acclimate.data.account import REASONS
from acclimate.data.findings import lines_text
from acclimate.data.kinds import Kind, Reading
from acclimate.data.rows import Data, Input, Table
from acclimate.errors import UserError
from acclimate.metrics.decisions import conformal_quantile
from acclimate.metrics.digest import slices
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.multitask import predictor_of
from acclimate.tasks.base import Floats
from acclimate.tasks.multitask import Multitask

PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Block:
    """Answers to consecutive rows; None and NaN where there was nothing to judge."""

    rows: slice
    answers: list[Any]
    outputs: Floats  # (m, k) probabilities, or (m,) values
    confidence: Floats  # (m,)


@dataclass(frozen=True)
class Predictions:
    """A table, and the columns that prediction adds to it. `parts` hold consecutive rows and can be read once."""

    table: Table
    kinds: dict[str, type]  # name of each new column -> type of its values
    parts: Iterator[dict[str, list[Any]]]
    told: Told | None = None  # of adapting to these rows
    said: tuple[str, ...] = ()  # of cells that could not be read, and count as missing
    files: Mapping[str, bytes] = field(default_factory=dict)  # that new cells name, by their path beside the table


@dataclass(frozen=True)
class Asked:
    """What is wanted beside the answer."""

    bound: float | None = None  # the conformal score that a class, or a number, may have
    abstain_below: float | None = None
    bounds: tuple[float | None, ...] = ()  # of several label columns: that of each

    @staticmethod
    def of(predictor: Predictor, conformal: float | None, abstain_below: float | None) -> Asked:
        """Checked against what the model can tell."""
        parts = predictor.decoder.parts
        numbers = predictor.task.name == "regress" or all(one.task == "regress" for one in parts) and bool(parts)
        if abstain_below is not None and numbers:
            raise UserError("--abstain-below needs probabilities, and this model predicts numbers; use --conformal")
        lacking = not all(one.conformal for one in parts or (predictor.decoder,))
        if conformal is not None and lacking:
            raise UserError("this model kept no out-of-fold scores, so it cannot give sets (multi-label models do not)")
        bounds = [
            None if conformal is None else conformal_quantile(np.array(one.conformal), conformal)
            for one in parts or (predictor.decoder,)
        ]
        return Asked(None if parts else bounds[0], abstain_below, tuple(bounds) if parts else ())


def blocks(
    predictor: Predictor, texts: Sequence[Input | None], run: Run, logits_of: Iterable[Floats] | None = None
) -> Iterator[Block]:
    """The answers to all rows in order. `logits_of`: the logits of what can be judged, where they are known already."""
    at = np.array([i for i, t in enumerate(texts) if t is not None], dtype=np.int64)
    task, decoder = predictor.task, predictor.decoder
    done = start = 0
    if logits_of is None:
        logits_of = predictor.parts([texts[i] for i in at], run)
    for logits in logits_of:
        outputs = task.outputs(logits, decoder)
        chosen = task.decide(outputs, decoder)
        confidence, answers = task.confidence(outputs, chosen), task.answers(chosen, decoder)
        end = int(at[done + len(logits)]) if done + len(logits) < len(at) else len(texts)
        for part in slices(end - start, max(1, len(decoder.classes))):
            rows = slice(start + part.start, start + part.stop)
            low, high = np.searchsorted(at, [rows.start, rows.stop])
            block = Block(
                rows,
                [None] * (rows.stop - rows.start),
                np.full((rows.stop - rows.start, *outputs.shape[1:]), np.nan),
                np.full(rows.stop - rows.start, np.nan),
            )
            mine = slice(low - done, high - done)
            block.outputs[at[low:high] - rows.start] = outputs[mine]
            block.confidence[at[low:high] - rows.start] = confidence[mine]
            for i, answer in zip(at[low:high] - rows.start, answers[mine], strict=True):
                block.answers[i] = answer
            yield block
        done, start = done + len(logits), end


def predictions(
    predictor: Predictor,
    table: Table,
    read: Reading,
    asked: Asked,
    run: Run,
    answers: Answers | None = None,
    *,
    kind: Kind,
    private: bool = False,
) -> Predictions:
    """The table and its new columns. A note says why a row has no answer; there is such a column where one may be.

    `private`: no sentence about the rows quotes a cell.
    """
    texts, problems = read.inputs, _problems(table, read, kind)
    noted = any(problems) or asked.abstain_below is not None
    said = unread_cells(table, read, kind, private)
    if isinstance(predictor.task, Multitask):
        kinds, several = _by_column(predictor, predictor.task, texts, problems, asked, noted, run)
        return Predictions(table, kinds, several, None, said)
    found = blocks(predictor, texts, run, None if answers is None else answers.parts())
    parts = (_columns(predictor, block, problems[block.rows], asked, noted) for block in found)
    return Predictions(table, _kinds(predictor, asked, noted), parts, None if answers is None else answers.told, said)


def unread_cells(table: Table, read: Reading, kind: Kind, private: bool) -> tuple[str, ...]:
    """Sentences on cells that cannot be read, and count as missing."""
    at = [i for i, one in enumerate(read.inputs) if one is not None]
    inputs, lines = tuple(read.inputs[i] for i in at), tuple(table.lines[i] for i in at)
    odd = kind.odd(Data(inputs, lines=lines, kind=kind.name), private)
    return tuple(f"{one.message} ({lines_text(one.lines)})" for one in odd)


def _problems(table: Table, read: Reading, kind: Kind) -> list[str]:
    """Why a row has no answer; empty where it has one."""
    said = {**REASONS, "blank_input": f"no {kind.noun} to judge"}
    return [p or ("" if r is None else said[r]) for p, r in zip(table.problems, read.reasons, strict=True)]


def _by_column(
    predictor: Predictor,
    task: Multitask,
    texts: Sequence[Input | None],
    problems: list[str],
    asked: Asked,
    noted: bool,
    run: Run,
) -> tuple[dict[str, type], Iterator[dict[str, list[Any]]]]:
    """The new columns for each label column, its name at their end; one pass through the backbone serves all."""
    singles = [predictor_of(predictor, j) for j in range(len(task.parts))]
    each = [replace(asked, bound=bound) for bound in asked.bounds]
    shared = tee(predictor.parts([text for text in texts if text is not None], run), len(singles))

    def own(j: int) -> Iterator[dict[str, list[Any]]]:
        logits = (part[:, task.parts[j].logits] for part in shared[j])
        for block in blocks(singles[j], texts, run, logits):
            yield _columns(singles[j], block, problems[block.rows], each[j], noted)

    kinds: dict[str, type] = {}
    for part, single, one in zip(task.parts, singles, each, strict=True):
        kinds |= {_named(name, part.name): type_ for name, type_ in _kinds(single, one, False).items()}
    found = (_joined(task, parts, noted) for parts in zip(*(own(j) for j in range(len(singles))), strict=True))
    return kinds | ({"note": str} if noted else {}), found


def _joined(task: Multitask, parts: Sequence[dict[str, list[Any]]], noted: bool) -> dict[str, list[Any]]:
    """One set of new columns from those of each label column."""
    columns: dict[str, list[Any]] = {}
    notes: list[list[str]] = []
    for part, own in zip(task.parts, parts, strict=True):
        said = own.pop("note", [])
        notes.append([f"{part.name} {note}" if note.startswith("abstained") else note for note in said])
        columns |= {_named(name, part.name): values for name, values in own.items()}
    if noted:
        columns["note"] = ["; ".join(dict.fromkeys(filter(None, row))) for row in zip(*notes, strict=True)]
    return columns


def _named(name: str, label: str) -> str:
    """prediction_stars, p_stars_5.

    >>> _named("p_5", "stars"), _named("prediction", "stars")
    ('p_stars_5', 'prediction_stars')
    """
    return f"p_{label}_{name.removeprefix('p_')}" if name.startswith("p_") else f"{name}_{label}"


def _kinds(predictor: Predictor, asked: Asked, noted: bool) -> dict[str, type]:
    """The new columns, in order."""
    decoder, number = predictor.decoder, predictor.task.name == "regress"
    types = {type(c) for c in decoder.classes}
    one = types.pop() if len(types) == 1 and predictor.task.name != "multilabel" else str
    kinds: dict[str, type] = {"prediction": float if number else one if one in PLAIN else str}
    if not number:
        kinds |= {"confidence": float, **{f"p_{name}": float for name in decoder.column_names()}}
    if asked.bound is not None:
        kinds |= {"low": float, "high": float} if number else {"prediction_set": str}
    return kinds | ({"note": str} if noted else {})


def _columns(
    predictor: Predictor, block: Block, problems: list[str], asked: Asked, noted: bool
) -> dict[str, list[Any]]:
    """The new columns of one block."""
    decoder, notes = predictor.decoder, list(problems)
    columns: dict[str, list[Any]] = {"prediction": [_cell(a, decoder.delimiter) for a in block.answers]}
    if predictor.task.name != "regress":
        columns["confidence"] = [_number(c) for c in block.confidence.tolist()]
        for k, name in enumerate(decoder.column_names()):
            columns[f"p_{name}"] = [_number(p) for p in block.outputs[:, k].tolist()]
    if asked.bound is not None:
        columns.update(_sets(predictor, block.outputs, asked.bound))
    if asked.abstain_below is not None:
        for i, c in enumerate(block.confidence):
            if not math.isnan(c) and c < asked.abstain_below:
                columns["prediction"][i] = None
                notes[i] = f"abstained: confidence below {asked.abstain_below:g}"
    return columns | ({"note": notes} if noted else {})


def _sets(predictor: Predictor, outputs: Floats, bound: float) -> dict[str, list[Any]]:
    """Prediction sets, or intervals of a regression."""
    if predictor.task.name == "regress":
        return {"low": [_number(v - bound) for v in outputs], "high": [_number(v + bound) for v in outputs]}
    names = predictor.decoder.column_names()
    sets = [
        None if np.isnan(row).any() else "|".join(names[k] for k in np.flatnonzero(1 - row <= bound)) for row in outputs
    ]
    return {"prediction_set": list(sets)}


def _cell(value: Any, delimiter: str | None) -> Any:
    return (delimiter or "|").join(map(str, value)) if isinstance(value, tuple) else value


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(f"{value:.9g}")  # what single precision holds
