"""The frozen prefix: what the lower blocks give is computed once and replayed, so that each epoch runs the upper ones
alone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded, budgeted, gap, in_eval
from acclimate.features import ROWS_A_BATCH, TOKENS_A_BATCH, to_device
from acclimate.run import Run

SHARE_OF_MEMORY = 0.25  # of what is free; larger activations go to disk
ROOM = 1.5  # times their size must be free on disk
PRECISIONS: dict[str, Any] = {"auto": np.float32, "fp16": np.float16}
CHOICES = (*PRECISIONS, "off")
_TOLERANCE = {"auto": 1e-4, "fp16": 1e-2}  # of the largest feature; rounding alone gives 1e-6 and 1e-3


class _Reached(Exception):
    """The forward pass came to the end of the prefix; the rest is not needed."""


def frozen_depth(backbone: Backbone) -> int:
    """How many leading blocks stay as they are: nothing in them moves, nor anything before them."""
    if any(p.requires_grad for p in backbone.stem_and_top()[0]):
        return 0
    depth = 0
    for block in backbone.blocks:
        if any(p.requires_grad for p in block.parameters()):
            break
        depth += 1
    return depth


@dataclass(frozen=True)
class Prefix:
    """Stored outputs of the first `depth` blocks, ragged: every row has its own number of tokens.

    Inside `replaying()` those blocks are stubs; the rest of the forward pass is the model's own. The result is that
    of the full pass with the prefix in eval mode.
    """

    backbone: Backbone
    depth: int
    values: np.ndarray[Any, Any]  # (tokens of all rows, width); in memory or mapped from a file without a name
    starts: np.ndarray[Any, Any]  # (n + 1,)
    shape: tuple[int, ...]  # of one row's output, where all rows have the same
    kind: type  # what a block returns: a tensor or a tuple
    slot: list[Tensor] = field(default_factory=list)  # what the next forward pass finds

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Stubs in the place of the prefix; the blocks come back at the end, whatever happens."""
        blocks = self.backbone.blocks[: self.depth]
        readers = [m for m in self.backbone.modules() if isinstance(m, Backbone)]
        homes = [_home(self.backbone, block) for block in blocks]
        for i, (block, (parent, name)) in enumerate(zip(blocks, homes, strict=True)):
            parent._modules[name] = _Stub(block, self.slot if i == self.depth - 1 else None, self.kind)
        for reader in readers:
            reader.replayed = True
        try:
            yield
        finally:
            for reader in readers:
                reader.replayed = False
            for block, (parent, name) in zip(blocks, homes, strict=True):
                parent._modules[name] = block

    def offer(self, rows: Sequence[int], batch: Batch, device: str) -> None:
        """Lay out what the next forward pass of this batch, made of these rows in this order, shall find.

        The batch is that of `collate`, not moved yet: laying out on a GPU would wait for it.
        """
        flat = np.concatenate([self.values[self.starts[i] : self.starts[i + 1]] for i in rows])
        hidden = self.backbone.unflat(torch.from_numpy(flat), batch, self.shape)
        self.slot[:] = [hidden.to(device, non_blocking=True).float()]


class _Stub(nn.Module):
    """Stands for a block: hands on its input, or (the last one) the stored output. Other attributes are the block's."""

    def __init__(self, block: nn.Module, slot: list[Tensor] | None, kind: type) -> None:
        super().__init__()
        object.__setattr__(self, "_block", block)  # not a part: it has no weights here
        object.__setattr__(self, "_slot", slot)
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_block"), name)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        slot = object.__getattribute__(self, "_slot")
        out = hidden if slot is None else slot[0]
        if out.ndim == 3 and out.shape[1] > hidden.shape[1]:  # a packed row that is read in several slices
            out, slot[0] = out[:, : hidden.shape[1]], out[:, hidden.shape[1] :]
        elif out.shape[0] > hidden.shape[0]:  # pictures that are read a few at a time
            out, slot[0] = out[: hidden.shape[0]], out[hidden.shape[0] :]
        return (out,) if self._kind is tuple else out


def replaying(prefix: Prefix | None) -> AbstractContextManager[None]:
    """Inside, what was kept of the frozen blocks takes their place; without a prefix nothing happens."""
    return nullcontext() if prefix is None else prefix.replaying()


