"""On one GPU: frozen features against sentence-transformers, fine-tuning against the Hugging Face Trainer.

Run: python benchmarks/gpu.py [--model FOLDER] [--texts FILE] [--rounds R] [--wide]
It needs a GPU, sentence-transformers, and accelerate. FILE has one text a line; without it the snippets of reviews are
taken. `--wide` adds a network of BERT-large's shape with weights at random (its speed is that of a trained one).

Every round runs both sides in turn in one process and takes wall time until the GPU is idle, tokenising included; a
ratio is the median of the rounds' ratios. The Trainer pads to the longest of a batch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finetune import Pooled

from acclimate.backbones import load
from acclimate.backbones.text import TextBackbone
from acclimate.data.rows import Data
from acclimate.features import Store, extract
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "gpu.json"
RUN = Run(device="cuda", progress=Progress(quiet=True), num_workers=4)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--texts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wide", action="store_true")
    asked = parser.parse_args()
    texts = lines(asked.texts)
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        load(asked.model).save(folder)
        models = {"MiniLM-L6": folder}
        if asked.wide:
            models["BERT-large's shape"] = wide(folder, Path(place) / "large")
        for name, model in models.items():
            for what, measured in (("features", features), ("fine-tuning", tuning)):
                found[f"{name}: {what}"] = measured(model, texts[:4000], asked.rounds)
                print(name, what, json.dumps(found[f"{name}: {what}"]), flush=True)
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def lines(path: str | None) -> list[str]:
    if path is not None:
        return [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    from snippets import snippets

    rows = snippets(10_000, 0)[0]
    return [str(text) for text in rows.inputs]


def wide(small: Path, folder: Path) -> Path:
    """The same tokeniser before a network of BERT-large's shape."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(small)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
        intermediate_size=4096,
    )  # fmt: skip
    torch.manual_seed(0)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    torch.cuda.synchronize()
    start = time.perf_counter()
    out = call()
    torch.cuda.synchronize()
    return time.perf_counter() - start, out


def features(folder: Path, texts: list[str], rounds: int) -> dict[str, Any]:
    """Times as fast as `encode` with its defaults, and the largest cosine error against it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers import models as parts

    body = parts.Transformer(str(folder), max_seq_length=512)
    peer = SentenceTransformer(modules=[body, parts.Pooling(body.get_word_embedding_dimension())], device="cuda")
    plain = load(str(folder), pooling="mean", max_length=512)
    assert isinstance(plain, TextBackbone)
    kinds: dict[str, Any] = {}
    for name in ("fp32", "fp32, padded", "bf16"):
        kinds[name] = plain.with_settings(replace(plain.text, precision=name[:4]))
        kinds[name].padded = name.endswith("padded")
        extract(kinds[name], texts[:64], RUN)
    peer.encode(texts[:64], show_progress_bar=False)
    ratios: dict[str, list[float]] = {name: [] for name in kinds}
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        theirs, expected = seconds(lambda: peer.encode(texts, show_progress_bar=False))
        for name, backbone in kinds.items():
            mine, got = seconds(lambda backbone=backbone: extract(backbone, texts, RUN))  # type: ignore[misc]
            ratios[name].append(round(theirs / mine, 2))
            rates[name].append(round(len(texts) / mine))
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
    error = float((1 - (got * expected).sum(1) / norms).max())
    return {
        name: {"times as fast": statistics.median(r), "rounds": r, "texts a second": statistics.median(rates[name])}
        for name, r in ratios.items()
    } | {"cosine error of bf16, max": error, "texts": len(texts)}


def tuning(folder: Path, texts: list[str], rounds: int, epochs: int = 2) -> dict[str, Any]:
    """Times as fast as the Trainer in fp32 and in bf16, ours as its trial chooses and in each way."""
    data = Data(tuple(texts), tuple(int(len(text) % 2) for text in texts))
    ways: dict[str, dict[str, Any]] = {
        "as chosen": {},
        "fp32": {"mixed_precision": "no"},
        "bf16": {"mixed_precision": "bf16"},
    }
    ours(folder, data.take(range(64)), 1)
    theirs(folder, data.take(range(64)), 1, bf16=False)
    found: dict[str, Any] = {"rows": len(texts), "epochs": epochs}
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for bf16 in (False, True):
            took = seconds(lambda bf16=bf16: theirs(folder, data, epochs, bf16=bf16))[0]  # type: ignore[misc]
            times.setdefault("Trainer, bf16" if bf16 else "Trainer, fp32", []).append(took)
        for name, more in ways.items():
            took, model = seconds(lambda more=more: ours(folder, data, epochs, **more))  # type: ignore[misc]
            times.setdefault(name, []).append(took)
            found[f"{name}: notes"] = list(model.notes)
    for name in ways:
        for peer in ("Trainer, fp32", "Trainer, bf16"):
            pairs = zip(times[peer], times[name], strict=True)
            found[f"{name} against {peer}"] = round(statistics.median(t / o for t, o in pairs), 2)
    return found | {f"{name}: seconds": [round(t, 2) for t in took] for name, took in times.items()}


def ours(folder: Path, data: Data, epochs: int, **more: Any) -> Any:
    backbone = load(str(folder), pooling="mean").requires_grad_(False)
    task = TASKS["classify"]
    problem = Problem(task, task.decoder((0, 1), "int"), backbone, Store(backbone, RUN))
    settings = {"batch_size": 32, "num_train_epochs": epochs, **more}
    return named("full", settings)[1].fit(problem, Splits(data), RUN)


def theirs(folder: Path, data: Data, epochs: int, *, bf16: bool) -> None:
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    model, tokenizer = Pooled(str(folder), "mean", None), AutoTokenizer.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            place, per_device_train_batch_size=32, num_train_epochs=epochs, learning_rate=5e-5, bf16=bf16,
            weight_decay=0.01, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        tokens = tokenizer(list(data.inputs), truncation=True)
        rows = [{**{k: v[i] for k, v in tokens.items()}, "labels": y} for i, y in enumerate(data.labels or ())]
        Trainer(model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer)).train()


if __name__ == "__main__":
    main()
