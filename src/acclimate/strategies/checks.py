"""Settings of `Tune`: what they are called, and which are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from acclimate.backbones.augment import STRENGTHS, strength_of
from acclimate.errors import UserError, unknown
from acclimate.hold import Lwf, terms
from acclimate.strategies import adapters
from acclimate.strategies.alignment import check_align, check_weight
from acclimate.strategies.base import Problem
from acclimate.strategies.holding import refuse_hold
from acclimate.strategies.moves import separate_blocks, thirds, understood
from acclimate.strategies.pretrain import check_pretrain
from acclimate.train.arithmetic import MIXED
from acclimate.train.prefix import CHOICES

if TYPE_CHECKING:
    from acclimate.strategies.tune import Tune

_SCHEDULES = ("linear", "cosine", "constant")
_OPTIMIZERS = ("adamw", "adam")


def check(tune: Tune) -> None:
    """Refuse settings that cannot be: where they are made, not far from there."""
    if not adapters.understood(tune.moves) and not understood(tune.moves):
        raise UserError(
            f"moves={tune.moves!r} is not understood; give all, head, bias, norm, surgical, lora, peft:METHOD, or "
            "top:K, first:K, middle:K with K a whole number from 1"
        )
    keeps = any(isinstance(one, Lwf) for one in terms(tune.hold))
    if tune.start != "probe" and (keeps or tune.moves == "surgical"):
        what = f"hold={tune.hold!r} keeps the answers" if keeps else "moves='surgical' reads the gradient"
        raise UserError(f"{what} of the head that training begins with, which is zero; add start=probe")
    for name, choices in (
        ("start", ("zero", "probe")),
        ("lr_scheduler_type", _SCHEDULES),
        ("optimizer", _OPTIMIZERS),
        ("lora_targets", adapters.TARGETS),
        ("cache_frozen", CHOICES),
        ("mixed_precision", MIXED),
    ):
        if getattr(tune, name) not in choices:
            raise unknown(name, getattr(tune, name), choices)
    if tune.align != "none":
        check_align(tune.align)
    if tune.pretrain != "none":
        check_pretrain(tune.pretrain)
    check_weight(tune.weight, tune.weight_schedule)
    sizes = ("batch_size", "gradient_accumulation_steps", "lora_rank", "lora_alpha")
    for name in ("learning_rate", "head_learning_rate", *sizes):
        if getattr(tune, name) is not None and not getattr(tune, name) > 0:
            raise UserError(f"{name}={getattr(tune, name)!r} must be above 0")
    for name in ("weight_decay", "warmup_steps", "max_grad_norm"):
        if not getattr(tune, name) >= 0:
            raise UserError(f"{name}={getattr(tune, name)!r} must be 0 or more")
    for name in ("dropout", "lora_dropout"):
        if getattr(tune, name) is not None and not 0 <= getattr(tune, name) < 1:
            raise UserError(f"{name}={getattr(tune, name)!r} must be at least 0 and below 1")
    if not 0 <= strength_of(tune.augment) <= 1:
        raise UserError(f"augment={tune.augment!r} must be from 0 (no change) to 1, or one of {', '.join(STRENGTHS)}")
    if not 0 <= tune.unfreeze < 1:
        raise UserError(f"unfreeze={tune.unfreeze!r} must be at least 0 and below 1: it is a share of the steps")
    if not 0 < tune.layer_decay <= 1:
        raise UserError(f"layer_decay={tune.layer_decay!r} must be above 0 and at most 1")
    if tune.num_train_epochs is not None and tune.num_train_epochs < 1:
        raise UserError(f"num_train_epochs={tune.num_train_epochs!r} must be 1 or more")


def fits(tune: Tune, problem: Problem) -> None:
    """Refuse what this backbone or this task cannot have, before anything is computed."""
    backbone = problem.network()[0]
    refuse_hold(tune.hold, terms(tune.hold), problem)
    if adapters.understood(tune.moves):
        inner = getattr(backbone, "model", None)
        if inner is None or isinstance(inner, nn.Sequential):
            raise UserError(
                f"moves={tune.moves!r} adds to the layers of a pretrained network, and {backbone.origin.name!r} is a "
                "small one of plain layers; use full"
            )
        adapters.config(backbone, tune.moves, {}, tune.lora_targets)
    if strength_of(tune.augment) and not backbone.augments:
        raise UserError(
            f"augment={tune.augment!r} changes inputs at random so that their class stays, and of {backbone.modality} "
            f"(which {backbone.origin.name!r} reads) no such change is known; leave augment out"
        )
    if tune.moves == "surgical":
        thirds(backbone)
    if tune.unfreeze:
        separate_blocks(backbone, "they cannot start to move one after the other (unfreeze)")
    if tune.layer_decay < 1:
        separate_blocks(backbone, "its layers cannot have rates of their own (layer_decay)")


def called(tune: Tune) -> str:
    """As the strategy is called that has these settings, or nearly these."""
    if adapters.understood(tune.moves):
        return adapters.method(tune.moves)
    if tune.moves in ("head", "bias", "norm", "surgical"):
        return {"bias": "bitfit", "norm": "norm_only"}.get(tune.moves, tune.moves)
    if tune.unfreeze:
        return "gradual"
    if tune.moves != "all":
        return "surgical" if tune.moves == "surgical" else "partial"
    return "lp_ft" if tune.start == "probe" else "full"
