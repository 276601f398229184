"""Which library reads a frozen network quickest on this machine, measured on the first pictures and exact on them.

PyTorch as it is sets the measure. Another runtime is taken only where its features differ from PyTorch's by no more
than `TOLERANCE` of the largest one, and where it took less time. What was chosen is kept in the cache folder by the
network's weights, the number of threads and the versions of the libraries, so that it is measured once.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones import exported
from acclimate.backbones.base import gap
from acclimate.backbones.folded import fold
from acclimate.files import json_text, write_text

TOLERANCE = 1e-5  # of the largest feature
TORCH, FOLDED = "torch", "torch-folded"
NAMES = (TORCH, FOLDED, *exported.LIBRARIES)
_AT_ONCE = 4  # pictures: the fewer, the more of what lies between two layers stays in the processor's cache
_PROBED = 8  # pictures that the measurement reads
_ROUNDS = 3
_GAIN = 0.95  # a runtime must take less than this share of the time of the one before it

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tried:
    """One runtime on the first pictures: its time as a share of PyTorch's and its error, or why it is not taken."""

    name: str
    time: float = float("nan")  # as a share of PyTorch's
    error: float = float("nan")  # largest difference, as a share of the largest feature
    why_not: str = ""

    def __str__(self) -> str:
        if self.why_not:
            return f"{self.name}: {self.why_not}"
        if math.isnan(self.time):
            return f"{self.name}: as chosen before, features equal to {self.error:.0e}"
        return f"{self.name}: {1 / self.time:.1f} times as fast as torch, features equal to {self.error:.0e}"


@dataclass(frozen=True)
class Network:
    """A frozen network, the side of the pictures that it takes, the hash of its weights and where files may be kept."""

    model: nn.Module
    size: int
    fingerprint: str
    folder: Path | None = None  # None: nothing is kept on disk

    @property
    def kept(self) -> Path | None:
        """The folder of this network alone."""
        return None if self.folder is None else self.folder / self.fingerprint


class Reader:
    """Reads pictures by the runtime that the first ones showed to be the quickest; `name` says which, once chosen."""

    def __init__(self, network: Network, wanted: str = "", say: Callable[[str], None] = lambda sentence: None) -> None:
        self.network = network
        self.threads = torch.get_num_threads()
        self.tried: list[Tried] = []
        self.name = ""
        self._wanted = wanted
        self._say = say
        self._run: Run | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, d)."""
        if self._run is None:
            self._run = self._chosen(pixels[:_PROBED])
        return in_parts(self._run, pixels)

    def _chosen(self, pixels: Tensor) -> Run:
        plain: Run = self.network.model
        expected = in_parts(plain, pixels)
        wanted = self._wanted or remembered(self.network, self.threads)
        if wanted in NAMES:  # chosen before: it must still be there and exact, but need not be measured again
            run, tried = admitted(wanted, self.network, pixels, expected)
            if run is not None:
                self.name, self.tried = wanted, [tried]
                self._say(f"features by {tried}")
                return run
        runs: dict[str, Run] = {}
        for name in NAMES:
            run, tried = admitted(name, self.network, pixels, expected)
            self.tried.append(tried)
            if run is not None:
                runs[name] = run
        seconds = _measured(runs, pixels)
        self.tried = [_timed(t, seconds) for t in self.tried]
        self.name = TORCH
        for name in runs:
            if seconds[name] < _GAIN * seconds[self.name]:
                self.name = name
        _remember(self.network, self.threads, self.name)
        self._say("features by " + next(str(t) for t in self.tried if t.name == self.name))
        return runs[self.name]

    def describe(self) -> list[str]:
        """One line for every runtime that was looked at: its speed, or why it is not used."""
        return [str(t) for t in self.tried]


def in_parts(run: Run, pixels: Tensor) -> Tensor:
    """`run` on a few pictures at a time, which is quicker on a processor, whatever the batch."""
    return torch.cat([run(pixels[i : i + _AT_ONCE]) for i in range(0, len(pixels), _AT_ONCE)])


def admitted(name: str, network: Network, pixels: Tensor, expected: Tensor) -> tuple[Run | None, Tried]:
    """The runtime where it exists and gives the expected features."""
    try:
        run = _made(name, network)
        found = in_parts(run, pixels)
    except exported.Missing as missing:
        return None, Tried(name, why_not=str(missing))
    except Exception as error:  # whatever a foreign library does with a network that it was not made for
        first = next(iter(str(error).strip().splitlines()), "")
        return None, Tried(name, why_not=f"cannot read this network ({type(error).__name__}: {first[:120]})")
    off = gap(expected, found)
    if off > TOLERANCE:
        return None, Tried(name, error=off, why_not=f"its features differ from torch's by {off:.0e} of the largest")
    return run, Tried(name, error=off)


def _made(name: str, network: Network) -> Run:
    if name == TORCH:
        return network.model
    if name == FOLDED:
        return fold(network.model, network.size)
    return exported.open_with(name, network.model, network.size, network.kept)


def _measured(runs: dict[str, Run], pixels: Tensor) -> dict[str, float]:
    """The least seconds of every runtime over a few rounds, taken in turn so that what else runs hits all alike."""
    seconds = dict.fromkeys(runs, float("inf"))
    for _, name in itertools.product(range(_ROUNDS), runs):
        began = time.perf_counter()
        in_parts(runs[name], pixels)
        seconds[name] = min(seconds[name], time.perf_counter() - began)
    return seconds


def _timed(tried: Tried, seconds: dict[str, float]) -> Tried:
    share = seconds.get(tried.name, float("nan")) / seconds[TORCH]
    return Tried(tried.name, share, tried.error, tried.why_not)


# -- what was chosen before --------------------------------------------------------------------------------------------


def _circumstances(threads: int) -> dict[str, Any]:
    """What a measurement depends on, besides the machine that the cache folder lies on."""
    versions = {}
    for library in ("torch", *exported.LIBRARIES):
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = ""
    return {"threads": threads, **versions}


def remembered(network: Network, threads: int) -> str:
    """The runtime that was chosen for this network under the same circumstances; empty where none was."""
    if network.kept is None:
        return ""
    try:
        found = json.loads((network.kept / "runtime.json").read_text(encoding="utf-8"))
        return str(found["name"]) if found["measured_with"] == _circumstances(threads) else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _remember(network: Network, threads: int, name: str) -> None:
    if network.kept is None:
        return
    try:
        exported.private_folder(network.kept)
        about = {"name": name, "measured_with": _circumstances(threads)}
        write_text(network.kept / "runtime.json", json_text(about, indent=1))
    except OSError:
        return  # a cache that cannot be written costs a measurement, not the run
