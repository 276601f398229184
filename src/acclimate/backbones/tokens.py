"""Text to token ids: every text whole if it fits, else cut or split as the settings say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from acclimate.backbones.base import Encoded
from acclimate.backbones.windows import cut, too_long, word_starts
from acclimate.errors import UserError

LEAST_LENGTH = 8  # tokens: the special ones of a pair, and at least two of each text


@dataclass(frozen=True)
class TextSettings:
    """How text becomes a vector. Saved in the bundle and enforced at prediction."""

    pooling: str = "mean"
    max_length: int = 256  # tokens, special ones included
    truncation: str = "head"
    prefix: str = ""  # put before every text, e.g. "query: " for e5
    precision: str = "fp32"  # bf16, fp16 or int8: of the products inside the model
    pairs: str = ""  # of two texts: "joint" (one sequence), "apart" (each by itself); not asked yet: as joint ones

    @property
    def apart(self) -> bool:
        """Whether both texts of a pair are read by themselves."""
        return self.pairs == "apart"


class Second(dict[str, list[int]]):
    """Token ids of a window of the second text of a pair that is read apart."""


@dataclass(frozen=True)
class EncodedApart(Encoded):
    """Both texts of a pair."""

    longest: int = 0  # tokens of the longer one


@dataclass(frozen=True)
class Reader:
    """A tokeniser and what it is asked to do."""

    tokenizer: Any
    settings: TextSettings
    name: str  # of the model, for errors

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Token ids of every text (or pair). With `truncation="chunk"` a long text becomes several windows."""
        if not inputs:
            return []
        if self.settings.apart:
            return self._apart(inputs)
        pairs = [(x, None) if isinstance(x, str) else (x[0], x[1]) for x in inputs]
        first = [self.settings.prefix + a for a, _ in pairs]
        paired = any(b is not None for _, b in pairs)
        second = [self.settings.prefix + (b or "") for _, b in pairs] if paired else None
        full = [self._not_empty(ids) for ids in self._tokenise(first, second, truncate=False)]
        rows: list[Encoded] = []
        for i, ids in enumerate(full):
            total = len(ids["input_ids"])
            if total <= self.settings.max_length:
                rows.append(Encoded((ids,), total, 0, total))
            else:
                rows.append(self._shorten(ids, first[i], second[i] if second else None, f"input {i + 1}"))
        return rows

    def _apart(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Both texts of every pair, each with its own frame and length; windows of the first come first."""
        alone = Reader(self.tokenizer, replace(self.settings, pairs=""), self.name)
        sides = [[x, ""] if isinstance(x, str) else [x[0], x[1] or ""] for x in inputs]
        both = zip(*(alone.encode([side[k] for side in sides]) for k in (0, 1)), strict=True)
        return [
            EncodedApart(
                (*a.parts, *map(Second, b.parts)),
                a.cost + b.cost,
                a.lost + b.lost,
                a.total + b.total,
                max(a.total, b.total),
            )  # fmt: skip
            for a, b in both
        ]

    def _tokenise(self, first: list[str], second: list[str] | None, *, truncate: bool) -> list[dict[str, list[int]]]:
        out = self.tokenizer(
            first,
            second,
            truncation=truncate,
            max_length=self.settings.max_length if truncate else None,
            padding=False,
            return_attention_mask=False,
            verbose=False,
        )
        return [{key: list(out[key][i]) for key in out} for i in range(len(first))]

    def _not_empty(self, ids: dict[str, list[int]]) -> dict[str, list[int]]:
        """A text that leaves no token at all is read as one that ends at once: the mean of nothing would be NaN."""
        if ids["input_ids"]:
            return ids
        end = self.tokenizer.eos_token_id or self.tokenizer.pad_token_id or 0
        return {key: [end if key == "input_ids" else 0] for key in ids}

    def _shorten(self, ids: dict[str, list[int]], first: str, second: str | None, name: str) -> Encoded:
        total, limit = len(ids["input_ids"]), self.settings.max_length
        if self.settings.truncation == "fail":
            raise too_long(name, total, limit)
        if self.settings.truncation == "head":
            part = self._tokenise([first], None if second is None else [second], truncate=True)[0]
            return Encoded((part,), len(part["input_ids"]), total - len(part["input_ids"]), total)
        pieces = self._pieces(ids["input_ids"], first, second)
        parts = tuple({key: [values[i] for i in piece] for key, values in ids.items()} for piece in pieces)
        return Encoded(parts, sum(map(len, pieces)), total - len({i for piece in pieces for i in piece}), total)

    def _pieces(self, ids: list[int], first: str, second: str | None) -> list[list[int]]:
        """Positions that each piece keeps: the special tokens, of a pair the head of its shorter text, and a cut."""
        bodies: list[tuple[int, list[bool]]] = []  # of each text: where it begins, and which of its tokens start words
        at = 0
        for text in (first, second):
            tokens, starts = ([], []) if text is None else self._body(text)
            while at + len(tokens) <= len(ids) and ids[at : at + len(tokens)] != tokens:
                at += 1
            if at + len(tokens) > len(ids):
                raise UserError(
                    f"truncation {self.settings.truncation!r} cannot tell a text from the tokens that the tokeniser of "
                    f"{self.name!r} puts around it; use --truncation head or fail"
                )
            bodies.append((at, starts))
            at += len(tokens)
        inside = {at + i for at, starts in bodies for i in range(len(starts))}
        special = [i for i in range(len(ids)) if i not in inside]
        room = self.settings.max_length - len(special)
        (short_at, short), (long_at, long) = sorted(bodies, key=lambda body: len(body[1]))
        spare = min(len(short), room // 2)  # the shorter text keeps up to half the room
        always = [*special, *range(short_at, short_at + spare)]
        cuts = cut(long, room - spare, self.settings.truncation)
        return [sorted([*always, *(long_at + i for i in piece)]) for piece in cuts]

    def _body(self, text: str) -> tuple[list[int], list[bool]]:
        """The tokens of a text without its frame, and where words start (anywhere, if the tokeniser cannot tell)."""
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        out = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=fast, verbose=False)
        tokens = list(out["input_ids"])
        return tokens, word_starts(text, out["offset_mapping"]) if fast else [True] * len(tokens)
