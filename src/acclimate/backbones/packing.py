"""Several texts in one row, without padding: attention runs inside each text, on groups of texts of the same length.

A packed batch holds the tokens of all its texts one after another, shortest text first, so that texts of one length
lie side by side and their queries, keys and values are views of one tensor. What a text becomes does not change; the
work spent on padding goes, and activations stay small enough for the processor's cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.kernels import drop

NAME = "acclimate_packed"  # the attention's name in transformers; never written to disk
Part = dict[str, list[int]]


@dataclass(frozen=True)
class Group:
    """`count` texts of `length` tokens each, from token `start` on."""

    start: int
    count: int
    length: int

    @property
    def stop(self) -> int:
        """The token after the last one."""
        return self.start + self.count * self.length


Groups = tuple[Group, ...]
_groups: ContextVar[Groups | None] = ContextVar("acclimate_packed_groups", default=None)


class NotPackable(Exception):
    """The attention asks for something that is not the same inside a packed row."""


def groups(lengths: Sequence[int]) -> Groups:
    """Neighbours of equal length, together.

    >>> groups([2, 2, 3])
    (Group(start=0, count=2, length=2), Group(start=4, count=1, length=3))
    """
    found: list[Group] = []
    start = 0
    for length, same in itertools.groupby(lengths):
        count = sum(1 for _ in same)
        found.append(Group(start, count, length))
        start += count * length
    return tuple(found)


def parted(tokens: Tensor, spans: Groups) -> list[Tensor]:
    """(T, ...) -> (count, length, ...) of every group, views; their gradients are put together in one go."""
    parts = torch.split(tokens, [group.count * group.length for group in spans])
    return [part.view(g.count, g.length, *tokens.shape[1:]) for part, g in zip(parts, spans, strict=True)]


@contextmanager
def inside(boundaries: Groups) -> Iterator[None]:
    """Within the block, the attention of this thread stays inside the texts of `boundaries`."""
    token = _groups.set(boundaries)
    try:
        yield
    finally:
        _groups.reset(token)


def current() -> Groups | None:
    """The boundaries of the packed row that is being read; None outside of one."""
    return _groups.get()


# -- batches -----------------------------------------------------------------------------------------------------------


def pack(parts: Sequence[Part], counted_from: int | None) -> tuple[dict[str, Tensor], list[int]]:
    """One row of all parts, shortest first, and the order in which they stand.

    `counted_from` is the padding token of models that number their positions from it on, as RoBERTa does, and skip it.
    """
    order = sorted(range(len(parts)), key=lambda i: len(parts[i]["input_ids"]))
    ids = [parts[i]["input_ids"] for i in order]
    lengths = [len(i) for i in ids]
    batch = {"input_ids": _row(ids), "lengths": torch.tensor(lengths, dtype=torch.long)}
    if counted_from is None:
        numbers = torch.arange(max(lengths))
        batch["position_ids"] = torch.cat([numbers[:n] for n in lengths])[None]
    else:
        batch["position_ids"] = _row([_skipping(i, counted_from) for i in ids])
    if "token_type_ids" in parts[0]:
        batch["token_type_ids"] = _row([parts[i]["token_type_ids"] for i in order])
    return batch, order


def pad(parts: Sequence[Part], fill: int) -> dict[str, Tensor]:
    """Ids (w, t), filled up on the right, and their mask."""
    longest = max(len(p["input_ids"]) for p in parts)
    batch: dict[str, Tensor] = {
        key: torch.tensor([p[key] + [fill * (key == "input_ids")] * (longest - len(p[key])) for p in parts])
        for key in ("input_ids", "token_type_ids")
        if key in parts[0]
    }
    lengths = torch.tensor([len(p["input_ids"]) for p in parts])
    batch["attention_mask"] = (torch.arange(longest) < lengths[:, None]).long()
    return batch


def _row(lists: Sequence[list[int]]) -> Tensor:
    return torch.tensor(list(itertools.chain.from_iterable(lists)), dtype=torch.long)[None]


def _skipping(ids: list[int], pad: int) -> list[int]:
    """Positions as RoBERTa numbers them: from pad + 1 on; a padding token inside the text stays at pad.

    >>> _skipping([0, 7, 1, 9, 2], 1)
    [2, 3, 1, 4, 5]
    """
    seen = itertools.accumulate(int(i != pad) for i in ids)
    return [pad + n if i != pad else pad for i, n in zip(ids, seen, strict=True)]


def counted_from(model: nn.Module) -> int | None:
    """The padding token from which the model numbers its positions; None where they begin at 0."""
    for module in model.modules():
        if hasattr(module, "create_position_ids_from_input_ids"):
            return int(module.padding_idx)  # type: ignore[arg-type]
    return None


def slices(lengths: Sequence[int], budget: int) -> list[slice]:
    """Consecutive texts of at most `budget` tokens together, one text at least.

    >>> slices([2, 2, 3, 9], 5)
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    cuts, total = [0], 0
    for i, length in enumerate(lengths):
        if total and total + length > budget:
            cuts.append(i)
            total = 0
        total += length
    return [slice(a, b) for a, b in itertools.pairwise([*cuts, len(lengths)])]


