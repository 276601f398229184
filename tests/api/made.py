"""Rows whose words say their label, and files of them."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import acclimate
import tiny_models as tm
from acclimate.interrupt import Interrupted
from acclimate.train import loop

Fit = Callable[..., acclimate.Model]
TUNED = {"strategy": "full", "settings": {"num_train_epochs": 2, "learning_rate": 1e-3}, "checkpoint_every": 0.0}


def sentences(labels: Sequence[Any], seed: int = 0, words: dict[Any, Sequence[str]] | None = None) -> list[str]:
    """One text a label, each with two words that only its class has; no two are the same after folding."""
    rng = np.random.default_rng(seed)
    classes = sorted(set(labels), key=str)
    share = dict(zip(classes, np.array_split(np.array([*tm.GOOD, *tm.BAD]), len(classes)), strict=True))
    share |= words or {}
    texts = []
    for i, label in enumerate(labels):
        chosen = [*rng.choice(share[label], 2, replace=False), *rng.choice(tm.NEUTRAL, 3)]
        texts.append(" ".join([*rng.permutation(chosen), str(seed * 1000 + i)]))
    return texts


def rows(
    n: int = 40, labels: Sequence[Any] = ("bad", "good"), seed: int = 0, **columns: Sequence[Any]
) -> dict[str, Any]:
    """{"text": ..., "label": ...} with the labels in turn, and any further columns."""
    given = [labels[i % len(labels)] for i in range(n)]
    return {"text": sentences(given, seed), "label": given, **{k: list(v) for k, v in columns.items()}}


def write_csv(path: Path, table: dict[str, Sequence[Any]], delimiter: str = ",") -> Path:
    """A CSV file of these columns; None is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def report_of(run: Any) -> dict[str, Any]:
    """What the report of a run holds."""
    found: dict[str, Any] = json.loads((Path(str(run)) / "report.json").read_text(encoding="utf-8"))
    return found


def write_jsonl(path: Path, table: dict[str, Sequence[Any]]) -> Path:
    """One JSON object a line."""
    names = list(table)
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in zip(*table.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_json(path: Path) -> Any:
    """The JSON in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def stop_at_step(monkeypatch: pytest.MonkeyPatch, number: int, stop: Callable[[], Any]) -> list[int]:
    """Call `stop` inside the given step of training; the list counts steps."""
    original, steps = loop._step, [0]

    def step(*args: Any) -> Any:
        steps[0] += 1
        if steps[0] == number:
            stop()
        return original(*args)

    monkeypatch.setattr(loop, "_step", step)
    return steps


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def result(run: Path) -> dict[str, bytes]:
    """What must be the same: weights, history, numbers."""
    names = (
        "metrics.json",
        "history.jsonl",
        "audit.json",
        "model/backbone/model.safetensors",
        "model/head.safetensors",
    )
    return {name: (run / name).read_bytes() for name in names}


def stopped(fit: Fit, monkeypatch: pytest.MonkeyPatch, data: Any, *, at: int = 2, **given: Any) -> None:
    """Fit, and be stopped by Ctrl-C in the given step of training."""
    with monkeypatch.context() as patch:
        stop_at_step(patch, at, ctrl_c)
        with pytest.raises(Interrupted):
            fit(data, **given)
