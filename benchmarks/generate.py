"""Generation: English to French on what Django says, by SmolLM2 (135 million weights) before and after tuning.

Run: OMP_NUM_THREADS=1 python benchmarks/generate.py [--data FILE] [--seeds S] [--rows N] [--test M] [--ways NAME,...];
--table prints what is stored. The data: acclimate datasets pull django-fr. A seed draws M different messages to be
judged on and N others to learn from (with the rows to choose by). Prompts of zero_shot and few_shot (8 examples) are in
the model's chat template; what is tuned learns "English: ... French:", which is shorter. Beside: the message itself,
and the French of the most similar training message. Results are added to benchmarks/results/generate.json one by one.
--packing times the loss and its gradient (the last two blocks move), packed and padded, in seconds of the processor.
"""

from __future__ import annotations

import argparse
import csv
import itertools
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
from acclimate.backbones import load
from acclimate.backbones.decoding import Decoding
from acclimate.backbones.prompts import Prompt
from acclimate.strategies.moves import release
from acclimate.structured.generate_network import GenerateNetwork
from acclimate.train.batches import shuffled

RESULTS = Path(__file__).parent / "results" / "generate.json"
USUAL = "~/.cache/acclimate/datasets/django-fr/en-fr.csv"
METRICS = ("chrf", "bleu", "rouge_l", "exact_match", "perplexity")
PLAIN = {"template": "English: {input}\nFrench:", "chat": False}
CHAT = {"template": "Translate from English to French: {input}", "shots": 8}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=USUAL)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", type=int, default=470)
    parser.add_argument("--test", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--ways", default="zero_shot,few_shot,lora,full")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--packing", action="store_true")
    arguments = parser.parse_args()
    if arguments.packing:
        packing(different(Path(arguments.data).expanduser()))
        return
    kept = Kept(RESULTS)
    if not arguments.table:
        torch.set_num_threads(1)
        rows = different(Path(arguments.data).expanduser())
        seeds = [int(s) for s in arguments.seeds.split(",")]
        same = {"rows": arguments.rows, "test": arguments.test, "epochs": arguments.epochs}
        turns = itertools.product(arguments.ways.split(","), seeds)
        for key in kept.missing({"way": way, "seed": seed, **same} for way, seed in turns):
            kept.add({**key, **one(rows, key)})
    print(table(kept.rows))


def packing(rows: list[dict[str, str]], repeats: int = 3) -> None:
    """Three batches of eight messages: as training makes them, of like length, and as they come."""
    torch.set_num_threads(1)
    writer: Any = load("smollm2", writes=True)
    release(writer, "top:2")
    network = GenerateNetwork(writer, Prompt(str(PLAIN["template"]), False), Decoding(), 30.0)
    encoded = network.encode([r["en"] for r in rows], [r["fr"] for r in rows])
    costs = [row.cost for row in encoded]
    drawn = np.random.default_rng(0).permutation(len(rows))[:24].reshape(3, 8).tolist()
    for name, batches in (("of like length", shuffled(costs, 8, 0, 0)[:3]), ("as they come", drawn)):
        took: dict[bool, list[float]] = {False: [], True: []}
        for writer.padded in (False, True) * repeats:
            began = time.process_time()
            for at in batches:
                network(network.collate([encoded[i] for i in at])).mean().backward()
            took[writer.padded].append(time.process_time() - began)
        tokens = sum(costs[i] for at in batches for i in at)
        padded = sum(len(at) * max(costs[i] for i in at) for at in batches)
        packed_s, padded_s = (f"{min(took[p]):.1f} to {max(took[p]):.1f} s" for p in (False, True))
        print(f"{name}: {tokens:,} tokens packed in {packed_s}, {padded:,} padded in {padded_s}", flush=True)


def different(path: Path) -> list[dict[str, str]]:
    """The messages, each English one once."""
    with path.open(encoding="utf-8", newline="") as file:
        return list({row["en"]: {"en": row["en"], "fr": row["fr"]} for row in csv.DictReader(file)}.values())


def one(rows: list[dict[str, str]], key: dict[str, Any]) -> dict[str, Any]:
    """Every metric on the messages held out, with its interval, of one way and of what does without transfer."""
    seed, way = key["seed"], key["way"]
    order = np.random.default_rng(seed).permutation(len(rows))
    test = [rows[i] for i in order[: key["test"]]]
    train = [rows[i] for i in order[key["test"] : key["test"] + key["rows"]]]
    settings: dict[str, Any] = {"max_new_tokens": 48, "draw_seed": seed}
    tuned = way not in ("zero_shot", "few_shot")
    settings |= {**PLAIN, "num_train_epochs": key["epochs"]} if tuned else CHAT
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        model = acclimate.fit(
            train, task="generate", label="fr", text_column="en", test_data=test, model="smollm2", strategy=way,
            seed=seed, settings=settings, output_dir=Path(folder) / "run",
        )  # fmt: skip
        assert model.scores is not None
        numbers = {name: _numbers(model.scores.estimates[name]) for name in METRICS}
        beside = {name: value["value"] for name, value in model.scores.baseline.items()}
        return {"metrics": numbers, "baselines": beside, "seconds": round(time.monotonic() - began)}


def _numbers(estimate: Any) -> list[float | None]:
    return [None if x is None else round(float(x), 4) for x in (estimate.value, estimate.low, estimate.high)]


def table(found: list[dict[str, Any]]) -> str:
    """Mean over seeds with the 95 % half-width; in brackets the interval over messages of the first seed's chrF."""
    lines = ["| pairs | way | seeds | chrF | of the first seed | BLEU | ROUGE-L | exact | perplexity | minutes |"]
    lines.append("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for rows in dict.fromkeys(r["rows"] for r in found):
        here = [r for r in found if r["rows"] == rows]
        for name in ("copy", "nearest"):
            values = list({r["seed"]: r["baselines"][name] for r in here}.values())
            lines.append(f"| {rows} | {name} | {len(values)} | {plus_minus(values)} | | | | | | |")
        for way in dict.fromkeys(row["way"] for row in here):
            mine = [r for r in here if r["way"] == way]
            cells = [plus_minus([r["metrics"][m][0] for r in mine], 1 if m == "perplexity" else 3) for m in METRICS]
            _, low, high = mine[0]["metrics"]["chrf"]
            minutes = f"{np.median([r['seconds'] for r in mine]) / 60:.1f}"
            first = f"| {rows} | {way} | {len(mine)} | {cells[0]} | [{low:.3f}, {high:.3f}]"
            lines.append(f"{first} | {' | '.join(cells[1:])} | {minutes} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