def build(backbone: Backbone, encoded: Sequence[Encoded], precision: str, run: Run) -> tuple[Prefix | None, str]:
    """Run the frozen blocks once over `encoded`. Returns nothing, and why, where that is not possible or does not fit.

    The size is known after the first batch. Up to a quarter of the free memory is used, else a file in the cache (or
    temporary) folder that vanishes with the process.
    """
    depth = frozen_depth(backbone)
    order = budgeted([row.cost for row in encoded], TOKENS_A_BATCH, ROWS_A_BATCH)
    first, counts, shape, kind = outputs(backbone, depth, [encoded[i] for i in order[-1]], run)
    if kind is dict:
        return None, f"not kept: the blocks of {backbone.origin.name!r} hand on more than their hidden states"
    per_row = backbone.flat_rows(encoded)
    if counts != [per_row[i] for i in order[-1]]:
        return None, f"not kept: {backbone.origin.name!r} changes the number of tokens between its blocks"
    if precision == "fp16" and float(first.abs().max()) > np.finfo(np.float16).max / 4:
        return None, "not kept: it is too large for 16 bits; use --set cache_frozen=auto"
    starts = np.concatenate([[0], np.cumsum(per_row)]).astype(np.int64)
    values, where = _room((int(starts[-1]), first.shape[1]), PRECISIONS[precision], run)
    if values is None:
        return None, where
    with run.progress.steps(f"frozen blocks 1 to {depth}", len(encoded)) as advance:
        for at in order:
            flat = outputs(backbone, depth, [encoded[i] for i in at], run)[0].numpy()
            cuts = np.cumsum([per_row[i] for i in at])[:-1]
            for i, part in zip(at, np.split(flat, cuts), strict=True):
                values[starts[i] : starts[i + 1]] = part
            advance(len(at))
    prefix = Prefix(backbone, depth, values, starts, shape, kind)
    if (differs := _differs(prefix, encoded, order[len(order) // 2], run)) > _TOLERANCE[precision]:
        return (
            None,
            f"not kept: {backbone.origin.name!r} uses its lower blocks elsewhere too (features differ by "
            f"{differs:.1e})",
        )
    return prefix, f"kept in {where} ({values.nbytes / 1e6:,.0f} MB) and replayed every epoch"


def outputs(
    backbone: Backbone, depth: int, rows: Sequence[Encoded], run: Run
) -> tuple[Tensor, list[int], tuple[int, ...], type]:
    """The flat output of block `depth`, how many lines of it each row has, the shape of a row, what a block returns."""
    found: list[Any] = []

    def catch(_: nn.Module, __: Any, out: Any) -> None:
        found.append(out)
        raise _Reached

    batch = to_device(backbone.collate(rows), run.device)
    hook = backbone.blocks[depth - 1].register_forward_hook(catch)
    try:
        with in_eval(backbone):
            backbone(batch)  # nothing below the hook moves, so that no graph is built
    except _Reached:
        pass
    finally:
        hook.remove()
    out = found[0]
    if isinstance(out, tuple) and (not out or not isinstance(out[0], Tensor) or any(o is not None for o in out[1:])):
        return torch.zeros(1, 1), [], (), dict
    hidden = out[0] if isinstance(out, tuple) else out
    flat, counts = backbone.flat(hidden, batch)
    return flat.float().cpu(), counts, tuple(hidden.shape[1:]), tuple if isinstance(out, tuple) else Tensor


def _room(shape: tuple[int, int], dtype: Any, run: Run) -> tuple[np.ndarray[Any, Any] | None, str]:
    """An empty array in memory or on disk, and where; or nothing and why."""
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    if size <= SHARE_OF_MEMORY * psutil.virtual_memory().available:
        return np.empty(shape, dtype), "memory"
    folder = Path(tempfile.gettempdir()) if run.cache is None else run.cache
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if size * ROOM > free:
            return None, f"not kept: it takes {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {folder}"
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape), "a file"
    except OSError as error:
        return None, f"not kept: {folder} cannot be written ({error.strerror or error})"


def _differs(prefix: Prefix, encoded: Sequence[Encoded], rows: list[int], run: Run) -> float:
    """The largest difference between features with and without the stubs, as a share of the largest feature."""
    backbone = prefix.backbone
    batch = to_device(backbone.collate([encoded[i] for i in rows]), run.device)
    with torch.no_grad(), in_eval(backbone):
        full = backbone(batch)
        with prefix.replaying():
            collated = backbone.collate([encoded[i] for i in rows])
            prefix.offer(rows, collated, run.device)
            short = backbone(to_device(collated, run.device))
    return gap(full, short)


def _home(root: nn.Module, block: nn.Module) -> tuple[nn.Module, str]:
    """The module that holds this one, and under which name."""
    for parent in root.modules():
        for name, child in parent._modules.items():
            if child is block:
                return parent, name
    raise ValueError("the block is not a part of the backbone")
