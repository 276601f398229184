"""What the letters of words look like: many tokenisers lower them, and names are told by capitals and digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acclimate.metrics.intervals import FloatArray

_OF_WORD = 7
WIDTH = 3 * _OF_WORD + 1


def forms(words: Sequence[str]) -> FloatArray:
    """Numbers from 0 to 1 for each word, (m, 22) float32: of the word, of the one before and the one after whether it
    begins with a capital, is all capitals, has one further on, has a digit, is digits alone, has neither letter nor
    digit, is there at all; and the share of the row's words with a capital, which says how much a capital means.

    >>> forms(["In", "Bonn"])[1, :7].tolist()
    [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    """
    own = np.array([_of_word(word) for word in words], np.float32).reshape(-1, _OF_WORD)
    nothing = np.zeros((1, _OF_WORD), np.float32)
    before, after = np.concatenate([nothing, own[:-1]])[: len(own)], np.concatenate([own[1:], nothing])[: len(own)]
    share = np.full((len(own), 1), own[:, 0].mean() if len(own) else 0.0, np.float32)
    return np.concatenate([own, before, after, share], 1)


def _of_word(word: str) -> tuple[bool, ...]:
    letters = [c for c in word if c.isalpha()]
    capitals = len(letters) > 1 and all(c.isupper() for c in letters)
    return (
        word[:1].isupper(),
        capitals,
        not capitals and any(c.isupper() for c in word[1:]),
        any(c.isdigit() for c in word),
        word.isdigit(),
        not any(c.isalnum() for c in word),
        True,
    )
