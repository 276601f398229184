"""Pictures at another size than a network was made for: what it can read, and what is said where it cannot."""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
from torch import nn

from acclimate.errors import UserError

LEAST, MOST = 8, 4096  # pixels a side: below, a picture shows nothing; above, it is a slip of the keyboard
_CANNOT = (RuntimeError, ValueError, AssertionError, TypeError, AttributeError, IndexError, ZeroDivisionError)

Adjust = Callable[[Any, int], None]


def checked(size: object) -> int | None:
    """The size; refused is what is no whole number of pixels within reason. None is the model's own size."""
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, Integral) or not LEAST <= int(size) <= MOST:
        raise UserError(
            f"image_size {size!r} is the side of the square that pictures are read at: give a whole number of pixels "
            f"from {LEAST} to {MOST}"
        )
    return int(size)


def side_of(value: Any) -> int | None:
    """Of {"shortest_edge": 256}, {"height": 224, "width": 224}, (224, 224) or 224."""
    if isinstance(value, dict):
        value = value.get("shortest_edge") or value.get("height")
    if isinstance(value, (list, tuple)):
        value = value[0]
    return int(value) if value else None


def fitted(model: nn.Module, adjust: Adjust, size: int, now: int, step: int, name: str) -> nn.Module:
    """A copy of the network that reads pictures of `size`; `now` is a size that it can read.

    `adjust` changes a network for a size, in place; sizes are multiples of `step`, the side of a patch. Where the
    network then fails on a picture, sizes up to `now` are tried by halving (what reads one reads larger ones), and the
    smallest that works is told.
    """
    if size % step:
        below, above = size // step * step, (size // step + 1) * step
        near = f"{below} or {above}" if below >= LEAST else str(above)
        raise UserError(
            f"image_size {size} is no multiple of {step}, the side of the patches that {name!r} cuts pictures into; "
            f"give {near}"
        )
    found, why = _tried(model, adjust, size)
    if found is not None:
        return found
    what = f"{name!r} cannot read pictures of {size} x {size} pixels"
    if size > now:
        raise UserError(f"{what} ({why}); give {now}, or choose a convolutional model, which reads any size")
    fails, works = size // step, -(-now // step)
    while works - fails > 1:
        between = (fails + works) // 2
        if _tried(model, adjust, step * between)[0] is None:
            fails = between
        else:
            works = between
    raise UserError(f"{what}; the smallest that it can read is {step * works}")


def _tried(model: nn.Module, adjust: Adjust, size: int) -> tuple[nn.Module | None, str]:
    """The network for this size, or None and why it fails. A copy, since some networks change as they read."""
    other = copy.deepcopy(model)
    try:
        adjust(other, size)
        with torch.no_grad():
            features = other.eval()(torch.zeros(1, 3, size, size))
    except _CANNOT as error:
        return None, next(iter(str(error).strip().splitlines()), type(error).__name__)
    return (other, "") if bool(torch.isfinite(features).all()) else (None, "its features are no numbers")
