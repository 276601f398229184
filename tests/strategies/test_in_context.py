"""In-context learning: what is told without package or weights; and, where tabicl is there, a tiny random network."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acclimate import model
from acclimate.backbones import load
from acclimate.data.column_types import rows_of
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

ROWS = rows_of([(float(i), float(i % 7), "ab"[i % 2]) for i in range(30)], ("x", "y", "kind"))
DATA = Data(tuple(ROWS), tuple(2 * (i % 2) for i in range(30)), clusters=np.arange(30), kind="table")
TINY = {
    "max_classes": 4, "embed_dim": 16, "col_num_blocks": 1, "col_nhead": 2, "col_num_inds": 8, "row_num_blocks": 1,
    "row_nhead": 2, "row_num_cls": 2, "icl_num_blocks": 1, "icl_nhead": 2, "zero_init": False,
}  # fmt: skip


def fit(weights: str, data: Data = DATA, task: str = "classify") -> Any:
    backbone = load("columns").fit_rows(ROWS)
    kind, labels = TASKS[task], (0, 1, 2) if task == "classify" else (0.5, 1.5)
    problem = Problem(kind, kind.decoder(labels, "int"), backbone, Store(backbone, Run()))
    return named("in_context", {"weights": weights})[1].fit(problem, Splits(data), Run())


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="in_context needs a file of TabICL's weights: --set weights=FILE"):
        fit("")
    with pytest.raises(UserError, match=r"nowhere\.ckpt cannot be read as weights of TabICL"):
        fit("nowhere.ckpt")
    (tmp_path / "odd.ckpt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"odd\.ckpt cannot be read as weights of TabICL"):
        fit(str(tmp_path / "odd.ckpt"))
    with pytest.raises(UserError, match="in_context tells classes of rows of a table, and here are table and regress"):
        fit("", Data(DATA.inputs, tuple(float(i) for i in range(30)), kind="table"), "regress")
    torch.save({"config": TINY, "state_dict": {}}, tmp_path / "empty.ckpt")
    monkeypatch.setitem(sys.modules, "tabicl", None)
    with pytest.raises(UserError, match=r"licence is BSD-3-Clause: pip install 'acclimate\[tabicl-bsd3\]'"):
        fit(str(tmp_path / "empty.ckpt"))


@pytest.mark.skipif(importlib.util.find_spec("tabicl") is None, reason="tabicl is not installed")
def test_a_network_from_a_file_answers_row_by_row_and_from_its_bundle(tmp_path: Path) -> None:
    from tabicl._model.tabicl import TabICL

    torch.manual_seed(0)
    reference = TabICL(**TINY).eval()
    torch.save({"config": TINY, "state_dict": reference.state_dict()}, tmp_path / "tiny.ckpt")
    fitted = fit(str(tmp_path / "tiny.ckpt"))
    found = fitted.logits(ROWS)
    assert np.ptp(found[:, 0]) > 0 and np.allclose(np.exp(found[:, [0, 2]]).sum(1), 1)
    assert np.allclose(found[:, 1], np.log(0.5 / 30))  # the class that no row had
    features = torch.from_numpy(load("columns").fit_rows(ROWS).coding.dense(ROWS))  # type: ignore[attr-defined]
    both, codes = torch.cat([features, features])[None], torch.tensor([i % 2 for i in range(30)])[None].float()
    with torch.inference_mode():
        expected = reference(both, codes)[0].float().log_softmax(1)
    np.testing.assert_allclose(found[:, [0, 2]], expected.numpy(), atol=0.05)  # which is read in half precision
    np.testing.assert_allclose(np.concatenate([fitted.logits([row]) for row in ROWS]), found, atol=1e-5)
    fitted.save(tmp_path / "m")
    np.testing.assert_array_equal(model.load(tmp_path / "m").logits(ROWS), found)
    assert model.holds(fitted) == "the features of every training row"
    with pytest.raises(UserError, match="does not hold the weights of a TabICL of its own config"):
        torch.save({"config": TINY, "state_dict": {}}, tmp_path / "empty.ckpt")
        fit(str(tmp_path / "empty.ckpt"))
