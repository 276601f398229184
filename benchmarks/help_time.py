"""How long `acclimate --help` takes beside `python -c "import torch"`: the promise is under a quarter."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def seconds(command: list[str], times: int = 7) -> float:
    """The median of several starts, after one that fills the file cache."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def main() -> None:
    help_ = seconds([sys.executable, "-m", "acclimate", "--help"])
    torch = seconds([sys.executable, "-c", "import torch"])
    print(f"acclimate --help {help_:.3f} s, import torch {torch:.3f} s: {help_ / torch:.3f} of it (bound 0.25)")
    if help_ > torch / 4:
        sys.exit("the help takes too long: what does it import?")


if __name__ == "__main__":
    main()
