"""Parameter sharing: pretrained weights move. ONE strategy; `full`, `partial`, `lora` ... are settings of it."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.augment import strength_of
from acclimate.backbones.base import Backbone
from acclimate.backbones.quantise import full_precision
from acclimate.data.rows import Data
from acclimate.data.split import hash_of
from acclimate.errors import plural
from acclimate.features import to_device
from acclimate.hold import terms
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import adapters, rates
from acclimate.strategies.alignment import (
    Aligned,
    attached,
    check_alone,
    usual_distance,
    weight_at,
)
from acclimate.strategies.base import Problem, Splits, unlabelled, with_labelled
from acclimate.strategies.checks import called, check, fits
from acclimate.strategies.forgetting import forgetting, source_kept
from acclimate.strategies.holding import Holding
from acclimate.strategies.inputs import Both, Inputs
from acclimate.strategies.moves import by_gradient, release, set_dropout
from acclimate.strategies.pretrain import pretrained
from acclimate.strategies.probe import first_head
from acclimate.strategies.rates import Unfreezing
from acclimate.tasks.base import Network
from acclimate.tasks.heads import Head
from acclimate.train.batches import shuffled
from acclimate.train.descent import Descent, descend
from acclimate.train.loop import History, Schedule
from acclimate.train.pairs import Batches, Pairs
from acclimate.train.prefix import Prefix, build, frozen_depth
from acclimate.train.used_rows import named_rows

_LOOKED_AT = 1000  # rows of each domain, to tell how far they lie apart
_LAST = "the last epoch was kept: with an alignment the loss on source rows does not say when the target is served best"
_LOOKED_BY = 256  # training rows whose gradient says which part of the blocks moves
_STEPS = 300  # what a small data set needs before the weights settle (Mosbach et al. 2021, arXiv:2006.04884)


class WithHead(Protocol):
    """A backbone and a head that learn at rates of their own."""

    backbone: Backbone
    head: Any  # a module; its type differs from task to task


@dataclass(frozen=True)
class Tune:
    """Gradient descent on L(θ) = L_source(θ) + λ·L_target(θ) over the weights in `moves`, from the pretrained ones.

    moves: "all"; "head" (the head alone, on features that are computed once); "top:K" (the last K blocks and what
    follows them), "first:K" (the stem and the first K), "middle:K";
    "surgical" (the third of the blocks with the largest relative gradient ‖∂L/∂θ_b‖/‖θ_b‖ at the start: Lee et al.
    2022, arXiv:2210.11466); "bias" (BitFit, Ben Zaken et al. 2021, arXiv:2106.10199); "norm" (scales and shifts of
    LayerNorm, BatchNorm and the like, the statistics of the latter with them: Frankle et al. 2020, arXiv:2003.00152);
    "lora" (Hu et al. 2021, arXiv:2106.09685); "peft:METHOD" with the method's own settings, as "peft:dora" or
    "peft:loha:r=4", merged into the weights at the end.
    start: the head begins at "zero", or at the "probe" fitted on frozen features first (LP-FT, Kumar et al. 2022,
    arXiv:2202.10054), which spares the features the distortion of the first steps.
    align: "none" (λ = 0: the target is not read), or an alignment (acclimate.align) of each source batch with as many
    target rows, as the head reads them: L_target. λ is `weight`, times 2/(1 + e^(−10p)) − 1 at progress p where
    `weight_schedule` is "rise". The last epoch is then kept: the loss on source rows does not say when the target is
    served best. Labelled target rows add λ times their mean loss; in an alignment they stand on the source's side.
    pretrain: "none", or "mlm": all weights first go on guessing hidden words of the target's texts, then tuning begins
    there (Gururangan et al. 2020, arXiv:2004.10964; settings in `Mlm`).
    hold: "none", or penalties that tie what moves to the pretrained network (acclimate.hold), added to L_source.
    unfreeze: the head moves alone first, then layer after layer from the top starts to move, evenly over this share of
    the steps; layer_decay: block l of L has the rate η·d^(L − l), the stem η·d^L (both: ULMFiT, Howard & Ruder 2018,
    arXiv:1801.06146, sections 3.2 and 3.3).

    Use when: hundreds of rows a class, and new rows look like the training ones. Prefer `linear_probe` with few rows
    or under shift; prefer `lora`, `bitfit` or `norm_only` where what is learned must be small, `partial` where time or
    memory is short, `surgical` where only the inputs, or only the classes, differ from what the network knows.
    """

    moves: str = "all"
    start: str = "zero"
    align: str = "none"  # or a name of ALIGNMENTS, with settings: "mcc:temperature=2,..."; sums: "mcc+0.5*mmd"
    weight: float = 1.0  # λ
    weight_schedule: str = "constant"  # constant | rise
    pretrain: str = "none"  # or a name of PRETRAINING, with settings after a colon: "mlm:epochs=2,mask=0.15"
    hold: str = "none"  # or a name of HOLDS, with weight and settings: "l2_sp:0.01", "bss:0.001,k=2"; sums: "l2_sp+bss"
    unfreeze: float = 0.0  # the share of all steps over which layers start to move, from the top; 0: all at once
    layer_decay: float = 1.0  # of the learning rate, from each layer to the one below
    learning_rate: float | None = None  # None: what suits the weights, 5e-5 of most (Backbone.tuned_rate, random_rate)
    head_learning_rate: float = 1e-3
    num_train_epochs: int | None = None  # None: about 300 steps, 3 to 20 epochs
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    weight_decay: float = 0.01
    warmup_steps: float = 0.1  # below 1: a share of all steps
    lr_scheduler_type: str = "linear"
    max_grad_norm: float = 1.0
    optimizer: str = "adamw"
    augment: float | str = 0.0  # of pictures and sounds, how much a step changes them: to 1, light, standard, strong
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
        check(self)

    @property
    def aligned(self) -> bool:
        """Whether target rows stand beside those of the source in every step."""
        return self.align != "none" and self.weight > 0

    @property
    def _compared(self) -> str:
        """What compares the rows of a batch."""
        held = [type(one).__name__.lower() for one in terms(self.hold) if one.compares_rows]
        return "+".join([self.align] * self.aligned + held)

    @property
    def pretrains(self) -> bool:
        """Whether the target's texts are read before tuning."""
        return self.pretrain != "none"

    @property
    def moves_every_row(self) -> bool:
        """Whether the whole table of words has to be there: those that no row holds decay through their gradient, as
        Adam has it, or all are compared with what they were."""
        return (self.optimizer == "adam" and self.weight_decay > 0) or any(
            one.instead_of_decay for one in terms(self.hold)
        )

    def known(self, backbone: Backbone) -> Tune:
        """These settings with the learning rate for this backbone, where none is given."""
        if self.learning_rate is not None:
            return self
        return dataclasses.replace(
            self, learning_rate=backbone.random_rate if backbone.untrained else backbone.tuned_rate
        )

    def epochs(self, rows: int) -> int:
        """The number of passes over `rows` training rows."""
        if self.num_train_epochs is not None:
            return int(self.num_train_epochs)
        steps = math.ceil(rows / (self.batch_size * self.gradient_accumulation_steps))
        return max(3, min(20, math.ceil(_STEPS / steps)))

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train a copy of the backbone; with `splits.valid`, and no alignment, keep the epoch with the least loss."""
        if self.learning_rate is None:
            return self.known(problem.network()[0]).fit(problem, splits, run)
        if self.aligned:
            unlabelled(splits, f"{called(self)} with {self.align}")
            check_alone(self.align)
        problem = problem.to_tune()
        fits(self, problem)
        original = problem
        problem, before = pretrained(self.pretrain, problem, splits, self.mixed_precision, run)
        splits, valid = with_labelled(splits, self.weight), problem.held_out(splits)
        head = first_head(self.start, problem, splits, run)
        first = copy.deepcopy(head) if splits.target is not None and self.start == "probe" else None
        # `mixed_precision` says in which numbers weights learn; the precision is that of the finished model.
        with torch.random.fork_rng(devices=[] if run.device == "cpu" else None), full_precision():
            resolved, chosen = self.resolved(problem, splits.train, head, run)
            network, moved = resolved.started(problem, head, run)
            history, notes = resolved._train(network, problem, splits, run, called(self))
        network.zero_grad(set_to_none=True)  # gradients would stay with the model, as large as what moved
        backbone = network.backbone
        names = tuple(n for n, p in network.named_parameters() if p.requires_grad)
        adapter = self.taken(backbone, splits.train, run)
        if self.pretrains:  # everything moved; low-rank weights alone would be put on a base that nobody has
            names, adapter = tuple(n for n, _ in network.named_parameters()), (None, None)
        backbone.requires_grad_(False)
        kept = "" if first is None or valid is None else source_kept(problem, first, network, valid, run)
        said = [moved, chosen, *before, forgetting(original, backbone, splits.train, len(history), run), kept, *notes]
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        return Predictor(
            problem.task,
            problem.decoder,
            network.head.cpu(),
            backbone.cpu().eval(),
            None,
            called(self),
            settings,
            names,
            tuple(history),
            tuple(sentence for sentence in said if sentence),
            *adapter,
        )

    def started(self, problem: Problem, head: Head, run: Run) -> tuple[Network, str]:
        """A copy of the backbone with this head, where what `moves` names may move; a sentence on what that is.

        Seeds the generators, for low-rank weights and dropout: call it inside a forked state.
        """
        backbone = problem.network()[0].clone().to(run.device)
        torch.manual_seed(run.seed)
        if self.dropout is not None:
            set_dropout(backbone, self.dropout)
        if adapters.understood(self.moves):
            settings = {"r": self.lora_rank, "lora_alpha": self.lora_alpha, "lora_dropout": self.lora_dropout}
            adapters.add(backbone, self.moves, settings, self.lora_targets)
        else:
            release(backbone, self.moves)
        moving = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
        total = sum(p.numel() for p in backbone.parameters())
        said = f"{moving:,} of {total:,} backbone parameters moved ({self.moves})"
        return Network(backbone, head.to(run.device)), said

    def taken(self, backbone: Backbone, data: Data, run: Run) -> tuple[Any, Any]:
        """Adapters' weights and configuration; the backbone is plain afterwards."""
        if not adapters.understood(self.moves):
            return None, None
        with full_precision():
            return adapters.take(backbone, to_device(backbone.collate(backbone.encode(data.inputs[:4])), run.device))

    def resolved(self, problem: Problem, data: Data, head: Head, run: Run) -> tuple[Tune, str]:
        """With `moves` "surgical": these settings with the part that the gradient of some rows chose; and why."""
        if self.moves != "surgical":
            return self, ""
        network, _ = dataclasses.replace(self, moves="all").started(problem, copy.deepcopy(head), run)
        at = np.sort(np.random.default_rng(run.seed).permutation(len(data))[:_LOOKED_BY])
        rows = Inputs(problem, data.take(at), network.backbone, run)
        batches = shuffled(rows.costs, self.batch_size, run.seed, 0)
        part, said = by_gradient(network, batches, lambda some: rows.losses(network, some).mean())
        run.progress.say(said)
        return dataclasses.replace(self, moves=part), said

    def rows_of(self, network: Network, problem: Problem, data: Data, run: Run) -> Inputs:
        """Rows to learn from, as this network, which has not moved yet, is to read them."""
        rows = Inputs(problem, data, network.backbone, run)
        rows.augment = strength_of(self.augment)
        rows.holding = self.holding(network, problem, data)
        return rows

    def _train(
        self, network: Network, problem: Problem, splits: Splits, run: Run, name: str
    ) -> tuple[History, list[str]]:
        """What happened, and sentences on the frozen blocks and on the numbers that were trained in."""
        rows = self.rows_of(network, problem, splits.train, run)
        both, target = None, splits.target if self.aligned else None
        if target is not None:
            both = self.both(problem, rows, splits.train, target)
        chosen_by = None if self.aligned else problem.held_out(splits)
        valid = None if chosen_by is None else Inputs(problem, chosen_by, network.backbone, run)
        epochs = self.epochs(len(splits.train))
        _, note = self.prefix_of(network.backbone, rows, valid, epochs, run)
        read = splits.target if self.pretrains else target
        what = "" if run.state is None else self.identity(problem, splits.train, chosen_by, read)
        read_here = [*rows.encoded, *([] if valid is None else valid.encoded)]
        with named_rows(network.backbone, read_here, self.moves_every_row):
            history, said = self._descend(network, rows, valid, both, epochs, (name, what), run)
        more = [sentence for sentence in (_LAST if self.aligned else "", *said, cut_short(history)) if sentence]
        for sentence in more:
            run.progress.say(sentence)
        return history, [note, *more] if note else more

    def _descend(
        self,
        network: Network,
        rows: Inputs,
        valid: Inputs | None,
        both: Both | None,
        epochs: int,
        names: tuple[str, str],
        run: Run,
    ) -> tuple[History, list[str]]:
        """What happened, and sentences on the numbers that were trained in and on what moved when.

        `names`: of the strategy, and of what is trained.
        """
        schedule = Schedule(
            epochs, self.warmup_steps, self.lr_scheduler_type, self.gradient_accumulation_steps, self.max_grad_norm
        )
        trained = Aligned(network, None if both is None else both.loss).to(run.device)
        loss_of, batches = self._steps(network, rows, both, epochs, run)
        steps = math.ceil(len(batches(0)) / self.gradient_accumulation_steps) * epochs
        opening = Unfreezing.over(network.backbone, self.unfreeze, steps)
        how = Descent(
            self.optimizer_of(network, trained.loss), schedule, batches, self.mixed_precision, *names,
            self._compared, rows.prefix, partial(_in_step, opening, rows),
        )  # fmt: skip
        evaluate = None if valid is None else partial(valid.mean_loss, network)
        history, said = descend(trained, loss_of, evaluate, how, run)
        return history, [said, str(opening) if self.unfreeze else ""]

    def holding(self, network: Network, problem: Problem, data: Data) -> Holding | None:
        """What ties this network, which has not moved yet, to the pretrained one on these rows."""
        holds = terms(self.hold)
        return Holding(holds, network, problem, data) if holds else None

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
            return partial(rows.step_loss, network), ours
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
        if strength_of(self.augment):
            return None, f"the output of the {plural(depth, 'frozen block')} is not kept: inputs are changed at random"
        both = [rows] if valid is None else [rows, valid]
        prefix, note = build(backbone, [row for part in both for row in part.encoded], self.cache_frozen, run)
        rows.prefix = prefix
        if valid is not None:
            valid.prefix, valid.first = prefix, len(rows.encoded)
        said = f"the output of the {plural(depth, 'frozen block')} is {note}"
        run.progress.say(said)
        return prefix, said

    def identity(self, problem: Problem, *used: Data | None) -> str:
        """Names what is trained, so that only a checkpoint of the same is gone on from."""
        rows = [hash_of(data) for data in used if data is not None]
        base = problem.network()[0]
        model = f"{base.origin} {base.settings()}"  # not its weights, which the run checks once
        return f"{self} {problem.task.name} {problem.decoder.to_json()} {problem.class_weight} {model} {rows}"

    def optimizer_of(self, network: WithHead, loss: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW; biases and norms without decay; lower layers slower with `layer_decay`; the head at a rate of its own
        unless it starts from a probe, and the weights of an alignment at that rate in any case."""
        if self.learning_rate is None:
            return self.known(network.backbone).optimizer_of(network, loss)
        head_rate = self.learning_rate if self.start == "probe" else self.head_learning_rate
        decay = 0.0 if any(one.instead_of_decay for one in terms(self.hold)) else self.weight_decay
        found = rates.layered(network.backbone, self.learning_rate, decay, self.layer_decay)
        found += rates.groups(network.head, head_rate, self.weight_decay)
        if loss is not None:
            found += rates.groups(loss, self.head_learning_rate, self.weight_decay)
        if self.optimizer == "adam":
            return torch.optim.Adam(found, fused=True)
        return torch.optim.AdamW(found, fused=True)


def cut_short(history: History) -> str:
    """A sentence where the time limit ended the training; nothing where it ran to its end."""
    note = str(history[-1].get("note") or "") if history else ""
    if not note.startswith("time limit"):
        return ""
    return f"{note[0].upper()}{note[1:]}: what was learned by then was kept; raise --time-limit to learn more."


@contextmanager
def _in_step(opening: Unfreezing, rows: Inputs, step: int) -> Iterator[None]:
    """What is held in a step: the layers that move by then, and the random changes of this step."""
    with opening.during(step), rows.during(step):
        yield
