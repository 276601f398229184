from __future__ import annotations

import ast
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acclimate.data.series import Series
from acclimate.files import json_text, whole, write_text
from acclimate.progress import Progress
from acclimate.run import Run

SRC = Path(__file__).resolve().parents[1] / "src" / "acclimate"


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


def test_json_is_valid_for_every_reader() -> None:
    odd = {"nan": math.nan, "inf": [np.float32("inf"), -math.inf], "series": Series(np.array([[1.0, np.nan]]), 50.0)}
    text = json_text({**odd, "name": "b\udce4d"})
    text.encode("utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {
        "nan": None, "inf": [None, None], "series": [[1.0, None]], "name": "b\udce4d",
    }  # fmt: skip


def test_json_is_written_in_one_way() -> None:
    """`json.dumps` writes NaN and Infinity, which are no JSON; elsewhere it makes keys, or is read again at once."""
    inner = {
        "files.py", "keys.py", "backbones/base.py", "backbones/text.py", "backbones/sound.py", "train/checkpoint.py",
        "data/kinds/table.py", "strategies/pretrain.py", "api/again.py", "api/correcting.py",
    }  # fmt: skip
    found = set()
    for path in sorted(SRC.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("json.dumps", "json.dump"):
                found.add(path.relative_to(SRC).as_posix())
    assert found <= inner, f"write with files.json_text: {sorted(found - inner)}"


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
