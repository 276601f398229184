from __future__ import annotations

import io
import sys

import pytest

from acclimate import progress
from acclimate.progress import Progress


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Progress()
    quiet.say("hello")
    with quiet.steps("work", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_plain_lines_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    loud = Progress(quiet=False)
    loud.say("[bold]as it is[/bold]")
    with loud.steps("work", 10) as advance:
        advance(1)  # too soon for a line
        now[0] = 6.0
        advance(2)
        now[0] = 7.0
        advance(5)
        now[0] = 12.0
        advance(2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "[bold]as it is[/bold]", "work: 3/10, about 14 s left", "work: 10/10, about 0 s left",
    ]  # fmt: skip


def test_what_was_done_before_is_counted_and_took_no_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(quiet=False).steps("folds", 15, 12) as advance:
        now[0] = 30.0
        advance(1)
    assert capsys.readouterr().err == "folds: 13/15, about 60 s left\n"


def test_a_step_of_nothing_is_no_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(quiet=False).steps("work", 0) as advance:
        now[0] = 60.0
        advance(0)
    assert capsys.readouterr().err == "work: 0/0, about 0 s left\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_on_a_terminal_nest_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    loud = Progress(quiet=False)
    with loud.steps("outer", 2) as outer:
        with loud.steps("inner", 5) as inner:
            inner(5)
            loud.say("between [1]")
        outer(1)
        assert loud._live is not None
    assert loud._live is None
    assert "between [1]" in screen.getvalue()


def test_a_bar_ends_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    loud = Progress(quiet=False)
    with pytest.raises(ValueError, match="stop"), loud.steps("outer", 2):
        raise ValueError("stop")
    assert loud._live is None


def test_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Progress.on_terminal().quiet
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert not Progress.on_terminal().quiet
