"""What is told before torch is loaded: the same errors, sooner."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from acclimate.align import ALIGNMENTS
from acclimate.cli import early
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.strategies import ALIASES, EVERY, named

HEAVY = ("torch", "transformers", "sklearn", "scipy", "pandas")


def told(arguments: list[str], folder: Path) -> str:
    """The error of a command line, run in this folder, that loads nothing heavy."""
    code = (
        "import sys, acclimate.cli.main as m\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try: m.main()\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout == "[]\n"
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["fit", "gone.csv", "--label", "y"], "error: there is no file gone.csv; the folder holds train.csv\n"),
        (
            ["fit", "train.csv", "--label", "labl"],
            "error: there is no column 'labl' in train.csv; did you mean 'label'? Its columns: text, label\n",
        ),
        (
            ["fit", "train.csv", "--target-data", "trian.csv"],
            "error: there is no file trian.csv; did you mean 'train.csv'?\n",
        ),
        (["fit", "train.csv", "--task", "clasify"], "error: unknown task 'clasify'"),
        (["fit", "train.csv", "--strategy", "nonsense"], "error: unknown strategy 'nonsense'; known: (auto, majority,"),
        (["predict", "RUN", "gone.csv"], "error: there is no file gone.csv"),
        (["evaluate", "RUN", "gone.csv"], "error: there is no file gone.csv"),
        (["compare", "A", "B", "--data", "gone.csv"], "error: there is no file gone.csv"),
        (["inspect", "gone.csv"], "error: there is no file gone.csv"),
        (["shift", "train.csv", "gone.csv"], "error: there is no file gone.csv"),
    ],
    ids=lambda value: " ".join(value[:1] + value[-1:]) if isinstance(value, list) else "",
)
def test_it_is_told_before_anything_heavy_is_loaded(arguments: list[str], error: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\ngood,1\nbad,0\n")
    assert told(arguments, tmp_path).startswith(error)


def test_the_names_are_those_of_the_dicts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert early.keys("strategies", "EVERY") == list(EVERY)
    assert early.keys("strategies", "ALIASES") == list(ALIASES)
    assert early.keys("align", "ALIGNMENTS") == list(ALIGNMENTS)
    assert early.keys("not_there", "EVERY") == []
    monkeypatch.setattr(early, "keys", cache(early.keys))  # each call reads the sources again
    for name in ("auto", " LP-FT", "mean", "hafn", "mcc+coral", *EVERY):
        early.strategy(name)


@pytest.mark.parametrize("name", ["nonsense", "linear_prob", "", "mcc+corral"])
def test_an_unknown_strategy_is_told_in_the_same_words(name: str) -> None:
    with pytest.raises(UserError) as late:
        named(name)
    with pytest.raises(UserError) as soon:
        early.strategy(name)
    assert str(soon.value) == str(late.value)


def test_a_large_file_is_not_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\ngood,1\nbad,0\n")
    with pytest.raises(UserError, match="there is no column 'y'"):
        early.columns(str(path), Columns("y"), None)
    monkeypatch.setattr(early, "SMALL", 10)
    early.columns(str(path), Columns("y"), None)
