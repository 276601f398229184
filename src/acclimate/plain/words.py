"""TF-IDF words: what can be known of a text without transfer. Beside the features in `hybrid`, alone in `tfidf`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acclimate.data.column_types import Row
from acclimate.data.kinds.table import texts_of

# Scripts that put no space between words: Han, kana, Thai, Lao, Khmer, Burmese.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class WordFeatures:
    """A fitted TF-IDF map: x_j = (1 + log tf_j) · idf_j, rows scaled to length one; idf_j = log((1+n)/(1+df_j)) + 1.

    Words and pairs of words; for scripts without spaces, runs of one to three characters. Salton & Buckley 1988.
    """

    analyzer: str  # "word" or "char"
    ngrams: tuple[int, int]
    vocabulary: tuple[str, ...]  # in column order
    idf: NDArray[np.float64]
    kind: ClassVar[str] = "words"
    dense: ClassVar[bool] = False

    @property
    def holds(self) -> str:
        """Every word is one that somebody wrote."""
        return "words of the training texts"

    @property
    def width(self) -> int:
        """v, the number of columns."""
        return len(self.vocabulary)

    def transform(self, inputs: Sequence[Any]) -> Any:
        """A scipy CSR matrix (n, v)."""
        if not len(inputs):
            from scipy.sparse import csr_matrix

            return csr_matrix((0, self.width))
        vectorizer = _vectorizer(self.analyzer, self.ngrams, vocabulary={t: i for i, t in enumerate(self.vocabulary)})
        vectorizer.idf_ = self.idf
        return vectorizer.transform([joined(x) for x in inputs])

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """Vocabulary and idf."""
        about = {"analyzer": self.analyzer, "ngrams": self.ngrams, "vocabulary": self.vocabulary}
        return about, {"idf": self.idf}

    @staticmethod
    def of_state(values: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> WordFeatures:
        """What `state` gave."""
        ngrams = (int(values["ngrams"][0]), int(values["ngrams"][1]))
        return WordFeatures(values["analyzer"], ngrams, tuple(values["vocabulary"]), arrays["idf"])


def sparse(matrix: Any, dtype: torch.dtype) -> Tensor:
    """A scipy matrix as a coalesced torch tensor."""
    coo = matrix.tocoo()
    at = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    values = torch.as_tensor(coo.data, dtype=dtype)
    with torch.sparse.check_sparse_tensor_invariants(enable=False):  # type: ignore[no-untyped-call]  # scipy's indices are sound
        return torch.sparse_coo_tensor(at, values, coo.shape).coalesce()


def joined(value: Any) -> str:
    """One text of an input: the two parts of a pair one after the other, or the free text in a row of a table."""
    return value if isinstance(value, str) else "\n".join(texts_of(value) if isinstance(value, Row) else value)


def fit_words(inputs: Sequence[Any], limit: int = 50_000) -> WordFeatures | None:
    """Learn vocabulary and idf; None where no word occurs (texts of punctuation alone).

    A word must occur in two texts once there are 200 of them: one that occurs once can only be memorised.
    """
    texts = [joined(x) for x in inputs]
    sample = "".join(texts[:: max(1, len(texts) // 200)])
    unspaced = len(_UNSPACED.findall(sample)) > 0.2 * max(1, len(sample))
    analyzer, ngrams = ("char", (1, 3)) if unspaced else ("word", (1, 2))
    for least in (2, 1) if len(texts) >= 200 else (1,):  # 1 also where no two texts share a word
        vectorizer = _vectorizer(analyzer, ngrams, max_features=limit, min_df=least)
        try:
            vectorizer.fit(texts)
            break
        except ValueError:  # an empty vocabulary
            continue
    else:
        return None
    ordered = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    return WordFeatures(analyzer, ngrams, tuple(ordered), np.asarray(vectorizer.idf_))


def _vectorizer(analyzer: str, ngrams: tuple[int, int], **settings: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    if analyzer == "word":
        settings["token_pattern"] = r"(?u)\b\w+\b"  # words of one letter and numbers count too: "I", "5"
    return TfidfVectorizer(analyzer=analyzer, ngram_range=ngrams, sublinear_tf=True, **settings)
