"""Which words are hidden, and what stands in their place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from acclimate.backbones.masked import word_head
from acclimate.progress import Progress
from acclimate.strategies.hidden_words import DRAWS, Guesser, Texts, Vocabulary
from acclimate.train.memory import Fitting
from tiny_models import GOOD, SPECIAL, TEXTS, TOKENS

MASK = TOKENS.index("[MASK]")


def test_the_words_are_all_but_the_special_ones(shared_bert: Any) -> None:
    found = Vocabulary.of(shared_bert.tokenizer)
    assert found.mask == MASK
    assert found.special == {TOKENS.index(token) for token in SPECIAL}
    assert sorted({*found.words, *found.special}) == list(range(len(TOKENS)))


def test_shares_are_exact_and_special_tokens_are_never_hidden(shared_bert: Any) -> None:
    vocabulary = Vocabulary.of(shared_bert.tokenizer)
    word = TOKENS.index(GOOD[0])
    ids = [2, *[word] * 100, 1, 3, *[word] * 100, 3]  # [CLS] ... [UNK] [SEP] ... [SEP]
    rng, counts, places = np.random.default_rng(0), {"mask": 0, "other": 0, "kept": 0}, np.zeros(len(ids), int)
    for _ in range(400):
        changed, at = vocabulary.hide(ids, 0.15, rng)
        assert len(at) == 30 == len(set(at)) and at == sorted(at)
        assert [i for i in range(len(ids)) if changed[i] != ids[i] and i not in at] == []
        places[at] += 1
        for i in at:
            kind = "mask" if changed[i] == MASK else "kept" if changed[i] == word else "other"
            counts[kind] += 1
            assert changed[i] == MASK or changed[i] not in vocabulary.special
    assert places[[0, 101, 102, 203]].tolist() == [0, 0, 0, 0]
    words = np.delete(places, [0, 101, 102, 203])
    assert words.sum() == 12_000 and abs(words - 60).max() < 35  # five deviations of sqrt(400 · 0.15 · 0.85)
    same = 0.1 / len(vocabulary.words)  # a random word may be the one that stood there
    for kind, share in (("mask", 0.8), ("other", 0.1 - same), ("kept", 0.1 + same)):
        assert counts[kind] / 12_000 == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize(("words", "share", "count"), [(1, 0.15, 1), (9, 0.15, 1), (10, 0.15, 2), (20, 0.5, 10)])
def test_one_word_at_least_is_hidden(words: int, share: float, count: int, shared_bert: Any) -> None:
    vocabulary = Vocabulary.of(shared_bert.tokenizer)
    assert len(vocabulary.hide([2, *[7] * words, 3], share, np.random.default_rng(1))[1]) == count
    assert vocabulary.hide([2, 1, 3], share, np.random.default_rng(1)) == ([2, 1, 3], [])


def test_a_slot_always_hides_the_same_words_and_each_epoch_others(shared_bert: Any) -> None:
    texts = Texts.of(shared_bert, TEXTS, 0.5, 3)
    n = len(texts.windows)
    again = Texts.of(shared_bert, TEXTS, 0.5, 3)
    assert [texts.drawn(slot) for slot in range(3 * n)] == [again.drawn(slot) for slot in range(3 * n)]
    assert [texts.drawn(slot)[1] for slot in range(n)] != [texts.drawn(slot)[1] for slot in range(n, 2 * n)]
    assert [texts.drawn(s)[1] for s in range(n)] != [Texts.of(shared_bert, TEXTS, 0.5, 4).drawn(s)[1] for s in range(n)]
    for epoch in range(2):
        slots = sorted(slot for batch in texts.batches(2, epoch) for slot in batch)
        assert slots == list(range(epoch * n, (epoch + 1) * n))


def test_the_loss_is_that_of_each_row_alone(shared_bert: Any) -> None:
    """Oracle: one row at a time, by the whole vocabulary's probabilities."""
    texts = Texts.of(shared_bert, TEXTS, 0.3, 0)
    torch.manual_seed(0)
    guesser = Guesser(shared_bert.clone(), word_head(shared_bert)[0]).eval()
    slots = [5, 0, 3, 9]
    expected, hidden = 0.0, 0
    with torch.inference_mode():
        found = float(guesser.loss(texts, slots, "cpu"))
        for slot in slots:
            window, at = texts.drawn(slot)
            states = guesser.backbone.model(torch.tensor([window["input_ids"]])).last_hidden_state[0]
            log_p = torch.log_softmax(guesser.head(states), 1)
            for place in at:
                expected -= float(log_p[place, texts.windows[slot % len(texts.windows)]["input_ids"][place]])
                hidden += 1
    assert found == pytest.approx(expected, rel=1e-4)
    mean = guesser.mean_loss(texts, "cpu", Fitting(guesser, Progress(quiet=True)))
    n = len(texts.windows)
    with torch.inference_mode():
        total = sum(float(guesser.loss(texts, [slot], "cpu")) for slot in range(DRAWS * n))
    assert mean == pytest.approx(total / sum(len(texts.drawn(s)[1]) for s in range(DRAWS * n)), rel=1e-4)
    assert math.isfinite(mean)


def test_long_texts_are_read_in_windows_and_empty_ones_are_left_out(shared_bert: Any) -> None:
    from dataclasses import replace

    backbone = shared_bert.with_settings(replace(shared_bert.text, max_length=16, truncation="chunk"))
    texts = Texts.of(backbone, ["good " * 40, "", "bad"], 0.15, 0)
    assert len(texts.windows) == 4  # 40 words in windows of 14, and one word
