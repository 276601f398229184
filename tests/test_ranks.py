"""Two processes at one run: the same weights as one, one writer, one voice."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from acclimate import features, ranks
from acclimate.backbones import load
from acclimate.cli.main import app
from acclimate.cli.processes import _watch
from acclimate.run import Run
from acclimate.train.loop import Schedule

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
        name: str, *options: str, source: str = "train.csv", kill: bool = False, victim: str = ""
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
        if victim:  # one of them, in the middle of training
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
            while process.poll() is None and not list((tmp_path / name).rglob("place.json")):
                time.sleep(0.05)
            others = psutil.Process(process.pid).children()
            next(p for p in others if p.environ().get("RANK") == victim).kill()
            errors = process.communicate(timeout=120)[1]
            assert not any(p.is_running() for p in others)
            return subprocess.CompletedProcess(command, process.returncode, "", errors)
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run


@pytest.mark.real  # slow
def test_two_processes_end_with_the_weights_of_one(
    fit: Command, tmp_path: Path, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 7 of 38 rows: shares differ, and the last batch leaves one process fewer rows."""
    settings = ["--strategy", "full", "--num-train-epochs", "2", "--batch-size", "7", "--set", "dropout=0.0"]
    settings += ["--set", "gradient_accumulation_steps=2", "--learning-rate", "0.001"]
    done = fit("two", *settings, "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report  ") == 1  # one voice
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "cache"))
    given = ["--label", "label", "--test-data", "test.csv", "--model", str(folder_of("bert")), "--output-dir", "one"]
    alone = CliRunner().invoke(app, ["fit", "train.csv", *given, *settings], prog_name="acclimate")
    assert alone.exit_code == 0, alone.output
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


@pytest.mark.real
def test_an_error_is_said_once(fit: Command) -> None:
    done = fit("run", "--processes", "2", source="missing.csv")
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and "missing.csv" in done.stderr


@pytest.mark.real
def test_one_that_is_killed_ends_the_others_with_one_error(fit: Command) -> None:
    settings = ["--strategy", "full", "--num-train-epochs", "500", "--checkpoint-every", "0", "--quiet"]
    done = fit("run", *settings, "--processes", "2", victim="1")
    assert done.returncode == 128 + signal.SIGKILL
    assert done.stderr == (
        "error: process 2 of 2 was ended by SIGKILL (as the system does where memory runs out), and the others with "
        "it; the same command with --resume goes on from the last checkpoint\n"
    )


KILLED, LOST, WRONG, DONE = (
    "import os; os.kill(os.getpid(), 9)",
    "import time; time.sleep(0.3); raise SystemExit(75)",
    "import sys; sys.exit('it went wrong')",
    "",
)


