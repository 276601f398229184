"""Sounds: files named in a column or found in a folder, or arrays with their rate."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.data import sounds
from acclimate.data.duplicates import connected
from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.folders import file_of
from acclimate.data.kinds.base import Kind, Reading
from acclimate.data.kinds.files import empty, path_cells, read_files
from acclimate.data.rows import Columns, Data, Input, IntArray, Table
from acclimate.data.sound_prints import near
from acclimate.errors import UserError
from acclimate.keys import key_of
from acclimate.progress import Progress

_CLIPPED = 1e-3  # share of samples from which a sound is named
_SHORT = 0.1  # seconds
_LONG = 600.0  # seconds of a longer sound that are drawn
_WIDE, _HIGH = 256, 48  # pixels of the picture of a sound
_PLAYED = 10.0  # seconds of a sound in a report
_RATE = 16000


def read(table: Table, columns: Columns, progress: Progress) -> Reading:
    """What the file column names, read once to its end. Paths are relative to the table's folder."""
    return read_files(table, columns, progress, "listening to sounds", _one, sounds.examine, lambda heard: heard.reason)


def given(value: Any, columns: Columns, position: int) -> Input | None:
    """A path, the bytes of a file, or an array with its rate; None for one that is missing."""
    if empty(value):
        return None
    one = _one(value, Path())
    heard = sounds.examine(one)
    if heard.problem:
        raise UserError(f"input {position + 1} ({sounds.name_of(one)}) {heard.problem}; give a sound that can be read")
    return one


def _one(cell: Any, base: Path) -> Any:
    """As `folders.file_of`; a decoded sound of the library datasets becomes (array, rate)."""
    if isinstance(cell, dict) and {"array", "sampling_rate"} <= cell.keys():
        return np.asarray(cell["array"]), int(cell["sampling_rate"])
    if sounds.is_pair(cell):
        return np.asarray(cell[0]), int(cell[1])
    return file_of(cell, base)


def is_single(value: Any) -> bool:
    """The bytes of a file, or an array with its rate."""
    return isinstance(value, bytes) or sounds.is_pair(value)


def keys(inputs: Sequence[Input]) -> list[str]:
    """By the bytes of the file, or the samples of what lies in memory."""
    return [key_of(one, "audio").hex() for one in inputs]


def clusters(inputs: Sequence[Input], own: Sequence[str]) -> IntArray:
    """Sounds of one content, or nearly so: of another format, loudness, rate or coding, shifted a little."""
    first: dict[str, int] = {}
    of_key = [first.setdefault(key, i) for i, key in enumerate(own)]
    heard = {i: sounds.examine(inputs[i]) for i in first.values()}
    content: dict[bytes, int] = {}
    same = [(content.setdefault(heard[i].content, i), i) for i in heard]
    prints = {i: np.frombuffer(heard[i].heard, np.uint32) for i in content.values()}
    close = near(prints, {i: heard[i].seconds for i in prints})
    return connected(of_key, chain(same, close))


def findings(data: Data, private: bool) -> list[Finding]:
    """How long the sounds are, and their rates; silent, clipped, very short and very long ones."""
    heard = [sounds.examine(one) for one in data.inputs]
    if not heard:
        return []
    seconds = np.array([s.seconds for s in heard])
    low, middle, high = np.quantile(seconds, [0, 0.5, 1])
    text = f"sounds last {low:.3g} to {high:.3g} s, the median is {middle:.3g} s; {seconds.sum() / 3600:.2g} h in all"
    out = [finding("sound_length", "info", text, len(heard))]
    rates = Counter(s.rate for s in heard)
    if len(rates) > 1:
        listed = ", ".join(f"{rate:,} Hz ({rows_text(n)})" for rate, n in rates.most_common(5))
        text = f"sounds have {len(rates)} sampling rates: {listed}; does that go with the label?"
        out.append(finding("mixed_rates", "info", text, len(heard) - max(rates.values())))
    for kind, severity, which, said in (
        ("silent_sound", "warning", [s.silent == 1.0 for s in heard],
         "nothing but silence (60 dB and more below full scale)"),
        ("clipped_sound", "warning", [s.clipped > _CLIPPED for s in heard],
         "a clipped sound (more than 1 of 1,000 samples at full scale, three or more in a row): it was recorded too "
         "loud"),
        ("short_sound", "info", [s.seconds < _SHORT for s in heard], f"a sound of less than {_SHORT} s"),
    ):  # fmt: skip
        lines = [n for yes, n in zip(which, data.lines, strict=True) if yes]
        if lines:
            text = f"{rows_text(len(lines))} {verb(len(lines), 'hold')} {said}"
            out.append(finding(kind, severity, text, len(lines), lines))
    return out


def _shown(value: Input) -> Any:
    if isinstance(value, str):
        return value
    return f"{sounds.name_of(value)} ({sounds.seconds_of(value):.3g} s)"


def _picture(value: Input) -> str:
    """How loud it is over time, as a drawing."""
    samples = sounds.read(value, _RATE, _LONG)
    parts = np.array_split(np.abs(samples), min(_WIDE, len(samples)))
    heights = np.array([part.max() for part in parts])
    heights = heights / max(float(heights.max()), 1e-9) * (_HIGH / 2 - 1)
    step, middle = _WIDE / len(heights), _HIGH / 2
    lines = "".join(
        f"M{(i + 0.5) * step:.1f} {middle - h:.1f}V{middle + h + 0.5:.1f}" for i, h in enumerate(heights.tolist())
    )
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{_HIGH}" viewBox="0 0 {_WIDE} {_HIGH}">'
        f'<path d="{lines}" stroke="#4a6fa5" stroke-width="{max(1.0, 0.7 * step):.1f}" fill="none"/></svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()


def _played(value: Input) -> str:
    return "data:audio/mpeg;base64," + base64.b64encode(sounds.as_mp3(value, _PLAYED)).decode()


AUDIO = Kind(
    name="audio",
    noun="sound",
    plural="sounds",
    models=("audio",),
    model="whisper-tiny",
    baseline="spectra",
    blank="no sound named",
    near="but for loudness, rate, coding or a small shift",
    read=read,
    given=given,
    keys=keys,
    exact=keys,
    clusters=clusters,
    findings=findings,
    shown=_shown,
    cells=path_cells,
    single=is_single,
    picture=_picture,
    played=_played,
)
