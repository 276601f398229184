"""Memory and time of judging and predicting with 1,000 classes, against rows: is memory flat, is a row as cheap?

Run: python benchmarks/evaluate_memory.py           (about 15 minutes of processor time; needs minilm in the cache)
     python benchmarks/evaluate_memory.py --quick   (5,000 and 20,000 rows, no minilm, nothing written)

A synthetic backbone stands in: its features (n, 384), fp32, lie in a mapped file, so that what is measured is what
comes after them. A linear head gives 1,000 classes. Three steps, each in a process of its own for each number of rows:
`evaluate` (Model.evaluate on a CSV file, the majority class beside it), `predict` (the command line, into a Parquet
file with every probability) and `fit` (acclimate.fit with a strategy whose head is given: out-of-fold answers,
temperature, numbers, report). Memory is the most that the process held above what it held at the start: its own pages,
and all resident ones, among them those of mapped files, which are given back whenever the system wants them. The same
steps with 2 classes show what the rows themselves take (texts, labels, hashes). Then the processor time of a row in
`evaluate` beside that of reading a short text with minilm, in turn in one process.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROWS = (10_000, 100_000)
PREDICTED = (10_000, 30_000)  # a row of 1,000 probabilities is written in a millisecond or so
CLASSES, WIDTH, BLOCK = 1_000, 384, 8192
ROUNDS = 5


def main() -> None:
    """Start the processes and write what they found."""
    quick = "--quick" in sys.argv
    rows = (5_000, 20_000) if quick else ROWS
    result: dict[str, Any] = {
        "classes": CLASSES,
        "features": WIDTH,
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "load average": [round(x, 1) for x in os.getloadavg()],
    }
    for step in ("evaluate", "predict", "fit"):
        for n in PREDICTED if step == "predict" and not quick else rows:
            for k in (2, CLASSES):
                found = child(step, n, k)
                result.setdefault(step, {}).setdefault(str(n), {})[str(k)] = found
                print(step, n, k, json.dumps(found), flush=True)
    if not quick:
        result["against minilm"] = against_minilm()
        print("against minilm", json.dumps(result["against minilm"]))
        out = Path(__file__).parent / "results" / "evaluate_memory.json"
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def child(step: str, n: int, k: int) -> dict[str, float]:
    """One step in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--step", step, str(n), str(k), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{step} {n} {k} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def class_of(row: int, k: int) -> str:
    """Every class has as many rows."""
    return f"c{row * 7919 % k:04d}"


def write_rows(folder: Path, n: int, k: int) -> Path:
    """A CSV file of texts that are their own row number, and labels."""
    path = folder / "rows.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        file.writelines(f"row{i} {(i * 2654435761) % 2**32:x},{class_of(i, k)}\n" for i in range(n))
    return path


def write_features(folder: Path, n: int, k: int) -> Path:
    """Features (n, 384) in a file: each row's class mean, and noise, block by block."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(k, WIDTH)).astype(np.float32)
    path = folder / "features.f32"
    with path.open("wb") as file:
        for at in range(0, n, BLOCK):
            codes = np.array([int(class_of(i, k)[1:]) for i in range(at, min(at + BLOCK, n))])
            file.write((means[codes] + 2.5 * rng.normal(size=(len(codes), WIDTH))).astype(np.float32).tobytes())
    return path


def backbone_of(features: Path) -> Any:
    """A backbone that reads a text "row17 ..." as row 17 of the file."""
    import torch

    from acclimate.backbones.base import Backbone, Batch, Encoded, Origin

    values = np.memmap(features, dtype=np.float32, mode="r").reshape(-1, WIDTH)

    class Mapped(Backbone):
        modality = "text"
        origin = Origin("synthetic features")
        width = WIDTH
        packing = "no"

        def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
            return [Encoded((int(text.split()[0][3:]),), 1, 0, 1) for text in inputs]

        def collate(self, rows: Sequence[Encoded]) -> Batch:
            return {"at": torch.tensor([row.parts[0] for row in rows])}

        def forward(self, batch: Batch) -> torch.Tensor:
            return torch.from_numpy(values[batch["at"].numpy()])

        @property
        def blocks(self) -> list[torch.nn.Module]:
            return []

        @property
        def fixed(self) -> str:
            return "it is a table"

        def settings(self) -> dict[str, object]:
            return {"rows": len(values), "max_length": 128, "truncation": "end"}

        def save(self, folder: Path) -> None:
            """Nothing to keep."""

        def clone(self) -> Backbone:
            return self

    return Mapped()


def head_of(k: int) -> Any:
    """The linear head that knows the class means."""
    import torch

    from acclimate.tasks.heads import LinearHead

    means = np.random.default_rng(0).normal(size=(k, WIDTH)).astype(np.float32)
    head = LinearHead(WIDTH, k)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(means) / 3)
        head.bias.copy_(-(head.weight * torch.from_numpy(means)).sum(1) / 2)
    return head.requires_grad_(False)


def model_of(backbone: Any, k: int) -> Any:
    """The user's model with that head, and the majority class beside it."""
    import torch

    from acclimate.api.model import Model
    from acclimate.data.rows import Columns
    from acclimate.model import Predictor
    from acclimate.tasks import TASKS
    from acclimate.tasks.decoder import Decoder
    from acclimate.tasks.heads import ConstantHead

    decoder = Decoder("classify", tuple(f"c{i:04d}" for i in range(k)))
    constant = ConstantHead(k)
    constant.logits.copy_(torch.linspace(0, 1, k))
    return Model(
        Predictor(TASKS["classify"], decoder, head_of(k), backbone, strategy="given"),
        Columns(text=("text",), label="label"),
        baselines={"majority": Predictor(TASKS["classify"], decoder, constant, strategy="majority")},
    )


