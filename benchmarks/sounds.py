"""Spoken digits: Whisper's features against statistics of spectra, over random rows and across speakers.

Run: python benchmarks/sounds.py [--data FOLDER] [--takes N] [--seeds S] [--only METHODS] [--table]
FOLDER holds fsdd (six speakers, ten digits, 8 kHz); N takes of each digit by each speaker are used. "half" learns from
a random half of the rows, "6 a class" from 60 of that half; both are judged on the other half. "speaker NAME" learns
from the other five speakers; "who" tells speakers apart by a half. Accuracy, with the 95 % t interval over seeds, or
over speakers. Features are kept in the cache, so that a run that was stopped goes on.
Speed is processor time a sound with one thread, settings in turn.

These recordings are the ones on which `seconds` of Whisper was looked at: figures for less than 30 s are not
independent of that. Nothing else was tuned on them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy import stats

from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.data.sounds import read
from acclimate.features import Store, extract
from acclimate.plain.spectra import statistics as spectrum
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "sounds.json"
SECONDS = (30.0, 10.0, 5.0, 3.0)
METHODS = {  # name -> strategy, model, seconds
    "spectra": ("spectra", None, None),
    "resemblyzer": ("linear_probe", "resemblyzer", None),
    **{f"whisper-tiny, {s:g} s": ("linear_probe", "whisper-tiny", s) for s in reversed(SECONDS)},
    "whisper-tiny + spectra, 30 s": ("hybrid", "whisper-tiny", 30.0),
}
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--takes", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="methods between semicolons")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"accuracy": [], "speed": []}
    if not asked.table:
        rows = digits(Path(asked.data), asked.takes)
        by_speaker = replace(rows, labels=rows.domains, domains=None)
        if not found["speed"]:
            found["speed"] = speed(list(rows.inputs[:: len(rows) // 6][:6]))
            write(found)
        for method in asked.only.split(";") if asked.only else METHODS:
            problem, who = problem_of(method, tuple(range(10))), problem_of(method, SPEAKERS)
            for at in range(0, len(rows) if problem.store else 0, 50):  # kept in the cache as they come
                problem.store.get(rows.inputs[at : at + 50])
            for name, seed, train, test in splits(rows, asked.seeds):
                about = {"method": method, "takes": asked.takes, "split": name, "seed": seed}
                if any(all(r[k] == v for k, v in about.items()) for r in found["accuracy"]):
                    continue
                asking, data = (who, by_speaker) if name == "who" else (problem, rows)
                fitted = named(METHODS[method][0])[1].fit(asking, Splits(data.take(train)), Run(seed=seed))
                judged = data.take(test)
                right = fitted.logits(list(judged.inputs), store=problem.store).argmax(1)
                share = float(np.mean(np.array(fitted.decoder.classes)[right] == np.array(judged.labels)))
                found["accuracy"].append(about | {"n": len(test), "accuracy": share})
                write(found)
                print(found["accuracy"][-1], flush=True)
    table(found, asked.takes)


def write(found: dict[str, Any]) -> None:
    lines = [f' "{part}": [\n' + ",\n".join(json.dumps(r) for r in found[part]) + "\n ]" for part in found]
    RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def digits(folder: Path, takes: int) -> Data:
    """The first takes, ordered by digit, speaker and take; groups are speakers."""
    paths = [p for p in (folder / "fsdd" / "recordings").glob("*.wav") if int(p.stem.split("_")[2]) < takes]
    parts = sorted((*p.stem.split("_"), str(p)) for p in paths)
    return Data(
        tuple(p[3] for p in parts), tuple(int(p[0]) for p in parts), domains=tuple(p[1] for p in parts),
        clusters=np.arange(len(parts)), kind="audio",
    )  # fmt: skip


def problem_of(method: str, classes: tuple[Any, ...]) -> Problem:
    """Digits or speakers on the features of this method."""
    _, model, seconds = METHODS[method]
    task = TASKS["classify"]
    decoder = task.decoder(classes, type(classes[0]).__name__)
    if model is None:
        return Problem(task, decoder, None, None)
    backbone = load(model, seconds=seconds)
    return Problem(task, decoder, backbone, Store(backbone, Run(cache=cache.features())))


def splits(rows: Data, seeds: int) -> list[tuple[str, int, Any, Any]]:
    """Name, seed, rows to learn from, rows to be judged on."""
    found: list[tuple[str, int, Any, Any]] = []
    speaker, digit = np.array(rows.domains), np.array(rows.labels)
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(rows))
        half, rest = order[: len(rows) // 2], order[len(rows) // 2 :]
        few = np.concatenate([half[digit[half] == d][:6] for d in range(10)])
        found += [("half", seed, half, rest), ("6 a class", seed, few, rest), ("who", seed, half, rest)]
    for name in SPEAKERS:
        found.append((f"speaker {name}", 0, np.flatnonzero(speaker != name), np.flatnonzero(speaker == name)))
    return found


def speed(paths: list[str], rounds: int = 3) -> list[dict[str, Any]]:
    """Seconds of the processor for one sound, from the file to the features; the first round is not counted."""
    ready = {f"whisper-tiny, {s:g} s": load("whisper-tiny", seconds=s) for s in SECONDS}
    ready["resemblyzer"] = load("resemblyzer")
    taken: dict[str, list[float]] = {name: [] for name in (*ready, "spectra")}
    for turn in range(rounds + 1):
        for name in taken:
            began = time.process_time()
            if name == "spectra":
                for path in paths:
                    spectrum(read(path, 16000))
            else:
                extract(ready[name], paths, Run(cache=None))
            if turn:
                taken[name].append((time.process_time() - began) / len(paths))
    return [{"method": name, "seconds a sound": round(statistics.median(t), 5)} for name, t in taken.items()]


def table(found: dict[str, Any], takes: int) -> None:
    quick = {r["method"]: r["seconds a sound"] for r in found["speed"]}
    for method in METHODS:
        mine = [r for r in found["accuracy"] if r["method"] == method and r["takes"] == takes]
        line = f"{method:30} {1000 * quick[method]:7.1f} ms " if method in quick else f"{method:30} {'':10} "
        for name in ("half", "6 a class", "speaker", "who"):
            values = np.array([r["accuracy"] for r in mine if r["split"].startswith(name)])
            if len(values) > 1:
                wide = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
                line += f" {name} {values.mean():.3f} ± {wide:.3f}"
        alone = [r for r in mine if r["split"].startswith("speaker")]
        print(line, " ".join(f"{r['split'].removeprefix('speaker ')} {r['accuracy']:.2f}" for r in alone))


if __name__ == "__main__":
    main()
