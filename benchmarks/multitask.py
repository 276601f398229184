"""Several label columns at once against each alone: snippets of vader4 through MiniLM.

Run: OMP_NUM_THREADS=1 python benchmarks/multitask.py --data FOLDER [--seeds S] [--ways NAME,...] (folder vader4);
--table prints the results of the last run. Three label columns of one text: its kind (tweets, movie, amazon, nyt), its
sentiment (above 0 or below) and its valence (the mean of 20 raters, a number); "few": the same rows, of which a tenth
know the valence. A seed draws TRAIN rows and TEST others. Every number is the paired difference of the model that
learned all columns together less one that learned the column alone, both with the same rows, settings and seed. Results
are added to benchmarks/results/multitask.json one by one; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from intervals import half_width
from kept import Kept
from raw import snippets

import acclimate

RESULTS = Path(__file__).parent / "results" / "multitask.json"
TRAIN, TEST, LABELS = 300, 400, ("kind", "sentiment", "valence")
WAYS: dict[str, dict[str, Any]] = {
    "linear_probe": {"strategy": "linear_probe"},
    "partial": {"strategy": "partial", "num_train_epochs": 5},
    "full": {"strategy": "full", "num_train_epochs": 3},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--known", default="all,few")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS)
    if not arguments.table:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        rows = texts(Path(arguments.data))
        turns = itertools.product(range(arguments.seeds), arguments.ways.split(","), arguments.known.split(","))
        for key in kept.missing({"seed": seed, "way": way, "known": known} for seed, way, known in turns):
            kept.add({**key, **one(rows, **key)})
    print(table(kept.rows))


def texts(folder: Path) -> list[dict[str, Any]]:
    """Text and labels of all snippets."""
    return [
        {"text": row.text, "kind": kind, "sentiment": "above" if row.rating > 0 else "below", "valence": row.rating}
        for kind, rows in snippets(folder).items()
        for row in rows
    ]


def one(rows: list[dict[str, Any]], seed: int, way: str, known: str) -> dict[str, Any]:
    """One draw: all columns together, and each alone."""
    order = np.random.default_rng(seed).permutation(len(rows))
    train = [dict(rows[i]) for i in order[:TRAIN]]
    test = [rows[i] for i in order[TRAIN : TRAIN + TEST]]
    if known == "few":
        for row in train[TRAIN // 10 :]:
            row["valence"] = None
    folder = Path(tempfile.mkdtemp())
    usual = {"model": "minilm", "seed": seed, "quiet": True, "max_length": 48, "test_data": test, **WAYS[way]}
    began = time.process_time()
    try:
        several = {"label": LABELS, "task": "valence=regress", "single_task": True}
        model = acclimate.fit(train, **several, **usual, output_dir=folder / "run")
        scores = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
        if way == "linear_probe" and not seed:  # the product says that there is no difference: here it is looked at
            said = model.predict_table(test)[1]
            scores = {**scores, "same": [same(train, test, usual, name, said, folder) for name in LABELS]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {**told(scores), "cpu_minutes": round((time.process_time() - began) / 60, 2)}


def same(
    train: list[dict[str, Any]], test: list[dict[str, Any]], usual: dict[str, Any], name: str, said: Any, folder: Path
) -> float:
    """How much the answers to one column differ together with the others and alone: a share of rows, or a number."""
    mine = [{"text": row["text"], name: row[name]} for row in train if row[name] is not None]
    judged = [{"text": row["text"], name: row[name]} for row in test]
    task = "regress" if name == "valence" else "classify"
    more = {**usual, "test_data": judged, "output_dir": folder / name}
    alone = acclimate.fit(mine, label=name, task=task, **more).predict_table(test)[1]["prediction"]
    ours = said[f"prediction_{name}"]
    if name == "valence":
        return float(np.abs(np.array(ours) - np.array(alone)).max())
    return float(np.mean([a != b for a, b in zip(ours, alone, strict=True)]))


def told(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a run that are kept."""
    out: dict[str, Any] = {"same": scores["same"]} if "same" in scores else {}
    for name, part in (("skill", scores), *scores["columns"].items()):
        alone = part["baseline"].get("single_task")
        out[name] = {"metric": part["metric"], "together": part["value"], "tfidf": part["baseline"]["tfidf"]["value"]}
        if alone is not None:
            gap = alone["difference"]
            out[name] |= {"alone": alone["value"], "difference": [gap["value"], gap["low"], gap["high"]]}
    return out


def table(found: list[dict[str, Any]]) -> str:
    """Means over seeds with Student's interval of the difference."""
    lines = ["| way | valence known | column | seeds | TF-IDF | alone | together | together less alone |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for way, known, name in itertools.product(WAYS, ("all", "few"), ("kind", "sentiment", "valence", "skill")):
        rows = [row[name] for row in found if row["way"] == way and row["known"] == known]
        if not rows:
            continue
        mean = {key: np.mean([row[key] for row in rows]) for key in ("tfidf", "together")}
        gaps = [row["difference"][0] for row in rows if "difference" in row]
        alone, text = "as together", "0, each is fitted alone"
        if gaps:
            alone = f"{np.mean([row['alone'] for row in rows]):.3f}"
            text = f"{np.mean(gaps):+.3f}"
            if len(gaps) > 1:
                half = half_width(gaps)
                text += f" [{np.mean(gaps) - half:+.3f}, {np.mean(gaps) + half:+.3f}]"
        cells = (way, known, f"{name} ({rows[0]['metric']})", len(rows), f"{mean['tfidf']:.3f}", alone,
                 f"{mean['together']:.3f}", text)  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
