"""The page in a real browser: no console error, no request, every figure drawn, no sideways scrolling on a phone."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acclimate.report import ReportData, render_html

Make = Callable[..., ReportData]
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="none of chromium, chromium-browser and google-chrome is on PATH"
)

# Puts the pipes at 3 and 4, where the browser looks (they may be 4 and 3, so they move away first), and becomes it.
LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--remote-debugging-pipe",
)


class Browser:
    """A headless Chromium driven over its DevTools pipe (file descriptors 3 and 4), which needs no further package."""

    def __init__(self, folder: Path) -> None:
        assert BROWSER is not None
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        launch = [sys.executable, "-c", LAUNCH, str(to_browser), str(from_browser), BROWSER, *FLAGS]
        self.process = subprocess.Popen(
            [*launch, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._buffer = 0, b""
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events that come before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def _read(self, patience: float = 60.0) -> dict[str, Any]:
        end = time.monotonic() + patience
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._in, 1 << 20)
            assert piece, "the browser has ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, page: Path, width: int, *, dark: bool = False) -> None:
        """Load a file at a width and wait until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._read())

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def complaints(self) -> list[str]:
        """Console errors and warnings, exceptions, blocked or foreign requests."""
        self.value("1")  # whatever the page has said comes before this answer
        said = []
        for event in self.events:
            method, p = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                said.append(p["exceptionDetails"]["text"])
            elif method == "Runtime.consoleAPICalled":
                said.append(str(p["args"]))
            elif method == "Log.entryAdded":
                said.append(p["entry"]["text"])
            elif method == "Network.requestWillBeSent" and not p["request"]["url"].startswith(("file:", "data:")):
                said.append(f"asks for {p['request']['url']}")
        return said

    def close(self) -> None:
        try:
            self._session = None
            self.call("Browser.close")
        finally:
            self.process.terminate()
            self.process.wait(timeout=20)
            os.close(self._out)
            os.close(self._in)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def save(data: ReportData, folder: Path) -> Path:
    page = folder / "report.html"
    page.write_text(render_html(data), encoding="utf-8")
    return page


SIZES = """[...document.querySelectorAll('svg.plot')].map(figure => {
  const box = figure.getBoundingClientRect(), drawn = figure.getBBox();
  return [box.width, box.height, drawn.width, drawn.height];
})"""
# Texts of figures that reach beyond their figure, by more than the rounding of fonts.
OUTSIDE = """[...document.querySelectorAll('svg.plot text')].filter(text => {
  const box = text.ownerSVGElement.getBoundingClientRect(), t = text.getBoundingClientRect();
  return t.left < box.left - 3 || t.right > box.right + 3 || t.top < box.top - 3 || t.bottom > box.bottom + 3;
}).map(text => text.textContent)"""
COLLIDING = """[...document.querySelectorAll('svg.plot')].flatMap(figure => {
  const boxes = [...figure.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
    p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 6 && q.top < p.bottom - 6
  ).map(([b]) => a + ' on ' + b));
})"""
OVERFLOW = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"


NASTY = ["<script>alert(1)</script>", "</svg><img src=x onerror=alert(2)>", "x" * 10_000, "\u202eevil", "a\x00b"]
NAMES = [
    "积极的评价",
    "消极的评价而且名字非常非常长",
    "中立",
    "إيجابي جدا",
    "mixed feelings and more",
    "中立（另一种）",
]


@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1000, False), (1400, True)])
def test_page_is_drawn_without_complaint(
    browser: Browser, example: ReportData, tmp_path: Path, width: int, dark: bool
) -> None:
    browser.open(save(example, tmp_path), width, dark=dark)
    assert browser.complaints() == []
    sizes = browser.value(SIZES)
    assert len(sizes) == 6
    assert all(side > 50 for size in sizes for side in size)
    assert browser.value(OVERFLOW) <= 0
    assert browser.value(OUTSIDE) == []
    assert browser.value(COLLIDING) == []


def test_labels_of_any_script_fit(browser: Browser, make_classes: Make, tmp_path: Path) -> None:
    for width in (360, 1000):
        browser.open(save(make_classes(NAMES), tmp_path), width)
        assert browser.complaints() == []
        assert browser.value(OVERFLOW) <= 0
        assert browser.value(OUTSIDE) == []
        assert browser.value(COLLIDING) == []


def test_hostile_text_runs_nothing_and_fits(browser: Browser, make_classes: Make, tmp_path: Path) -> None:
    rows = [{"input": n, "truth": n, "predicted": n, "confidence": 0.9, "line": 1} for n in NASTY]
    steps = [{"text": n, "command": n} for n in NASTY]
    data = make_classes(NASTY, mistakes=rows, next_steps=steps, decisions=NASTY, verdict=NASTY[2], title=NASTY[0])
    browser.open(save(data, tmp_path), 360)
    assert browser.complaints() == []  # a dialogue of alert() would also have kept the page from loading
    assert browser.value(OVERFLOW) <= 0
    assert browser.value("document.querySelectorAll('script').length") == 1


def test_many_classes_on_a_phone(browser: Browser, make_classes: Make, tmp_path: Path) -> None:
    browser.open(save(make_classes([f"intent_number_{i}" for i in range(150)]), tmp_path), 360)
    assert browser.complaints() == []
    browser.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.value(OVERFLOW) <= 0


def test_folds_open_in_print_and_close_again(browser: Browser, example: ReportData, tmp_path: Path) -> None:
    browser.open(save(example, tmp_path), 1000)
    folds = "[...document.querySelectorAll('details')].map(d => d.open)"
    assert set(browser.value(folds)) == {False}
    browser.value("dispatchEvent(new Event('beforeprint'))")
    assert set(browser.value(folds)) == {True}
    browser.value("dispatchEvent(new Event('afterprint'))")
    assert set(browser.value(folds)) == {False}


def test_tables_sort(browser: Browser, make_classes: Make, tmp_path: Path) -> None:
    browser.open(save(make_classes(list("abcdef")), tmp_path), 1000)
    table = "document.querySelector('#classes table[data-sort]')"
    browser.value(f"{table}.querySelectorAll('th button')[3].click()")  # recall
    first = f"[...{table}.tBodies[0].rows].map(r => r.children[0].textContent).join('')"
    assert browser.value(first) == "fedcba"
    browser.value(f"{table}.querySelectorAll('th button')[3].click()")
    assert browser.value(first) == "abcdef"
    assert browser.value(f"{table}.querySelectorAll('th')[3].ariaSort") == "ascending"


def test_page_is_whole_without_script(browser: Browser, example: ReportData, tmp_path: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(save(example, tmp_path), 360)
        assert browser.complaints() == []
        assert len(browser.value(SIZES)) == 6
        assert browser.value("document.querySelectorAll('button').length") == 0
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
