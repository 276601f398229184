"""Series whose pace says their class, and waves to forecast."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.backbones.fracast import Fracast
from acclimate.backbones.fracast_parts import Sizes

TINY = Sizes(width=8, hidden=8, stages=4, context=64, horizon=6, head_hidden=8, future_stages=2, future_seed=8)


def series(n: int, seed: int = 0, channels: int = 2, steps: int = 40) -> tuple[NDArray[np.float64], list[str]]:
    """Arrays (n, channels, steps), slow and fast waves in turn, and their labels."""
    rng = np.random.default_rng(seed)
    labels = ["slow" if i % 2 else "fast" for i in range(n)]
    pace = np.array([0.05 if label == "slow" else 0.2 for label in labels])[:, None, None]
    turn = rng.uniform(0, 6, (n, channels, 1))
    wave = np.sin(2 * np.pi * np.arange(steps) * pace + turn)
    return wave + 0.2 * rng.normal(size=(n, channels, steps)), labels


def npz(path: Path, n: int, seed: int = 0, rate: float = 50.0) -> Path:
    """An NPZ file of labelled series."""
    values, labels = series(n, seed)
    np.savez(path, values=values, label=np.array(labels), rate=rate)
    return path


def long(path: Path, n: int, seed: int = 0) -> Path:
    """The same with a line a step, the lines out of order."""
    values, labels = series(n, seed)
    rows = [(f"r{i}", t, *(f"{values[i, c, t]:.6f}" for c in range(2)), labels[i]) for i in range(n) for t in range(40)]
    order = np.random.default_rng(seed).permutation(len(rows))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("run", "t", "a", "b", "kind"))
        writer.writerows([rows[i] for i in order])
    return path


def waves(path: Path, steps: int = 400, seed: int = 0) -> Path:
    """A table with a line a step: two waves of 12 steps, one of them with a slope."""
    rng = np.random.default_rng(seed)
    at = np.arange(steps)
    first = 5 + np.sin(2 * np.pi * at / 12) + 0.1 * rng.normal(size=steps)
    second = 0.01 * at + np.cos(2 * np.pi * at / 12) + 0.1 * rng.normal(size=steps)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "a", "b"))
        writer.writerows((t, f"{first[t]:.5f}", f"{second[t]:.5f}") for t in range(steps))
    return path


def tiny_fracast() -> Fracast:
    """Random weights in the form of the package's."""
    torch.manual_seed(0)
    made = Fracast(TINY)
    for name, parameter in made.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter.data, std=0.3)
    return made
