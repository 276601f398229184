"""--precision int8: chosen by name, its cost said, kept in the bundle, and never mixed with weights that move."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import acclimate
import tiny_models as tm
from acclimate.errors import UserError

Fit = Callable[..., acclimate.Model]


def table(n: int) -> dict[str, list[Any]]:
    data = tm.rows(n)
    return {"text": list(data.inputs), "label": list(data.labels or ())}


def decisions(model: acclimate.Model) -> list[str]:
    assert model.run_dir is not None
    found: list[str] = json.loads((Path(model.run_dir) / "report.json").read_text())["decisions"]
    return found


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_the_cost_is_said_and_stands_in_the_report(
    precision: str, fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fit(table(60), precision=precision, quiet=False)
    notes = [d for d in decisions(model) if d.startswith(f"precision {precision}")]
    assert len(notes) == 1
    found = re.fullmatch(
        rf"precision {precision}: on 60 training rows the features differ from fp32 by a cosine distance of (\S+) on "
        rf"average and (\S+) at most; a linear probe judged on folds of them has \S+ (\d\.\d+) in {precision} and "
        r"(\d\.\d+) in fp32, "
        r"a difference of .* n = 60\)\.",
        notes[0],
    )
    assert found is not None, notes
    assert 0 < float(found[1]) < float(found[2]) < 0.01
    said = " ".join(capsys.readouterr().err.split())
    assert f"precision {precision}: on 60 training rows" in said


def test_full_precision_says_nothing(fit: Fit) -> None:
    assert not any("int8" in d for d in decisions(fit(table(60), precision="fp32")))


def test_the_bundle_predicts_in_int8_and_is_loaded_so(fit: Fit) -> None:
    model = fit(table(60), precision="int8", strategy="linear_probe")
    texts = ["good day", "bad river", "lovely kind table"]
    assert model.run_dir is not None
    again = acclimate.load(model.run_dir)
    assert again.predictor.backbone is not None
    assert again.predictor.backbone.settings()["precision"] == "int8"
    assert np.array_equal(again.predict_proba(texts), model.predict_proba(texts))


def test_weights_that_move_are_refused_before_the_model_is_loaded(fit: Fit) -> None:
    with pytest.raises(UserError, match="strategy 'full' moves weights, and precision 'int8' is for weights that stay"):
        fit(table(60), precision="int8", strategy="full", model="no-such-model")
    with pytest.raises(UserError, match=r"unknown precision 'int4'.*fp32, bf16, fp16, int8"):
        fit(table(60), precision="int4", model="no-such-model")


def test_auto_leaves_tuning_out_and_says_why(fit: Fit) -> None:
    model = fit(table(60), precision="int8", strategy="auto")
    assert "lp_ft was not run: its weights are read in int8, which cannot learn." in decisions(model)
