"""Series: several channels measured at a fixed rate, from arrays, NPZ files, lists of numbers or sounds.

`look` makes one of whatever a cell holds and says why it cannot be used; nothing takes the place of what is missing.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acclimate.data import sounds

Values: TypeAlias = NDArray[np.float64]
SUFFIXES = {".npz"}
NAMES = ("values", "series", "X", "x", "data", "signal", "arr_0")  # what the array of an NPZ file may be called
RATES = ("rate", "sampling_rate", "fs", "frequency")


class Series(NamedTuple):
    """One multichannel series; a tuple, so that it is told from others by its content alone."""

    values: Values  # (channels, steps); NaN where nothing was measured
    rate: float = 0.0  # steps a second; 0 where nobody said

    def __repr__(self) -> str:
        channels, steps = self.values.shape
        at = f" at {self.rate:g} Hz" if self.rate else ""
        return f"{channels} channel{'s' if channels != 1 else ''} x {steps} steps{at}"

    def tolist(self) -> list[list[float]]:
        """A list a channel, as a cell of JSON or Parquet holds a series and is read again."""
        listed: list[list[float]] = self.values.tolist()
        return listed


class Seen(NamedTuple):
    """What a cell holds: a series, or the gate's reason why it is none, and the same in words."""

    series: Series | None
    reason: str = ""
    problem: str = ""


def look(value: Any, rate: float = 0.0) -> Seen:
    """One cell as a series: a `Series`, a path (.npz, or a sound of several channels), or an array (channels, steps).

    `rate` counts where the cell does not say its own.
    """
    if isinstance(value, Series):
        return _judged(value.values, value.rate or rate)
    if isinstance(value, (str, Path)):
        return _file(Path(value), rate)
    if sounds.is_pair(value):
        array, own = value
        return _judged(_upright(np.asarray(array)), float(own))
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):  # channels of unlike lengths, or no numbers
        return _uneven(value)
    return _judged(array, rate)


def _uneven(value: Any) -> Seen:
    if isinstance(value, Sequence) and all(isinstance(part, Sequence) and not isinstance(part, str) for part in value):
        lengths = sorted({len(part) for part in value})
        if len(lengths) > 1:
            return Seen(None, "uneven_channels", f"has channels of {lengths[0]} to {lengths[-1]} steps")
    return Seen(None, "bad_series", "holds no numbers")


def _judged(array: NDArray[Any], rate: float) -> Seen:
    """An array as a series, infinite values as missing ones."""
    values = np.asarray(array, np.float64)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2:
        return Seen(None, "bad_series", f"is an array of the shape {values.shape}, not (channels, steps)")
    if not values.size:
        return Seen(None, "no_steps", "has no steps")
    known = np.isfinite(values)
    if not known.any():
        return Seen(None, "no_numbers", "holds no number: every value is missing")
    return Seen(Series(values if known.all() else np.where(known, values, np.nan), rate))


def _upright(array: NDArray[Any]) -> NDArray[Any]:
    """A sound as (channels, steps): audio libraries write (steps, channels) as well."""
    return array.T if array.ndim == 2 and array.shape[0] > array.shape[1] else array


def _file(path: Path, rate: float) -> Seen:
    if not path.is_file():
        return Seen(None, "missing_file", "is not there")
    if path.stat().st_size == 0:
        return Seen(None, "empty_file", "is an empty file")
    if path.suffix.lower() not in SUFFIXES:
        return _sound(path)
    try:
        arrays = arrays_of(path)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        return Seen(None, "bad_series", f"is no NPZ file that can be read ({error})")
    name = array_in(arrays)
    if name is None:
        held = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
        return Seen(None, "bad_series", f"holds no one array of (channels, steps) (it has {held or 'none'})")
    return _judged(arrays[name], rate_in(arrays) or rate)


def _sound(path: Path) -> Seen:
    """All channels of a sound file, at its own rate."""
    heard = sounds.examine(str(path))
    if heard.problem:
        return Seen(None, heard.reason, heard.problem)
    import soundfile

    values, rate = soundfile.read(path, dtype="float64", always_2d=True)
    return _judged(values.T, float(rate))


def arrays_of(path: Path) -> dict[str, NDArray[Any]]:
    """What an NPZ file holds; nothing in it is run."""
    with np.load(path, allow_pickle=False) as found:
        if isinstance(found, np.ndarray):
            raise ValueError("a single array")
        return {name: found[name] for name in found.files}


def array_in(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """The name of the array that holds the values: by its name, else the only one of numbers with two or more axes."""
    numbers = [name for name, array in arrays.items() if array.dtype.kind in "fiub" and array.ndim]
    called = [name for name in NAMES if name in numbers]
    wide = [name for name in numbers if arrays[name].ndim > 1]
    return called[0] if called else wide[0] if len(wide) == 1 else numbers[0] if len(numbers) == 1 else None


def rate_in(arrays: Mapping[str, NDArray[Any]]) -> float:
    """Steps a second as an NPZ file says; 0 where it does not."""
    for name in RATES:
        if name in arrays and arrays[name].size == 1:
            found = float(arrays[name].reshape(-1)[0])
            if math.isfinite(found) and found > 0:
                return found
    return 0.0


def resampled(series: Series, rate: float) -> Values:
    """The values at another rate, once; as they are where either rate is not known.

    Polyphase filtering (a low-pass where steps are left out), SciPy's `resample_poly`; a channel with gaps is
    interpolated in a straight line instead, and its gaps stay.
    """
    if not rate or not series.rate or math.isclose(rate, series.rate, rel_tol=1e-6):
        return series.values
    from fractions import Fraction

    from scipy.signal import resample_poly

    ratio = Fraction(rate / series.rate).limit_denominator(1000)
    known = np.isfinite(series.values)
    if known.all() and series.values.shape[1] > 1:
        found: Values = resample_poly(series.values, ratio.numerator, ratio.denominator, axis=1, padtype="line")
        return found
    steps = max(1, round(series.values.shape[1] * rate / series.rate))
    at = np.arange(steps) * series.rate / rate
    own = np.arange(series.values.shape[1])
    out = np.empty((len(series.values), steps))
    for row, line, there in zip(out, series.values, known, strict=True):
        row[:] = np.interp(at, own[there], line[there]) if there.any() else np.nan
        row[~there[np.minimum(np.rint(at).astype(int), len(own) - 1)]] = np.nan
    return out
