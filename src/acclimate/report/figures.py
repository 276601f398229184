"""The figures, each a function from plain values to an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acclimate.report.svg import (
    ACCENT,
    BAND,
    HIT,
    INK,
    MARKERS,
    MISS,
    MUTED,
    PAPER,
    RULE,
    SERIES,
    SIZE,
    WIDTH,
    Canvas,
    style,
)
from acclimate.report.words import breadth, count, decimals, estimate, finite, number, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTER = 6.7  # px of an average letter at SIZE, on the wide side
MANY = 12  # classes up to which a matrix has a cell for every pair
POINTS = 1200  # more would make the page heavy without showing more


@dataclass(frozen=True)
class Row:
    """One line of a dot-and-interval plot; a row without `value` and with `heading` stands over a group."""

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    main: bool = False  # this model
    heading: bool = False


def intervals(rows: Sequence[Row], name: str, alt: str, *, lower_better: bool, metric: str) -> str:
    """Dots with intervals below each other on one scale; the band is the interval of the first main row."""
    heights = [26 if row.heading else 40 for row in rows]
    top, bottom = 6, 44
    with style():
        canvas = Canvas(top + sum(heights) + bottom)
        sheet = canvas.sheet()
        ends = [v for r in rows for v in (r.value, r.low, r.high) if v is not None]
        low, high = _limits(ends)
        left, right = 8.0, WIDTH - 8.0

        def at(value: float) -> float:
            return left + (right - left) * (value - low) / (high - low)

        foot = top + sum(heights) + 2
        mains = [r for r in rows if r.main and r.low is not None and r.high is not None]
        if len(mains) == 1 and mains[0].low is not None and mains[0].high is not None:
            sheet.fill_between([at(mains[0].low), at(mains[0].high)], top, foot, color=BAND, linewidth=0)
        for tick, label in _ticks(low, high, 5):
            sheet.plot([at(tick), at(tick)], [top, foot], color=RULE, linewidth=0.8, zorder=0.5)
            align = "left" if at(tick) < 24 else "right" if at(tick) > WIDTH - 24 else "center"
            canvas.write(sheet, at(tick), foot + 11, label, MUTED, ha=align, fontsize=SIZE - 1)
        y = float(top)
        for row, height in zip(rows, heights, strict=True):
            _interval_row(canvas, sheet, row, y, at)
            y += height
        direction = "← lower is better" if lower_better else "higher is better →"
        canvas.write(sheet, left if lower_better else right, foot + 29, f"{one_line(metric, 30)}: {direction}", MUTED,
                     ha="left" if lower_better else "right", fontsize=SIZE - 1)  # fmt: skip
        return canvas.svg(name, alt)


def _interval_row(canvas: Canvas, sheet: Axes, row: Row, y: float, at: object) -> None:
    if row.heading:
        canvas.write(sheet, 8, y + 17, one_line(row.name, 50), MUTED, fontweight="bold")
        return
    colour = ACCENT if row.main else INK
    value = estimate(row.value, row.low, row.high)
    room = (WIDTH - 30) / LETTER - len(value)
    weight = "bold" if row.main else "normal"
    canvas.write(sheet, 8, y + 12, one_line(row.name, room), colour, fontweight=weight)
    canvas.write(sheet, WIDTH - 8, y + 12, value, colour, ha="right", fontweight=weight)
    if row.value is None:
        return
    assert callable(at)
    line = y + 28
    if row.low is not None and row.high is not None:
        sheet.plot([at(row.low), at(row.high)], [line, line], color=colour, linewidth=2, solid_capstyle="round")
    sheet.plot([at(row.value)], [line], "o", color=colour, markersize=8, markeredgewidth=1.5, markeredgecolor=PAPER)


def curves(history: Sequence[dict[str, object]], name: str, alt: str, *, metric: str) -> str:
    """Training and validation loss over steps, and below it the validation metric where there is one."""
    lines = {key: series(history, key) for key in ("train_loss", "valid_loss", "valid_metric")}
    upper = [
        (k, label, c)
        for k, label, c in (("train_loss", "training", MUTED), ("valid_loss", "validation", ACCENT))
        if lines[k][0]
    ]
    lower = [("valid_metric", "", ACCENT)] if lines["valid_metric"][0] else []
    panels = [(p, title) for p, title in ((upper, "loss"), (lower, f"{one_line(metric, 30)} on validation rows")) if p]
    everything = [x for xs, _ in lines.values() for x in xs]
    with style():
        tall, gap, bottom = 145, 32, 40
        canvas = Canvas(len(panels) * (tall + gap) + bottom)
        for i, (drawn, title) in enumerate(panels):
            axes = canvas.axes(52, gap + i * (tall + gap), 78, bottom + (len(panels) - 1 - i) * (tall + gap))
            values = [v for key, _, _ in drawn for v in lines[key][1]]
            axes.set_xlim(*_limits(everything, 0.02))
            axes.set_ylim(*_limits(values, 0.08))
            canvas.ticks(axes, "y", *_split(_ticks(*axes.get_ylim(), 4)))
            last = i == len(panels) - 1
            canvas.ticks(axes, "x", *(_split(_ticks(*axes.get_xlim(), 5)) if last else ([], [])))
            canvas.write(axes, 0, 1.09, title, INK, transform=axes.transAxes, fontweight="bold")
            ends: list[float] = []
            for key, label, colour in drawn:
                xs, ys = lines[key]
                axes.plot(xs, ys, color=colour, linewidth=1.8, marker="o" if len(xs) < 30 else None, markersize=4)
                place = _apart(ys[-1], ends, axes.get_ylim(), tall)
                if label:
                    canvas.write(axes, axes.get_xlim()[1], place, label, colour)
            if last:
                canvas.write(axes, 1, -0.22, "step →", MUTED, transform=axes.transAxes, ha="right")
        return canvas.svg(name, alt)


def series(history: Sequence[dict[str, object]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one curve, where it has values."""
    xs, ys = [], []
    for i, entry in enumerate(history):
        step, value = finite(entry.get("step")), finite(entry.get(key))
        if value is not None:
            xs.append(step if step is not None else float(i + 1))
            ys.append(value)
    return xs, ys


