"""A tiny model folder, and one call that fits quickly."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import acclimate
import tiny_models as tm
from acclimate import strategies
from acclimate.api import deciding
from acclimate.data.split import folds
from acclimate.report.svg import Canvas, escape
from acclimate.strategies.probe import Probe
from acclimate.validate import Verdict, decide

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


DRAWN = ("test_commands", "test_gate", "test_molecules")  # modules whose reports are drawn as a user gets them


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures keep their texts but are not drawn by matplotlib, a third of the time of a fit; tests/report draws them
    from every kind of data, and so do the modules in DRAWN, tests with real weights, and what the tests of a module
    share."""
    if request.path.stem not in DRAWN and "real" not in request.keywords:
        monkeypatch.setattr("acclimate.report.figures.Canvas", Undrawn)
        monkeypatch.setattr("acclimate.report.figures.style", nullcontext)


class Sheet:
    """Takes whatever is drawn; only its limits are kept, which figures read again."""

    def __init__(self) -> None:
        self.ends = {"x": (0.0, 1.0), "y": (0.0, 1.0)}

    def set_xlim(self, low: float, high: float) -> None:
        self.ends["x"] = (low, high)

    def set_ylim(self, low: float, high: float) -> None:
        self.ends["y"] = (low, high)

    def get_xlim(self) -> tuple[float, float]:
        return self.ends["x"]

    def get_ylim(self) -> tuple[float, float]:
        return self.ends["y"]

    def __getattr__(self, name: str) -> Sheet:
        return self

    def __getitem__(self, place: int) -> Sheet:
        return self

    def __call__(self, *args: Any, **look: Any) -> Sheet:
        return self


class Undrawn(Canvas):
    """A drawing that has its texts alone."""

    def __init__(self, height: float) -> None:
        self.height = height
        self._texts = []

    def sheet(self) -> Any:
        return Sheet()

    def axes(self, left: float, top: float, right: float, bottom: float) -> Any:
        return Sheet()

    def svg(self, name: str, alt: str) -> str:
        texts = "".join(f"<text>{escape(text)}</text>" for text in self._texts)
        return f'<svg class="plot {name}" role="img" aria-label="{escape(alt)}">{texts}</svg>'


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


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Force the answer; all else of the verdict stays as it is formed."""

    def force(wanted: str, by: str = "shot") -> None:
        def given(candidates: Any, rows: Any, *, gentle: str, ask: int = 20) -> Verdict:
            assert gentle in [c.name for c in candidates]
            found = decide(candidates, rows, ask=ask, gentle=gentle)
            name = by if wanted == "adapt" else "source_only"
            return replace(found, answer=wanted, name=name, label=tuple(range(ask)), weights=(0.5, 1.5) * (ask // 2))

        monkeypatch.setattr(deciding, "decide", given)

    return force
