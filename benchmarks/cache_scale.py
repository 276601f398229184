"""Cost of the feature store against rows: is time per row constant, and memory flat?

Run: python benchmarks/cache_scale.py            (about 4 minutes of processor time; needs minilm in the cache)
     python benchmarks/cache_scale.py --quick    (1,000 and 10,000 rows, no minilm)

A synthetic backbone stands in where the store is measured: it looks words up in a fixed random table and averages them
(384 features), which costs next to nothing, so that what is timed is reading keys, writing parts and finding rows
again. Every size runs in a process of its own, three times, in turn; medians are printed. Memory is the peak of the
process above what it held before (its imports and the texts themselves): of resident pages in all, and of its own pages
alone, since pages of mapped files are given back whenever the system wants them. Then minilm at 1,000 and 4,000 texts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SIZES = (1_000, 10_000, 100_000)
ROUNDS = 3
BLOCK = 8192
WIDTH = 384


def main() -> None:
    """Start the processes and write the medians."""
    sizes = SIZES[:2] if "--quick" in sys.argv else SIZES
    rounds: dict[int, list[dict[str, float]]] = {n: [] for n in sizes}
    for _ in range(ROUNDS):
        for n in sizes:
            with tempfile.TemporaryDirectory() as cache:
                rounds[n].append({k: v for step in ("write", "read") for k, v in child(step, n, cache).items()})
    table = {n: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for n, runs in rounds.items()}
    result: dict[str, Any] = {
        "backbone": f"synthetic table of words, {WIDTH} features",
        "rounds": ROUNDS,
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "load average": [round(x, 1) for x in os.getloadavg()],
        "sizes": table,
    }
    for n, row in table.items():
        print(n, json.dumps(row))
    if "--quick" not in sys.argv:
        result["minilm"] = minilm()
        print("minilm", json.dumps(result["minilm"]))
        out = Path(__file__).parent / "results" / "cache_scale.json"
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def minilm() -> dict[str, Any]:
    """Processor time for 1,000 and 4,000 real texts, in turn, and the ratio of times a row."""
    seconds: dict[int, list[float]] = {1_000: [], 4_000: []}
    for _ in range(ROUNDS):
        for n, times in seconds.items():
            with tempfile.TemporaryDirectory() as cache:
                times.append(child("minilm", n, cache)["write, us a row"])
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    return {
        "us a row": {n: round(statistics.median(times), 1) for n, times in seconds.items()},
        "4,000 against 1,000 a row": round(statistics.median(ratios), 3),
    }


def child(step: str, n: int, cache: str) -> dict[str, float]:
    """One step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, str(n), cache]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(do: Callable[[], object]) -> tuple[float, float, float]:
    """Processor seconds; peak megabytes above the start, of all resident pages and of the process's own."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    own_start, all_start = status("RssAnon"), status("VmRSS")
    peak, done = [own_start], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.process_time()
    do()
    seconds = time.process_time() - start
    done.set()
    watcher.join()
    return seconds, status("VmHWM") - all_start, peak[0] - own_start


def status(field: str) -> float:
    """Megabytes, from the system's account of this process."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def step(which: str, n: int, cache: str) -> dict[str, float]:
    """What one process does."""
    from acclimate.features import Store
    from acclimate.run import Run

    if which == "minilm":
        import acclimate.backbones

        backbone: Any = acclimate.backbones.load("minilm")
    else:
        backbone = table_of_words()
    texts = inputs(n)
    warm = Store(backbone, Run())
    warm.get(["a first text", "another one"])  # what is loaded at first use is not what grows
    store = Store(backbone, Run(cache=Path(cache)))
    if which != "read":
        seconds, everything, own = measured(lambda: store.prepare(texts))
        more = {"bytes on disk a row": round(size(Path(cache)) / n, 1)}
        return {**named("write", seconds, n, everything, own), **more}
    blocks = measured(lambda: [store.get(texts[at : at + BLOCK]).sum() for at in range(0, n, BLOCK)])
    at_once = measured(lambda: store.get(texts))
    return {**named("read in blocks", blocks[0], n, *blocks[1:]), **named("read at once", at_once[0], n, *at_once[1:])}


def named(what: str, seconds: float, n: int, everything: float, own: float) -> dict[str, float]:
    """The figures of one measurement, rounded."""
    return {
        f"{what}, us a row": round(1e6 * seconds / n, 1),
        f"{what}, MB resident": round(everything, 1),
        f"{what}, MB own": round(own, 1),
    }


def size(folder: Path) -> int:
    """Bytes below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def inputs(n: int) -> list[str]:
    """Distinct texts of 8 to 30 words, the same mixture of lengths at every size."""
    import random

    draw = random.Random(0)
    words = [a + b for a in "bdfgklmnprst" for b in ("an", "el", "ir", "ol", "un")]
    return [" ".join(draw.choices(words, k=draw.randint(8, 30))) + f" {i}" for i in range(n)]


def table_of_words() -> Any:
    """The synthetic backbone."""
    import zlib

    import torch

    from acclimate.backbones.base import Backbone, Batch, Encoded, Origin

    class Words(Backbone):
        """The mean of fixed random vectors of the first 8 words."""

        modality = "text"
        origin = Origin("synthetic")
        width = WIDTH

        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(4096, WIDTH)
            torch.nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(0))

        def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
            return [Encoded((ids(text),), 8) for text in inputs]

        def collate(self, rows: Sequence[Encoded]) -> Batch:
            return {"ids": torch.tensor([row.parts[0] for row in rows])}

        def forward(self, batch: Batch) -> torch.Tensor:
            found: torch.Tensor = self.table(batch["ids"]).mean(1)
            return found

        @property
        def blocks(self) -> list[torch.nn.Module]:
            return []

        def settings(self) -> dict[str, object]:
            return {"modality": "text"}

        def save(self, folder: Path) -> None:
            raise AssertionError("not saved here")

        def clone(self) -> Words:
            return Words()

    def ids(text: str) -> list[int]:
        return [zlib.crc32(word.encode()) % 4096 for word in (text.split() * 8)[:8]]

    return Words()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(step(sys.argv[2], int(sys.argv[3]), sys.argv[4])))
    else:
        main()
