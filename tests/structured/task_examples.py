"""A tiny model and a few rows for every structured task, and one call that fits them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import acclimate
import tiny_models as tm
import tiny_scenes as scenes
import tiny_series as series
import tiny_sounds as ts
from acclimate.api.structured_model import StructuredModel

NAMES = {"person": ["happy", "warm", "kind"], "place": ["river", "street", "garden"]}


@dataclass(frozen=True)
class Example:
    """What a contract needs of a task."""

    train: Path
    test: Path
    model: str
    strategy: str  # one that moves part of the backbone
    settings: dict[str, Any]
    new: list[Any]  # inputs as Python gives them
    columns: dict[str, Any]


def tags(folder: Path, rows: int = 40, seed: int = 0, name: str = "train") -> Path:
    """Sentences of known words, two kinds of which are entities."""
    rng = np.random.default_rng(seed)
    path = folder / f"{name}.jsonl"
    lines = []
    for _ in range(rows):
        words, found = [], []
        for _ in range(int(rng.integers(2, 7))):
            kind = rng.choice(["person", "place", "O", "O"])
            words.append(str(rng.choice(tm.NEUTRAL[3:7] if kind == "O" else NAMES[str(kind)])))
            found.append("O" if kind == "O" else f"B-{kind}")
        lines.append(json.dumps({"tokens": words, "tags": found}))
    path.write_text("\n".join(lines) + "\n")
    return path


def tag_example(folder: Path) -> Example:
    """Tagging with a tiny BERT."""
    model = tm.write("bert", folder / "bert", layers=2)
    new = [("happy", "river"), ("stone",), ("kind", "bread", "garden")]
    return Example(tags(folder), tags(folder, 12, 1, "test"), str(model), "partial", {"moves": "top:1"}, new, {})


COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "grey": (120, 120, 120)}


def pictures(folder: Path, rows: int, seed: int, name: str) -> Path:
    """Pictures of one colour each and a table that says which."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    lines = ["file,caption"]
    for i in range(rows):
        word = str(rng.choice(sorted(COLOURS)))
        pixels = np.clip(np.array(COLOURS[word]) + rng.normal(0, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}{i}.png")
        lines.append(f"{name}{i}.png,a {word} {rng.choice(['stone', 'paper'])}")
    path = folder / f"{name}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def match_example(folder: Path) -> Example:
    """Matching with a small network of random weights and a tiny BERT."""
    text = tm.write("bert", folder / "bert", layers=1)
    settings = {"moves": "top:1", "text_model": str(text), "width": 8}
    train, test = pictures(folder, 40, 0, "train"), pictures(folder, 12, 1, "test")
    new = [str(folder / f"test{i}.png") for i in range(3)]
    return Example(train, test, "small-cnn:16", "partial", settings, new, {})


def forecast_example(folder: Path) -> Example:
    """Forecasts of two waves."""
    train, test = series.waves(folder / "train.csv", 400), series.waves(folder / "test.csv", 200, 1)
    new = [np.sin(np.arange(60.0 + i))[None].repeat(2, 0) for i in range(3)]
    settings = {"horizon": 6, "context": 32}
    return Example(train, test, "series-transformer", "partial", settings, new, {})


def transcribe_example(folder: Path) -> Example:
    """Transcripts by a tiny Whisper."""
    model = ts.dictation(folder / "whisper")
    new: list[Any] = list(ts.sounds(3, seed=5))
    train, test = ts.spoken(folder, 24), ts.spoken(folder, 10, seed=1)
    return Example(train, test, str(model), "partial", {"longest": 1.0}, new, {"label": "text"})


def speak_example(folder: Path) -> Example:
    """Speech by a tiny SpeechT5, without a judge of words."""
    model, speaker = ts.voice(folder / "voice"), ts.write("resemblyzer", folder / "speaker")
    settings = {"voice": str(speaker), "judge": ""}
    return Example(ts.spoken(folder, 24), ts.spoken(folder, 10, seed=1), str(model), "partial", settings,
                   ["hi", "lo", "solo"], {"label": "text"})  # fmt: skip


def texts(folder: Path, rows: int = 40, seed: int = 0, name: str = "train") -> Path:
    """Two words, and their answer: the kind of the first, and the second again."""
    rng = np.random.default_rng(seed)
    path = folder / f"{name}.jsonl"
    lines = []
    for i in range(rows):
        word, thing = rng.choice([*tm.GOOD[:4], *tm.BAD[:4]]), rng.choice(tm.NEUTRAL[:6])
        kind = "warm" if word in tm.GOOD else "cold"
        lines.append(json.dumps({"input": f"{word} {thing} {i}", "output": f"{kind} {thing}"}))
    path.write_text("\n".join(lines) + "\n")
    return path


def generate_example(folder: Path) -> Example:
    """Generation with a tiny Llama."""
    model = tm.write("llama", folder / "llama", layers=2)
    settings = {"moves": "top:1", "template": "{input} -", "max_new_tokens": 5}
    new = ["good table", "bad river 7", "warm"]
    return Example(texts(folder), texts(folder, 12, 1, "test"), str(model), "partial", settings, new, {})


def detect_example(folder: Path) -> Example:
    """Detection with a tiny network of random weights."""
    train, test = scenes.squares(folder / "train", 30, 0), scenes.squares(folder / "test", 8, 1)
    settings = {"moves": "top:1", "side": 64, "width": 32, "convs": 1, "batch_size": 4}
    new = [str(p) for p in sorted((test / "JPEGImages").iterdir())[:3]]
    return Example(train, test, str(scenes.timm_folder(folder / "timm")), "partial", settings, new, {})


def segment_example(folder: Path) -> Example:
    """Segmentation with a tiny network of random weights."""
    train, test = scenes.masked_squares(folder / "train", 30, 0), scenes.masked_squares(folder / "test", 8, 1)
    settings = {"moves": "top:1", "side": 64, "width": 4, "batch_size": 4}
    new = [str(p) for p in sorted((test / "images").iterdir())[:3]]
    return Example(train, test, str(scenes.timm_folder(folder / "timm")), "partial", settings, new, {})


EXAMPLES: dict[str, Callable[[Path], Example]] = {
    "detect": detect_example,
    "forecast": forecast_example,
    "generate": generate_example,
    "match": match_example,
    "segment": segment_example,
    "speak": speak_example,
    "tag": tag_example,
    "transcribe": transcribe_example,
}


def fit(task: str, one: Example, output: Path, **given: Any) -> StructuredModel:
    """Fit an example for two quick epochs."""
    settings = {"num_train_epochs": 2, "batch_size": 8, **one.settings, **given.pop("settings", {})}
    usual: dict[str, Any] = {
        "task": task, "model": one.model, "strategy": one.strategy, "test_data": str(one.test), "quiet": True,
        **one.columns,
    }  # fmt: skip
    model = acclimate.fit(str(one.train), output_dir=output, settings=settings, **{**usual, **given})
    assert isinstance(model, StructuredModel)
    return model
