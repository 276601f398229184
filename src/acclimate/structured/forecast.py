"""Forecasting: the steps that follow, for every channel of a series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.backbones.fracast import Fracast
from acclimate.backbones.fracast_parts import periods_of
from acclimate.backbones.series import Scale
from acclimate.backbones.series_small import SmallSeries
from acclimate.data.account import Audit, why
from acclimate.data.findings import finding
from acclimate.data.forecast_windows import LONGEST, Found, Window, key, series_of, windows
from acclimate.data.rows import Data, Table
from acclimate.data.series import Series
from acclimate.errors import UserError, plural
from acclimate.files import json_text
from acclimate.metrics.base import divide
from acclimate.metrics.intervals import FloatArray
from acclimate.plain.statistics import interpolated
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.base import Asked, Baseline, Measure, New, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.forecast_baselines import Autoregression, Seasonal, as_future
from acclimate.structured.forecast_network import FracastForecaster, LinearForecaster
from acclimate.structured.forecast_shown import drawn
from acclimate.structured.gate import accounted

_ENCODED = 512  # steps of the context of an encoder, at most
_TUNE = Tune(augment=1.0, num_train_epochs=10, mixed_precision="no")  # fewer digits would blur a long range of values
_MEMORY = 0.3  # autocorrelation at a period from which on it is a season


@dataclass(frozen=True)
class Forecast(Structured):
    """The next `horizon` steps of every channel, from what went before.

    Rows are windows whose futures follow each other without overlap, so no step is forecast twice; the latest are held
    out. MASE (Hyndman & Koehler 2006) is the mean absolute error over that of repeating the last season in the training
    rows, meaned over channels: below 1 is better than that.

    Use when what will happen is asked, not what a series is. Prefer `--task classify` for a label a series.
    """

    name: ClassVar[str] = "forecast"
    noun: ClassVar[str] = "window"
    more: ClassVar[str] = "give longer series, or a shorter --horizon"
    metric: ClassVar[str] = "mase"
    model: ClassVar[str] = "fracast"
    strategies: ClassVar[Mapping[str, Tune | None]] = {
        "zero_shot": None,
        "linear_probe": replace(_TUNE, moves="head"),
        "partial": replace(_TUNE, moves="top:1"),
        "full": _TUNE,
    }
    parts: ClassVar[tuple[str, ...]] = ("time",)
    candidates: ClassVar[tuple[str, ...]] = ("zero_shot", "linear_probe", "full")

    horizon: int = 24  # steps
    context: int = 0  # steps that are read; 0: all that the model reads, of an encoder four horizons, 64 to 512
    season: int = 0  # steps of a season; 0: the strongest period of the training rows, if there is one

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise UserError(f"horizon={self.horizon!r} is how many steps are forecast: give 1 or more")
        for name in ("context", "season"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)!r} is a number of steps: give 1 or more, or 0 to find it")

    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """Windows with what followed; those without are counted."""
        found = series_of(source, asked.columns, asked.progress)
        cuts = windows(found, self.horizon)
        reasons = [cut.reason for cut in cuts]
        kept = [cut for cut in cuts if cut.reason is None]
        together = len(found.series) > 1 and len({one.values.shape[1] for one in found.series if one is not None}) == 1
        data = Data(
            inputs=tuple(cut.window for cut in kept),
            labels=tuple(as_future(cut.future) for cut in kept),
            times=np.array([cut.share for cut in kept]),
            groups=tuple(str(cut.window.origin) for cut in kept) if together else None,
            lines=tuple(cut.line for cut in kept),
            source=found.table.source,
            kind="series",
        )
        lines = tuple(cut.line for cut in cuts)
        of_windows = Table({}, lines, (None,) * len(cuts), found.table.source, True, dict(found.table.facts))
        return data, accounted(self, of_windows, role, reasons, _findings(found, data, self.horizon), {})

    def read_new(self, source: Any, asked: Asked) -> New:
        """The end of every series, from which the forecast goes on."""
        found = series_of(source, asked.columns, asked.progress)
        rows: list[Window | None] = []
        problems = []
        for one, name, problem in zip(found.series, found.names, found.problems, strict=True):
            window = None if one is None else Window(one.values[:, -LONGEST:], name, one.values.shape[1], found.named)
            few = window is not None and not window.known()
            rows.append(None if few else window)
            problems.append("a channel was never measured" if few else why(problem))
        steps = [None if one is None else one.values.shape[1] for one in found.series]
        table = replace(found.table, columns={"series": list(found.names), "steps": list(steps)})
        return New(table, tuple(rows), tuple(problems))

    def given(self, inputs: Any) -> list[Any] | None:
        """An array (channels, steps), a series, or a list of such."""
        if isinstance(inputs, Series) or getattr(inputs, "ndim", 0) in (1, 2):
            inputs = [inputs]
        if not isinstance(inputs, (list, tuple)) or any(isinstance(one, (dict, str)) for one in inputs):
            return None
        return [one if isinstance(one, Window) else _window(one) for one in inputs]

    def learn(self, train: Data) -> State:
        """The season, each channel's usual seasonal step, and how much of the past is read."""
        rows: Sequence[Window] = train.inputs
        lines = [np.concatenate([w.values, np.array(f, float)], 1) for w, f in zip(rows, labels_of(train), strict=True)]
        season = self.season or _season(max(lines, key=lambda line: line.shape[1]))
        usual = [_usual([line[j] for line in lines], season, self.horizon) for j in range(len(lines[0]))]
        longest = max(w.values.shape[1] for w in rows)
        context = self.context or min(max(64, 4 * self.horizon, 2 * season), _ENCODED, max(longest, 16))
        return {"season": season, "usual": usual, "context": context, "channels": list(rows[0].channels)}

    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """Fracast with its own head, or an encoder of series with a linear one."""
        from acclimate.backbones import load

        backbone, channels, names = load(model), len(state["usual"]), tuple(state.get("channels", ()))
        if isinstance(backbone, Fracast):
            context = self.context or backbone.sizes.context
            zero, one = (0.0,) * channels, (1.0,) * channels
            known = backbone.fitted(backbone.scale or Scale(channels, 0.0, context, zero, one, True))
            return FracastForecaster(known, context, self.horizon, state["usual"], names)
        if not isinstance(backbone, SmallSeries):
            raise UserError(f"a forecast needs a model of series, and {model!r} reads {backbone.modality}")
        if backbone.scale is None:
            scale = Scale(channels, 0.0, int(state["context"]), (0.0,) * channels, (1.0,) * channels, True)
            backbone = backbone.fitted(scale)
        if backbone.inputs != 2 * channels:
            gaps = "" if backbone.known.gaps else " without gaps"
            raise UserError(
                f"{model!r} was made for {backbone.known.channels} channels{gaps}, and a "
                f"forecast reads {channels} and what of them is known; start from series-cnn or series-transformer"
            )
        return LinearForecaster(backbone, int(state["context"]), self.horizon, state["usual"], names)

    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """The last value, the last season where there is one, and a linear autoregression."""
        found: dict[str, Callable[[], Baseline]] = {"last_value": partial(Seasonal, 1, self.horizon)}
        if state["season"] > 1:
            found["seasonal_naive"] = partial(Seasonal, int(state["season"]), self.horizon)
        found["autoregression"] = partial(Autoregression, train, int(state["season"]), self.horizon)
        return found

    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """MASE, MAE and RMSE over all channels; a window counts by its known steps."""
        wrong = _Wrong.of(truth, answers, state)
        return wrong.measures(range(wrong.absolute.shape[1]))

    def per_class(
        self, truth: Sequence[Any], answers: Sequence[Any], state: State
    ) -> dict[str, dict[str, tuple[Measure, int]]]:
        """The same of each channel, where there are several."""
        wrong = _Wrong.of(truth, answers, state)
        if wrong.absolute.shape[1] < 2:
            return {}
        each: dict[str, dict[str, tuple[Measure, int]]] = {}
        for j in range(wrong.absolute.shape[1]):
            rows = int((wrong.count[:, j] > 0).sum())
            each[_called(state, j)] = {name: (one, rows) for name, one in wrong.measures([j]).items()}
        return each

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """What MASE divides by."""
        season = state["season"]
        by = f"the last season ({plural(season, 'step')})" if season > 1 else "the last value (no season was found)"
        return (f"MASE divides by the mean absolute error of repeating {by} in the training rows",)

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """The mean absolute error of each window, each channel in units of its own spread over all of them."""
        x, y = np.array(truth, float), np.array(answers, float)
        spread = np.maximum(np.nanstd(x, axis=(0, 2), keepdims=True), 1e-12)
        return [float(v) for v in np.nan_to_num(np.nanmean(np.abs(x - y) / spread, axis=(1, 2)))]

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """By what is known, and how far the series had come."""
        return [key(one) for one in inputs]

    def columns(self, inputs: Sequence[Any], answers: Sequence[Any]) -> dict[str, list[Any]]:
        """The steps ahead of each channel, as a JSON list."""
        channels = max((len(one) for one in answers if one is not None), default=0)
        known: Sequence[str] = next((one.channels for one in inputs if one is not None and one.channels), ())
        known = known if len(known) == channels else [str(j + 1) for j in range(channels)]
        names = ["forecast"] if channels == 1 else [f"forecast_{name}" for name in known]
        return {
            name: [None if one is None else json_text([float(f"{v:.9g}") for v in one[j]]) for one in answers]
            for j, name in enumerate(names)
        }

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """The end of the context with what followed and what was forecast, drawn; and their means."""
        return [
            {
                "input": repr(window),
                "truth": f"mean {np.nanmean(np.array(x, float)):.4g}",
                "predicted": f"mean {np.mean(y):.4g}",
                "picture": drawn(window.values, np.array(x, float), np.array(y, float)),
            }
            for window, x, y in zip(inputs, truth, answers, strict=True)
        ]


