"""Spectra: what a linear model can hear without transfer, as speech was recognised before networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate.data.sounds import read
from acclimate.keys import once_a_file
from acclimate.plain.base import Standardised

RATE = 16000
SECONDS = 600.0  # of a longer sound the beginning is read
_BANDS, _KEPT = 26, 13
_WINDOW, _STEP = 400, 160  # 25 ms, 10 ms
_FFT = 512
_FLOOR = 1e-8  # of a band's energy: 80 dB below a full one


@dataclass(frozen=True)
class SpectrumFeatures(Standardised):
    """Mean and spread over time of 13 cepstral coefficients and of their differences, and the log of the length.

    c = DCT(log(B |FFT(w · frame)|² + 1e-8)), B 26 triangles on the mel scale; 53 values, standardised. Davis &
    Mermelstein 1980.
    """

    kind: ClassVar[str] = "spectra"

    @staticmethod
    def raw(inputs: Sequence[Any]) -> NDArray[np.float64]:
        """Statistics (n, 53) before they are standardised."""
        return np.array([_of_one(one) for one in inputs], np.float64).reshape(len(inputs), 4 * _KEPT + 1)


def _statistics_of(one: Any) -> tuple[float, ...]:
    return statistics(read(one, RATE, SECONDS))


_of_one = once_a_file(_statistics_of, 1 << 16)  # 100 MB: folds read the same sounds again


def statistics(samples: NDArray[np.float32]) -> tuple[float, ...]:
    """The 53 numbers of one sound at 16 kHz."""
    found = cepstra(samples)
    steps = np.diff(found, axis=0) if len(found) > 1 else np.zeros_like(found)
    parts = [found.mean(0), found.std(0), steps.mean(0), steps.std(0), [np.log(len(samples) / RATE)]]
    return tuple(float(v) for part in parts for v in part)


def cepstra(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """13 coefficients every 10 ms, (t, 13)."""
    from scipy.fft import dct

    padded = np.pad(samples.astype(np.float64), (0, max(0, _WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_STEP] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2
    found: NDArray[np.float64] = dct(np.log(power @ _triangles() + _FLOOR), type=2, norm="ortho", axis=1)[:, :_KEPT]
    return found


@lru_cache(maxsize=1)
def _triangles() -> NDArray[np.float64]:
    """(257, 26): each rises from the centre of the band below to its own, evenly on mel = 2595 log10(1 + f/700)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), _BANDS + 2) / 2595) - 1)
    f = np.fft.rfftfreq(_FFT, 1 / RATE)
    rise = (f[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - f[:, None]) / np.diff(edges)[1:]
    return np.asarray(np.maximum(0, np.minimum(rise, fall)))
