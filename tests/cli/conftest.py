"""The command line with a stand-in for the api, which records how it was called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import acclimate
from acclimate.api.predicting import Predictions
from acclimate.data.rows import Table
from acclimate.evaluate import Estimate, Scores
from acclimate.report.data import ReportData

SCORES = Scores(
    task="classify",
    metric="macro_f1",
    n=80,
    estimates={"accuracy": Estimate(0.8, 0.7, 0.88, 80), "macro_f1": Estimate(0.75, 0.65, 0.84, 80)},
    per_class={
        "pos": {"recall": Estimate(0.9, 0.8, 0.95, 40), "support": Estimate(40.0, n=40)},
        "neg": {"recall": Estimate(None, n=3, note="too few")},
    },
    per_subgroup={"sex": {"f": {"macro_f1": Estimate(0.7, 0.5, 0.85, 30)}}},
    notes=("one class of TEST was never seen",),
    covers="which rows were drawn",
)


class FakeModel:
    def __init__(self, calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]], run: Path) -> None:
        self.calls, self.run_dir = calls, run
        self.table = Table(columns={"text": ["a", "b"]}, lines=(2, 3), problems=(None, None), source="f", typed=False)
        self.new = {"prediction": ["pos", None], "confidence": [0.75, None], "p_pos": [0.75, None]}

    @property
    def report_data(self) -> ReportData:
        return ReportData(
            title="t",
            verdict="It is better than guessing.",
            created="now",
            task="classify",
            metric="accuracy",
            strategy="linear_probe",
            model_name="minilm",
            scores={"metric": "accuracy", "value": 0.8, "low": 0.7, "high": 0.88, "n": 80},
            next_steps=[{"text": "predict", "command": f"acclimate predict {self.run_dir} NEW.csv"}],
        )

    def predict_parts(self, source: str, **settings: Any) -> Predictions:
        self.calls.append(("predict_parts", (source,), settings))
        parts = ({name: values[rows] for name, values in self.new.items()} for rows in (slice(0, 1), slice(1, None)))
        return Predictions(self.table, {"prediction": str, "confidence": float, "p_pos": float}, parts)

    def evaluation(self, source: str, **settings: Any) -> tuple[Scores, dict[str, Any]]:
        self.calls.append(("evaluation", (source,), settings))
        gap = {"value": 0.3, "low": 0.2, "high": 0.4, "verdict": "better"}
        baseline = {"majority": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 80, "difference": gap}}
        return SCORES, {"baseline": baseline, "uses": 2}

    def report(self, path: Path) -> Path:
        self.calls.append(("report", (path,), {}))
        return path


class FakeAnswer:
    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    def __str__(self) -> str:
        return "the table"

    def to_json(self) -> dict[str, Any]:
        return self.answer


class FakeApi(ModuleType):
    """Has the verbs of acclimate.api; `raises` is raised by the next call."""

    def __init__(self, run: Path) -> None:
        super().__init__("acclimate.api")
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.raises: BaseException | None = None
        self.model = FakeModel(self.calls, run)

    def _record(self, verb: str) -> Callable[..., Any]:
        def call(*args: Any, **settings: Any) -> Any:
            self.calls.append((verb, args, settings))
            if self.raises is not None:
                raise self.raises
            return self.model if verb in ("fit", "load") else FakeAnswer({verb: "…"})

        return call

    def __getattr__(self, name: str) -> Any:
        if name in ("fit", "load", "compare", "inspect"):
            return self._record(name)
        raise AttributeError(name)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    fake = FakeApi(tmp_path / "RUN")
    fake.model.run_dir.mkdir()
    monkeypatch.setitem(sys.modules, "acclimate.api", fake)
    monkeypatch.setattr(acclimate, "api", fake, raising=False)
    for check in ("files", "columns"):  # what is named here need not be there
        monkeypatch.setattr(f"acclimate.cli.early.{check}", lambda *args: None)
    return fake


@pytest.fixture
def cli() -> Callable[..., Any]:
    """Call a command line; the result has exit_code, stdout, stderr."""
    from typer.testing import CliRunner

    from acclimate.cli.main import app

    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args], prog_name="acclimate")
