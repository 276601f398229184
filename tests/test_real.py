"""The engine with real pretrained weights and real texts: `make real`."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_models
from acclimate.backbones import Backbone, load
from acclimate.catalogue import datasets
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.features import Store, extract
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import BASELINES, STRATEGIES, Problem, Splits, named
from acclimate.tasks import TASKS

pytestmark = pytest.mark.real
FOOD = ["A man is eating food.", "Someone eats a meal.", "The stock market crashed today."]
TRAIN, TEST = 200, 400
SHORT = {
    **{
        name: {"num_train_epochs": 1}
        for name in ("surgical", "bitfit", "norm_only", "lora", "dora", "ia3", "lp_ft", "wise_ft")
    },
    "partial": {"num_train_epochs": 5},
    "gradual": {"num_train_epochs": 6},  # its head starts from zero
    "contrastive": {"steps": 20},
    "soup": {"num_train_epochs": 1, "members": 2},
}


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    return load("minilm")


@pytest.fixture(scope="module")
def movie() -> tuple[Data, Data]:
    """Movie snippets with a clear sign, some to learn from and some to judge by."""
    with open(datasets.pull("vader") / "movie.csv", encoding="utf-8", newline="") as file:
        found = [(r["text"], float(r["valence"])) for r in csv.DictReader(file)]
    clear = [(text, "positive" if v > 0 else "negative") for text, v in found if abs(v) > 0.3]
    order = np.random.default_rng(0).permutation(len(clear))
    picked = [clear[i] for i in order[: TRAIN + TEST]]
    data = Data(tuple(t for t, _ in picked), tuple(y for _, y in picked))
    return data.take(range(TRAIN)), data.take(range(TRAIN, TRAIN + TEST))


@pytest.fixture(scope="module")
def problem(minilm: Backbone, movie: tuple[Data, Data]) -> Problem:
    task = TASKS["classify"]
    return Problem(task, task.decoder(movie[0].labels or (), "str"), minilm, Store(minilm, Run()))


def accuracy(fitted: Predictor, data: Data, store: Store | None) -> float:
    outputs = fitted.outputs(data.inputs, Run(), store)
    answers = fitted.task.answers(fitted.task.decide(outputs, fitted.decoder), fitted.decoder)
    return float(np.mean([a == y for a, y in zip(answers, data.labels or (), strict=True)]))


def test_cosines_are_those_of_the_published_weights(minilm: Backbone) -> None:
    found = extract(minilm, FOOD, Run())
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert [round(float(c), 3) for c in (unit @ unit.T)[0, 1:]] == [0.761, 0.009]


def test_what_minilm_says_of_itself(minilm: Backbone) -> None:
    assert (minilm.width, len(minilm.blocks), minilm.origin.licence) == (384, 6, "Apache-2.0")
    assert minilm.settings()["max_length"] == 256
    with pytest.raises(UserError, match="has 6 blocks; give 1 to 6"):
        rows = tiny_models.rows(8)
        task = TASKS["classify"]
        asked = Problem(task, task.decoder(rows.labels or (), "str"), minilm, Store(minilm, Run()))
        named("partial", {"moves": "top:7"})[1].fit(asked, Splits(rows), Run())


@pytest.mark.parametrize(  # `distil` wants a teacher first, `in_context` rows of a table
    "strategy", [n for n in STRATEGIES if n not in ("full", "distil", "in_context")]
)
def test_every_strategy_beats_the_majority(strategy: str, problem: Problem, movie: tuple[Data, Data]) -> None:
    train, test = movie
    floor = accuracy(BASELINES["majority"].fit(problem, Splits(train), Run()), test, None)
    assert problem.backbone is not None
    before = problem.backbone.fingerprint()
    fitted = named(strategy, SHORT.get(strategy))[1].fit(problem, Splits(train), Run())
    assert problem.backbone.fingerprint() == before  # the given network is never trained
    assert accuracy(fitted, test, problem.store) > floor + 0.1


def test_lp_ft_starts_where_the_probe_ends(problem: Problem, movie: tuple[Data, Data]) -> None:
    train, test = movie
    splits = Splits(train, test.take(range(100)))
    tuned = named("lp_ft", {"num_train_epochs": 1})[1].fit(problem, splits, Run())
    probe = named("linear_probe")[1].fit(problem, splits, Run())
    logits = probe.logits(test.inputs[:100], Run(), problem.store)
    truth = torch.as_tensor(problem.targets(test.take(range(100))))
    loss = float(problem.task.losses(torch.as_tensor(logits), truth).mean())
    assert tuned.history[0]["valid_loss"] == pytest.approx(loss, abs=1e-4)
    assert min(float(h["valid_loss"]) for h in tuned.history) <= loss + 1e-4


@pytest.mark.parametrize("targets", ["blocks", "all-linear"])
def test_lora_answers_the_same_in_a_new_process(
    targets: str, problem: Problem, movie: tuple[Data, Data], tmp_path: Path
) -> None:
    """Case F4: the head is called neither `score` nor `classifier`, is trained, saved, and not wrapped."""
    train, test = movie
    settings = {"num_train_epochs": 1, "lora_targets": targets}
    fitted = named("lora", settings)[1].fit(problem, Splits(train.take(range(64))), Run())
    fitted.save(tmp_path / "m")
    assert {"head.weight", "head.bias"} <= set(fitted.trained)
    assert not any("lora" in n for n in fitted.trained if n.startswith("head"))
    assert len([n for n in fitted.trained if "lora_A" in n]) == 6 * 6  # six linear layers in each of six blocks
    about = json.loads((tmp_path / "m" / "acclimate.json").read_text())
    assert about["trained"] == list(fitted.trained)
    code = (
        "import sys, json; from acclimate.model import load; import torch; torch.set_num_threads(1);"
        "print(json.dumps(load(sys.argv[1]).logits(json.loads(sys.argv[2])).tolist()))"
    )
    inputs = list(test.inputs[:20])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m"), json.dumps(inputs)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), fitted.logits(inputs), atol=1e-5)


def test_a_shared_layer_has_no_top() -> None:
    albert = load("rxn-albert")
    assert albert.blocks == []
    rows = Data(("CC(=O)O", "OCC", "CCO", "CCC", "CCN", "COC", "CCCl", "CBr"), ("a", "b") * 4)
    task = TASKS["classify"]
    asked = Problem(task, task.decoder(rows.labels or (), "str"), albert, Store(albert, Run()))
    with pytest.raises(UserError, match="'rxn-albert' has no separate blocks"):
        named("partial")[1].fit(asked, Splits(rows), Run())
    probe = named("linear_probe")[1].fit(asked, Splits(rows), Run())
    assert np.isfinite(probe.logits(rows.inputs)).all()


def test_chinese_goes_through_e5_with_its_prefix() -> None:
    e5 = load("e5-multilingual", max_length=32, truncation="chunk")
    assert e5.settings()["prefix"] == "query: "
    found = extract(e5, ["一个男人在吃饭。", "A man is eating food.", "The stock market crashed today."], Run())
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    across, apart = float(unit[0] @ unit[1]), float(unit[0] @ unit[2])
    assert across > apart + 0.05
    row = e5.encode(["我们好天气好" * 40])[0]
    assert len(row.parts) > 1 and row.lost == 0
