"""kill -9 at random moments: does a resumed fit end with the very weights of one that was never stopped?

Run: OMP_NUM_THREADS=1 python benchmarks/kill.py [--times 20] [--strategy partial]
Each time `acclimate fit` on 160 VADER snippets with minilm (dropout on, accumulation 2, epoch chosen by rows held out,
a checkpoint after every step) is started as a process of its own, killed a random moment after a random one of its 68
steps, and gone on with by `--resume`; every second one is killed again on its way. Compared are the
sha256 of all weights of the saved model, the history and the numbers.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMPARED = (
    "model/backbone/model.safetensors",
    "model/head.safetensors",
    "model/acclimate.json",
    "history.jsonl",
    "metrics.json",
)
STEPS = 68  # 136 rows in batches of 4, two a step, four times
SETTINGS = ("--num-train-epochs", "4", "--batch-size", "4", "--set", "gradient_accumulation_steps=2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="how many fits are killed; 20 when absent")
    parser.add_argument("--strategy", default="partial", help="what is fitted; partial when absent")
    asked = parser.parse_args()
    times, strategy = asked.times, asked.strategy
    folder = Path(tempfile.mkdtemp(prefix="kill-"))
    train, test = rows(folder)
    options = [
        "--label",
        "label",
        "--test-data",
        str(test),
        "--strategy",
        strategy,
        "--checkpoint-every",
        "0",
        "--quiet",
    ]
    command = [sys.executable, "-m", "acclimate", "fit", str(train), *options, *SETTINGS]
    if strategy == "partial":
        command += ["--set", "moves=top:1"]
    start = time.monotonic()
    subprocess.run([*command, "--output-dir", str(folder / "whole")], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    wanted = hashes(folder / "whole")
    draw = random.Random(0)
    kills: list[dict[str, Any]] = []
    for trial in range(times):
        run = folder / f"run-{trial}"
        steps = [killed([*command, "--output-dir", str(run)], run, draw.randrange(STEPS), draw.uniform(0, 0.3))]
        if trial % 2:
            steps.append(killed(going_on(command, run), run, draw.randrange(steps[0], STEPS), draw.uniform(0, 0.3)))
        if not (run / "run.json").is_file():
            subprocess.run(going_on(command, run), check=True, stdout=subprocess.DEVNULL)
        kills.append({"after_step": steps, "bit_equal": hashes(run) == wanted})
        print(
            f"{trial + 1}: killed after step {steps}: {'equal' if kills[-1]['bit_equal'] else 'DIFFERENT'}", flush=True
        )
        shutil.rmtree(run)
    result = {
        "times": times,
        "bit_equal": sum(k["bit_equal"] for k in kills),
        "strategy": strategy,
        "kills_in_all": sum(len(k["after_step"]) for k in kills),
        "seconds_uninterrupted": round(seconds, 1),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "load_average": [round(x, 1) for x in os.getloadavg()],
        "kills": kills,
    }
    out = Path(__file__).parent / "results" / "kill.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['bit_equal']} of {times} bit-equal")
    shutil.rmtree(folder)


def rows(folder: Path) -> tuple[Path, Path]:
    """160 snippets to learn from and 40 to test on."""
    from acclimate.catalogue import datasets

    with open(datasets.pull("vader") / "movie.csv", encoding="utf-8", newline="") as file:
        found = [(r["text"], "good" if float(r["valence"]) > 0 else "bad") for r in csv.DictReader(file)]
    random.Random(0).shuffle(found)
    for name, part in (("train", found[:160]), ("test", found[160:200])):
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])
    return folder / "train.csv", folder / "test.csv"


def going_on(command: list[str], run: Path) -> list[str]:
    """`--resume` alone where there is something to go on with, else the whole command again."""
    if (run / "state" / "request.json").is_file():
        return [*command[:4], "--resume", "--output-dir", str(run), "--checkpoint-every", "0", "--quiet"]
    return [*command, "--output-dir", str(run), "--resume"]


def killed(command: list[str], run: Path, step: int, moment: float) -> int:
    """Start, kill -9 a moment after the checkpoint of this step is there, and say how far it had come."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and newest(run) < step:
            time.sleep(0.01)
        time.sleep(moment)
        process.kill()
    return newest(run)


def newest(run: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    return max((int(p.name.split("-")[0]) for p in run.glob("state/final/[0-9]*-[0-9]*")), default=0)


def hashes(run: Path) -> dict[str, str]:
    """The sha256 of everything that must be the same."""
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in COMPARED}


if __name__ == "__main__":
    main()
