"""Matching pictures and texts: emoji of one drawing style and their names, tested on another style.

Run: OMP_NUM_THREADS=1 python benchmarks/match.py --data FOLDER [--seeds S] [--ways NAME,...]; FOLDER holds google/ and
twitter/, unpacked from the npm packages emoji-datasource-google and emoji-datasource-twitter 16.0.0 (emoji.json, img/).
A seed draws 300 emoji; their Google and Twitter drawings are never trained on. Trained on the Google drawings of all
others and their names. Tests, each among the 300 names: Google drawings (same style, new things), Twitter drawings
(another style, new things), and Twitter drawings of 300 of the emoji that were trained on (another style, known
things). Also: few-shot classification of the ten largest groups of emoji with class names as extra shots. Results are
added to benchmarks/results/match.json one by one; a run that is cut off goes on; --table prints what is stored.
"""

from __future__ import annotations

import argparse
import json
import os
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
}
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
                    kept.add({**key, **one(rows, seed, WAYS[way])})
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
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model = acclimate.fit(
            pairs(rest, "google"), task="match", test_data=tests["google, new"], seed=seed, quiet=True,
            output_dir=Path(folder) / "run", **how,
        )  # fmt: skip
        seconds = round(time.monotonic() - began)
        assert model.scores is not None
        found: dict[str, Any] = {"pixels": next(iter(model.scores.baseline.values()))["value"], "seconds": seconds}
        for name, data in tests.items():
            scores = model.evaluate(data)
            keys = ("recall_at_1", "recall_at_5", "back_recall_at_1")
            found[name] = {key: scores.estimates[key].value for key in keys}
        found["shots"] = extra_shots(model, held, seed)
    return found


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
    for way in dict.fromkeys(r["way"] for r in found):
        mine = [r for r in found if r["way"] == way]
        cells = [
            plus_minus([r[t][k] for r in mine])
            for t in TESTS
            for k in ("recall_at_1", "recall_at_5", "back_recall_at_1")
        ]
        lines.append(f"| {way} | {' | '.join(cells)} | {np.median([r['seconds'] for r in mine]) / 60:.1f} |")
    by_seed = {r["seed"]: r["pixels"] for r in found}
    lines.append(f"| nearest pixels | {plus_minus(list(by_seed.values()))} |" + " - |" * (3 * len(TESTS)))
    lines += ["", "| class names as extra shots | 1 a group | 2 | 4 | 8 |", "|---|---:|---:|---:|---:|"]
    for at, name in enumerate(("without", "with")):
        cells = [plus_minus([r["shots"][k][at] for r in found if r["way"] == "linear_probe"]) for k in "1248"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
