"""Loading a saved model in a new process, network blocked, against `from_pretrained` on the same folder.

Run: python benchmarks/load_time.py [RUN]   (a folder written by `acclimate fit`; without one, a small one is fitted).
Both sides are started in turn; the ratio is the median of the ratios of each round. Also checks that every load
predicts the same bits on the same batch.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLOCK = "import socket; socket.socket.connect = lambda *a: (_ for _ in ()).throw(OSError('blocked'));"
OURS = (
    BLOCK + "import acclimate; m = acclimate.load({path!r});"
    "print(m.predict_proba(['a fine day', 'a bad day']).tobytes().hex())"
)
PEER = (
    BLOCK + "from transformers import AutoModel, AutoTokenizer;"
    "m = AutoModel.from_pretrained({backbone!r}); t = AutoTokenizer.from_pretrained({backbone!r});"
    "print(m(**t(['a fine day', 'a bad day'], return_tensors='pt', padding=True)).last_hidden_state.sum().item())"
)


def main() -> None:
    run = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else small_run()
    model = run / "model" if (run / "model").is_dir() else run
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    ratios, ours, peers, outputs = [], [], [], set()
    for _ in range(rounds):
        mine, text = seconds(OURS.format(path=str(model)))
        theirs, _text = seconds(PEER.format(backbone=str(model / "backbone")))
        outputs.add(text)
        ours.append(mine)
        peers.append(theirs)
        ratios.append(mine / theirs)
    result = {
        "acclimate.load + predict, s": round(statistics.median(ours), 2),
        "from_pretrained + forward, s": round(statistics.median(peers), 2),
        "ratio": round(statistics.median(ratios), 3),
        "rounds": rounds,
        "bit-equal over loads": len(outputs) == 1,
    }
    print(json.dumps(result, indent=1))
    out = Path(__file__).parent / "results" / "load_time.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


def small_run() -> Path:
    import acclimate

    folder = Path(tempfile.mkdtemp()) / "run"
    rows = {
        "text": ["a fine day", "a good meal", "a bad day", "a poor meal"] * 5,
        "label": ["good", "good", "bad", "bad"] * 5,
    }
    acclimate.fit(rows, label="label", strategy="linear_probe", output_dir=folder, quiet=True)
    return folder


def seconds(code: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout.strip()


if __name__ == "__main__":
    main()
