"""Sounds: any file that libsndfile opens, or an array with its rate, as one channel at the rate that a network reads.

`examine` says what a file holds and why it cannot be used; `read` gives its samples. Nothing is put in the place of
what cannot be read.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acclimate.data import sound_prints as prints
from acclimate.errors import UserError
from acclimate.keys import once_a_file

Samples: TypeAlias = NDArray[np.float32]

SUFFIXES = {  # also of files that cannot be read: they are data, and named
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64",
    ".m4a", ".aac", ".wma", ".webm", ".amr",
}  # fmt: skip
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
_SOUNDS = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd", b"caff", b"riff", b"ID3", b"\xff\xfb")
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
    """Why a sound cannot be used, to be read after its name; `reason` is one of the gate."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Sound:
    """What a file or an array holds. Where `problem` is not empty it cannot be used, and the rest is what was seen."""

    reason: str = ""  # of the gate why it cannot be used
    problem: str = ""  # the same in full, to be read after its name
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    peak: float = 0.0  # of full scale; numbers of floating point may pass 1
    clipped: float = 0.0  # share of samples at full scale, at least three of them in a row
    silent: float = 0.0  # share of pieces of 20 ms whose spread is more than 60 dB below full scale
    content: bytes = b""  # a hash of rate and samples, whatever the format of the file
    heard: bytes = b""  # `sound_prints.print_of`: alike for copies in another loudness, rate or coding


def examine(value: Any) -> Sound:
    """Read a sound to its end and say what is in it. Never raises for what a file holds; reads it anew once changed."""
    try:
        return _examined_once(value)
    except (OSError, ValueError):
        return Sound("missing_file", "is not there")


def _examined(value: Any) -> Sound:
    try:
        opened = _opened(value)
        tally = _Tally(opened.rate)
        for block in opened.blocks:
            tally.add(block)
    except _Bad as error:
        return Sound(error.reason, str(error))
    seconds = tally.samples / opened.rate
    reason, problem = opened.lack(tally.samples)
    shares, content = tally.shares(), tally.digest.digest()
    heard = b"" if reason else tally.heard().tobytes()
    return Sound(reason, problem, seconds, opened.rate, opened.channels, *shares, content, heard)


_examined_once = once_a_file(_examined, 1 << 18)


def as_mp3(value: Any, seconds: float) -> bytes:
    """The first seconds as a small MP3 file, for a report."""
    out = io.BytesIO()
    rate = 16000
    _soundfile().write(out, np.clip(read(value, rate, seconds), -1, 1), rate, format="MP3")
    return out.getvalue()


def name_of(value: Any) -> str:
    """What a sound is called in a message."""
    return str(value) if isinstance(value, (str, os.PathLike)) else "a sound in memory"


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
        reason, lack = opened.lack(count, wanted)
        if reason:
            raise _Bad(reason, lack)
    whole = np.concatenate(parts)
    if opened.rate != rate:
        resampled = np.asarray(_soxr().resample(whole, opened.rate, rate), np.float32)
        whole = resampled if len(resampled) else whole[:1]  # of less than half a sample at the new rate
    return whole if seconds is None else whole[: round(seconds * rate)]


def windows(value: Any, rate: int, room: int, overlap: int) -> Iterator[Samples]:
    """The whole of a sound as `read` has it, in windows of `room` samples that share `overlap` with the one before.

    The last one is shorter. Resampled as it is read, so that no more than a block and a window lie in memory.
    """
    with _named(value):
        opened = _opened(value)
        line, count = np.empty(0, np.float32), 0
        for block, there in _at_rate(opened, rate):
            line, count = np.concatenate([line, block]), count + there
            while len(line) > room:
                yield line[:room]
                line = line[room - overlap :]
        reason, lack = opened.lack(count)
        if reason:
            raise _Bad(reason, lack)
        yield line


def count_windows(samples: int, room: int, overlap: int) -> int:
    """How many of them there are.

    >>> count_windows(300, 300, 30), count_windows(301, 300, 30), count_windows(600, 300, 30)
    (1, 2, 3)
    """
    return max(1, math.ceil((samples - overlap) / (room - overlap)))


@dataclass(frozen=True)
class _Opened:
    """A sound that can be read once."""

    blocks: Iterator[Samples]  # (n, channels)
    rate: int
    channels: int
    frames: int  # that should be there
    slack: int = 0  # frames that may be missing: what is said of an MP3 may be an estimate

    def lack(self, count: int, wanted: int | None = None) -> tuple[str, str]:
        """What is wrong where only `count` frames were found, as reason and text; both empty where nothing is."""
        wanted = self.frames if wanted is None else wanted
        if not count:
            return "no_samples", "holds no samples"
        if count >= wanted - self.slack:
            return "", ""
        return "cut_short", f"ends early: {count / self.rate:.3g} s of {self.frames / self.rate:.3g} s are there"


def _at_rate(opened: _Opened, rate: int) -> Iterator[tuple[Samples, int]]:
    """One channel at `rate`, block by block, and how many samples of the file each block holds."""
    if opened.rate == rate:
        yield from ((block.mean(1, dtype=np.float32), len(block)) for block in opened.blocks)
        return
    stream = _soxr().ResampleStream(opened.rate, rate, 1, dtype="float32")
    for block in opened.blocks:
        yield np.asarray(stream.resample_chunk(block.mean(1, dtype=np.float32)), np.float32), len(block)
    yield np.asarray(stream.resample_chunk(np.empty(0, np.float32), last=True), np.float32), 0


