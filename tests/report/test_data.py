from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from acclimate.errors import UserError
from acclimate.report import ReportData

Make = Callable[..., ReportData]


def test_json_and_back_is_the_same(example: ReportData) -> None:
    stored = json.loads(json.dumps(example.to_json(), allow_nan=False))
    assert ReportData.from_json(stored) == example


def test_numbers_that_json_has_no_word_for(make: Make) -> None:
    data = make(
        thresholds={
            "a": float("nan"),
            "b": np.float64("inf"),
            "c": np.int64(3),
            "d": np.array([0.5, np.nan]),
            "e": (1,),
        }
    )
    assert data.to_json()["thresholds"] == {"a": None, "b": None, "c": 3, "d": [0.5, None], "e": [1]}


def test_private_json_has_no_inputs(make: Make, example: ReportData) -> None:
    text = json.dumps(make(private=True).to_json())
    assert example.mistakes is not None
    assert all(str(m["input"]) not in text for m in example.mistakes)


def test_unknown_and_missing_fields_are_named(example: ReportData) -> None:
    stored = example.to_json()
    with pytest.raises(UserError, match="unknown field of a report 'verdikt'; did you mean 'verdict'"):
        ReportData.from_json({**stored, "verdikt": "x"})
    del stored["verdict"]
    with pytest.raises(UserError, match="a report needs verdict;"):
        ReportData.from_json(stored)
