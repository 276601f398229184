"""Parameter sharing for structured answers: the settings of `Tune`, on a network that computes its own loss."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acclimate import ranks
from acclimate.backbones.augment import strength_of
from acclimate.backbones.base import Encoded
from acclimate.backbones.quantise import full_precision
from acclimate.data.rows import Data
from acclimate.errors import UserError, plural
from acclimate.features import to_device
from acclimate.run import Run
from acclimate.strategies import adapters
from acclimate.strategies.moves import release, set_dropout
from acclimate.strategies.rates import Unfreezing
from acclimate.strategies.tune import Tune, cut_short
from acclimate.structured.answering import answers_to as answers_to
from acclimate.structured.base import StructuredNetwork, labels_of
from acclimate.train.batches import shuffled
from acclimate.train.descent import Descent, descend
from acclimate.train.loop import History, Schedule
from acclimate.train.memory import Fitting, parts
from acclimate.train.prefix import Prefix, build, frozen_depth

_EVALUATED = 32  # rows of a batch when nothing is learned from them


@dataclass(frozen=True)
class Tuned:
    """A network that has learned, and what is to be told of it."""

    network: StructuredNetwork
    strategy: str
    settings: dict[str, Any]
    history: History
    notes: tuple[str, ...]
    trained: tuple[str, ...]  # names of the parameters that moved


def refuse(name: str, tune: Tune, network: StructuredNetwork) -> None:
    """Refuse settings that have no meaning for structured answers, before anything is computed."""
    for setting, none in (("align", "none"), ("hold", "none"), ("pretrain", "none")):
        if getattr(tune, setting) != none:
            raise UserError(
                f"{setting}={getattr(tune, setting)!r} is for labels of whole rows, and {name} here learns structured "
                "answers; leave it out"
            )
    if tune.unfreeze and not any(True for _ in network.head.parameters()):
        raise UserError(
            f"unfreeze={tune.unfreeze:g} lets the head move alone first, and {network.backbone.origin.name!r} has no "
            "head of its own; use full, partial or lora"
        )
    if tune.moves == "surgical":
        raise UserError("moves='surgical' reads the gradient of labels of whole rows; use top:K, first:K or middle:K")
    if strength_of(tune.augment) and not network.augments:
        raise UserError(f"augment={tune.augment!r}: no random change is known here that keeps the answers right")


def tuned(
    name: str, tune: Tune, network: StructuredNetwork, train: Data, valid: Data | None, run: Run, identity: str = ""
) -> Tuned:
    """Train a copy of the network on these rows; with `valid` the epoch with the least loss there is kept,
    where the network says that its loss tells which is best."""
    tune = tune.known(network.backbone)
    refuse(name, tune, network)
    # `mixed_precision` says in which numbers weights learn; the precision is that of the finished model.
    with torch.random.fork_rng(devices=[] if run.device == "cpu" else None), full_precision():
        network, moved = _started(tune, network, run)
        history, notes = _train(name, tune, network, train, valid, run, identity)
    network.zero_grad(set_to_none=True)
    names = tuple(n for n, p in network.named_parameters() if p.requires_grad)
    if adapters.understood(tune.moves):
        some = network.encode(train.inputs[:2], None if train.labels is None else train.labels[:2])
        with full_precision():
            adapters.take(network.backbone, to_device(network.backbone.collate(some), run.device))
    network.requires_grad_(False)
    settings = {f.name: getattr(tune, f.name) for f in dataclasses.fields(tune) if f.init}
    said = tuple(sentence for sentence in (moved, *notes) if sentence)
    return Tuned(network.cpu().eval(), name, settings, history, said, names)


def _started(tune: Tune, network: StructuredNetwork, run: Run) -> tuple[StructuredNetwork, str]:
    """A copy where what `moves` names may move, the head always; and a sentence on what that is."""
    network = network.clone().to(run.device)
    torch.manual_seed(run.seed)
    backbone = network.backbone
    if tune.dropout is not None:
        set_dropout(backbone, tune.dropout)
    if adapters.understood(tune.moves):
        low_rank = {"r": tune.lora_rank, "lora_alpha": tune.lora_alpha, "lora_dropout": tune.lora_dropout}
        adapters.add(backbone, tune.moves, low_rank, tune.lora_targets)
    else:
        release(backbone, tune.moves)
    network.head.requires_grad_(True)
    moving = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    total = sum(p.numel() for p in backbone.parameters())
    if not any(p.requires_grad for p in network.parameters()):
        raise UserError(
            f"moves={tune.moves!r} leaves nothing to train: {backbone.origin.name!r} has no head of its own"
        )
    return network, f"{moving:,} of {total:,} parameters of the {network.called} moved ({tune.moves})"


class _Rows:
    """Encoded rows of one network, and losses of batches of them."""

    def __init__(self, network: StructuredNetwork, data: Data, run: Run, *, known: bool) -> None:
        kept = network.kept(data.inputs, labels_of(data), run) if known else None
        self.known = kept is not None  # so that the backbone is not needed
        self.encoded = network.encode(data.inputs, data.labels) if kept is None else kept
        self.costs = [row.cost for row in self.encoded]
        weights = np.ones(len(data)) if data.weights is None else data.weights
        self.weights = torch.as_tensor(weights / weights.mean(), dtype=torch.float32)
        self.network, self.device, self.seed = network, run.device, run.seed
        self.prefix: Prefix | None = None
        self.first = 0  # the number of the first of these rows in the prefix
        self.augment, self.step = 0.0, 0

    def losses(self, at: Sequence[int]) -> Tensor:
        """The weighted loss of each of these rows."""
        rows = [self.encoded[i] for i in at]
        if self.augment and self.network.training:
            rows = [self._changed(i) for i in at]
        batch = self.network.collate(rows)
        if self.prefix is not None:
            self.prefix.offer([self.first + i for i in at], batch, self.device)
        found: Tensor = self.network(to_device(batch, self.device))
        return found * self.weights[list(at)].to(self.device)

    def _changed(self, row: int) -> Encoded:
        """Told by seed, step and row alone: however a batch is cut, and in a run that goes on."""
        mark = hashlib.blake2b(np.array([self.seed, self.step, row], np.int64).tobytes(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(mark, "little"))
        return self.network.changed([self.encoded[row]], generator, self.augment)[0]

    def mean_loss(self, fitting: Fitting) -> float:
        """The weighted mean loss of all rows."""
        self.network.eval()
        order = np.argsort(self.costs, kind="stable").tolist()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for batch in ranks.share(parts(order, _EVALUATED)):
                total += fitting.retried(partial(self._summed, batch), len(batch))
        return float(ranks.summed(total)) / float(self.weights.double().sum())

    def _summed(self, batch: list[int], most: int) -> Tensor:
        return torch.stack([self.losses(part).double().sum() for part in parts(batch, most)]).sum()


def _train(
    name: str, tune: Tune, network: StructuredNetwork, train: Data, valid: Data | None, run: Run, identity: str
) -> tuple[History, list[str]]:
    epochs = tune.epochs(len(train))
    still = not any(p.requires_grad for p in network.backbone.parameters())
    known = still and epochs > 1 and tune.cache_frozen != "off" and not strength_of(tune.augment)
    rows = _Rows(network, train, run, known=known)
    rows.augment = strength_of(tune.augment)
    judged = network.loss_chooses and valid is not None and len(valid)
    held_out = _Rows(network, valid, run, known=known) if valid is not None and judged else None
    note = _replayed(tune, network, rows, held_out, epochs, run)
    schedule = Schedule(
        epochs, tune.warmup_steps, tune.lr_scheduler_type, tune.gradient_accumulation_steps, tune.max_grad_norm
    )
    batches = partial(shuffled, rows.costs, tune.batch_size, run.seed)
    steps = -(-len(batches(0)) // tune.gradient_accumulation_steps) * epochs
    headed = any(True for _ in network.head.parameters())
    opening = Unfreezing.over(network.backbone, tune.unfreeze, steps, headed=headed)
    what = f"{name} {tune} {network.backbone.origin} {network.backbone.settings()} {identity}"
    how = Descent(
        tune.optimizer_of(network), schedule, batches, tune.mixed_precision, name, what, network.compared,
        prefix=rows.prefix, during=partial(_in_step, opening, rows),
    )  # fmt: skip
    evaluate = None if held_out is None else held_out.mean_loss
    history, said = descend(network, lambda at: rows.losses(at).mean(), evaluate, how, run)
    notes = [network.cut(rows.encoded), note, said, str(opening) if tune.unfreeze else "", cut_short(history)]
    for sentence in filter(None, notes):
        run.progress.say(sentence)
    return history, notes


@contextmanager
def _in_step(opening: Unfreezing, rows: _Rows, step: int) -> Iterator[None]:
    rows.step = step
    with opening.during(step):
        yield


def _replayed(
    tune: Tune, network: StructuredNetwork, rows: _Rows, held_out: _Rows | None, epochs: int, run: Run
) -> str:
    """Keep the output of frozen blocks where there are some and it is read more than once; a sentence on it."""
    if rows.known:
        return "the features of the frozen backbone are computed once"
    depth = frozen_depth(network.backbone)
    if not network.replayed(depth) or depth == 0 or epochs < 2 or tune.cache_frozen == "off":
        return ""
    if rows.augment:
        return f"the output of the {plural(depth, 'frozen block')} is not kept: inputs are changed at random"
    both = [rows.encoded, *([] if held_out is None else [held_out.encoded])]
    prefix, note = build(network.backbone, [row for part in both for row in part], tune.cache_frozen, run)
    rows.prefix = prefix
    if held_out is not None:
        held_out.prefix, held_out.first = prefix, len(rows.encoded)
    return f"the output of the {plural(depth, 'frozen block')} is {note}"