def _apart(y: float, taken: list[float], limits: tuple[float, float], height: float) -> float:
    """A place for a label that does not touch those already there."""
    need = (limits[1] - limits[0]) * 16 / height
    place = y
    for other in taken:
        if abs(place - other) < need:
            place = other + need if y >= other else other - need
    taken.append(place)
    return place


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], name: str, alt: str) -> str:
    """Counts of true (rows) against predicted (columns); shade = share of the row, hits and mistakes in two hues."""
    k = len(classes)
    keyed = k > 4
    names = [f"{i + 1}  {text}" if keyed else text for i, text in enumerate(classes)]
    left = min(150.0, 16 + LETTER * max(breadth(one_line(n, 20)) for n in names))
    wide = min(110.0, (WIDTH - left - 44) / k)
    tall = max(26.0, min(48.0, wide))
    with style():
        canvas = Canvas(52 + k * tall + 8)
        sheet = canvas.sheet()
        canvas.write(sheet, left, 12, "predicted →", MUTED)
        canvas.write(sheet, left - 8, 36, "true ↓", MUTED, ha="right")
        canvas.write(sheet, left + k * wide + 38, 36, "rows", MUTED, ha="right")
        for j in range(k):
            head = str(j + 1) if keyed else one_line(classes[j], wide / LETTER)
            canvas.write(sheet, left + (j + 0.5) * wide, 36, head, INK, ha="center")
        for i, row in enumerate(matrix):
            y = 48 + i * tall
            total = sum(row)
            canvas.write(sheet, left - 8, y + tall / 2, one_line(names[i], (left - 12) / LETTER), INK, ha="right")
            canvas.write(sheet, left + k * wide + 38, y + tall / 2, count(total), MUTED, ha="right")
            for j, n in enumerate(row):
                x = left + j * wide
                share = n / total if total else 0.0
                shade = 0.05 + 0.6 * share if n else 0.0
                sheet.fill([x + 1, x + wide - 1, x + wide - 1, x + 1], [y + 1, y + 1, y + tall - 1, y + tall - 1],
                           facecolor=HIT if i == j else MISS, alpha=round(shade, 3), linewidth=0)  # fmt: skip
                size = min(SIZE, wide / (0.62 * max(1, len(count(n)))))
                canvas.write(
                    sheet,
                    x + wide / 2,
                    y + tall / 2,
                    count(n) if n else "·",
                    INK if n else MUTED,
                    ha="center",
                    fontsize=size,
                )
        return canvas.svg(name, alt)


@dataclass(frozen=True)
class Bin:
    """Rows of similar confidence: what was claimed, what came true, and its interval."""

    claimed: float
    true: float
    low: float | None
    high: float | None
    n: int


