"""Spoken digits as words: whisper-tiny before and after tuning, new speakers, few rows, synthetic voices.

Run: OMP_NUM_THREADS=1 python benchmarks/speech.py --data FOLDER [--parts zero,speakers,ways,voices ...]
[--seeds S]. FOLDER holds fsdd (six speakers, ten digits, 50 takes of each). A speaker is held out: learned from are N
recordings of the other five, drawn by the seed; judged are takes 0 to 4 of each digit of the one held out (50 rows).
What tunes reads 1.2 s at a time (longer clips are left out of training, and judged in windows), `zero` Whisper's own
30 s. `voices` needs espeak-ng on the path (apt-get install espeak-ng): 200 clips of 16 of its voices. `adapt`
standardises the frames of the frozen encoder by domain, folded into the CTC head: the target's mean and spread come
from 50 other recordings of its speaker, without their texts. `strings` joins three to five digits of a speaker, read
4 s at a time. Results are added to benchmarks/results/speech.json one by one; a run that is cut off goes on. --table
prints them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import torch
from kept import Kept

import acclimate
from acclimate.data.sounds import read
from acclimate.run import Run
from acclimate.structured.measuring import scores_of
from acclimate.structured.transcribe import Transcribe
from acclimate.structured.tuning import answers_to

RESULTS = Path(__file__).parent / "results" / "speech.json"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SECONDS, EPOCHS = 1.2, 8
VOICES = [f"en-{kind}+{v}" for kind in ("us", "gb") for v in ("m1", "m2", "m3", "m7", "f1", "f2", "f3", "f4")]
Rows = list[dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, lines=True)
    if not asked.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        folder = Path(asked.data) / "fsdd" / "recordings"
        with tempfile.TemporaryDirectory() as work:
            for part in asked.parts.split(","):
                for key, run in PARTS[part](folder, asked.seeds, Path(work)):
                    if kept.has(key):
                        continue
                    began = (time.time(), time.process_time())
                    numbers = run()
                    took = {"minutes": (time.time() - began[0]) / 60, "cpu_s": time.process_time() - began[1]}
                    kept.add({**key, **numbers, **{k: round(v, 1) for k, v in took.items()}})
    for row in kept.rows:
        print(" ".join(f"{k}={v}" for k, v in row.items()))


def recordings(folder: Path, speakers: Any, takes: Any) -> Rows:
    """One row a file: path, text, speaker."""
    return [
        {"path": str(folder / f"{d}_{s}_{k}.wav"), "text": WORDS[d], "speaker": s}
        for s in speakers for d in range(10) for k in takes
    ]  # fmt: skip


def drawn(folder: Path, held: str, count: int, seed: int) -> Rows:
    """Recordings of everyone else."""
    rows = recordings(folder, [s for s in SPEAKERS if s != held], range(50))
    random.Random(seed).shuffle(rows)
    return rows[:count]


def tuned(
    train: Rows, test: Rows, strategy: str, seed: int, work: Path, seconds: float = SECONDS
) -> tuple[Any, dict[str, Any]]:
    """A model and its numbers on the rows held out."""
    settings = {"longest": seconds, "mixed_precision": "no"}
    epochs = 100 if strategy == "linear_probe" else EPOCHS
    model = acclimate.fit(
        train, test_data=test, task="transcribe", strategy=strategy, max_seconds=seconds, num_train_epochs=epochs,
        settings=settings, seed=seed, output_dir=work / "run", overwrite=True, quiet=True,
    )  # fmt: skip
    return model, told(model.scores)


def told(scores: Any) -> dict[str, Any]:
    one = scores.estimates["wer"]
    low_high = [None if x is None else round(x, 3) for x in (one.low, one.high)]
    found = {"wer": round(one.value, 3), "interval": low_high, "cer": round(scores.estimates["cer"].value, 3)}
    return {**found, **{f"wer_{k}": round(v["value"], 3) for k, v in (scores.baseline or {}).items()}}


def compared(said: list[str]) -> dict[str, tuple[Transcribe, list[str]]]:
    """Whisper writes "2" for two: as it is, in Whisper's own normal form, and with digits spelled out."""
    spelled = [re.sub(r"\d", lambda d: f" {WORDS[int(d[0])]} ", text) for text in said]
    return {
        "words": (Transcribe(), said),
        "english": (Transcribe(normalise="english"), said),
        "spelled": (Transcribe(), spelled),
    }


