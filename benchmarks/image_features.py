"""Features of pictures: every runtime of acclimate against the timm model as it is; decoding against plain Pillow.

Run: python benchmarks/image_features.py [--threads N] [--rounds N]   (onnxruntime and openvino take part if installed).
The peer is efficientnet-lite0 in eval mode under `torch.inference_mode`, 32 pictures of 224 pixels in one batch. All
are taken in turn in one process; a ratio is the median over rounds of peer / ours, of processor time with one thread
and of wall time with more. "extract" is the whole of `acclimate.features.extract`, from arrays of bytes to features.

The photos are made, not taken: coloured noise whose spectrum falls as that of natural pictures does, at 12 megapixels,
with more or less grain, so that the JPEGs have the sizes that telephones and cameras write.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from acclimate.backbones import load
from acclimate.backbones.image_pixels import square, standardised
from acclimate.backbones.runtime import NAMES, Network, admitted, in_parts
from acclimate.features import extract
from acclimate.run import Run

BATCH = 32
GRAIN = {
    "out of focus": (2.0, 0.0, 85),
    "smooth": (1.45, 0.0, 85),
    "usual": (1.25, 1.0, 85),
    "grainy": (1.1, 3.0, 90),
}  # slope, noise, JPEG quality
Clock = Callable[[], float]


def in_turn(what: dict[str, Callable[[], Any]], rounds: int, clock: Clock) -> dict[str, list[float]]:
    """Seconds of everything in every round; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(rounds + 1):
        for name, run in what.items():
            began = clock()
            run()
            if turn:
                seconds[name].append(clock() - began)
    return seconds


def ratio(seconds: dict[str, list[float]], peer: str, ours: str) -> float:
    return round(statistics.median(a / b for a, b in zip(seconds[peer], seconds[ours], strict=True)), 2)


def features(rounds: int, clock: Clock, folder: Path) -> dict[str, Any]:
    backbone: Any = load("efficientnet-lite0")
    generator = np.random.default_rng(0)
    pictures = [photo(generator, 256, 256, 1.25, 1.0) for _ in range(BATCH)]
    pixels = backbone.collate(backbone.encode(pictures))["pixels"]
    network = Network(backbone.model, backbone.image.size, "benchmark", folder)
    with torch.inference_mode():
        expected = backbone.model(pixels)
        what: dict[str, Callable[[], Any]] = {"peer": partial(backbone.model, pixels)}
        errors, missing = {}, {}
        for name in NAMES:
            run, tried = admitted(name, network, pixels, expected)
            if run is None:
                missing[name] = tried.why_not
                continue
            what[name] = partial(in_parts, run, pixels)
            errors[name] = float((what[name]() - expected).abs().max())
        extract(backbone, pictures * 8, Run())  # enough of them for a choice
        what["extract"] = lambda: extract(backbone, pictures, Run())
        seconds = in_turn(what, rounds, clock)
    rows = {
        name: {
            "times as fast as the peer": ratio(seconds, "peer", name),
            "ms a picture": round(1e3 * statistics.median(seconds[name]) / BATCH, 2),
            **({"max abs error": float(f"{errors[name]:.1e}")} if name in errors else {}),
        }
        for name in what
    }
    return {"largest feature": round(float(expected.abs().max()), 3), "chosen": backbone.runtime, "not run": missing,
            "rows": rows}  # fmt: skip


def photo(generator: np.random.Generator, height: int, width: int, slope: float, grain: float) -> np.ndarray:
    """Noise with amplitude 1 / frequency^slope, mostly common to the three colours, plus white grain."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0

    def field() -> np.ndarray:
        waves = np.fft.rfft2(generator.standard_normal((height, width))) / frequency**slope
        made = np.fft.irfft2(waves, s=(height, width))
        return np.asarray(made / made.std())

    common = field()
    colours = np.stack([common + 0.3 * field() for _ in range(3)], -1)
    noise = generator.normal(0, grain, (height, width, 3)) if grain else 0.0
    return np.clip(127 + 50 * colours + noise, 0, 255).astype(np.uint8)


def decoding(rounds: int, clock: Clock, folder: Path) -> dict[str, Any]:
    backbone: Any = load("efficientnet-lite0")
    draft, plain = backbone.image, replace(backbone.image, backend="pil")
    found = {}
    sizes = {**{f"4000x3000 {k}": (3000, 4000, v) for k, v in GRAIN.items()}, "500x375": (375, 500, GRAIN["usual"])}
    for name, (height, width, (slope, grain, quality)) in sizes.items():
        path = folder / f"{name}.jpg"
        made = photo(np.random.default_rng(1), height, width, slope, grain)
        Image.fromarray(made).save(path, quality=quality)
        seconds = in_turn({"peer": partial(square, path, plain), "ours": partial(square, path, draft)}, rounds, clock)
        gap = np.abs(square(path, plain).astype(int) - square(path, draft))
        with torch.inference_mode():
            a, b = (backbone.model(standardised([square(path, how)], how))[0] for how in (plain, draft))
        found[name] = {
            "file MB": round(path.stat().st_size / 1e6, 2),
            "plain Pillow, ms": round(1e3 * statistics.median(seconds["peer"]), 1),
            "ours, ms": round(1e3 * statistics.median(seconds["ours"]), 1),
            "times as fast": ratio(seconds, "peer", "ours"),
            "mean pixel difference of 255": round(float(gap.mean()), 2),
            "largest": int(gap.max()),
            "1 - cosine of the features": float(f"{1 - float(torch.cosine_similarity(a, b, dim=0)):.1e}"),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    clock = time.process_time if asked.threads == 1 else time.perf_counter
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        result = {"features": features(asked.rounds, clock, Path(folder))}
        if asked.threads == 1:
            result["decoding"] = decoding(asked.rounds, clock, Path(folder))
    result["how"] = {
        "threads": asked.threads, "clock": "processor" if asked.threads == 1 else "wall", "rounds": asked.rounds,
        "load average": [round(before, 1), round(os.getloadavg()[0], 1)], "torch": torch.__version__,
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    out = Path(__file__).parent / "results" / "image_features.json"
    out.parent.mkdir(exist_ok=True)
    kept = json.loads(out.read_text()) if out.is_file() else {}
    out.write_text(json.dumps({**kept, f"{asked.threads} thread(s)": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