@pytest.mark.parametrize(
    ("first", "second", "code", "said"),
    [
        (DONE, DONE, 0, ""),
        (LOST, KILLED, 137, "error: process 2 of 2 was ended by SIGKILL"),
        (KILLED, LOST, 137, "error: process 1 of 2 was ended by SIGKILL"),
        (LOST, WRONG, 1, "error: process 2 of 2 failed:\nit went wrong"),
        (WRONG, LOST, 1, ""),  # it has said so itself
        (WRONG, WRONG, 1, ""),
    ],
)
def test_the_one_that_failed_is_named_and_not_those_that_lost_it(
    first: str, second: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = ((first, subprocess.DEVNULL), (second, subprocess.PIPE))
    running = [subprocess.Popen([sys.executable, "-c", script], stderr=end) for script, end in ends]
    with running[0], running[1]:
        assert _watch(running) == code
    errors = capsys.readouterr().err
    assert errors.startswith(said) if said else errors == ""


def test_a_broken_exchange_is_told_as_the_end_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed as dist

    def broken(value: object) -> None:
        raise RuntimeError("gloo: connection reset by peer")

    monkeypatch.setattr(ranks, "world", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", broken)
    with pytest.raises(ranks.Lost, match="another process of this run ended .* --resume goes on"):
        ranks.summed(torch.ones(1))


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


# -- pieces in two processes that talk by gloo -------------------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path) -> Callable[..., list[Any]]:
    """Run a script in two processes that have met; what each of them left in `answer`."""

    def run(body: str, *arguments: object) -> list[Any]:
        start = "import json, sys\nfrom acclimate import ranks\nranks.join('cpu')\nanswer = None\n"
        end = "\njson.dump(answer, open(sys.argv[1] + '/' + str(ranks.rank()), 'w'))\nranks.leave()\n"
        script = tmp_path / "script.py"
        script.write_text(start + body + end)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        shared = {
            **os.environ,
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
        }
        shared["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(script), str(tmp_path), *map(str, arguments)]
        running = [
            subprocess.Popen(command, env={**shared, "RANK": n, "LOCAL_RANK": n}, stderr=subprocess.PIPE, text=True)
            for n in ("0", "1")
        ]
        for process in running:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
        return [json.loads((tmp_path / n).read_text()) for n in ("0", "1")]

    return run


FEATURES = """
from pathlib import Path
from acclimate import features
from acclimate.backbones import load
from acclimate.cli.main import app
from acclimate.cli.processes import _watch
from acclimate.run import Run
from acclimate.train.loop import Schedule

texts = [f"{'fish ' * (i % 9)}stone {i}" for i in range(150)]
backbone = load(sys.argv[2])
features.TOKENS_A_BATCH, features.ROWS_A_PART, read = 64, 40, []
original = features._read
features._read = lambda b, rows, at, batch, run: (read.append(len(at)), original(b, rows, at, batch, run))[1]
cache = Path(sys.argv[3]) if len(sys.argv) > 3 else None
store = features.Store(backbone, Run(cache=cache))
found = store.get(texts)
first = sum(read)
again = store.get(texts[::-1])[::-1]
mapped = [part.name != "" for part in store._index.parts]
answer = [first, sum(read), found.view("int32").tolist(), (found == again).all().item(), mapped]
"""


@pytest.mark.real
@pytest.mark.parametrize("kept", [False, True])
def test_features_are_shared_out_and_every_process_has_the_bits_of_one(
    kept: bool, both: Callable[..., list[Any]], folder_of: Callable[[str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(features, "TOKENS_A_BATCH", 64)
    monkeypatch.setattr(features, "ROWS_A_PART", 40)
    texts = [f"{'fish ' * (i % 9)}stone {i}" for i in range(150)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = features.Store(load(str(folder_of("bert"))), Run()).get(texts)
    torch.set_num_threads(threads)
    folder = [tmp_path / "cache"] if kept else []
    found = both(FEATURES, folder_of("bert"), *folder)
    assert [f[0] for f in found] == [f[1] for f in found]  # nothing was read twice
    assert sum(f[0] for f in found) == 150 and min(f[0] for f in found) > 50
    for _, _, bits, same, mapped in found:
        assert np.array_equal(np.array(bits, np.int32), alone.view(np.int32)) and same
        assert mapped == [kept] * 4
    assert len(list(tmp_path.glob("cache/*/*.keys.npy"))) == (4 if kept else 0)  # written once
    if kept:
        again = both(FEATURES, folder_of("bert"), *folder)
        assert [f[1] for f in again] == [0, 0]


MEMORY = """
import torch
from torch import nn
from acclimate.progress import Progress
from acclimate.cli.main import app
from acclimate.cli.processes import _watch
from acclimate.run import Run
from acclimate.train.loop import Schedule
from acclimate.train.loop import Schedule, train

said, sizes = [], []
Progress.say = lambda self, text: said.append(text)
torch.manual_seed(0)
X, Y = torch.randn(24, 3), torch.randn(24)
network = nn.Linear(3, 1)
nn.init.zeros_(network.weight), nn.init.zeros_(network.bias)

def loss(at):
    sizes.append(len(at))
    if ranks.rank() == int(sys.argv[2]) and len(at) > 3:
        raise MemoryError
    return (network(X[at])[:, 0] - Y[at]).square().mean()

optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
history = train(network, optimizer, Schedule(2), lambda e: [list(range(24))], loss, None, Run())
answer = [sizes, [h.get("rows_at_once") for h in history], said, network.weight.tolist()]
"""


@pytest.mark.real  # slow
@pytest.mark.parametrize("where", [0, pytest.param(1, marks=pytest.mark.real)])
def test_memory_that_runs_out_in_one_process_halves_the_rows_in_all(where: int, both: Callable[..., list[Any]]) -> None:
    """12 rows of 24 each: the one with too little memory goes to 6 and 3 in its first step, the other follows."""
    found = both(MEMORY, where)
    small, large = [12, 6, 3, 3, 3, 3] + [3] * 4, [12] + [3] * 4
    assert [f[0] for f in found] == ([small, large] if where == 0 else [large, small])
    assert [f[1] for f in found] == [[3, 3]] * 2
    assert "out of memory in another process: going on with 3 rows at once in each" in found[1 - where][2][0]
    assert len(found[1 - where][2]) == 1 and len(found[where][2]) == 2
    assert found[0][3] == found[1][3]
    torch.manual_seed(0)  # the same in one process, with room for all
    x, y, weight, bias = torch.randn(24, 3), torch.randn(24), torch.zeros(3), torch.zeros(1)
    weight, bias = weight.requires_grad_(True), bias.requires_grad_(True)
    for step in range(2):
        grads = torch.autograd.grad((x @ weight + bias - y).square().mean(), (weight, bias))
        scale = 0.1 * Schedule(2).factor(step, 2) * min(1.0, 1 / float(torch.cat(grads).norm()))
        with torch.no_grad():
            weight, bias = (p - scale * g for p, g in zip((weight, bias), grads, strict=True))
        weight.requires_grad_(True), bias.requires_grad_(True)
    assert found[0][3][0] == pytest.approx(weight.tolist(), abs=1e-6)
