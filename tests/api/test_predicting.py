"""Predictions in parts are those of all rows at once, blanks and all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from acclimate import model as bundles
from acclimate.api.model import Model
from acclimate.data.rows import Columns
from acclimate.metrics import digest
from acclimate.model import Predictor
from acclimate.plain.words import WordFeatures
from acclimate.tasks import TASKS
from acclimate.tasks.decoder import Decoder
from acclimate.tasks.heads import LinearHead

CLASSES = 120
TEXTS = ["", "w0", "", "", "w1 w2", "w2", "w0 w1", "", "w1", "w2 w2 w0", "", ""]


@pytest.fixture
def model() -> Model:
    head = LinearHead(0, CLASSES, 3)
    with torch.no_grad():
        head.word_weight.copy_(torch.randn(CLASSES, 3, generator=torch.Generator().manual_seed(0)) * 5)
    words = WordFeatures("word", (1, 1), ("w0", "w1", "w2"), np.ones(3))
    decoder = Decoder("classify", tuple(range(CLASSES)), "int", conformal=tuple(np.linspace(0, 1, 50)))
    return Model(Predictor(TASKS["classify"], decoder, head, plain=words), Columns(text=("text",), label="y"))


@pytest.mark.parametrize("few", [False, True])
def test_parts_join_to_the_whole(model: Model, few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    there = [i for i, text in enumerate(TEXTS) if text]
    proba = model.predictor.outputs([TEXTS[i] for i in there])
    monkeypatch.setattr(digest, "NUMBERS", 2 * CLASSES)
    if few:
        monkeypatch.setattr(bundles, "ROWS_A_PART", 3)
    least = float(np.sort(proba.max(1))[2:4].mean())
    found = model.predict_parts({"text": TEXTS}, conformal=0.9, abstain_below=least)
    parts = list(found.parts)
    assert max(len(part["prediction"]) for part in parts) <= 2 and len(parts) >= 6
    assert all(list(part) == list(found.kinds) for part in parts)
    joined = {name: [value for part in parts for value in part[name]] for name in found.kinds}
    assert {len(values) for values in joined.values()} == {len(TEXTS)}
    assert [i for i, c in enumerate(joined["confidence"]) if c is not None] == there
    np.testing.assert_allclose([joined["confidence"][i] for i in there], proba.max(1), rtol=1e-6)
    np.testing.assert_allclose([joined["p_77"][i] for i in there], proba[:, 77], rtol=1e-6)
    sure = proba.max(1) >= least
    assert sure.sum() == 3
    assert [joined["prediction"][i] for i in there] == [
        int(top) if s else None for top, s in zip(proba.argmax(1), sure, strict=True)
    ]
    assert [joined["note"][i] for i in there] == ["" if s else f"abstained: confidence below {least:g}" for s in sure]
    assert {joined["note"][i] for i in range(len(TEXTS)) if i not in there} == {"no text to judge"}
    assert found.kinds["prediction"] is int and found.kinds["prediction_set"] is found.kinds["note"] is str
    assert model.predict(TEXTS) == [
        None if i not in there else int(proba[there.index(i)].argmax()) for i in range(len(TEXTS))
    ]
    all_of_them = model.predict_proba(TEXTS)
    assert np.isnan(all_of_them).all(1).tolist() == [not text for text in TEXTS]
    np.testing.assert_allclose(all_of_them[there], proba, rtol=1e-6)


def test_no_row_and_no_text_have_the_same_columns(model: Model) -> None:
    for texts in ([], ["", ""]):
        found = model.predict_parts({"text": texts})
        parts = list(found.parts)
        assert sum(len(part["prediction"]) for part in parts) == len(texts)
        assert list(parts[0]) == list(found.kinds)
        assert list(found.kinds)[:3] == ["prediction", "confidence", "p_0"]