def reliability(bins: Sequence[Bin], name: str, alt: str) -> str:
    """Claimed probability against the share that came true, and below it how many rows claim so much."""
    with style():
        canvas = Canvas(420)
        axes = canvas.axes(48, 26, 14, 118)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
        canvas.ticks(axes, "y", ticks, ["0", "0.25", "0.5", "0.75", "1"])
        canvas.ticks(axes, "x", [], [])
        canvas.write(axes, 0, 1.045, "share that was right", INK, transform=axes.transAxes, fontweight="bold")
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, dashes=(4, 4))
        canvas.write(axes, 0.03, 0.93, "claims too little", MUTED)
        canvas.write(axes, 0.97, 0.07, "claims too much", MUTED, ha="right")
        for b in bins:
            if b.low is not None and b.high is not None:
                axes.plot([b.claimed, b.claimed], [b.low, b.high], color=ACCENT, linewidth=1.5, solid_capstyle="round")
        dots = axes.plot([b.claimed for b in bins], [b.true for b in bins], "o", color=ACCENT, clip_on=False)
        dots[0].set(markersize=8, markeredgewidth=1.5, markeredgecolor=PAPER)
        below = canvas.axes(48, 318, 14, 44)
        below.set_xlim(0, 1)
        most = max((b.n for b in bins), default=1)
        below.set_ylim(0, most * 1.05)
        canvas.ticks(below, "x", ticks, ["0", "0.25", "0.5", "0.75", "1"])
        canvas.ticks(below, "y", [0.0, float(most)], ["0", count(most)])
        for b in bins:
            below.plot([b.claimed, b.claimed], [0, b.n], color=MUTED, linewidth=7, solid_capstyle="butt")
        canvas.write(
            below, 1, -0.68, "probability it claims (bars: rows) →", MUTED, transform=below.transAxes, ha="right"
        )
        return canvas.svg(name, alt)


def projection(x: Sequence[float], y: Sequence[float], codes: Sequence[int], name: str, alt: str) -> str:
    """Points of the plane in the colour and shape of their series; the axes have no meaning and no ticks."""
    with style():
        canvas = Canvas(340)
        axes = canvas.axes(4, 4, 4, 4)
        axes.set_axis_off()
        axes.set_xlim(*_limits(x, 0.04))
        axes.set_ylim(*_limits(y, 0.04))
        for code in sorted(set(codes), reverse=True):  # the most frequent on top would hide the rare: it is drawn first
            members = [i for i, c in enumerate(codes) if c == code]
            axes.plot([x[i] for i in members], [y[i] for i in members], linestyle="none", marker=MARKERS[code],
                      color=SERIES[code], markersize=5, markeredgewidth=0, alpha=0.75, clip_on=False)  # fmt: skip
        return canvas.svg(name, alt)


def scatter(truth: Sequence[float], predicted: Sequence[float], name: str, alt: str) -> str:
    """Predicted against true values, the diagonal being a perfect answer."""
    low, high = _limits([*truth, *predicted], 0.04)
    ticks, labels = _split(_ticks(low, high, 4))
    left = 20 + LETTER * max(len(label) for label in labels)
    with style():
        canvas = Canvas(360)
        axes = canvas.axes(left, 28, 14, 44)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        canvas.ticks(axes, "x", ticks, labels)
        canvas.ticks(axes, "y", ticks, labels)
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, dashes=(4, 4))
        axes.plot(
            truth, predicted, linestyle="none", marker="o", color=ACCENT, markersize=5, markeredgewidth=0, alpha=0.55
        )
        canvas.write(axes, 0, 1.055, "predicted", INK, transform=axes.transAxes, fontweight="bold")
        canvas.write(axes, 1, -0.125, "true →", INK, transform=axes.transAxes, ha="right", fontweight="bold")
        return canvas.svg(name, alt)


def _limits(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):
        wide = abs(low) * 0.1 or 0.5
        return low - wide, high + wide
    return low - margin * (high - low), high + margin * (high - low)


def _ticks(low: float, high: float, wanted: int) -> list[tuple[float, str]]:
    """About so many round numbers between the ends, with their text."""
    rough = (high - low) / max(wanted, 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    values = [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += 0 if math.isclose(step * 10**digits, round(step * 10**digits)) else 1
    return [(v, number(v, digits) if digits < 7 else number(v, decimals([v]))) for v in values]


def _split(ticks: list[tuple[float, str]]) -> tuple[list[float], list[str]]:
    return [v for v, _ in ticks], [label for _, label in ticks]
