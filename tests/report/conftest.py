"""Report data as a run would give them (`sample.json`): realistic, every section filled."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acclimate.report import ReportData, render_html

SAMPLE = Path(__file__).with_name("sample.json")


def estimate(value: float | None, half: float = 0.05, n: int = 40, note: str = "") -> dict[str, Any]:
    """An estimate as `Scores.to_json` writes it."""
    low, high = (None, None) if value is None else (max(0.0, value - half), min(1.0, value + half))
    return {"value": value, "low": low, "high": high, "n": n, "note": note, "method": "", "covers": ""}


def projection(classes: list[str], n: int = 400) -> dict[str, Any]:
    """Two coordinates of n rows, a cloud for each class."""
    dice = random.Random(5)
    label = [dice.randrange(len(classes)) for _ in range(n)]
    x = [round(dice.gauss(2.2 * (c % 3), 1.0), 4) for c in label]
    y = [round(dice.gauss(1.1 * (c // 3) + 0.5 * c, 1.1), 4) for c in label]
    return {"x": x, "y": y, "label": [classes[c] for c in label], "method": "first two principal components"}


def sample(**changes: Any) -> ReportData:
    """A binary text classification with every section, some fields changed."""
    stored = json.loads(SAMPLE.read_text(encoding="utf-8"))
    stored["projection"] = projection(stored["scores"]["classes"])
    return ReportData.from_json({**stored, **changes})


def with_classes(names: list[str], **changes: Any) -> ReportData:
    """The sample with these classes; each is often taken for the next one."""
    data = sample()
    k = len(names)
    matrix = [[30 if i == j else 3 + i % 5 if j == (i + 1) % k else 0 for j in range(k)] for i in range(k)]
    per_class = {
        name: {"precision": estimate(0.9), "recall": estimate(0.5 + 0.4 * i / k), "f1": estimate(0.6 + 0.3 * i / k),
               "support": estimate(float(sum(matrix[i])))}
        for i, name in enumerate(names)
    }  # fmt: skip
    scores = {**data.scores, "classes": names, "confusion": matrix, "per_class": per_class}
    audit = {**data.audits[0], "labels": {name: 300 - i % 200 for i, name in enumerate(names)}}
    mistakes = [{**m, "truth": names[0], "predicted": names[-1]} for m in data.mistakes or []]
    fields = {"scores": scores, "audits": [audit], "mistakes": mistakes, "projection": projection(names)}
    return sample(**{**fields, **changes})


@pytest.fixture
def make() -> Callable[..., ReportData]:
    """Makes the sample with some fields changed."""
    return sample


@pytest.fixture
def make_classes() -> Callable[..., ReportData]:
    """Makes the sample with other classes."""
    return with_classes


@pytest.fixture
def example() -> ReportData:
    """The sample as it is."""
    return sample()


@pytest.fixture(scope="session")
def example_page() -> str:
    """The sample's page, rendered once."""
    return render_html(sample())
