"""Forecasts: windows in time, nothing from the future, errors and baselines by their formulas."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import acclimate
import tiny_series as ts
from acclimate.backbones import load
from acclimate.backbones.series import Scale
from acclimate.data.forecast_windows import Window, series_of
from acclimate.data.rows import Columns, Data
from acclimate.errors import UserError
from acclimate.progress import Progress
from acclimate.structured.base import Asked
from acclimate.structured.forecast import Forecast
from acclimate.structured.forecast_baselines import Autoregression, Seasonal, as_future
from acclimate.structured.forecast_network import FracastForecaster, LinearForecaster
from acclimate.structured.measuring import scores_of

sys.path.append(str(Path(__file__).parent))
from task_examples import fit, forecast_example


def read(path: Path, horizon: int = 12, **columns: Any) -> tuple[Data, Any]:
    return Forecast(horizon=horizon).read(str(path), Asked(Columns(**columns)), "train")


def test_windows_follow_each_other_and_end_with_the_series(tmp_path: Path) -> None:
    path = ts.waves(tmp_path / "w.csv", 400)
    data, account = read(path)
    found = series_of(str(path), Columns(), Progress())
    assert found.channels == ("a", "b")  # a count of steps is no channel
    whole = found.series[0].values  # type: ignore[union-attr]
    origins = [w.origin for w in data.inputs]
    assert origins == list(range(400 - 12 * len(origins), 400, 12)) and account.kept == len(data) == 32
    for window, future in zip(data.inputs, data.labels or (), strict=True):
        np.testing.assert_array_equal(np.array(future), whole[:, window.origin : window.origin + 12])
        np.testing.assert_array_equal(window.values[:, -1], whole[:, window.origin - 1])
    assert read(path, label="b")[0].inputs[0].values.shape[0] == 1


def test_several_series_are_told_apart_by_their_column(tmp_path: Path) -> None:
    path = ts.long(tmp_path / "l.csv", 4)
    data, account = read(path, 10, id="run", time="t", drop=("kind",))
    assert {w.series for w in data.inputs} == {"r0", "r1", "r2", "r3"} and len(data) == 4 * 3 == account.kept
    values = ts.series(4)[0]
    for window in data.inputs:
        np.testing.assert_allclose(window.values, values[int(window.series[1:]), :, : window.origin], atol=1e-6)


def test_what_is_too_short_or_was_not_measured_is_accounted_for() -> None:
    values = np.sin(np.arange(60.0))
    values[30:40] = np.nan
    source = {"x": [values[None], values[None, :9]]}
    data, account = Forecast(horizon=10).read(source, Asked(Columns(file="x", kind="series")), "train")
    assert account.dropped.keys() == {"no_future", "short_context"} and account.read == account.kept + 2 == 6
    assert len(data) == 4


def test_a_moved_start_never_looks_ahead(tmp_path: Path) -> None:
    data, _ = read(ts.waves(tmp_path / "w.csv", 100))
    task = Forecast(horizon=12)
    state = task.learn(data)
    network: Any = task.network("series-cnn", state, {})
    encoded = network.encode(data.inputs[-1:], (data.labels or ())[-1:])
    whole = np.concatenate(encoded[0].parts, 1)
    starts = set()
    for seed in range(60):
        values, future = network.changed(encoded, torch.Generator().manual_seed(seed), 1.0)[0].parts
        line = np.concatenate([values, future], 1)
        np.testing.assert_array_equal(line, whole[:, : line.shape[1]])
        assert future.shape == (2, 12)
        starts.add(values.shape[1])
    assert max(starts) == data.inputs[-1].values.shape[1] and len(starts) > 6


def test_errors_are_those_of_the_formulas() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.normal(size=(12, 2, 3)), rng.normal(size=(12, 2, 3))
    truth[3, 1, 2] = np.nan
    state = {"usual": [0.5, 2.0], "season": 4, "context": 16}
    found = scores_of(Forecast(horizon=3), [as_future(t) for t in truth], [as_future(s) for s in said], state)
    gap = np.abs(truth - said)
    assert found.estimates["mae"].value == pytest.approx(np.nanmean(gap))
    assert found.estimates["rmse"].value == pytest.approx(np.sqrt(np.nanmean(gap**2)))
    by_channel = [np.nanmean(gap[:, 0]) / 0.5, np.nanmean(gap[:, 1]) / 2.0]
    assert found.estimates["mase"].value == pytest.approx(np.mean(by_channel))
    assert found.per_class["channel 2"]["mase"].value == pytest.approx(by_channel[1])
    low, high = found.estimates["mase"].low, found.estimates["mase"].high
    assert low is not None and high is not None and low < np.mean(by_channel) < high


def test_baselines_are_those_of_the_formulas(tmp_path: Path) -> None:
    line = np.arange(20.0)
    line[18] = np.nan
    window = Window(line[None], "s", 20)
    assert Seasonal(1, 3).answers([window]) == [((19.0, 19.0, 19.0),)]
    assert Seasonal(4, 6).answers([window]) == [((16.0, 17.0, 17.0, 19.0, 16.0, 17.0),)]
    at = np.arange(400)
    series = np.stack([3 + 0.5 * at, np.cos(2 * np.pi * at / 12)])
    np.savez(tmp_path / "s.npz", series)
    data, _ = Forecast(horizon=12).read(str(tmp_path / "s.npz"), Asked(Columns()), "train")
    state = Forecast(horizon=12).learn(data)
    assert state["season"] == 12 and state["usual"] == pytest.approx([6.0, 0.0], abs=1e-9)
    exact = np.array(Autoregression(data.take(range(20)), 12, 12).answers(data.inputs[25:27]))
    np.testing.assert_allclose(exact, np.array((data.labels or ())[25:27]), atol=0.05)  # both are linear recurrences


def test_an_untrained_encoder_forecasts_the_last_value() -> None:
    scale = Scale(2, 0.0, 32, (0.0, 0.0), (1.0, 1.0), True)
    backbone: Any = load("series-transformer")
    network = LinearForecaster(backbone.fitted(scale), 32, 5, [1.0, 1.0])
    window = Window(np.cumsum(np.ones((2, 40)), 1), "s", 40)
    rows = network.encode([window], None)
    with torch.inference_mode():
        assert network.answers(rows, network.collate(rows)) == [((40.0,) * 5,) * 2]


def test_a_forecast_of_fracast_moves_and_scales_with_its_series() -> None:
    backbone = ts.tiny_fracast().fitted(Scale(1, 0.0, 64, (0.0,), (1.0,), True))
    network = FracastForecaster(backbone, 64, 9, [1.0]).eval()
    line = np.sin(np.arange(50.0) / 3)[None]

    def ahead(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        rows = network.encode([Window(values, "s", 50)], None)
        with torch.inference_mode():
            return np.array(network.answers(rows, network.collate(rows))[0])

    np.testing.assert_allclose(ahead(1000 * line + 1e6), 1000 * ahead(line) + 1e6, atol=0.05)


def test_from_a_file_to_a_run_and_on_from_its_end(tmp_path: Path) -> None:
    path = ts.waves(tmp_path / "w.csv", 700)
    model = acclimate.fit(
        str(path), task="forecast", horizon=12, model="series-cnn", strategy="full", num_train_epochs=8,
        settings={"context": 48}, output_dir=tmp_path / "run", quiet=True,
    )  # fmt: skip
    assert set(model.scores.baseline) == {"last_value", "seasonal_naive", "autoregression"}  # type: ignore[union-attr]
    value = model.scores.estimates["mase"].value  # type: ignore[union-attr]
    assert value is not None and value < model.scores.baseline["last_value"]["value"]  # type: ignore[union-attr]
    new = model.predict(str(path))
    assert np.array(new).shape == (1, 2, 12)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "data:image/svg+xml" in page
    parts = list(model.predict_parts(str(path)).parts)
    assert list(parts[0]) == ["forecast_a", "forecast_b"]
    lines = [line.split(",") for line in path.read_text().splitlines()]
    at = [lines[0].index(name) for name in ("a", "b")]
    for line in lines:  # the same numbers in other columns are not the same series
        line[at[0]], line[at[1]] = line[at[1]], line[at[0]]
    turned = tmp_path / "turned.csv"
    turned.write_text("\n".join(map(",".join, lines)) + "\n")
    notes = list(model.predict_parts(str(turned)).parts)[0]["note"]
    assert "in this order" in notes[0]
    assert "b, a" in notes[0]


def test_what_cannot_be_forecast_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="horizon=0"):
        Forecast(horizon=0)
    with pytest.raises(UserError, match="no column of numbers"):
        Forecast().read({"text": ["a", "b", "c"]}, Asked(Columns()), "train")


def lines_of(path: Path, cells: list[str]) -> str:
    """A table with a line a step: a wave, and these cells."""
    body = [f"{t},{np.sin(t):.4f},{cell}" for t, cell in enumerate(cells)]
    path.write_text("step,a,b\n" + "\n".join(body) + "\n")
    return str(path)


def test_words_for_missing_values_keep_their_column(tmp_path: Path) -> None:
    cells = [("nan", "NaN", "-inf", "")[t % 4] if t % 5 == 0 else str(t * t % 7) for t in range(80)]
    found = series_of(lines_of(tmp_path / "x.csv", cells), Columns(time="step"), Progress())
    assert found.channels == ("a", "b")
    assert np.isnan(found.series[0].values[1]).sum() == 16  # type: ignore[union-attr]


def test_a_column_with_a_few_words_is_not_lost_without_a_word(tmp_path: Path) -> None:
    path = lines_of(tmp_path / "x.csv", ["1.5", *["2"] * 50, "broken", *["3"] * 10])
    with pytest.raises(UserError, match="column 'b' holds 'broken' in line 53"):
        series_of(path, Columns(time="step"), Progress())
    found = series_of(path, Columns(time="step", label=("a", "b")), Progress())
    assert "1 of their cells hold no number" in " ".join(found.table.facts["notes"])  # type: ignore[arg-type]


def test_what_never_changes_is_learned_without_nan(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("step,a\n" + "\n".join(f"{t},5" for t in range(150)) + "\n")
    model = acclimate.fit(str(path), task="forecast", model="series-transformer", strategy="full", quiet=True,
                          time_column="step", output_dir=tmp_path / "run",
                          settings={"horizon": 6, "context": 32, "num_train_epochs": 1})  # fmt: skip
    told = np.array(model.predict([np.full((1, 40), 5.0)])[0])
    assert np.isfinite(told).all()
    assert model.scores is not None and model.scores.estimates["mae"].value is not None


def test_a_series_of_other_channels_costs_the_others_nothing(tmp_path: Path) -> None:
    one = forecast_example(tmp_path)
    model = fit("forecast", one, tmp_path / "run")
    values = np.random.default_rng(0).normal(size=(1, 3, 60))
    np.savez(tmp_path / "three.npz", values=values)
    cells = next(model.predict_parts(str(tmp_path / "three.npz")).parts)
    assert cells["note"] == ["it has 3 channels, and this model forecasts 2"]
