"""Networks that forecast: a backbone of series, and what makes the steps ahead of its states."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.fracast import Fracast
from acclimate.backbones.series import SeriesBackbone
from acclimate.backbones.series_small import SmallSeries
from acclimate.data.forecast_windows import LEAST, Window
from acclimate.errors import UserError
from acclimate.structured.base import StructuredNetwork
from acclimate.structured.forecast_baselines import as_future, carried

_FLOOR = 0.1  # of a channel's usual step: windows that hardly move are not blown up


class Forecaster(StructuredNetwork):
    """Windows to the steps ahead. Each window is scaled by itself, each channel by its last value and its spread.

    x̃ = (x − x_last)/s, s the standard deviation of the context, a tenth of the channel's usual seasonal step at least.
    Loss of a row: the mean over known steps and channels of |ŷ − y| over the channel's usual seasonal step, by which
    MASE divides.
    """

    replays = False
    augments = True
    backbone: SeriesBackbone

    def __init__(
        self,
        backbone: SeriesBackbone,
        head: nn.Module,
        context: int,
        horizon: int,
        usual: Sequence[float],
        channels: Sequence[str],
    ) -> None:
        super().__init__(backbone, head)
        self.context, self.horizon, self.channels = context, horizon, tuple(channels)
        self.usual = np.array(usual, float)

    def encode(self, inputs: Sequence[Window], labels: Sequence[Any] | None) -> list[Encoded]:
        """The windows, and what followed where that is to be learned from."""
        for window in inputs:
            if reason := self.refused(window):
                raise UserError(f"{window!r}: {reason}")
        futures = [None] * len(inputs) if labels is None else [np.array(one, float) for one in labels]
        cost = len(self.usual) * max(1, self.context // 16)
        return [Encoded((w.values, future), cost) for w, future in zip(inputs, futures, strict=True)]

    def refused(self, given: Any) -> str:
        """Windows of other channels: of another number, or, of several, of other names or in another order."""
        has, wants = len(given.values), len(self.usual)
        if has != wants:
            return f"it has {has} channel{'s' * (has != 1)}, and this model forecasts {wants}"
        if has == 1 or not (given.channels and self.channels) or given.channels == self.channels:
            return ""
        ours, theirs = ", ".join(self.channels), ", ".join(given.channels)
        return f"its channels are {theirs}, and this model forecasts {ours}, in this order"

    def changed(self, rows: Sequence[Encoded], generator: torch.Generator, strength: float) -> list[Encoded]:
        """The forecast begins up to a horizon earlier, times `strength`: more starts of the same past."""
        found = []
        for row in rows:
            values, future = row.parts
            most = min(round(self.horizon * strength), values.shape[1] - LEAST)
            back = int(torch.randint(0, max(1, most), (1,), generator=generator))
            if back:
                line = np.concatenate([values, future], 1)[:, : values.shape[1] + self.horizon - back]
                values, future = line[:, : -self.horizon], line[:, -self.horizon :]
            found.append(Encoded((values, future), row.cost))
        return found

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Contexts (n, c, t) scaled, and what of them is known; last values and spreads (n, c); futures."""
        n, channels = len(rows), len(self.usual)
        values = np.full((n, channels, self.context), np.nan)
        for at, row in enumerate(rows):
            line = row.parts[0][:, -self.context :]
            values[at, :, self.context - line.shape[1] :] = line
        known = np.isfinite(values)
        last = np.array([[carried(line)[-1] for line in one] for one in values]).reshape(n, channels)
        count = np.maximum(known.sum(2), 1)
        shifted = np.where(known, values - last[..., None], 0)
        mean = shifted.sum(2) / count
        spread = np.sqrt((np.where(known, shifted - mean[..., None], 0) ** 2).sum(2) / count)
        spread = np.maximum(spread, _FLOOR * self.usual)
        spread = np.where(spread > 0, spread, 1.0)  # of what never changes
        batch = {
            "context": torch.from_numpy(shifted / spread[..., None]).float(),
            "known": torch.from_numpy(known),
            "last": torch.from_numpy(last),
            "spread": torch.from_numpy(spread),
            "rows": torch.arange(n),
        }
        if n and rows[0].parts[1] is not None:
            future = np.stack([row.parts[1] for row in rows])
            there = np.isfinite(future)
            scaled = np.where(there, (future - last[..., None]) / spread[..., None], 0)
            batch |= {"future": torch.from_numpy(scaled).float(), "there": torch.from_numpy(there)}
        return batch

    @abstractmethod
    def ahead(self, batch: Batch) -> Tensor:
        """Scaled steps ahead, (n, c, h), or quantiles of them (n, c, h, q)."""

    def losses(self, found: Tensor, truth: Tensor) -> Tensor:
        """The loss of each step, (n, c, h)."""
        return (found - truth).abs()

    def middle(self, found: Tensor) -> Tensor:
        """The forecast itself, (n, c, h)."""
        return found

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every row, (n,)."""
        each = self.losses(self.ahead(batch), batch["future"])
        usual = torch.as_tensor(self.usual, device=each.device)
        weight = (batch["spread"] / usual.clamp(min=1e-12) * (usual > 0)).float()[..., None] * batch["there"]
        return (each * weight).sum((1, 2)) / batch["there"].sum((1, 2)).clamp(min=1)

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """One forecast a row, as tuples (channels, horizon); each row by itself, so that none depends on its mates."""
        found = []
        for at in range(len(rows)):
            one = {name: values[at : at + 1] for name, values in batch.items()}
            ahead = self.middle(self.ahead(one)).double() * one["spread"][..., None] + one["last"][..., None]
            found.append(as_future(ahead[0].cpu().numpy()))
        return found


class LinearForecaster(Forecaster):
    """An encoder of series, and one linear layer from all its states to all steps of all channels.

    The layer begins at 0, so that an untrained network forecasts the last value.
    """

    backbone: SmallSeries

    def __init__(
        self, backbone: SmallSeries, context: int, horizon: int, usual: Sequence[float], channels: Sequence[str] = ()
    ) -> None:
        count = len(usual)
        with torch.no_grad():
            empty = torch.zeros(1, backbone.inputs, context)
            states, _ = backbone.states(empty, torch.tensor([context]))
        head = nn.Linear(states[0].numel(), count * horizon)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        super().__init__(backbone, head, context, horizon, usual, channels)

    def ahead(self, batch: Batch) -> Tensor:
        """(n, c, h)."""
        values = torch.cat([batch["context"], batch["known"].float()], 1)
        sizes = torch.full((len(values),), self.context, device=values.device)
        states, _ = self.backbone.states(values, sizes)
        found: Tensor = self.head(states.flatten(1)).view(len(values), -1, self.horizon)
        return found


class FracastForecaster(Forecaster):
    """Fracast with its own head: quantiles of each channel by itself, learned by the pinball loss.

    ρ_q(y − ŷ) = max(q (y − ŷ), (q − 1)(y − ŷ)), doubled, meaned over the quantiles 0.1 to 0.9.
    """

    backbone: Fracast

    def __init__(
        self, backbone: Fracast, context: int, horizon: int, usual: Sequence[float], channels: Sequence[str] = ()
    ) -> None:
        super().__init__(backbone, copy.deepcopy(backbone.head), context, horizon, usual, channels)
        self.levels = torch.tensor(backbone.sizes.quantiles)

    def ahead(self, batch: Batch) -> Tensor:
        """(n, c, h, q)."""
        n, channels, steps = batch["context"].shape
        lines, known = batch["context"].reshape(-1, steps), batch["known"].reshape(-1, steps)
        found = self.backbone.quantiles(lines, known, self.horizon, self.head)
        return found.view(n, channels, self.horizon, -1)

    def losses(self, found: Tensor, truth: Tensor) -> Tensor:
        """The pinball loss of each step."""
        gap = truth[..., None] - found
        levels = self.levels.to(found)
        return 2 * torch.maximum(levels * gap, (levels - 1) * gap).mean(-1)

    def middle(self, found: Tensor) -> Tensor:
        """The median."""
        return found[..., int((self.levels - 0.5).abs().argmin())]