@dataclass(frozen=True)
class _Wrong:
    """Sums of errors of every window and channel, (n, c)."""

    absolute: FloatArray
    squared: FloatArray
    count: FloatArray
    usual: FloatArray  # (c,)

    @staticmethod
    def of(truth: Sequence[Any], answers: Sequence[Any], state: State) -> _Wrong:
        usual = np.array(state["usual"], float)
        if not len(truth):
            nothing = np.zeros((0, len(usual)))
            return _Wrong(nothing, nothing, nothing, usual)
        gap = np.array(answers, float) - np.array(truth, float)
        known = np.isfinite(gap)
        gap = np.where(known, gap, 0)
        return _Wrong(np.abs(gap).sum(2), (gap**2).sum(2), known.sum(2).astype(float), usual)

    def measures(self, channels: Sequence[int]) -> dict[str, Measure]:
        at = list(channels)
        absolute, squared, count = (part[:, at].sum(1) for part in (self.absolute, self.squared, self.count))
        rows = int((count > 0).sum())

        def mase(w: FloatArray) -> FloatArray:
            some = [j for j in at if self.usual[j] > 0]
            each = divide(w @ self.absolute[:, some], w @ self.count[:, some]) / self.usual[some]
            return np.asarray(np.nanmean(each, 1) if some else np.full(len(w), np.nan))

        return {
            "mase": Measure(mase, False, "positive", rows),
            "mae": Measure(lambda w: divide(w @ absolute, w @ count), False, "positive", rows),
            "rmse": Measure(lambda w: np.sqrt(divide(w @ squared, w @ count)), False, "positive", rows),
        }


