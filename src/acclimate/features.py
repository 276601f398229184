"""Features of inputs through a frozen backbone: computed once, kept on disk, found again by content."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate import ranks
from acclimate.backbones.base import Backbone, Batch, Encoded, budgeted
from acclimate.catalogue import cache as places
from acclimate.catalogue import feature_folders as folders
from acclimate.catalogue import feature_parts as parts
from acclimate.errors import UserError, plural, unknown
from acclimate.keys import FROM_FILES, key_of
from acclimate.oom import NoRoom, out_of_memory
from acclimate.run import Run

TOKENS_A_BATCH = 1024  # keeps the activations of small encoders near the processor's cache
ROWS_A_BATCH = 128
ROWS_A_PART = 8192  # computed at a time, and kept when they are done
DTYPES = {"fp32": np.float32, "fp16": np.float16}
ON_A_GPU = 32  # times as much a batch: a GPU has no such cache and waits for every launch

Features = NDArray[np.float32]
Steps = AbstractContextManager[Callable[[int], None]]
T = TypeVar("T")


def to_device(batch: Batch, device: str) -> Batch:
    """Every tensor of a batch on `device`, but for `lengths`: the host reads them, and would wait for a GPU."""
    return {key: value if key == "lengths" else value.to(device, non_blocking=True) for key, value in batch.items()}


def extract(
    backbone: Backbone, inputs: Sequence[Any], run: Run, progress: Steps | None = None, *, shared: bool = False
) -> Features:
    """Features (n, d), fp32, of every input in order; the backbone is put into eval mode and left on `run.device`.

    `progress` takes the place of steps of its own where these rows are a part of more. With `shared`, which all
    processes must ask for together, each reads its share of the batches, and all get the same bits as one alone.
    """
    rows = backbone.encode_later(inputs)
    out = np.empty((len(rows), backbone.width), np.float32)
    backbone.eval().to(run.device)
    costs = [row.cost for row in rows]
    times = 1 if run.device == "cpu" else ON_A_GPU
    batches = budgeted(costs, times * TOKENS_A_BATCH, times * ROWS_A_BATCH)
    reading = backbone.reading(sum(costs), run.progress.say_once)
    progress = progress or run.progress.steps("features", len(rows))
    with torch.inference_mode(), reading, progress as advance:
        mine = ranks.share(batches) if shared else batches
        made = ahead(lambda at: backbone.collate([rows[i] for i in at]), mine, run.num_workers)
        for at, batch in zip(mine, made, strict=True):
            out[at] = _read(backbone, rows, at, batch, run)
            advance(len(at) if len(mine) == len(batches) else len(at) * len(batches) // len(mine))
    return _gathered(out, [i for at in mine for i in at], run) if shared and ranks.world() > 1 else out


def _gathered(out: Features, mine: list[int], run: Run) -> Features:
    """The rows of all processes in each of them. Bits are summed as whole numbers: a sum of floats loses −0."""
    bits = np.zeros(out.shape, np.int32)
    bits[mine] = out[mine].view(np.int32)
    everyone = ranks.summed(torch.from_numpy(bits).to(run.device))
    return everyone.cpu().numpy().view(np.float32)


def _read(backbone: Backbone, rows: Sequence[Encoded], at: list[int], batch: Batch, run: Run) -> Features:
    """Features of one batch; in halves where memory is too small for it at once."""
    try:
        return np.asarray(backbone(to_device(batch, run.device)).float().cpu().numpy())
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    if len(at) == 1:
        raise NoRoom(
            "there is not enough memory to read a single input; lower --max-length, or choose a smaller --model"
        )
    run.progress.say_once(f"out of memory with {plural(len(at), 'input')} at once: reading them in halves")
    middle = len(at) // 2
    parts = [_read(backbone, rows, p, backbone.collate([rows[i] for i in p]), run) for p in (at[:middle], at[middle:])]
    return np.concatenate(parts)


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

    On disk a store is a folder named by the fingerprint of weights and preprocessing. What a long extraction gives is
    added part by part, so that a killed one keeps what it had; values are mapped, not read into memory.
    """

    def __init__(self, backbone: Backbone, run: Run) -> None:
        self.backbone = backbone.requires_grad_(False)  # what is frozen stays in eval mode, whoever calls train()
        self.run = run
        for part in backbone.parts.values():  # kept by themselves: what columns hold may be learned anew
            if run.cache is not None or not part.kept:  # what one in memory alone knows would be lost
                part.get, part.kept = Store(part.backbone, run).get, True
        if run.feature_dtype not in DTYPES:
            raise unknown("feature_dtype", run.feature_dtype, DTYPES)
        self._dtype = np.dtype(DTYPES[run.feature_dtype])
        self._limit = places.limit()
        self._index = Index(backbone.width)
        self._in_use: object = None  # while it is held, nobody removes the folder
        self.folder: Path | None = None
        if run.cache is not None:
            rounded = "" if run.feature_dtype == "fp32" else f"-{run.feature_dtype}"
            self.folder = run.cache / (backbone.fingerprint() + rounded)
            self._on_disk(self._open)

    def missing(self, inputs: Sequence[Any]) -> list[Any]:
        """Those inputs, each once, whose features are not known yet."""
        keys = self._keys_of(inputs)
        return [inputs[i] for i in self._fresh(keys)]

    def get(self, inputs: Sequence[Any]) -> Features:
        """Features (n, d) in the order of `inputs`; only what is not known yet is computed."""
        rows = self._rows(inputs)  # first, since a merge puts another index in place
        return self._index.values(rows)

    def prepare(self, inputs: Sequence[Any]) -> None:
        """Compute and keep what is not known yet, part by part, without having all of it in memory."""
        self._rows(inputs)

    def _keys_of(self, inputs: Sequence[Any]) -> parts.Keys:
        joined = bytearray()  # three times smaller than a list of keys
        for value in inputs:
            joined += key_of(value, self.backbone.modality)
        return np.frombuffer(joined, parts.KEY)

    def _rows(self, inputs: Sequence[Any]) -> NDArray[np.intp]:
        keys = self._keys_of(inputs)
        fresh = ranks.agreed(self._fresh(keys))
        if len(fresh):
            self._compute(inputs, keys, fresh, shared=True)
        if len(fresh) and ranks.world() > 1:
            ranks.by_first(lambda: None)  # the first process has written all of it
            if not ranks.first() and self.folder is not None:
                self._on_disk(self._read)  # maps it, in the place of a copy in memory
        if len(others := self._fresh(keys)):  # what the first process found on disk and this one did not
            self._compute(inputs, keys, others, shared=False)
        if self.folder is not None:
            folders.used(self.folder)
        return self._index.rows(keys)

    def _fresh(self, keys: parts.Keys) -> NDArray[np.intp]:
        """Positions of the keys that are not known, each once."""
        missing = np.flatnonzero(self._index.rows(keys) < 0)
        return missing[np.sort(parts.first_of_each(keys[missing]))]

    def _compute(self, inputs: Sequence[Any], keys: parts.Keys, fresh: NDArray[np.intp], *, shared: bool) -> None:
        with self.run.progress.steps("features", len(fresh)) as advance:
            for at in range(0, len(fresh), ROWS_A_PART):
                some = fresh[at : at + ROWS_A_PART]
                rows = [inputs[i] for i in some]
                made = extract(self.backbone, rows, self.run, nullcontext(advance), shared=shared)
                self._unchanged(rows, keys[some])
                self._keep(keys[some], self._rounded(made))
                del made  # gone before the next part is computed

    def _unchanged(self, rows: Sequence[Any], keys: parts.Keys) -> None:
        """Refuse to keep features of files that were replaced while they were read, under what they held before."""
        if self.backbone.modality not in FROM_FILES:
            return
        other = np.flatnonzero(self._keys_of(rows) != keys)
        if len(other):
            raise UserError(
                f"{len(other)} file{'s' if len(other) > 1 else ''} changed while features were computed, first "
                f"{rows[int(other[0])]}; leave the files alone and run it again"
            )

    def _rounded(self, values: Features) -> parts.Values:
        with np.errstate(over="ignore"):
            rounded = values.astype(self._dtype, copy=False)
        if self._dtype != np.float32 and np.any(np.isinf(rounded) & np.isfinite(values)):
            most = float(np.abs(values[np.isfinite(values)]).max())
            raise UserError(
                f"features of {self.backbone.origin.name} reach {most:.3g}, beyond the largest number of fp16 (65504); "
                "keep them with feature_dtype 'fp32'"
            )
        return rounded

    def _keep(self, keys: parts.Keys, values: parts.Values) -> None:
        added = parts.Part(keys, values)
        if self.folder is not None and ranks.first():
            folder, block = self.folder, iter([values])
            on_disk = self._on_disk(lambda: parts.write(folder, keys, block, self.backbone.width, self._dtype))
            added = on_disk or added
        self._index.add(added)
        if self.folder is not None and ranks.first():
            self._on_disk(self._tidy)

    def _open(self) -> None:
        assert self.folder is not None
        precision = self.backbone.settings().get("precision", "fp32")
        name = self.backbone.origin.name + ("" if precision == "fp32" else f", {precision}")
        about = {
            "model": name,
            "modality": self.backbone.modality,
            "width": self.backbone.width,
            "dtype": self.run.feature_dtype,
        }
        self._in_use = folders.opened(self.folder, about)
        parts.tidy(self.folder, self.backbone.width, self._dtype)
        self._read()

    def _read(self) -> None:
        """What is on disk takes the place of what is known, unless somebody removed files that are still mapped."""
        assert self.folder is not None
        found = Index(self.backbone.width)
        for part in parts.read(self.folder, self.backbone.width, self._dtype):
            found.add(part)
        if found.holds(self._index):
            self._index = found

    def _tidy(self) -> None:
        """Merge small parts, and remove what was not used for longest where the limit is passed."""
        assert self.folder is not None
        small = sum(len(part.keys) < parts.SMALL for part in self._index.parts)
        if small > parts.MOST and parts.tidy(self.folder, self.backbone.width, self._dtype):
            self._read()  # the old parts would take up space on disk as long as they are mapped
        gone, left = folders.make_room(self.folder.parent, self._limit)
        for name in gone:
            self.run.progress.say(f"removed the features of {name} from the cache to keep it within {_gb(self._limit)}")
        if self._limit and left > self._limit:
            self.run.progress.say_once(
                f"note: the features in use take more than {_gb(self._limit)}, the limit (`acclimate cache --limit`); "
                "they are kept until their runs end"
            )

    def _on_disk(self, do: Callable[[], T]) -> T | None:
        """A cache that cannot be used costs time, not the run."""
        try:
            return do()
        except (OSError, NotImplementedError) as error:  # the latter from disks that know no locks
            reason = getattr(error, "strerror", None) or error
            self.run.progress.say(f"note: features are not kept on disk ({reason}: {self.folder})")
            self.folder = self._in_use = None
            return None


