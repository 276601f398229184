"""Tagging without transfer: each word's usual tag, and a conditional random field on the form of words."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acclimate.data.rows import Data
from acclimate.data.tagged import words_of
from acclimate.structured.base import labels_of


def crf_there() -> bool:
    """Whether python-crfsuite is installed."""
    return importlib.util.find_spec("pycrfsuite") is not None


class Dictionary:
    """The tag that a word had most often in training; of a new word the most frequent tag of all."""

    def __init__(self, train: Data) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        every: Counter[str] = Counter()
        for given, tags in zip(train.inputs, labels_of(train), strict=True):
            for (word, _, _), tag in zip(words_of(given), tags, strict=True):
                counts[word.casefold()][tag] += 1
                every[tag] += 1
        self.usual = {word: min(c, key=lambda t: (-c[t], t)) for word, c in counts.items()}
        self.other = every.most_common(1)[0][0]

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """One tag a word."""
        return [tuple(self.usual.get(w.casefold(), self.other) for w, _, _ in words_of(x)) for x in inputs]


class WordCrf:
    """A linear-chain conditional random field (Lafferty, McCallum & Pereira 2001) on words, their ends, their shape and
    their neighbours; L-BFGS by python-crfsuite with its penalties c1 = 0.1, c2 = 0.1."""

    def __init__(self, train: Data, seed: int) -> None:
        import pycrfsuite

        trainer = pycrfsuite.Trainer(verbose=False)
        for given, tags in zip(train.inputs, labels_of(train), strict=True):
            trainer.append(features([w for w, _, _ in words_of(given)]), list(tags))
        trainer.select("lbfgs")
        trainer.set_params({"c1": 0.1, "c2": 0.1, "max_iterations": 100, "feature.possible_transitions": True})
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "crf")
            trainer.train(path)
            self._bytes = Path(path).read_bytes()

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """The most probable sequence of each row."""
        import pycrfsuite

        tagger = pycrfsuite.Tagger()
        tagger.open_inmemory(self._bytes)
        return [tuple(tagger.tag(features([w for w, _, _ in words_of(x)]))) for x in inputs]


def features(words: Sequence[str]) -> list[list[str]]:
    """What is known of each word: itself, its ends, its shape, and its neighbours on both sides."""
    return [_of_word(words, i) for i in range(len(words))]


def _of_word(words: Sequence[str], i: int) -> list[str]:
    word = words[i]
    found = [
        "bias",
        *(f"suffix={word[-k:].casefold()}" for k in (2, 3)),
        *(f"prefix={word[:k].casefold()}" for k in (2, 3)),
    ]
    found.append(f"shape={_shape(word)}")
    for step in (-2, -1, 0, 1, 2):
        at = i + step
        if not 0 <= at < len(words):
            found.append(f"{step}:edge")
            continue
        found += [
            f"{step}:word={words[at].casefold()}",
            f"{step}:title={words[at].istitle()}",
            f"{step}:upper={words[at].isupper()}",
        ]
    return found


def _shape(word: str) -> str:
    """Xx for Word, dd for 42; runs count once.

    >>> _shape("McDonald's"), _shape("1998")
    ("XxXx'x", 'd')
    """
    marks = ["X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else c for c in word]
    return "".join(m for i, m in enumerate(marks) if i == 0 or m != marks[i - 1])
