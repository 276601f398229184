"""Rows of a table: their columns as numbers, and a small residual network on these numbers that can be trained.

Free text, pictures and sounds in them are read by frozen networks, where there are some. Neither is pretrained when it
is loaded: `fit_rows` makes a fitted one from training rows. A network that was tuned on one table and saved is loaded
with the columns as they were learned there, and so goes on from it on another table.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.table_parts import READS, Part
from acclimate.data.column_types import columns_of
from acclimate.data.table_numbers import Coded, Coding
from acclimate.errors import UserError
from acclimate.files import json_text

COLUMNS, NETWORK = "columns", "mlp"
WIDTH = 64
_BLOCKS, _DROPOUT = 2, 0.1


class TableBackbone(Backbone):
    """What both have in common: a coding, or none before `fit_rows`; and networks that read some of the columns."""

    modality = "table"

    def __init__(self, name: str, coding: Coding | None, origin: Origin | None, parts: Iterable[Part]) -> None:
        super().__init__()
        self.name = name
        self.origin = origin or Origin(name, "none needed", "made for the table at hand")
        self.coding = coding
        mine = {part.kind: part for part in parts}
        self.parts = {kind: mine[kind] for kind in READS if kind in mine}
        self.numbers = 0
        if coding is not None:
            beside = sum(len(coding.places(kind)) * part.width for kind, part in self.parts.items())
            self.numbers = len(coding.names("dense")) + beside

    def fit_rows(self, rows: Sequence[Any]) -> TableBackbone:
        """A backbone for the table that these training rows are of; one that knows its columns stays as it is."""
        if self.coding is None:
            return _made(self.name, Coding.of(rows), self.origin, self.parts.values())  # in eval mode, with new weights
        known, here = ([c.name for c in some] for some in (self.coding.held, columns_of(rows)))
        if known != here:
            raise UserError(
                f"{self.origin.name!r} was made for the columns {', '.join(known)}, in this order, and the table has "
                f"{', '.join(here)}; give the same columns"
            )
        return self

    @property
    def known(self) -> Coding:
        """The coding, or an error before there is one."""
        if self.coding is None:
            raise UserError(f"{self.name} knows no columns yet; call fit_rows with training rows first")
        return self.coding

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Tuples of cells, one for each column, to numbers: those of the columns, then of each text, picture, sound."""
        found = [torch.from_numpy(self.known.dense(inputs))]
        for kind, part in self.parts.items():
            found += [part.of([row[j] for row in inputs]) for j in self.known.places(kind)]
        return [Encoded((row,), 1) for row in torch.cat(found, 1)]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Numbers (n, d)."""
        return {"numbers": torch.stack([row.parts[0] for row in rows])}

    def settings(self) -> dict[str, object]:
        """All that was learned of the columns, and how text, pictures and sounds are read."""
        coding = None if self.coding is None else self.coding.to_json()
        about: dict[str, object] = {"modality": "table", "architecture": self.name, "coding": coding}
        return about | {kind: part.backbone.settings() for kind, part in self.parts.items()}

    def fingerprint(self) -> str:
        """A hash of weights and columns, and of the networks beside them."""
        mine = super().fingerprint()
        if not self.parts:
            return mine
        theirs = "".join(part.backbone.fingerprint() for part in self.parts.values())
        return hashlib.blake2b((mine + theirs).encode(), digest_size=16).hexdigest()

    def save(self, folder: Path) -> None:
        """config.json, and model.safetensors where there are weights; networks beside in folders of their own."""
        from safetensors.torch import save_file

        about = {"model_type": self.name, "coding": self.known.to_json(), "origin": asdict(self.origin), **self._more()}
        (folder / "config.json").write_text(json_text(about, indent=1), encoding="utf-8")
        if state := {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}:
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        for kind, part in self.parts.items():
            (folder / kind).mkdir()
            part.backbone.save(folder / kind)

    def _more(self) -> dict[str, Any]:
        """What config.json holds beside the columns."""
        return {}

    def clone(self) -> TableBackbone:
        """A copy with weights of its own."""
        return copy.deepcopy(self)


class Columns(TableBackbone):
    """The columns as numbers: medians, scales and categories of the training rows; no weights but of networks beside.

    Use when: always, first: every strategy on frozen features then works on a table. Prefer `mlp` where weights are to
    move.
    """

    def __init__(self, coding: Coding | None = None, origin: Origin | None = None, parts: Iterable[Part] = ()) -> None:
        super().__init__(COLUMNS, coding, origin, parts)
        self.width = self.numbers
        self.cells = 0 if coding is None else len(coding.names("dense"))
        self.pretrained = bool(self.parts)
        if coding is not None and self.parts:
            beside = (len(coding.places(kind)) * [part.width] for kind, part in self.parts.items())
            self.groups = tuple(filter(None, [self.cells, *chain.from_iterable(beside)]))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What features come from: "columns" (numbers, categories, dates), and each kind that has a network."""
        mine = {column.held.kind for column in self.known.columns}
        return (*(["columns"] if mine - {"none", *READS} else []), *(kind for kind in self.parts if kind in mine))

    def only(self, kind: str) -> Columns:
        """The same with one of its `kinds` alone; the others are left out."""
        read = [kind] if kind in READS else [k.held.kind for k in self.known.columns if k.held.kind not in READS]
        columns = (c if c.held.kind in read else Coded(replace(c.held, kind="none")) for c in self.known.columns)
        return Columns(Coding(tuple(columns)), self.origin, [self.parts[kind]] if kind in self.parts else [])

    def forward(self, batch: Batch) -> Tensor:
        """The numbers themselves, (n, d)."""
        return batch["numbers"]

    @property
    def blocks(self) -> list[nn.Module]:
        """None."""
        return []

    @property
    def fixed(self) -> str:
        """There is nothing that could move."""
        return "columns as numbers hold no weights; --model mlp is a network on them that can be tuned"


