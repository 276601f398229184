"""Fingerprints of sounds: whether two recordings are one, whatever their loudness, rate, coding or a small shift.

A frame of 64 ms, one every 8 ms, gives 32 bits: bit m says whether E(n, m) − E(n, m+1) grew since the frame before,
where E(n, m) is the energy of band m of 33 between 300 and 3000 Hz. Copies agree in most bits; two recordings of one
word by one speaker do not.

Source: Haitsma and Kalker 2002, A highly robust audio fingerprinting system (ISMIR). Theirs has frames of 370 ms, for
music of three seconds and more; words of a third of a second need shorter ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Print: TypeAlias = NDArray[np.uint32]  # (frames,)

RATE = 8000
SECONDS = 5.0  # from where the sound begins, that are looked at
FRAME, HOP = 512, 64
LEAST = 24  # frames of a sound that can be told from others
DIFFERS = 0.18  # share of bits up to which two sounds are one: 0.5 by chance
LOWEST = 6000  # samples a second below which the upper bands would be empty
_SAME = 0.36  # share of bits that differ a little later, below which a sound is a tone that goes on and on
_LATER = range(8, 25)  # frames: from where they share no sample
_LOW, _HIGH, _BANDS = 300.0, 3000.0, 33
_LOUD = 1e-3  # of the loudest frame: quieter ones at both ends are left out
_NOTHING = 1e-6  # energy that counts as none
_SLACK = 25  # frames (0.2 s) by which the beginnings or ends of copies may lie apart
_KEYS = 32  # frames of a sound, for each half of their bits, that others are found by
_BEFORE = 20  # others of one key that are looked at
_PROBED = 12  # frames around it, which must agree nearly as well
_PROBE_DIFFERS = 0.3


def print_of(samples: NDArray[np.float32]) -> Print:
    """The fingerprint of samples at `RATE`; empty where there is too little in them to be told by."""
    line = np.pad(samples, FRAME - HOP)
    frames = np.lib.stride_tricks.sliding_window_view(line, FRAME)[::HOP] if len(line) >= FRAME else line[:0, None]
    energy = np.empty((len(frames), _BANDS))
    edges = np.geomspace(_LOW, _HIGH, _BANDS + 1) * FRAME / RATE
    whole, part = edges.astype(np.int64), edges % 1
    for at in range(0, len(frames), 256):
        power = np.abs(np.fft.rfft(frames[at : at + 256] * np.hanning(FRAME).astype(np.float32))) ** 2
        summed = np.pad(np.cumsum(power, 1), ((0, 0), (1, 0)))
        until = summed[:, whole] * (1 - part) + summed[:, whole + 1] * part  # energy below each edge
        energy[at : at + 256] = np.diff(until)
    total = energy.sum(1)
    loud = np.flatnonzero(total > max(_NOTHING, _LOUD * total.max(initial=0.0)))
    if len(loud) < LEAST:
        return np.empty(0, np.uint32)
    bits = np.diff(-np.diff(energy), axis=0)[max(0, loud[0] - 1) : loud[-1]] > 0
    found = np.packbits(bits, 1, bitorder="little").view(np.uint32).ravel()
    return found if _changes(found) >= _SAME else found[:0]


def _changes(one: Print) -> float:
    """The least share of bits that differ between a sound and itself some frames later: tones are all alike."""
    lags = [lag for lag in _LATER if lag <= len(one) - _LATER[0]]
    return min(float(np.bitwise_count(one[:-lag] ^ one[lag:]).mean()) / 32 for lag in lags)


def differing(one: Print, other: Print, offset: int) -> float:
    """The share of bits that differ where frame i of one is frame i + offset of the other; 1 where they lie apart."""
    first, begin = max(0, -offset), max(0, offset)
    count = min(len(one) - first, len(other) - begin)
    if abs(offset) > _SLACK or count < max(len(one), len(other)) - 2 * _SLACK or count < LEAST:
        return 1.0
    unlike = one[first : first + count] ^ other[begin : begin + count]
    return float(np.bitwise_count(unlike).sum()) / (32 * count)


def near(prints: Mapping[int, Print], seconds: Mapping[int, float]) -> Iterator[tuple[int, int]]:
    """Pairs of places whose sounds are one: no more than `DIFFERS` of their bits differ.

    Sounds are compared that share one of their keys: 16 bits of a frame, of which each sound has 64, chosen by the
    value, so that copies choose the same ones. Of many with one key the 20 before are looked at, so that time grows
    with the number of sounds alone. Of sounds that go on beyond what was looked at the lengths must agree, too.
    """
    places = [i for i in sorted(prints) if len(prints[i])]
    if len(places) < 2:
        return
    sizes = np.array([len(prints[i]) for i in places])
    starts = np.cumsum(sizes) - sizes
    flat = np.concatenate([prints[i] for i in places])
    long = np.array([seconds[i] if seconds[i] > SECONDS else SECONDS for i in places])
    key, owner, at = _keys([prints[i] for i in places])
    seen: set[tuple[int, int]] = set()
    for back in range(1, _BEFORE + 1):
        later = np.flatnonzero(key[back:] == key[:-back]) + back
        a, b = owner[later - back], owner[later]
        offset = at[later] - at[later - back]
        apart = (abs(offset) > _SLACK) | (abs(sizes[a] - sizes[b]) > 2 * _SLACK)
        apart |= abs(long[a] - long[b]) > 2 * _SLACK * HOP / RATE
        a, b, first, offset = (x[~apart] for x in (a, b, at[later - back], offset))
        alike = _probed(flat, (starts[a], sizes[a], first), (starts[b], sizes[b], first + offset))
        for one, other, by in zip(a[alike].tolist(), b[alike].tolist(), offset[alike].tolist(), strict=True):
            pair = (min(one, other), max(one, other))
            if pair not in seen and differing(prints[places[one]], prints[places[other]], by) <= DIFFERS:
                seen.add(pair)
                yield places[pair[0]], places[pair[1]]


def _keys(prints: list[Print]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The keys of all sounds in order of their value, with the sound that each is of and its frame there."""
    found = []
    for number, one in enumerate(prints):
        for half in (0, 16):
            mixed = (one.astype(np.int64) >> half & 0xFFFF) * 40503 & 0xFFFF  # odd, so that every value has its own
            values, first = np.unique(mixed, return_index=True)
            values, first = values[:_KEYS] + (half << 12), first[:_KEYS]
            found.append(np.stack([values, np.full(len(values), number), first]))
    key, owner, at = np.concatenate(found, 1)
    order = np.argsort(key, kind="stable")
    return key[order], owner[order], at[order]


Place: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # starts, sizes, frames


def _probed(flat: Print, one: Place, other: Place) -> NDArray[np.bool_]:
    """Whether the frames around a place agree nearly as well as those of copies do."""
    unlike, count = np.zeros(len(one[0])), np.zeros(len(one[0]))
    for step in range(-_PROBED // 2, _PROBED // 2):
        here, there = one[2] + step, other[2] + step
        inside = (here >= 0) & (here < one[1]) & (there >= 0) & (there < other[1])
        bits = flat[np.where(inside, one[0] + here, 0)] ^ flat[np.where(inside, other[0] + there, 0)]
        unlike += np.where(inside, np.bitwise_count(bits), 0)
        count += inside
    return np.asarray(unlike <= _PROBE_DIFFERS * 32 * count)
