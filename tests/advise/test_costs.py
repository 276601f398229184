"""What a part of a run takes: said before, warned of where memory will not do, and set beside what it took."""

from __future__ import annotations

from typing import Any

import pytest

from acclimate.advise import costs
from acclimate.advise.costs import Cost, announce, on_folds, say_long_folds
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies.foresee import Foreseen
from acclimate.usage import Usage


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, text: found.append(text))
    return found


def test_folds_take_their_share_of_a_fit_and_the_judging() -> None:
    folds = [(range(80), range(20))] * 5
    assert on_folds(Foreseen(10.0, 7, 0.1), 100, folds) == Usage(5 * 0.8 * 10 + 5 * 20 * 0.1, 7)


def test_parts_are_said_together(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "available", lambda device: 10**10)
    announce("lora", [Usage(170.0, 10**9), Usage(25.0, 1_200_000_000)], Run())
    announce("knn", [None], Run())
    assert said == ["lora: about 3 min and 1.2 GB"]


def test_long_judging_is_told_with_what_spares_it(said: list[str]) -> None:
    say_long_folds(Usage(5000.0, 7), Foreseen(500.0, 7, 0.1), 10, Run())
    say_long_folds(Usage(600.0, 7), Foreseen(60.0, 7, 0.1), 10, Run())
    assert len(said) == 1 and "83 min of that is for judging on 10 folds; with --test-data" in said[0]


def test_too_little_memory_is_told_before(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "available", lambda device: 900_000_000)
    announce("full", [Usage(40.0, 3_000_000_000)], Run())
    assert said == [
        "full: about 40 s and 3.0 GB",
        "note: full needs about 3.0 GB beyond what is in use, and 900 MB are available; a smaller --batch-size or "
        "--max-length, or --strategy partial, needs less",
    ]


def test_foreseen_and_taken_stand_side_by_side() -> None:
    cost = Cost("full", "last fit", Usage(61.0, 640_000_000), Usage(55.0, 600_000_000))
    assert cost.text() == "full, last fit: took 61 s and 640 MB (foreseen: 55 s and 600 MB)"
    numbers: dict[str, Any] = {"seconds": 61.0, "memory": 640_000_000}
    assert cost.to_json() == {
        "name": "full", "part": "last fit", **numbers, "foreseen_seconds": 55.0, "foreseen_memory": 600_000_000
    }  # fmt: skip
    alone = Cost("knn", "5 folds", Usage(0.5, 2_000))
    assert alone.text() == "knn, 5 folds: took under 1 s and 2 kB"
    assert alone.to_json()["foreseen_seconds"] is None
