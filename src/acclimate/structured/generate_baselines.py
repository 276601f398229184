"""What writes without a pretrained model: the input itself, and the answer to the most similar training row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from acclimate.data.exchanges import text_of
from acclimate.data.rows import Data
from acclimate.structured.base import labels_of

_AT_ONCE = 1024  # inputs that are compared with all training rows at a time


class Copy:
    """The input as it is: hard to beat where answers repeat much of it, as in correction."""

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """The last turn of each."""
        return [x if isinstance(x, str) else x[-1][1] for x in inputs]


class Nearest:
    """The answer to the training input with the largest cosine of TF-IDF over 1 to 4 characters of words."""

    def __init__(self, train: Data) -> None:
        self._words = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
        self._known = self._words.fit_transform([text_of(x) for x in train.inputs])
        self._answers = labels_of(train)

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """One of the training answers each; the first among equals."""
        found: list[Any] = []
        for start in range(0, len(inputs), _AT_ONCE):
            some = self._words.transform([text_of(x) for x in inputs[start : start + _AT_ONCE]])
            at = np.asarray((some @ self._known.T).todense()).argmax(1)
            found += [self._answers[int(i)] for i in at]
        return found