class _Residual(nn.Module):
    """x + W₂ ReLU(W₁ LayerNorm(x)), with dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.dropout(self.outer(self.dropout(F.relu(self.inner(self.norm(x))))))
        return found


class TableMlp(TableBackbone):
    """A residual network of two blocks on the columns as numbers, with random weights: trained from the start.

    h = W x, twice h ← h + W₂ ReLU(W₁ LayerNorm(h)), features ReLU(LayerNorm(h)): Gorishniy et al. 2021
    (arXiv:2106.11959, section 3.2), with LayerNorm in the place of BatchNorm, so that a row is judged alike whatever
    its batch-mates, and twenty rows of a target can be learned from.

    Use when: a network is to be tuned on a large table and then on a small one of the same columns, or an alignment is
    to move it. Prefer `columns` and `boosting` on one small table: this network starts from random weights.
    """

    width = WIDTH
    random_rate = tuned_rate = 3e-4

    def __init__(
        self, coding: Coding | None = None, origin: Origin | None = None, seed: int = 0, parts: Iterable[Part] = ()
    ) -> None:
        super().__init__(NETWORK, coding, origin, parts)
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made
            self.stem = nn.Linear(max(1, self.numbers), WIDTH)
            self.layers = nn.ModuleList(_Residual(WIDTH) for _ in range(_BLOCKS))
            self.norm = nn.LayerNorm(WIDTH)
        self.seed = seed
        self._put(_drawn(self._linears(), seed))
        self.eval()

    @property
    def pretrained(self) -> bool:  # type: ignore[override]
        """Whether something was learned already: weights are then not those of their seed."""
        mine = [module.weight.detach().cpu() for module in self._linears()]
        return not all(map(torch.equal, mine, _drawn(self._linears(), self.seed)))

    def reset(self, seed: int) -> None:
        """New random weights, unless something was learned already."""
        if not self.pretrained:
            self.seed = seed
            self._put(_drawn(self._linears(), seed))

    def _more(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def _linears(self) -> list[nn.Linear]:
        return [module for module in self.modules() if isinstance(module, nn.Linear)]

    def _put(self, weights: list[Tensor]) -> None:
        with torch.no_grad():
            for module, weight in zip(self._linears(), weights, strict=True):
                module.weight.copy_(weight)
                module.bias.zero_()

    def forward(self, batch: Batch) -> Tensor:
        """Features (n, 64)."""
        hidden = self.stem(batch["numbers"])
        for layer in self.layers:
            hidden = layer(hidden)
        return F.relu(self.norm(hidden))

    @property
    def blocks(self) -> list[nn.Module]:
        """The two residual blocks."""
        return list(self.layers)


def _drawn(layers: Sequence[nn.Linear], seed: int) -> list[Tensor]:
    """Random weights for these layers, of He et al. 2015."""
    generator = torch.Generator().manual_seed(seed)
    fresh = [torch.empty(layer.weight.shape) for layer in layers]
    return [nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=generator) for w in fresh]


def load_table(path: str, origin: Origin, parts: Iterable[Part] = ()) -> TableBackbone:
    """ "columns" or "mlp", which know no columns yet; or a folder that `save` wrote. `parts`: networks beside."""
    parts = tuple(parts)
    if path in (COLUMNS, NETWORK):
        return _made(path, None, origin if parts else None, parts)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        about = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
        coding, known = Coding.from_json(about["coding"]), Origin(**about["origin"])
        backbone = _made(about["model_type"], coding, known, parts, int(about.get("seed", 0)))
        if backbone.state_dict():
            backbone.load_state_dict(load_file(Path(path) / "model.safetensors"))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot load the model {origin.name!r}: {first}") from error
    backbone.requires_grad_(False)
    return backbone


def _made(
    name: str, coding: Coding | None, origin: Origin | None, parts: Iterable[Part], seed: int = 0
) -> TableBackbone:
    return TableMlp(coding, origin, seed, parts) if name == NETWORK else Columns(coding, origin, parts)
