"""Two processes at one run: the same weights as one, one writer, one voice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from acclimate import ranks

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fit(tmp_path: Path, folder_of: Callable[[str], Path]) -> Command:
    """`acclimate fit` in processes of its own, on 45 rows of a tiny model."""
    with open(tmp_path / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"{'fish ' * (i % 7)}{'red' if i % 2 else 'blue'} fish", "ab"[i % 2]] for i in range(45))
    with open(tmp_path / "test.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"one {'red' if i % 2 else 'blue'} fish {i}", "ab"[i % 2]] for i in range(12))

    def run(
        name: str, *options: str, source: str = "train.csv", kill: bool = False
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "acclimate", "fit", source, "--label", "label", "--test-data", "test.csv"]
        command += ["--model", str(folder_of("bert")), "--output-dir", name, *options]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        environment["ACCLIMATE_CACHE"] = str(tmp_path / "cache")
        if kill:  # all of its processes, once there is something to go on from
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
            while process.poll() is None and len(list((tmp_path / name).rglob("place.json"))) < 2:
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
            return subprocess.CompletedProcess(command, process.wait(), "", "")
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run


def test_two_processes_end_with_the_weights_of_one(fit: Command, tmp_path: Path) -> None:
    """Batches of 7 of 38 rows: shares differ, and the last batch leaves one process fewer rows."""
    settings = ["--strategy", "full", "--num-train-epochs", "2", "--batch-size", "7", "--set", "dropout=0.0"]
    settings += ["--set", "gradient_accumulation_steps=2", "--learning-rate", "0.001"]
    for name, more in (("one", []), ("two", ["--processes", "2"])):
        done = fit(name, *settings, *more)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("report  ") == 1  # one voice
    one, two = (load_file(tmp_path / name / "model" / "backbone" / "model.safetensors") for name in ("one", "two"))
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert first["value"] == second["value"]
    history = [(tmp_path / name / "history.jsonl").read_text().splitlines() for name in ("one", "two")]
    for a, b in zip(*(map(json.loads, lines) for lines in history), strict=True):
        assert a["step"] == b["step"] and a["valid_loss"] == pytest.approx(b["valid_loss"], abs=1e-5)
    assert not (tmp_path / "two" / "state").exists()


@pytest.mark.real
def test_two_processes_go_on_where_they_were_killed(fit: Command, tmp_path: Path) -> None:
    """Dropout on: the masks of a step are those that an unbroken run would have drawn."""
    settings = ["--strategy", "full", "--num-train-epochs", "12", "--batch-size", "7", "--processes", "2"]
    whole = fit("whole", *settings)
    assert whole.returncode == 0, whole.stderr
    started = fit("killed", *settings, "--checkpoint-every", "0", kill=True)
    assert started.returncode != 0 and list((tmp_path / "killed" / "state").rglob("place.json"))
    going_on = fit("killed", *settings, "--resume")
    assert going_on.returncode == 0, going_on.stderr
    assert "going on from step" in going_on.stderr
    a, b = (load_file(tmp_path / name / "model" / "backbone" / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_an_error_is_said_once(fit: Command) -> None:
    done = fit("run", "--processes", "2", source="missing.csv")
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and "missing.csv" in done.stderr


def test_one_process_is_the_first_and_has_all_rows() -> None:
    assert (ranks.world(), ranks.rank(), ranks.first()) == (1, 0, True)
    assert ranks.share([1, 2, 3]) == [1, 2, 3]
    assert ranks.agreed("x") == "x" and ranks.by_first(lambda: 3) == 3
    value = torch.tensor(2.0)
    assert ranks.summed(value) is value


def test_rows_are_shared_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(ranks, "world", lambda: 3)
    shares = []
    for number in range(3):
        monkeypatch.setenv("RANK", str(number))
        shares.append(ranks.share(list(range(7))))
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]
    assert ranks.share([10, 11], before=1) == [11]  # rank 2 of 3: rows number 1 and 2 of the step
