"""Classes as the answers of a prompt: features are how likely a language model finds each class after a text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded
from acclimate.backbones.decoding import label_scores
from acclimate.backbones.prompts import Examples, Prompt
from acclimate.backbones.writer import Writer


class Prompted(Backbone):
    """A language model with a prompt. `forward` gives log p(class | prompt) of every class, (n, k)."""

    modality = "text"

    def __init__(self, writer: Writer, prompt: Prompt, labels: Sequence[str], examples: Examples = ()) -> None:
        super().__init__()
        self.writer, self.prompt, self.labels, self.examples = writer, prompt, tuple(labels), tuple(examples)
        self.origin, self.width = writer.origin, len(self.labels)

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Tokens of the prompt of every text (of a pair: both, one under the other)."""
        texts = [x if isinstance(x, str) else "\n".join(x) for x in inputs]
        ahead = max(map(len, self._labels()), default=1)
        return [self.prompt.row(self.writer, text, None, self.examples, ahead) for text in texts]

    def _labels(self) -> list[list[int]]:
        """The tokens of every class."""
        return [self.prompt.answer(self.writer, "", label) for label in self.labels]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """The prompts one behind the other, and their lengths: padding is added where they are read."""
        ids = [row.parts[0]["input_ids"] for row in rows]
        flat = torch.tensor([token for row in ids for token in row], dtype=torch.long)
        return {"input_ids": flat, "lengths": torch.tensor([len(row) for row in ids])}

    def forward(self, batch: Batch) -> Tensor:
        """(n, k)."""
        tokens, ends = batch["input_ids"].tolist(), batch["lengths"].cumsum(0).tolist()
        prompts = [tokens[a:b] for a, b in itertools.pairwise([0, *ends])]
        fill = int(self.writer.tokenizer.pad_token_id or 0)
        return label_scores(self.writer.inner, prompts, self._labels(), fill, mean=False)

    @property
    def blocks(self) -> list[nn.Module]:
        """None that could move."""
        return []

    @property
    def fixed(self) -> str:
        """A prompt trains nothing."""
        return "nothing is trained where a language model is prompted"

    def settings(self) -> dict[str, object]:
        """The prompt with its examples, and the classes."""
        prompt = {**asdict(self.prompt), "labels": list(self.labels), "examples": [list(e) for e in self.examples]}
        return {**self.writer.settings(), **prompt}

    def save(self, folder: Path) -> None:
        """The language model alone."""
        self.writer.save(folder)

    def clone(self) -> Prompted:
        """A copy with weights of its own."""
        return Prompted(self.writer.clone(), self.prompt, self.labels, self.examples)
