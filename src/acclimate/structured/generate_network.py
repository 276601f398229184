"""The network of generation: a model that writes, the prompt it is given, and the loss of answers alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded, budgeted
from acclimate.backbones.decoding import Decoding, label_scores, to_the_left
from acclimate.backbones.prompts import Examples, Prompt
from acclimate.backbones.writer import Likely, Writer
from acclimate.errors import UserError
from acclimate.features import to_device
from acclimate.files import json_text
from acclimate.run import Run
from acclimate.structured.base import StructuredNetwork

_NOTHING = "N/A"  # the input without content of contextual calibration (Zhao et al. 2021)
_FILE = "prompt.json"
_TOKENS = 8192  # of a batch whose answers are judged


class Written(str):
    """A text that was written, and how likely the model finds the right one: Σ log p of its tokens, and how many."""

    log_p: float
    tokens: int

    @classmethod
    def beside(cls, text: str, log_p: float, tokens: int) -> Written:
        """The text with these numbers."""
        found = cls(text)
        found.log_p, found.tokens = log_p, tokens
        return found


@dataclass(frozen=True)
class Labels:
    """The texts that an answer can be, where it is chosen rather than written."""

    texts: tuple[str, ...]
    mean: bool  # whether a label counts by the mean of its tokens' log p, rather than by their sum
    calibrated: bool  # whether what an input without content gives is taken off


class GenerateNetwork(StructuredNetwork):
    """Loss of a row: −Σ_t log p(y_t | prompt, y_<t) over the tokens of its answer and its end, over the mean number of
    characters that an answer had in training. Tokens of the prompt have no loss."""

    backbone: Writer

    def __init__(
        self, backbone: Writer, prompt: Prompt, how: Decoding, characters: float, labels: Labels | None = None
    ) -> None:
        super().__init__(backbone, nn.Module())
        if labels is not None and backbone.encodes:
            raise UserError(
                f"{backbone.origin.name!r} is an encoder-decoder; a label among several is chosen by a causal language "
                "model such as smollm2 (or use --task classify)"
            )
        self.prompt, self.how, self.characters, self.labels = prompt, how, characters, labels
        self.replays = not backbone.encodes
        self.examples: Examples = ()

    def encode(self, inputs: Sequence[Any], labels: Sequence[Any] | None) -> list[Encoded]:
        """Tokens of the prompt, and of the answer where it is to be learned from."""
        answers = [None] * len(inputs) if labels is None else labels
        one, shown, ahead = self.backbone, self.examples, self._ahead()
        return [self.prompt.row(one, x, y, shown, ahead) for x, y in zip(inputs, answers, strict=True)]

    def _ahead(self) -> int:
        """The tokens that follow a prompt at most."""
        if self.labels is None:
            return self.how.max_new_tokens
        return max(len(self.prompt.answer(self.backbone, "", text)) for text in self.labels.texts)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """With answers what their loss needs; without them the prompts, padded on the left."""
        part = rows[0].parts[0]
        if part["answer"] if self.backbone.encodes else len(part["input_ids"]) > part["start"][0]:
            return self.backbone.with_answers(rows)
        ids, mask = to_the_left([row.parts[0]["input_ids"] for row in rows], 0)
        return {"input_ids": ids, "attention_mask": mask}

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every row, (n,)."""
        return -self.backbone.likely(batch).total / self.characters

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """A text a row: written, or one of the labels."""
        prompts = [row.parts[0]["input_ids"] for row in rows]
        if self.labels is not None:
            return [self.labels.texts[i] for i in self._scores(prompts).argmax(1).tolist()]
        stop = self.prompt.stop(self.backbone, self.examples)
        found = self.backbone.write(prompts, self.how, stop)
        tokenizer = self.backbone.tokenizer
        texts = [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in found]
        return [(text.partition(stop)[0] if stop else text).strip() for text in texts]

    def _scores(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """(n, labels): how likely each is, less what an input without content gives it where that is asked for."""
        assert self.labels is not None
        one = self.backbone
        texts = [self.prompt.answer(one, "", text) for text in self.labels.texts]
        fill = int(one.tokenizer.pad_token_id or 0)
        found = label_scores(one.inner, prompts, texts, fill, mean=self.labels.mean)
        if self.labels.calibrated:
            empty = self.prompt.row(one, _NOTHING, None, self.examples, self._ahead()).parts[0]["input_ids"]
            found = found - label_scores(one.inner, [empty], texts, fill, mean=self.labels.mean)
        return found

    def beside(self, answers: list[Any], inputs: Sequence[Any], truth: Sequence[Any], run: Run) -> list[Any]:
        """The answers with the likelihood of the right ones."""
        if self.labels is not None:
            return answers
        self.to(run.device).eval()
        encoded = self.encode(inputs, truth)
        found: list[Any] = list(answers)
        with torch.inference_mode():
            for at in budgeted([row.cost for row in encoded], _TOKENS, 32):
                batch = to_device(self.collate([encoded[i] for i in at]), run.device)
                likely: Likely = self.backbone.likely(batch)
                for i, total, tokens in zip(at, likely.total.tolist(), likely.tokens.tolist(), strict=True):
                    found[i] = Written.beside(answers[i], total, tokens)
        self.cpu()
        return found

    def cut(self, encoded: Sequence[Encoded]) -> str:
        """How many tokens did not fit, in a sentence; empty where all did."""
        lost = [row for row in encoded if row.lost]
        if not lost:
            return ""
        gone, total = sum(row.lost for row in lost), sum(row.total for row in encoded)
        return (
            f"{len(lost):,} of {len(encoded):,} rows were longer than max_length "
            f"{self.backbone.text.max_length} and were cut: {gone:,} of {total:,} tokens were not read"
        )

    def clone(self) -> Self:
        """A copy whose weights may be trained without touching this one's."""
        other = super().clone()
        other.examples = self.examples
        return other

    def save(self, folder: Path) -> None:
        """Weights, and the examples of the prompt."""
        super().save(folder)
        (folder / _FILE).write_text(json_text({"examples": self.examples}), encoding="utf-8")

    def load_head(self, folder: Path) -> Self:
        """The examples as `save` wrote them."""
        try:
            found = json.loads((folder / _FILE).read_text(encoding="utf-8"))["examples"]
            self.examples = [(asks if isinstance(asks, str) else tuple(map(tuple, asks)), y) for asks, y in found]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder / _FILE} is damaged ({error}); copy the bundle again or fit anew") from error
        return self
