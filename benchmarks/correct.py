"""Corrections: a probe of 200 movie snippets, corrected by what a person says of the answers that were wrong.

Run: OMP_NUM_THREADS=1 python benchmarks/correct.py [--data FOLDER] [--seeds S]; --table prints what is stored. New rows
(movie: the same domain; tweets: another one) are answered until N of them were answered wrongly; those N come back
corrected, and the rows answered rightly before them confirmed. Judged on 1,000 other rows of the new domain and 600 of
the old one; beside it the head fitted anew with all of them at weight one, and the one that was not corrected. The
sentiment of vader4, above or below 0; MiniLM. Results are added to benchmarks/results/correct.json one by one.
"""

from __future__ import annotations

import argparse
import itertools
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
from raw import snippets

import acclimate
from acclimate.api.correcting import correct

RESULTS = Path(__file__).parent / "results" / "correct.json"
SIZES, DOMAINS = (10, 25, 50, 100), ("movie", "tweets")
TRAIN, OLD, NEW = 200, 600, 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    kept = Kept(RESULTS)
    if not arguments.table:
        torch.set_num_threads(1)
        pools = rows_of(Path(arguments.data))
        for seed, domain in itertools.product(range(arguments.seeds), DOMAINS):
            if not kept.has({"seed": seed, "domain": domain}):
                kept.add(*one(pools, seed, domain))
    print(table(kept.rows))


def rows_of(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Text and label of the snippets of each domain that are clear."""
    return {
        name: [{"text": r.text, "label": "above" if r.rating > 0 else "below"} for r in rows if abs(r.rating) > 0.3]
        for name, rows in snippets(folder).items()
        if name in DOMAINS
    }


def one(pools: dict[str, list[dict[str, str]]], seed: int, domain: str) -> list[dict[str, Any]]:
    """Accuracy before and after, for each number of corrections."""
    rng = np.random.default_rng(seed)
    movie = [pools["movie"][i] for i in rng.permutation(len(pools["movie"]))]
    train, old, rest = movie[:TRAIN], movie[TRAIN : TRAIN + OLD], movie[TRAIN + OLD :]
    new = rest if domain == "movie" else [pools[domain][i] for i in rng.permutation(len(pools[domain]))]
    judged, stream = new[:NEW], new[NEW:]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {part: write(folder / f"{part}.jsonl", rows) for part, rows in (("train", train), ("old", old))}
        model = acclimate.fit(
            str(paths["train"]), label="label", strategy="linear_probe", test_data=str(paths["old"]), quiet=True,
            output_dir=folder / "run", seed=seed,
        )  # fmt: skip
        said = model.predict([r["text"] for r in stream[:2000]])
        wrong = [i for i, (r, a) in enumerate(zip(stream, said, strict=False)) if r["label"] != a]
        for n in SIZES:
            given = stream[: wrong[n - 1] + 1]
            began = time.monotonic()
            done = correct(folder / "run", given, output_dir=folder / f"corrected-{n}", quiet=True, force=True)
            seconds = time.monotonic() - began
            pooled = acclimate.fit(
                [*train, *given], label="label", strategy="linear_probe", test_data=str(paths["old"]), quiet=True,
                output_dir=folder / f"pooled-{n}", seed=seed,
            )  # fmt: skip
            row = {"seed": seed, "domain": domain, "n": n, "confirmed": done.counts["confirmed"], "seconds": seconds}
            for way, one_model in (("before", model), ("corrected", done.model), ("pooled", pooled)):
                row[way] = {"new": accuracy(one_model, judged), "old": accuracy(one_model, old)}
            row["kept back"] = done.known is not None and done.known.verdict == "worse"
            found.append(row)
    return found


def accuracy(model: Any, rows: list[dict[str, str]]) -> float:
    """The share answered rightly."""
    said = model.predict([r["text"] for r in rows])
    return float(np.mean([r["label"] == a for r, a in zip(rows, said, strict=True)]))


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(found: list[dict[str, Any]]) -> str:
    """Means over seeds with 95 % half-widths."""
    three = "before | corrected | pooled"
    lines = [f"| new rows | corrected (and confirmed) | new: {three} | old: {three} | harm seen | seconds |"]
    lines.append("|---|---:|" + "---:|" * 8)
    for domain, n in itertools.product(DOMAINS, SIZES):
        mine = [r for r in found if (r["domain"], r["n"]) == (domain, n)]
        if mine:
            cells = [
                plus_minus([r[w][d] for r in mine]) for d in ("new", "old") for w in ("before", "corrected", "pooled")
            ]
            harm = f"{sum(r['kept back'] for r in mine)} of {len(mine)}"
            also = np.median([r["confirmed"] for r in mine])
            seconds = np.median([r["seconds"] for r in mine])
            lines.append(f"| {domain} | {n} (+{also:.0f}) | {' | '.join(cells)} | {harm} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
