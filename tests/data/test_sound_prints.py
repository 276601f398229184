"""Copies of a sound are found whatever their loudness, rate, coding or a small shift; other sounds are not taken for
them."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acclimate.data import sound_prints as prints
from acclimate.data.kinds.audio import AUDIO
from acclimate.data.sounds import examine

sf = pytest.importorskip("soundfile", reason="sounds need the `audio` extra")
soxr = pytest.importorskip("soxr", reason="sounds need the `audio` extra")

FSDD = Path(__file__).parents[2].parent / "shared" / "data" / "fsdd" / "recordings"
Line = np.ndarray[Any, Any]


def babble(seed: int, seconds: float = 0.8, rate: int = 8000) -> Line:
    """Four gliding tones that come and go, in a little noise: as unsteady as speech."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, round(seconds * rate))
    line = 0.01 * rng.normal(size=len(at))
    knots = np.linspace(0, 1, 2 + round(6 * seconds))
    for low, high in ((200, 600), (500, 1200), (1000, 2000), (1800, 3000)):
        pitch = np.interp(at, knots, rng.uniform(low, high, len(knots)))
        loud = np.interp(at, knots, rng.uniform(0, 0.15, len(knots)))
        line += loud * np.sin(2 * np.pi * np.cumsum(pitch) / rate)
    return line.astype(np.float32)


def coded(line: Line, kind: str, subtype: str | None = None, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    sf.write(out, np.clip(line, -1, 1), rate, format=kind, subtype=subtype)
    return out.getvalue()


def copies(line: Line) -> dict[str, Any]:
    high = soxr.resample(line, 8000, 44100)
    return {
        "quieter": (0.2 * line, 8000),
        "two channels at 44.1 kHz": (np.stack([high, high], 1), 44100),
        "mp3": coded(line, "MP3"),
        "mp3 at 44.1 kHz": coded(high, "MP3", rate=44100),
        "ogg": coded(line, "OGG", "VORBIS"),
        "µ-law": coded(line, "WAV", "ULAW"),
        "later, after silence": (np.concatenate([np.zeros(1201, np.float32), line]), 8000),
        "20 ms cut off": (line[160:], 8000),
    }


def test_copies_are_one_cluster_and_other_sounds_are_not() -> None:
    given: list[Any] = []
    expected: list[int] = []
    for seed in range(6):
        one = [(babble(seed), 8000), *copies(babble(seed)).values()]
        given += one
        expected += [seed] * len(one)
    assert AUDIO.clusters(given, AUDIO.keys(given)).tolist() == expected


def test_pairs_are_those_of_all_comparisons() -> None:
    found = [print_of((babble(seed), 8000)) for seed in range(8)]
    found += [print_of(copy) for copy in copies(babble(3)).values()]
    places = dict(enumerate(found))
    expected = {
        (a, b)
        for a, b in combinations(places, 2)
        if min(prints.differing(found[a], found[b], by) for by in range(-25, 26)) <= prints.DIFFERS
    }
    assert set(prints.near(places, dict.fromkeys(places, 0.8))) == expected
    assert {pair for pair in expected if 3 in pair} == {(3, other) for other in range(8, 16)}


def print_of(sound: Any) -> prints.Print:
    return np.frombuffer(examine(sound).heard, np.uint32)


def test_bits_are_those_of_the_formula() -> None:
    line = babble(0, 0.4)
    found = prints.print_of(line)
    padded = np.pad(line, prints.FRAME - prints.HOP).astype(np.float64)
    edges = [300 * 10 ** (m / 33) * 512 / 8000 for m in range(34)]
    rows = []
    for at in range(0, len(padded) - 511, 64):
        power = np.abs(np.fft.rfft(padded[at : at + 512] * np.hanning(512))) ** 2
        rows.append(
            [
                sum(p * max(0.0, min(high, k + 1) - max(low, k)) for k, p in enumerate(power))
                for low, high in zip(edges[:-1], edges[1:], strict=True)
            ]
        )
    grown = [
        [rows[n][m] - rows[n][m + 1] > rows[n - 1][m] - rows[n - 1][m + 1] for m in range(32)]
        for n in range(1, len(rows))
    ]
    expected = np.array([sum(bit << m for m, bit in enumerate(bits)) for bits in grown], np.uint32)
    first = next(i for i in range(len(expected)) if expected[i] == found[0])
    unlike = np.bitwise_count(found ^ expected[first : first + len(found)]).sum()
    assert unlike <= 2  # of 32 bits a frame: float32 rounds


def test_tones_noise_and_what_is_short_or_silent_are_not_taken_for_copies() -> None:
    at = np.arange(8000) / 8000
    tones = [(0.3 * np.sin(2 * np.pi * pitch * at[:n]).astype(np.float32), 8000) for pitch in (400, 405, 1000, 2500)
             for n in (5000, 8000)]  # fmt: skip
    noise = [(np.random.default_rng(seed).normal(0, 0.1, 8000).astype(np.float32), 8000) for seed in range(4)]
    others = [(babble(0, 0.1), 8000), (np.zeros(8000, np.float32), 8000), (np.full(8000, 0.2, np.float32), 8000)]
    given = [*tones, *noise, *others, (babble(0)[::2], 4000)]
    assert AUDIO.clusters(given, AUDIO.keys(given)).tolist() == list(range(len(given)))
    assert all(not examine(sound).heard for sound in [*tones, *others, given[-1]])


def test_long_sounds_that_begin_alike_are_told_by_their_length() -> None:
    start = babble(0, 6.0)
    long = [(np.concatenate([start, babble(seed, 2.0 + seed)]), 8000) for seed in (0, 1)]
    given = [*long, (0.5 * long[0][0], 8000)]
    assert AUDIO.clusters(given, AUDIO.keys(given)).tolist() == [0, 1, 0]
    assert len(print_of(long[0])) <= 5 * 125 + 8


def test_many_copies_of_one_sound_take_no_longer_than_many_sounds() -> None:
    looked: list[int] = []
    one = prints.print_of(babble(0))
    places = dict.fromkeys(range(200), one)
    for a, b in prints.near(places, dict.fromkeys(places, 0.8)):
        looked.append(b - a)
    assert max(looked) <= 20 and len(looked) == sum(min(20, i) for i in range(200))


@pytest.mark.skipif(not FSDD.is_dir(), reason="the recordings are not here")
def test_two_recordings_of_a_word_by_one_speaker_are_two() -> None:
    paths = [str(p) for p in sorted(FSDD.glob("[67]_*.wav"))]
    clusters = AUDIO.clusters(paths, AUDIO.keys(paths))
    assert len(paths) > 500 and len(set(clusters.tolist())) == len(paths)
