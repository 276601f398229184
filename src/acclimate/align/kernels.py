"""The squared maximum mean discrepancy of two samples, with its gradient, without a tensor of n x n x d.

The kernel is the mean of Gaussians of several widths, and over several layers the product of their kernels:
    k(x, y) = (1/m) Σᵤ exp(−‖x − y‖² / (2ᵘ·b)),   u = −⌊m/2⌋, ..., m − 1 − ⌊m/2⌋
With v = (w̃ of the source, −w̃ of the target), MMD² = Σᵢ vᵢ·f(zᵢ), where f(z) = Σⱼ vⱼ·k(z, zⱼ) is the witness function,
and its gradient at zᵢ is 2·vᵢ·∇f(zᵢ). Both are summed over blocks of rows against all others, so that no n x n numbers
are held at once, and the gradient is there when the value is. One exponential serves all widths: halving a width
squares it. Since Σv = 0, k − 1 stands for k: it is 0 between equal rows, and the pairs of a row with itself drop out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from acclimate.align.base import freedom

BLOCK = 128  # rows at once: a block of distances to 512 others fits the cache of a processor core

Pair = tuple[Tensor, Tensor]  # of the source, of the target


@dataclass(frozen=True)
class Kernel:
    """The number of widths, and b: "mean" or "median" of the squared distances, or a number."""

    widths: int
    bandwidth: str | float

    @property
    def widest(self) -> int:
        """The largest u."""
        return self.widths - 1 - self.widths // 2

    def of(self, squared: Tensor) -> Tensor:
        """k of squared distances that are given in units of b."""
        total = torch.exp(-squared / 2.0**self.widest)
        for i in range(1, self.widths):
            total = total + torch.exp(-squared / 2.0 ** (self.widest - i))
        return total / self.widths

    @torch.no_grad()
    def scale(self, rows: Pair, share: Pair, squared: Tensor | None = None) -> Tensor:
        """1/√b, constant. `squared` are the distances whose median is meant, where it is not that of all pairs."""
        if not isinstance(self.bandwidth, str):
            return rows[0].new_tensor(float(self.bandwidth)).rsqrt()
        b = mean_distance(rows, share)
        if self.bandwidth == "median":
            median = median_distance(rows, share) if squared is None else squared.median()
            b = torch.where(median > 0, median, b)  # where over half of the rows are equal
        return torch.where(b > 0, b, torch.ones_like(b)).rsqrt()  # all rows equal: every distance is 0 whatever b


def centred(rows: Pair, share: Pair) -> Pair:
    """Both samples less one common row: near 0, so that ‖x‖² + ‖y‖² − 2xy loses few digits; 0 for equal rows."""
    origin = rows[0][:1]
    source, target = rows[0] - origin, rows[1] - origin
    middle = (share[0] @ source + share[1] @ target) / 2
    return source - middle, target - middle


def mean_distance(rows: Pair, share: Pair) -> Tensor:
    """E‖z − z'‖² where z and z' come from the source half of the time and from the target half of the time."""
    source, target = centred(rows, share)
    return share[0] @ source.square().sum(1) + share[1] @ target.square().sum(1)


def median_distance(rows: Pair, share: Pair) -> Tensor:
    """The (lower) median of ‖zᵢ − zⱼ‖² over i ≠ j among the rows of both samples that have weight. N x N numbers."""
    z = torch.cat([side[part > 0] for side, part in zip(centred(rows, share), share, strict=True)])
    if len(z) < 2:
        return z.new_zeros(())
    squared = _minus_squared(z, z, z.square().sum(1), z.square().sum(1)).neg_()
    squared.fill_diagonal_(float("inf"))
    return squared.flatten().kthvalue((len(z) * (len(z) - 1) - 1) // 2 + 1).values


def squared_mmd(layers: Sequence[Pair], share: Pair, kernel: Kernel, unbiased: bool) -> Tensor:
    """MMD² over all pairs; `unbiased` leaves the pairs of a row with itself out, and is 0 where a side has one row."""
    value: Tensor = _SquaredMmd.apply(kernel, share, unbiased, *(rows for layer in layers for rows in layer))
    return value


def squared_mmd_of_pairs(layers: Sequence[Pair], share: Pair, kernel: Kernel) -> Tensor:
    """MMD² over neighbouring rows alone, in time and memory of n x d. 0 where a side has one row."""
    pairs = min(len(share[0]), len(share[1])) // 2
    if pairs == 0:
        return torch.stack([rows.sum() * 0 for layer in layers for rows in layer]).sum()
    first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    value, defined = share[0].new_zeros(()), share[0].new_ones((), dtype=torch.bool)
    sides = (
        (0, 0, first, second, 1.0),
        (1, 1, first, second, 1.0),
        (0, 1, first, second, -1.0),
        (0, 1, second, first, -1.0),
    )
    distances = [[(layer[i][a] - layer[j][b]).square().sum(1) for i, j, a, b, _ in sides] for layer in layers]
    scales = [
        kernel.scale(layer, share, torch.cat([d.detach() for d in found]))
        for layer, found in zip(layers, distances, strict=True)
    ]
    for at, (i, j, a, b, sign) in enumerate(sides):
        k = torch.stack([kernel.of(d[at] * s.square()) for d, s in zip(distances, scales, strict=True)]).prod(0)
        weight = share[i][a] * share[j][b]
        mass = weight.sum()
        value = value - sign * (weight @ (1 - k)) / mass.clamp(min=torch.finfo(mass.dtype).tiny)
        defined = defined & (mass > 0)
    return torch.where(defined, value, 0)


class _SquaredMmd(torch.autograd.Function):
    """The value, and the gradient beside it where one is wanted."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, share: Pair, unbiased: bool, *rows: Tensor) -> Tensor:
        layers = [(rows[i], rows[i + 1]) for i in range(0, len(rows), 2)]
        wanted = any(ctx.needs_input_grad[3:])
        sides, scales = _sides(layers, share, kernel)
        mass = [freedom(part) if unbiased else part.sum() for part in share]  # of the pairs within each side
        defined = (mass[0] > 0) & (mass[1] > 0)
        value = share[0].new_zeros(())
        found: list[list[Tensor]] = []
        for own in (0, 1):
            within = torch.where(defined, 1 / mass[own], 0) if unbiased else torch.ones_like(mass[own])
            part, gradients = _witness(sides, share, kernel, own, within, wanted)
            value, found = value + part, [*found, gradients]
        if wanted:
            both = [g * s for i, s in enumerate(scales) for g in (found[0][i], found[1][i])]
            ctx.save_for_backward(*(torch.where(defined, g, 0) for g in both))
        return torch.where(defined, value, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, *(upstream * gradient for gradient in ctx.saved_tensors))


