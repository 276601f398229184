"""Classes keep their order, their names and their type from the file to the answer (cases F1, F2)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made import rows, write_csv, write_jsonl

import acclimate

Fit = Callable[..., acclimate.Model]
ODD_ORDER = ("neutral", "bad", "good")
TUNED = {"strategy": "full", "settings": {"num_train_epochs": 1, "learning_rate": 1e-3, "batch_size": 32}}

FRESH = """
import json, socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("the network was asked for")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import acclimate

texts = json.loads(sys.argv[1])
models = [acclimate.load(folder) for folder in sys.argv[2:]]
print(json.dumps([[m.classes_, m.predict(texts), m.predict_proba(texts).tolist()] for m in models]))
"""


@pytest.mark.real
def test_a_fresh_process_without_a_network_gives_the_same_answers(fit: Fit, tmp_path: Path) -> None:
    """F1, with a frozen backbone and with one that moved; from the RUN folder and from a saved copy."""
    data, texts = rows(36, ODD_ORDER), rows(30, ODD_ORDER, seed=2)["text"]
    models, folders = [], []
    for name, how in (("frozen", {"strategy": "linear_probe"}), ("tuned", TUNED)):
        model = fit(data, test_data=rows(12, ODD_ORDER, seed=1), output_dir=tmp_path / name, **how)
        models += [model, model]
        folders += [str(tmp_path / name), str(model.save(tmp_path / "elsewhere" / name))]
    command = [sys.executable, "-c", FRESH, json.dumps(texts), *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for model, (classes, answers, proba) in zip(models, json.loads(done.stdout), strict=True):
        assert tuple(classes) == model.classes_ == ("bad", "good", "neutral")
        assert answers == model.predict(texts) == [model.classes_[i] for i in np.argmax(proba, 1)]
        assert np.array_equal(np.array(proba), model.predict_proba(texts))


def as_kind(kind: str, values: list[int]) -> list[Any]:
    make: dict[str, Callable[[int], Any]] = {"int": int, "str": str, "float": float, "bool": lambda v: v == 5}
    return [make[kind](v) for v in values]


@pytest.mark.parametrize("source", ["csv", "jsonl", "frame", "dict"])
def test_the_type_of_the_labels_changes_nothing_but_their_type(source: str, fit: Fit, tmp_path: Path) -> None:
    numbers = rows(45, (1, 2, 5))
    texts = rows(20, (1, 2, 5), seed=3)["text"]
    found = {}
    for kind in ("int", "str", "float"):
        if (source, kind) == ("csv", "str"):
            continue  # a CSV has no quotes that make a number a text
        data = {**numbers, "label": as_kind(kind, numbers["label"])}
        given: Any = data
        if source == "csv":
            given = write_csv(tmp_path / f"{kind}.csv", data)
        elif source == "jsonl":
            given = write_jsonl(tmp_path / f"{kind}.jsonl", data)
        elif source == "frame":
            given = pd.DataFrame(data)
        model = fit(given, strategy="linear_probe", label="label", output_dir=tmp_path / kind)
        answers = model.predict(texts)
        assert model.predictor.task.name == "classify"
        assert {type(a).__name__ for a in answers} == {kind}
        assert acclimate.load(tmp_path / kind).predict(texts) == answers
        found[kind] = (model.predict_proba(texts), [float(a) for a in answers])
    for proba, answers in found.values():
        assert np.array_equal(proba, found["int"][0])
        assert answers == found["int"][1]


@pytest.mark.parametrize("source", ["csv", "jsonl", "frame"])
def test_truth_values_come_back_as_truth_values(source: str, fit: Fit, tmp_path: Path) -> None:
    data = rows(40, (True, False))
    given: Any = pd.DataFrame(data)
    if source == "csv":
        given = write_csv(tmp_path / "bool.csv", {**data, "label": [str(y).lower() for y in data["label"]]})
    elif source == "jsonl":
        given = write_jsonl(tmp_path / "bool.jsonl", data)
    model = fit(given, label="label")
    new = rows(20, (True, False), seed=4)
    assert model.classes_ == (False, True)
    assert {type(a) for a in model.predict(new["text"])} == {bool}
    assert acclimate.load(model.run_dir or "").predict(new["text"]) == model.predict(new["text"])


def test_numpy_labels_come_back_as_plain_python(fit: Fit) -> None:
    data = rows(40, (1, 2))
    model = fit({"text": np.array(data["text"]), "label": np.array(data["label"], np.int32)})
    assert [type(c) for c in model.classes_] == [int, int]
    assert {type(a) for a in model.predict(data["text"])} == {int}


def test_a_class_order_gives_the_columns_their_order(fit: Fit) -> None:
    data = rows(45, ("low", "medium", "high"))
    model = fit(data, task="ordinal", class_order=["low", "medium", "high"], strategy="linear_probe")
    assert model.classes_ == ("low", "medium", "high")
    assert model.scores is not None and model.scores.metric == "quadratic_kappa"
    with pytest.raises(acclimate.UserError, match="the class order lacks 'medium'"):
        fit(data, task="ordinal", class_order=["low", "high"])
