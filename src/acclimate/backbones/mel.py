"""Mel spectra: how much of each band of pitch a sound holds, one column every 10 ms."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

WINDOW, HOP = 400, 160  # samples: 25 ms and 10 ms at 16 kHz, for Whisper and for the speaker encoder


@lru_cache(maxsize=8)
def _bands(rate: int, count: int, window: int) -> Tensor:
    """Triangles of equal area on Slaney's mel scale, (count, window / 2 + 1)."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        1 + window // 2, count, 0.0, min(8000.0, rate / 2), rate, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(np.asarray(filters, np.float32)).T.contiguous()


def mel(samples: Tensor, rate: int, count: int, window: int = WINDOW, hop: int = HOP) -> Tensor:
    """Power in each band, (count, 1 + n // hop); the ends are mirrored, columns lie around their samples."""
    spectrum = torch.stft(samples, window, hop, window=torch.hann_window(window), return_complex=True)
    return _bands(rate, count, window) @ spectrum.abs() ** 2


def log_mel(samples: Tensor, frames: int, rate: int, count: int, window: int = WINDOW, hop: int = HOP) -> Tensor:
    """Whisper's input (count, frames), the sound followed by silence: log10, at most 8 below its maximum, /4 + 1.

    The same numbers as of the sound filled up to 30 s, of which the silence need not be computed: all of its columns
    are equal.

    Source: Radford et al. 2022, arXiv:2212.04356, section 2.2, and the code published with it.
    """
    inside = min(frames, -(-(len(samples) + window // 2) // hop))  # columns that reach into the sound
    line = torch.zeros(max(inside * hop, window))
    line[: len(samples)] = samples[: len(line)]
    found = mel(line, rate, count, window, hop)[:, :inside].clamp(min=1e-10).log10()
    found = torch.maximum(found, found.max() - 8) / 4 + 1
    whole = silence(found).expand(count, frames).clone()
    whole[:, :inside] = found
    return whole


def silence(spectrum: Tensor) -> Tensor:
    """The value of silence beside this spectrum of `log_mel`: log10 1e-10, or 8 below the maximum."""
    return (spectrum.max() - 2).clamp(min=-1.5)
