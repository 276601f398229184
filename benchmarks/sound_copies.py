"""Copies of recordings: how many are found, and how many recordings are taken for another's copy.

Run: python benchmarks/sound_copies.py [--data FOLDER] [--sources N]
FOLDER holds fsdd (3,000 spoken digits of six speakers, 8 kHz). N recordings, drawn at random, are changed in nine
ways each; `AUDIO.clusters` puts all of them together in one go. A copy is found where it lies in the cluster of its
source; recordings are confused where one cluster holds those of two.

The share of bits up to which two sounds are one was set on these recordings: the figures are not independent of them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import soxr

from acclimate.data.kinds.audio import AUDIO
from acclimate.data.sounds import examine, read

RESULTS = Path(__file__).parent / "results" / "sound_copies.json"
RATE = 8000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--sources", type=int, default=150)
    asked = parser.parse_args()
    paths = [str(p) for p in sorted((Path(asked.data) / "fsdd" / "recordings").glob("*.wav"))]
    sources = np.random.default_rng(1).permutation(len(paths))[: asked.sources].tolist()
    given: list[Any] = list(paths)
    made: list[tuple[int, str]] = [(i, "") for i in range(len(paths))]
    for source in sources:
        for way, copy in copies(read(paths[source], RATE)).items():
            given.append(copy)
            made.append((source, way))
    began = time.process_time()
    clusters = AUDIO.clusters(given, AUDIO.keys(given)).tolist()
    took = time.process_time() - began
    told = {i: bool(examine(paths[i]).heard) for i in range(len(paths))}
    missed = [(source, way) for k, (source, way) in enumerate(made) if way and clusters[k] != clusters[source]]
    owners: dict[int, set[int]] = defaultdict(set)
    for k, (source, _) in enumerate(made):
        owners[clusters[k]].add(source)
    found = {
        "recordings": len(paths),
        "too short to tell": sum(not one for one in told.values()),
        "confused": sum(len(one) - 1 for one in owners.values()),
        "copies": len(given) - len(paths),
        "missed": len(missed),
        "missed of those that can be told": sum(told[source] for source, _ in missed),
        "missed by way": dict(sorted(Counter(way for _, way in missed).items())),
        "processor seconds": round(took, 1),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(found)


def copies(line: Any) -> dict[str, Any]:
    """The same recording in nine other forms."""
    high = soxr.resample(line, RATE, 44100)
    return {
        "quieter": (0.3 * line, RATE),
        "11,025 Hz": (soxr.resample(line, RATE, 11025), 11025),
        "44.1 kHz, two channels": (np.stack([high, high], 1), 44100),
        "mp3": coded(line, RATE, "MP3"),
        "mp3 at 44.1 kHz": coded(high, 44100, "MP3"),
        "ogg": coded(line, RATE, "OGG", "VORBIS"),
        "mu-law": coded(line, RATE, "WAV", "ULAW"),
        "50 ms later": (np.concatenate([np.zeros(401, np.float32), line]), RATE),
        "20 ms cut off": (line[160:], RATE),
    }


def coded(line: Any, rate: int, kind: str, subtype: str | None = None) -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    soundfile.write(out, np.clip(line, -1, 1), rate, format=kind, subtype=subtype)
    return out.getvalue()


if __name__ == "__main__":
    main()
