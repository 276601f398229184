"""L-BFGS for several small problems at once: one product with the rows serves all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[Any]
Evaluate: TypeAlias = Callable[[Floats], tuple[Floats, Floats]]  # points (q, P) -> values (P,), gradients (q, P)
_MEMORY = 8  # pairs remembered; more brought nothing on features of 384 columns
_NUMBERS = 60_000_000  # held in all of them, and three pairs at least


def minimise(evaluate: Evaluate, start: Floats, inverse: Floats, tolerance: float, iterations: int) -> Floats:
    """The minimiser of every column's function from `start` (q, P); `inverse` is about the Hessian's inverse diagonal.

    Liu & Nocedal 1989, with steps halved until they descend (Armijo). A column stands still once gᵀHg ≤ `tolerance`,
    which is about twice what its value can still fall.
    """
    x = start
    pairs = deque[tuple[Floats, Floats, Floats]](maxlen=min(_MEMORY, max(3, _NUMBERS // (2 * max(1, x.size)))))
    value, gradient = evaluate(x)
    noise = 8 * np.finfo(x.dtype).eps
    for _ in range(iterations):
        direction = _direction(gradient, pairs, inverse)
        fall = _dot(gradient, direction)
        moving = fall > tolerance
        if not moving.any():
            break
        step = moving.astype(x.dtype)
        for _ in range(30):
            new = x - step * direction
            new_value, new_gradient = evaluate(new)
            descends = new_value <= value - 1e-4 * step * fall + noise * np.abs(value)
            if descends.all():
                break
            step = np.where(descends, step, step / 2)
        else:  # the last figure of the value is reached
            break
        moved, change = new - x, new_gradient - gradient
        curved = _dot(moved, change)
        # A pair of a column that stands still, or bends the wrong way by rounding, counts for nothing there.
        use = curved > noise * np.sqrt(_dot(moved, moved) * _dot(change, change))
        pairs.append((moved, change, np.where(use, 1 / np.where(use, curved, 1), 0).astype(x.dtype)))
        x, value, gradient = new, new_value, new_gradient
    return x


def _direction(gradient: Floats, pairs: deque[tuple[Floats, Floats, Floats]], inverse: Floats) -> Floats:
    """H g by the two loops over remembered pairs (Nocedal & Wright 2006, algorithm 7.4)."""
    q, shares = gradient.copy(), []
    for moved, change, over in reversed(pairs):
        share = over * _dot(moved, q)
        q -= share * change
        shares.append(share)
    q *= inverse
    if pairs:
        _, change, over = pairs[-1]
        stretch = _dot(change, inverse * change) * over
        q /= np.where(stretch > 0, stretch, 1)
    for (moved, change, over), share in zip(pairs, reversed(shares), strict=True):
        q += (share - over * _dot(change, q)) * moved
    return q


def _dot(a: Floats, b: Floats) -> Floats:
    """Column by column, (P,)."""
    return np.asarray(np.einsum("qp,qp->p", a, b))
