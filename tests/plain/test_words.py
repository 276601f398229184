from __future__ import annotations

import json
import math
import re
from collections import Counter

import numpy as np
import pytest

from acclimate.plain.words import WordFeatures, fit_words, joined, sparse

TEXTS = ["Good good film, 5 stars", "I see a bad film", "a good day"]


def by_hand(words: WordFeatures, text: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The formula of the docstring with loops."""
    tokens = re.findall(r"\w+", text.lower())
    terms = Counter([*tokens, *(f"{a} {b}" for a, b in zip(tokens, tokens[1:], strict=False))])
    row = np.zeros(words.width)
    for j, term in enumerate(words.vocabulary):
        if terms[term]:
            row[j] = (1 + math.log(terms[term])) * words.idf[j]
    length = math.sqrt(float((row**2).sum()))
    return row / length if length else row


def test_values_are_those_of_the_formula() -> None:
    words = fit_words(TEXTS)
    assert words is not None
    assert (words.analyzer, words.ngrams) == ("word", (1, 2))
    assert {"good", "i", "5", "good film", "a bad"} <= set(words.vocabulary)
    document_frequency = dict.fromkeys(words.vocabulary, 1) | {"good": 2, "film": 2, "a": 2}
    idf = [math.log((1 + 3) / (1 + document_frequency[t])) + 1 for t in words.vocabulary]
    np.testing.assert_allclose(words.idf, idf)
    for text in [*TEXTS, "film film film good", "nothing known"]:
        np.testing.assert_allclose(words.transform([text]).toarray()[0], by_hand(words, text), atol=1e-12)


def test_the_tensor_is_the_matrix() -> None:
    words = fit_words(TEXTS)
    assert words is not None
    matrix = words.transform(TEXTS)
    tensor = sparse(matrix, __import__("torch").float64)
    assert tensor.is_coalesced()
    assert np.array_equal(tensor.to_dense().numpy(), matrix.toarray())


def test_scripts_without_spaces_are_read_in_runs_of_characters() -> None:
    words = fit_words(["我很快乐", "他不快乐", "天气好"])
    assert words is not None
    assert (words.analyzer, words.ngrams) == ("char", (1, 3))
    assert {"快", "快乐", "很快乐"} <= set(words.vocabulary)
    assert words.transform(["快乐"]).nnz == 3


@pytest.mark.parametrize("text", ["สวัสดีครับ", "ありがとう", "မင်္ဂလာပါ"])
def test_thai_kana_and_burmese_too(text: str) -> None:
    words = fit_words([text, text[:3]])
    assert words is not None and words.analyzer == "char"


def test_a_few_foreign_characters_do_not_change_the_reading() -> None:
    words = fit_words(["a long english sentence about 天气 and rain"] * 3)
    assert words is not None and words.analyzer == "word"


def test_from_200_texts_on_a_word_must_occur_twice() -> None:
    texts = ["common"] * 198 + ["once", "common"]
    few, many = fit_words(texts[:199]), fit_words(texts)
    assert few is not None and many is not None
    assert set(few.vocabulary) == {"common", "once"}
    assert set(many.vocabulary) == {"common"}


def test_200_texts_that_share_no_word_still_give_a_vocabulary() -> None:
    words = fit_words([f"word{i}" for i in range(200)])
    assert words is not None and words.width == 200


def test_no_word_at_all_is_none() -> None:
    assert fit_words(["!!", "...", ""]) is None


def test_the_vocabulary_has_a_limit() -> None:
    words = fit_words(["a a a b b c"], limit=2)
    assert words is not None
    assert words.width == 2 and "a" in words.vocabulary


def test_pairs_are_read_one_after_the_other() -> None:
    assert joined(("good", "day")) == "good\nday"
    words = fit_words([("good", "day"), ("bad", "day")])
    assert words is not None
    assert np.array_equal(words.transform([("good", "day")]).toarray(), words.transform(["good day"]).toarray())


def test_no_input_gives_no_row() -> None:
    words = fit_words(TEXTS)
    assert words is not None
    assert words.transform([]).shape == (0, words.width)
    assert tuple(sparse(words.transform([]), __import__("torch").float32).shape) == (0, words.width)


@pytest.mark.parametrize("texts", [TEXTS, ["我很快乐", "他不快乐"], ["ẞ İstanbul 𝐀 café", "CAFÉ ﬁne"]])
def test_what_is_written_as_json_reads_the_same(texts: list[str]) -> None:
    words = fit_words(texts)
    assert words is not None
    stored = json.loads(json.dumps([words.analyzer, words.ngrams, words.vocabulary], ensure_ascii=False))
    again = WordFeatures(stored[0], tuple(stored[1]), tuple(stored[2]), words.idf.copy())
    assert again.vocabulary == words.vocabulary
    assert np.array_equal(again.transform(texts).toarray(), words.transform(texts).toarray())