def zero(folder: Path, seeds: int, work: Path) -> Any:
    """Whisper as it is, 20 recordings of each speaker, compared in three ways of writing numbers."""
    rows = recordings(folder, SPEAKERS, range(2))
    state = {"letters": ["a"], "letters_a_row": 3.0, "words_a_row": 1.0}

    def run() -> dict[str, Any]:
        network = Transcribe().network("whisper-tiny", state, {})
        said = answers_to(network, [r["path"] for r in rows], Run())
        truth = [r["text"] for r in rows]
        numbers: dict[str, Any] = {}
        for how, (task, texts) in compared(said).items():
            scores = scores_of(task, truth, texts, state)
            each = [
                float(task.measures(truth[i : i + 20], texts[i : i + 20], state)["wer"].at(np.ones((1, 20)))[0])
                for i in range(0, len(rows), 20)
            ]
            numbers[how] = {**told(scores), "speakers": dict(zip(SPEAKERS, np.round(each, 3).tolist(), strict=True))}
        return numbers

    yield {"part": "zero", "seconds": 30}, run


def judged(folder: Path, held: str) -> Rows:
    return recordings(folder, [held], range(5))


def one(folder: Path, part: str, held: str, strategy: str, count: int, seed: int, work: Path) -> Any:
    key = {"part": part, "held_out": held, "strategy": strategy, "rows": count, "seed": seed}
    return key, lambda: tuned(drawn(folder, held, count, seed), judged(folder, held), strategy, seed, work)[1]


def speakers(folder: Path, seeds: int, work: Path) -> Any:
    for held, seed in itertools.product(SPEAKERS, range(seeds)):
        yield one(folder, "tuned", held, "partial", 100, seed, work)


def ways(folder: Path, seeds: int, work: Path) -> Any:
    for seed in range(seeds):
        for strategy in ("partial", "linear_probe"):
            yield one(folder, "tuned", "lucas", strategy, 100, seed, work)


def moves(folder: Path, seeds: int, work: Path) -> Any:
    for seed in range(seeds):
        for strategy in ("lora", "full"):
            yield one(folder, "tuned", "lucas", strategy, 100, seed, work)


def rows(folder: Path, seeds: int, work: Path) -> Any:
    for strategy in ("partial", "linear_probe"):
        yield one(folder, "tuned", "lucas", strategy, 600, 0, work)


def strings(folder: Path, seeds: int, work: Path) -> Any:
    """Three to five digits of one speaker one after another, made by joining recordings with 0.1 s between."""
    test = joined_up(recordings(folder, ["lucas"], range(10)), 50, 99, work)

    def run() -> dict[str, Any]:
        state = {"letters": ["a"], "letters_a_row": 3.0, "words_a_row": 1.0}
        said = answers_to(Transcribe().network("whisper-tiny", state, {}), [r["path"] for r in test], Run())
        truth = [r["text"] for r in test]
        return {how: told(scores_of(task, truth, texts, state)) for how, (task, texts) in compared(said).items()}

    yield {"part": "strings", "held_out": "lucas", "strategy": "zero_shot", "seconds": 30}, run
    for seed in range(seeds):
        for strategy in ("partial", "linear_probe"):

            def learn(strategy: str = strategy, seed: int = seed) -> dict[str, Any]:
                others = recordings(folder, [s for s in SPEAKERS if s != "lucas"], range(50))
                train = joined_up(others, 100, seed, work)
                return tuned(train, test, strategy, seed, work, 4.0)[1]

            yield {"part": "strings", "held_out": "lucas", "strategy": strategy, "rows": 100, "seed": seed}, learn


