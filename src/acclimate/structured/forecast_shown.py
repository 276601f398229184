"""A window as a drawing: the end of what was known, what followed, and what was forecast."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

_WIDE, _HIGH = 320, 64  # pixels
_PAST = 3  # horizons of the context that are drawn


def drawn(context: NDArray[np.float64], truth: NDArray[np.float64], forecast: NDArray[np.float64]) -> str:
    """The first channel, as a data URI of an SVG: grey what was known, blue what followed, red what was forecast."""
    horizon = truth.shape[1]
    past = context[0, -_PAST * horizon :]
    every = np.concatenate([past, truth[0], forecast[0]])
    known = every[np.isfinite(every)]
    low, span = (float(known.min()), max(float(np.ptp(known)), 1e-12)) if len(known) else (0.0, 1.0)
    total = max(2, len(past) + horizon)

    def line(values: NDArray[np.float64], first: int, colour: str) -> str:
        points = [
            f"{(first + i) * _WIDE / (total - 1):.1f} {_HIGH - 2 - (v - low) / span * (_HIGH - 4):.1f}"
            for i, v in enumerate(values.tolist())
            if np.isfinite(v)
        ]
        path = "M" + "L".join(points)
        return f'<path d="{path}" stroke="{colour}" stroke-width="1.2" fill="none"/>' if points else ""

    lines = line(past, 0, "#888888") + line(truth[0], len(past), "#1f5fa8") + line(forecast[0], len(past), "#c0392b")
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{_HIGH}" viewBox="0 0 {_WIDE} {_HIGH}">'
        f"{lines}</svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()