@dataclass(frozen=True)
class _Rows:
    """Rows of one layer and side in units in which the widest Gaussian is exp(−‖x − y‖²)."""

    rows: Tensor  # (n, d)
    norms: Tensor  # (n,), squared
    weighted: Tensor  # (n, d + 1): w̃ times the row, and w̃


def _sides(layers: list[Pair], share: Pair, kernel: Kernel) -> tuple[list[list[_Rows]], list[Tensor]]:
    """[side][layer], and what each layer was scaled by."""
    sides: list[list[_Rows]] = [[], []]
    scales = []
    for layer in layers:
        scales.append(kernel.scale(layer, share) * 2.0 ** (-kernel.widest / 2))
        for side, (rows, part) in enumerate(zip(centred(layer, share), share, strict=True)):
            rows = rows * scales[-1]
            column = part.unsqueeze(1)
            sides[side].append(_Rows(rows, rows.square().sum(1), torch.cat([rows * column, column], 1)))
    return sides, scales


def _witness(
    sides: list[list[_Rows]], share: Pair, kernel: Kernel, own: int, within: Tensor, wanted: bool
) -> tuple[Tensor, list[Tensor]]:
    """Σ vᵢ·f(zᵢ) over the rows of one side, and 2·vᵢ·∇f(zᵢ) by layer. `within` multiplies pairs of the same side."""
    value, gradients = share[own].new_zeros(()), [torch.zeros_like(layer.rows) for layer in sides[own]]
    for start in range(0, len(share[own]), BLOCK):
        block = slice(start, start + BLOCK)
        weight = share[own][block]
        witness = torch.zeros_like(weight)
        for other in (0, 1):
            k, slopes = _kernel(sides[own], sides[other], block, kernel.widths, wanted)
            pull = within if other == own else -1.0
            witness -= pull * ((1 - k) @ share[other])
            for layer, slope in enumerate(slopes):
                moved = slope @ sides[other][layer].weighted
                away = moved[:, -1:] * sides[own][layer].rows[block] - moved[:, :-1]
                gradients[layer][block] -= 4 * pull * weight.unsqueeze(1) * away
        value = value + weight @ witness
    return value, gradients


def _kernel(
    own: list[_Rows], other: list[_Rows], block: slice, widths: int, wanted: bool
) -> tuple[Tensor, list[Tensor]]:
    """k between a block of rows and all others, and by layer −∂k/∂‖x − y‖²."""
    parts = [
        _gaussians(_minus_squared(a.rows[block], b.rows, a.norms[block], b.norms), widths, wanted)
        for a, b in zip(own, other, strict=True)
    ]
    if len(parts) == 1:
        return parts[0][0], [slope for slope in (parts[0][1],) if slope is not None]
    k = torch.stack([value for value, _ in parts]).prod(0)
    rest = [torch.stack([v for j, (v, _) in enumerate(parts) if j != i]).prod(0) for i in range(len(parts))]
    return k, [slope * others for (_, slope), others in zip(parts, rest, strict=True) if slope is not None]


def _minus_squared(x: Tensor, y: Tensor, x_norms: Tensor, y_norms: Tensor) -> Tensor:
    """−‖x − y‖², never above 0."""
    return torch.addmm(-y_norms, x, y.T, alpha=2).sub_(x_norms.unsqueeze(1)).clamp_(max=0)


def _gaussians(minus_squared: Tensor, widths: int, wanted: bool) -> tuple[Tensor, Tensor | None]:
    """The mean of e, e², e⁴, ... where e = exp(−‖x − y‖²), and of e, 2e², 4e⁴, ...; the input is written over."""
    power = minus_squared.exp_()
    value, slope = power.clone(), power.clone() if wanted else None
    for i in range(1, widths):
        power.square_()
        value += power
        if slope is not None:
            slope.add_(power, alpha=2.0**i)
    return value.div_(widths), None if slope is None else slope.div_(widths)
