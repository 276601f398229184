"""The page in a real browser: no console error, no request, every figure drawn, no sideways scrolling on a phone."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acclimate.report import ReportData, render_html

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="none of chromium, chromium-browser and google-chrome is on PATH"
)

# Puts the pipes at 3 and 4, where the browser looks for them (first out of the way, since they may be 4 and 3), and becomes it.
LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A headless Chromium driven over its DevTools pipe (file descriptors 3 and 4), which needs no further package."""

    def __init__(self, folder: Path) -> None:
        assert BROWSER is not None
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(to_browser), str(from_browser), BROWSER, "--headless", "--disable-gpu", "--no-sandbox",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank"],
            pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
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


SIZES = "[...document.querySelectorAll('svg.plot')].map(s => { const b = s.getBoundingClientRect(), d = s.getBBox(); return [b.width, b.height, d.width, d.height]; })"
OVERFLOW = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"


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
