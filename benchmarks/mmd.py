"""Multi-kernel MMD, value and gradient: acclimate against the usual code that forms all differences, n x n x d numbers.

Run: OMP_NUM_THREADS=1 python benchmarks/mmd.py [--rounds 5] [--rows 512] [--quick]. The usual code is written here:
both batches in one, differences of every pair of rows, squares summed over features, five exponentials, block means and
the gradient by autograd. Ours is `Mmd()` with its defaults: the same five widths and, for batches of one size, the same
bandwidth. Time is that of the processor with one thread, in turn in one process; a ratio is the median over rounds.
Memory is how far the peak of a process of its own lies above what it held before (Linux). Both are checked to give the
same value and gradient. Results: benchmarks/results/mmd.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acclimate.align import View
from acclimate.align.moments import Mmd

RESULTS = Path(__file__).parent / "results" / "mmd.json"


def usual(x: Tensor, y: Tensor) -> Tensor:
    """Biased MMD² as it is usually written."""
    n, joint = len(x), torch.cat([x, y])
    apart = (joint.unsqueeze(0) - joint.unsqueeze(1)).square().sum(2)
    width = apart.detach().mean()
    k = sum(torch.exp(-apart / (width * 2.0**u)) for u in range(-2, 3)) / 5
    value: Tensor = k[:n, :n].mean() + k[n:, n:].mean() - 2 * k[:n, n:].mean()
    return value


def ours(x: Tensor, y: Tensor) -> Tensor:
    """The same by acclimate."""
    none = x.new_zeros(len(x), 0)
    return Mmd()(View(x, none), View(y, none), 0.5)


CODES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"usual": usual, "ours": ours}


def batches(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = torch.randn(rows, columns), torch.randn(rows, columns) * 1.2 + 0.1
    return x.requires_grad_(), y.requires_grad_()


def seconds(code: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """Of value and gradient; a quick one is repeated for at least a fifth of a second."""
    start, times = time.process_time(), 0
    while times == 0 or time.process_time() - start < 0.2:
        torch.autograd.grad(code(x, y), (x, y))
        times += 1
    return (time.process_time() - start) / times


def growth(name: str, rows: int, columns: int) -> float:
    """MB that the process grows by, told by a process of its own."""
    call = [sys.executable, __file__, "--grow", name, "--rows", str(rows), "--columns", str(columns)]
    return float(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


def grow(name: str, rows: int, columns: int) -> None:
    x, y = batches(8, columns)
    torch.autograd.grad(CODES[name](x, y), (x, y))  # what torch loads at first use is not counted
    x, y = batches(rows, columns)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew; that of getrusage is the parent's at first
    before = held("VmRSS")
    torch.autograd.grad(CODES[name](x, y), (x, y))
    print(held("VmHWM") - before)


def held(kind: str) -> float:
    """MB that this process holds (VmRSS), or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def measure(rows: int, columns: int, rounds: int) -> dict[str, Any]:
    x, y = batches(rows, columns)
    values = {name: code(x, y) for name, code in CODES.items()}
    gradients = {name: torch.cat(torch.autograd.grad(value, (x, y))) for name, value in values.items()}
    off = (gradients["ours"] - gradients["usual"]).norm() / gradients["usual"].norm()
    taken: dict[str, list[float]] = {name: [] for name in CODES}
    for _ in range(rounds):
        for name, code in CODES.items():
            taken[name].append(seconds(code, x, y))
    ratios = [a / b for a, b in zip(taken["usual"], taken["ours"], strict=True)]
    memory = {name: growth(name, rows, columns) for name in CODES}
    return {
        "rows": rows, "columns": columns, "kernels": 5,
        "cpu_seconds": {name: round(statistics.median(t), 5) for name, t in taken.items()},
        "times_as_fast": round(statistics.median(ratios), 1), "rounds": [round(r, 1) for r in ratios],
        "megabytes": {name: round(mb, 1) for name, mb in memory.items()},
        "times_less_memory": round(memory["usual"] / max(memory["ours"], 0.1), 1),
        "value": {name: float(value.detach()) for name, value in values.items()}, "gradient_off_by": float(off),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--columns", type=int, default=384)
    parser.add_argument("--quick", action="store_true", help="leave batches of 512 out")
    parser.add_argument("--grow", choices=list(CODES), help="used by the script itself")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.grow:
        grow(given.grow, given.rows, given.columns)
        return
    sizes = [n for n in (32, 128, given.rows) if n < 512 or not given.quick]
    found = [measure(n, given.columns, given.rounds) for n in sizes]
    about = {"threads": 1, "load": os.getloadavg(), "rounds": given.rounds, "torch": torch.__version__}
    RESULTS.write_text(json.dumps({"about": about, "results": found}, indent=1) + "\n", encoding="utf-8")
    for row in found:
        print({k: v for k, v in row.items() if k != "rounds"})


if __name__ == "__main__":
    main()
