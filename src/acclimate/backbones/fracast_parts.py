"""The network of Fracast: one causal convolution over dilations 1, 2, 4 ..., and a head that gives quantiles ahead.

Written from the structure of the weights in the package fracast (catalogue `fracast`); the periods come from the
periodogram, without weights, as in TinyCast (arXiv:2608.15767).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RECENCY = 5  # channels that say how long ago a step is


@dataclass(frozen=True)
class Sizes:
    """The sizes of the network, as its config.json has them."""

    width: int = 64
    kernel: int = 3
    stages: int = 10  # dilations 1, 2, 4 ... of the encoder
    hidden: int = 96
    scale_dim: int = 8  # sines and cosines of a dilation
    context: int = 2048
    horizon: int = 48  # steps of one block ahead
    quantiles: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    periods: int = 4
    alpha: float = 0.05
    head_hidden: int = 96
    smoothing: int = 2  # convolutions along the horizon
    future_stages: int = 6
    future_seed: int = 128  # states of the past that the future's convolution begins with
    phase_bins: int = 16


class Gated(nn.Module):
    """W₂ (SiLU(g) · v), with g and v from one layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., d)."""
        gate, value = self.up(x).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * value)
        return out


class Depthwise(nn.Module):
    """A causal convolution of each channel with itself, at a dilation that is given."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.dw_weight = nn.Parameter(torch.zeros(width, 1, kernel))
        self.dw_bias = nn.Parameter(torch.zeros(width))

    def mixed(self, x: Tensor, dilation: int) -> Tensor:
        """(n, t, d) to (n, t, d); before the first step lies 0."""
        reach = (self.dw_weight.shape[2] - 1) * dilation
        line = F.pad(x.transpose(1, 2), (reach, 0))
        return F.conv1d(line, self.dw_weight, self.dw_bias, dilation=dilation, groups=x.shape[2]).transpose(1, 2)


class Block(Depthwise):
    """x ← RMS(x + W conv x), x ← RMS(x + gated x)."""

    def __init__(self, width: int, kernel: int, hidden: int) -> None:
        super().__init__(width, kernel)
        self.pw, self.ffn = nn.Linear(width, width), Gated(width, hidden)
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)

    def forward(self, x: Tensor, dilation: int) -> Tensor:
        """(n, t, d) to (n, t, d)."""
        x = self.norm1((x + self.pw(self.mixed(x, dilation))).float())
        out: Tensor = self.norm2((x + self.ffn(x)).float())
        return out


