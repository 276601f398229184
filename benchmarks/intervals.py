"""What the tables of benchmarks share: means over seeds with Student's 95 % half-width."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def half_width(values: Sequence[float]) -> float:
    """t(n − 1) · s/√n at 95 %; infinite with fewer than two values."""
    n = len(values)
    return float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")


def plus_minus(values: Sequence[float], digits: int = 3) -> str:
    """The mean and its half-width: ".261 ± .012"; without a half-width where there is one value alone."""
    mean, half = float(np.mean(values)), half_width(values)
    text = f"{mean:.{digits}f}" + ("" if half == float("inf") else f" ± {half:.{digits}f}")
    return re.sub(r"\b0\.", ".", text)
