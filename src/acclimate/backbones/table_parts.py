"""Free text, pictures and sounds in a table: each such column through a frozen network, so that it stands beside the
numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acclimate.backbones.base import Backbone, budgeted
from acclimate.data.kinds.files import empty
from acclimate.data.labels import as_text, is_blank
from acclimate.errors import UserError

READS = {"text": "free text", "image": "pictures", "audio": "sounds"}  # kinds of columns that such a network reads
_COST, _ROWS = 1024, 128  # of a batch, where no store reads


class Part:
    """What a frozen network makes of a cell: v = f/‖f‖, and 0 where nothing stands.

    With length one a cell counts about as much as one or two numbers, whose quartiles are 1 apart.
    """

    def __init__(self, backbone: Backbone) -> None:
        if backbone.modality not in READS:
            raise UserError(
                f"{backbone.origin.name!r} reads {backbone.modality}, and beside columns stand networks that read "
                f"{', '.join(READS.values())}"
            )
        if backbone.untrained:
            raise UserError(
                f"{backbone.origin.name!r} holds random weights, and a network beside columns is frozen: give a "
                "pretrained one"
            )
        self.backbone = backbone.requires_grad_(False).eval()
        self.kind = backbone.modality
        self.get: Callable[[Sequence[Any]], NDArray[np.float32]] = self._get  # or that of a store, which remembers
        self.kept = False  # whether it is

    def __deepcopy__(self, memo: dict[int, Any]) -> Part:
        """Itself: what never changes can be shared."""
        return self

    @property
    def width(self) -> int:
        """Numbers that a cell becomes."""
        return self.backbone.width

    def of(self, cells: Sequence[object]) -> Tensor:
        """One row a cell, (n, d)."""
        out = torch.zeros(len(cells), self.width)
        nothing, raw = (is_blank, as_text) if self.kind == "text" else (empty, _file)
        there = [i for i, cell in enumerate(cells) if not nothing(cell)]
        if there:
            found = torch.from_numpy(np.asarray(self.get([raw(cells[i]) for i in there]), np.float32))
            out[there] = found / found.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return out

    def _get(self, cells: Sequence[Any]) -> NDArray[np.float32]:
        rows = self.backbone.encode_later(cells)
        out = np.empty((len(rows), self.width), np.float32)
        device = next(self.backbone.parameters()).device
        with torch.inference_mode():
            for at in budgeted([row.cost for row in rows], _COST, _ROWS):
                batch = self.backbone.collate([rows[i] for i in at])
                moved = {k: v if k == "lengths" else v.to(device) for k, v in batch.items()}
                out[at] = self.backbone(moved).float().cpu().numpy()
        return out


def _file(cell: Any) -> Any:
    return os.fspath(cell) if isinstance(cell, os.PathLike) else cell
