"""Hidden words: which ones of a text, what stands in their place, and a network that guesses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.masked import WordHead
from acclimate.backbones.text import TextBackbone
from acclimate.features import to_device
from acclimate.train.batches import shuffled
from acclimate.train.memory import Fitting, parts

DRAWS = 4  # of hidden words for each text that is judged: few texts have few words
_EVALUATED = 32  # texts of one batch when nothing is learned from them


@dataclass(frozen=True)
class Vocabulary:
    """What a tokeniser may hide, and what it puts there."""

    mask: int
    special: frozenset[int]
    words: tuple[int, ...]  # all that are not special

    @staticmethod
    def of(tokenizer: Any) -> Vocabulary:
        """That of a tokeniser with a mask token."""
        special = frozenset(map(int, tokenizer.all_special_ids))
        return Vocabulary(
            int(tokenizer.mask_token_id), special, tuple(i for i in range(len(tokenizer)) if i not in special)
        )

    def hide(self, ids: Sequence[int], share: float, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """The ids with some of them hidden, and the places of these, in order; none where all are special."""
        may = np.array([i for i, token in enumerate(ids) if token not in self.special], np.intp)
        if not len(may):
            return list(ids), []
        at = np.sort(rng.choice(may, max(1, round(share * len(may))), replace=False)).tolist()
        kinds, others = rng.random(len(at)), rng.integers(len(self.words), size=len(at))
        changed = list(ids)
        for place, kind, other in zip(at, kinds, others, strict=True):
            if kind < 0.9:
                changed[place] = self.mask if kind < 0.8 else self.words[other]
        return changed, at


@dataclass(frozen=True)
class Texts:
    """Encoded windows of texts, a row each. A slot is a row in an epoch, and tells which of its words are hidden."""

    windows: tuple[dict[str, list[int]], ...]
    vocabulary: Vocabulary
    share: float
    seed: int

    @staticmethod
    def of(backbone: TextBackbone, texts: Sequence[Any], share: float, seed: int) -> Texts:
        """Their windows that hold a word to hide."""
        vocabulary = Vocabulary.of(backbone.tokenizer)
        windows = [part for row in backbone.encode(texts) for part in row.parts]
        some = tuple(w for w in windows if not vocabulary.special.issuperset(w["input_ids"]))
        return Texts(some, vocabulary, share, seed)

    @property
    def costs(self) -> list[int]:
        """Tokens of each row."""
        return [len(window["input_ids"]) for window in self.windows]

    @property
    def hidden(self) -> float:
        """The mean number of hidden tokens of a row."""
        return float(np.mean([len(self.drawn(row)[1]) for row in range(len(self.windows))]))

    def drawn(self, slot: int) -> tuple[dict[str, list[int]], list[int]]:
        """The window of a slot with its words hidden, and their places; the same whenever it is asked."""
        epoch, row = divmod(slot, len(self.windows))
        window = self.windows[row]
        ids, at = self.vocabulary.hide(window["input_ids"], self.share, np.random.default_rng([self.seed, epoch, row]))
        return {**window, "input_ids": ids}, at

    def batches(self, size: int, epoch: int) -> list[list[int]]:
        """Every row once, as slots."""
        first = epoch * len(self.windows)
        return [[first + row for row in batch] for batch in shuffled(self.costs, size, self.seed, epoch)]

    def batch(self, backbone: TextBackbone, slots: Sequence[int]) -> tuple[Batch, Tensor, Tensor]:
        """The rows with words hidden; the places of these among all tokens (m,), and what stood there (m,)."""
        rows, places, truth, start = [], [], [], 0
        for slot in slots:
            window, at = self.drawn(slot)
            whole_ids = self.windows[slot % len(self.windows)]["input_ids"]
            places += [start + place for place in at]
            truth += [whole_ids[place] for place in at]
            start += len(whole_ids)
            rows.append(Encoded((window,), len(whole_ids)))
        return backbone.collate(rows), torch.tensor(places), torch.tensor(truth)


class Guesser(nn.Module):
    """The backbone and its head for hidden words."""

    def __init__(self, backbone: TextBackbone, head: WordHead) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, batch: Batch, places: Tensor) -> Tensor:
        """Logits at these places among all tokens, (m, V): the others' would cost more than the encoder."""
        logits: Tensor = self.head(self.backbone.tokens(batch)[places])
        return logits

    def loss(self, texts: Texts, slots: Sequence[int], device: str) -> Tensor:
        """The cross-entropy of the hidden words of these rows, summed."""
        batch, places, truth = texts.batch(self.backbone, slots)
        logits = self(to_device(batch, device), places.to(device)).float()
        return F.cross_entropy(logits, truth.to(device), reduction="sum")

    def mean_loss(self, texts: Texts, device: str, fitting: Fitting) -> float:
        """Of the hidden words of all rows, a few draws each, rows of like length together."""
        self.eval()
        n = len(texts.windows)
        order = np.argsort(texts.costs, kind="stable").tolist()
        total = torch.zeros((), dtype=torch.float64, device=device)
        with torch.inference_mode():
            for draw in range(DRAWS):
                for rows in parts([draw * n + row for row in order], _EVALUATED):
                    total += fitting.retried(partial(self._summed, texts, rows, device), len(rows))
        return float(total) / sum(len(texts.drawn(slot)[1]) for slot in range(DRAWS * n))

    def _summed(self, texts: Texts, rows: list[int], device: str, most: int) -> Tensor:
        return torch.stack([self.loss(texts, part, device).double() for part in parts(rows, most)]).sum()