def pool(hidden: Tensor, spans: Groups, pooling: str) -> Tensor:
    """(T, d) -> (w, d): the mean, the first or the last token of every text."""
    found = parted(hidden, spans)  # (count, length, d)
    return torch.cat([x.mean(1) if pooling == "mean" else x[:, -1 if pooling == "last" else 0] for x in found])


def by_owner(pooled: Tensor, tokens: Tensor, owner: Tensor, n: int) -> Tensor:
    """(w, d) -> (n, d): the windows of each row, averaged by their tokens, in the order of the rows."""
    if len(pooled) == n:
        return pooled[torch.argsort(owner)]
    weight = tokens[:, None].to(pooled)
    total = torch.zeros(n, 1, dtype=pooled.dtype, device=pooled.device).index_add(0, owner, weight)
    summed = torch.zeros(n, pooled.shape[1], dtype=pooled.dtype, device=pooled.device)
    return summed.index_add(0, owner, pooled * weight) / total


def by_row(hidden: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, list[int]]:
    """Hidden states of a packed or padded batch as tokens (m, d), those of one row together, and how many each has."""
    tokens = hidden[0] if "lengths" in batch else hidden[batch["attention_mask"].bool()]
    owner, order = _token_order(batch)
    return tokens[order], torch.bincount(owner, minlength=len(batch["rows"])).tolist()


def by_batch(flat: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The reverse of `by_row`; where there is padding, zeros, which attention does not look at."""
    tokens = torch.empty_like(flat)
    tokens[_token_order(batch)[1]] = flat
    if "lengths" in batch:
        return tokens[None]
    mask = batch["attention_mask"].bool()
    hidden = torch.zeros(*mask.shape, flat.shape[1], dtype=flat.dtype, device=flat.device)
    hidden[mask] = tokens
    return hidden


def _token_order(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The row of every token as the batch holds them, and the order that puts the tokens of one row together."""
    lengths = batch["lengths"] if "lengths" in batch else batch["attention_mask"].sum(1)
    owner = torch.repeat_interleave(batch["owner"], lengths.to(batch["owner"].device))
    return owner, torch.argsort(owner, stable=True)


# -- attention ---------------------------------------------------------------------------------------------------------

# What transformers passes along that does not change the attention itself.
_HARMLESS = {"position_ids", "cache_position", "use_cache", "output_attentions", "output_hidden_states", "return_dict"}


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of transformers' interface: group by group in a packed row, plain SDPA elsewhere.

    query (1, heads, T, dim), key and value (1, key heads, T, dim) -> (1, T, heads, dim)
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as sdpa

    spans = _groups.get()
    if spans is None:
        given: tuple[Tensor, None] = sdpa(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
        return given
    asked = sorted(k for k, v in others.items() if v is not None and k not in _HARMLESS)
    if attention_mask is not None:
        asked.append("a mask of its own")
    if asked or query.shape[2] != spans[-1].stop or key.shape[2] != spans[-1].stop:
        raise NotPackable(f"its attention uses {', '.join(asked) or 'other tokens than those of the row'}")
    tokens = (parted(x.transpose(1, 2)[0], spans) for x in (query, key, value))  # (count, length, heads, dim)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    found = []
    for some in zip(*tokens, strict=True):
        q, k, v = (x.transpose(1, 2) for x in some)  # (count, heads, length, dim)
        if not causal and drops_by_hand(q, k, dropout):
            found.append(dropping(q, k, v, dropout, scaling).transpose(1, 2).flatten(0, 1))
            continue
        found.append(sdpa(module, q, k, v, None, dropout, scaling, is_causal)[0].flatten(0, 1))
    return (found[0] if len(found) == 1 else torch.cat(found))[None], None


def drops_by_hand(query: Tensor, key: Tensor, dropout: float) -> bool:
    """Whether `dropping` takes the place of SDPA: dropout on a CPU, where each query head has its own key head."""
    return dropout > 0 and query.device.type == "cpu" and query.shape[1] == key.shape[1]


def dropping(query: Tensor, key: Tensor, value: Tensor, dropout: float, scaling: float | None) -> Tensor:
    """drop(softmax(s Q Kᵀ)) V; (count, heads, length, dim).

    No row is without a key, so that nothing has to be looked for, and dropout draws fewer bits than that of SDPA.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    weights = torch.softmax(torch.matmul(query * scale, key.transpose(-2, -1)), -1)
    return torch.matmul(drop(weights, dropout), value)


def any_shape(device: torch.device) -> AbstractContextManager[None]:
    """Within the block attention on a GPU takes no kernel that is planned anew, for some 50 ms, at every new shape."""
    if device.type != "cuda":
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def _mask(*args: Any, **kwargs: Any) -> Any:
    """No mask in a packed row: the groups take its place. On a GPU none is left out elsewhere: to see whether it may
    be, the host would wait for the device."""
    from transformers.masking_utils import sdpa_mask

    if _groups.get() is not None:
        return None
    if torch.device(kwargs.get("device") or "cpu").type == "cuda":
        kwargs = {**kwargs, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    return sdpa_mask(*args, **kwargs)


def register() -> None:
    """Make the attention known to transformers; again is harmless."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _mask)
