"""benchmarks/kept.py: what a benchmark measured is found again, and its file keeps its layout."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "kept.py"


@pytest.fixture(scope="module")
def kept() -> Any:
    spec = importlib.util.spec_from_file_location("kept", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Kept


def test_a_row_is_found_by_a_part_of_it_by_this_run_and_the_next(kept: Any, tmp_path: Path) -> None:
    rows = kept(tmp_path / "rows.json")
    assert not rows.has({"seed": 0})
    rows.add({"seed": 0, "way": "a", "value": 0.5})
    for one in (rows, kept(tmp_path / "rows.json")):
        assert one.has({"seed": 0, "way": "a"})
        assert not one.has({"seed": 1, "way": "a"})
        assert not one.has({"seed": 0, "rows": 9})  # an older row that did not say how many


def test_missing_looks_at_rows_that_came_meanwhile(kept: Any, tmp_path: Path) -> None:
    rows, seen = kept(tmp_path / "rows.json"), []
    for key in rows.missing({"seed": seed} for seed in (0, 1, 0)):
        seen.append(key["seed"])
        rows.add(key)
    assert seen == [0, 1]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({}, '[\n{\n"seed": 0\n},\n{\n"seed": 1\n}\n]\n'),
        ({"lines": True}, '[\n{"seed": 0},\n{"seed": 1}\n]\n'),
        ({"under": "rows"}, '{\n"rows": [\n{\n"seed": 0\n},\n{\n"seed": 1\n}\n],\n"threads": 1\n}\n'),
    ],
)
def test_layouts_of_the_file(
    kept: Any, tmp_path: Path, how: dict[str, Any], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, about = tmp_path / "rows.json", {"threads": 1} if "under" in how else {}
    kept(path, **how).add({"seed": 0}, say="first", **about)
    kept(path, **how).add({"seed": 1})
    assert path.read_text() == text
    assert capsys.readouterr().out == "first\n{'seed': 1}\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_rows_of_before(kept: Any, tmp_path: Path) -> None:
    rows = kept(tmp_path / "rows.json")
    rows.add({"seed": 0})
    with pytest.raises(TypeError):
        rows.add({"seed": 1, "value": object()})
    assert json.loads((tmp_path / "rows.json").read_text()) == [{"seed": 0}]
