"""Prompts: an input as the tokens that a model which writes is given, with examples before it where there are some."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from acclimate.backbones.base import Encoded
from acclimate.backbones.writer import Writer
from acclimate.errors import UserError

Turns: TypeAlias = tuple[tuple[str, str], ...]  # (role, content)
Asking: TypeAlias = str | Turns
Examples: TypeAlias = Sequence[tuple[Asking, str]]

_PLACE = "{input}"
_BETWEEN = "\n\n"  # examples in a prompt that is plain text


@dataclass(frozen=True)
class Prompt:
    """How an input becomes a prompt: the template round it, then the model's own chat template where it has one."""

    template: str = ""  # holds {input}; empty: the input alone (before a new line where a decoder has no chat template)
    chat: bool = True  # False: without the model's chat template

    def __post_init__(self) -> None:
        if self.template and _PLACE not in self.template:
            raise UserError(f"template={self.template!r} has no {_PLACE}, where the input goes")

    def chats(self, writer: Writer) -> bool:
        """Whether prompts are turns in the model's own chat template."""
        return self.chat and not writer.encodes and bool(getattr(writer.tokenizer, "chat_template", None))

    def text(self, writer: Writer, given: Asking, examples: Examples = ()) -> str:
        """The prompt as text."""
        if self.chats(writer):
            turns: list[tuple[str, str]] = []
            for asks, answer in examples:
                turns += [*self._turns(asks), ("assistant", answer)]
            turns += self._turns(given)
            messages = [{"role": role, "content": content} for role, content in turns]
            found: str = writer.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return found
        shown = [self._plain(writer, asks) for asks, _ in examples]
        before = [_joined(asks, answer) + _BETWEEN for asks, (_, answer) in zip(shown, examples, strict=True)]
        return "".join(before) + self._plain(writer, given)

    def stop(self, writer: Writer, examples: Examples) -> str:
        """The text at which an answer ends as another example would begin; empty where it has an end of its own."""
        return _BETWEEN if examples and not self.chats(writer) else ""

    def _turns(self, given: Asking) -> Turns:
        return (("user", self._filled(given)),) if isinstance(given, str) else given

    def _filled(self, given: str) -> str:
        return self.template.replace(_PLACE, given) if self.template else given

    def _plain(self, writer: Writer, given: Asking) -> str:
        if not isinstance(given, str):
            given = "\n".join(content for _, content in given)
        return given + "\n" if not self.template and not writer.encodes else self._filled(given)

    def row(
        self, writer: Writer, given: Asking, answer: str | None = None, examples: Examples = (), ahead: int = 1
    ) -> Encoded:
        """The tokens of a row. What does not fit is cut: examples from the first, then the input at its end, and of an
        answer what goes beyond half the room. `ahead`: tokens that are to be written after a prompt alone."""
        after = [] if answer is None else self.answer(writer, given, answer)
        limit = writer.text.max_length
        most = limit if writer.encodes else limit // 2
        kept = after[:most]
        room = limit if writer.encodes else limit - max(len(kept), 1)
        if answer is None and not writer.encodes:
            room = min(room, writer.positions - writer.ahead(ahead))
        examples = list(examples)
        ids = self._ids(writer, given, examples)
        total = len(ids) + len(after)
        while len(ids) > room and examples:
            examples = examples[1:]
            ids = self._ids(writer, given, examples)
        if len(ids) > room:
            ids = self._shortened(writer, given, len(ids) - room, room)
        part = {"input_ids": ids, "answer": kept} if writer.encodes else {"input_ids": ids + kept, "start": [len(ids)]}
        read = len(ids) + len(kept)
        return Encoded((part,), read, total - read, total)

    def answer(self, writer: Writer, given: Asking, answer: str) -> list[int]:
        """The tokens of an answer and of its end."""
        if writer.encodes:
            return [int(i) for i in writer.tokenizer(text_target=answer, verbose=False)["input_ids"]]
        text = answer if self.chats(writer) else _joined(self._plain(writer, given), answer, alone=True)
        ids = writer.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        end = writer.tokenizer.eos_token_id
        return [*map(int, ids), *([] if end is None else [int(end)])]

    def _ids(self, writer: Writer, given: Asking, examples: Examples) -> list[int]:
        tokenizer, chats = writer.tokenizer, self.chats(writer)
        text = self.text(writer, given, examples)
        ids = [int(i) for i in tokenizer(text, add_special_tokens=not chats, verbose=False)["input_ids"]]
        if not writer.encodes and not chats:
            ends = {tokenizer.eos_token_id, tokenizer.sep_token_id}
            while len(ids) > 1 and ids[-1] in ends:  # the frame of a tokeniser: the answer is to follow, not the end
                ids.pop()
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return ids or [int(begin or 0)]

    def _shortened(self, writer: Writer, given: Asking, over: int, room: int) -> list[int]:
        """The prompt with the end of the input cut off, so that the frame round it stays whole."""
        text = given if isinstance(given, str) else given[-1][1]
        tokens = writer.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for spare in (0, 2, 8):
            left = tokens[: max(0, len(tokens) - over - spare)]
            short = writer.tokenizer.decode(left, skip_special_tokens=True)
            ids = self._ids(writer, short if isinstance(given, str) else (*given[:-1], (given[-1][0], short)), ())
            if len(ids) <= room:
                return ids
        return ids[-room:]


def _joined(asks: str, answer: str, *, alone: bool = False) -> str:
    """An answer behind its prompt, with a space between where there is none; or `alone`, with that space."""
    answer = answer if not asks or asks[-1].isspace() else " " + answer
    return answer if alone else asks + answer


def drawn(labels: Sequence[Any], shots: int, seed: int, *, even: bool) -> list[int]:
    """Positions of some rows at random; `even`: of every label as many as of the others, as far as they go round.

    >>> sorted({"aabb"[i] for i in drawn("aabb", 2, 0, even=True)})
    ['a', 'b']
    """
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(labels))]
    if not even:
        return order[:shots]
    seen: dict[Any, int] = defaultdict(int)
    rounds = []
    for place, i in enumerate(order):
        rounds.append((seen[labels[i]], place, i))
        seen[labels[i]] += 1
    chosen = sorted(sorted(rounds)[:shots], key=lambda one: one[1])
    return [i for _, _, i in chosen]
