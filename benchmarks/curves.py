"""Few-shot curves: which strategy wins with how many labels, on texts, pictures, sounds, molecules and tables.

Run: OMP_NUM_THREADS=1 python benchmarks/curves.py --data FOLDER (holds medical_abstracts, short_answers, fsdd,
molecules, heart and german_credit; the other sets are fetched); --table prints the last results, --leads WAY by how
much each is ahead of WAY, --figure draws docs/curves.svg.
Learned from are 8, 16, 32, 64 or 128 rows of each class (of a smaller class all it has), or all; a seed redraws them
and what is random in the fit. The judged rows are the same for all. Beside ours stands the usual call: an encoder's
features of unit length into scikit-learn's LogisticRegression as it comes; the features are ours, which are those of
sentence-transformers to 2.4e-7 (benchmarks/encode_text.py). Nothing was tuned on these rows, except that the defaults
of `contrastive` and of fine-tuning were looked at on snippets, the rate of tables on these two (among five), those of
`boosting` on fingerprints on the judged molecules, and how pairs are read was decided on short answers: apart where
nothing moves, else as one sequence (", joint" and ", apart": the other way; ", 96 px": pictures read at 96 pixels).
Results are added to benchmarks/results/curves.json one by one; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from curve_sets import APART, COLUMNS, JOINT, PEER, SETS, SMALL, Set
from kept import Kept
from molecules import interval
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.metrics.classification import METRICS
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "curves.json"
FIGURE = Path(__file__).parent.parent / "docs" / "curves.svg"
SHOTS = (8, 16, 32, 64, 128, 0)  # of each class; 0: all
PLAIN = {  # without transfer, and what it is called in the figure
    **dict.fromkeys(
        ("tfidf", "pixels", "spectra", "fingerprints"), "no transfer (words, pixels, spectra, fingerprints)"
    ),
    "forest": "no transfer (random forest)",
    **dict.fromkeys(("boosting", f"boosting{COLUMNS}"), "no transfer (boosting)"),
}
LOOKS = {"boosting": ":", "forest": "-.", "no transfer": "--", SMALL: "--"}  # of lines in the figure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="sets between semicolons")
    parser.add_argument("--ways", help="ways between semicolons")
    parser.add_argument("--shots", help="rows of each class between semicolons, 0: all")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--leads", help="a way: print what the others are ahead of it, draw by draw")
    parser.add_argument("--figure", action="store_true")
    asked = parser.parse_args()
    kept = Kept(RESULTS, under="rows")
    if not asked.table and not asked.figure and not asked.leads:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        for name in asked.only.split(";") if asked.only else SETS:
            ways = [way for way in SETS[name].ways if asked.ways is None or way in asked.ways.split(";")]
            shots = [int(n) for n in asked.shots.split(";")] if asked.shots else SHOTS
            measure(name, SETS[name], Path(asked.data), ways, shots, asked.seeds, kept)
    if asked.figure:
        draw(kept.rows)
    print(leads(kept.rows, asked.leads) if asked.leads else table(kept.rows))


def measure(
    name: str, about: Set, folder: Path, ways: Sequence[str], sizes: Sequence[int], seeds: int, kept: Kept
) -> None:
    """Every way on every draw that was not judged before, the quickest ways first."""
    train, tests = about.read(folder)
    readings = read_as(about, train, folder)
    for problem, rows in itertools.product(readings.values(), (train, *tests.values())):
        for at in range(0, len(rows), 100):  # kept in the cache as they come
            problem.network()[1].prepare(rows.inputs[at : at + 100])
    for way in ways:
        for shots in sizes:
            for seed in range(seeds):
                row: dict[str, Any] = {"set": name, "shots": shots, "seed": seed, "way": way}
                if kept.has(row):
                    continue
                few = train.take(drawn(train, shots, seed))
                problem = columns(few) if way.endswith(COLUMNS) else of(readings, way)
                began = time.process_time()
                answer = peer(problem, few) if way == PEER else ours(problem, way, few, seed)
                row |= {"learned": len(few), "cpu": round(time.process_time() - began, 2)}
                for test, rows in tests.items():
                    truth, said = problem.targets(rows).astype(int), answer(rows)
                    row[f"{test}macro_f1"] = round(float(METRICS["macro_f1"](truth, said)), 5)
                    row[f"{test}accuracy"] = round(float(METRICS["accuracy"](truth, said)), 5)
                kept.add(row, threads=1, load=round(os.getloadavg()[0], 1))


def read_as(about: Set, train: Data, folder: Path) -> dict[str, Problem]:
    """The frozen network, "" as it usually reads these rows; pairs also as one sequence and apart, pictures small."""
    task = TASKS["classify"]
    decoder = task.decoder(train.labels or (), type((train.labels or ("",))[0]).__name__)
    found = {"": (about.model(folder) if about.folder else about.model()).requires_grad_(False)}
    if JOINT in about.readings:
        found |= {JOINT: found[""], APART: about.model(pairs="apart").requires_grad_(False)}
        found[""] = found[""].fit_rows(train.inputs)
    if SMALL in about.readings:
        found[SMALL] = about.model(image_size=96).requires_grad_(False)
    return {n: Problem(task, decoder, one, Store(one, Run(cache=cache.features()))) for n, one in found.items()}


def of(readings: dict[str, Problem], way: str) -> Problem:
    """The reading that a way names, or the usual one: the peer reads pairs as one sequence."""
    asked = [name for name in (JOINT, APART, SMALL) if way.endswith(name)]
    return readings.get(asked[0] if asked else JOINT if way == PEER else "", readings[""])


def columns(few: Data) -> Problem:
    """The columns of a table as these rows have them."""
    backbone = load("columns").fit_rows(few.inputs)
    task = TASKS["classify"]
    return Problem(task, task.decoder((0, 1), "int"), backbone, Store(backbone, Run()))


def drawn(train: Data, shots: int, seed: int) -> Any:
    """Rows of each class, or all."""
    labels, rng = np.array([str(c) for c in train.labels or ()]), np.random.default_rng(seed)
    if not shots:
        return range(len(train))
    return np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:shots] for c in np.unique(labels)])


def ours(problem: Problem, way: str, few: Data, seed: int) -> Callable[[Data], Any]:
    """A strategy as it comes."""
    run = Run(seed=seed)
    way = way.partition(", ")[0]
    fitted = named(way, {"moves": "top:2"} if way == "partial" else {})[1].fit(problem, Splits(few), run)
    store = problem.store if fitted.backbone is problem.backbone else None

    def answer(rows: Data) -> Any:
        return np.concatenate(list(fitted.parts(rows.inputs, run, store))).argmax(1)

    return answer


def peer(problem: Problem, few: Data) -> Callable[[Data], Any]:
    """Features of unit length, and a head as scikit-learn has it."""

    def features(rows: Data) -> Any:
        x = problem.store.get(rows.inputs).astype(np.float64)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    head = LogisticRegression(max_iter=1000).fit(features(few), problem.targets(few).astype(int))
    return lambda rows: head.predict(features(rows))


def values(rows: list[dict[str, Any]], metric: str = "macro_f1") -> dict[tuple[str, str], dict[int, dict[int, float]]]:
    """(set, way) -> shots -> seed -> value; the sets of several tests once a test."""
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        for key in row:
            if key.endswith(metric):
                test = key.removesuffix(metric).strip()
                found[f"{row['set']}, {test}" if test else row["set"], row["way"]][row["shots"]][row["seed"]] = row[key]
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Mean macro-F1 over seeds with t intervals; a star where a way leads every other beyond paired chance. With all
    rows there is one draw, so that no interval and no star is given."""
    found, lines = values(rows), []
    for name in dict.fromkeys(name for name, _ in found):
        ways = [way for other, way in found if other == name]
        lines += [
            "",
            f"| {name} | " + " | ".join(f"{s} a class" if s else "all" for s in SHOTS) + " |",
            "|---" * 7 + "|",
        ]
        for way in ways:
            cells = []
            for shots in SHOTS:
                mine = found[name, way].get(shots, {})
                others = [found[name, w].get(shots, {}) for w in ways if w != way]
                star = " *" if shots and len(mine) > 2 and wins(mine, others) else ""
                cells.append(
                    ""
                    if not mine
                    else interval(list(mine.values())) + star
                    if shots
                    else f"{np.mean(list(mine.values())):.3f}"
                )
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def leads(rows: list[dict[str, Any]], than: str) -> str:
    """Mean macro-F1 of each way less that of `than`, with the paired 95 % t interval over the draws that both have."""
    found, lines = values(rows), []
    for (name, way), by in found.items():
        for shots in SHOTS[:-1]:
            base = found.get((name, than), {}).get(shots, {})
            gaps = [value - base[seed] for seed, value in by.get(shots, {}).items() if seed in base]
            if way != than and len(gaps) > 1:
                low, high = np.mean(gaps) - half_width(gaps), np.mean(gaps) + half_width(gaps)
                text = f"{np.mean(gaps):+.3f} [{low:+.3f}, {high:+.3f}], {len(gaps)} draws"
                lines.append(f"{name}, {shots} a class: {way} less {than} {text}")
    return "\n".join(lines)


