"""Sounds: any file that libsndfile opens, or an array with its rate, as one channel at the rate that a network reads.

`examine` says what a file holds and why it cannot be used; `read` gives its samples. Nothing is put in the place of
what cannot be read.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import UserError

Samples: TypeAlias = NDArray[np.float32]

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64",
            ".rf64", ".m4a", ".aac", ".wma", ".webm", ".amr")  # fmt: skip
PIECE = 0.02  # seconds that are judged together: is there any sound in them?
QUIET = 1e-3  # spread of a piece that counts as silent: 60 dB below full scale
LOUD = 0.98  # of full scale: three samples in a row from here on are clipped
_RUN = 3
_BLOCK = 1 << 20  # samples of a channel that are in memory at a time
_ENDLESS = 2**31 - 1  # sizes from here on are written by programs that do not know the size yet
_CHANNELS = 64  # an array with more of them is more likely lying on its side
_SHORTER = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_CUT_OGG = ("ended unexpectedly", "lacks an end-of-stream bit")  # also of streams that were stopped between pages
_HALF_A_PAGE = "Junk after the last page"  # how much is missing is not said
_KINDS = {
    (0, b"\x1aE\xdf\xa3"): "WebM or Matroska",
    (4, b"ftyp"): "MPEG-4 (as .m4a and .mp4)",
    (0, b"\xff\xf1"): "AAC",
    (0, b"\xff\xf9"): "AAC",
    (0, b"#!AMR"): "AMR",
    (0, b"0&\xb2u\x8ef\xcf\x11"): "Windows Media",
    (0, b"\x89PNG"): "a picture",
    (0, b"\xff\xd8\xff"): "a picture",
    (0, b"%PDF"): "a PDF document",
    (0, b"PK\x03\x04"): "a zip archive",
}


class _Bad(UserError):
    """Why a sound cannot be used, to be read after its name."""


@dataclass(frozen=True)
class Sound:
    """What a file or an array holds. Where `problem` is not empty it cannot be used, and the rest is what was seen."""

    problem: str = ""
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    peak: float = 0.0  # of full scale; numbers of floating point may pass 1
    clipped: float = 0.0  # share of samples at full scale, at least three of them in a row
    silent: float = 0.0  # share of pieces of 20 ms whose spread is more than 60 dB below full scale
    content: bytes = b""  # a hash of rate and samples, whatever the format of the file


def examine(value: Any) -> Sound:
    """Read a path, or (array, rate), to its end and say what is in it. Never raises for what the file holds."""
    try:
        opened = _opened(value)
        tally = _Tally(opened.rate)
        for block in opened.blocks:
            tally.add(block)
    except _Bad as error:
        return Sound(str(error))
    seconds = tally.samples / opened.rate
    return Sound(
        opened.lack(tally.samples), seconds, opened.rate, opened.channels, *tally.shares(), tally.digest.digest()
    )


def seconds_of(value: Any) -> float:
    """How long a sound is, by the header of its file."""
    with _named(value):
        opened = _opened(value)
    return opened.frames / opened.rate


def read(value: Any, rate: int, seconds: float | None = None) -> Samples:
    """The mean of all channels, (n,), at `rate`; of a longer sound the first `seconds` alone are read.

    Resampled once, by soxr (quality "HQ"), where the rate is another one.
    """
    with _named(value):
        opened = _opened(value)
        wanted = opened.frames if seconds is None else min(opened.frames, math.ceil(seconds * opened.rate))
        parts: list[Samples] = []
        count = 0
        for block in opened.blocks:
            parts.append(block.mean(1, dtype=np.float32))
            count += len(block)
            if seconds is not None and count >= wanted:
                break
        if lack := opened.lack(count, wanted):
            raise _Bad(lack)
    whole = np.concatenate(parts)
    if opened.rate != rate:
        whole = np.asarray(_soxr().resample(whole, opened.rate, rate), np.float32)
    return whole if seconds is None else whole[: round(seconds * rate)]


@dataclass(frozen=True)
class _Opened:
    """A sound that can be read once."""

    blocks: Iterator[Samples]  # (n, channels)
    rate: int
    channels: int
    frames: int  # that should be there
    slack: int = 0  # frames that may be missing: what is said of an MP3 may be an estimate

    def lack(self, count: int, wanted: int | None = None) -> str:
        """What is wrong where only `count` frames were found; empty where nothing is."""
        wanted = self.frames if wanted is None else wanted
        if not count:
            return "holds no samples"
        if count >= wanted - self.slack:
            return ""
        return f"ends early: {count / self.rate:.3g} s of {self.frames / self.rate:.3g} s are there"


@contextmanager
def _named(value: Any) -> Iterator[None]:
    try:
        yield
    except _Bad as error:
        raise UserError(f"{value if isinstance(value, (str, Path)) else 'the array'} {error}") from error


class _Tally:
    """Sums over the blocks of one sound."""

    def __init__(self, rate: int) -> None:
        self.digest = hashlib.blake2b(str(rate).encode(), digest_size=16)
        self.samples = 0
        self._piece = max(1, round(PIECE * rate))
        self._rest = np.empty(0, np.float32)
        self._values = self._peaks = self._pieces = self._quiet = 0
        self._peak = 0.0

    def add(self, block: Samples) -> None:
        """One block (n, channels)."""
        self.digest.update(np.round(block.mean(1) * 32767).astype("<i4").tobytes())
        self.samples += len(block)
        self._values += block.size
        self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
        self._peaks += _in_runs(np.abs(block) >= LOUD)
        line = np.concatenate([self._rest, block.mean(1)])
        full = len(line) // self._piece * self._piece
        self._count(line[:full].reshape(-1, self._piece))
        self._rest = line[full:]

    def shares(self) -> tuple[float, float, float]:
        """Peak, clipped share, silent share."""
        if len(self._rest):
            self._count(self._rest[None])
            self._rest = self._rest[:0]
        return self._peak, self._peaks / max(1, self._values), self._quiet / max(1, self._pieces)

    def _count(self, pieces: Samples) -> None:
        self._pieces += len(pieces)
        self._quiet += int((pieces.std(1) < QUIET).sum()) if len(pieces) else 0


def _in_runs(loud: NDArray[np.bool_]) -> int:
    """How many are true in runs of at least three along the first axis."""
    if len(loud) < _RUN or not loud.any():
        return 0
    core = loud[:-2] & loud[1:-1] & loud[2:]  # a run starts its last three here
    inside = np.zeros_like(loud)
    for shift in range(_RUN):
        inside[shift : shift + len(core)] |= core
    return int(inside.sum())


def _opened(value: Any) -> _Opened:
    if isinstance(value, (str, Path)):
        return _file(Path(value).expanduser())
    if isinstance(value, (tuple, list)) and len(value) == 2 and np.ndim(value[0]) > 0 and np.ndim(value[1]) == 0:
        array, rate = _array(value[0]), int(value[1])
        if rate < 1:
            raise _Bad(f"has the rate {value[1]!r}; give samples a second, such as 16000")
        return _Opened(iter([array]), rate, array.shape[1], len(array))
    raise UserError(
        f"a sound is a path or (array, rate), not {type(value).__name__}; without its rate an array cannot be read"
    )


def _array(values: Any) -> Samples:
    """(n,) or (n, channels); whole numbers are scaled by their type, bytes lie around 128."""
    array = np.asarray(values)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] > _CHANNELS:
        raise _Bad(f"has the shape {np.shape(values)}, and a sound has (samples,) or (samples, channels)")
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / np.float32(128)
    if array.dtype.kind == "i":
        return np.asarray(array / float(2 ** (8 * array.dtype.itemsize - 1)), np.float32)
    if array.dtype.kind != "f":
        raise _Bad(f"holds {array.dtype}, and a sound is made of numbers")
    return _finite(array.astype(np.float32, copy=False))


def _file(path: Path) -> _Opened:
    soundfile = _soundfile()
    try:
        if path.is_dir():
            raise _Bad("is a folder")
        if not path.stat().st_size:
            raise _Bad("is empty (0 bytes)")
        file = soundfile.SoundFile(str(path))
    except OSError as error:
        raise _Bad(f"cannot be read: {error.strerror or error}") from error
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:  # the latter for kinds without a header
        raise _Bad(_why(path, error)) from error
    frames, log = int(file.frames), str(file.extra_info)
    for said, there in _SHORTER.findall(log):
        if 0 < int(there) < int(said) < _ENDLESS:
            frames = max(frames, int(file.frames) * int(said) // int(there))
    if any(sign in log for sign in _CUT_OGG) and _HALF_A_PAGE in log:
        file.close()
        raise _Bad("ends early: the end of its Ogg stream is missing")
    slack = int(file.samplerate) // 10 if file.format == "MP3" else 0
    return _Opened(_blocks(file, path), int(file.samplerate), int(file.channels), frames, slack)


def _blocks(file: Any, path: Path) -> Iterator[Samples]:
    with file:
        while True:
            try:
                block = file.read(_BLOCK, dtype="float32", always_2d=True)
            except _soundfile().LibsndfileError as error:
                raise _Bad(_why(path, error)) from error
            if not len(block):
                return
            yield _finite(block)


def _finite(block: Samples) -> Samples:
    if not np.isfinite(block).all():
        raise _Bad("holds samples that are no finite numbers")
    return block


def _why(path: Path, error: Exception) -> str:
    """What libsndfile says, or what the first bytes say where it knows the format not at all."""
    with path.open("rb") as file:
        start = file.read(16)
    for (at, mark), kind in _KINDS.items():
        if start[at : at + len(mark)] == mark:
            return f"holds {kind}, which cannot be read as a sound; convert it to WAV or FLAC"
    said = getattr(error, "error_string", None) or str(error)
    return f"cannot be read as a sound: {said.removeprefix('Error : ').rstrip('.')}"


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise UserError("sounds need soundfile and soxr: pip install 'acclimate[audio]'") from error
    return soundfile


def _soxr() -> Any:
    try:
        import soxr
    except ImportError as error:
        raise UserError("sounds need soundfile and soxr: pip install 'acclimate[audio]'") from error
    return soxr
