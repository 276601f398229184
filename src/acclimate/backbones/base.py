"""What every backbone answers, whatever it reads."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from acclimate.backbones.kernels import laid_out
from acclimate.errors import UserError

if TYPE_CHECKING:
    from acclimate.backbones.table_parts import Part

Batch: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Origin:
    """Where weights came from: shown in the report and saved in the bundle."""

    name: str  # as the user gave it
    licence: str = "not stated"
    source: str = ""  # package and version, or folder name


@dataclass(frozen=True)
class Encoded:
    """One input after preprocessing; `cost` (tokens, pixels) is what batches are budgeted by."""

    parts: tuple[Any, ...]
    cost: int
    lost: int = 0  # tokens that were cut off
    total: int = 0  # tokens that were there


class Backbone(nn.Module, ABC):
    """A pretrained network with its own preprocessing: raw inputs -> `encode` -> `collate` -> `forward` -> features."""

    modality: str
    origin: Origin
    width: int  # d, the number of features
    parts: Mapping[str, Part] = MappingProxyType({})  # what reads the text, pictures and sounds among columns, by kind
    cells: int = 0  # how many of them, the first ones, are columns of a table, each a thing of its own
    groups: tuple[int, ...] = ()  # sizes of groups of features that come from different columns; none where all are one
    runtime: str = "torch"  # what computed the features last
    pretrained: bool = True  # False where weights are random, or there are none
    random_rate: float = 2e-3  # the learning rate that suits its weights while they are random
    tuned_rate: float = 5e-5  # the one that suits its pretrained weights
    padded: bool = False  # whether rows are padded though they could be packed
    replayed: bool = False  # whether its first blocks are replayed, so that nothing looks at what lies before them

    @property
    def read_at(self) -> str:
        """The size of pictures in words, where it is not that of the model that reads them; else empty."""
        return next((part.backbone.read_at for part in self.parts.values() if part.backbone.read_at), "")

    @abstractmethod
    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Preprocess raw inputs, one entry each."""

    @abstractmethod
    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Tensors of one batch."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Features, (n, d)."""

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The blocks in order from input to output; empty where they are shared or single."""

    @property
    def towers(self) -> Sequence[Backbone]:
        """The networks that read side by side, each with blocks of its own; one, where there is one."""
        return [self]

    @property
    def untrained(self) -> bool:
        """Whether its weights are random still, so that frozen ones are of little use; not where there are none."""
        return not self.pretrained and bool(self.blocks)

    @property
    def packs(self) -> bool:
        """Whether rows of unlike length are read without padding."""
        return False

    @property
    def fixed(self) -> str:
        """Why these weights cannot be tuned; empty where they can."""
        return ""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """The preprocessing as plain JSON: it changes the features, so it is saved and part of the fingerprint."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write weights and preprocessing as a plain folder of their own format."""

    @abstractmethod
    def clone(self) -> Backbone:
        """A copy whose weights may be trained without touching this one's."""

    def fit_rows(self, rows: Sequence[Any]) -> Backbone:
        """The backbone for these training rows: itself, unless it has to learn what the columns of a table hold."""
        return self

    def to_tune(self) -> Backbone:
        """The same network as it is read where its weights move: itself, unless that is better done in another way."""
        return self

    def encode_later(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Like `encode`, for rows that are read once: where that pays, the work is left to `collate`."""
        return self.encode(inputs)

    def reading(self, cost: int, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """What to hold while rows of this total cost are read without gradients: whatever makes that quicker."""
        return laid_out(self, copied=False)

    def flat(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
        """What a block gave, without padding: lines (m, d) in the order of the rows, and how many each row has."""
        return hidden.flatten(1), [1] * len(hidden)

    def unflat(self, flat: Tensor, batch: Batch, shape: tuple[int, ...]) -> Tensor:
        """The reverse of `flat` for a batch of the same rows; `shape` is that of one row's output."""
        return flat.reshape(len(flat), *shape)

    def flat_rows(self, encoded: Sequence[Encoded]) -> list[int]:
        """How many lines `flat` gives for each input."""
        return [1] * len(encoded)

    def one_row(self, batch: Batch, at: int) -> Batch:
        """What a batch holds of one of its rows."""
        return {name: values[at : at + 1] for name, values in batch.items()}

    @property
    def augments(self) -> bool:
        """Whether there are random changes of its inputs that leave their class as it is (`augment`)."""
        return type(self).augment is not Backbone.augment

    def augment(self, batch: Batch, generator: torch.Generator, strength: float) -> Batch:
        """The batch changed at random so that no class changes, the more the larger `strength` (0 to 1)."""
        raise UserError(
            f"{self.origin.name!r} reads {self.modality} and has no random changes of its inputs that leave their "
            "class as it is, which augment and the strategy consistency need"
        )

    def reset(self, seed: int) -> None:
        """New random weights where they are random; pretrained ones stay."""

    def fingerprint(self) -> str:
        """A hash of every weight and of the preprocessing: the key of cached features."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps(self.settings(), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def stem_and_top(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The parameters that lie before the first block and after the last one (embeddings; final norm, pooler)."""
        inside = {id(p) for block in self.blocks for p in block.parameters()}
        before: list[nn.Parameter] = []
        after: list[nn.Parameter] = []
        seen = False
        for parameter in self.parameters():
            if id(parameter) in inside:
                seen = True
            else:
                (after if seen else before).append(parameter)
        return before, after

    def train(self, mode: bool = True) -> Backbone:
        """Like `nn.Module.train`, except that what is frozen stays in eval mode, so that its buffers cannot drift."""
        super().train(mode)
        if mode:
            keep_frozen_in_eval(self)
        return self


def gap(expected: Tensor, found: Tensor) -> float:
    """Largest difference, relative to the largest value; infinite where shapes or finite places differ."""
    if expected.shape != found.shape or not (torch.isfinite(expected).all() and torch.isfinite(found).all()):
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-30))


@contextmanager
def in_eval(network: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; every part's own mode after it."""
    modes = [(module, module.training) for module in network.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def keep_frozen_in_eval(module: nn.Module) -> None:
    """Put every part whose parameters are all frozen into eval mode: no dropout, no moving BatchNorm statistics."""
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        for part in module.modules():
            part.training = False
        return
    mixed = not all(p.requires_grad for p in parameters)
    held = any(not p.requires_grad for p in module.parameters(recurse=False))
    if held and any(True for _ in module.buffers(recurse=False)):
        module.training = False  # BatchNorm whose bias alone moves: its statistics are no bias
    for child in module.children():
        if mixed and not any(True for _ in child.parameters()) and any(True for _ in child.buffers()):
            child.eval()  # statistics without weights, beside something frozen
        else:
            keep_frozen_in_eval(child)


def budgeted(costs: Sequence[int], budget: int, most: int) -> list[list[int]]:
    """Positions sorted by cost and cut into batches of at most `most` rows and `budget` padded cost (one row at least).

    >>> budgeted([3, 9, 2, 4], budget=8, most=4)
    [[2, 0], [3], [1]]
    """
    batches: list[list[int]] = []
    current: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], i)):
        if current and (len(current) == most or (len(current) + 1) * costs[i] > budget):
            batches.append(current)
            current = []
        current.append(i)
    return batches + [current] if current else batches
