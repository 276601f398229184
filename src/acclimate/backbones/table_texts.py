"""Free text in a table: each text column through a frozen text model, so that it stands beside the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acclimate.backbones.base import Backbone, budgeted
from acclimate.data.labels import as_text, is_blank

_TOKENS, _ROWS = 1024, 128  # of a batch, where no store reads


class Texts:
    """What a frozen text model makes of a cell: v = f/‖f‖, and 0 where nothing is written.

    With length one a text counts about as much as one or two numbers, whose quartiles are 1 apart.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone.requires_grad_(False).eval()
        self.get: Callable[[Sequence[str]], NDArray[np.float32]] = self._get  # or that of a store, which remembers

    def __deepcopy__(self, memo: dict[int, Any]) -> Texts:
        """Itself: what never changes can be shared."""
        return self

    @property
    def width(self) -> int:
        """Numbers that a cell becomes."""
        return self.backbone.width

    def of(self, cells: Sequence[object]) -> Tensor:
        """One row a cell, (n, d)."""
        out = torch.zeros(len(cells), self.width)
        written = [i for i, cell in enumerate(cells) if not is_blank(cell)]
        if written:
            found = torch.from_numpy(np.asarray(self.get([as_text(cells[i]) for i in written]), np.float32))
            out[written] = found / found.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return out

    def _get(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = self.backbone.encode(texts)
        out = np.empty((len(rows), self.width), np.float32)
        device = next(self.backbone.parameters()).device
        with torch.inference_mode():
            for at in budgeted([row.cost for row in rows], _TOKENS, _ROWS):
                batch = self.backbone.collate([rows[i] for i in at])
                moved = {k: v if k == "lengths" else v.to(device) for k, v in batch.items()}
                out[at] = self.backbone(moved).float().cpu().numpy()
        return out
