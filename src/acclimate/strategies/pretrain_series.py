"""Pretraining on series without labels: hidden spans are filled in from what stands around them, before tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.series_small import SmallSeries
from acclimate.errors import UserError, plural, unknown
from acclimate.features import Store, to_device
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.train.batches import shuffled
from acclimate.train.descent import Descent, descend
from acclimate.train.loop import History, Schedule
from acclimate.train.memory import Fitting

ROWS = ("target", "both")
_HELD = 0.1  # of the windows, held out to tell whether anything was learned
_SPAN = 4  # states that are hidden together
_EVALUATED = 64  # windows of one batch when nothing is learned from them


@dataclass(frozen=True)
class MaskedSteps:
    """Masked reconstruction of series: spans of steps are hidden in all channels, and the network fills them in.

    L = (1/|M|) Σ_{i ∈ M} (x̂_i − x_i)², M the known values in spans of four states that make up a share `mask` of a
    window; they are 0, the mean, in what the network reads. A linear layer on each state gives its steps, and is thrown
    away. The epoch with the least loss on a tenth of the windows, hidden alike in every epoch, is kept. The form of
    Nie et al. 2023 (arXiv:2211.14730, section 3.2).

    Use when: there are many more series without labels than with, of the same sensors, and the network is series-cnn or
    series-transformer. Prefer no pretraining where labelled rows are as many.
    """

    epochs: int = 30
    mask: float = 0.4
    rows: str = "target"  # target | both: the training rows' series, too
    learning_rate: float = 1e-3
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r} of masked_steps must be 1 or more")
        if not 0 < self.mask < 1:
            raise UserError(
                f"mask={self.mask!r} of masked_steps is the share of steps to hide: give one between 0 and 1"
            )
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate={self.learning_rate!r} of masked_steps must be above 0")
        if self.rows not in ROWS:
            raise unknown("rows of masked_steps", self.rows, ROWS)


class Filler(nn.Module):
    """The backbone, and a linear layer from each state to the steps that it stands for."""

    def __init__(self, backbone: SmallSeries) -> None:
        super().__init__()
        self.backbone = backbone
        scale = backbone.known
        with torch.no_grad():
            states, _ = backbone.states(torch.zeros(1, backbone.inputs, scale.window), torch.tensor([scale.window]))
        self.steps = -(-scale.window // states.shape[1])  # of a state
        self.fill = nn.Linear(states.shape[2], scale.channels * self.steps)

    def forward(self, batch: Batch, hidden: Tensor) -> Tensor:
        """A batch of windows and which steps are hidden (w, t); the mean squared error of each window there, (w,)."""
        seen = (~hidden)[:, None].to(batch["values"].dtype)
        read = self.backbone.read({**batch, "values": batch["values"] * seen, "known": batch["known"] * seen})
        states, _ = self.backbone.states(read, batch["sizes"])
        w, p, _ = states.shape
        filled = self.fill(states).view(w, p, -1, self.steps).transpose(1, 2).flatten(2)[:, :, : hidden.shape[1]]
        counted = batch["known"] * hidden[:, None]
        found: Tensor = ((filled - batch["values"]).square() * counted).sum((1, 2)) / counted.sum((1, 2)).clamp(min=1)
        return found


@dataclass(frozen=True)
class _Windows:
    """Windows of series, a row each; a slot is a row in an epoch, and tells which of its steps are hidden."""

    rows: tuple[Encoded, ...]
    share: float
    seed: int
    steps: int  # of a state

    def batches(self, size: int, epoch: int) -> list[list[int]]:
        """Every row once, as slots."""
        first = epoch * len(self.rows)
        costs = [1] * len(self.rows)
        return [[first + row for row in batch] for batch in shuffled(costs, size, self.seed, epoch)]

    def loss(self, filler: Filler, slots: Sequence[int], device: str) -> Tensor:
        """The loss of each of these, (w,)."""
        batch = filler.backbone.collate([self.rows[slot % len(self.rows)] for slot in slots])
        masks = [self._hidden(slot, int(size)) for slot, size in zip(slots, batch["sizes"].tolist(), strict=True)]
        hidden = torch.zeros(len(slots), batch["values"].shape[2], dtype=torch.bool)
        for row, mask in zip(hidden, masks, strict=True):
            row[: len(mask)] = torch.from_numpy(mask)
        found: Tensor = filler(to_device(batch, device), hidden.to(device))
        return found

    def _hidden(self, slot: int, size: int) -> np.ndarray[Any, Any]:
        """Which steps of a window of this size; one span at least."""
        rng = np.random.default_rng([self.seed, *divmod(slot, len(self.rows))])
        states = -(-size // self.steps)
        span = max(1, min(_SPAN, states // 4))
        mask = np.zeros(states, bool)
        for start in rng.permutation(states):
            if mask.any() and mask.mean() >= self.share:
                break
            mask[start : start + span] = True
        return np.repeat(mask, self.steps)[:size]


@dataclass(frozen=True)
class _Done:
    what: str
    backbone: SmallSeries
    store: Store
    notes: tuple[str, ...]


_last: WeakKeyDictionary[Store, _Done] = WeakKeyDictionary()  # the folds of a run differ in their training rows alone


def reconstructed(
    asked: MaskedSteps, problem: Problem, splits: Splits, mixed: str, run: Run
) -> tuple[Problem, tuple[str, ...]]:
    """The same problem with a backbone that has learned to fill in hidden spans of the target's series."""
    base, store = problem.network()
    if not isinstance(base, SmallSeries):
        raise UserError(
            f"masked_steps fills in series, which series-cnn and series-transformer learn; "
            f"{base.origin.name!r} does not"
        )
    rows = series_of(asked, splits)
    what = f"{asked} {base.settings()} {base.seed} {mixed} {run.seed} {[id(one) for one in rows]}"
    known = _last.get(store)
    if known is None or known.what != what:
        with torch.random.fork_rng(devices=[] if run.device == "cpu" else None):
            torch.manual_seed(run.seed)
            filler = Filler(base.clone()).to(run.device)
            notes = _learn(asked, filler, rows, mixed, run.at("pretrain"))
        backbone = filler.backbone.requires_grad_(False).cpu().eval()
        known = _last[store] = _Done(what, backbone, Store(backbone, replace(run, cache=None)), notes)
        for said in notes:
            run.progress.say(said)
    return replace(problem, backbone=known.backbone, store=known.store), known.notes


