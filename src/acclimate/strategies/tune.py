"""Parameter sharing: pretrained weights move. ONE strategy; `full`, `partial`, `lora` ... are settings of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate import ranks
from acclimate.backbones.base import Backbone, Encoded
from acclimate.data.rows import Data
from acclimate.data.split import hash_of
from acclimate.errors import UserError, unknown
from acclimate.features import to_device
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import lora
from acclimate.strategies.base import Problem, Splits
from acclimate.strategies.probe import Probe
from acclimate.tasks.base import Network
from acclimate.tasks.heads import Head
from acclimate.train.arithmetic import MIXED, choose
from acclimate.train.batches import shuffled
from acclimate.train.loop import History, Schedule, train
from acclimate.train.memory import Fitting, parts
from acclimate.train.prefix import CHOICES, Prefix, build, frozen_depth, replaying

_SCHEDULES = ("linear", "cosine", "constant")
_OPTIMIZERS = ("adamw", "adam")
_EVALUATED = 64  # rows of one batch when nothing is learned from them
_STEPS = 300  # what a small data set needs before the weights settle (Mosbach et al. 2021, arXiv:2006.04884)


@dataclass(frozen=True)
class Tune:
    """Gradient descent on L(θ) = L_source(θ) over the weights named in `moves`, from the pretrained ones.

    moves: "all", "top:K" (the last K blocks and what follows them) or "lora" (Hu et al. 2021, arXiv:2106.09685).
    start: the head begins at "zero", or at the "probe" fitted on frozen features first (LP-FT, Kumar et al. 2022,
    arXiv:2202.10054), which spares the features the distortion of the first steps.

    Use when: hundreds of rows a class, and new rows look like the training ones. Prefer `linear_probe` with few rows
    or under shift; prefer `lora` where the checkpoint must be small, `partial` where time or memory is short.
    """

    moves: str = "all"
    start: str = "zero"
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

    def epochs(self, rows: int) -> int:
        """The number of passes over `rows` training rows."""
        if self.num_train_epochs is not None:
            return int(self.num_train_epochs)
        steps = math.ceil(rows / (self.batch_size * self.gradient_accumulation_steps))
        return max(3, min(20, math.ceil(_STEPS / steps)))

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train a copy of the backbone; with `splits.valid` keep the epoch with the least loss there."""
        head = self._first_head(problem, splits, run)
        with torch.random.fork_rng(devices=[] if run.device == "cpu" else None):
            network, moved = self.started(problem, head, run)
            history, notes = self._train(network, problem, splits, run)
        network.zero_grad(set_to_none=True)  # gradients would stay with the model, as large as what moved
        backbone = network.backbone
        names = tuple(n for n, p in network.named_parameters() if p.requires_grad)
        adapter = lora.take(backbone) if self.moves == "lora" else (None, None)
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
            (moved, *notes),
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
        chosen_by = problem.held_out(splits)
        valid = None if chosen_by is None else Inputs(problem, chosen_by, network.backbone, run)
        epochs = self.epochs(len(splits.train))
        prefix, note = self.prefix_of(network.backbone, rows, valid, epochs, run)
        schedule = Schedule(
            epochs, self.warmup_steps, self.lr_scheduler_type, self.gradient_accumulation_steps, self.max_grad_norm
        )

        def batches(epoch: int) -> list[list[int]]:
            return shuffled(rows.costs, self.batch_size, run.seed, epoch)

        def plain_loss(at: list[int]) -> Tensor:
            return rows.losses(network, at).mean()

        with replaying(prefix):
            first = batches(0)
            found, said = choose(network, plain_loss, first, len(first) * epochs, self.mixed_precision, run)

            def loss_of(at: list[int]) -> Tensor:
                with found.at_work(run.device):
                    return plain_loss(at)

            def evaluate() -> float:
                assert valid is not None
                with found.at_work(run.device):
                    return valid.mean_loss(network, fitting)

            fitting = Fitting(network, run.progress)
            with found.applied(network):
                history = train(
                    network,
                    self.optimizer_of(network),
                    schedule,
                    batches,
                    loss_of,
                    evaluate if valid is not None else None,
                    run,
                    _name(self),
                    "" if run.state is None else self._what(problem, splits.train, chosen_by),
                    found.scaler(run.device),
                )
        if said:
            run.progress.say(said)
        return history, [sentence for sentence in (note, said) if sentence]

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

    def _what(self, problem: Problem, learned: Data, chosen_by: Data | None) -> str:
        """Names what is trained, so that only a checkpoint of the same is gone on from."""
        rows = [hash_of(data) for data in (learned, chosen_by) if data is not None]
        base = problem.network()[0]
        model = f"{base.origin} {base.settings()}"  # not its weights, which the run checks once
        return f"{self} {problem.task.name} {problem.decoder.to_json()} {problem.class_weight} {model} {rows}"

    def optimizer_of(self, network: Network) -> torch.optim.Optimizer:
        """AdamW; biases and norms without decay; the head at a rate of its own unless it starts from a probe."""
        head_rate = self.learning_rate if self.start == "probe" else self.head_learning_rate
        groups: list[dict[str, Any]] = []
        for part, rate in ((network.backbone, self.learning_rate), (network.head, head_rate)):
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


class Inputs:
    """Rows encoded once, with targets and weights as tensors."""

    def __init__(self, problem: Problem, data: Data, backbone: Backbone, run: Run) -> None:
        self.encoded: list[Encoded] = backbone.encode(data.inputs)
        self.costs = [row.cost for row in self.encoded]
        targets = problem.targets(data)
        dtype = torch.long if targets.dtype.kind in "iu" else torch.float32
        # These stay on the CPU: choosing rows of them on a device would wait for it at every step.
        self.targets = torch.as_tensor(targets, dtype=dtype)
        self.weights = torch.as_tensor(problem.weights(data, targets), dtype=torch.float32)
        self.task, self.backbone, self.device = problem.task, backbone, run.device
        self.prefix: Prefix | None = None
        self.first = 0  # the number of the first of these rows in the prefix

    def losses(self, network: Network, at: list[int]) -> Tensor:
        """The weighted loss of each of these rows."""
        chosen = {"targets": self.targets[at], "weights": self.weights[at]}
        collated = self.backbone.collate([self.encoded[i] for i in at])
        if self.prefix is not None:
            self.prefix.offer([self.first + i for i in at], collated, self.device)
        batch = to_device({**collated, **chosen}, self.device)
        targets, weights = batch.pop("targets"), batch.pop("weights")
        return weights * self.task.losses(network(batch).logits.float(), targets)

    def mean_loss(self, network: Network, fitting: Fitting) -> float:
        """The weighted mean loss of all rows, those of like length together. Only sums are kept, never logits."""
        network.eval()
        order = np.argsort(self.costs, kind="stable").tolist()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for batch in ranks.share(parts(order, _EVALUATED)):
                total += fitting.retried(partial(self._summed, network, batch), len(batch))
        return float(ranks.summed(total)) / float(self.weights.double().sum())

    def _summed(self, network: Network, batch: list[int], most: int) -> Tensor:
        return torch.stack([self.losses(network, part).double().sum() for part in parts(batch, most)]).sum()


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


def _name(tune: Tune) -> str:
    if tune.moves == "lora":
        return "lora"
    if _top(tune.moves):
        return "partial"
    return "lp_ft" if tune.start == "probe" else "full"
