"""A table of tokens of which only the rows that the data name learn: the others have no gradient at any step.

Half of a small encoder is its table of tokens, and a few thousand rows of data name a tenth of it. A row that is never
named has gradient 0 and moments 0, and AdamW does one thing to it: w ← w (1 − rate · decay) at every step. So a smaller
table of the named rows is trained in its place, with one more row of ones that nothing names: it ends as the product
of these factors, by which the other rows are then multiplied. Gradient, norm, moments and checkpoints become as much
smaller. The sums are those of the whole table, up to rounding in the norm and in that product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from acclimate.backbones.base import Backbone, Encoded

LEAST = 2**20  # numbers in a table, below which there is nothing to gain
_SHARE = 0.5  # of the rows, above which the whole table learns
_GROWTH = 0.6  # different tokens ~ rows^0.6, about, in running text (Heaps' law)


@contextmanager
def named_rows(backbone: Backbone, encoded: Sequence[Encoded], decays: bool, scale: float = 1.0) -> Iterator[None]:
    """Within the block the table of tokens holds the rows that `encoded` name, where it moves and that pays.

    No other token may be read in the block. `decays` says that the optimiser decays weights by adding them to the
    gradient, as Adam does: then rows without a gradient move too, and the whole table stays. With `scale` times as many
    rows of data to come, as many more rows of the table are kept as these will name.
    """
    table = None if decays else _table(backbone)
    used = _named(backbone, encoded) if table is not None else []
    if table is None or not used:
        yield
        return
    count = int(min(table.num_embeddings, len(used) * max(1.0, scale) ** _GROWTH))
    if count > _SHARE * table.num_embeddings or used[-1] >= table.num_embeddings:
        yield
        return
    _ = backbone.packs  # found out by reading made-up tokens, which must be there
    kept = set(used)
    used += [i for i in range(table.num_embeddings) if i not in kept][: count - len(used)]
    with _swapped(table, torch.tensor(used, device=table.weight.device)):
        yield


def _table(backbone: Backbone) -> nn.Embedding | None:
    """The table of tokens, if it moves, is large, and is a plain one that nothing else reads."""
    if backbone.modality != "text":  # others have none, and some say so by an error
        return None
    model: Any = getattr(backbone, "model", None)
    find = getattr(model, "get_input_embeddings", None)
    table = None if find is None else find()
    if type(table) is not nn.Embedding or "forward" in vars(table) or not table.weight.requires_grad:
        return None
    plain = table.max_norm is None and not table.sparse and not table.scale_grad_by_freq
    readers = sum(p is table.weight for _, p in backbone.named_parameters(remove_duplicate=False))
    return table if plain and readers == 1 and table.weight.numel() >= LEAST else None


def _named(backbone: Backbone, encoded: Sequence[Encoded]) -> list[int]:
    """The tokens of these inputs and of padding, in order."""
    found = {0, getattr(getattr(backbone, "tokenizer", None), "pad_token_id", None) or 0}
    for row in encoded:
        for part in row.parts:
            if not isinstance(part, dict) or "input_ids" not in part:
                return []
            found.update(part["input_ids"])
    return sorted(found)


@contextmanager
def _swapped(table: nn.Embedding, used: Tensor) -> Iterator[None]:
    whole, padding = table.weight, table.padding_idx
    with torch.no_grad():
        few = torch.cat([whole[used], whole.new_ones(1, whole.shape[1])])
    place = torch.full((len(whole),), len(used) + 1, dtype=torch.long, device=whole.device)  # outside: an error
    place[used] = torch.arange(len(used), device=whole.device)
    table.weight = nn.Parameter(few)
    empty = None if padding is None or padding not in used else int(place[padding])
    table.forward = partial(_looked_up, table, place, empty)  # type: ignore[method-assign]
    try:
        yield
    finally:
        few = table.weight.detach()
        del table.forward
        table.weight = whole
        with torch.no_grad():
            whole.mul_(few[-1])
            whole[used] = few[:-1]


def _looked_up(table: nn.Embedding, place: Tensor, padding: int | None, ids: Tensor) -> Tensor:
    return functional.embedding(place[ids], table.weight, padding)
