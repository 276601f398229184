"""What a report has, where, and with which numbers, in HTML and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from acclimate.metrics.tables import METRICS
from acclimate.report import ReportData, render_html, render_markdown
from acclimate.report.content import document
from acclimate.report.results import LOWER_IS_BETTER

Make = Callable[..., ReportData]
KEYS = [
    "how",
    "data",
    "result",
    "candidates",
    "training",
    "confusion",
    "calibration",
    "classes",
    "subgroups",
    "map",
    "domains",
    "mistakes",
    "thresholds",
    "next",
    "intervals",
    "settings",
]
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, its text, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.text.setdefault(tag, []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self, tag: str) -> str:
        return " ".join("".join(self.text.get(tag, [])).split())


@pytest.fixture
def page(example_page: str) -> Page:
    return Page(example_page)


def test_sections_come_in_order(page: Page, example: ReportData) -> None:
    assert [s["id"] for s in page.all("section")] == KEYS
    assert [s.key for s in document(example).sections] == KEYS


def test_the_top_says_verdict_number_interval_n_and_baseline(page: Page, example: ReportData) -> None:
    assert page.words("h1") == example.verdict
    for words in (
        "0.850",
        "95 % interval [0.819, 0.876]",
        "600 rows",
        "best baseline: TF-IDF + linear",
        "0.797",
        "difference +0.053 [+0.023, +0.083]: better",
    ):
        assert words in page.words("dl"), words


def test_headings_are_in_order_and_ids_are_unique(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    named = {a[key] for _, a in page.elements for key in ("aria-labelledby",) if key in a}
    assert named <= set(ids)


def test_every_figure_has_a_description_and_a_caption(page: Page) -> None:
    drawn = [a for a in page.all("svg") if "plot" in (a["class"] or "")]
    assert [a["class"] for a in drawn] == [
        f"plot {n}" for n in ("baselines", "training", "confusion", "reliability", "map", "domains")
    ]
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in drawn)
    assert len(page.all("figcaption")) == len(drawn) == len(page.all("figure"))


SENTENCES = [
    "Most mistakes are negative taken for positive (52 of 90 mistakes; 600 rows). The other way round: 38.",
    "This model is ahead of the strongest baseline, TF-IDF + linear, by 0.053; the interval of that excludes 0.",
    "The validation loss was lowest at step 300 (0.388) and rose to 0.430 by step 480.",
    "Accuracy on validation rows was best at step 300 (0.860).",
    "Weakest: negative (F1 0.846, 300 rows); strongest: positive (F1 0.853, 300 rows).",
    "amazon 0.885 (n 200) against imdb 0.795 (n 200); difference 0.090 [0.018, 0.162]: a gap",
    "1 group has too few rows.",
    "this model is better on tweets, product reviews; not decidable on newspaper editorials.",
    "Chosen: lp_ft. The next, hybrid, is 0.008 away; their intervals overlap",
    "3,000 rows read = 2,972 kept + 28 dropped.",
    "On average it claims 79\u00a0% and 76\u00a0% comes true: over-confident by 3 points.",
]


def test_captions_say_what_the_numbers_say(page: Page, example: ReportData) -> None:
    words = " ".join(page.text["main"]).replace("\n", " ")
    markdown = render_markdown(example).replace("\\", "")
    assert [s for s in SENTENCES if s not in words] == []
    assert [s for s in SENTENCES if s not in markdown] == []


def test_rows_reconcile_or_it_is_said(make: Make, example: ReportData) -> None:
    assert "do not add up" not in render_html(example)
    audit = {**example.audits[0], "kept": 2970}
    assert "These counts do not add up: 2 rows unaccounted for." in render_html(make(audits=[audit]))


def test_findings_are_ordered_and_dropped_rows_are_not_told_twice(make: Make, example: ReportData) -> None:
    told = {"kind": "missing_label", "severity": "warning", "message": "told before", "count": 25, "lines": [100]}
    grave = {"kind": "leak", "severity": "error", "message": "column 'x' gives the label away", "count": 9, "lines": []}
    page = render_html(make(audits=[{**example.audits[0], "findings": [*example.audits[0]["findings"], told, grave]}]))
    assert "told before" not in page
    assert (
        page.index("gives the label away")
        < page.index("another label elsewhere")
        < page.index("one side of every split")
    )
    assert "lines 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23 and 100 more" in page


def test_nothing_known_leaves_no_empty_section() -> None:
    bare = ReportData(
        title="t", verdict="v", created="c", task="classify", metric="accuracy", strategy="knn", model_name="minilm"
    )
    page = Page(render_html(bare))
    assert [s["id"] for s in page.all("section")] == ["settings"]
    assert page.all("svg") == []
    assert re.findall(r"^## .*", render_markdown(bare), re.MULTILINE) == ["## Settings and versions"]


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("training", {"history": []}),
        ("map", {"projection": None}),
        ("domains", {"domains": []}),
        ("mistakes", {"mistakes": None}),
        ("mistakes", {"mistakes": []}),
        ("thresholds", {"thresholds": {}}),
        ("next", {"next_steps": []}),
        ("data", {"audits": []}),
        ("candidates", {"candidates": [], "decisions": []}),
    ],
)
def test_absent_data_leaves_its_section_out(make: Make, key: str, changes: dict[str, Any]) -> None:
    assert [s.key for s in document(make(**changes)).sections] == [k for k in KEYS if k != key]


def test_scores_decide_about_their_sections(make: Make, example: ReportData) -> None:
    scores = {**example.scores, "confusion": None, "reliability": None, "per_class": {}, "per_subgroup": {}}
    keys = [s.key for s in document(make(scores=scores)).sections]
    assert keys == [k for k in KEYS if k not in ("confusion", "calibration", "classes", "subgroups")]


def test_numbers_that_are_missing_are_a_dash(make: Make, example: ReportData) -> None:
    nothing = {"value": float("nan"), "low": None, "high": float("inf"), "n": None}
    changes = {
        "baselines": [{"name": "empty", **nothing, "difference": None}],
        "candidates": [{"name": "c", **nothing, "seconds": None}],
        "history": [{"step": 1, "train_loss": float("nan")}, {"step": 2, "train_loss": 0.5}],
    }
    page = Page(render_html(make(**changes)))
    cells = page.words("tbody")
    assert "empty––––" in cells.replace(" ", "")
    assert not re.search(r"\b(nan|inf|None)\b", cells)


def test_many_classes_are_folded_and_paired(make_classes: Make) -> None:
    names = [f"intent {i}" for i in range(120)]
    html = render_html(make_classes(names))
    page = Page(html)
    assert not any("confusion" in (a["class"] or "") for a in page.all("svg"))
    assert "The most confused pairs of 120 classes, 105 rarer pairs not shown." in html
    assert html.count("<summary>All 120 classes</summary>") == 2
    assert "intent 119" in re.findall(r"<details>.*?</details>", html, re.DOTALL)[0]
    assert re.search(r"\d+ other classes</bdi>", html)


def test_rare_tie_and_no_mistake(make: Make, example: ReportData) -> None:
    def caption(matrix: list[list[int]]) -> str:
        return render_markdown(make(scores={**example.scores, "confusion": matrix}))

    assert "No mistakes among 20 rows." in caption([[10, 0], [0, 10]])
    assert "The most frequent mistake is negative taken for positive" in caption([[9, 1], [1, 9]])


def test_regression_has_a_scatter_and_lower_is_better(make: Make, example: ReportData) -> None:
    estimate = {"value": 8.4, "low": 7.9, "high": 9.0, "n": 5, "note": ""}
    scores = {
        "metric": "rmse",
        "n": 5,
        "covers": "rows",
        "metrics": {"rmse": estimate, "r2": {**estimate, "value": 0.8}},
    }
    rows = [{"name": "ridge", "value": 8.1, "n": 5}, {"name": "mean", "value": 20.0, "n": 5}]
    truth = [1.0, 2.0, 3.0, 4.0, 100.0]
    data = make(
        task="regress",
        metric="rmse",
        scores=scores,
        baselines=rows,
        scatter={"truth": truth, "predicted": [v + 1 for v in truth]},
        projection={"x": [0, 1, 2, 3, 4], "y": [0, 0, 1, 0, 0], "label": [0.0, 1.0, 2.0, 3.0, 4.0]},
        calibration=None,
    )
    html = render_html(data)
    page = Page(html)
    assert "scatter" in [s["id"] for s in page.all("section")]
    assert "best baseline: ridge" in page.words("dl") and "lower is better" in page.words("dl")
    assert "On average they are 1.00 too high." in html
    assert "One direction in this map explains 100" in html


def test_direction_of_metrics_is_that_of_the_metrics() -> None:
    known = {name: m.greater_is_better for metrics in METRICS.values() for name, m in metrics.items()}
    # Those of structured tasks are checked by their contracts.
    of_structured = {"wer", "cer", "mase", "perplexity", "cepstral_distance"}
    assert {name for name, greater in known.items() if not greater} == set(LOWER_IS_BETTER) - of_structured


def test_same_data_same_bytes(example: ReportData) -> None:
    first = render_html(example)
    assert render_html(ReportData.from_json(example.to_json())) == first
    assert render_markdown(example) == render_markdown(example)


def test_colours_are_legible_in_both_schemes() -> None:
    """WCAG 2: text 4.5 to 1, marks of figures 3 to 1."""
    css = render_html(ReportData("t", "v", "c", "classify", "accuracy", "knn", "m"))
    blocks = re.findall(r":root \{(.*?)\n\s*\}", css, re.DOTALL)
    assert len(blocks) == 3  # light, dark, print
    for block in blocks:
        colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block))
        paper = colour["paper"]
        for name in ("ink", "muted", "accent", "good", "bad", "warn"):
            assert _contrast(_rgb(colour[name]), _rgb(paper)) >= 4.5, (name, paper)
        for i in range(9):
            assert _contrast(_rgb(colour[f"series-{i}"]), _rgb(paper)) >= 3, (i, paper)
        for name in ("hit", "miss"):  # the darkest cell of a confusion matrix behind its number
            cell = tuple(0.65 * a + 0.35 * b for a, b in zip(_rgb(colour[name]), _rgb(paper), strict=True))
            assert _contrast(_rgb(colour["ink"]), cell) >= 4.5, (name, paper)


def _rgb(code: str) -> tuple[float, ...]:
    digits = code[1:] if len(code) == 7 else "".join(2 * c for c in code[1:])
    return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))


def _contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    def light(rgb: tuple[float, ...]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)
