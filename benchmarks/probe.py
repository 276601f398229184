"""A linear probe with everything it needs, against what people write today, and few-shot against SetFit.

Run: python benchmarks/probe.py [--rows N] [--rounds R] [--only probe|fewshot] [--table]
Peers: the loop of the tutorials, which runs the frozen encoder anew every epoch (padded to the longest of the batch;
one epoch is timed on 640 rows, and scaled); `SentenceTransformer.encode` with LogisticRegressionCV; SetFit with its
defaults. Where sentence-transformers or setfit is missing, its row is left out. All sides in turn in one process, one
thread, processor time, from texts to a fitted head; medians of the rounds' ratios. Accuracy on 1,500 other rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from snippets import snippets

from acclimate.backbones import load
from acclimate.catalogue import models
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "probe.json"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("probe", "fewshot"))
    parser.add_argument("--table", action="store_true", help="show the results of the last run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not arguments.table:
        train, test = snippets(arguments.rows, 1500)
        if arguments.only in (None, "probe"):
            found["probe"] = probe(train, test, arguments.rounds)
        if arguments.only in (None, "fewshot"):
            found["few shots"] = few_shots(train, test, 5)
        found["threads"], found["load"] = 1, round(os.getloadavg()[0], 1)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def ours(train: Data, test: Data) -> tuple[float, float]:
    """Seconds from texts to a head whose penalty was chosen, and accuracy."""
    backbone = load("minilm").requires_grad_(False)
    _ = backbone.packing  # type: ignore[attr-defined]
    task = TASKS["classify"]
    start = time.process_time()
    problem = Problem(task, task.decoder((0, 1), "int"), backbone, Store(backbone, Run()))
    fitted = named("linear_probe")[1].fit(problem, Splits(train), Run())
    seconds = time.process_time() - start
    return seconds, accuracy(fitted.task.decide(fitted.outputs(test.inputs, Run()), fitted.decoder), test)


def accuracy(answers: Any, test: Data) -> float:
    return float((np.asarray(answers) == np.array(test.labels)).mean())


def tutorial(train: Data, rows: int = 640) -> float:
    """Seconds of one epoch over all rows, scaled from `rows`."""
    from transformers import AutoModel, AutoTokenizer

    folder = str(models.pull("minilm"))
    encoder, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    head = torch.nn.Linear(384, 2)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    start = time.process_time()
    for i in range(0, rows, 32):
        batch = tokenizer(list(train.inputs[i : i + 32]), truncation=True, padding=True, return_tensors="pt")
        with torch.no_grad():
            hidden = encoder(**batch).last_hidden_state
        weight = batch["attention_mask"].unsqueeze(-1).float()
        pooled = (hidden * weight).sum(1) / weight.sum(1)
        F.cross_entropy(head(pooled), torch.tensor((train.labels or ())[i : i + 32])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - start) * len(train) / rows


def encode_and_cv(train: Data, test: Data) -> tuple[float, float] | None:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return None
    from sklearn.linear_model import LogisticRegressionCV

    peer = SentenceTransformer(str(models.pull("minilm")), device="cpu")
    start = time.process_time()
    features = peer.encode(list(train.inputs))
    head = LogisticRegressionCV(Cs=10, cv=5, max_iter=1000).fit(features, np.array(train.labels))
    return time.process_time() - start, accuracy(head.predict(peer.encode(list(test.inputs))), test)


def probe(train: Data, test: Data, rounds: int) -> dict[str, Any]:
    """All rows, the penalty chosen."""
    loops: dict[int, list[float]] = {3: [], 20: []}
    against, seconds, right = [], [], {}
    for r in range(rounds):
        mine, right["ours"] = ours(train, test)
        seconds.append(round(mine, 1))
        epoch = tutorial(train)
        for epochs, ratios in loops.items():
            ratios.append(round(epochs * epoch / mine, 2))
        peer = encode_and_cv(train, test)
        if peer is not None:
            against.append(round(peer[0] / mine, 2))
            right["encode + LogisticRegressionCV"] = peer[1]
        print("probe", r, seconds[-1], {k: v[-1] for k, v in loops.items()}, against[-1:], flush=True)
    found: dict[str, Any] = {"rows": len(train), "seconds": seconds, "accuracy": right}
    for epochs, ratios in loops.items():
        found[f"tutorial loop, {epochs} epochs"] = {"times as fast": statistics.median(ratios), "rounds": ratios}
    if against:
        found["encode + LogisticRegressionCV"] = {"times as fast": statistics.median(against), "rounds": against}
    return found


def few_shots(train: Data, test: Data, seeds: int) -> dict[str, Any]:
    """8 and 64 rows a class against SetFit's defaults, paired by seed."""
    try:
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments
    except ImportError as error:
        return {"left out": str(error)}
    labels, found = np.array(train.labels), {}
    for shots in (8, 64):
        ratios, gaps = [], []
        for seed in range(seeds if shots == 8 else 2):
            rng = np.random.default_rng(seed)
            at = np.concatenate([rng.choice(np.flatnonzero(labels == c), shots, replace=False) for c in (0, 1)])
            few = train.take(at)
            mine, right = ours(few, test)
            peer = SetFitModel.from_pretrained(str(models.pull("minilm")))
            rows = Dataset.from_dict({"text": list(few.inputs), "label": list(few.labels or ())})
            start = time.process_time()
            with tempfile.TemporaryDirectory() as place:
                arguments = TrainingArguments(output_dir=place, seed=seed, report_to=[], save_strategy="no")
                Trainer(peer, arguments, train_dataset=rows).train()
            theirs = time.process_time() - start
            ratios.append(round(theirs / mine, 1))
            gaps.append(right - accuracy(peer.predict(list(test.inputs)), test))
            print("few shots", shots, seed, f"{mine:.2f} s", ratios[-1], f"{gaps[-1]:+.3f}", flush=True)
        found[f"2 x {shots}"] = {
            "times as fast": statistics.median(ratios), "rounds": ratios,
            "accuracy less SetFit's, by seed": [round(g, 4) for g in gaps],
        }  # fmt: skip
    return found


if __name__ == "__main__":
    main()
