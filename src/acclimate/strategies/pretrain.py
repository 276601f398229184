"""Continued pretraining: the text backbone goes on with its first task, on the target's own texts, before tuning.

That of series is in `pretrain_series`.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from acclimate import ranks
from acclimate.backbones.masked import word_head
from acclimate.backbones.quantise import full_precision
from acclimate.backbones.text import TextBackbone
from acclimate.errors import UserError, plural, unknown
from acclimate.features import Store
from acclimate.files import whole
from acclimate.run import Run
from acclimate.settings import parse_named
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.hidden_words import DRAWS, Guesser, Texts
from acclimate.strategies.pretrain_series import MaskedSteps, reconstructed
from acclimate.train.descent import Descent, descend
from acclimate.train.loop import History, Schedule
from acclimate.train.memory import Fitting
from acclimate.train.step import step

ROWS = ("target", "both")
_HELD = 0.05  # of the texts, held out to tell whether anything was learned
_HEAD_RATE = 1e-3  # of a new head while it learns alone
_SAMPLE = 512  # texts whose tokens are counted to foretell the time
_SMALL = 1e-9  # a rate at which time can be measured and nothing is learned
_SHARE = 0.5  # of the time left, at most: tuning needs some, too


@dataclass(frozen=True)
class Mlm:
    """Masked language modelling: the network goes on learning to guess hidden words, in the target's own texts.

    L = −(1/|M|) Σ_{i ∈ M} log p(x_i | x̃): M is a share `mask` of a text's tokens that are not special (one at least),
    drawn anew in every epoch; in x̃ 8 in 10 of them are the mask token, 1 in 10 is another word and 1 in 10 stays
    (Devlin et al. 2018, arXiv:1810.04805, section 3.1). On the target's texts, before tuning: Gururangan et al. 2020,
    arXiv:2004.10964. A checkpoint without a head for this gets a new one, which first learns alone. The epoch with the
    least loss on 5 % of the texts is kept; that may be the start.

    Use when: there are thousands of unlabelled target texts or more, in words that the network has seldom seen.
    Prefer no pretraining with fewer texts, or where the texts are like those that the network was made from.
    """

    epochs: int = 3
    mask: float = 0.15
    rows: str = "target"  # target | both: the training rows' texts, too
    learning_rate: float = 5e-5
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r} of mlm must be 1 or more")
        if not 0 < self.mask < 1:
            raise UserError(f"mask={self.mask!r} of mlm is the share of tokens to hide: give one between 0 and 1")
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate={self.learning_rate!r} of mlm must be above 0")
        if self.rows not in ROWS:
            raise unknown("rows of mlm", self.rows, ROWS)


PRETRAINING: dict[str, type[Mlm] | type[MaskedSteps]] = {"mlm": Mlm, "masked_steps": MaskedSteps}


def check_pretrain(pretrain: str) -> Mlm | MaskedSteps:
    """What "mlm:KEY=VALUE,..." asks for, or an error in words."""
    kind, settings = parse_named("pretraining", pretrain, PRETRAINING)
    return kind(**settings)


def check_one_process() -> None:
    """Refuse several processes."""
    if ranks.world() > 1:
        raise UserError(
            "pretraining on the target's texts takes one process so far; start it as one process, without --processes "
            "or torchrun, or leave --pretrain out"
        )


def pretrained(asked: str, problem: Problem, splits: Splits, mixed: str, run: Run) -> tuple[Problem, tuple[str, ...]]:
    """The same problem with a backbone that has read the target's texts, and sentences on it; "none": as it is."""
    if asked == "none":
        return problem, ()
    mlm = check_pretrain(asked)
    check_one_process()
    unlabelled(splits, f"pretraining ({asked})")
    if isinstance(mlm, MaskedSteps):
        return reconstructed(mlm, problem, splits, mixed, run)
    base, part = _text_backbone(problem), run.at("pretrain")
    texts = _texts(mlm, base, splits)
    what, store = f"{_what(mlm, base, texts)} {mixed} {run.seed}", problem.network()[1]
    known = _last.get(store)
    if known is None or known.what != what:
        with torch.random.fork_rng(devices=[] if run.device == "cpu" else None), full_precision():
            guesser, own = _guesser(base, run)
            guesser.backbone.requires_grad_(True)
            notes = _read(guesser.backbone, part, what)
            if notes is None:
                half = None if run.deadline is None else time.monotonic() + _SHARE * run.left()
                notes = _learn(mlm, guesser, own, texts, mixed, replace(part, deadline=half), what)
        backbone = guesser.backbone.requires_grad_(False).cpu().eval()
        known = _last[store] = _Done(what, backbone, Store(backbone, replace(run, cache=None)), notes)
        for note in notes:
            run.progress.say(note)
    _keep(known.backbone, part, what, known.notes)
    return replace(problem, backbone=known.backbone, store=known.store), known.notes


