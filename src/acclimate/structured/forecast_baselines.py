"""What forecasts without transfer: the last value, the last season, and a linear autoregression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.data.forecast_windows import Window
from acclimate.data.rows import Data
from acclimate.plain.statistics import interpolated
from acclimate.structured.base import labels_of

Future = tuple[tuple[float, ...], ...]  # (channels, horizon)
_LAGS = 256  # of the autoregression, at most
_ROWS = 4000  # that it learns from, at most
_PENALTIES = tuple(10.0**power for power in range(-3, 5))


def as_future(values: NDArray[np.float64]) -> Future:
    """Channels (c, h) as tuples."""
    return tuple(tuple(row) for row in values.tolist())


@dataclass(frozen=True)
class Seasonal:
    """ŷ(t + h) = y(t + h − m⌈h/m⌉): each step is what was known a season before; with m = 1 the last value.

    Where that was not measured, the value before it in time.
    """

    season: int
    horizon: int

    def answers(self, inputs: Sequence[Window]) -> list[Future]:
        """One forecast a window."""
        return [as_future(np.array([self._ahead(row) for row in window.values])) for window in inputs]

    def _ahead(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        known = carried(row)
        season = min(self.season, len(known))
        return np.resize(known[-season:], self.horizon)


def carried(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last known value in the place of each missing one; before the first one that.

    >>> carried(np.array([np.nan, 1.0, np.nan, 3.0]))
    array([1., 1., 1., 3.])
    """
    known = np.flatnonzero(np.isfinite(row))
    if not len(known):
        return np.zeros(len(row))
    at = np.maximum(np.searchsorted(known, np.arange(len(row)), side="right") - 1, 0)
    return np.asarray(row[known[at]])


class Autoregression:
    """ŷ(t + h) = y(t) + w_h · (the last p values − y(t)), ridge: one for each channel, every step ahead by itself.

    p is twice the season or the horizon, whichever is longer, and 256 at most. The penalty is the one of eight that
    leave-one-out errors choose.
    """

    def __init__(self, train: Data, season: int, horizon: int) -> None:
        self.horizon = horizon
        rows: Sequence[Window] = train.inputs
        self.lags = max(2, min(2 * max(season, horizon), _LAGS, min(w.values.shape[1] for w in rows)))
        channels = len(rows[0].values)
        self.models = [self._fitted(train, j) for j in range(channels)]

    def _fitted(self, train: Data, channel: int) -> Any:
        from sklearn.linear_model import RidgeCV

        x, y = [], []
        every = max(1, len(train) * self.horizon // _ROWS)
        for window, future in zip(train.inputs, labels_of(train), strict=True):
            line = np.concatenate([window.values[channel], np.array(future[channel], float)])
            filled, steps = interpolated(line), window.values.shape[1]
            for back in range(0, min(self.horizon, steps - self.lags + 1), every):
                now = steps - back
                ahead = line[now : now + self.horizon]
                if np.isfinite(ahead).all():
                    x.append(filled[now - self.lags : now] - filled[now - 1])
                    y.append(ahead - filled[now - 1])
        if len(x) < 3:
            return None
        scale = max(float(np.std(x)), 1e-12)  # the penalty has no unit
        return scale, RidgeCV(_PENALTIES, fit_intercept=False).fit(np.array(x) / scale, np.array(y) / scale)

    def answers(self, inputs: Sequence[Window]) -> list[Future]:
        """One forecast a window; the last value where too little was known to learn from."""
        found = np.zeros((len(inputs), len(self.models), self.horizon))
        for j, model in enumerate(self.models):
            lines = [carried(w.values[j]) if model is None else interpolated(w.values[j]) for w in inputs]
            now = np.array([line[-1] for line in lines])
            found[:, j] = now[:, None]
            if model is not None and len(lines):
                scale, ridge = model
                x = np.array([np.pad(line, (max(0, self.lags - len(line)), 0), "edge")[-self.lags :] for line in lines])
                found[:, j] += scale * ridge.predict((x - now[:, None]) / scale).reshape(len(lines), -1)
        return [as_future(one) for one in found]
