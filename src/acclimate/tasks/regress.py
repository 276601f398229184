"""One number a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from acclimate.data.rows import Label
from acclimate.errors import UserError
from acclimate.tasks.base import Floats, Task
from acclimate.tasks.decoder import Decoder


@dataclass(frozen=True)
class Regress(Task):
    """Loss: squared error of the standardised target, (z − (y − μ)/s)². Prediction: z s + μ."""

    name: str = "regress"

    def decoder(self, labels: Sequence[Label], kind: str, order: tuple[Any, ...] | None = None) -> Decoder:
        """Mean and spread of the target; a constant target is refused."""
        y = np.array([float(v) for v in labels])  # type: ignore[arg-type]
        if not np.isfinite(y).all():
            raise UserError("the label column holds infinite values; correct or drop those rows")
        if y.std() == 0:
            raise UserError(f"every label equals {y[0]:g}: there is nothing to learn")
        return Decoder(self.name, (), kind, mean=float(y.mean()), scale=float(y.std()))

    def targets(self, labels: Sequence[Label], decoder: Decoder) -> Floats:
        """(y − μ)/s, (n,)."""
        return (self.truth(labels, decoder) - decoder.mean) / decoder.scale

    def truth(self, labels: Sequence[Label], decoder: Decoder) -> Floats:
        """Values on the user's own scale, (n,)."""
        return np.array([float(v) for v in labels])  # type: ignore[arg-type]

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Squared error, (n,)."""
        return (logits[:, 0] - targets.to(logits.dtype)).square()

    def outputs(self, logits: Floats, decoder: Decoder) -> Floats:
        """Values on the user's own scale, (n,)."""
        return np.asarray(logits[:, 0], np.float64) * decoder.scale + decoder.mean

    def decide(self, outputs: Floats, decoder: Decoder) -> Floats:
        """The value itself."""
        return outputs

    def answers(self, decisions: Floats, decoder: Decoder) -> list[Any]:
        """Floats."""
        return [float(v) for v in decisions]

    def confidence(self, outputs: Floats, decisions: Floats) -> Floats:
        """Not defined for a number without a noise model: NaN. Conformal intervals say how far off it may be."""
        return np.full(len(outputs), np.nan)
