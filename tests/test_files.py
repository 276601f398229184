from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from acclimate.files import whole, write_text
from acclimate.progress import Progress
from acclimate.run import Run


def full(*args: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_file_is_there_whole_or_as_it_was(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, full)
        with pytest.raises(OSError, match="No space left"):
            write_text(path, "new")
    with pytest.raises(KeyError), whole(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    write_text(path, "n\udce4w")
    assert path.read_text() == "n\\udce4w"


def test_what_the_clock_decides_is_decided_once(tmp_path: Path) -> None:
    run = Run(state=tmp_path).at("lp_ft/fold-2")
    assert run.state == tmp_path / "lp_ft" / "fold-2"
    assert run.once("late", lambda: {"seconds": 1.5, "left": float("inf")}) == {"seconds": 1.5, "left": None}
    assert run.once("late", lambda: pytest.fail("decided again")) == {"seconds": 1.5, "left": None}
    (run.state / "late.json").write_text('{"seco')
    assert run.once("late", lambda: 2) == 2
    run.forget()
    assert [p.name for p in (tmp_path / "lp_ft").iterdir()] == []


def test_a_run_without_state_decides_each_time(tmp_path: Path) -> None:
    answers = iter([1, 2])
    run = Run()
    assert run.at("x") is run
    assert [run.once("late", lambda: next(answers)) for _ in range(2)] == [1, 2]
    run.forget()


def test_a_decision_that_cannot_be_written_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(state=tmp_path, progress=Progress(quiet=False))
    monkeypatch.setattr(os, "replace", full)
    assert [run.once(name, lambda: 3) for name in "ab"] == [3, 3]
    assert capsys.readouterr().err == (
        "nothing more is kept to resume from (No space left on device); the run itself goes on\n"
    )
    assert json.dumps([p.name for p in tmp_path.iterdir()]) == "[]"
