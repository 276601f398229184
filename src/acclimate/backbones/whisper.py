"""Whisper's encoder: sounds that are followed by silence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.augment_sound import spectra
from acclimate.backbones.base import Batch, Encoded, Origin
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.mel import log_mel, silence
from acclimate.backbones.sound import Prepared, SoundBackbone, SoundSettings, layers_of, mean_of, rows_of, stable
from acclimate.data.sounds import Samples

FILLS = (10.0,)  # seconds, besides the model's own, that a sound may be filled up to
# Silence that is left behind a sound: seconds, and a share of it. Bundles store the lengths and not these two.
SILENCE, SHARE = 1.0, 0.5
_BEL = 0.25  # of `log_mel`: what ten times the power adds to a value


class Encoder(nn.Module):
    """Whisper's encoder for any number of seconds up to its 30.

    With 30 s it gives what transformers' own forward gives; of less, the positions in time are the first ones.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """(n, bands, 2 t), of which the first 2 `lengths` (n,) columns are read -> (n, t, d)."""
        return encoded(self.inner, mel, self.training, lengths)


def encoded(inner: Any, mel: Tensor, training: bool, lengths: Tensor) -> Tensor:
    """What transformers' Whisper encoder gives of spectra of any length, (n, bands, 2 t) -> (n, t, d).

    Row i is what it is alone with 2 `lengths[i]` columns, if the columns behind them are zero, as the convolutions pad:
    no frame attends to those behind `lengths[i]`, which hold nothing of use. `lengths` lie on the host.
    """
    hidden = nn.functional.gelu(inner.conv1(mel))
    hidden = nn.functional.gelu(inner.conv2(hidden)).transpose(1, 2)
    hidden = hidden + inner.embed_positions.weight[: hidden.shape[1]]
    hidden = nn.functional.dropout(hidden, p=inner.dropout, training=training)
    mask = None
    if int(lengths.min()) < hidden.shape[1]:
        behind = torch.arange(hidden.shape[1]) >= lengths[:, None]
        mask = torch.zeros(behind.shape).masked_fill(behind, -math.inf)[:, None, None].to(hidden)
    for layer in inner.layers:
        hidden = layer(hidden, mask)
    found: Tensor = inner.layer_norm(hidden)
    return found


class Whisper(SoundBackbone):
    """The encoder of a Whisper model without the decoder. Features are the mean over the frames that hold sound.

    Every sound is followed by silence up to `seconds`, as Whisper was trained with 30: frames of sound attend to those
    of silence, and lose by having fewer. With fewer seconds it is quicker; `benchmarks/sounds.py` says by how much,
    and what it costs.
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
        columns = min(2 * self.frames(len(samples)) + 2, 2 * self.filled_to(len(samples)))
        return log_mel(torch.from_numpy(samples), columns, self.sound.rate, self.bands, self.window, self.hop)

    def frames(self, samples: int) -> int:
        """How many frames of the encoder this many samples take."""
        return max(1, math.ceil(samples / int(2 * self.hop)))

    def filled_to(self, samples: int) -> int:
        """Frames that a sound, or window, of this many samples has with the silence after it."""
        rate, seconds = self.sound.rate, samples / self.sound.rate
        whole = seconds + max(SILENCE, SHARE * seconds)
        return self.frames(round(next((s for s in self.sound.fills if s >= whole), self.sound.seconds) * rate))

    def cost(self, seconds: float) -> int:
        """Frames, those of silence among them."""
        return self.filled_to(round(seconds * self.sound.rate))

    def join(self, windows: Sequence[Prepared]) -> Batch:
        """Spectra (w, bands, 2 t), each followed by silence up to its `lengths` (w,) of frames, then by zeros; `frames`
        (w,): how many hold sound."""
        lengths = [self.filled_to(sound.samples) for sound in windows]
        mel = torch.zeros(len(windows), self.bands, 2 * max(lengths))
        for row, sound, length in zip(mel, windows, lengths, strict=True):
            row[:, : 2 * length] = silence(sound.values)
            row[:, : sound.values.shape[1]] = sound.values
        frames = torch.tensor([self.frames(sound.samples) for sound in windows])
        return {"mel": mel, "lengths": torch.tensor(lengths), "frames": frames}

    def vectors(self, batch: Batch) -> Tensor:
        """The mean (w, d) of the frames that hold sound."""
        return mean_of(*self.sequence(batch))

    def sequence(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The encoder's output, one vector every 20 ms."""
        return self.model(batch["mel"], batch["lengths"]), batch["frames"]

    def frames_in(self, window: Prepared) -> int:
        """One every 20 ms."""
        return self.frames(window.samples)

    def length(self, batch: Batch) -> int:
        """Two columns of the spectrum are a frame."""
        return batch["mel"].shape[2] // 2

    def flat(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
        """The frames of every row, those of silence among them."""
        return self.frames_of_rows(hidden, batch, batch["lengths"])

    def unflat(self, flat: Tensor, batch: Batch, shape: tuple[int, ...]) -> Tensor:
        """Frames back in their rows."""
        return rows_of(flat, batch["lengths"])

    def flat_rows(self, encoded: Sequence[Encoded]) -> list[int]:
        """The number of frames of each sound, those of silence among them."""
        return [sum(self.filled_to(window.samples) for window in self.now(row)) for row in encoded]

    @property
    def blocks(self) -> list[nn.Module]:
        """The encoder's layers."""
        return layers_of(self.model)

    def augment(self, batch: Batch, generator: torch.Generator, strength: float) -> Batch:
        """The columns of each spectrum that hold sound, changed as `augment_sound.spectra` says; silence after it."""
        if strength == 0:
            return batch
        ends = 2 * batch["lengths"].to(batch["frames"].device)
        sizes = (2 * batch["frames"] + 2).minimum(ends)
        changed = spectra(batch["mel"].transpose(1, 2), sizes, generator, strength, _BEL).transpose(1, 2)
        for row, size, end in zip(changed, sizes.tolist(), ends.tolist(), strict=True):
            least = silence(row[:, :size])
            row[:, :size] = row[:, :size].maximum(least)
            row[:, size:end] = least
        return {**batch, "mel": changed}

    def config(self) -> dict[str, Any]:
        """The encoder's configuration and the settings of the spectrum."""
        return {**stable(self.model.inner.config), "window": self.window, "hop": self.hop}

    def save_model(self, folder: Path) -> None:
        """The encoder alone, as transformers' WhisperEncoder."""
        with quiet_transformers():
            self.model.inner.save_pretrained(folder)
            self.extractor.save_pretrained(folder)