class Smoothing(Depthwise):
    """x ← RMS(x + conv x) along the horizon."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(width, kernel)
        self.norm = nn.RMSNorm(width)

    def forward(self, x: Tensor, dilation: int) -> Tensor:
        """(n, h, d) to (n, h, d)."""
        out: Tensor = self.norm((x + self.mixed(x, dilation)).float())
        return out


class _Projection(nn.Module):
    """A layer under the name that its weights have."""

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__()
        self.add_module(name, nn.Linear(inputs, outputs))


class Core(nn.Module):
    """Values of one channel with what is known of them, to a state for each step."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.in_proj = nn.Linear(2 + RECENCY, sizes.width)
        self.periodic = _Projection("proj", 2 * sizes.periods, sizes.width)
        self.block = Block(sizes.width, sizes.kernel, sizes.hidden)
        self.scale = _Projection("to_gb", sizes.scale_dim, 2 * sizes.width)
        self.norm = nn.RMSNorm(sizes.width)

    def forward(self, values: Tensor, known: Tensor) -> Tensor:
        """Normalised values (n, t), the last of which is now, and which are known (n, t); states (n, t, d)."""
        sizes, steps = self.sizes, values.shape[1]
        place = torch.arange(sizes.context - steps, sizes.context, device=values.device)
        inside = known.to(values.dtype)
        ages = recency(place, sizes.context).to(values.dtype).expand(len(values), -1, -1)
        x = self.in_proj(torch.cat([(values * inside)[..., None], inside[..., None], ages], -1))
        found = periods_of(values, known, sizes.context, sizes.periods, sizes.alpha)
        x = x + self.periodic.proj(phases(place, found).to(x.dtype))  # type: ignore[operator]
        for stage in range(sizes.stages):
            gain, shift = self.scale.to_gb(self._coordinate(stage).to(x)).chunk(2, dim=-1)  # type: ignore[operator]
            x = self.block(x * (1 + gain) + shift, 2**stage)
        out: Tensor = self.norm(x)
        return out

    def _coordinate(self, stage: int) -> Tensor:
        angle = stage / 2.0 ** torch.arange(self.sizes.scale_dim // 2) * math.pi
        return torch.cat([angle.sin(), angle.cos()])


class Future(nn.Module):
    """States of the horizon: the last states of the past, then the seasonal profile, through one convolution."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.in_proj = nn.Linear(1 + RECENCY, sizes.width)
        self.block = Block(sizes.width, sizes.kernel, sizes.hidden)
        self.out_proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, states: Tensor, profile: Tensor, ages: Tensor) -> Tensor:
        """(n, t, d), (n, h) and (n, h, 5) to (n, h, d)."""
        ahead = self.in_proj(torch.cat([profile[..., None], ages], -1))
        x = torch.cat([states[:, -self.sizes.future_seed :], ahead], 1)
        for stage in range(self.sizes.future_stages):
            x = self.block(x, 2**stage)
        out: Tensor = self.out_proj(x[:, -profile.shape[1] :])
        return out


class Head(nn.Module):
    """States of the past to quantiles of a block of steps ahead."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.summary_proj = nn.Linear(2 * sizes.width + RECENCY, sizes.width)
        self.queries = nn.Parameter(torch.zeros(sizes.horizon, sizes.width))
        self.decoder_ffns = nn.ModuleList([Gated(sizes.width, sizes.head_hidden)])
        self.decoder_norms = nn.ModuleList([nn.RMSNorm(sizes.width)])
        self.fc_blocks = nn.ModuleList(Smoothing(sizes.width, sizes.kernel) for _ in range(sizes.smoothing))
        self.future_conv = Future(sizes)
        self.out_proj = nn.Linear(sizes.width, len(sizes.quantiles))

    def forward(self, states: Tensor, values: Tensor, known: Tensor) -> Tensor:
        """States (n, t, d) of a whole context, its values and what is known of them (n, t); (n, horizon, quantiles)."""
        sizes, n = self.sizes, len(states)
        ahead = torch.arange(sizes.context, sizes.context + sizes.horizon, device=values.device)
        ages = recency(ahead, sizes.context).to(states.dtype).expand(n, -1, -1)
        summary = torch.cat([states.mean(1), states[:, -1]], -1)[:, None].expand(-1, sizes.horizon, -1)
        x = self.summary_proj(torch.cat([ages, summary], -1)) + self.queries
        for layer, norm in zip(self.decoder_ffns, self.decoder_norms, strict=True):
            x = norm((x + layer(x)).float())
        for at, smooth in enumerate(self.fc_blocks):
            x = smooth(x, 2**at)
        period = periods_of(values, known, sizes.context, sizes.periods, sizes.alpha)[:, :1]
        profile = seasonal_profile(values, known, period, ahead, sizes.phase_bins)
        x = x + self.future_conv(states, profile, ages)
        out: Tensor = self.out_proj(x)
        return out


def recency(place: Tensor, context: int) -> Tensor:
    """How far each place lies from the last one of the context, bounded: (t, 5)."""
    delta = (place.float() - (context - 1)) / context
    far = delta.abs()
    logarithm = delta.sign() * far.log1p() / math.log(2)
    return torch.stack([delta, logarithm, (-0.5 * far).exp(), (-2 * far).exp(), (-8 * far).exp()], -1)


def periods_of(values: Tensor, known: Tensor, context: int, most: int, alpha: float) -> Tensor:
    """The periods (n, most) of the highest significant peaks of the periodogram over a context; 0: none.

    A peak is a share of the power above ln(b/α)/b of b frequencies, higher than both neighbours. What is not known, and
    all before the first step, is the mean.
    """
    with torch.no_grad():
        inside = known.float()
        line = values.float() * inside
        mean = line.sum(1, keepdim=True) / inside.sum(1, keepdim=True).clamp(min=1)
        line = (line - mean) * inside
        size = 1 << (context - 1).bit_length()
        power = torch.fft.rfft(line, n=size).abs().square()[:, 1:]
        share = power / power.sum(1, keepdim=True).clamp(min=1e-12)
        bins = share.shape[1]
        peak = torch.zeros_like(share, dtype=torch.bool)
        peak[:, 1:-1] = (share[:, 1:-1] > share[:, :-2]) & (share[:, 1:-1] > share[:, 2:])
        at = torch.arange(bins, device=values.device)
        low = max(0, size // max(2, context // 2) - 1)  # the longest period is half the context
        peak &= (at >= low) & (share >= math.log(bins / alpha) / bins)
        best, place = share.masked_fill(~peak, -1.0).topk(min(most, bins), dim=1)
        found = (size / (place + 1).float()).round().long()
        return torch.where(best > 0, found, torch.zeros_like(found))


def phases(place: Tensor, periods: Tensor) -> Tensor:
    """Sine and cosine of every place within each period (n, t, 2 k); 0 where there is none."""
    there = (periods > 0).float()[:, None, :]
    angle = 2 * math.pi * place.float()[None, :, None] / periods.clamp(min=1).float()[:, None, :]
    return (torch.stack([angle.sin(), angle.cos()], -1) * there[..., None]).flatten(2)


def seasonal_profile(values: Tensor, known: Tensor, period: Tensor, ahead: Tensor, bins: int) -> Tensor:
    """The mean of what is known at the phase of each step ahead (n, h); of all where no step has it."""
    steps, context = values.shape[1], int(ahead[0])
    primary = period.clamp(min=1).float()
    place = torch.arange(context - steps, context, device=values.device).float()[None]
    phase = ((place % primary) / primary * bins).long().clamp(max=bins - 1)
    inside = known.to(values.dtype)
    total = torch.zeros(len(values), bins, dtype=values.dtype, device=values.device)
    count = total.scatter_add(1, phase, inside)
    total = total.scatter_add(1, phase, values * inside)
    mean = (values * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True).clamp(min=1)
    profile = torch.where(count > 0, total / count.clamp(min=1), mean)
    wanted = ((ahead.float()[None] % primary) / primary * bins).clamp(max=bins - 1).long()
    return profile.gather(1, wanted)
