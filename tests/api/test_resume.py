"""A run that was stopped or killed goes on as if nothing had happened, and a machine that fails leaves it able to."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import TUNED, Fit, ctrl_c, read_json, result, rows, stop_at_step, stopped, write_csv

import acclimate
from acclimate.advise import crossfit as folds_module
from acclimate.advise import race as race_module
from acclimate.api import runs, writing
from acclimate.errors import MachineFailed, UserError
from acclimate.interrupt import Interrupted
from acclimate.strategies.foresee import Foreseen
from acclimate.train import loop


def test_a_tuned_run_goes_on_from_its_step(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"label": "label", "test_data": test, **TUNED}
    fit(train, **given, output_dir=tmp_path / "whole")
    run = tmp_path / "a run"
    with monkeypatch.context() as patch:
        steps = stop_at_step(patch, 4, ctrl_c)
        with pytest.raises(Interrupted) as stop:
            fit(train, **given, output_dir=run)
        assert steps == [4]
    assert str(stop.value) == f"stopped by Ctrl-C; go on with: acclimate fit --resume --output-dir '{run}'"
    assert stop.value.code == 130
    assert [p.name for p in run.iterdir()] == ["state"]
    with pytest.raises(UserError, match="was not finished; go on with: acclimate fit --resume --output-dir '.*a run'"):
        acclimate.load(run)
    with monkeypatch.context() as patch:
        steps = stop_at_step(patch, 0, ctrl_c)
        acclimate.fit(output_dir=run, resume=True, quiet=True)
        assert steps == [2]  # of 3 an epoch
    assert result(run) == result(tmp_path / "whole")
    assert not (run / "state").exists()
    assert {**read_json(run / "run.json"), "finished": 0, "costs": 0} == {
        **read_json(tmp_path / "whole" / "run.json"),
        "finished": 0,
        "costs": 0,
    }


@pytest.mark.real  # slow
def test_a_run_stopped_while_it_pretrains_goes_on(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps train the new head, two everything, and six tune."""
    target = write_csv(tmp_path / "target.csv", {"text": rows(30, seed=2)["text"]})
    given = {"label": "label", "test_data": test, "target_data": target, "pretrain": "mlm:epochs=1", **TUNED}
    fit(train, **given, output_dir=tmp_path / "whole")
    run = tmp_path / "run"
    stopped(fit, monkeypatch, train, **given, at=3, output_dir=run)
    with monkeypatch.context() as patch:
        steps = stop_at_step(patch, 0, ctrl_c)
        acclimate.fit(output_dir=run, resume=True, quiet=True)
        assert steps == [1 + 6]  # the head is done, and one step of two is
    assert result(run) == result(tmp_path / "whole")


