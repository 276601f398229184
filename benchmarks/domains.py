"""Real pairs of domains as features and labels, for benchmarks; nothing is run here."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import raw
import torch
from raw import patients, reviews, snippets

from acclimate.backbones import Backbone, Batch, Encoded, Origin, load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run

MOST = 1600  # rows of a domain
BANDS, CEPSTRA, PARTS = 40, 20, 5  # of a spoken digit


class Domain(NamedTuple):
    """Rows of one source."""

    x: Any  # (n, d) or (n, h, w), float32
    y: Any  # (n,) whole numbers

    def take(self, at: Any) -> Domain:
        """Some of the rows."""
        return Domain(self.x[at], self.y[at])

    def inputs(self) -> tuple[Any, ...]:
        """Pictures as they are; flat features as the text of their bytes, since rows are told apart as texts are."""
        return tuple(self.x) if self.x.ndim > 2 else tuple(row.tobytes().hex() for row in self.x)

    def data(self) -> Data:
        """The same as a strategy reads it."""
        return Data(self.inputs(), tuple(int(label) for label in self.y))


class Given(Backbone):
    """Features that are there already."""

    modality = "table"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.origin = width, Origin("given")

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """The bytes that `Domain.inputs` wrote."""
        return [Encoded((np.frombuffer(bytes.fromhex(row), np.float32),), 1) for row in inputs]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """(n, d)."""
        return {"x": torch.from_numpy(np.stack([row.parts[0] for row in rows]))}

    def forward(self, batch: Batch) -> torch.Tensor:
        """The same."""
        return batch["x"]

    @property
    def blocks(self) -> list[torch.nn.Module]:
        """None."""
        return []

    def settings(self) -> dict[str, object]:
        """The width."""
        return {"width": self.width}

    def save(self, folder: Path) -> None:
        """Not needed here."""
        raise NotImplementedError

    def clone(self) -> Given:
        """Nothing in it can move."""
        return Given(self.width)


def sentences(folder: Path) -> dict[str, Domain]:
    """Sentiment of sentences of seven kinds, through MiniLM; of the long ones twice `MOST` rows."""
    store = Store(load("minilm"), Run(cache=cache.features()))
    found = {}
    for name, rows in snippets(folder).items():
        some = [rows[i] for i in np.random.default_rng(7).permutation(len(rows))[: 2 * MOST]]
        found[name] = ([row.text for row in some], [row.label for row in some])
    for name, pairs in reviews(folder).items():
        found[name] = ([text for text, _ in pairs], [label for _, label in pairs])
    return {name: Domain(store.get(text), np.array(y)) for name, (text, y) in found.items()}


def heart(folder: Path) -> dict[str, Domain]:
    """Raw columns of the patients of each site."""
    rows = patients(folder)
    every = Domain(rows.x.astype(np.float32), rows.y)
    return {str(site): every.take(np.flatnonzero(rows.site == site)) for site in np.unique(rows.site)}


def speakers(folder: Path) -> dict[str, Domain]:
    """Spoken digits of six people: 20 cepstra, their means in five parts of the recording and their spread."""
    rows: dict[str, list[tuple[Any, int]]] = {}
    for path in sorted((folder / "fsdd" / "recordings").glob("*.wav")):
        digit, speaker, _ = path.stem.split("_")
        rows.setdefault(speaker, []).append((spectral(path), int(digit)))
    return {
        name: Domain(np.stack([x for x, _ in found]).astype(np.float32), np.array([y for _, y in found]))
        for name, found in rows.items()
    }


def spectral(path: Path) -> Any:
    """(120,): windows of 32 ms every 16 ms, logarithms of 40 mel bands, their cosine transform."""
    with wave.open(str(path)) as file:
        rate, sound = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    size, step = rate * 32 // 1000, rate * 16 // 1000
    sound = np.pad(sound, (0, max(0, size + (PARTS - 1) * step - len(sound))))
    windows = np.lib.stride_tricks.sliding_window_view(sound, size)[::step] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), BANDS + 2) / 2595) - 1)
    at = np.fft.rfftfreq(size, 1 / rate)
    rise = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    bands = np.log(power @ np.maximum(0, np.minimum(rise, fall)).T + 1e-8)
    waves = np.cos(np.pi * np.arange(1, CEPSTRA + 1)[:, None] * (np.arange(BANDS) + 0.5) / BANDS)
    cepstra = bands @ waves.T / BANDS
    means = [part.mean(0) for part in np.array_split(cepstra, PARTS)]
    return np.concatenate([*means, cepstra.std(0)])


def digits() -> dict[str, Domain]:
    """Two kinds of written digits as pictures (8, 8)."""
    return {name: Domain(x, y) for name, (x, y) in raw.digits(np.float32).items()}


def drawn(source: Domain, target: Domain, seed: int) -> tuple[Domain, Domain, Domain]:
    """At most `MOST` source rows, and halves of the target: one to adapt to (as many at most), one to be judged by.

    Flat features are standardised by the source rows drawn.
    """
    rng = np.random.default_rng(seed)
    learn = source.take(rng.permutation(len(source.y))[:MOST])
    order = rng.permutation(len(target.y))
    half = len(order) // 2
    parts = learn, target.take(order[:half][:MOST]), target.take(order[half:])
    if source.x.ndim > 2:
        return parts
    mean, spread = learn.x.mean(0), learn.x.std(0)
    spread = np.maximum(spread, 0.05 * spread.mean())  # a column that hardly varies is not blown up
    one, two, three = (Domain(((p.x - mean) / spread).astype(np.float32), p.y) for p in parts)
    return one, two, three
