"""How a model writes: greedy, by beams or by drawing words; and which of several texts it finds likely."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acclimate.errors import UserError

_WORTH_KEEPING = 16  # tokens that all prompts begin with, from which on they are read once for all of them


@dataclass(frozen=True)
class Decoding:
    """How words are chosen."""

    max_new_tokens: int = 128
    num_beams: int = 1  # 1: greedy
    temperature: float = 0.0  # 0: the likeliest word; above, words are drawn from p^(1/temperature)
    top_p: float = 1.0  # only from the likeliest words that together have this probability
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("max_new_tokens", 1), ("num_beams", 1), ("temperature", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name}={getattr(self, name)!r} must be {low} or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p!r} is a share of the probability; give a number above 0, to 1")
        if self.num_beams > 1 and self.temperature > 0:
            raise UserError("words are drawn (temperature > 0) or searched by beams (num_beams > 1); set one of them")
        if self.top_p < 1 and not self.temperature:
            raise UserError("top_p is for words that are drawn; set temperature above 0 with it")


class Drawn:
    """Words drawn row by row: argmax of logits/T + Gumbel noise is a draw from softmax(logits/T).

    The noise of a row comes from the seed and its own prompt, so that a text does not depend on its batch-mates.
    """

    def __init__(self, how: Decoding, prompts: Sequence[Sequence[int]]) -> None:
        self.how = how
        self.generators = [_generator(how.seed, ids) for ids in prompts]

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (n, vocabulary) whose largest is the word that was drawn."""
        scores = scores.float() / self.how.temperature
        if self.how.top_p < 1:
            ordered, at = scores.softmax(-1).sort(-1, descending=True)
            beyond = ordered.cumsum(-1) - ordered >= self.how.top_p
            scores = scores.masked_fill(beyond.gather(-1, at.argsort(-1)), -torch.inf)
        size = scores.shape[1]
        noise = torch.stack([torch.rand(size, generator=g).clamp_min(1e-20) for g in self.generators])
        return scores - (-noise.log()).clamp_min(1e-20).log().to(scores.device)


def _generator(seed: int, ids: Sequence[int]) -> torch.Generator:
    mark = hashlib.blake2b(f"{seed} {list(ids)}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(mark, "little"))


def to_the_left(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    """Ids (n, t), filled up on the left so that all end together, and their mask."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[fill] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with, each keeping one of its own at least; 0 where it is too few to gain by.

    >>> common([list(range(20)) + [1, 2], list(range(20)) + [3]]), common([[1, 2], [1, 3]])
    (20, 0)
    """
    if len(rows) < 2:
        return 0
    shortest = min(len(row) for row in rows) - 1
    same = next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)
    return same if same >= _WORTH_KEEPING else 0


def kept_as(model: Any) -> str:
    """What transformers calls the keys and values of tokens that were read: it was renamed in its fifth series."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def read_once(model: Any, rows: Sequence[Sequence[int]]) -> tuple[Any, int]:
    """The keys and values of what all rows begin with, for each of them, and its length; None and 0 without any."""
    shared = common(rows)
    if not shared:
        return None, 0
    ids = torch.tensor([list(rows[0][:shared])], device=next(model.parameters()).device)
    past = model(input_ids=ids, use_cache=True)[kept_as(model)]
    past.batch_repeat_interleave(len(rows))
    return past, shared


def label_scores(
    model: Any, rows: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], fill: int, *, mean: bool
) -> Tensor:
    """log p(label | prompt), (n, k): the sum over the label's tokens, or their mean.

    Each prompt is read once and kept; the tokens of every label are then read after it.
    """
    past, shared = read_once(model, rows)
    name = kept_as(model)
    ids, mask = to_the_left([row[shared:] for row in rows], fill)
    device = next(model.parameters()).device
    ids, mask = ids.to(device), torch.cat([torch.ones(len(rows), shared, dtype=torch.long), mask], 1).to(device)
    places = (mask.cumsum(1) - 1).clamp_min(0)
    out = model(input_ids=ids, attention_mask=mask, position_ids=places[:, shared:], use_cache=True, **{name: past})
    first = out.logits[:, -1].float().log_softmax(-1)  # (n, vocabulary)
    found: Tensor = first[:, [label[0] for label in labels]]  # (n, k)
    longest = max(len(label) for label in labels)
    if longest > 1:
        k, n = len(labels), len(rows)
        kept = out[name]
        kept.batch_repeat_interleave(k)
        rest = torch.tensor([list(x) + [fill] * (longest - len(x)) for x in labels], device=device).repeat(n, 1)
        there = torch.tensor([[1] * len(x) + [0] * (longest - len(x)) for x in labels], device=device).repeat(n, 1)
        seen = torch.cat([mask.repeat_interleave(k, 0), there[:, :-1]], 1)
        at = places[:, -1:].repeat_interleave(k, 0) + 1 + torch.arange(longest - 1, device=device)
        after = model(input_ids=rest[:, :-1], attention_mask=seen, position_ids=at, use_cache=True, **{name: kept})
        more = after.logits.float().log_softmax(-1).gather(2, rest[:, 1:, None])[..., 0]  # (n * k, longest - 1)
        found = found + (more * there[:, 1:]).sum(1).view(n, k)
    if mean:
        found = found / torch.tensor([len(label) for label in labels], device=device)
    return found
