"""Metrics of written texts from counts of every row, so that metrics of resampled rows are sums of the same counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from acclimate.errors import UserError
from acclimate.metrics.base import divide
from acclimate.metrics.intervals import FloatArray

_ORDERS = 4  # words of BLEU's n-grams
_LETTERS = 6  # characters of chrF's n-grams
_BETA = 2.0  # how much more recall counts than precision in chrF


def bleu_counts(truth: Sequence[str], answers: Sequence[str]) -> FloatArray:
    """(n, 10): words written and words right; n-grams that match, and n-grams written, for n = 1 to 4. By sacrebleu,
    with its tokenisation 13a."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise UserError("BLEU needs the package sacrebleu: pip install 'acclimate[generate]'") from error
    judge = BLEU(effective_order=True)
    found = [judge.sentence_score(a, [t]) for t, a in zip(truth, answers, strict=True)]
    return np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in found], float).reshape(-1, 2 + 2 * _ORDERS)


def bleu(counts: FloatArray) -> FloatArray:
    """BLEU in [0, 1] of summed counts (r, 10): e^min(0, 1 − ref/sys) · exp(¼ Σ_n log p_n).

    Papineni et al. 2002, ACL. p_n = matches/written; the k-th order without a match has p_n = 1/(2^k · written), as
    sacrebleu does by default (Post 2018, arXiv:1804.08771); 0 where nothing matches.
    """
    sys, ref = counts[:, 0], counts[:, 1]
    right, written = counts[:, 2 : 2 + _ORDERS], counts[:, 2 + _ORDERS :]
    none = (right <= 0) & (written > 0)
    smooth = np.where(none, 0.5 ** np.cumsum(none, 1), right)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(written > 0, np.log(smooth / np.where(written > 0, written, 1.0)), -np.inf).sum(1) / _ORDERS
        brief = np.where(sys > 0, np.minimum(0.0, 1.0 - ref / np.where(sys > 0, sys, 1.0)), -np.inf)
        found: FloatArray = np.where((right > 0).any(1), np.exp(logs + brief), 0.0)
    return np.where(ref > 0, found, np.nan)


def chrf_counts(truth: Sequence[str], answers: Sequence[str]) -> FloatArray:
    """(n, 18): n-grams of characters written, there and matching, for n = 1 to 6; white space is left out."""
    rows = []
    for t, a in zip(truth, answers, strict=True):
        there, written, row = "".join(t.split()), "".join(a.split()), []
        for n in range(1, _LETTERS + 1):
            mine, theirs = _grams(written, n), _grams(there, n)
            # As in sacrebleu, an order that the right text is too short for says nothing of the written one.
            row += [mine.total() if theirs else 0, theirs.total(), (mine & theirs).total()]
        rows.append(row)
    return np.array(rows, float).reshape(-1, 3 * _LETTERS)


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def chrf(counts: FloatArray) -> FloatArray:
    """chrF2 in [0, 1] of summed counts (r, 18): (1 + β²)PR/(β²P + R) with β = 2, P and R means over the orders that
    both texts have.

    Popović 2015, WMT.
    """
    written, there, right = counts[:, 0::3], counts[:, 1::3], counts[:, 2::3]
    both = (written > 0) & (there > 0)
    orders = np.maximum(both.sum(1), 1)
    precision = np.where(both, right / np.where(both, written, 1.0), 0.0).sum(1) / orders
    recall = np.where(both, right / np.where(both, there, 1.0), 0.0).sum(1) / orders
    below = _BETA**2 * precision + recall
    found = (1 + _BETA**2) * precision * recall / np.where(below > 0, below, 1.0)
    return np.where(there[:, 0] > 0, found, np.nan)


class _Words:
    """Words of any script for rouge-score, whose own are of a to z alone."""

    def tokenize(self, text: str) -> list[str]:
        """Words in lower case."""
        return re.findall(r"\w+", text.casefold())


def rouge_l(truth: Sequence[str], answers: Sequence[str]) -> FloatArray:
    """(n,): the F1 of each row's longest common subsequence of words, by rouge-score (Lin 2004)."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise UserError("ROUGE needs the package rouge-score: pip install 'acclimate[generate]'") from error
    judge = RougeScorer(["rougeL"], tokenizer=_Words())
    found = [judge.score(t, a)["rougeL"].fmeasure for t, a in zip(truth, answers, strict=True)]
    return np.array(found, float)


def mean_of(values: FloatArray, weights: FloatArray) -> FloatArray:
    """(r,): the mean of (n,) values under (r, n) weights."""
    return divide(weights @ values, weights.sum(1))