class Index:
    """Where the row of each key stands: sorted keys, and rows counted through all parts."""

    def __init__(self, width: int) -> None:
        self.parts: list[parts.Part] = []
        self._width = width
        self._starts: list[int] = []
        self._count = 0
        self._keys: parts.Keys = np.empty(0, parts.KEY)
        self._rows = np.empty(0, np.intp)

    def add(self, part: parts.Part) -> None:
        """The rows of one more part; keys that are known already stay where they are."""
        new = parts.first_of_each(part.keys)
        new = new[self.rows(part.keys[new]) < 0]
        at = np.searchsorted(self._keys, part.keys[new])
        self._keys = np.insert(self._keys, at, part.keys[new])
        self._rows = np.insert(self._rows, at, new + self._count)
        self.parts.append(part)
        self._starts.append(self._count)
        self._count += len(part.keys)

    def rows(self, keys: parts.Keys) -> NDArray[np.intp]:
        """The row of each key, -1 where it is not known."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.intp)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._rows[at], -1)

    def holds(self, other: Index) -> bool:
        """Is every key of the other one here?"""
        return bool((self.rows(other._keys) >= 0).all())

    def values(self, rows: NDArray[np.intp]) -> Features:
        """The values of these rows, (n, d), fp32."""
        out = np.empty((len(rows), self._width), np.float32)
        part_of = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(part_of):
            mine = np.flatnonzero(part_of == number)
            for at in range(0, len(mine), ROWS_A_PART):
                some = mine[at : at + ROWS_A_PART]
                out[some] = self.parts[number].values[rows[some] - self._starts[number]]
        return out


def _gb(size: int) -> str:
    return f"{size / 1e9:g} GB"
