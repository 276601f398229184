"""Backbones of series: how series become tensors.

None knows how many channels there are when it is loaded by name: `fit_rows` makes a fitted one from training rows,
which also tell rate, length, and the mean and spread of each channel. One that was tuned or pretrained and saved knows
them and goes on from there.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from acclimate.backbones.augment_series import changed
from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.packing import by_owner
from acclimate.data.series import Series, Values, resampled
from acclimate.data.sounds import count_windows
from acclimate.errors import UserError, plural
from acclimate.files import json_text

LONGEST = 1024  # steps that are read at a time
_OVERLAP = 10  # a window shares one part in so many with the next one
_ROWS_AT_ONCE = 256  # windows that are read together without gradients


@dataclass(frozen=True)
class Scale:
    """What is learned of training rows before any weight."""

    channels: int
    rate: float  # steps a second; 0 where nobody said
    window: int  # steps that are read at a time; longer series are read in windows
    mean: tuple[float, ...]  # of each channel
    spread: tuple[float, ...]  # standard deviation; 1 where a channel never changes
    gaps: bool  # whether values are missing, so that what is known is an input, too

    @staticmethod
    def of(rows: Sequence[Series], longest: int = LONGEST) -> Scale:
        """Mean and spread over all steps of all rows; the most common rate, of several the lowest."""
        if not rows:
            raise UserError("there is no series to learn channels from")
        channels = len(rows[0].values)
        _check(rows, channels)
        rates = Counter(row.rate for row in rows)
        rate = min(r for r, n in rates.items() if n == max(rates.values()))
        values = [resampled(row, rate) for row in rows]
        whole = np.concatenate(values, 1)
        known = np.isfinite(whole)
        count = np.maximum(known.sum(1), 1)
        mean = np.where(known, whole, 0).sum(1) / count
        spread = np.sqrt((np.where(known, whole - mean[:, None], 0) ** 2).sum(1) / count)
        spread = np.where(spread > 1e-9 * np.maximum(1.0, np.abs(mean)), spread, 1.0)
        longer = max(v.shape[1] for v in values)
        return Scale(channels, rate, min(longer, longest), (*mean.tolist(),), (*spread.tolist(),), not known.all())

    @staticmethod
    def from_json(found: dict[str, Any]) -> Scale:
        """What `asdict` gave."""
        return Scale(**{**found, "mean": tuple(found["mean"]), "spread": tuple(found["spread"])})


def _check(rows: Sequence[Series], channels: int) -> None:
    for at, row in enumerate(rows):
        if len(row.values) != channels:
            raise UserError(
                f"series {at + 1} has {plural(len(row.values), 'channel')} and this model reads {channels}; give "
                f"the same "
                "channels, in the same order"
            )


class SeriesBackbone(Backbone):
    """Series to windows of one length, each channel by the mean and spread of the training rows; what they share.

    What is missing is 0, the mean, after scaling; where training rows have gaps, a second set of channels says what is
    known. A shorter series is followed by empty steps that are in no mean; of a longer one the windows' features are
    averaged by their steps.
    """

    modality = "series"
    architecture = ""
    longest = LONGEST
    tuned_rate = 5e-4  # of so few weights

    def __init__(self, scale: Scale | None, origin: Origin | None) -> None:
        super().__init__()
        self.scale = scale
        self.origin = origin or Origin(self.architecture, "none needed", "random weights")

    @abstractmethod
    def fitted(self, scale: Scale) -> Self:
        """The same backbone for series of this scale."""

    @abstractmethod
    def vectors(self, batch: Batch) -> Tensor:
        """One vector a window (w, d)."""

    def fit_rows(self, rows: Sequence[Any]) -> SeriesBackbone:
        """A backbone for the series that these training rows are of; one that knows its channels stays as it is."""
        if self.scale is None:
            return self.fitted(Scale.of(rows, self.longest))
        _check(rows, self.scale.channels)
        return self

    @property
    def known(self) -> Scale:
        """The scale, or an error before there is one."""
        if self.scale is None:
            raise UserError(f"{self.origin.name} knows no channels yet; call fit_rows with training rows first")
        return self.scale

    def scaled(self, values: Values) -> Values:
        """What the network reads of a window: each channel by mean and spread of the training rows."""
        scale = self.known
        return np.asarray((values - np.array(scale.mean)[:, None]) / np.array(scale.spread)[:, None])

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Each series resampled to the rate that was learned, scaled and cut into windows."""
        scale = self.known
        _check(inputs, scale.channels)
        found = []
        for one in inputs:
            values = resampled(one, scale.rate)
            parts = tuple(np.asarray(self.scaled(part), np.float32) for part in pieces(values, scale.window))
            found.append(Encoded(parts, len(parts) * scale.window, 0, values.shape[1]))
        return found

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Values (w, c, t), what of them is known (w, c, t), the steps of each window (w,), its row and weight (w,)."""
        scale = self.known
        parts = [part for row in rows for part in row.parts]
        owner = torch.tensor([i for i, row in enumerate(rows) for _ in row.parts])
        sizes = torch.tensor([part.shape[1] for part in parts])
        values = torch.zeros(len(parts), scale.channels, scale.window)
        known = torch.zeros(len(parts), scale.channels, scale.window)
        for at, part in enumerate(parts):
            there = np.isfinite(part)
            values[at, :, : part.shape[1]] = torch.from_numpy(np.where(there, part, 0).astype(np.float32))
            known[at, :, : part.shape[1]] = torch.from_numpy(there)
        weight = sizes / torch.zeros(len(rows)).index_add(0, owner, sizes.float())[owner]
        batch = {"values": values, "known": known, "sizes": sizes, "owner": owner, "weight": weight}
        return {**batch, "rows": torch.arange(len(rows))}

    def forward(self, batch: Batch) -> Tensor:
        """Features (n, d): the mean of the windows of each row. Without gradients some windows are read at a time."""
        count = len(batch["owner"])
        if torch.is_grad_enabled() or count <= _ROWS_AT_ONCE:
            found = self.vectors(batch)
        else:
            lines = {name: values for name, values in batch.items() if name != "rows"}
            cuts = range(0, count, _ROWS_AT_ONCE)
            found = torch.cat([self.vectors({k: v[at : at + _ROWS_AT_ONCE] for k, v in lines.items()}) for at in cuts])
        return by_owner(found, batch["weight"], batch["owner"], len(batch["rows"]))

    def one_row(self, batch: Batch, at: int) -> Batch:
        """The windows of one row."""
        mine = batch["owner"] == at
        return {name: values[at : at + 1] if name == "rows" else values[mine] for name, values in batch.items()}

    def flat(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
        """A line a window."""
        return hidden.flatten(1), torch.bincount(batch["owner"], minlength=len(batch["rows"])).tolist()

    def flat_rows(self, encoded: Sequence[Encoded]) -> list[int]:
        """The number of windows of each series."""
        return [len(row.parts) for row in encoded]

    def augment(self, batch: Batch, generator: torch.Generator, strength: float) -> Batch:
        """Each window cropped in time, scaled, with noise, without one of its channels (`augment_series.changed`)."""
        if strength == 0:
            return batch
        values, known = changed(batch["values"], batch["known"], batch["sizes"], generator, strength)
        return {**batch, "values": values, "known": known}

    def settings(self) -> dict[str, object]:
        """All that was learned of the channels."""
        scale = None if self.scale is None else asdict(self.scale)
        return {"modality": "series", "architecture": self.architecture, "scale": scale}

    def config(self) -> dict[str, Any]:
        """What config.json holds beside the scale."""
        return {}

    def save(self, folder: Path) -> None:
        """config.json and model.safetensors."""
        from safetensors.torch import save_file

        about = {"model_type": self.architecture, "scale": asdict(self.known), "origin": asdict(self.origin)}
        (folder / "config.json").write_text(json_text({**about, **self.config()}, indent=1), encoding="utf-8")
        state = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    def clone(self) -> Self:
        """A copy with weights of its own."""
        return copy.deepcopy(self)


def pieces(values: Values, window: int) -> list[Values]:
    """Windows of at most so many steps, each sharing a tenth with the one before.

    >>> [part.shape[1] for part in pieces(np.zeros((1, 25)), 10)]
    [10, 10, 7]
    """
    shared = window // _OVERLAP
    step = max(1, window - shared)
    return [values[:, at * step : at * step + window] for at in range(count_windows(values.shape[1], window, shared))]
