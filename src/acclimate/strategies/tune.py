"""Parameter sharing: pretrained weights move. ONE strategy; `full`, `partial`, `lora` ... are settings of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.backbones.quantise import full_precision
from acclimate.data.rows import Data
from acclimate.data.split import hash_of
from acclimate.errors import UserError, unknown
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import lora
from acclimate.strategies.alignment import (
    Aligned,
    attached,
    check_align,
    check_alone,
    check_weight,
    usual_distance,
    weight_at,
)
from acclimate.strategies.base import Problem, Splits, unlabelled, with_labelled
from acclimate.strategies.inputs import Both, Inputs
from acclimate.strategies.pretrain import check_pretrain, pretrained
from acclimate.strategies.probe import Probe
from acclimate.tasks.base import Network
from acclimate.tasks.heads import Head
from acclimate.train.arithmetic import MIXED, choose
from acclimate.train.batches import shuffled
from acclimate.train.loop import History, Schedule, train
from acclimate.train.memory import Fitting
from acclimate.train.pairs import Batches, Pairs
from acclimate.train.prefix import CHOICES, Prefix, build, frozen_depth, replaying
from acclimate.train.used_rows import named_rows

_SCHEDULES = ("linear", "cosine", "constant")
_OPTIMIZERS = ("adamw", "adam")
_LOOKED_AT = 1000  # rows of each domain, to tell how far they lie apart
_LAST = "the last epoch was kept: with an alignment the loss on source rows does not say when the target is served best"
_STEPS = 300  # what a small data set needs before the weights settle (Mosbach et al. 2021, arXiv:2006.04884)


@dataclass(frozen=True)
class Tune:
    """Gradient descent on L(θ) = L_source(θ) + λ·L_target(θ) over the weights in `moves`, from the pretrained ones.

    moves: "all", "top:K" (the last K blocks and what follows them) or "lora" (Hu et al. 2021, arXiv:2106.09685).
    start: the head begins at "zero", or at the "probe" fitted on frozen features first (LP-FT, Kumar et al. 2022,
    arXiv:2202.10054), which spares the features the distortion of the first steps.
    align: "none" (λ = 0: the target is not read), or an alignment (acclimate.align) of each source batch with as many
    target rows, as the head reads them: L_target. λ is `weight`, times 2/(1 + e^(−10p)) − 1 at progress p where
    `weight_schedule` is "rise". The last epoch is then kept: the loss on source rows does not say when the target is
    served best. Labelled target rows add λ times their mean loss; in an alignment they stand on the source's side.
    pretrain: "none", or "mlm": all weights first go on guessing hidden words of the target's texts, then tuning begins
    there (Gururangan et al. 2020, arXiv:2004.10964; settings in `Mlm`).

    Use when: hundreds of rows a class, and new rows look like the training ones. Prefer `linear_probe` with few rows
    or under shift; prefer `lora` where the checkpoint must be small, `partial` where time or memory is short.
    """

    moves: str = "all"
    start: str = "zero"
    align: str = "none"  # or a name of ALIGNMENTS, with settings: "mcc:temperature=2,..."; sums: "mcc+0.5*mmd"
    weight: float = 1.0  # λ
    weight_schedule: str = "constant"  # constant | rise
    pretrain: str = "none"  # or a name of PRETRAINING, with settings after a colon: "mlm:epochs=2,mask=0.15"
    learning_rate: float = 5e-5
    head_learning_rate: float = 1e-3
    num_train_epochs: int | None = None  # None: about 300 steps, 3 to 20 epochs
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    weight_decay: float = 0.01
    warmup_steps: float = 0.1  # below 1: a share of all steps
    lr_scheduler_type: str = "linear"
    max_grad_norm: float = 1.0
    optimizer: str = "adamw"
    dropout: float | None = None  # None: as the pretrained model has it
    mixed_precision: str = "auto"  # auto: as a trial of a few steps finds it | no: fp32 | bf16 | fp16
    cache_frozen: str = "auto"  # of the output of frozen lower blocks: auto | fp16 (half the size) | off
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    lora_targets: str = "blocks"  # blocks | attention | all-linear
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.moves not in ("all", "lora") and not _top(self.moves):
            raise UserError(
                f"moves={self.moves!r} is not understood; give all, lora or top:K with K a whole number from 1"
            )
        for name, choices in (
            ("start", ("zero", "probe")),
            ("lr_scheduler_type", _SCHEDULES),
            ("optimizer", _OPTIMIZERS),
            ("lora_targets", lora.TARGETS),
            ("cache_frozen", CHOICES),
            ("mixed_precision", MIXED),
        ):
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)
        if self.align != "none":
            check_align(self.align)
        if self.pretrain != "none":
            check_pretrain(self.pretrain)
        check_weight(self.weight, self.weight_schedule)
        sizes = ("batch_size", "gradient_accumulation_steps", "lora_rank", "lora_alpha")
        for name in ("learning_rate", "head_learning_rate", *sizes):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)!r} must be above 0")
        for name in ("weight_decay", "warmup_steps", "max_grad_norm"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name}={getattr(self, name)!r} must be 0 or more")
        for name in ("dropout", "lora_dropout"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r} must be at least 0 and below 1")
        if self.num_train_epochs is not None and self.num_train_epochs < 1:
            raise UserError(f"num_train_epochs={self.num_train_epochs!r} must be 1 or more")

    @property
    def aligned(self) -> bool:
        """Whether target rows stand beside those of the source in every step."""
        return self.align != "none" and self.weight > 0

    @property
    def pretrains(self) -> bool:
        """Whether the target's texts are read before tuning."""
        return self.pretrain != "none"

    @property
    def adds_decay(self) -> bool:
        """Whether weights decay through their gradient, as Adam has it, not by themselves."""
        return self.optimizer == "adam" and self.weight_decay > 0

    def epochs(self, rows: int) -> int:
        """The number of passes over `rows` training rows."""
        if self.num_train_epochs is not None:
            return int(self.num_train_epochs)
        steps = math.ceil(rows / (self.batch_size * self.gradient_accumulation_steps))
        return max(3, min(20, math.ceil(_STEPS / steps)))

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train a copy of the backbone; with `splits.valid`, and no alignment, keep the epoch with the least loss."""
        if self.aligned:
            unlabelled(splits, f"{_name(self)} with {self.align}")
            check_alone(self.align)
        problem, before = pretrained(self.pretrain, problem, splits, self.mixed_precision, run)
        splits = with_labelled(splits, self.weight)
        head = self._first_head(problem, splits, run)
        # `mixed_precision` says in which numbers weights learn; the precision is that of the finished model.
        with torch.random.fork_rng(devices=[] if run.device == "cpu" else None), full_precision():
            network, moved = self.started(problem, head, run)
            history, notes = self._train(network, problem, splits, run)
        network.zero_grad(set_to_none=True)  # gradients would stay with the model, as large as what moved
        backbone = network.backbone
        names = tuple(n for n, p in network.named_parameters() if p.requires_grad)
        adapter = lora.take(backbone) if self.moves == "lora" else (None, None)
        if self.pretrains:  # everything moved; low-rank weights alone would be put on a base that nobody has
            names, adapter = tuple(n for n, _ in network.named_parameters()), (None, None)
        backbone.requires_grad_(False)
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        return Predictor(
            problem.task,
            problem.decoder,
            network.head.cpu(),
            backbone.cpu().eval(),
            None,
            _name(self),
            settings,
            names,
            tuple(history),
            (moved, *before, *notes),
            *adapter,
        )

    def started(self, problem: Problem, head: Head, run: Run) -> tuple[Network, str]:
        """A copy of the backbone with this head, where what `moves` names may move; a sentence on what that is.

        Seeds the generators, for low-rank weights and dropout: call it inside a forked state.
        """
        backbone = problem.network()[0].clone().to(run.device)
        torch.manual_seed(run.seed)
        if self.dropout is not None:
            _set_dropout(backbone, self.dropout)
        moved = _release(backbone, self)
        return Network(backbone, head.to(run.device)), moved

    def _first_head(self, problem: Problem, splits: Splits, run: Run) -> Head:
        if self.start == "probe":
            return Probe().fit(problem, splits, run).head
        return problem.task.attach(problem.network()[0], problem.decoder).head

    def _train(self, network: Network, problem: Problem, splits: Splits, run: Run) -> tuple[History, list[str]]:
        """What happened, and sentences on the frozen blocks and on the numbers that were trained in."""
        rows = Inputs(problem, splits.train, network.backbone, run)
        both, target = None, splits.target if self.aligned else None
        if target is not None:
            both = self.both(problem, rows, splits.train, target)
        chosen_by = None if self.aligned else problem.held_out(splits)
        valid = None if chosen_by is None else Inputs(problem, chosen_by, network.backbone, run)
        epochs = self.epochs(len(splits.train))
        prefix, note = self.prefix_of(network.backbone, rows, valid, epochs, run)
        read = splits.target if self.pretrains else target
        what = "" if run.state is None else self._what(problem, splits.train, chosen_by, read)
        read_here = [*rows.encoded, *([] if valid is None else valid.encoded)]
        with replaying(prefix), named_rows(network.backbone, read_here, self.adds_decay):
            history, said = self._descend(network, rows, valid, both, epochs, what, run)
        more = [sentence for sentence in (_LAST if self.aligned else "", said, cut_short(history)) if sentence]
        for sentence in more:
            run.progress.say(sentence)
        return history, [note, *more] if note else more

    def _descend(
        self, network: Network, rows: Inputs, valid: Inputs | None, both: Both | None, epochs: int, what: str, run: Run
    ) -> tuple[History, str]:
        """What happened, and a sentence on the numbers that were trained in."""
        schedule = Schedule(
            epochs, self.warmup_steps, self.lr_scheduler_type, self.gradient_accumulation_steps, self.max_grad_norm
        )
        trained = Aligned(network, None if both is None else both.loss).to(run.device)
        plain_loss, batches = self._steps(network, rows, both, epochs, run)
        first = batches(0)
        found, said = choose(trained, plain_loss, first, len(first) * epochs, self.mixed_precision, run)
        fitting = Fitting(network, run.progress)

        def loss_of(at: list[int]) -> Tensor:
            with found.at_work(run.device):
                return plain_loss(at)

        def evaluate() -> float:
            assert valid is not None
            with found.at_work(run.device):
                return valid.mean_loss(network, fitting)

        with found.applied(trained):
            history = train(
                trained,
                self.optimizer_of(network, trained.loss),
                schedule,
                batches,
                loss_of,
                evaluate if valid is not None else None,
                run,
                _name(self),
                what,
                found.scaler(run.device),
                self.align if self.aligned else "",
            )
        return history, said

    def both(self, problem: Problem, rows: Inputs, source: Data, target: Data) -> Both:
        """The encoded source rows with the target's beside them, and the alignment with new weights."""
        store = problem.network()[1]

        def distance() -> float:  # of features before anything moves
            return usual_distance(
                *(store.get(data.inputs[:_LOOKED_AT]).astype(np.float64) for data in (source, target))
            )

        loss = attached(self.align, rows.backbone.width, problem, distance)
        return Both(rows, target, loss, partial(weight_at, self.weight, self.weight_schedule))

    def _steps(
        self, network: Network, rows: Inputs, both: Both | None, epochs: int, run: Run
    ) -> tuple[Callable[[list[int]], Tensor], Batches]:
        """The mean loss of a batch, and the batches of an epoch."""
        ours = partial(shuffled, rows.costs, self.batch_size, run.seed)
        if both is None:
            return (lambda at: rows.losses(network, at).mean()), ours
        theirs = partial(shuffled, both.target_costs, self.batch_size, run.seed + 1)
        pairs = Pairs(ours, theirs, epochs, self.gradient_accumulation_steps)
        return partial(both.loss_of, network, pairs), pairs.epoch

    def prefix_of(
        self, backbone: Backbone, rows: Inputs, valid: Inputs | None, epochs: int, run: Run
    ) -> tuple[Prefix | None, str]:
        """The stored output of the frozen blocks, where there are some and it is read more than once."""
        depth = frozen_depth(backbone)
        if depth == 0 or epochs < 2 or self.cache_frozen == "off":
            return None, ""
        both = [rows] if valid is None else [rows, valid]
        prefix, note = build(backbone, [row for part in both for row in part.encoded], self.cache_frozen, run)
        rows.prefix = prefix
        if valid is not None:
            valid.prefix, valid.first = prefix, len(rows.encoded)
        said = f"the output of the {depth} frozen blocks is {note}"
        run.progress.say(said)
        return prefix, said

    def _what(self, problem: Problem, *used: Data | None) -> str:
        """Names what is trained, so that only a checkpoint of the same is gone on from."""
        rows = [hash_of(data) for data in used if data is not None]
        base = problem.network()[0]
        model = f"{base.origin} {base.settings()}"  # not its weights, which the run checks once
        return f"{self} {problem.task.name} {problem.decoder.to_json()} {problem.class_weight} {model} {rows}"

    def optimizer_of(self, network: Network, loss: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW; biases and norms without decay; the head at a rate of its own unless it starts from a probe, and the
        weights of an alignment at that rate in any case."""
        head_rate = self.learning_rate if self.start == "probe" else self.head_learning_rate
        groups: list[dict[str, Any]] = []
        parts: list[tuple[nn.Module, float]] = [(network.backbone, self.learning_rate), (network.head, head_rate)]
        if loss is not None:
            parts.append((loss, self.head_learning_rate))
        for part, rate in parts:
            moving = [p for p in part.parameters() if p.requires_grad]
            for decay, chosen in (
                (self.weight_decay, [p for p in moving if p.ndim > 1]),
                (0.0, [p for p in moving if p.ndim <= 1]),
            ):
                if chosen:
                    groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
        if self.optimizer == "adam":
            return torch.optim.Adam(groups, fused=True)
        return torch.optim.AdamW(groups, fused=True)


def _top(moves: str) -> int:
    head, _, count = moves.partition(":")
    return int(count) if head == "top" and count.isdigit() else 0


def _release(backbone: Backbone, tune: Tune) -> str:
    """Let what `moves` names move; a sentence on what that is."""
    backbone.requires_grad_(False)
    if tune.moves == "lora":
        lora.add(backbone, tune.lora_rank, tune.lora_alpha, tune.lora_dropout, tune.lora_targets)
    elif tune.moves == "all":
        backbone.requires_grad_(True)
    else:
        k, blocks = _top(tune.moves), backbone.blocks
        if not blocks:
            raise UserError(
                f"{backbone.origin.name!r} has no separate blocks (one layer is shared or single), so its top {k} "
                "cannot be tuned alone; use linear_probe, lora or full"
            )
        if k > len(blocks):
            raise UserError(
                f"moves='top:{k}': {backbone.origin.name!r} has {len(blocks)} blocks; give 1 to {len(blocks)}"
            )
        for part in blocks[-k:]:
            part.requires_grad_(True)
        for parameter in backbone.stem_and_top()[1]:
            parameter.requires_grad_(True)
    moving = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    return f"{moving:,} of {sum(p.numel() for p in backbone.parameters()):,} backbone parameters moved ({tune.moves})"


def _set_dropout(backbone: nn.Module, p: float) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        for name, value in list(vars(module).items()):
            if "dropout" in name and isinstance(value, float):  # of attention, a plain number in Llama and its like
                setattr(module, name, p)


def cut_short(history: History) -> str:
    """A sentence where the time limit ended the training; nothing where it ran to its end."""
    note = str(history[-1].get("note") or "") if history else ""
    if not note.startswith("time limit"):
        return ""
    return f"{note[0].upper()}{note[1:]}: what was learned by then was kept; raise --time-limit to learn more."


def _name(tune: Tune) -> str:
    if tune.moves == "lora":
        return "lora"
    if _top(tune.moves):
        return "partial"
    return "lp_ft" if tune.start == "probe" else "full"