def series_of(asked: MaskedSteps, splits: Splits) -> list[Any]:
    """The series that are learned from."""
    assert splits.target is not None
    return [*splits.target.inputs, *(splits.train.inputs if asked.rows == "both" else ())]


def _learn(asked: MaskedSteps, filler: Filler, rows: Sequence[Any], mixed: str, run: Run) -> tuple[str, ...]:
    """Move the weights in place; a sentence on what came of it."""
    parts = [Encoded((part,), 1) for row in filler.backbone.encode(rows) for part in row.parts]
    if len(parts) < 10:
        raise UserError(f"masked_steps needs 10 windows of series at least, and there are {len(parts)}; leave it out")
    order = np.random.default_rng([run.seed, len(parts)]).permutation(len(parts)).tolist()
    few = max(1, round(_HELD * len(parts)))
    held = _Windows(tuple(parts[i] for i in order[:few]), asked.mask, 0, filler.steps)
    learned = _Windows(tuple(parts[i] for i in sorted(order[few:])), asked.mask, run.seed, filler.steps)
    filler.requires_grad_(True)
    optimizer = torch.optim.AdamW(filler.parameters(), lr=asked.learning_rate, weight_decay=0.01)
    batches = partial(learned.batches, asked.batch_size)
    how = Descent(optimizer, Schedule(asked.epochs), batches, mixed, "pretraining", f"{asked}")

    def evaluate(_: Fitting) -> float:
        filler.eval()
        with torch.inference_mode():
            cuts = range(0, len(held.rows), _EVALUATED)
            losses = [held.loss(filler, range(a, min(a + _EVALUATED, len(held.rows))), run.device) for a in cuts]
        return float(torch.cat(losses).mean())

    history = descend(filler, lambda at: learned.loss(filler, at, run.device).mean(), evaluate, how, run)[0]
    run.forget()
    return (_told(history, len(learned.rows), few),)


def _told(history: History, windows: int, held: int) -> str:
    losses = [entry["valid_loss"] for entry in history]
    at = int(np.argmin(losses))
    fell = f"fell from {losses[0]:.3f} to {losses[at]:.3f}"
    kept = f"did not fall ({losses[0]:.3f}), so the network stays as it was"
    return (
        f"pretrained by masked reconstruction on {plural(windows, 'window')} of series, "
        f"{plural(history[-1]['epoch'], 'epoch')}: the "
        f"mean squared error of hidden steps in {plural(held, 'window')} held out {fell if at else kept}; the mean "
        f"of the "
        "channel gives about 1"
    )
