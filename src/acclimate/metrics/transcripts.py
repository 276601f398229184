"""Transcripts as they are compared: normalised, and the edits between two of them, counted by jiwer."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import UserError, unknown

NORMALISED = ("words", "lower", "as_is", "english")  # ways to write a text before it is compared
_APOSTROPHES = re.compile("[\u2019\u02bc\u0060\u00b4]")
_NO_WORD = re.compile(r"[^\w\s']|_")
_LOOSE = re.compile(r"(?<!\w)'|'(?!\w)")


def normalised(text: str, how: str) -> str:
    """The text as it is compared, in Unicode's form NFKC with single spaces.

    "as_is": no more than that; "lower": in small letters; "words": small letters without punctuation, apostrophes
    inside words kept; "english": Whisper's own way for English (numbers as digits, abbreviations and contractions
    written out, fillers such as "um" left out; Radford et al. 2022, arXiv:2212.04356, appendix C).

    >>> normalised("Don\u2019t  stop -- 'now'!", "words"), normalised("Twenty-one, Mr. Smith", "english")
    ("don't stop now", '21 mister smith')
    """
    if how not in NORMALISED:
        raise unknown("normalise", how, NORMALISED)
    text = unicodedata.normalize("NFKC", text)
    if how == "english":
        return str(_english()(text)).strip()
    if how != "as_is":
        text = text.lower()
    if how == "words":
        text = _LOOSE.sub(" ", _NO_WORD.sub(" ", _APOSTROPHES.sub("'", text)))
    return " ".join(text.split())


@lru_cache(maxsize=1)
def _english() -> Any:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})  # type: ignore[no-untyped-call]


def edits(
    truth: Sequence[str], said: Sequence[str], *, letters: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each row the least number of words (or letters, spaces among them) to put in, leave out or change, and the
    number that the truth has; both (n,). Σ edits / Σ words is the word error rate.

    >>> edits(["one two three", "four"], ["one too", "four five"])
    (array([2., 1.]), array([3., 1.]))
    """
    found = np.array([_one(t, s, letters) for t, s in zip(truth, said, strict=True)], float).reshape(-1, 2)
    return found[:, 0], found[:, 1]


@lru_cache(maxsize=1 << 16)
def _one(truth: str, said: str, letters: bool) -> tuple[int, int]:
    if not truth or not said:  # jiwer takes no empty truth
        units = list(truth or said) if letters else (truth or said).split()
        return len(units), len(units) if truth else 0
    jiwer = _jiwer()
    out = jiwer.process_characters(truth, said) if letters else jiwer.process_words(truth, said)
    return out.substitutions + out.deletions + out.insertions, out.hits + out.substitutions + out.deletions


def _jiwer() -> Any:
    if importlib.util.find_spec("jiwer") is None:
        raise UserError("word error rates need jiwer: pip install 'acclimate[speech]'")
    import jiwer

    return jiwer
