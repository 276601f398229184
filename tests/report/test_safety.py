"""Hostile text stays text; nothing is fetched; private means private."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import matplotlib
import pytest

from acclimate.report import ReportData, render_html, render_markdown
from acclimate.report.words import BIDI

Make = Callable[..., ReportData]
NASTY = [
    "<script>alert(1)</script>",
    "</svg><img src=x onerror=alert(2)>",
    "a\"b'c",
    "nul\x00l",
    "x" * 10_000,
    "two\nlines",
    "\u202eevil",
    "שלום",
    "积极",
    "إيجابي",
    "$\\frac{1}{2}$",
    "| pipe ` tick",
    "{{ 7 * 7 }}",
    "\ud800 alone",
    "&amp;",
]


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, attrs))


@pytest.fixture
def hostile(make_classes: Make) -> ReportData:
    row = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 9, "difference": None}
    return make_classes(
        NASTY[:12],
        title=NASTY[0],
        verdict=NASTY[1] + NASTY[6],
        strategy=NASTY[2],
        model_name=NASTY[0],
        licence=NASTY[1],
        how_tested=NASTY[1],
        baselines=[{"name": name, **row} for name in NASTY],
        decisions=NASTY,
        settings={name: name for name in NASTY},
        candidates=[{"name": name, **row, "note": name} for name in NASTY],
        domains=[{"name": n, "rows": [{"name": n, **row}]} for n in NASTY],
        mistakes=[{"input": n, "truth": n, "predicted": n, "confidence": 0.9, "line": 1} for n in NASTY],
        next_steps=[{"text": n, "command": n[:99]} for n in NASTY],
        thresholds={n: n for n in NASTY},
        splits={n: 3 for n in NASTY},
    )


def test_hostile_text_makes_no_element(hostile: ReportData, example: ReportData) -> None:
    html = render_html(hostile)
    tags = Tags(html).seen
    assert [tag for tag, _ in tags if tag in ("img", "iframe", "object", "a")] == ["a"] * html.count('<a href="#')
    assert [tag for tag, _ in tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in tags for name, _ in attributes)
    assert html.count("<svg") == html.count("</svg>")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "{{ 7 * 7 }}" in html


def test_no_control_or_direction_mark_is_left(hostile: ReportData) -> None:
    for text in (render_html(hostile), render_markdown(hostile)):
        text.encode("utf-8")
        assert not [c for c in text if c in BIDI or (ord(c) < 32 and c not in "\n\t")]


def test_long_text_is_shortened(hostile: ReportData) -> None:
    assert max(map(len, re.findall("x+", render_html(hostile)))) <= 4000


def test_markdown_formats_nothing_from_the_data(hostile: ReportData) -> None:
    text = render_markdown(hostile)
    outside = re.sub(r"(?ms)^(`{3,})sh\n.*?^\1$", "", text)
    assert "<script" not in outside and "<img" not in outside
    assert "| pipe" not in outside.replace("\\| pipe", "")
    assert "` tick" not in outside.replace("\\` tick", "")
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in outside.splitlines() if line.startswith("|")]
    assert widths and min(widths) > 2


def test_chinese_and_arabic_are_text_in_figures(make_classes: Make) -> None:
    html = render_html(make_classes(["积极的评价", "إيجابي جدا", "中立"]))
    figure = re.search(r'<svg class="plot confusion".*?</svg>', html, re.DOTALL)
    assert figure is not None
    assert len(re.findall(r"<text[^>]*>积极的评价</text>", figure[0])) == 2
    assert "إيجابي جدا</text>" in figure[0]


def test_page_asks_the_network_for_nothing(example: ReportData) -> None:
    html = render_html(example)
    assert "://" not in html and "@import" not in html and "xmlns" not in html
    links = re.findall(r"""(?:href|src)=["']?([^"'\s>]*)""", html)
    assert links and all(link.startswith(("#", "data:,")) for link in links)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "default-src 'none'" in html


def test_private_shows_no_input_and_says_so(make: Make, example: ReportData) -> None:
    data = make(private=True)
    assert data.mistakes == example.mistakes != None  # noqa: E711
    for text in (render_html(data), render_markdown(data)):
        assert "private: no input text is shown" in text
        assert "This report is private" in text
        for mistake in example.mistakes or []:
            assert mistake["input"][:20] not in text
    assert "private" not in render_html(example)


def test_process_state_is_left_alone(example: ReportData) -> None:
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "text.usetex": False}):
        styled = render_html(example)
    assert styled == render_html(example)
    assert dict(matplotlib.rcParams) == before


def test_ids_of_figures_do_not_meet(example: ReportData) -> None:
    html = render_html(example)
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)", html)) | set(re.findall(r'href="#([^"]+)"', html))
    assert used <= set(ids)
