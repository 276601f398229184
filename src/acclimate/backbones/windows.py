"""Cutting long texts: the head alone, head and tail, or windows that are pooled afterwards.

The cuts are made on positions of tokens, not on the text: nothing is tokenised anew, so every token is either in
exactly one piece, or lost and counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from acclimate.errors import UserError, plural, unknown

TRUNCATIONS = ("head", "head-tail", "chunk", "fail")


def check(truncation: str) -> str:
    """The name itself, or a clear error."""
    if truncation not in TRUNCATIONS:
        raise unknown("truncation", truncation, TRUNCATIONS)
    return truncation


def head_tail(tokens: int, room: int) -> list[int]:
    """The first half and the last half of what fits.

    >>> head_tail(10, 5)
    [0, 1, 7, 8, 9]
    """
    first = room // 2
    return [*range(first), *range(tokens - (room - first), tokens)]


def windows(starts: Sequence[bool], room: int) -> list[list[int]]:
    """Consecutive pieces of at most `room` tokens; a piece ends before a word where one starts in its second half.

    `starts[i]` says whether a word starts at token i. Text without spaces, or one long word, is cut where it must be.

    >>> windows([True, True, False, True, False, False], room=4)
    [[0, 1, 2], [3, 4, 5]]
    """
    pieces: list[list[int]] = []
    begin = 0
    while begin < len(starts):
        end = min(begin + room, len(starts))
        if end < len(starts):
            words = [i for i in range(end, begin + room // 2, -1) if starts[i]]
            end = words[0] if words else end
        pieces.append(list(range(begin, end)))
        begin = end
    return pieces


def word_starts(text: str, offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each token, by its place in the text, begins after white space (or takes that space in)."""
    return [a == 0 or text[a - 1].isspace() or text[a : a + 1].isspace() for a, _ in offsets]


def cut(starts: Sequence[bool], room: int, truncation: str) -> list[list[int]]:
    """The positions that each piece keeps of a text that has more tokens than `room`."""
    if truncation == "head-tail":
        return [head_tail(len(starts), room)]
    return windows(starts, room)


def too_long(name: str, tokens: int, limit: int) -> UserError:
    """The error of `truncation="fail"`."""
    return UserError(
        f"{name} has {plural(tokens, 'token')} and only {limit} fit; "
        "raise --max-length, or choose --truncation head, head-tail or chunk"
    )
