"""Fine-tuning: acclimate against the Hugging Face Trainer on the same weights, rows, pooling, dropout and schedule.

Run: python benchmarks/finetune.py [--rounds R] [--seeds S] [--rows N] [--only full|half|partial|accuracy] [--table]
Every round runs both sides in turn in one process with one thread and takes processor time, tokenising included; a
ratio is the median of the rounds' ratios. The Trainer is given its usual settings: padding to 128, padding to the
longest of the batch, and batches of like length. Padding to 128 is timed on fewer rows and scaled.
Accuracy is paired by seed: both sides learn from the same rows and are judged on the same others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from intervals import half_width
from snippets import snippets
from torch import nn

from acclimate.backbones import load
from acclimate.catalogue import models
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "finetune.json"
SETTINGS = {"batch_size": 32, "learning_rate": 5e-5, "head_learning_rate": 5e-5, "warmup_steps": 0.1}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=384)
    parser.add_argument("--only", choices=("full", "half", "partial", "accuracy"))
    parser.add_argument("--table", action="store_true", help="show the results of the last run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not arguments.table:
        train, test = snippets(arguments.rows, 1200)
        jobs = {"full": full, "half": half, "partial": partial, "accuracy": accuracy}
        for name, job in jobs.items():
            if arguments.only in (None, name):
                rounds = arguments.seeds if name == "accuracy" else arguments.rounds
                found[name] = job(train, test, rounds)
                found["threads"], found["load"] = 1, round(os.getloadavg()[0], 1)
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


# -- the two sides -----------------------------------------------------------------------------------------------------


def ours(name: str, data: Data, seed: int, epochs: int, pooling: str, dropout: float | None, **more: Any) -> Any:
    """Seconds of processor time, and the fitted model."""
    backbone = load("minilm", pooling=pooling).requires_grad_(False)
    task = TASKS["classify"]
    problem = Problem(task, task.decoder((0, 1), "int"), backbone, Store(backbone, Run()))
    _ = backbone.packing  # type: ignore[attr-defined]
    settings = {**SETTINGS, "num_train_epochs": epochs, "dropout": dropout, **more}
    strategy = named(name, settings)[1]
    start = time.process_time()
    fitted = strategy.fit(problem, Splits(data), Run(seed=seed))
    return time.process_time() - start, fitted


class Pooled(nn.Module):
    """What a careful user of the Trainer writes: the same encoder, the same pooling, a linear layer."""

    def __init__(self, folder: str, pooling: str, dropout: float | None) -> None:
        from transformers import AutoConfig, AutoModel

        super().__init__()
        config = AutoConfig.from_pretrained(folder)
        if dropout is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        self.encoder = AutoModel.from_pretrained(folder, config=config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, 2)
        self.pooling = pooling
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None, token_type_ids: Any = None) -> Any:
        """Loss and logits, as the Trainer wants them."""
        hidden = self.encoder(input_ids, attention_mask, token_type_ids=token_type_ids).last_hidden_state
        weight = attention_mask.unsqueeze(-1).float()
        pooled = hidden[:, 0] if self.pooling == "cls" else (hidden * weight).sum(1) / weight.sum(1)
        logits = self.head(pooled)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits} if loss is not None else {"logits": logits}


def trainers(
    data: Data,
    seed: int,
    epochs: int,
    pooling: str,
    dropout: float | None,
    padding: str,
    top: int | None = None,
    bf16: bool = False,
) -> Any:
    """Seconds of processor time of `Trainer.train()` and of tokenising, and the trained module with its tokeniser."""
    import tempfile

    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

    set_seed(seed)
    folder = str(models.pull("minilm"))
    model, tokenizer = Pooled(folder, pooling, dropout), AutoTokenizer.from_pretrained(folder)
    if top is not None:
        for parameter in model.encoder.parameters():
            parameter.requires_grad_(False)
        for layer in model.encoder.encoder.layer[-top:]:
            layer.requires_grad_(True)
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            place, per_device_train_batch_size=32, num_train_epochs=epochs, learning_rate=5e-5, warmup_steps=0.1,
            weight_decay=0.01, seed=seed, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            use_cpu=True, bf16=bf16, **({"train_sampling_strategy": "group_by_length"} if padding == "grouped" else {}),
        )  # fmt: skip
        start = time.process_time()
        how = {"padding": "max_length", "max_length": 128} if padding == "128" else {}
        tokens = tokenizer(list(data.inputs), truncation=True, **how)
        rows = [{**{k: v[i] for k, v in tokens.items()}, "labels": y} for i, y in enumerate(data.labels or ())]
        trainer = Trainer(model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
        trainer.train()
        return time.process_time() - start, model, tokenizer


# -- the rows of the table ---------------------------------------------------------------------------------------------


def full(train: Data, test: Data, rounds: int) -> dict[str, Any]:
    """Full fine-tuning, 2 epochs of short mixed lengths."""
    few = train.take(range(96))
    cases = {"mean pooling": ("mean", None), "cls pooling": ("cls", None), "cls pooling, dropout off": ("cls", 0.0)}
    found: dict[str, Any] = {"rows": len(train), "epochs": 2}
    for label, (pooling, dropout) in cases.items():
        ratios: dict[str, list[float]] = {"128": [], "dynamic": [], "grouped": []}
        for r in range(rounds):
            mine, _ = ours("full", train, r, 2, pooling, dropout)
            for padding in ratios:
                part = few if padding == "128" else train
                theirs = trainers(part, r, 2, pooling, dropout, padding)[0] * len(train) / len(part)
                ratios[padding].append(round(theirs / mine, 2))
            print("full", label, r, f"{mine:.1f} s", {k: v[-1] for k, v in ratios.items()}, flush=True)
        found[label] = {k: {"times as fast": statistics.median(v), "rounds": v} for k, v in ratios.items()}
    return found


def half(train: Data, test: Data, rounds: int) -> dict[str, Any]:
    """Products in bf16, mean pooling, against the Trainer in fp32 and in bf16, padding to the longest."""
    ratios: dict[str, list[float]] = {"our fp32": [], "Trainer, fp32": [], "Trainer, bf16": []}
    for r in range(rounds):
        mine, _ = ours("full", train, r, 2, "mean", None, mixed_precision="bf16")
        ratios["our fp32"].append(round(ours("full", train, r, 2, "mean", None, mixed_precision="no")[0] / mine, 2))
        for bf16 in (False, True):
            theirs = trainers(train, r, 2, "mean", None, "dynamic", bf16=bf16)[0]
            ratios["Trainer, bf16" if bf16 else "Trainer, fp32"].append(round(theirs / mine, 2))
        print("half", r, f"{mine:.1f} s", {k: v[-1] for k, v in ratios.items()}, flush=True)
    return {k: {"times as fast": statistics.median(v), "rounds": v} for k, v in ratios.items()}


def partial(train: Data, test: Data, rounds: int) -> dict[str, Any]:
    """The top 3 and the top 1 of 6 blocks, 10 epochs; the Trainer with the same layers frozen, dynamic padding."""
    few = train.take(range(192))
    found: dict[str, Any] = {"rows": len(few), "epochs": 10}
    for pooling in ("mean", "cls"):
        for top in (3, 1):
            ratios = []
            for r in range(rounds):
                mine, _ = ours("partial", few, r, 10, pooling, None, moves=f"top:{top}", start="zero")
                theirs = trainers(few, r, 10, pooling, None, "dynamic", top)[0]
                ratios.append(round(theirs / mine, 2))
                print("partial", pooling, top, r, f"{mine:.1f} s", ratios[-1], flush=True)
            found[f"top {top}, {pooling} pooling"] = {"times as fast": statistics.median(ratios), "rounds": ratios}
    return found


def accuracy(train: Data, test: Data, seeds: int) -> dict[str, Any]:
    """Paired accuracy, ours less the Trainer's (padding to the longest), mean pooling, over seeds."""
    truth = np.array(test.labels)
    pairs = []
    for seed in range(seeds):
        _, fitted = ours("full", train, seed, 2, "mean", None)
        mine = fitted.task.decide(fitted.outputs(test.inputs, Run()), fitted.decoder)
        _, model, tokenizer = trainers(train, seed, 2, "mean", None, "dynamic")
        model.eval()
        theirs = []
        with torch.inference_mode():
            for i in range(0, len(test), 64):
                batch = tokenizer(list(test.inputs[i : i + 64]), truncation=True, padding=True, return_tensors="pt")
                theirs += model(**batch)["logits"].argmax(1).tolist()
        pairs.append((float((mine == truth).mean()), float((np.array(theirs) == truth).mean())))
        print("accuracy", seed, pairs[-1], flush=True)
    gaps = [a - b for a, b in pairs]
    half = half_width(gaps) if len(gaps) > 1 else None
    return {
        "test rows": len(test), "seeds": seeds, "ours": [a for a, _ in pairs], "trainer": [b for _, b in pairs],
        "mean difference": statistics.mean(gaps), "half of its 95 % t interval": half,
    }  # fmt: skip


if __name__ == "__main__":
    main()
