"""Cutting long texts: the head alone, head and tail, or windows that are pooled afterwards.

The cuts are made on the text itself, at word boundaries reported by the tokeniser, so that every tokeniser with offsets
is served by the same code and the pieces are tokenised like any other text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from acclimate.errors import UserError, unknown

Offsets: TypeAlias = Sequence[tuple[int, int]]  # (start, end) of every token in the text
TRUNCATIONS = ("head", "head-tail", "chunk", "fail")


def check(truncation: str) -> str:
    """The name itself, or a clear error."""
    if truncation not in TRUNCATIONS:
        raise unknown("truncation", truncation, TRUNCATIONS)
    return truncation


def _word_start(text: str, at: int) -> int:
    """The nearest position at or before `at` where a word begins (or `at` itself in text without spaces)."""
    start = at
    while start > 0 and not text[start - 1].isspace():
        start -= 1
        if at - start > 40:  # no space in sight: Chinese, or one long token
            return at
    return start


def head_tail(text: str, offsets: Offsets, room: int) -> str:
    """The first half and the last half of what fits, joined by a space."""
    first = room // 2
    head_end = offsets[first - 1][1]
    tail_start = offsets[len(offsets) - (room - first)][0]
    return text[:head_end] + " " + text[tail_start:]


def windows(text: str, offsets: Offsets, room: int) -> list[str]:
    """Consecutive pieces of at most `room` tokens that together hold the whole text."""
    pieces: list[str] = []
    begin_char, begin = 0, 0
    while begin < len(offsets):
        end = min(begin + room, len(offsets))
        if end == len(offsets):
            pieces.append(text[begin_char:])
            break
        cut = _word_start(text, offsets[end][0])
        if cut <= begin_char:  # one word longer than a window
            cut = offsets[end][0]
        pieces.append(text[begin_char:cut])
        begin_char = cut
        begin = next(i for i in range(begin, len(offsets)) if offsets[i][0] >= cut)
    return pieces or [text]


def cut(text: str, offsets: Offsets, room: int, truncation: str, where: Callable[[], str]) -> list[str]:
    """The pieces to tokenise in place of `text`, which has more tokens than `room`."""
    if truncation == "fail":
        raise UserError(
            f"{where()} has {len(offsets)} tokens and only {room} fit; "
            "raise --max-length, or choose --truncation head, head-tail or chunk"
        )
    if truncation == "head-tail":
        return [head_tail(text, offsets, room)]
    if truncation == "chunk":
        return windows(text, offsets, room)
    return [text]  # head: the tokeniser itself cuts the end off
