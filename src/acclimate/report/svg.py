"""A matplotlib figure as an inline SVG whose colours are CSS variables and whose texts never pass through matplotlib.

matplotlib measures text with its own fonts (a Chinese label would warn and come out as boxes), reads `$` as mathematics
and lets control characters through. So it only ever sees a short mark; the escaped text takes its place afterwards.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from acclimate.report.words import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 400  # a figure's own width in px: readable at 328 px on a phone, and not coarse at 460 px on a screen
SIZE = 12.5  # of its text

# Colours stand for CSS variables of the page, so that one figure serves the light and the dark scheme.
INK, MUTED, RULE, ACCENT, BAND, HIT, MISS, PAPER = (f"#00000{i}" for i in range(1, 9))
VARIABLES = {
    INK: "--ink", MUTED: "--muted", RULE: "--rule", ACCENT: "--accent", BAND: "--band", HIT: "--hit", MISS: "--miss",
    PAPER: "--paper",
}  # fmt: skip
SERIES = tuple(f"#0000{i}f" for i in range(1, 10))  # colours of classes; the last is for all others
VARIABLES |= {colour: f"--series-{i}" for i, colour in enumerate(SERIES)}
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "h", ".")  # a class can be told apart without its colour
SHAPES = {  # the same marks as paths in a square of 12, for legends
    "o": "M6 2a4 4 0 1 1 0 8 4 4 0 1 1 0-8z",
    "^": "M6 1.5 10.5 10h-9z",
    "s": "M2.2 2.2h7.6v7.6H2.2z",
    "D": "M6 1 11 6 6 11 1 6z",
    "v": "M6 10.5 10.5 2h-9z",
    "P": "M4.3 1.5h3.4v2.8h2.8v3.4H7.7v2.8H4.3V7.7H1.5V4.3h2.8z",
    "X": "m3.4 1 2.6 2.6L8.6 1 11 3.4 8.4 6 11 8.6 8.6 11 6 8.4 3.4 11 1 8.6 3.6 6 1 3.4z",
    "h": "m6 1 4.4 2.5v5L6 11 1.6 8.5v-5z",
    ".": "M6 3.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 1 1 0-5z",
}


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's own defaults and ours, whatever the user has set; put back afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "acclimate", "font.family": "DejaVu Sans",
                                    "font.size": SIZE, "path.simplify": False})  # fmt: skip
        yield


class Canvas:
    """A drawing of `WIDTH` by `height` px. Make, fill and save it inside `style()`."""

    def __init__(self, height: float) -> None:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self.height = height
        self.figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        self.figure.patch.set_visible(False)
        FigureCanvasSVG(self.figure)
        self._texts: list[str] = []

    def text(self, text: str) -> str:
        """The mark to give matplotlib in place of this text."""
        self._texts.append(text)
        return f"@{len(self._texts) - 1}@"

    def sheet(self) -> Axes:
        """Axes over the whole drawing, in px from the top left corner."""
        axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(self.height, 0)
        return axes

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes with these px free on each side, thin lines left and below only."""
        width, height = WIDTH - left - right, self.height - top - bottom
        axes = self.figure.add_axes((left / WIDTH, bottom / self.height, width / WIDTH, height / self.height))
        axes.patch.set_visible(False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(RULE)
        axes.tick_params(color=RULE, labelcolor=MUTED, length=3, pad=4)
        return axes

    def ticks(self, axes: Axes, which: str, values: list[float], labels: list[str]) -> None:
        """Ticks at these values with these labels."""
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_ticks(values, labels=[self.text(label) for label in labels])

    def write(self, axes: Axes, x: float, y: float, text: str, colour: str = INK, **look: object) -> None:
        """Text at a place of the axes; `look` goes to matplotlib."""
        look = {"ha": "left", "va": "center", **look}
        axes.text(x, y, self.text(text), color=colour, parse_math=False, **look)  # type: ignore[arg-type]

    def svg(self, name: str, alt: str) -> str:
        """The inline element: no prologue, no name space, no style of its own, no id that another figure may have."""
        stream = io.StringIO()
        self.figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        raw = stream.getvalue()
        body = raw[raw.index("<g id=") : raw.rindex("</svg>")]
        body = _colours(identifiers(body, name))
        body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
        body = re.sub(r'\s+transform="rotate\(-?0 [^)]*\)"', "", body)
        body = re.sub(r"\n\s*", "\n", body)
        body = re.sub(r"@(\d+)@", lambda found: escape(self._texts[int(found[1])]), body)
        size = f'viewBox="0 0 {WIDTH} {self.height:g}" width="{WIDTH}" height="{self.height:g}"'
        return f'<svg class="plot {name}" role="img" {size} aria-label="{escape(alt)}">{body}</svg>'


def identifiers(body: str, name: str) -> str:
    """The drawing with this name before every id that something in it refers to."""
    used = set(re.findall(r'href="#([^"]+)"', body)) | set(re.findall(r"url\(#([^)]+)\)", body))
    body = re.sub(r' id="([^"]+)"', lambda f: f' id="{name}-{f[1]}"' if f[1] in used else "", body)
    body = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{name}-\1"', body)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)


def _colours(body: str) -> str:
    return re.sub(r"#[0-9a-f]{6}", lambda f: f"var({VARIABLES[f[0]]})" if f[0] in VARIABLES else f[0], body)


def escape(text: str) -> str:
    """Cleaned and escaped for an SVG text or an attribute."""
    return html.escape(clean(text), quote=True)


def marker(series: int) -> str:
    """The mark of a class as a small picture for a legend (the words stand beside it)."""
    colour = f"var({VARIABLES[SERIES[series]]})"
    shape = f'<path d="{SHAPES[MARKERS[series]]}"/>'
    return f'<svg class="mark" viewBox="0 0 12 12" aria-hidden="true" style="fill:{colour}">{shape}</svg>'
