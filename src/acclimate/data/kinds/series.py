"""Series of several channels at a fixed rate: sensors, logs of machines, vehicles and robots, prices, loads."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.folders import base_of, file_of
from acclimate.data.kinds.base import Kind, Reading
from acclimate.data.kinds.files import empty
from acclimate.data.rows import Columns, Data, Input, Table
from acclimate.data.series import Seen, Series, look
from acclimate.data.series_tables import as_values
from acclimate.errors import UserError, plural
from acclimate.keys import key_of
from acclimate.progress import Progress

_MUCH = 0.2  # of the values are missing: worth a warning
_SHORT = 8  # steps below which little can be told
_DRAWN, _POINTS, _WIDE, _HIGH = 6, 128, 256, 48  # channels, points a channel, pixels of the picture of a series


def read(table: Table, columns: Columns, progress: Progress) -> Reading:
    """The lists, arrays or files that the columns hold. A row with another number of channels than most is dropped."""
    if columns.features:
        rows = zip(*(table.columns[name] for name in columns.features), strict=True)
        cells: list[Any] = [as_values(row) for row in rows]
    else:
        assert columns.file is not None
        base = base_of(table)
        cells = [None if empty(cell) else file_of(cell, base) for cell in table.columns[columns.file]]
    rate = columns.rate or 0.0
    with progress.steps("reading series", len(cells)) as advance:
        seen = []
        for cell, problem in zip(cells, table.problems, strict=True):
            seen.append(Seen(None, "blank_input") if cell is None or problem is not None else look(cell, rate))
            advance(1)
    counts = Counter(len(one.series.values) for one in seen if one.series is not None)
    usual = counts.most_common(1)[0][0] if counts else 0
    reasons = [
        one.reason if one.series is None else "" if len(one.series.values) == usual else "other_channels"
        for one in seen
    ]
    inputs = tuple(one.series if not reason else None for one, reason in zip(seen, reasons, strict=True))
    return Reading(inputs, tuple(reason or None for reason in reasons))


def given(value: Any, columns: Columns, position: int) -> Input | None:
    """A path, an array (channels, steps), such an array with its rate, or lists of numbers; None for a missing one."""
    if empty(value):
        return None
    seen = look(file_of(value, Path()), columns.rate or 0.0)
    if seen.series is None:
        raise UserError(f"input {position + 1} {seen.problem}; give an array (channels, steps) or a path")
    return seen.series


def is_single(value: Any) -> bool:
    """One array, a series or an array with its rate."""
    return isinstance(value, Series) or getattr(value, "ndim", 0) in (1, 2)


def keys(inputs: Sequence[Input]) -> list[str]:
    """By values and rate."""
    return [key_of(one, "series").hex() for one in inputs]


def findings(data: Data, private: bool) -> list[Finding]:
    """How long the series are, their channels and rates; what is missing, what never changes, sideways arrays."""
    rows: Sequence[Series] = data.inputs
    if not rows:
        return []
    channels, lengths = len(rows[0].values), np.array([row.values.shape[1] for row in rows])
    rates = Counter(row.rate for row in rows)
    low, middle, high = np.quantile(lengths, [0, 0.5, 1], method="nearest")
    steps = (
        f"{plural(low, 'step')}"
        if low == high
        else f"{low:,} to {plural(high, 'step')}, half of them {middle:,} or more"
    )
    of = f"series have {channels} channel{'s' if channels != 1 else ''} and {steps}"
    at = "" if set(rates) == {0.0} else f", at {', '.join(_hertz(rate) for rate, _ in rates.most_common(5))}"
    out = [finding("series_length", "info", of + at, len(rows))]
    if set(rates) == {0.0}:
        text = (
            "nobody says how many steps a second has (--rate HZ), so series of another rate cannot be told from these"
        )
        out.append(finding("no_rate", "info", text, len(rows)))
    elif len(rates) > 1:
        listed = ", ".join(f"{_hertz(rate)} ({rows_text(n)})" for rate, n in rates.most_common(5))
        text = f"series have {len(rates)} rates: {listed}; they are resampled to one; does that go with the label?"
        out.append(finding("mixed_rates", "info", text, len(rows) - max(rates.values())))
    return out + _by_row(data) + _sideways(data)


def _by_row(data: Data) -> list[Finding]:
    out = odd(data, False)
    constant = [bool((np.nanmax(row.values, 1) == np.nanmin(row.values, 1)).any()) for row in _known(data.inputs)]
    short = [row.values.shape[1] < _SHORT for row in data.inputs]
    for kind, severity, which, said in (
        ("constant_channel", "info", constant, "a channel that never changes"),
        ("short_series", "info", short, f"less than {plural(_SHORT, 'step')}"),
    ):
        lines = _lines(data, which)
        if any(which):
            text = f"{rows_text(sum(which))} {verb(sum(which), 'hold')} {said}"
            out.append(finding(kind, severity, text, sum(which), lines))
    return out


def odd(data: Data, private: bool) -> list[Finding]:
    """Values that are missing, which are read as not known."""
    shares = [float(np.isnan(row.values).mean()) for row in data.inputs]
    which = [share > 0 for share in shares]
    if not any(which):
        return []
    severity = "warning" if max(shares) > _MUCH else "info"
    said = f"{rows_text(sum(which))} {verb(sum(which), 'hold')} missing values (up to {max(shares):.0%} of a row)"
    text = f"{said}; they are read as not known, and nothing is put in their place but the mean of the channel"
    return [finding("missing_values", severity, text, sum(which), _lines(data, which))]


def _known(rows: Sequence[Series]) -> list[Series]:
    """With 0 in the place of what a channel lacks altogether, so that its extremes are defined."""
    return [
        row if np.isfinite(row.values).any(1).all() else row._replace(values=np.nan_to_num(row.values)) for row in rows
    ]


def _sideways(data: Data) -> list[Finding]:
    rows = [len(row.values) > row.values.shape[1] for row in data.inputs]
    if not all(rows):
        return []
    shape = data.inputs[0].values.shape
    text = f"every series has more channels than steps ({shape[0]} x {shape[1]}): arrays are (channels, "
    text += "steps), so transpose them if they lie on their side"
    return [finding("sideways", "warning", text, len(rows))]


def _lines(data: Data, which: Sequence[bool]) -> list[int]:
    return [line for yes, line in zip(which, data.lines, strict=False) if yes]


def _hertz(rate: float) -> str:
    return f"{rate:g} Hz" if rate else "a rate that nobody says"


def _picture(value: Input) -> str:
    """The first channels over time, each on its own scale, as a drawing."""
    lines = []
    for row in value.values[:_DRAWN]:
        points = np.array([np.nanmean(part) if np.isfinite(part).any() else np.nan
                           for part in np.array_split(row, min(_POINTS, len(row)))])  # fmt: skip
        if not np.isfinite(points).any():
            continue
        low, span = np.nanmin(points), max(float(np.nanmax(points) - np.nanmin(points)), 1e-12)
        at = [(i * _WIDE / max(1, len(points) - 1), _HIGH - 2 - (p - low) / span * (_HIGH - 4))
              for i, p in enumerate(points) if np.isfinite(p)]  # fmt: skip
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
        lines.append(f'<path d="{path}" stroke="#4a6fa5" stroke-width="1" stroke-opacity="0.7" fill="none"/>')
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{_HIGH}" viewBox="0 0 {_WIDE} {_HIGH}">'
        f"{''.join(lines)}</svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()


def _no_cells(value: Input) -> None:
    return None


SERIES = Kind(
    name="series",
    noun="series",
    plural="series",
    models=("series",),
    model="series-cnn",
    baseline="statistics",
    blank="no series named, or an empty cell",
    near="in every value",
    read=read,
    given=given,
    keys=keys,
    exact=keys,
    findings=findings,
    odd=odd,
    cells=_no_cells,
    single=is_single,
    picture=_picture,
    beside=True,
)
