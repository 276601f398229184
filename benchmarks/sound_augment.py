"""Spoken digits: does changing training sounds at random help Whisper's encoder learn them from few?

Run: python benchmarks/sound_augment.py [--data FOLDER] [--seeds S] [--table]
FOLDER holds fsdd (six speakers, ten digits, 8 kHz). Each seed leaves another speaker out and learns from three
recordings of each digit by the other five; judged on 20 others of each digit by these five ("known"), and by the one
left out ("new"). `whisper-tiny` reads one second; `full` tunes all of it for 15 passes at its usual rates, with
`augment` 0, light, standard and strong in turn; `linear_probe` on the frozen network stands beside. Accuracy, its
mean over seeds, and the 95 % t interval of the mean difference to `augment` 0. A run that was stopped goes on.

The strengths were chosen before, by what the changes do to a sound, not by these figures; whisper-tiny's `seconds` was
looked at on these recordings (benchmarks/sounds.py).
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from kept import Kept
from scipy import stats

from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "sound_augment.json"
SPEAKERS = ("lucas", "george", "theo", "jackson", "nicolas", "yweweler")  # left out by seed 0, 1 ...
STRENGTHS: tuple[float | str, ...] = (0.0, "light", "standard", "strong")
LEARNED, JUDGED, EPOCHS = 3, 20, 15


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, lines=True)
    for seed in range(0 if asked.table else asked.seeds):
        train, tests = parts(Path(asked.data) / "fsdd" / "recordings", seed)
        task, backbone = TASKS["classify"], load("whisper-tiny", seconds=1.0)
        store = Store(backbone, Run(cache=cache.features()))
        problem = Problem(task, task.decoder(tuple(range(10)), "int"), backbone, store)
        for name in ("linear_probe", *STRENGTHS):
            row: dict[str, Any] = {"method": str(name), "seed": seed}
            if kept.has(row):
                continue
            settings = {} if name == "linear_probe" else {"augment": name, "num_train_epochs": EPOCHS}
            strategy = named("linear_probe" if name == "linear_probe" else "full", settings)[1]
            fitted = strategy.fit(problem, Splits(train), Run(seed=seed))
            row |= {"left out": SPEAKERS[seed], "rows": len(train)}
            for part, data in tests.items():
                said = fitted.logits(list(data.inputs), store=store).argmax(1)
                row[part] = float(np.mean(np.array(fitted.decoder.classes)[said] == np.array(data.labels)))
            kept.add(row)
    table(kept.rows)


def parts(folder: Path, seed: int) -> tuple[Data, dict[str, Data]]:
    """Rows to learn from, and those that the two figures come from."""
    rng, new = np.random.default_rng(seed), SPEAKERS[seed]
    files = sorted((*p.stem.split("_"), str(p)) for p in folder.glob("*.wav"))
    here: list[Any] = []
    there: list[Any] = []
    judged: list[Any] = []
    for digit in range(10):
        mine = [f for f in files if f[0] == str(digit)]
        known = [f for f in mine if f[1] != new]
        order = rng.permutation(len(known))
        here += [known[i] for i in order[:LEARNED]]
        judged += [known[i] for i in order[LEARNED : LEARNED + JUDGED]]
        other = [f for f in mine if f[1] == new]
        there += [other[i] for i in rng.permutation(len(other))[:JUDGED]]
    return data_of(here), {"known": data_of(judged), "new": data_of(there)}


def data_of(files: list[Any]) -> Data:
    return replace(Data(tuple(f[3] for f in files), tuple(int(f[0]) for f in files)), kind="audio")


def table(found: list[dict[str, Any]]) -> None:
    plain = {r["seed"]: r for r in found if r["method"] == "0.0"}
    for name in ("linear_probe", *map(str, STRENGTHS)):
        mine = [r for r in found if r["method"] == name]
        line = f"{name:14}"
        for part in ("known", "new"):
            values = np.array([r[part] for r in mine])
            gain = np.array([r[part] - plain[r["seed"]][part] for r in mine if r["seed"] in plain])
            wide = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.nan
            line += f"  {part} {values.mean():.3f} (difference {gain.mean():+.3f} ± {wide:.3f})"
        print(line)


if __name__ == "__main__":
    main()
