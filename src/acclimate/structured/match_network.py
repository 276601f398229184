"""Two towers: a picture or a sound and a text, each a backbone and a projection, in one space of unit vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded
from acclimate.backbones.sound import SoundBackbone
from acclimate.features import Store
from acclimate.files import json_text
from acclimate.run import Run
from acclimate.structured.base import StructuredNetwork

LOSSES = ("infonce", "sigmoid")
_AT_ONCE = 256  # texts that are read together


class Towers(Backbone):
    """The backbone of the inputs, with that of the texts beside it. "Locked" texts stand outside the parameters, so
    that nothing can move them; else both backbones move, and the blocks of the inputs come first."""

    def __init__(self, inner: Backbone, text: Backbone, *, locked: bool) -> None:
        super().__init__()
        self.inner, self.locked = inner, locked
        self.modality, self.origin, self.width = inner.modality, inner.origin, inner.width
        self.pretrained = inner.pretrained
        self._held: list[Backbone] = [text.requires_grad_(False).eval()] if locked else []  # a list registers nothing
        self.of_text = nn.Identity() if locked else text

    @property
    def text(self) -> Backbone:
        """The backbone of the texts."""
        found = self._held[0] if self.locked else self.of_text
        assert isinstance(found, Backbone)
        return found

    @property
    def read_at(self) -> str:
        """Of the inputs."""
        return self.inner.read_at

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Those of the inputs."""
        return self.inner.encode(inputs)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Of the inputs."""
        return self.inner.collate(rows)

    def forward(self, batch: Batch) -> Tensor:
        """Features of the inputs, (n, d)."""
        found: Tensor = self.inner(batch)
        return found

    @property
    def blocks(self) -> list[nn.Module]:
        """Of the inputs; then of the texts, where they move."""
        return [*self.inner.blocks, *([] if self.locked else self.text.blocks)]

    @property
    def towers(self) -> Sequence[Backbone]:
        """The backbone of the inputs, and that of the texts where they move."""
        return [self.inner] if self.locked else [self.inner, self.text]

    def stem_and_top(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Those of both."""
        each = [tower.stem_and_top() for tower in self.towers]
        return [p for before, _ in each for p in before], [p for _, after in each for p in after]

    @property
    def augments(self) -> bool:
        """As the backbone of the inputs."""
        return self.inner.augments

    def augment(self, batch: Batch, generator: torch.Generator, strength: float) -> Batch:
        """As the backbone of the inputs."""
        return self.inner.augment(batch, generator, strength)

    def settings(self) -> dict[str, object]:
        """Of both."""
        return {**self.inner.settings(), "text": self.text.settings(), "locked": self.locked}

    def flat(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
        """As the backbone of the inputs."""
        return self.inner.flat(hidden, batch)

    def unflat(self, flat: Tensor, batch: Batch, shape: tuple[int, ...]) -> Tensor:
        """As the backbone of the inputs."""
        return self.inner.unflat(flat, batch, shape)

    def flat_rows(self, encoded: Sequence[Encoded]) -> list[int]:
        """As the backbone of the inputs."""
        return self.inner.flat_rows(encoded)

    def fingerprint(self) -> str:
        """Of both."""
        return f"{self.inner.fingerprint()} {self.text.fingerprint()} {self.locked}"

    def clone(self) -> Towers:
        """A copy whose weights may be trained; locked texts are shared."""
        text = self.text if self.locked else self.text.clone()
        return Towers(self.inner.clone(), text, locked=self.locked)

    def save(self, folder: Path) -> None:
        """`inner/` and `text/`."""
        for name, part in (("inner", self.inner), ("text", self.text)):
            (folder / name).mkdir()
            part.save(folder / name)
        about = {"locked": self.locked, "origin": asdict(self.origin)}
        (folder / "towers.json").write_text(json_text(about), encoding="utf-8")


class Ranked(NamedTuple):
    """How one pair was found among others: the best text, the place of the right text, and that of the right input."""

    text: str
    place: int  # 1: the right text comes first
    back: int  # 1: of all inputs one with this text comes first


class MatchNetwork(StructuredNetwork):
    """u = P f(x)/‖·‖ and v = Q g(t)/‖·‖ with linear P and Q; similarity s·uᵀv (+ b).

    infonce: −½(log softmax over the texts of the batch + log softmax over its inputs), both of the right pair; pairs
    whose text is the same are no negatives of each other (Radford et al. 2021, arXiv:2103.00020, with that correction).
    sigmoid: −Σ_j log σ(z_ij (s·u_iᵀv_j + b)), z_ij = 1 for equal texts, else −1 (Zhai et al. 2023, arXiv:2303.15343).
    """

    backbone: Towers

    def __init__(self, backbone: Towers, width: int, loss: str) -> None:
        start = math.log(1 / 0.07) if loss == "infonce" else math.log(10.0)
        head = nn.Module()
        head.input = nn.Linear(backbone.width, width, bias=False)
        head.text = nn.Linear(backbone.text.width, width, bias=False)
        head.scale = nn.Parameter(torch.tensor(start))
        head.bias = nn.Parameter(torch.tensor(0.0 if loss == "infonce" else -10.0))
        super().__init__(backbone, head)
        self.loss = loss
        self.compared = loss  # rows of a batch are each other's negatives
        self.augments = backbone.augments
        self._texts: dict[str, Tensor] = {}  # features of locked texts

    def encode(self, inputs: Sequence[Any], labels: Sequence[Any] | None) -> list[Encoded]:
        """The inputs, each with its text."""
        rows = self.backbone.encode(inputs)
        if labels is None:
            return rows
        if self.backbone.locked:
            self._read(list(labels))
        return [
            Encoded((*row.parts, Caption(str(text))), row.cost, row.lost, row.total)
            for row, text in zip(rows, labels, strict=True)
        ]

    def replayed(self, depth: int) -> bool:
        """Not where blocks of the texts are frozen too: a batch runs those of the inputs alone."""
        return depth <= len(self.backbone.inner.blocks)

    def kept(self, inputs: Sequence[Any], labels: Sequence[Any], run: Run) -> list[Encoded]:
        """The features of the inputs, from the cache where they are there, each with its text."""
        features = torch.from_numpy(Store(self.backbone.inner, run).get(inputs))
        self._read(list(labels))
        return [Encoded((Known(x), Caption(str(text))), 1) for x, text in zip(features, labels, strict=True)]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """The batch of the inputs; of their texts the features where they are locked, else their tokens."""
        batch = self._inputs_of(rows)
        texts = [str(p) for row in rows for p in row.parts if isinstance(p, Caption)]
        if not texts:
            return batch
        number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        batch["same"] = torch.tensor([number[text] for text in texts])
        if self.backbone.locked or "features" in batch:
            batch["text"] = torch.stack([self._texts[text] for text in texts])
        else:
            inner = self.backbone.text.collate(self.backbone.text.encode(texts))
            batch |= {f"text.{name}": value for name, value in inner.items()}
        return batch

    def _inputs_of(self, rows: Sequence[Encoded]) -> Batch:
        changed = [p.batch for row in rows for p in row.parts if isinstance(p, Changed)]
        if changed:
            batch = {name: torch.cat([one[name] for one in changed]) for name in changed[0]}
            return {**batch, "rows": torch.arange(len(rows))}
        known = [p.features for row in rows for p in row.parts if isinstance(p, Known)]
        if known:
            return {"features": torch.stack(known), "rows": torch.arange(len(rows))}
        return dict(self.backbone.collate([_bare(row) for row in rows]))

    def changed(self, rows: Sequence[Encoded], generator: torch.Generator, strength: float) -> list[Encoded]:
        """Inputs changed at random, as their backbone does; their texts stay."""
        found, inner = [], self.backbone.inner
        for row in rows:
            if isinstance(inner, SoundBackbone):  # unlike in length, they are put together by `collate` alone
                parts = inner.changed(_bare(row), generator, strength).parts
            else:
                parts = (Changed(self.backbone.augment(self.backbone.collate([_bare(row)]), generator, strength)),)
            found.append(Encoded((*parts, *(p for p in row.parts if isinstance(p, Caption))), row.cost))
        return found

    def inputs(self, batch: Batch) -> Tensor:
        """Unit vectors of the inputs, (n, width)."""
        features = batch["features"] if "features" in batch else self.backbone(batch)
        return F.normalize(self.head.input(features).float(), dim=1)  # type: ignore[operator]

    def texts(self, batch: Batch) -> Tensor:
        """Unit vectors of the texts, (n, width)."""
        features = batch.get("text")
        if features is None:
            inner = {name.removeprefix("text."): v for name, v in batch.items() if name.startswith("text.")}
            features = self.backbone.text(inner)
        return F.normalize(self.head.text(features).float(), dim=1)  # type: ignore[operator]

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every row, (n,)."""
        z = self.head.scale.exp() * self.inputs(batch) @ self.texts(batch).T + self.head.bias  # type: ignore[operator]
        same = batch["same"][:, None] == batch["same"][None]
        if self.loss == "sigmoid":
            return -F.logsigmoid(torch.where(same, z, -z)).sum(1)
        alone = torch.eye(len(z), dtype=torch.bool, device=z.device)
        z = z.masked_fill(same & ~alone, -math.inf)
        return -0.5 * (torch.log_softmax(z, 1).diagonal() + torch.log_softmax(z, 0).diagonal())

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """Unit vectors as tuples: what is nearest is told by `Match`, which knows the texts."""
        return [tuple(row) for row in self.inputs(batch).double().cpu().tolist()]

    def vectors_of(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (m, width) of texts, on the CPU."""
        if self.backbone.locked:
            self._read(texts)
            return self.texts({"text": torch.stack([self._texts[t] for t in texts])}).cpu()
        text = self.backbone.text
        device = next(self.parameters()).device
        found = []
        for at in range(0, len(texts), _AT_ONCE):
            batch = text.collate(text.encode(list(texts[at : at + _AT_ONCE])))
            found.append(self.texts({f"text.{k}": v.to(device) for k, v in batch.items()}).cpu())
        return torch.cat(found)

    def _read(self, texts: Sequence[str]) -> None:
        """Features of texts that were not read yet."""
        fresh = [t for t in dict.fromkeys(map(str, texts)) if t not in self._texts]
        text = self.backbone.text
        with torch.inference_mode():
            for at in range(0, len(fresh), _AT_ONCE):
                part = fresh[at : at + _AT_ONCE]
                features = text(text.collate(text.encode(part))).float().clone()
                self._texts |= dict(zip(part, features, strict=True))


def _bare(row: Encoded) -> Encoded:
    """The row without its text."""
    return Encoded(tuple(p for p in row.parts if not isinstance(p, Caption)), row.cost, row.lost, row.total)


class Caption(str):
    """The text of a row among its parts."""


class Known:
    """An input of which the features (d,) are known."""

    def __init__(self, features: Tensor) -> None:
        self.features = features


class Changed:
    """An input that was changed at random, as the batch of one that it became."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