@pytest.mark.real  # slow
def test_folds_that_are_done_are_not_run_again(
    fit: Fit, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps an epoch, two epochs, five folds and the last fit: stopped in the third fold."""
    given = {"label": "label", **TUNED, "strategy": "lp_ft"}
    fit(train, **given, output_dir=tmp_path / "whole")
    run = tmp_path / "run"
    stopped(fit, monkeypatch, train, **given, at=15, output_dir=run)
    with np.load(run / "state" / "trials" / "lp_ft.npz") as trial:
        assert trial["folds"] == 2
    assert sorted(p.name for p in (run / "state" / "lp_ft").iterdir()) == ["fold-3", "foreseen.json"]
    with monkeypatch.context() as patch:
        steps = stop_at_step(patch, 0, ctrl_c)
        fit(train, **given, output_dir=run, resume=True)
        assert steps == [36 - 15]
    assert result(run) == result(tmp_path / "whole")


def test_auto_goes_on_with_the_choices_it_had_made(
    fit: Fit, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lp_ft was judged on two folds since the clock said so: it still is, with all the time in the world."""
    given = {"label": "label", "strategy": "auto", "settings": {"num_train_epochs": 1}, "time_limit": "1h"}
    given["checkpoint_every"] = 0.0
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(race_module, "foresee", lambda *args: Foreseen(0.8 * 3590 / 2.7, 0, 0.0))
        stop_at_step(patch, 4, ctrl_c)  # in the second fold of three steps each
        with pytest.raises(KeyboardInterrupt):
            fit(train, **given, output_dir=run)
    assert read_json(run / "state" / "lp_ft" / "affordable.json")["folds"] == 2
    done = sorted(p.stem for p in (run / "state" / "trials").iterdir())
    assert done == ["centroid", "hybrid", "knn", "linear_probe", "lp_ft", "majority", "tfidf"]
    asked: list[str] = []
    original = folds_module.Splits
    monkeypatch.setattr(folds_module, "Splits", lambda data, **more: (asked.append("fold"), original(data, **more))[1])
    monkeypatch.setattr(race_module, "foresee", lambda *args: pytest.fail("measured again"))
    fit(train, **given, output_dir=run, resume=True)
    assert asked == ["fold"]  # the second of lp_ft; nothing else is judged again
    report = read_json(run / "report.json")
    assert "lp_ft was judged on 2 of the 5 folds." in report["decisions"]


def test_what_differs_from_the_run_as_it_was_begun_is_named(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    given: dict[str, Any] = {"label": "label", "test_data": test, **TUNED, "time_limit": "2h", "output_dir": run}
    stopped(fit, monkeypatch, train, **given)
    given["resume"] = True
    for changed, message in (
        ({"seed": 1}, r"seed is 1 here and 0 in the unfinished run .*leave the options out \(acclimate fit --resume"),
        ({"strategy": "partial"}, "strategy is 'partial' here and 'full' in"),
        ({"test_data": None}, "test_data is False here and True in"),
        ({"time_limit": 60}, "time_limit is 60.0 here and 7200.0 in"),
        ({"settings": {"num_train_epochs": 3}}, "settings is {'num_train_epochs': 3} here and {'num_train_epochs': 2"),
    ):
        with pytest.raises(acclimate.UserError, match=message):
            fit(train, **{**given, **changed})
    with pytest.raises(acclimate.UserError, match="batch_size is 4 here and None in"):
        acclimate.fit(output_dir=run, resume=True, batch_size=4)
    other = write_csv(tmp_path / "other.csv", rows(48, seed=3))
    with pytest.raises(acclimate.UserError, match="the train data is not what the unfinished run .* was begun with"):
        fit(other, **given)
    moved = train.rename(tmp_path / "moved.csv")  # the same rows at another place are the same rows
    fit(moved, **{**given, "time_limit": 7200}, num_workers=2)
    assert (run / "run.json").is_file()


def test_another_model_under_the_same_name_is_found_out(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    import shutil

    import tiny_models as tm

    model = tmp_path / "model"
    shutil.copytree(folder, model)
    given = {"label": "label", "test_data": test, **TUNED, "model": str(model), "output_dir": tmp_path / "run"}
    stopped(fit, monkeypatch, train, **given)
    shutil.rmtree(model)
    tm.write("bert", model, layers=1)
    with pytest.raises(acclimate.UserError, match="is not the model that the unfinished run"):
        fit(train, **given, resume=True)


def test_data_from_memory_is_given_again(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    given: dict[str, Any] = {"label": "label", "test_data": rows(20, seed=1), **TUNED, "output_dir": run}
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, ctrl_c)
        with pytest.raises(Interrupted, match="go on with: call fit again as before, with output_dir='.*' and resume"):
            fit(rows(48), **given)
    with pytest.raises(acclimate.UserError, match="came from memory; call fit again as before"):
        acclimate.fit(output_dir=run, resume=True)
    with pytest.raises(acclimate.UserError, match="the train data is not what"):
        fit(rows(48, seed=5), **given, resume=True)
    assert fit(rows(48), **given, resume=True).run_dir == run


def test_resume_where_nothing_is_unfinished(
    fit: Fit, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    for place in (run, None):
        with pytest.raises(acclimate.UserError, match="holds no unfinished run to go on with; give the training data"):
            acclimate.fit(output_dir=place, resume=True)
    fit(train, label="label", output_dir=run, resume=True)  # starts
    before = result_names(run)
    for data in (train, None):
        said = fit(data, label="label", output_dir=run, resume=True, quiet=False)
        assert (said.run_dir, said.report_data is None) == (run, False)
        assert capsys.readouterr().err == f"{run} is finished; its model is {run}/model\n"
    for wrong, named in (
        ({"seed": 3}, "seed"),
        ({"strategy": "knn"}, "strategy"),
        ({"data": write_csv(tmp_path / "other.csv", rows(48, seed=4))}, "the train data"),
    ):
        with pytest.raises(acclimate.UserError, match=f"is a finished run, and {named} differs from what it was made"):
            fit(**{"data": train, "label": "label", **wrong} | {"output_dir": run, "resume": True})
    assert result_names(run) == before
    fit(train, label="label", output_dir=run, resume=True, overwrite=True)


def result_names(run: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in run.rglob("*")}


def test_without_a_name_the_newest_unfinished_run_is_found(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"label": "label", "test_data": test, **TUNED}
    stopped(fit, monkeypatch, train, **given)
    stopped(fit, monkeypatch, train, **given, seed=1)
    first, second = sorted(Path("runs").iterdir())
    monkeypatch.chdir(tmp_path)
    model = acclimate.fit(resume=True, quiet=True)
    assert model.run_dir == second
    assert read_json(second / "run.json")["seed"] == 1
    assert runs.unfinished(first)


def test_a_run_begun_elsewhere_finds_its_files(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(fit, monkeypatch, "train.csv", label="label", test_data="test.csv", **TUNED, output_dir="run")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert acclimate.fit(output_dir="../run", resume=True, quiet=True).run_dir == Path("../run")


def test_overwriting_starts_anew(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    given = {"label": "label", "test_data": test, **TUNED, "output_dir": run}
    stopped(fit, monkeypatch, train, **given)
    with pytest.raises(acclimate.UserError, match="go on with it by --resume, or start anew with --overwrite"):
        fit(train, **given)
    steps = stop_at_step(monkeypatch, 0, ctrl_c)
    fit(train, **{**given, "seed": 3}, overwrite=True)
    assert steps == [6]


def test_a_second_process_is_refused(fit: Fit, train: Path, test: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "state").mkdir(parents=True)
    code = (
        f"import filelock, time; lock = filelock.FileLock({str(run / 'state' / 'lock')!r}); lock.acquire();"
        "print('held', flush=True); time.sleep(30)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        for more in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(acclimate.UserError, match="another process is at work on"):
                fit(train, label="label", output_dir=run, **more)
        other.kill()
    fit(train, label="label", output_dir=run)


def test_what_failed_before_anything_was_found_leaves_nothing(fit: Fit, train: Path, tmp_path: Path) -> None:
    for wrong in ({"label": "lable"}, {"strategy": "partial", "settings": {"moves": "top:9"}}, {"positive": "odd"}):
        with pytest.raises(acclimate.UserError):
            fit(train, **{"label": "label", **wrong}, output_dir=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_time_used_before_counts(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    stopped(fit, monkeypatch, train, label="label", test_data=test, **TUNED, time_limit="1h", output_dir=run)
    session = run / "state" / "session.json"
    session.write_text(json.dumps({"used": 600.0, "began": time.time() - 1800}))
    seen: list[float] = []
    original = loop._step
    monkeypatch.setattr(loop, "_step", lambda *args: (seen.append(1), original(*args))[1])
    lefts: list[float] = []
    train_ = loop.Checkpoints.resume
    monkeypatch.setattr(loop.Checkpoints, "resume", lambda self: (lefts.append(self.run.left()), train_(self))[1])
    acclimate.fit(output_dir=run, resume=True, quiet=True)
    assert 3600 - 2400 - 30 < lefts[0] < 3600 - 2400 + 5
    assert read_json(run / "report.json")["settings"]["seconds"] > 2395


def test_a_private_run_keeps_no_text_in_its_state(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows(48)
    data["text"] = [f"{t} zanzibarquux{i}" for i, t in enumerate(data["text"])]
    run = tmp_path / "run"
    train = write_csv(tmp_path / "train.csv", data)
    given = {"label": "label", "strategy": "auto", "settings": {"num_train_epochs": 1}, "checkpoint_every": 0.0}
    stopped(fit, monkeypatch, train, **given, private=True, output_dir=run)
    files = [p for p in run.rglob("*") if p.is_file()]
    assert len(files) > 8
    assert [p for p in files if b"zanzibar" in p.read_bytes().lower()] == []
    assert {p.stat().st_mode & 0o077 for p in (run, run / "state")} == {0}


# -- the command line --------------------------------------------------------------------------------------------------

STOPPED = """
import signal, sys
from acclimate.train import loop
original, steps, name = loop._step, [0], sys.argv.pop(1)

def step(*args):
    steps[0] += 1
    if steps[0] == 2:
        signal.raise_signal(getattr(signal, name))
    return original(*args)

loop._step = step
from acclimate.cli.main import main
main()
"""


@pytest.mark.real  # slow
@pytest.mark.parametrize(
    ("name", "by", "code"),
    [("SIGINT", "Ctrl-C", 130), pytest.param("SIGTERM", "SIGTERM", 143, marks=pytest.mark.real)],
)
def test_signals_end_in_one_line_and_an_exit_code(
    name: str, by: str, code: int, train: Path, test: Path, folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    options = ["--label", "label", "--test-data", str(test), "--model", str(folder), "--strategy", "full", "--quiet"]
    command = [sys.executable, str(script), name, "fit", str(train), *options, "--output-dir", "RUN"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"stopped by {by}; go on with: acclimate fit --resume --output-dir RUN\n"
    places = list((tmp_path / "RUN" / "state" / "final").glob("*/place.json"))
    assert [read_json(p)["step"] for p in places] == [2]


# -- a failing machine -------------------------------------------------------------------------------------------------


def full(*args: Any, **more: Any) -> Any:
    raise OSError(28, "No space left on device", "x")


@pytest.mark.parametrize("where", ["report", "rename", "json"])
def test_a_disk_full_at_the_end_can_be_gone_on_from(
    where: str, fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    given = {"label": "label", "test_data": test, **TUNED}
    with monkeypatch.context() as patch:
        if where == "report":
            patch.setattr(acclimate.Model, "report", full)
        elif where == "json":
            patch.setattr(runs.files, "write_text", full)
        else:
            original = os.replace

            def replace(a: Any, b: Any) -> None:
                full() if Path(a).name.endswith(".part") and Path(b) == run else original(a, b)

            patch.setattr(os, "replace", replace)
        with pytest.raises(MachineFailed, match="No space left on device") as error:
            fit(train, **given, output_dir=run)
    assert f"What was found so far is kept: go on with acclimate fit --resume --output-dir {run}" in str(error.value)
    assert [p.name for p in run.iterdir()] == ["state"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    steps = stop_at_step(monkeypatch, 0, ctrl_c)
    acclimate.fit(output_dir=run, resume=True, quiet=True)
    assert steps == [0]  # training was done


def test_a_file_that_vanishes_after_it_was_read_is_not_needed_again(
    fit: Fit, train: Path, test: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at_step(monkeypatch, 2, lambda: (train.unlink(), test.unlink()))
    fit(train, label="label", test_data=test, **TUNED, output_dir=tmp_path / "run")
    assert set(read_json(tmp_path / "run" / "run.json")["data_sha256"]) == {"rows", "train", "test"}


def test_a_folder_that_cannot_be_written_is_told_before_anything_else(
    fit: Fit, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.mkdir

    def mkdir(self: Path, *args: Any, **more: Any) -> None:
        if self.name == "state":
            raise OSError(30, "Read-only file system")
        original(self, *args, **more)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(acclimate.UserError, match=r"cannot write .*run: Read-only file system; choose another"):
        fit(train, label="label", output_dir=tmp_path / "run")


def test_state_that_cannot_be_kept_does_not_end_the_run(
    fit: Fit, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folds_module, "whole", full)
    fit(train, label="label", output_dir=tmp_path / "run", quiet=False)
    assert capsys.readouterr().err.count("nothing more is kept to resume from (No space left on device)") == 1


def test_the_answer_to_ctrl_c_outside_training_is_at_once(
    fit: Fit, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "scores_of", lambda *args: ctrl_c())
    with pytest.raises(Interrupted, match="stopped by Ctrl-C; go on with: acclimate fit --resume"):
        fit(train, label="label", output_dir=tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert re.fullmatch(r"[0-9a-f]{64}", read_json(tmp_path / "run" / "state" / "request.json")["content"]["train"])


def test_a_cache_that_cannot_be_used_is_not_blamed_on_the_run(
    fit: Fit, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("ACCLIMATE_CACHE", str(cache))

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(cache / "models"))

    monkeypatch.setattr("acclimate.api.loading.load", broken)
    with pytest.raises(acclimate.UserError, match=r"cannot use .*cache/models: Read-only .*; set ACCLIMATE_CACHE to"):
        fit(train, strategy="linear_probe", output_dir=tmp_path / "run")
