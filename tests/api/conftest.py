"""A tiny model folder, and one call that fits quickly."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import acclimate
import tiny_models as tm
from acclimate import strategies
from acclimate.data.split import folds
from acclimate.strategies.probe import Probe

sys.path.append(str(Path(__file__).parent))  # `made` is shared by the tests of this folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers and random weights."""
    return tm.write("bert", tmp_path_factory.mktemp("api") / "tiny-bert", layers=2)


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dated run folders go into the test's own folder. One strength a head, one round of folds and few steps where
    nothing is said: what is tested here does not depend on them, and a fit takes a fifth of the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("acclimate.strategies.bottleneck._STEPS", 20)
    monkeypatch.setattr("acclimate.strategies.bottleneck._EPOCHS", 2)
    monkeypatch.setattr("acclimate.strategies.tune._STEPS", 10)
    for known in (strategies.ADAPTATIONS, strategies.EVERY):
        monkeypatch.setitem(known, "shot", replace(known["shot"], target_epochs=2))
    monkeypatch.setattr("acclimate.strategies.probe.STRENGTHS", (1.0,))
    monkeypatch.setattr("acclimate.api.prepare.folds", once)
    for named in (strategies.BASELINES, strategies.STRATEGIES):
        for name, strategy in named.items():
            if isinstance(strategy, Probe):
                monkeypatch.setitem(named, name, replace(strategy, strength=1.0))


def once(*args: Any, **settings: Any) -> Any:
    """Folds that are not repeated."""
    return folds(*args, **{**settings, "repeats": 1})


@pytest.fixture
def fit(folder: Path) -> Callable[..., acclimate.Model]:
    """acclimate.fit with the tiny model, quiet, a cheap strategy unless another is named."""

    def run(data: Any, **settings: Any) -> acclimate.Model:
        usual: dict[str, Any] = {"model": str(folder), "strategy": "centroid", "quiet": True}
        return acclimate.fit(data, **{**usual, **settings})

    return run


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """A file of 48 rows to learn from."""
    from made import rows, write_csv

    return write_csv(tmp_path / "train.csv", rows(48))


@pytest.fixture
def test(tmp_path: Path) -> Path:
    """A file of 20 other rows."""
    from made import rows, write_csv

    return write_csv(tmp_path / "test.csv", rows(20, seed=1))
