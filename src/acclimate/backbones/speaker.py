"""Who speaks: the speaker encoder of the package resemblyzer (catalogue `resemblyzer`), restated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.augment_sound import spectra
from acclimate.backbones.base import Batch, Origin
from acclimate.backbones.mel import mel
from acclimate.backbones.sound import Prepared, SoundBackbone, SoundSettings
from acclimate.data.sounds import Samples
from acclimate.errors import UserError
from acclimate.files import json_text, read_object

_LOUDNESS = -30.0  # dB of full scale: quieter sounds are raised to it
_FAINT = 1e-10  # power that counts as none
_RATE = 1.3  # windows that start in a second
_COVERED = 0.75  # of the last window, else it is left out


class Voice(nn.Module):
    """An LSTM over mel bands; on its last state a linear layer, ReLU, unit length."""

    def __init__(self, bands: int, hidden: int, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(bands, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, width)

    def forward(self, windows: Tensor) -> Tensor:
        """(w, t, bands) -> (w, d)."""
        _, (state, _) = self.lstm(windows)
        return nn.functional.normalize(torch.relu(self.linear(state[-1])), dim=1)


class Speaker(SoundBackbone):
    """256 numbers a voice, of unit length: windows of 1.6 s, their vectors averaged.

    As in resemblyzer, except that pauses are not cut out first (it does so by webrtcvad).

    Source: Wan et al. 2018, arXiv:1710.10467; github.com/resemble-ai/Resemblyzer.
    Use when the label hangs on who speaks. Prefer Whisper if it hangs on what is said.
    """

    architecture = "resemblyzer"
    longest = 3600.0

    def __init__(self, model: Voice, config: dict[str, Any], settings: SoundSettings, origin: Origin) -> None:
        super().__init__(model, settings, origin)
        self._config = config
        self.width = int(config["embedding_size"])
        self._frames = int(config["frames"])
        self._hop = settings.rate * int(config["hop_ms"]) // 1000
        self._window = settings.rate * int(config["window_ms"]) // 1000

    def prepare(self, samples: Samples) -> Tensor:
        """Windows (w, 160, bands) of the power in mel bands."""
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        if 0 < level < (goal := 10 ** (_LOUDNESS / 20)):
            samples = samples * np.float32(goal / level)
        starts = self.starts(len(samples))
        line = torch.zeros(max(len(samples), (starts[-1] + self._frames) * self._hop))
        line[: len(samples)] = torch.from_numpy(samples)
        columns = mel(line, self.sound.rate, int(self._config["num_mel_bins"]), self._window, self._hop).T
        return torch.stack([columns[at : at + self._frames] for at in starts])

    def starts(self, samples: int) -> list[int]:
        """The column where each window begins."""
        step = round(self.sound.rate / _RATE / self._hop)
        columns = -(-(samples + 1) // self._hop)
        found = list(range(0, max(1, columns - self._frames + step + 1), step))
        covered = (samples - found[-1] * self._hop) / (self._frames * self._hop)
        return found[:-1] if len(found) > 1 and covered < _COVERED else found

    def cost(self, seconds: float) -> int:
        """Columns of all windows, two to a frame."""
        return len(self.starts(round(seconds * self.sound.rate))) * self._frames // 2

    def join(self, windows: Sequence[Prepared]) -> Batch:
        """All windows of 1.6 s (w, 160, bands), and the part of a sound that each belongs to; all count the same."""
        owner = [i for i, part in enumerate(windows) for _ in part.values]
        lines = torch.cat([part.values for part in windows])
        return {"windows": lines, "owner": torch.tensor(owner), "weight": torch.ones(len(lines))}

    def parts_of(self, batch: Batch, before: Sequence[Prepared]) -> list[Tensor]:
        """The windows of 1.6 s of each part."""
        return list(torch.split(batch["windows"], [len(part.values) for part in before]))

    def vectors(self, batch: Batch) -> Tensor:
        """One vector a window of 1.6 s, (w, 256)."""
        found: Tensor = self.model(batch["windows"])
        return found

    def length(self, batch: Batch) -> int:
        """Two columns are a frame."""
        return batch["windows"].shape[1] // 2

    def forward(self, batch: Batch) -> Tensor:
        """The mean of the windows' vectors, of unit length, (n, 256)."""
        return nn.functional.normalize(super().forward(batch), dim=1)

    def augment(self, batch: Batch, generator: torch.Generator, strength: float) -> Batch:
        """Each window of 1.6 s changed by itself, as `augment_sound.spectra` says."""
        if strength == 0:
            return batch
        lines = batch["windows"].clamp(min=_FAINT).log10()
        changed = spectra(lines, torch.full((len(lines),), lines.shape[1]), generator, strength, 1.0)
        return {**batch, "windows": 10**changed}

    @property
    def blocks(self) -> list[nn.Module]:
        """None: the LSTM is one module."""
        return []

    def config(self) -> dict[str, Any]:
        """Sizes and lengths."""
        return self._config

    def save_model(self, folder: Path) -> None:
        """config.json and model.safetensors, as the catalogue has them."""
        from safetensors.torch import save_file

        (folder / "config.json").write_text(json_text(self._config, indent=1), encoding="utf-8")
        state = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def load_speaker(folder: Path, origin: Origin) -> Speaker:
    """Load the catalogue's folder, or one that `save` wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = read_object(folder / "config.json")
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made
            model = Voice(*(int(config[k]) for k in ("num_mel_bins", "hidden_size", "embedding_size", "num_layers")))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        settings = SoundSettings(rate=int(config["sampling_rate"]), seconds=Speaker.longest)
        found = Speaker(model.eval().requires_grad_(False), config, settings, origin)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"cannot load the sound model {origin.name!r}: {first}") from error
    return found