def wins(mine: dict[int, float], others: list[dict[int, float]]) -> bool:
    """Whether the paired 95 % t interval of every lead is above nought."""
    for other in others:
        gaps = np.array([mine[s] - other[s] for s in mine if s in other])
        if len(gaps) > 1 and not gaps.mean() > student.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5:
            return False
    return True


def draw(rows: list[dict[str, Any]]) -> None:
    """A panel a set: mean macro-F1 and its 95 % t interval against rows of each class."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "curves"
    import matplotlib.pyplot as plt

    found = values(rows)
    names = list(dict.fromkeys(name for name, _ in found))
    figure, axes = plt.subplots((len(names) + 2) // 3, 3, figsize=(12, 3.2 * ((len(names) + 2) // 3)), squeeze=False)
    colours = {way: f"C{i}" for i, way in enumerate(("linear_probe", "full", "hybrid", "lora", "contrastive", "partial",
               "lp_ft", PEER, f"linear_probe{COLUMNS}"))} | dict.fromkeys(PLAIN, "black")  # fmt: skip
    handles: dict[str, Any] = {}
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        for (other, way), by in found.items():
            small = way.endswith(SMALL)
            if other != name or way.endswith((JOINT, APART)) or (small and way != f"full{SMALL}"):
                continue  # of other readings one alone: what could not be run at the network's own size
            at = [i for i, shots in enumerate(SHOTS) if by.get(shots)]
            means = np.array([np.mean(list(by[SHOTS[i]].values())) for i in at])
            half = np.array([half_width(list(by[SHOTS[i]].values())) for i in at])
            label, colour = PLAIN.get(way, way), colours[way.removesuffix(SMALL)]
            style = next((look for word, look in LOOKS.items() if word in label), "-")
            handles[label] = axis.plot(at, means, color=colour, marker=".", ls=style)[0]
            axis.fill_between(at, means - half, means + half, color=colour, alpha=0.15, lw=0)
            if len(at) == 1:  # a band needs two
                axis.errorbar(at, means, half, color=colour, lw=1, capsize=3)
        axis.set_title(name, fontsize=10)
        axis.set_xticks(range(len(SHOTS)), [str(s) if s else "all" for s in SHOTS])
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("macro-F1")
    axes[-1, 0].set_xlabel("rows of each class")
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=(len(handles) + 2) // 3, fontsize=9)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(FIGURE, metadata={"Date": None})


def half_width(numbers: list[float]) -> float:
    """Of the 95 % t interval over seeds."""
    n = len(numbers)
    return 0.0 if n < 2 else float(student.ppf(0.975, n - 1) * np.std(numbers, ddof=1) / n**0.5)


if __name__ == "__main__":
    main()
