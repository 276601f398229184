"""The silence after a sound: Whisper's features with all of it up to 30 s, with groups of it, and with less of it.

Run: python benchmarks/silence.py --work FOLDER [--data FOLDER] [--seeds S] [--sets SETS] [--table]
"numbers" needs espeak-ng on the path: 480 clips of 0.7 to 13 s, in which twelve voices say numbers in ten languages,
four lengths of each, speed and pitch drawn. Told are the language (judged on four voices that were not heard), the
voice (judged on four other languages) and the speed of speech (R², likewise); "short to long" learns from clips below
2 s and is judged on those above 3.9 s, and "long to short" the other way round. "digits" is fsdd, 15 takes (as in
sounds.py): the digit, of two speakers that were not heard, and who speaks, by a random half. A linear probe as it
comes. Ways: "30 s" fills every sound; "merged K" reads groups of K frames of silence as one; "lengths" fills each sound
up to the first of 3, 5, 10 and 30 s that leaves a second, and half the sound's length, of silence. Scores with their
95 % t interval over draws (voices, languages or speakers that are left out), and the paired difference to "30 s". Clips
and features stay in the work folder; results are added to benchmarks/results/silence.json one by one.
Speed is processor time a sound of 0.4 s, of 2, 5 and 10 s (noise), from samples to features, ways in turn, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import sounds
import torch
from intervals import plus_minus
from kept import Kept

from acclimate.backbones import load
from acclimate.data.rows import Data
from acclimate.features import Store, extract
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "silence.json"
WAYS = ("30 s", "merged 4", "merged 8", "lengths")
LANGUAGES = ("de", "nl", "sv", "nb", "da", "es", "pt", "it", "pl", "cs")
VOICES = ("m1", "m2", "m3", "m7", "f1", "f2", "f3", "f4", "Denis", "Henrique", "Alicia", "grandma")
SECONDS = ((0.7, 1.9), (2.0, 3.7), (3.8, 7.5), (8.0, 13.0))
SHORT, LONG = 2.0, 3.9
BACKBONE = cache(lambda: load("whisper-tiny"))
Scenario = tuple[str, str, list[Any], Any, Any]  # name, task, labels, rows to learn from, rows to be judged on


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", default="digits,numbers,speed")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, lines=True)
    if not asked.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        for name in asked.sets.split(","):
            if name == "speed":
                speed(kept)
            else:
                judge(name, asked, kept)
    table(kept.rows)


def judge(name: str, asked: argparse.Namespace, kept: Kept) -> None:
    """Every way on every task and draw of a set."""
    if name == "digits":
        data = sounds.digits(Path(asked.data), 15)
        about = [
            {"path": p, "digit": d, "who": s} for p, d, s in zip(data.inputs, data.labels, data.domains, strict=True)
        ]
    else:
        about = numbers(asked.work)
    paths = [str(row["path"]) for row in about]
    for way in WAYS:
        features: Any = None
        for seed in range(asked.seeds):
            for task, kind, labels, learn, test in (of_digits if name == "digits" else of_numbers)(about, seed):
                key = {"set": name, "task": task, "way": way, "seed": seed}
                if not kept.has(key):
                    features = features_of(way, paths, asked.work / "features") if features is None else features
                    score = one(kind, labels, learn, test, features, seed)
                    kept.add({**key, "n": len(test), "score": round(score, 5)}, say=(key, score))


def numbers(work: Path) -> list[dict[str, Any]]:
    """Clips whose lengths are near those drawn: as many numbers as that takes."""
    if (work / "numbers.json").is_file():
        return list(json.loads((work / "numbers.json").read_text()))
    (work / "clips").mkdir(parents=True, exist_ok=True)
    draw, found = random.Random(7), []
    for lang, voice, at in [(a, b, c) for a in LANGUAGES for b in VOICES for c in range(len(SECONDS))]:
        path = work / "clips" / f"{lang}-{voice}-{at}.wav"
        how = {"speed": draw.randint(120, 210), "pitch": draw.randint(20, 80)}
        wanted = draw.uniform(*SECONDS[at])
        said = [
            str(draw.choice([draw.randint(0, 99), draw.randint(100, 999), draw.randint(1000, 9999)])) for _ in range(40)
        ]
        said = [str(draw.randint(0, 999)), *said] if at == 0 else said
        best, count = (np.inf, 1), max(1, round(wanted / 1.1))
        for _ in range(6):
            there = speak(path, f"{lang}+{voice}", how, said[:count])
            best = min(best, (abs(there - wanted), count), key=lambda pair: pair[0])
            count, before = max(1, min(40, round(count * wanted / there))), count
            if count == before:
                break
        there = speak(path, f"{lang}+{voice}", how, said[: best[1]])
        found.append({"path": str(path), "language": lang, "voice": voice, **how, "seconds": there})
    (work / "numbers.json").write_text(json.dumps(found))
    return found


def speak(path: Path, voice: str, how: dict[str, int], said: list[str]) -> float:
    """Seconds of the clip that is written."""
    options = ["-v", voice, "-s", str(how["speed"]), "-p", str(how["pitch"]), "-w", str(path)]
    subprocess.run(["espeak-ng", *options, "--", ", ".join(said)], check=True)
    return float(soundfile.info(path).duration)


def backbone_of(way: str) -> Any:
    """Whisper as it is read this way ("3 s": filled up to three)."""
    if not way.startswith("merged"):
        return load("whisper-tiny", seconds=float(way.removesuffix(" s")))
    whole = load("whisper-tiny")
    return whole.with_settings(replace(whole.sound, merged=int(way.split()[1])))


def features_of(way: str, paths: list[str], folder: Path) -> Any:
    """Features (n, d), of "lengths" sound by sound from the length that it is filled up to."""
    if way != "lengths":
        store = Store(backbone_of(way), Run(cache=folder))
        for at in range(0, len(paths), 30):
            store.prepare(paths[at : at + 30])
        return store.get(paths)
    seconds = [soundfile.info(path).duration for path in paths]
    filled = [next((s for s in (3, 5, 10) if s >= n + max(1.0, n / 2)), 30) for n in seconds]
    found: Any = {}
    for length in sorted(set(filled)):
        mine = [path for path, f in zip(paths, filled, strict=True) if f == length]
        found |= dict(zip(mine, features_of(f"{length} s", mine, folder), strict=True))
    return np.stack([found[path] for path in paths])


class Given:
    """Features that are known, of rows that are numbers."""

    def __init__(self, features: Any) -> None:
        self.features = features

    def get(self, inputs: Any) -> Any:
        """Those of these rows."""
        return self.features[[int(i) for i in inputs]]


def one(kind: str, labels: list[Any], learn: Any, test: Any, features: Any, seed: int) -> float:
    """Accuracy, or R², of a linear probe."""
    task, store = TASKS[kind], Given(features)
    data = Data(tuple(map(str, range(len(labels)))), tuple(labels), clusters=np.arange(len(labels)))
    decoder = task.decoder(tuple(sorted(set(labels))), type(labels[0]).__name__)
    problem = Problem(task, decoder, BACKBONE(), store)  # type: ignore[arg-type]
    fitted = named("linear_probe")[1].fit(problem, Splits(data.take(learn)), Run(seed=seed))
    with torch.no_grad():
        outputs = torch.from_numpy(features[test]) @ fitted.head.weight.T + fitted.head.bias
    truth = np.array([labels[i] for i in test])
    if kind == "classify":
        return float(np.mean(np.array(fitted.decoder.classes)[outputs.argmax(1).numpy()] == truth))
    said = task.outputs(outputs.numpy(), decoder)
    return float(1 - ((truth - said) ** 2).mean() / truth.var())


def few(rows: Any, labels: list[Any], count: int, rng: np.random.Generator) -> Any:
    """So many rows of each class."""
    rows = rng.permutation(rows)
    each = np.array(labels)[rows]
    return np.concatenate([rows[each == c][:count] for c in np.unique(each)])


def of_digits(about: list[dict[str, Any]], seed: int) -> Iterator[Scenario]:
    rng, who, digit = np.random.default_rng(seed), [r["who"] for r in about], [str(r["digit"]) for r in about]
    out = np.isin(who, rng.permutation(sounds.SPEAKERS)[:2])
    for count in (8, 32):
        yield (
            f"digit, {count} a class",
            "classify",
            digit,
            few(np.flatnonzero(~out), digit, count, rng),
            np.flatnonzero(out),
        )
    half = rng.permutation(len(who))
    yield "who speaks", "classify", who, half[: len(who) // 2], half[len(who) // 2 :]


def of_numbers(about: list[dict[str, Any]], seed: int) -> Iterator[Scenario]:
    rng, seconds = np.random.default_rng(seed), np.array([row["seconds"] for row in about])
    language, voice = [row["language"] for row in about], [row["voice"] for row in about]
    speed_of = [float(row["speed"]) for row in about]
    voices, languages = np.isin(voice, rng.permutation(VOICES)[:4]), np.isin(language, rng.permutation(LANGUAGES)[:4])
    short, long = seconds < SHORT, seconds > LONG
    asked = [("language", "classify", language, voices), ("voice", "classify", voice, languages)]
    for name, kind, labels, out in (*asked, ("speed", "regress", speed_of, languages)):
        learn, test = np.flatnonzero(~out), np.flatnonzero(out)
        if kind == "classify":
            yield f"{name}, 8 a class", kind, labels, few(learn, labels, 8, rng), test
        yield f"{name}, all", kind, labels, learn, test
        yield f"{name}, short to long", kind, labels, np.flatnonzero(~out & short), np.flatnonzero(out & long)
        yield f"{name}, long to short", kind, labels, np.flatnonzero(~out & long), np.flatnonzero(out & short)


def speed(kept: Kept, rounds: int = 3) -> None:
    """Milliseconds of the processor, the median of some rounds after one that is not counted."""
    ways = {way: backbone_of(way) for way in ("30 s", "merged 4", "merged 8", "3 s")}
    rng = np.random.default_rng(0)
    for seconds in (0.4, 2.0, 5.0, 10.0):
        given = [(rng.normal(0, 0.1, round(seconds * 16000)).astype(np.float32), 16000) for _ in range(4)]
        taken: dict[str, list[float]] = {way: [] for way in ways if way != "3 s" or seconds <= 2}
        for turn in range(rounds + 1):
            for way, times in taken.items():
                began = time.process_time()
                extract(ways[way], given, Run(cache=None))
                if turn:
                    times.append(1000 * (time.process_time() - began) / len(given))
        for way, times in taken.items():
            key = {"set": "speed", "task": f"{seconds:g} s", "way": way}
            if not kept.has(key):
                kept.add({**key, "ms": round(float(np.median(times)), 1), "load": round(os.getloadavg()[0], 1)})


def table(rows: list[dict[str, Any]]) -> None:
    """Scores, and their differences to "30 s" draw by draw."""
    for name, task in dict.fromkeys((row["set"], row["task"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["task"]) == (name, task)]
        if name == "speed":
            print(f"{name}, {task}: " + ", ".join(f"{row['way']} {row['ms']} ms" for row in mine))
            continue
        by_way = {way: {row["seed"]: row["score"] for row in mine if row["way"] == way} for way in WAYS}
        base = by_way["30 s"]
        print(f"{name}, {task}: 30 s {plus_minus(list(base.values()))}")
        for way in WAYS[1:]:
            ahead = [score - base[seed] for seed, score in by_way[way].items() if seed in base]
            if len(ahead) > 1:
                print(f"    {way}: {np.mean(list(by_way[way].values())):.3f}, {plus_minus(ahead)}")


if __name__ == "__main__":
    main()