@dataclass(frozen=True)
class _Done:
    """A backbone that has read these texts."""

    what: str
    backbone: TextBackbone
    store: Store
    notes: tuple[str, ...]


# Of each store of the weights as they were, the last: the folds of a run differ in their training rows alone.
_last: WeakKeyDictionary[Store, _Done] = WeakKeyDictionary()


def _text_backbone(problem: Problem) -> TextBackbone:
    base = problem.network()[0]
    if not isinstance(base, TextBackbone):
        raise UserError(f"mlm guesses hidden words, and {base.origin.name!r} reads {base.modality}")
    return base


def _guesser(base: TextBackbone, run: Run) -> tuple[Guesser, bool]:
    """A copy of the backbone with its head for hidden words; whether that is the checkpoint's own."""
    backbone = base.clone()
    torch.manual_seed(run.seed)
    head, own = word_head(backbone)
    return Guesser(backbone, head).to(run.device), own


def _texts(mlm: Mlm, base: TextBackbone, splits: Splits) -> list[Any]:
    """Each text that holds a word, once: a text held out must not be learned from in another row."""
    assert splits.target is not None
    more = splits.train.inputs if mlm.rows == "both" else ()
    every = list(dict.fromkeys([*splits.target.inputs, *more]))
    special = set(base.tokenizer.all_special_ids)
    rows = zip(every, base.encode(every), strict=True)
    texts = [text for text, row in rows if any(not special.issuperset(part["input_ids"]) for part in row.parts)]
    if len(texts) < 2:
        raise UserError(
            f"pretraining needs 2 different texts at least with a word that the tokeniser knows, and "
            f"{splits.target.source} has {len(texts)}"
        )
    return texts


# -- learning ----------------------------------------------------------------------------------------------------------


def _learn(mlm: Mlm, guesser: Guesser, own: bool, texts: list[Any], mixed: str, run: Run, what: str) -> tuple[str, ...]:
    """Move the guesser's weights in place; sentences on what came of it."""
    order = np.random.default_rng([run.seed, len(texts)]).permutation(len(texts)).tolist()
    few = max(1, round(_HELD * len(texts)))
    held = Texts.of(guesser.backbone, [texts[i] for i in order[:few]], mlm.mask, 0)
    learned = Texts.of(guesser.backbone, [texts[i] for i in sorted(order[few:])], mlm.mask, run.seed)
    said = []
    if not own:
        guesser.backbone.requires_grad_(False)
        _descend(mlm, guesser, learned, held, _HEAD_RATE, mixed, run.at("head"), what)
        guesser.backbone.requires_grad_(True)
        said.append(
            f"{guesser.backbone.origin.name!r} ships no head for hidden words: a new one, tied to its word embeddings, "
            "learned alone first, and the perplexity before is that of this head on the network as it was"
        )
    history = _descend(mlm, guesser, learned, held, mlm.learning_rate, mixed, run.at("all"), what)
    for name in ("head", "all"):
        run.at(name).forget()
    return (_came_of_it(mlm, history, len(texts) - few, few), *said)


def _came_of_it(mlm: Mlm, history: History, texts: int, held: int) -> str:
    losses = [entry["valid_loss"] for entry in history]
    at = int(np.argmin(losses))
    before, after = (math.exp(min(700.0, loss)) for loss in (losses[0], losses[at]))
    epochs = f"{history[-1]['epoch']} epoch{'s' * (history[-1]['epoch'] != 1)}"
    rows = "target and training texts" if mlm.rows == "both" else "target texts"
    note = str(history[-1].get("note") or "")
    kept = f"did not fall ({before:.1f}), so the network stays as it was"
    found = f"fell from {before:.1f} to {after:.1f}" if at else kept
    return (
        f"pretrained by masked language modelling on {texts:,} {rows}, {epochs}: the perplexity of hidden "
        f"words in {plural(held, 'text')} held out {found}{'; ' if note else ''}{note}"
    )