def step_of(step: str, n: int, k: int, folder: Path) -> Callable[[], object]:
    """Everything that the step needs, made beforehand; calling what is returned is what is measured."""
    rows, features = write_rows(folder, n, k), write_features(folder, n, k)
    backbone = backbone_of(features)
    model = model_of(backbone, k)
    if step == "evaluate":
        return lambda: model.evaluate(str(rows))
    if step == "predict":
        import acclimate.api
        from acclimate.cli.predict import predict

        acclimate.api.load = lambda run: model
        return lambda: predict(str(folder), str(rows), str(folder / "out.parquet"), None, None, False, None)
    return lambda: fit_given(rows, backbone, k, folder)


def fit_given(rows: Path, backbone: Any, k: int, folder: Path) -> object:
    """acclimate.fit from the file to the RUN folder with a head that is there already."""
    import acclimate
    from acclimate.api import loading
    from acclimate.model import Predictor
    from acclimate.run import Run
    from acclimate.strategies import BASELINES, STRATEGIES, Problem, Splits

    @dataclass(frozen=True)
    class Given:
        """No training: what is measured comes after it."""

        needs_backbone: bool = field(default=True, init=False, repr=False)
        frozen: bool = field(default=True, init=False, repr=False)

        def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
            return Predictor(problem.task, problem.decoder, head_of(k), problem.backbone, strategy="given")

    loading.load = lambda name, **reading: backbone  # type: ignore[assignment]
    STRATEGIES["linear_probe"] = Given()
    BASELINES.pop("tfidf")
    os.environ["ACCLIMATE_CACHE"] = str(folder / "cache")
    return acclimate.fit(str(rows), strategy="linear_probe", output_dir=str(folder / "run"), quiet=True)


def measured(do: Callable[[], object]) -> dict[str, float]:
    """Megabytes above the start, and processor seconds."""
    stop, peak = threading.Event(), [0]

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], pages("RssAnon"))
            stop.wait(0.005)

    start, resident = pages("RssAnon"), pages("VmRSS")
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.process_time()
    do()
    seconds = time.process_time() - began
    stop.set()
    watcher.join()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "own MB": round((peak[0] - start) / 1024, 1),
        "resident MB": round((most - resident) / 1024, 1),
        "seconds": round(seconds, 2),
    }


def pages(kind: str) -> int:
    """Kilobytes of this process, by their kind."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def against_minilm() -> dict[str, Any]:
    """Processor microseconds of a row: `evaluate` at 1,000 classes, its features given, beside reading a short text."""
    from acclimate import backbones
    from acclimate.features import extract
    from acclimate.run import Run

    n, texts = 20_000, [f"a short text about the number {i}, and what was said of it" for i in range(2_000)]
    minilm = backbones.load("minilm")
    reading, judging = [], []
    with tempfile.TemporaryDirectory() as folder:
        evaluate = step_of("evaluate", n, CLASSES, Path(folder))
        for _ in range(ROUNDS):
            start = time.process_time()
            extract(minilm, texts, Run())
            middle = time.process_time()
            evaluate()
            reading.append((middle - start) / len(texts) * 1e6)
            judging.append((time.process_time() - middle) / n * 1e6)
    return {
        "rows judged": n,
        "us a row, evaluate": round(statistics.median(judging), 1),
        "us a row, minilm": round(statistics.median(reading), 1),
        "ratio": round(statistics.median(j / r for j, r in zip(judging, reading, strict=True)), 3),
    }


if __name__ == "__main__":
    if "--step" in sys.argv:
        at = sys.argv.index("--step")
        do = step_of(sys.argv[at + 1], int(sys.argv[at + 2]), int(sys.argv[at + 3]), Path(sys.argv[at + 4]))
        print(json.dumps(measured(do)))
    else:
        main()
