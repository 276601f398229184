"""Whisper's encoder: sounds that are followed by silence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.augment_sound import spectra
from acclimate.backbones.base import Batch, Encoded, Origin
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.mel import log_mel, silence
from acclimate.backbones.sound import Prepared, SoundBackbone, SoundSettings, layers_of, mean_of, stable
from acclimate.data.sounds import Samples

MERGED = 4  # frames of silence that are read as one, unless seconds are given
NEAR = 50  # frames of silence after a sound that are read one by one all the same: a second
_BEL = 0.25  # of `log_mel`: what ten times the power adds to a value


class Encoder(nn.Module):
    """Whisper's encoder for any number of seconds up to its 30.

    With 30 s it gives what transformers' own forward gives; of less, the positions in time are the first ones.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, mel: Tensor, tail: Tail | None) -> Tensor:
        """(n, bands, 2 t) -> (n, t, d)."""
        return encoded(self.inner, mel, self.training, tail)


@dataclass(frozen=True)
class Tail:
    """How the silence after sounds is read: `merged` frames as one, from frame `lengths[i]` of row i on.

    A row of hidden states holds the frames before `most`, then what stands for `merged` frames each, from the
    `first` such group on, and the last frame; `kept` (n, most + groups + 1) are those that row i has. The last frame is
    read by itself: behind it the convolutions see nought in the place of silence, and attention looks at it a lot.
    """

    lengths: Tensor  # (n,) on the host, each a multiple of `merged`, or `total`
    most: int
    first: int
    total: int  # frames that are read of every sound, silence included
    merged: int

    @property
    def kept(self) -> Tensor:
        """Which of the hidden states of each row are its own."""
        starts = torch.tensor([*range(self.first * self.merged, self.total - 1, self.merged), self.total - 1])
        ends = self.lengths[:, None]
        return torch.cat([torch.arange(self.most) < ends, starts >= ends], 1)

    def added(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """What the convolutions gave (n, t, d), with the groups behind it, and what is added to attention scores.

        A group is the mean of its frames, silence with their mean position, and attention counts it as often as it has
        frames: log(frames) is added to its scores.
        """
        groups = torch.split(positions[: self.total - 1], self.merged)[self.first :]
        silent = hidden[:, min(self.most, self.total - 2)]  # the same behind all of them
        means = torch.stack([group.mean(0) for group in groups])
        counts = torch.tensor([1.0] * self.most + [float(len(group)) for group in groups] + [1.0])
        scores = counts.log().expand(self.kept.shape).masked_fill(~self.kept, -math.inf)
        before = hidden[:, : self.most] + positions[: self.most]
        last = hidden[:, -1:] + positions[self.total - 1]
        return torch.cat([before, silent[:, None] + means, last], 1), scores[:, None, None].to(hidden)


def encoded(inner: Any, mel: Tensor, training: bool, tail: Tail | None = None) -> Tensor:
    """What transformers' Whisper encoder gives of spectra of any length, (n, bands, 2 t) -> (n, t, d).

    With a `tail`, the silence after sounds is read in groups: near to that, and each row as it is alone.
    """
    hidden = nn.functional.gelu(inner.conv1(mel))
    hidden = nn.functional.gelu(inner.conv2(hidden)).transpose(1, 2)
    scores, positions = None, inner.embed_positions.weight
    if tail is None:
        hidden = hidden + positions[: hidden.shape[1]]
    else:
        hidden, scores = tail.added(hidden, positions)
    hidden = nn.functional.dropout(hidden, p=inner.dropout, training=training)
    for layer in inner.layers:
        hidden = layer(hidden, scores)
    found: Tensor = inner.layer_norm(hidden)
    return found


class Whisper(SoundBackbone):
    """The encoder of a Whisper model without the decoder. Features are the mean over the frames that hold sound.

    Every sound is followed by silence up to `seconds`, as Whisper was trained with 30: frames of sound attend to those
    of silence. With `merged` above 1 most of that silence is read in groups, which gives nearly the same in much less
    time: attention to a group's mean, counted as often as it has frames, is near the attention to its frames, which
    differ in their positions alone. Source: proportional attention, Bolya et al. 2023, arXiv:2210.09461, section 3.
    `benchmarks/silence.py` says what it costs, and what fewer seconds do.
    """

    architecture = "whisper"
    filled = True

    def __init__(self, encoder: Any, extractor: Any, settings: SoundSettings, origin: Origin) -> None:
        super().__init__(Encoder(encoder), settings, origin)
        self.extractor = extractor
        self.bands, self.window, self.hop = extractor.feature_size, extractor.n_fft, extractor.hop_length
        self.width = int(encoder.config.d_model)
        self.longest = settings.seconds

    def prepare(self, samples: Samples) -> Tensor:
        """The log mel spectrum (bands, t) of the sound, with the columns that reach into the silence after it."""
        columns = min(2 * self.frames(len(samples)) + 2, 2 * self.seen)
        return log_mel(torch.from_numpy(samples), columns, self.sound.rate, self.bands, self.window, self.hop)

    def frames(self, samples: int) -> int:
        """How many frames of the encoder this many samples take."""
        return max(1, math.ceil(samples / int(2 * self.hop)))

    @property
    def seen(self) -> int:
        """Frames that every row stands for."""
        return self.frames(round(self.sound.seconds * self.sound.rate))

    def singly(self, frames: int) -> int:
        """How many frames of a row with this many of sound are read one by one."""
        size = self.sound.merged
        least = -(-(frames + NEAR) // size) * size
        return self.seen if size == 1 or least + 2 * size > self.seen else least

    def read_of(self, frames: int) -> int:
        """Hidden states of a row with this many frames of sound."""
        singly = self.singly(frames)
        return singly if singly == self.seen else singly + -(-(self.seen - 1 - singly) // self.sound.merged) + 1

    def cost(self, seconds: float) -> int:
        """Hidden states: frames, and groups of frames of silence."""
        return self.read_of(self.frames(round(seconds * self.sound.rate)))

    def join(self, windows: Sequence[Prepared]) -> Batch:
        """Spectra (w, bands, 2 t), each followed by silence, and the number of frames that hold sound (w,); `lengths`
        (w, 2) are those that are read one by one, and the least of them in the batch."""
        frames = [self.frames(sound.samples) for sound in windows]
        singly = [self.singly(n) for n in frames]
        wide = min(self.seen, max(singly) + self.sound.merged)
        mel = torch.empty(len(windows), self.bands, 2 * wide)
        for row, sound in zip(mel, windows, strict=True):
            row[:] = silence(sound.values)
            row[:, : sound.values.shape[1]] = sound.values
        lengths = torch.tensor([[n, min(singly)] for n in singly])
        return {"mel": mel, "lengths": lengths, "frames": torch.tensor(frames)}

    def tail(self, batch: Batch) -> Tail | None:
        """How the silence of this batch is read; None where every frame is read."""
        least = int(batch["lengths"][0, 1])
        if least == self.seen:
            return None
        size, wide = self.sound.merged, self.length(batch)
        most = wide if wide == self.seen else wide - size
        return Tail(batch["lengths"][:, 0], most, least // size, self.seen, size)

    def vectors(self, batch: Batch) -> Tensor:
        """The mean (w, d) of the frames that hold sound."""
        return mean_of(*self.sequence(batch))

    def sequence(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The encoder's output, one vector every 20 ms."""
        return self.model(batch["mel"], self.tail(batch)), batch["frames"]

    def frames_in(self, window: Prepared) -> int:
        """One every 20 ms."""
        return self.frames(window.samples)

    def length(self, batch: Batch) -> int:
        """Two columns of the spectrum are a frame."""
        return batch["mel"].shape[2] // 2

    def flat(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
        """The hidden states of every row."""
        kept = self._kept(batch)
        return hidden[kept.to(hidden.device)], self.by_row(kept.sum(1), batch)

    def unflat(self, flat: Tensor, batch: Batch, shape: tuple[int, ...]) -> Tensor:
        """Hidden states back in their places; those that a row has not are zero."""
        kept = self._kept(batch)
        out = flat.new_zeros(*kept.shape, flat.shape[1])
        out[kept.to(flat.device)] = flat
        return out

    def _kept(self, batch: Batch) -> Tensor:
        tail = self.tail(batch)
        return torch.ones(len(batch["mel"]), self.seen, dtype=torch.bool) if tail is None else tail.kept

    def flat_rows(self, encoded: Sequence[Encoded]) -> list[int]:
        """The number of hidden states of each sound."""
        return [sum(self.read_of(self.frames(window.samples)) for window in self.now(row)) for row in encoded]

    @property
    def blocks(self) -> list[nn.Module]:
        """The encoder's layers."""
        return layers_of(self.model)

    def augment(self, batch: Batch, generator: torch.Generator, strength: float) -> Batch:
        """The columns of each spectrum that hold sound, changed as `augment_sound.spectra` says; silence after it."""
        if strength == 0:
            return batch
        sizes = (2 * batch["frames"] + 2).clamp(max=batch["mel"].shape[2])
        changed = spectra(batch["mel"].transpose(1, 2), sizes, generator, strength, _BEL).transpose(1, 2)
        for row, size in zip(changed, sizes.tolist(), strict=True):
            least = silence(row[:, :size])
            row[:, :size] = row[:, :size].maximum(least)
            row[:, size:] = least
        return {**batch, "mel": changed}

    def config(self) -> dict[str, Any]:
        """The encoder's configuration and the settings of the spectrum."""
        single = {"last": "single"} if self.sound.merged > 1 else {}  # which frame: features that differ are not mixed
        return {**stable(self.model.inner.config), "window": self.window, "hop": self.hop, **single}

    def save_model(self, folder: Path) -> None:
        """The encoder alone, as transformers' WhisperEncoder."""
        with quiet_transformers():
            self.model.inner.save_pretrained(folder)
            self.extractor.save_pretrained(folder)