def _called(state: State, j: int) -> str:
    names = state.get("channels", ())
    return str(names[j]) if j < len(names) else f"channel {j + 1}"


def _window(one: Any) -> Window:
    values = one.values if isinstance(one, Series) else np.asarray(one, np.float64)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size:
        raise UserError(f"a series of the shape {values.shape} cannot be forecast; give an array (channels, steps)")
    return Window(values[:, -LONGEST:], "", values.shape[1])


def _usual(lines: Sequence[NDArray[np.float64]], season: int, horizon: int) -> float:
    """The mean |y(t) − y(t − m)| over the futures of the training rows; of steps where a season is longer than any."""
    steps = [
        np.abs(line[-horizon:] - line[-horizon - season : -season]) for line in lines if len(line) >= horizon + season
    ]
    found = np.concatenate(steps) if steps else np.concatenate([np.abs(np.diff(line)) for line in lines])
    return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0


def _season(line: NDArray[np.float64]) -> int:
    """The period that most channels have: the strongest of the periodogram whose autocorrelation is 0.3 or more."""
    found: Counter[int] = Counter()
    for row in line:
        filled = interpolated(row)
        at = np.arange(len(filled))
        flat = filled - np.polyval(np.polyfit(at, filled, 1), at) if len(filled) > 2 else filled
        values = torch.from_numpy(flat)[None]
        for period in periods_of(values, torch.ones_like(values, dtype=torch.bool), len(flat), 4, 0.05)[0].tolist():
            if 1 < period <= len(flat) // 2 and float(flat @ flat) > 0:
                memory, best = max((_memory(flat, p), p) for p in range(max(2, period - 1), period + 2))
                if memory >= _MEMORY:
                    found[best] += 1
                    break
    return found.most_common(1)[0][0] if found else 1


def _memory(line: NDArray[np.float64], lag: int) -> float:
    return float(line[lag:] @ line[:-lag] / (line @ line)) if lag < len(line) else 0.0


def _findings(found: Found, data: Data, horizon: int) -> list[Any]:
    there = [one for one in found.series if one is not None]
    steps = sum(one.values.shape[1] for one in there)
    forecast = len(data) * horizon
    text = (
        f"{plural(len(there), 'series', 'series')} of {steps:,} steps, channels {', '.join(found.channels[:12])}: "
        f"{plural(len(data), 'window')} "
        f"whose {plural(horizon, 'step')} ahead do not overlap; no window forecasts the first "
        f"{plural(steps - forecast, 'step')}"
    )
    out = [finding("windows", "info", text, len(data))]
    lost = sum(int(np.isnan(one.values).sum()) for one in there)
    if lost:
        share = lost / max(1, sum(one.values.size for one in there))
        text = f"{plural(lost, 'value')} missing ({share:.1%}): read as not known, and no error counts there"
        out.append(finding("missing_values", "info" if share < 0.2 else "warning", text, lost))
    flat = [name for j, name in enumerate(found.channels) if all(np.nanstd(one.values[j]) == 0 for one in there)]
    if flat:
        text = f"channels that never change: {', '.join(flat[:12])}; they count in no MASE"
        out.append(finding("constant_channel", "info", text, len(flat)))
    return out