def joined_up(rows: Rows, count: int, seed: int, work: Path) -> Rows:
    """Strings of recordings of one speaker each."""
    draw, found = random.Random(seed), []
    for i in range(count):
        speaker = draw.choice(sorted({r["speaker"] for r in rows}))
        some = draw.sample([r for r in rows if r["speaker"] == speaker], draw.randint(3, 5))
        gap = np.zeros(800, np.float32)
        line = np.concatenate([part for r in some for part in (read(r["path"], 8000), gap)])
        path = work / f"string{seed}-{i}.wav"
        soundfile.write(path, line, 8000)
        found.append({"path": str(path), "text": " ".join(r["text"] for r in some), "speaker": speaker})
    return found


def spoken(work: Path) -> Rows:
    """The ten words in 16 voices of espeak-ng, speed and pitch drawn."""
    found, draw = [], random.Random(0)
    for i in range(200):
        voice, word, path = VOICES[i % len(VOICES)], WORDS[i % 10], work / f"espeak{i}.wav"
        how = ["-v", voice, "-s", str(draw.randint(110, 190)), "-p", str(draw.randint(20, 80))]
        if not path.is_file():
            subprocess.run(["espeak-ng", *how, "-w", str(path), word], check=True)
        found.append({"path": str(path), "text": word, "speaker": voice})
    return found


def mixed(folder: Path, work: Path, what: str, seed: int) -> Rows:
    real = drawn(folder, "lucas", 20, seed)
    return {"synthetic": spoken(work), "real": real, "both": [*spoken(work), *real]}[what]


def voices(folder: Path, seeds: int, work: Path) -> Any:
    for seed in range(seeds):
        for what in ("synthetic", "real", "both"):
            key = {"part": "voices", "held_out": "lucas", "strategy": "partial", "learned": what, "seed": seed}
            yield (
                key,
                lambda w=what, s=seed: tuned(mixed(folder, work, w, s), judged(folder, "lucas"), "partial", s, work)[1],
            )


def adapt(folder: Path, seeds: int, work: Path) -> Any:
    """A CTC head on frozen frames, learned from synthetic voices; then the frames standardised by domain."""
    for seed in range(seeds):

        def run(seed: int = seed) -> dict[str, Any]:
            test = judged(folder, "lucas")
            model, before = tuned(spoken(work), test, "linear_probe", seed, work)
            network = model.learned.network
            target = [r["path"] for r in recordings(folder, ["lucas"], range(10, 15))]
            restandardised(network, [r["path"] for r in spoken(work)], target)
            said = answers_to(network, [r["path"] for r in test], Run())
            after = scores_of(Transcribe(), [r["text"] for r in test], said, model.learned.state)
            return {**before, "standardised": told(after)}

        yield {"part": "adapt", "held_out": "lucas", "strategy": "linear_probe", "seed": seed}, run


def restandardised(network: Any, source: list[str], target: list[str]) -> None:
    """The head for frames that are moved and scaled from the target's mean and spread to the source's, by dimension."""
    (m, s), (n, t) = (moments(network, some) for some in (source, target))
    layer = network.head[1]
    scale = s / t
    with torch.no_grad():
        layer.bias += layer.weight @ (m - n * scale)
        layer.weight *= scale


def moments(network: Any, paths: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    frames = []
    with torch.inference_mode():
        for path in paths:
            hidden, count = network.backbone.sequence(network.collate(network.encode([path], None)))
            frames += [line[:k] for line, k in zip(hidden, count.tolist(), strict=True)]
    every = torch.cat(frames)
    return every.mean(0).clone(), every.std(0).clone()


PARTS = {
    "zero": zero,
    "speakers": speakers,
    "ways": ways,
    "moves": moves,
    "rows": rows,
    "strings": strings,
    "voices": voices,
    "adapt": adapt,
}

if __name__ == "__main__":
    main()
