"""Above 100 classes memory does not grow with rows times classes, and the numbers are those of all probabilities."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from acclimate.api.finish import judged_on, scores_of
from acclimate.data.rows import Data
from acclimate.metrics import digest
from acclimate.metrics.digest import Digest, slices
from acclimate.model import Predictor
from acclimate.plain.words import WordFeatures
from acclimate.run import Run
from acclimate.tasks import TASKS
from acclimate.tasks.answered import answered, rows_of
from acclimate.tasks.decoder import Decoder
from acclimate.tasks.heads import LinearHead

VOCABULARY = tuple(f"w{i}" for i in range(8))


def predictor_of(classes: int, task: str = "classify", **decoder: Any) -> Predictor:
    """Reads words, and gives every class a score of its own."""
    head = LinearHead(0, classes, len(VOCABULARY))
    with torch.no_grad():
        head.word_weight.copy_(torch.randn(classes, len(VOCABULARY), generator=torch.Generator().manual_seed(0)) * 4)
    words = WordFeatures("word", (1, 1), VOCABULARY, np.ones(len(VOCABULARY)))
    names = tuple(f"c{i:04d}" for i in range(classes))
    return Predictor(TASKS[task], Decoder(task, names, **decoder), head, plain=words)


def rows(n: int, classes: int) -> Data:
    """Texts of two words, and labels; every 50th of a class never seen."""
    texts = [f"w{i % 8} w{i * 3 % 7} w{i * 5 % 8}" for i in range(n)]
    labels = ["new" if i % 50 == 0 else f"c{i * 7 % classes:04d}" for i in range(n)]
    return Data(inputs=tuple(texts), labels=tuple(labels))


@pytest.mark.parametrize(("task", "cost"), [("classify", False), ("classify", True), ("ordinal", False)])
def test_a_digest_is_that_of_all_probabilities(task: str, cost: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "NUMBERS", 120 * 7)  # parts of seven rows
    k, n = 120, 40
    table = tuple(tuple(float(1 + j % 3) * (i != j) for j in range(k)) for i in range(k)) if cost else None
    predictor = predictor_of(k, task, cost=table, temperature=1.7)
    data = rows(n, k)
    judged = judged_on(predictor, data, Run())
    proba = predictor.outputs(data.inputs)
    assert proba.shape == (n, k) and isinstance(judged.outputs, Digest) and judged.outputs.classes == k
    chosen = predictor.task.decide(proba, predictor.decoder)
    at, truth = np.arange(n), np.array([-1 if y == "new" else int(str(y)[1:]) for y in data.labels or ()])
    assert judged.decisions.tolist() == chosen.tolist() and judged.truth.tolist() == truth.tolist()
    assert judged.outputs.top.tolist() == proba.argmax(1).tolist()
    np.testing.assert_allclose(judged.outputs.highest, proba.max(1), rtol=1e-12)
    np.testing.assert_allclose(judged.outputs.said, proba[at, chosen], rtol=1e-12)
    np.testing.assert_allclose(judged.outputs.own[truth >= 0], proba[at, truth][truth >= 0], rtol=1e-12)
    np.testing.assert_allclose(judged.outputs.squares, (proba**2).sum(1), rtol=1e-12)


def test_up_to_a_hundred_classes_all_outputs_are_kept() -> None:
    predictor, data = predictor_of(100), rows(30, 100)
    judged = judged_on(predictor, data, Run())
    assert isinstance(judged.outputs, np.ndarray)
    assert np.array_equal(judged.outputs, predictor.outputs(data.inputs))
    assert "roc_auc" in scores_of(judged, predictor.task, predictor.decoder, None, 0).per_class["c0000"]


@pytest.mark.real  # slow
def test_memory_is_flat_in_rows_times_classes() -> None:
    predictor = predictor_of(1000)

    def most(n: int) -> float:
        data = rows(n, 1000)
        tracemalloc.start()
        try:
            scores = scores_of(judged_on(predictor, data, Run()), predictor.task, predictor.decoder, None, 0)
            return float(tracemalloc.get_traced_memory()[1]) / 1e6
        finally:
            tracemalloc.stop()
            assert scores.n == n

    few, many = most(5_000), most(20_000)
    assert few < 100  # MB; the probabilities alone would be 40 and 160
    assert many - few < 25


def test_parts_are_the_rows_in_order() -> None:
    assert [(p.start, p.stop) for p in slices(2500, 1000)] == [(0, 1000), (1000, 2000), (2000, 2500)]
    assert [(p.start, p.stop) for p in slices(2_000_000, 100)] == [(0, 2_000_000)]
    assert [(p.start, p.stop) for p in slices(0, 1000)] == [(0, 0)]
    logits = np.arange(5 * 3.0).reshape(5, 3)
    assert [part.tolist() for part in rows_of(logits, np.array([4, 0]))] == [[[12.0, 13.0, 14.0], [0.0, 1.0, 2.0]]]


def test_no_row_at_all_has_answers() -> None:
    decoder = predictor_of(150).decoder
    found = answered(TASKS["classify"], decoder, np.zeros(0, np.int64), [np.zeros((0, 150))])
    assert isinstance(found.outputs, Digest) and len(found.outputs) == len(found.decisions) == 0
