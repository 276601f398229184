"""F15: a budget, four candidates, and a memory that holds half a batch. The clock is made: a step takes a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made import rows

import acclimate
from acclimate.progress import Progress
from acclimate.strategies import foresee
from acclimate.strategies.inputs import Inputs
from acclimate.train import loop

Fit = Callable[..., Any]
BUDGET = 200.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Seconds since the start: every step of an optimiser takes one, of `full` three; all else takes none."""
    now, original = [1000.0], loop._step

    def step(moving: Any, *rest: Any) -> Any:
        now[0] += 1.0 if len(moving) < 30 else 3.0
        return original(moving, *rest)

    monkeypatch.setattr(loop, "_step", step)
    monkeypatch.setattr(foresee, "step", step)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda: now[0] - 1000.0


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, text: found.append(text) if not self.quiet else None)
    return found


@pytest.fixture(autouse=True)
def _half_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Inputs._judged

    def judged(self: Any, network: Any, at: list[int], beside: Any) -> Any:
        if len(at) > 8 and network.training:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, network, at, beside)

    monkeypatch.setattr(Inputs, "_judged", judged)


@pytest.mark.real  # slow
def test_f15_a_budget_four_candidates_and_too_little_memory(
    fit: Fit, tmp_path: Path, clock: Callable[[], float], said: list[str]
) -> None:
    """16 rows a step, 192 rows to learn from, two epochs: lora takes 24 s a fit and 20 s a fold; full 72 s and 60 s."""
    names = ["knn", "linear_probe", "lora", "full"]
    model = fit(
        rows(240), strategy="auto", candidates=names, settings={"num_train_epochs": 2}, time_limit=BUDGET,
        output_dir=tmp_path / "run", quiet=False,
    )  # fmt: skip
    assert clock() <= BUDGET * 1.1
    report = model.report_data
    assert report is not None
    judged = {c["name"]: c for c in report.candidates}
    assert list(judged) == ["majority", "knn", "tfidf", "linear_probe", "lora"]
    for candidate in judged.values():  # its score, its interval, its cost, and why it was dropped
        assert candidate["low"] <= candidate["value"] <= candidate["high"] and candidate["n"] > 0
        assert candidate["seconds"] >= 0 and candidate["memory"] >= 0
        assert candidate["chosen"] or f"against {model.predictor.strategy}" in candidate["why"]
    costs = {(c["name"], c["part"]): c for c in report.costs}
    assert costs["lora", "5 folds"]["seconds"] == 100
    assert costs["lora", "5 folds"]["foreseen_seconds"] == pytest.approx(100, abs=10)
    assert [
        line for line in report.decisions if line.startswith("full was not run: a fold and the last fit take about")
    ]
    assert any("raise --time-limit" in line for line in report.decisions if line.startswith("full"))
    small = [
        line for line in said if line.startswith("out of memory with 16 rows at once: going on with 8; steps count")
    ]
    assert len(small) == 1 and "--batch-size" in small[0]
    again = acclimate.load(tmp_path / "run")
    assert set(again.predict(["good great 1", "bad awful 2"])) <= {"bad", "good"}


def test_f15_no_time_for_anything_still_gives_a_model(fit: Fit, tmp_path: Path, clock: Callable[[], float]) -> None:
    names = ["knn", "linear_probe", "lora", "full"]
    model = fit(rows(240), strategy="auto", candidates=names, time_limit=3, output_dir=tmp_path / "run")
    assert clock() <= 3 * 1.1
    assert model.predictor.strategy in ("knn", "linear_probe")
    why = [line for line in model.report_data.decisions if "s were left" in line]
    assert [line.split()[0] for line in why] == ["lora", "full"]


def test_f15_memory_for_no_row_at_all_leaves_the_frozen_ones(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(self: Any, network: Any, at: list[int]) -> Any:
        raise MemoryError

    monkeypatch.setattr(Inputs, "losses", losses)
    model = fit(rows(60), strategy="auto", candidates=["knn", "full"], output_dir=tmp_path / "run")
    assert model.predictor.strategy == "knn"
    said = [line for line in model.report_data.decisions if line.startswith("full was not run: ")]
    assert len(said) == 1 and "not enough memory for a single row; lower --max-length" in said[0]
