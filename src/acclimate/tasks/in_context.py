"""A head that learns nothing: a network that reads labelled rows beside the new one and answers at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from acclimate.errors import UserError


class InContextHead(nn.Module):
    """Logits of a TabICL network g(f, {(f_i, y_i)}) in one pass, the training rows being its context.

    A class that no training row had has log(½/n) in the place of its logit. The head holds the training features, so a
    bundle with it holds a trace of the training data; it needs the package tabicl (BSD-3-Clause) wherever it is loaded.
    """

    kind = "in_context"
    context: Tensor
    codes: Tensor
    present: Tensor

    def __init__(self, width: int, outputs: int, rows: int, present: int, config: dict[str, Any]) -> None:
        super().__init__()
        self.shape: dict[str, Any] = {
            "width": width, "outputs": outputs, "rows": rows, "present": present, "config": config,
        }  # fmt: skip
        self.register_buffer("context", torch.zeros(rows, width))
        self.register_buffer("codes", torch.zeros(rows))  # among the classes that are present
        self.register_buffer("present", torch.zeros(present, dtype=torch.int64))
        self.network = network(config)

    def forward(self, features: Tensor, words: Tensor | None = None) -> Tensor:
        """Logits (n, k); each row is judged without the others."""
        if not len(features):
            return features.new_zeros((0, int(self.shape["outputs"])))
        both = torch.cat([self.context, features.float()])[None]
        found = self.network(both, self.codes[None], return_logits=True, inference_config=_exact())[0].double()
        logits = torch.full((len(features), int(self.shape["outputs"])), 0.5 / len(self.context)).double().log()
        logits[:, self.present] = torch.log_softmax(found, 1)
        return logits


def network(config: dict[str, Any]) -> nn.Module:
    """An empty TabICL of this shape."""
    try:
        from tabicl._model.tabicl import TabICL
    except ImportError as error:
        raise UserError(
            "in_context needs tabicl, whose licence is BSD-3-Clause: pip install 'acclimate[tabicl-bsd3]'"
        ) from error
    made: nn.Module = TabICL(**config)
    return made.requires_grad_(False).eval()


def _exact() -> Any:
    """In fp32, so that a saved model answers alike everywhere."""
    from tabicl import InferenceConfig

    plain = {"use_amp": False, "use_fa3": False}
    return InferenceConfig(COL_CONFIG=plain, ROW_CONFIG=plain, ICL_CONFIG=plain)
