"""Matching pictures and texts: emoji of one drawing style and their names, tested on another style.

Run: OMP_NUM_THREADS=1 python benchmarks/match.py --data FOLDER [--seeds S] [--ways NAME,...]; FOLDER holds google/ and
twitter/, unpacked from the npm packages emoji-datasource-google and emoji-datasource-twitter 16.0.0 (emoji.json, img/).
A seed draws 300 emoji; their Google and Twitter drawings are never trained on. Trained on the Google drawings of all
others and their names. Tests, each among the 300 names: Google drawings (same style, new things), Twitter drawings
(another style, new things), and Twitter drawings of 300 of the emoji that were trained on (another style, known
things). Also: few-shot classification of the ten largest groups of emoji with class names as extra shots. The way
"spoken" needs espeak-ng on the path (apt-get install espeak-ng): 500 names of one to three words, each spoken by two of
six of its voices, matched with the names by whisper-tiny (3 s at a time) and MiniLM; judged are two other voices,
which speak 200 of these names, and 200 new ones. Results are added to benchmarks/results/match.json one by one; a run
that is cut off goes on; --table prints what is stored.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from intervals import plus_minus
from kept import Kept

import acclimate
from acclimate.run import Run
from acclimate.structured.answering import answers_to

RESULTS = Path(__file__).parent / "results" / "match.json"
WAYS: dict[str, dict[str, Any]] = {
    "linear_probe": {"strategy": "linear_probe"},
    "linear_probe, sigmoid": {"strategy": "linear_probe", "settings": {"loss": "sigmoid"}},
    "partial": {"strategy": "partial"},
    "partial, texts tuned": {"strategy": "partial", "settings": {"text": "tuned"}},
    "full": {"strategy": "full"},
    "spoken": {"strategy": "linear_probe", "model": "whisper-tiny", "max_seconds": 3.0},
}
SPOKEN = ("new voice, known", "new voice, new")
VOICES = [f"en-us+{v}" for v in ("m1", "m2", "m3", "f1", "f2", "f3", "m7", "f4")]  # the last two are judged
KEYS = ("recall_at_1", "recall_at_5", "back_recall_at_1")
TESTS = ("google, new", "twitter, new", "twitter, known")
HELD = 300


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../emoji")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", default=";".join(WAYS))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS)
    if not arguments.table:
        torch.set_num_threads(1)
        rows = emoji(Path(arguments.data))
        for seed in range(arguments.seeds):
            for way in arguments.ways.split(";"):
                key = {"seed": seed, "way": way}
                if not kept.has(key):
                    kept.add({**key, **(aloud if way == "spoken" else one)(rows, seed, WAYS[way])})
    print(table(kept.rows))


def emoji(folder: Path) -> list[dict[str, str]]:
    """Name and both drawings of every emoji that has both, skin tones left out."""
    rows = []
    for one in json.loads((folder / "google" / "emoji.json").read_text()):
        paths = {style: folder / style / "img" / style / "64" / one["image"] for style in ("google", "twitter")}
        if one.get("name") and all(path.is_file() for path in paths.values()):
            name = one["name"].lower()
            rows.append({"text": name, "group": one["category"], **{k: str(p.resolve()) for k, p in paths.items()}})
    seen: set[str] = set()
    return [r for r in rows if not (r["text"] in seen or seen.add(r["text"]))]  # type: ignore[func-returns-value]


def one(rows: list[dict[str, str]], seed: int, how: dict[str, Any]) -> dict[str, Any]:
    """Recall of one way on the three tests, and of the nearest pixels."""
    order = np.random.default_rng(seed).permutation(len(rows))
    held, rest = [rows[i] for i in order[:HELD]], [rows[i] for i in order[HELD:]]
    tests = {"google, new": pairs(held, "google"), "twitter, new": pairs(held, "twitter")}
    tests["twitter, known"] = pairs(rest[:HELD], "twitter")
    with tempfile.TemporaryDirectory() as folder:
        model, found = judged(pairs(rest, "google"), tests, seed, how, Path(folder), "pixels")
        found["shots"] = extra_shots(model, held, seed)
    return found


def judged(
    train: list[dict[str, str]], tests: dict[str, Any], seed: int, how: dict[str, Any], folder: Path, plain: str
) -> tuple[Any, dict[str, Any]]:
    """A model, and its recall on every test; `plain`: the name for what does without transfer, on the first of them."""
    began = time.monotonic()
    model = acclimate.fit(
        train,
        task="match",
        test_data=next(iter(tests.values())),
        seed=seed,
        quiet=True,
        output_dir=folder / "run",
        **how,
    )
    seconds = round(time.monotonic() - began)
    assert model.scores is not None
    found: dict[str, Any] = {plain: next(iter(model.scores.baseline.values()))["value"], "seconds": seconds}
    for name, data in tests.items():
        scores = model.evaluate(data)
        found[name] = {key: scores.estimates[key].value for key in KEYS}
    return model, found


def aloud(rows: list[dict[str, str]], seed: int, how: dict[str, Any]) -> dict[str, Any]:
    """Recall of names that are spoken, by voices that were not heard before."""
    names = [r["text"] for r in rows if r["text"].isascii() and len(r["text"].split()) <= 3]
    rng = np.random.default_rng(seed)
    names = [names[i] for i in rng.permutation(len(names))[:700]]
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        train = [speak(folder, name, str(v)) for name in names[:500] for v in rng.permutation(VOICES[:-2])[:2]]
        parts = zip(SPOKEN, (names[:200], names[500:]), strict=True)
        tests = {part: [speak(folder, n, VOICES[i % 2 - 2]) for i, n in enumerate(of)] for part, of in parts}
        return judged(train, tests, seed, how, folder, "spectra")[1]


def speak(folder: Path, name: str, voice: str) -> dict[str, str]:
    """A file that says this name, and the name."""
    path = folder / f"{voice}-{name}.wav".replace(" ", "_").replace("/", "_")
    subprocess.run(["espeak-ng", "-v", voice, "-w", str(path), "--", name], check=True)
    return {"file": str(path), "text": name}


def extra_shots(model: Any, held: list[dict[str, str]], seed: int) -> dict[str, list[float]]:
    """Accuracy of a logistic regression on the vectors of k Twitter drawings a group (of those with 20 or more among
    the emoji that were never trained on), without and with the vector of the group's name as one more shot (Lin et al.
    2023, arXiv:2301.06267)."""
    from sklearn.linear_model import LogisticRegression

    groups = np.array([row["group"] for row in held])
    names = [g for g in sorted(set(groups)) if (groups == g).sum() >= 20]
    at = np.flatnonzero(np.isin(groups, names))
    network = model.learned.network
    vectors = np.array(answers_to(network, [held[i]["twitter"] for i in at], Run()))
    with torch.inference_mode():
        words = network.vectors_of([n.lower() for n in names]).numpy()
    found: dict[str, list[float]] = {}
    for k in (1, 2, 4, 8):
        gaps = []
        for draw in range(20):
            rng = np.random.default_rng([seed, k, draw])
            learn = np.concatenate([rng.permutation(np.flatnonzero(groups[at] == n))[:k] for n in names])
            judge = np.setdiff1d(np.arange(len(at)), learn)
            plain = LogisticRegression(C=100.0, max_iter=1000).fit(vectors[learn], groups[at][learn])
            both = LogisticRegression(C=100.0, max_iter=1000).fit(
                np.concatenate([vectors[learn], words]), np.concatenate([groups[at][learn], names])
            )
            gaps.append([float(m.score(vectors[judge], groups[at][judge])) for m in (plain, both)])
        found[str(k)] = np.mean(gaps, 0).tolist()
    return found


def pairs(rows: list[dict[str, str]], style: str) -> list[dict[str, str]]:
    """File and text."""
    return [{"file": row[style], "text": row["text"]} for row in rows]


def table(found: list[dict[str, Any]]) -> str:
    """Recall at 1 and at 5 over seeds, with the 95 % half-width."""
    lines = ["| way | " + " | ".join(f"{t}: at 1 | at 5 | back at 1" for t in TESTS) + " | minutes |"]
    lines.append("|---|" + "---:|" * (3 * len(TESTS) + 1))
    for way in dict.fromkeys(r["way"] for r in found if r["way"] != "spoken"):
        mine = [r for r in found if r["way"] == way]
        cells = [plus_minus([r[t][k] for r in mine]) for t in TESTS for k in KEYS]
        lines.append(f"| {way} | {' | '.join(cells)} | {np.median([r['seconds'] for r in mine]) / 60:.1f} |")
    by_seed = {r["seed"]: r["pixels"] for r in found if "pixels" in r}
    lines.append(f"| nearest pixels | {plus_minus(list(by_seed.values()))} |" + " - |" * (3 * len(TESTS)))
    lines += ["", "| class names as extra shots | 1 a group | 2 | 4 | 8 |", "|---|---:|---:|---:|---:|"]
    for at, name in enumerate(("without", "with")):
        cells = [plus_minus([r["shots"][k][at] for r in found if r["way"] == "linear_probe"]) for k in "1248"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if mine := [r for r in found if r["way"] == "spoken"]:
        lines += ["", "| spoken names | at 1 | at 5 | back at 1 |", "|---|---:|---:|---:|"]
        for part in SPOKEN:
            lines.append(f"| {part} | {' | '.join(plus_minus([r[part][k] for r in mine]) for k in KEYS)} |")
        minutes = np.median([r["seconds"] for r in mine]) / 60
        lines.append(
            f"| spectra, {SPOKEN[0]} | {plus_minus([r['spectra'] for r in mine])} | | |\n\n{minutes:.1f} minutes."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
