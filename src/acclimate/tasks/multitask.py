"""Several label columns at once: one backbone, a head for each column, and one loss in which all weigh alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acclimate.data.label_columns import Cells
from acclimate.data.rows import IntArray, Label
from acclimate.errors import UserError, unknown
from acclimate.metrics.digest import MANY_CLASSES
from acclimate.metrics.names import default_metric
from acclimate.metrics.skill import Column
from acclimate.metrics.tables import Answers
from acclimate.tasks.base import Floats, Task, label_kind
from acclimate.tasks.classify import Classify, Ordinal
from acclimate.tasks.decoder import Decoder, positive_class
from acclimate.tasks.heads import Head, Heads
from acclimate.tasks.regress import Regress

SINGLE: dict[str, Task] = {"classify": Classify(), "ordinal": Ordinal(), "regress": Regress()}


@dataclass(frozen=True)
class Part:
    """One label column: its task, which of the logits are its, what it is judged by, and its factor in the loss."""

    name: str
    task: Task
    logits: slice
    metric: str = ""
    factor: float = 1.0


@dataclass(frozen=True)
class Multitask(Task):
    """Loss: Σ_c v_c L_c / L⁰_c, with L_c the mean loss of the rows that know column c, and Σ v_c = 1.

    L⁰_c is the loss of the best answer that looks at nothing: the entropy −Σ_k p_k log p_k of the class shares, or the
    variance of the target (1, since targets are standardised). Every column so starts near 1 and the sum, too. Of a
    row it is Σ_c (v_c / (r_c L⁰_c)) ℓ_c over the columns that it knows, r_c being the share of rows that know c.
    `v` are equal, or the user's own weights over their sum.
    """

    name: str = "multitask"
    parts: tuple[Part, ...] = ()

    @staticmethod
    def of(
        names: Sequence[str],
        tasks: Sequence[str],
        labels: Sequence[Label],
        weights: Floats | None = None,
        wanted: Mapping[str, float] | None = None,
    ) -> tuple[Multitask, Decoder]:
        """The task and the decoder that these training rows ask for; `wanted`: weights of columns, 1 if not named."""
        named = Multitask(parts=tuple(Part(n, SINGLE[t], slice(0)) for n, t in zip(names, tasks, strict=True)))
        decoder = named.decoder(labels, "")
        found = Multitask.read(decoder)
        share = _shares(names, wanted or {})
        rows = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
        targets, parts = found.targets(labels, decoder), []
        for j, part in enumerate(found.parts):
            known = ~np.isnan(targets[:, j]) & (rows > 0)
            base = _no_information(part.task, targets[known, j], rows[known])
            if not base > 0:
                raise UserError(f"label column {part.name!r}: all its rows that count have one answer; drop the column")
            parts.append(replace(part, factor=float(share[j] * rows.sum() / (rows[known].sum() * base))))
        return replace(found, parts=tuple(parts)), decoder

    @staticmethod
    def read(decoder: Decoder) -> Multitask:
        """The task of a saved decoder."""
        parts: list[Part] = []
        start = 0
        for name, one in zip(decoder.labels, decoder.parts, strict=True):
            task = SINGLE[one.task]
            parts.append(Part(name, task, slice(start, start + task.width(one)), one.metric))
            start += task.width(one)
        return Multitask(parts=tuple(parts))

    def decoder(self, labels: Sequence[Label], kind: str, order: tuple[Any, ...] | None = None) -> Decoder:
        """What each column's own task finds in the rows that know it; each finds its own kind."""
        found, wrong = [], []
        for j, part in enumerate(self.parts):
            mine = _own(labels, j)[1]
            try:
                one = part.task.decoder(mine, label_kind(mine))
            except UserError as error:
                wrong.append(f"{error} (label column {part.name!r})")
                continue
            if len(one.classes) > MANY_CLASSES:
                raise UserError(
                    f"label column {part.name!r} has {len(one.classes):,} classes, and of several columns each has "
                    f"{MANY_CLASSES} at most; learn it alone, or give --task {part.name}=regress if it holds amounts"
                )
            shares = np.bincount(part.task.targets(mine, one)) if part.task.name == "classify" else None
            metric = default_metric(part.task.name, None if shares is None else shares.tolist())
            found.append(replace(one, metric=metric, positive=positive_class(one)))
        if wrong:
            raise UserError("; ".join(wrong))
        return Decoder(self.name, labels=tuple(part.name for part in self.parts), parts=tuple(found))

    def targets(self, labels: Sequence[Label], decoder: Decoder) -> Floats:
        """(n, c): a code or a standardised value, NaN where the cell is not known or its class was never seen."""
        found = self._filled(labels, decoder, lambda task, mine, one: task.targets(mine, one))
        for j, part in enumerate(self.parts):
            if part.task.name != "regress":
                found[found[:, j] < 0, j] = np.nan
        return found

    def truth(self, labels: Sequence[Label], decoder: Decoder) -> Floats:
        """(n, c): a code (−1 for a class never seen) or a value, NaN where the cell is not known."""
        return self._filled(labels, decoder, lambda task, mine, one: task.truth(mine, one))

    def _filled(self, labels: Sequence[Label], decoder: Decoder, of: Any) -> Floats:
        out = np.full((len(labels), len(self.parts)), np.nan)
        for j, (part, one) in enumerate(zip(self.parts, decoder.parts, strict=True)):
            at, mine = _own(labels, j)
            out[at, j] = of(part.task, mine, one)
        return out

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Σ_c f_c ℓ_c over the columns that a row knows, (n,)."""
        total = torch.zeros(len(logits), dtype=logits.dtype, device=logits.device)
        for j, part in enumerate(self.parts):
            known = ~torch.isnan(targets[:, j])
            loss = part.task.losses(logits[:, part.logits], targets[:, j].nan_to_num())
            total = total + part.factor * loss.where(known, 0.0)
        return total

    def outputs(self, logits: Floats, decoder: Decoder) -> Floats:
        """Where the logits of a column stand, its probabilities (n, k) or its value (n, 1)."""
        found = [
            part.task.outputs(logits[:, part.logits], one) for part, one in zip(self.parts, decoder.parts, strict=True)
        ]
        return np.concatenate([one if one.ndim == 2 else one[:, None] for one in found], 1)

    def decide(self, outputs: Floats, decoder: Decoder) -> Floats:
        """(n, c) codes or values."""
        found = [part.task.decide(self.own(outputs, j), decoder.parts[j]) for j, part in enumerate(self.parts)]
        return np.stack([np.asarray(one, float) for one in found], 1)

    def own(self, outputs: Floats, j: int) -> Floats:
        """The outputs of column j as its own task has them: (n, k), or (n,) of numbers."""
        mine = outputs[:, self.parts[j].logits]
        return mine[:, 0] if self.parts[j].task.name == "regress" else mine

    def columns(self, truth: Floats, outputs: Floats, decisions: Floats) -> list[Column]:
        """What was asked of each column and what came back, on the rows that know it."""
        found = []
        for j, part in enumerate(self.parts):
            rows, mine, own, said = self.column(j, truth, outputs, decisions)
            if len(rows):
                found.append(Column(part.metric, rows, Answers(part.task.name, mine, own, said)))
        return found

    def column(
        self, j: int, truth: Floats, outputs: Floats, decisions: Floats
    ) -> tuple[IntArray, Floats, Floats, Floats]:
        """The places of the rows that know column j; truth, outputs and decisions there, as its own task has them."""
        at = np.flatnonzero(~np.isnan(truth[:, j]) & ~np.isnan(decisions[:, j]))
        kind = float if self.parts[j].task.name == "regress" else int
        return at, truth[at, j].astype(kind), self.own(outputs[at], j), decisions[at, j].astype(kind)

    def answers(self, decisions: Floats, decoder: Decoder) -> list[Any]:
        """For every row a dict: column to answer, in the type of the column."""
        each = [part.task.answers(decisions[:, j], decoder.parts[j]) for j, part in enumerate(self.parts)]
        return [dict(zip(decoder.labels, row, strict=True)) for row in zip(*each, strict=True)]

    def confidence(self, outputs: Floats, decisions: Floats) -> Floats:
        """The probability that every class is right, taking the columns as independent; NaN where all are numbers."""
        each = [part.task.confidence(self.own(outputs, j), decisions[:, j]) for j, part in enumerate(self.parts)]
        known = [one for one in each if not np.isnan(one).all()]
        return np.asarray(np.prod(known, axis=0)) if known else np.full(len(outputs), np.nan)

    def width(self, decoder: Decoder) -> int:
        """How many logits a row has."""
        return int(self.parts[-1].logits.stop)

    def head(self, width: int, decoder: Decoder, words: int = 0) -> Head:
        """A fresh head for each column."""
        return Heads.of(
            [part.task.head(width, one, words) for part, one in zip(self.parts, decoder.parts, strict=True)]
        )


def _own(labels: Sequence[Label], j: int) -> tuple[list[int], list[Any]]:
    """The places of the rows that know column j, and its labels there."""
    at = [i for i, row in enumerate(labels) if isinstance(row, Cells) and row[j] is not None]
    rows: Any = labels
    return at, [rows[i][j] for i in at]


def _no_information(task: Task, targets: Floats, weights: Floats) -> float:
    """The entropy of the class shares in nats, or the variance of the target."""
    if not len(targets):
        return 0.0
    if task.name == "regress":
        mean = np.average(targets, weights=weights)
        return float(np.average((targets - mean) ** 2, weights=weights))
    shares = np.bincount(targets.astype(int), weights=weights) / weights.sum()
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())


def _shares(names: Sequence[str], wanted: Mapping[str, float]) -> Floats:
    """v_c, which sum to 1."""
    for name, weight in wanted.items():
        if name not in names:
            raise unknown("label column in label_weight", name, names)
        if isinstance(weight, bool) or not (isinstance(weight, (int, float)) and 0 < weight < float("inf")):
            raise UserError(
                f"label_weight {name}={weight!r} must be a number above 0; leave a column out with no --label"
            )
    found = np.array([float(wanted.get(name, 1.0)) for name in names])
    return np.asarray(found / found.sum())
