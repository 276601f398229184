"""Features of inputs through a frozen backbone: computed once, kept on disk, found again by content."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.backbones.base import Backbone, Batch, budgeted
from acclimate.run import Run

TOKENS_A_BATCH = 1024  # keeps the activations of small encoders near the processor's cache
ROWS_A_BATCH = 128
ON_A_GPU = 32  # times as much a batch: a GPU has no such cache and waits for every launch

Features = NDArray[np.float32]


def to_device(batch: Batch, device: str) -> Batch:
    """Every tensor of a batch on `device`, but for `lengths`: the host reads them, and would wait for a GPU."""
    return {key: value if key == "lengths" else value.to(device, non_blocking=True) for key, value in batch.items()}


def extract(backbone: Backbone, inputs: Sequence[Any], run: Run) -> Features:
    """Features (n, d), fp32, of every input in order; the backbone is put into eval mode and left on `run.device`."""
    rows = backbone.encode(inputs)
    out = np.empty((len(rows), backbone.width), np.float32)
    backbone.eval().to(run.device)
    costs = [row.cost for row in rows]
    times = 1 if run.device == "cpu" else ON_A_GPU
    batches = budgeted(costs, times * TOKENS_A_BATCH, times * ROWS_A_BATCH)
    reading = backbone.reading(sum(costs))
    with torch.inference_mode(), reading, run.progress.steps("features", len(rows)) as advance:
        made = ahead(lambda at: backbone.collate([rows[i] for i in at]), batches, run.num_workers)
        for at, batch in zip(batches, made, strict=True):
            out[at] = backbone(to_device(batch, run.device)).float().cpu().numpy()
            advance(len(at))
    return out


def ahead(make: Callable[[list[int]], Batch], batches: Sequence[list[int]], workers: int) -> Iterator[Batch]:
    """`make` of every batch, in order; workers are threads that make two batches each ahead, with the same results."""
    if workers < 1:
        yield from map(make, batches)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(make, at) for at in batches[: 2 * workers])
        for at in [*batches[2 * workers :], *[None] * len(waiting)]:
            yield waiting.popleft().result()
            if at is not None:
                waiting.append(pool.submit(make, at))


class Store:
    """Features of one frozen backbone, by content: every distinct input is computed once, in memory and on disk.

    On disk a store is a folder named by the fingerprint of weights and preprocessing; each extraction adds one pair of
    files, keys and values, so that two processes never write to the same file and a half-written pair is ignored.
    """

    def __init__(self, backbone: Backbone, run: Run) -> None:
        self.backbone = backbone.requires_grad_(False)  # what is frozen stays in eval mode, whoever calls train()
        self.run = run
        self._rows: dict[bytes, tuple[int, int]] = {}  # key -> (which array, which row)
        self._arrays: list[Features] = []
        self.folder: Path | None = None
        if run.cache is not None:
            self.folder = run.cache / backbone.fingerprint()
            try:
                self._open(self.folder)
            except OSError as error:
                self._without_cache(error)

    def _keep(self, folder: Path, keys: list[bytes], values: Features) -> None:
        try:
            _write(folder, keys, values)
        except OSError as error:
            self._without_cache(error)

    def _without_cache(self, error: OSError) -> None:
        """A cache that cannot be used costs time, not the run."""
        self.run.progress.say(f"note: features are not kept on disk ({error.strerror or error}: {self.folder})")
        self.folder = None

    def _open(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)  # features of private texts are private
        for keys_file in sorted(folder.glob("*.keys.npy")):
            values_file = keys_file.with_name(keys_file.name.replace(".keys.", ".values."))
            try:
                keys = np.load(keys_file)
                values = np.load(values_file, mmap_mode="r")
            except (OSError, ValueError, EOFError):
                continue  # written by a process that was killed, or being written now
            if keys.shape == (len(values), 16) and values.shape[1:] == (self.backbone.width,):
                self._add([bytes(k) for k in keys], values)

    def _add(self, keys: Sequence[bytes], values: Features) -> None:
        self._arrays.append(values)
        for row, key in enumerate(keys):
            self._rows[key] = (len(self._arrays) - 1, row)

    def get(self, inputs: Sequence[Any]) -> Features:
        """Features (n, d) in the order of `inputs`; only what is not known yet is computed."""
        keys = [key_of(x) for x in inputs]
        fresh = {k: i for i, k in enumerate(keys) if k not in self._rows}
        if fresh:
            values = extract(self.backbone, [inputs[i] for i in fresh.values()], self.run)
            self._add(list(fresh), values)
            if self.folder is not None:
                self._keep(self.folder, list(fresh), values)
        out = np.empty((len(keys), self.backbone.width), np.float32)
        for i, key in enumerate(keys):
            array, row = self._rows[key]
            out[i] = self._arrays[array][row]
        return out


def key_of(value: Any) -> bytes:
    """A 16-byte hash of one raw input."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, bytes) else value.hex()
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _write(folder: Path, keys: list[bytes], values: Features) -> None:
    name = uuid.uuid4().hex
    packed = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 16)
    # Values first: a pair counts as there once its keys are.
    for kind, array in (("values", values), ("keys", packed)):
        temporary = folder / f".{name}.{kind}.tmp"
        with open(temporary, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            np.save(file, array)
        os.replace(temporary, folder / f"{name}.{kind}.npy")
