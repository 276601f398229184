"""What a run keeps to go on from: what is damaged is done anew, but not what tells whose state it is."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from made import TUNED, Fit, ctrl_c, read_json, result, stop_at_step, stopped

import acclimate
from acclimate.api import state
from acclimate.data.read import read


@pytest.mark.real  # slow
def test_what_is_damaged_is_done_anew_and_said(
    fit: Fit,
    train: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped in the second of five folds of six steps: every file that is kept is emptied or cut, one at a time."""
    given = {"label": "label", **TUNED, "strategy": "lp_ft"}
    fit(train, **given, output_dir=tmp_path / "whole")
    stopped(fit, monkeypatch, train, **given, at=11, output_dir=tmp_path / "run")
    kept = tmp_path / "run" / "state"
    newest = max(p.name for p in (kept / "lp_ft" / "fold-2").iterdir() if p.name[0] == "0")
    for number, (name, steps, said) in enumerate(
        (
            ("session.json", 36 - 11, "is damaged: what was used before is not known, and seconds count from here"),
            ("lp_ft/foreseen.json", 36 - 11, "is damaged: left aside, and decided anew"),
            ("lp_ft/fold-2/arithmetic.json", 36 - 11, "is damaged: left aside, and decided anew"),
            (f"lp_ft/fold-2/{newest}/place.json", 36 - 10, "is damaged: left aside"),
            ("trials/lp_ft.npz", 36 - 5, "is damaged, or of other rows: left aside, and judged anew"),
        )
    ):
        run = tmp_path / f"copy-{number}"
        shutil.copytree(tmp_path / "run", run)
        file = run / "state" / name
        half = file.read_bytes()[: file.stat().st_size // 2 if number % 2 else 0]
        file.write_bytes(half)
        with monkeypatch.context() as patch:
            counted = stop_at_step(patch, 0, ctrl_c)
            acclimate.fit(output_dir=run, resume=True)
        assert (name, counted) == (name, [steps])
        lines = [line for line in capsys.readouterr().err.splitlines() if " is damaged" in line]
        assert len(lines) == 1, lines and lines[0].endswith(said) and name.split("/place")[0] in lines[0]
        assert result(run) == result(tmp_path / "whole")


@pytest.mark.parametrize(("name", "what"), [("request", "data and settings"), ("model", "weights")])
def test_a_run_of_which_nobody_knows_what_it_is_of_is_refused(
    name: str, what: str, fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    given: dict[str, Any] = {"label": "label", "test_data": test, **TUNED, "output_dir": run}
    stopped(fit, monkeypatch, train, **given)
    guard = run / "state" / f"{name}.json"
    half = guard.read_bytes()[: guard.stat().st_size // 2]
    before = {p: p.stat().st_mtime_ns for p in (run / "state" / "final").rglob("*.safetensors")}
    message = f"{name}.json is missing, damaged or of an earlier version, and it alone says of which {what} the unf"
    for content in (half, b"", None):
        guard.unlink() if content is None else guard.write_bytes(content)
        with pytest.raises(acclimate.UserError, match=message):
            fit(train, **given, resume=True)
        if content is not None or name == "request":
            with pytest.raises(acclimate.UserError, match=message + ".*--overwrite in place of --resume"):
                acclimate.fit(output_dir=run, resume=True, quiet=True)
    assert {p: p.stat().st_mtime_ns for p in (run / "state" / "final").rglob("*.safetensors")} == before
    fit(train, **given, overwrite=True)


def test_a_run_that_was_killed_before_its_model_was_known_goes_on(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    stopped(fit, monkeypatch, train, label="label", test_data=test, **TUNED, output_dir=run)
    shutil.rmtree(run / "state" / "final")
    (run / "state" / "model.json").unlink()
    assert acclimate.fit(output_dir=run, resume=True, quiet=True).run_dir == run


# -- the same data -----------------------------------------------------------------------------------------------------


def rewritten(path: Path, how: str) -> None:
    text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    made = {
        "lf": text.encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
        "bom": text.encode("utf-8-sig"),
        "utf-16": text.encode("utf-16"),
        "quoted": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()).encode(),
    }
    path.write_bytes(made[how])


@pytest.mark.parametrize("how", ["crlf", "bom", "utf-16", "quoted"])
def test_a_file_written_otherwise_holds_the_same_data(how: str, train: Path) -> None:
    rewritten(train, "lf")
    before, bytes_before = state.content_of({"train": read(str(train))}), state.sha256_of({"train": str(train)})
    rewritten(train, how)
    assert state.content_of({"train": read(str(train))}) == before
    assert state.sha256_of({"train": str(train)}) != bytes_before


def test_other_cells_names_or_orders_are_other_data() -> None:
    tables = [
        {"text": ["a", "b"], "label": ["x", "y"]},
        {"text": ["b", "a"], "label": ["x", "y"]},
        {"text": ["a", "b"], "labels": ["x", "y"]},
        {"text": ["a", "b"], "label": ["x", None]},
        {"text": ["a", "b', 'c"], "label": ["x", "y"]},
        {"text": ["a", "b"]},
        {"text": ["a"] * 1001},
        {"text": ["a"] * 1002},
    ]
    assert len({state.content_of({"train": read(table)})["train"] for table in tables}) == len(tables)


def test_a_run_goes_on_with_a_file_of_other_line_ends(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    given: dict[str, Any] = {"label": "label", "test_data": test, **TUNED, "output_dir": run}
    stopped(fit, monkeypatch, train, **given)
    rewritten(train, "lf")
    rewritten(test, "bom")
    steps = stop_at_step(monkeypatch, 0, ctrl_c)
    fit(train, **given, resume=True)
    assert steps == [4]
    made = read_json(run / "run.json")
    assert made["data_sha256"]["train"] == state.sha256_of({"train": train})["train"]
    fit(train, **given, resume=True)  # finished
    rewritten(train, "bom")
    fit(train, **given, resume=True)


# -- seconds -----------------------------------------------------------------------------------------------------------


@pytest.mark.real  # slow
def test_what_a_part_took_is_the_sum_over_sessions(
    fit: Fit, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second fold, then in the last fit: the report's table and its total know all of it."""
    run = tmp_path / "run"
    given = {"label": "label", **TUNED, "strategy": "lp_ft", "output_dir": run}

    def stop(number: int, **more: Any) -> None:
        with monkeypatch.context() as patch:
            stop_at_step(patch, number, ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                fit(train, **{**given, **more})

    def earlier(part: str, used: float) -> None:
        path = run / "state" / part / "session.json"
        assert path.is_file()
        path.write_text(json.dumps({"used": used, "began": time.time()}))

    stop(10)
    earlier("lp_ft/fold-2", 1000.0)
    stop(36 - 10 - 3, resume=True)
    earlier("final", 400.0)
    earlier("", 2000.0)
    acclimate.fit(output_dir=run, resume=True, quiet=True)
    costs = {c["part"]: c["seconds"] for c in read_json(run / "run.json")["costs"]}
    assert 1000 < costs["5 folds"] < 1100 and 400 < costs["last fit"] < 500
    assert 2000 < read_json(run / "report.json")["settings"]["seconds"] < 2100


def test_weights_that_were_pretrained_are_something_to_go_on_from(tmp_path: Path) -> None:
    kept = tmp_path / "state" / "final" / "pretrain"
    kept.mkdir(parents=True)
    assert not state._anything(tmp_path)
    (kept / "done.safetensors").write_bytes(b"weights")
    assert state._anything(tmp_path)
