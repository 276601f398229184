"""Frozen text features: acclimate against `SentenceTransformer.encode` with its defaults, on the same folder.

Run: python benchmarks/encode_text.py [--short N] [--long N] [--rounds R]
It needs sentence-transformers beside acclimate (pip install sentence-transformers); without it nothing is measured.

Every round runs both sides in turn on the same texts in one process, one thread, and takes processor time; a ratio is
the median of the rounds' ratios. Short texts are snippets of reviews of 5 to 40 tokens, long ones docstrings of
installed packages of 50 to 512. The matrix peak is the best of `torch.nn.Linear`, by MKL and by oneDNN, at the shapes
of the network, measured in every round; the share counts the sums that the texts need, without padding.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from acclimate.backbones import load
from acclimate.backbones.kernels import laid_out
from acclimate.backbones.text import TextBackbone
from acclimate.catalogue import datasets, models
from acclimate.features import extract
from acclimate.progress import Progress
from acclimate.run import Run

PACKAGES = ("numpy", "scipy", "sklearn", "pandas", "matplotlib", "torch/nn")
MODEL = "minilm"
RUN = Run(progress=Progress(quiet=True))


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--short", type=int, default=1000)
    asked.add_argument("--long", type=int, default=160)
    asked.add_argument("--rounds", type=int, default=5)
    args = asked.parse_args()
    try:
        peer_of("mean")
    except ImportError:
        print("sentence-transformers is not installed here: pip install sentence-transformers, then run again")
        return
    torch.set_num_threads(1)
    backbone = load(MODEL, max_length=512)
    assert isinstance(backbone, TextBackbone)
    result: dict[str, Any] = {"peak GFLOP/s": peak(), "threads": 1, "rounds": args.rounds, "rows": {}}
    for kind, texts, count in (("short", short_texts, args.short), ("long", long_texts, args.long)):
        chosen = pick(texts(), backbone, *{"short": (5, 40), "long": (50, 512)}[kind], count)
        for name, pooling, precision in (
            ("fp32", "mean", "fp32"), ("int8", "mean", "int8"), ("fp32, cls pooling", "cls", "fp32"),
        ):  # fmt: skip
            ours = backbone.with_settings(replace(backbone.text, pooling=pooling, precision=precision))
            row = against(ours, peer_of(pooling), chosen, args.rounds)
            print(f"{kind} {name}: {json.dumps(row)}", flush=True)
            result["rows"][f"{kind} {name}"] = row
    result["load average"] = [round(x, 1) for x in os.getloadavg()]
    out = Path(__file__).parent / "results" / "encode_text.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


def peer_of(pooling: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer
        from sentence_transformers import models as parts

        body = parts.Transformer(str(models.pull(MODEL)), max_seq_length=512)
        top = parts.Pooling(body.get_word_embedding_dimension(), pooling_mode=pooling)
        return SentenceTransformer(modules=[body, top], device="cpu")


def against(ours: TextBackbone, peer: Any, texts: list[str], rounds: int) -> dict[str, Any]:
    extract(ours, texts[:20], RUN)
    peer.encode(texts[:20], show_progress_bar=False)
    ratios, rates, shares = [], [], []
    needed = operations(ours, texts)
    for _ in range(rounds):
        mine, got = seconds(lambda: extract(ours, texts, RUN))
        theirs, expected = seconds(lambda: peer.encode(texts, show_progress_bar=False))
        ratios.append(theirs / mine)
        rates.append(needed / mine / 1e9)
        shares.append(rates[-1] / peak())
    whole = ours.text.precision == "fp32" and ours.text.pooling == "mean"  # elsewhere fewer or other sums are done
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
    errors = 1 - (got * expected).sum(1) / norms
    return {
        "times as fast": round(statistics.median(ratios), 2),
        "rounds": [round(r, 2) for r in ratios],
        "cosine error, max": float(f"{max(0.0, errors.max()):.2g}"),
        "cosine error, mean": float(f"{max(0.0, errors.mean()):.2g}"),
        "share of the matrix peak": round(statistics.median(shares), 3) if whole else None,
        "texts": len(texts),
        "packing": ours.packing,
    }


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    out = call()
    return time.process_time() - start, out


def peak() -> float:
    """GFLOP/s of fp32 products at the network's shapes, by PyTorch's own (MKL) or oneDNN: the best of several tries."""
    best = 0.0
    with torch.inference_mode():
        for d, k in ((384, 384), (384, 1536), (1536, 384)):
            x, layer = torch.randn(1024, d), torch.nn.Linear(d, k)
            for held in (nullcontext(), laid_out(torch.nn.Sequential(layer))):
                with held:
                    for _ in range(5):
                        took, _ = seconds(lambda layer=layer, x=x: [layer(x) for _ in range(10)])  # type: ignore[misc]
                        best = max(best, 2 * 1024 * d * k * 10 / took / 1e9)
    return round(best, 1)


def operations(backbone: TextBackbone, texts: list[str]) -> float:
    """Floating-point operations of all blocks on real tokens: four square products, two of the feed-forward part,
    and attention."""
    config: Any = backbone.model.config
    d, inner, blocks = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    lengths = [row.cost for row in backbone.encode(texts)]
    return float(sum(blocks * (2 * t * (4 * d * d + 2 * d * inner) + 4 * t * t * d) for t in lengths))


def pick(texts: list[str], backbone: TextBackbone, least: int, most: int, count: int) -> list[str]:
    order = np.random.default_rng(0).permutation(len(texts))[: 8 * count]
    found = [texts[i] for i in order]
    lengths = [row.total for row in backbone.encode(found)]
    return [text for text, n in zip(found, lengths, strict=True) if least <= n <= most][:count]


def short_texts() -> list[str]:
    found = []
    for name in ("movie.csv", "amazon.csv"):
        with open(datasets.pull("vader") / name, encoding="utf-8", newline="") as file:
            found += [row["text"] for row in csv.DictReader(file)]
    return found


def long_texts() -> list[str]:
    root = Path(np.__file__).parents[1]
    found: set[str] = set()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    found.add(ast.get_docstring(node) or "")
    return sorted(found - {""})


if __name__ == "__main__":
    main()