@contextmanager
def _named(value: Any) -> Iterator[None]:
    try:
        yield
    except _Bad as error:
        raise UserError(f"{name_of(value)} {error}") from error


class _Tally:
    """Sums over the blocks of one sound."""

    def __init__(self, rate: int) -> None:
        self.digest = hashlib.blake2b(str(rate).encode(), digest_size=16)
        self.samples = 0
        self._rate = rate
        self._start: list[Samples] = []  # of what can be heard
        self._wanted = math.ceil(prints.SECONDS * rate) if rate >= prints.LOWEST else 0
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
        self._listen(block.mean(1))
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

    def _listen(self, line: Samples) -> None:
        if self._wanted and not self._start:  # silence at the beginning is passed over
            line = line[int(np.argmax(np.append(np.abs(line) > QUIET, True))) :]
        if self._wanted and len(line):
            self._start.append(line[: self._wanted])
            self._wanted -= len(self._start[-1])

    def heard(self) -> prints.Print:
        """The fingerprint of the first seconds that can be heard."""
        line = np.concatenate([np.empty(0, np.float32), *self._start])
        if self._rate != prints.RATE and len(line):
            line = np.asarray(_soxr().resample(line, self._rate, prints.RATE), np.float32)
        return prints.print_of(line)

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
    if isinstance(value, (str, os.PathLike, bytes, bytearray)):
        return _file(value)
    if is_pair(value):
        array, rate = _array(value[0]), int(value[1])
        if rate < 1:
            raise _Bad("not_a_sound", f"has the rate {value[1]!r}; give samples a second, such as 16000")
        return _Opened(iter([array]), rate, array.shape[1], len(array))
    raise _Bad(
        "not_a_sound",
        f"is {type(value).__name__}; a sound is a path, the bytes of a file or (array, rate), and an array without its "
        "rate cannot be read",
    )


def is_pair(value: Any) -> bool:
    """Whether this is an array with its rate."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and np.ndim(value[0]) > 0 and np.ndim(value[1]) == 0


def _array(values: Any) -> Samples:
    """(n,) or (n, channels); whole numbers are scaled by their type, bytes lie around 128."""
    array = np.asarray(values)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] > _CHANNELS:
        raise _Bad(
            "not_a_sound", f"has the shape {np.shape(values)}, and a sound has (samples,) or (samples, channels)"
        )
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / np.float32(128)
    if array.dtype.kind == "i":
        return np.asarray(array / float(2 ** (8 * array.dtype.itemsize - 1)), np.float32)
    if array.dtype.kind != "f":
        raise _Bad("not_a_sound", f"holds {array.dtype}, and a sound is made of numbers")
    return _finite(array.astype(np.float32, copy=False))


def _file(value: Any) -> _Opened:
    soundfile = _soundfile()
    try:
        file = soundfile.SoundFile(_handle(value))
    except OSError as error:
        raise _Bad("missing_file", f"cannot be read: {error.strerror or error}") from error
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:  # the latter for kinds without a header
        raise _why(value, error) from error
    frames, log = int(file.frames), str(file.extra_info)
    for said, there in _SHORTER.findall(log):
        if 0 < int(there) < int(said) < _ENDLESS:
            frames = max(frames, int(file.frames) * int(said) // int(there))
    if any(sign in log for sign in _CUT_OGG) and _HALF_A_PAGE in log:
        file.close()
        raise _Bad("cut_short", "ends early: the end of its Ogg stream is missing")
    slack = int(file.samplerate) // 10 if file.format == "MP3" else 0
    return _Opened(_blocks(file, value), int(file.samplerate), int(file.channels), frames, slack)


def _handle(value: Any) -> Any:
    """What soundfile opens; a file without content and a folder are told here."""
    if isinstance(value, (bytes, bytearray)):
        size = len(value)
    elif (path := Path(value)).is_dir():
        raise _Bad("not_a_sound", "is a folder")
    else:
        size = path.stat().st_size
    if not size:
        raise _Bad("empty_file", "is empty (0 bytes)")
    return io.BytesIO(value) if isinstance(value, (bytes, bytearray)) else str(path)


def _blocks(file: Any, value: Any) -> Iterator[Samples]:
    with file:
        while True:
            try:
                block = file.read(_BLOCK, dtype="float32", always_2d=True)
            except _soundfile().LibsndfileError as error:
                raise _why(value, error) from error
            if not len(block):
                return
            yield _finite(block)


def _finite(block: Samples) -> Samples:
    if not np.isfinite(block).all():
        raise _Bad("broken_file", "holds samples that are no finite numbers")
    return block


def _why(value: Any, error: Exception) -> _Bad:
    """What libsndfile says, or what the first bytes say where it does not know the format at all."""
    if isinstance(value, (bytes, bytearray)):
        start = bytes(value[:16])
    else:
        with open(value, "rb") as file:
            start = file.read(16)
    for (at, mark), kind in _KINDS.items():
        if start[at : at + len(mark)] == mark:
            return _Bad("not_a_sound", f"holds {kind}, which cannot be read as a sound; convert it to WAV or FLAC")
    said = str(getattr(error, "error_string", None) or error).removeprefix("Error : ").rstrip(".")
    known = any(start.startswith(mark) for mark in _SOUNDS) and "unimplemented" not in said
    return _Bad("broken_file" if known else "not_a_sound", f"cannot be read as a sound: {said}")


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