def _descend(
    mlm: Mlm, guesser: Guesser, texts: Texts, held: Texts, rate: float, mixed: str, run: Run, what: str
) -> History:
    """What happened, while whatever may move did."""
    torch.manual_seed(run.seed)
    hidden = texts.hidden

    def loss_of(slots: list[int]) -> Tensor:  # the same weight for every hidden word, however a batch is cut
        return guesser.loss(texts, slots, run.device) / (len(slots) * hidden)

    def evaluate(fitting: Fitting) -> float:
        return guesser.mean_loss(held, run.device, fitting)

    batches = partial(texts.batches, mlm.batch_size)
    how = Descent(_optimizer(guesser, rate), Schedule(mlm.epochs), batches, mixed, "pretraining", what)
    return descend(guesser, loss_of, evaluate, how, run)[0]


def _optimizer(guesser: Guesser, rate: float) -> torch.optim.Optimizer:
    """AdamW; biases and norms without decay."""
    moving = [p for p in guesser.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in moving if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in moving if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def foretell(asked: str, problem: Problem, splits: Splits, run: Run) -> float:
    """Seconds that `pretrained` will take, from a step of usual size of each of its parts; draws random numbers."""
    if asked == "none":
        return 0.0
    mlm = check_pretrain(asked)
    if isinstance(mlm, MaskedSteps):  # a small network: seconds, which no plan needs
        return 0.0
    base = _text_backbone(problem)
    guesser, own = _guesser(base, run)
    texts = _texts(mlm, base, splits)
    sample = Texts.of(guesser.backbone, texts[:_SAMPLE], mlm.mask, run.seed)
    batches = sorted(sample.batches(mlm.batch_size, 0), key=lambda slots: sum(sample.costs[slot] for slot in slots))
    usual = batches[len(batches) // 2]
    passes = mlm.epochs + (mlm.epochs + 1) * DRAWS * _HELD / 3  # judging goes forward alone: a third of a step
    steps = passes * sum(sample.costs) / sum(sample.costs[slot] for slot in usual) * len(texts) / len(texts[:_SAMPLE])
    seconds = 0.0
    for everything in (True,) if own else (False, True):
        guesser.backbone.requires_grad_(everything)
        seconds += steps * _a_step(guesser, sample, usual, run)
    return seconds


def _a_step(guesser: Guesser, texts: Texts, slots: list[int], run: Run) -> float:
    """Seconds of the second of two: the first has more to do."""
    optimizer, fitting = _optimizer(guesser, _SMALL), Fitting(guesser, run.progress)
    moving = [p for p in guesser.parameters() if p.requires_grad]
    guesser.train()
    for _ in range(2):
        start = time.monotonic()
        loss, _norm = step(moving, optimizer, [slots], lambda at: guesser.loss(texts, at, run.device), 1.0, fitting)
        float(loss)  # waits for the device
    return time.monotonic() - start


# -- what a run that goes on reads again -------------------------------------------------------------------------------


def _what(mlm: Mlm, base: TextBackbone, texts: Sequence[Any]) -> str:
    """Names what is learned, so that only the same is gone on from."""
    read = hashlib.sha256(repr(list(texts)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{mlm} {base.origin} {base.settings()} {read}"


def _file(run: Run) -> Path | None:
    return None if run.state is None else run.state / "done.safetensors"


def _keep(backbone: TextBackbone, run: Run, what: str, notes: Sequence[str]) -> None:
    """The weights themselves: where a time limit ended the pretraining, no other run would find the same ones."""
    from safetensors.torch import save

    file = _file(run)
    if file is None:
        return
    tensors = {name: parameter.detach().clone() for name, parameter in backbone.named_parameters()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as out:
            out.write(save(tensors, {"what": what, "notes": json.dumps(list(notes))}))
    except OSError as error:
        run.cannot_keep(error)


def _read(backbone: TextBackbone, run: Run, what: str) -> tuple[str, ...] | None:
    """Put the finished weights back; their notes, or nothing where there are none."""
    from safetensors import SafetensorError, safe_open

    file = _file(run)
    if file is None or not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as found:
            about = found.metadata()
            if about["what"] != what:
                return None
            names = found.keys()
            backbone.load_state_dict({name: found.get_tensor(name) for name in names}, strict=False)
            return tuple(json.loads(about["notes"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
