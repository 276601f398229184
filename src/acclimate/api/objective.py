"""L_source + λ·L_target as a user asks for it: `align` and `lambda_` become a strategy and its settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from acclimate.errors import UserError
from acclimate.hold import terms
from acclimate.strategies import STRATEGIES, named
from acclimate.strategies.adapt import Adapt, own_name
from acclimate.strategies.alignment import check_align
from acclimate.strategies.pretrain import check_pretrain
from acclimate.strategies.tune import Tune


def asked(
    strategy: str,
    settings: Mapping[str, Any],
    align: str | None,
    lambda_: str | float | None,
    target: object,
    labels: object = None,
    pretrain: str | None = None,
    hold: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """The strategy and its settings, once it is told what aligns, how much that weighs, what comes before, what holds.

    An alignment with strategy "auto" is a bottleneck on frozen features, called as the alignment is. `target` and
    `labels` are the target's rows without labels and those with, or None.
    """
    found = dict(settings)
    if align is not None:
        strategy = _aligned(strategy, align, target)
        found = _joined(found, {"align": align}, "--align")
    if pretrain is not None:
        _may_pretrain(strategy, pretrain, target)
        found = _joined(found, {"pretrain": pretrain}, "--pretrain")
    if hold is not None:
        _may_hold(strategy, hold)
        found = _joined(found, {"hold": hold}, "--hold")
    if is_auto(lambda_):
        _may_choose(strategy, found)
    elif lambda_ is not None:
        found = _joined(found, _weighted(strategy, found, lambda_, labels), "--lambda")
    return strategy, found


def _aligned(strategy: str, align: str, target: object) -> str:
    """The name of the strategy that trains with this alignment."""
    check_align(align)
    if target is None:
        raise UserError(
            f"--align {align} brings training rows and rows from where the model will be used together; give the "
            "latter with --target-data"
        )
    own = own_name(align)
    if strategy == "auto":
        return own
    name, known = named(strategy)
    if isinstance(known, Tune) or (isinstance(known, Adapt) and (name == own or known.source_weights != "even")):
        return name
    raise UserError(
        f"strategy {name!r} does not train with --align {align}; leave --strategy out (a bottleneck on frozen "
        f"features), or choose one of {_tuning()}"
    )


def _may_pretrain(strategy: str, pretrain: str, target: object) -> None:
    """Refuse a strategy whose backbone stays as it is, and pretraining on nothing."""
    check_pretrain(pretrain)
    if target is None:
        raise UserError(
            f"--pretrain {pretrain} reads the texts of where the model will be used; give them with --target-data"
        )
    if strategy == "auto" or not isinstance(named(strategy)[1], Tune):
        raise UserError(
            f"--pretrain {pretrain} comes before tuning, and strategy {strategy!r} does not tune; choose --strategy "
            f"{_tuning()}"
        )


def _may_hold(strategy: str, hold: str) -> None:
    """Refuse a strategy whose backbone stays as it is anyway."""
    terms(hold)
    if strategy == "auto" or not isinstance(named(strategy)[1], Tune):
        raise UserError(
            f"--hold {hold} ties an encoder that is tuned to the pretrained one, and strategy {strategy!r} does not "
            f"tune; choose --strategy {_tuning()}"
        )


def _tuning() -> str:
    return ", ".join(name for name, other in STRATEGIES.items() if isinstance(other, Tune))


def is_auto(lambda_: str | float | None) -> bool:
    """Whether λ is to be chosen."""
    return isinstance(lambda_, str) and lambda_.strip() == "auto"


def _may_choose(strategy: str, settings: Mapping[str, Any]) -> None:
    """Refuse a strategy without a λ, one that is set already, and a path of fits that is no matter of seconds."""
    for name in ("weight", "lambda"):
        if name in settings:
            raise UserError(f"λ is given twice, by --lambda auto and as {name}={settings[name]!r}; keep one")
    name, known = (strategy, None) if strategy == "auto" else named(strategy)
    if hasattr(known, "lam"):
        raise UserError(f"strategy {name!r} chooses λ by the labelled target rows; leave --lambda auto out")
    if known is not None and hasattr(known, "weight") and not known.frozen:
        raise UserError(
            f"--lambda auto fits along a path of λ, and strategy {name!r} moves the encoder, which takes too long for "
            "that; give a number, or leave --strategy out (a bottleneck on frozen features)"
        )
    if not hasattr(known, "weight"):
        raise _without_weight("auto", name)


def _without_weight(lambda_: str | float, name: str) -> UserError:
    return UserError(
        f"--lambda {lambda_} weighs L_target in L_source + λ·L_target, and strategy {name!r} has none; add --align "
        "with --target-data or --target-labels, or choose --strategy self_train"
    )


def _weighted(strategy: str, settings: Mapping[str, Any], lambda_: str | float, labels: object) -> dict[str, Any]:
    """The settings that say λ."""
    found = parse_weight(lambda_)
    name, known = (strategy, None) if strategy == "auto" else named(strategy)
    plain = isinstance(known, Tune) and settings.get("align", "none") == "none"
    if hasattr(known, "lam") and "weight" in found:
        found["lam"] = found.pop("weight")
    elif not hasattr(known, "weight") or (plain and labels is None):
        raise _without_weight(lambda_, name)
    if "weight_schedule" in found and (plain or not hasattr(known, "weight_schedule")):
        raise UserError(f"--lambda {lambda_}: strategy {name!r} has no training progress to rise with; give a number")
    return found


def parse_weight(value: str | float) -> dict[str, Any]:
    """A number from 0 on; or "rise", "rise:MAX": times 2/(1 + e^(−10p)) − 1 at progress p.

    >>> parse_weight("0.5"), parse_weight("rise:2")
    ({'weight': 0.5}, {'weight_schedule': 'rise', 'weight': 2.0})
    """
    head, colon, most = str(value).strip().partition(":")
    found: dict[str, Any] = {"weight_schedule": "rise"} if head == "rise" else {}
    if found and not colon:
        return found
    try:
        number = float(most if found else str(value))
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not (number >= 0 and math.isfinite(number)):
        raise UserError(f"--lambda {value}: give a number from 0 on, or rise, or rise:MAX such as rise:0.5, or auto")
    return {**found, "weight": number}


def _joined(settings: dict[str, Any], more: dict[str, Any], option: str) -> dict[str, Any]:
    for name in more:
        if name in settings:
            raise UserError(f"the setting {name!r} is given twice, by {option} and as {settings[name]!r}; keep one")
    return {**settings, **more}
