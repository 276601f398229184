"""`--processes N`: the same command in N processes on this machine, told about each other by their environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from acclimate import ranks

_GRACE = 10.0  # seconds that the others get to end by themselves once one has failed


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run `acclimate` with these arguments in `count` processes; the exit code of the first that failed, or 0.

    Ctrl-C in a terminal reaches all of them, and the first one handles it. SIGTERM is handed on to the first.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared[ranks.WATCHED] = "1"
    shared["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))
    command = [sys.executable, "-m", "acclimate", *arguments]
    running = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(n), "LOCAL_RANK": str(n)},
            stdin=None if n == 0 else subprocess.DEVNULL,
            stderr=None if n == 0 else subprocess.PIPE,
        )
        for n in range(count)
    ]

    def hand_on(number: int, frame: FrameType | None) -> None:
        running[0].send_signal(number)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, hand_on),
    }
    try:
        return _watch(running)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(running: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all; where one fails, the others are ended: they would wait for it for ever."""
    import threading

    said: dict[int, bytes] = {}

    def read(n: int) -> None:
        assert running[n].stderr is not None
        said[n] = running[n].stderr.read()  # type: ignore[union-attr]

    readers = [threading.Thread(target=read, args=(n,), daemon=True) for n in range(1, len(running))]
    for reader in readers:
        reader.start()
    failed: list[int] = []  # in the order in which they ended
    since = time.monotonic()
    while any(process.poll() is None for process in running):
        time.sleep(0.1)
        new = [n for n, process in enumerate(running) if process.poll() and n not in failed]
        if new and not failed:
            since = time.monotonic()
        failed += new
        if failed and (running[0].poll() is not None or time.monotonic() - since > _GRACE):
            for process in running:
                process.kill()
    failed += [n for n, process in enumerate(running) if process.returncode and n not in failed]
    if not failed:
        return 0
    # The first one speaks for itself, and what ended since another did is no news.
    own = [n for n in failed if running[n].returncode != ranks.LOST] or failed
    worst = 0 if running[0].returncode > 0 and 0 in own else own[0]
    for reader in readers:
        reader.join(1)
    code = running[worst].returncode
    if code < 0:
        name = signal.Signals(-code).name
        print(
            f"error: process {worst + 1} of {len(running)} was ended by {name} (as the system does where memory runs "
            "out), and the others with it; the same command with --resume goes on from the last checkpoint",
            file=sys.stderr,
        )
    elif worst > 0:
        text = said.get(worst, b"").decode(errors="replace").strip()
        print(f"error: process {worst + 1} of {len(running)} failed:\n{text}", file=sys.stderr)
    return code if code >= 0 else 128 - code
