"""Connectionist temporal classification: letters from scores a frame, where a blank may stand between any two.

P(text | sound) is the sum over all ways to write the text over t frames, each letter repeated or followed by blanks.
Graves et al. 2006, "Connectionist temporal classification". Code 0 is the blank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

BLANK = 0


def alphabet(texts: Iterable[str]) -> list[str]:
    """Every letter of these texts, the space among them, in order.

    >>> alphabet(["bad cab"])
    [' ', 'a', 'b', 'c', 'd']
    """
    return sorted(Counter(letter for text in texts for letter in text))


def frames_needed(text: str) -> int:
    """The least number of frames that can hold a text: one a letter, and a blank between two that are alike.

    >>> frames_needed("three"), frames_needed("")
    (6, 0)
    """
    return len(text) + sum(a == b for a, b in zip(text, text[1:], strict=False))


def greedy(scores: NDArray[np.floating], letters: Sequence[str]) -> str:
    """The best code of every frame (t, 1 + |V|); repeats count once, blanks are left out.

    >>> greedy(np.eye(3)[[1, 1, 0, 1, 2]], ["a", "b"])
    'aab'
    """
    best = scores.argmax(1).tolist()
    return "".join(letters[c - 1] for c, before in zip(best, [BLANK, *best], strict=False) if c not in (before, BLANK))


def beam(log_p: NDArray[np.floating], letters: Sequence[str], width: int) -> str:
    """The likeliest text among the `width` best beginnings after each frame, all ways to write one of them summed.

    log_p: (t, 1 + |V|) log-probabilities. Prefix beam search: Hannun et al. 2014, arXiv:1408.2873, without a language
    model. With a width that leaves no beginning out it is exact.
    """
    held: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}  # ends in a blank; ends in its letter
    for row in np.asarray(log_p, np.float64):
        likely = [int(c) for c in np.argsort(row)[::-1][: width + 1] if c != BLANK]
        found: dict[tuple[int, ...], list[float]] = {}
        for text, (blank, letter) in held.items():
            both = float(np.logaddexp(blank, letter))
            _put(found, text, 0, both + row[BLANK])
            if text:
                _put(found, text, 1, letter + row[text[-1]])
            for code in likely:
                before = blank if text and code == text[-1] else both
                _put(found, (*text, code), 1, before + row[code])
        best = sorted(found.items(), key=lambda one: -np.logaddexp(one[1][0], one[1][1]))[:width]
        held = {text: (pair[0], pair[1]) for text, pair in best}
    return "".join(letters[c - 1] for c in max(held, key=lambda text: np.logaddexp(*held[text])))


def _put(found: dict[tuple[int, ...], list[float]], text: tuple[int, ...], at: int, log_p: float) -> None:
    pair = found.setdefault(text, [-np.inf, -np.inf])
    pair[at] = float(np.logaddexp(pair[at], log_p))
