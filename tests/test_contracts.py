"""What every strategy promises for every task, in one parametrised suite (complaints A, B, F, H; cases F1, F2, F7)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import backbones, model
from acclimate.data.rows import Data
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, BASELINES, STRATEGIES, Splits, named
from acclimate.strategies.boosting import Boosting
from acclimate.strategies.bottleneck import Bottleneck
from acclimate.strategies.mapped import Mapped
from acclimate.tasks import TASKS

RUN = Run(seed=3)
# `consistency` changes its inputs at random, which texts cannot: tests/strategies/test_consistency.py has its contract.
# Baselines of other kinds of input are `tfidf` on texts: tests/plain and tests/api have theirs. `distil` needs a saved
# teacher: tests/strategies/test_distil.py has its contract. `osbp` has a class more: tests/strategies/test_opposed.py.
# `in_context` needs a package and weights: its tests stand beside it.
OTHERS = ("consistency", "pixels", "spectra", "statistics", "fingerprints", "distil", "osbp", "in_context")
EVERY = {n: s for n, s in {**BASELINES, **STRATEGIES, **ADAPTATIONS}.items() if n not in OTHERS}
CLASSES = {  # what reads the classes of rows, each of one class; `self_train` has none in an order either
    "centroid": ("classify", "ordinal", "multilabel"), "self_train": ("classify",),
    **dict.fromkeys(("mcc", "infomax", "bnm", "cdan", "mdd", "mcd", "jan", "deepjdot", "cdd"), ("classify", "ordinal")),
    **dict.fromkeys(("shot", "pada", "contrastive"), ("classify", "ordinal")),
}  # fmt: skip
PAIRS = [(s, t) for s in EVERY for t in CLASSES.get(s, TASKS)]
TARGET = tm.rows(20, labels=("neutral",), seed=9)
NEW = ["good table day 501", "awful river", "kind cold stone paper window 17", "x"]
# The losses of one strategy differ by name alone, and each has a contract of its own in tests/align: one of a kind
# here, the rest with the slow tests.
LATER = [
    n for n, s in EVERY.items() if isinstance(s, Bottleneck) and n not in ("mcc", "dann", "deep_coral", "shot", "mcd")
] + ["dora"]  # `lora` and `ia3` go the same way
# Pairwise: these differ from one that stands here in full by what moves, or by the map before the same probe. Each is
# here with one task, the tasks in turn; with the others among the slow tests.
LIKE = [n for n in EVERY if n in ("lp_ft", "partial", "surgical", "gradual", "bitfit", "norm_only", "ia3", "soup")] + [
    n for n, s in EVERY.items() if isinstance(s, Mapped) and n != "coral"
]


def later(strategy: str, task: str) -> bool:
    """Whether this pair is left to the slow tests."""
    tasks = [t for s, t in PAIRS if s == strategy]
    return strategy in LATER or (strategy in LIKE and task != tasks[LIKE.index(strategy) % len(tasks)])


both = pytest.mark.parametrize(  # `module`: the tests of one fit follow each other, so that two workers share little
    ("strategy", "task"),
    [pytest.param(s, t, marks=[pytest.mark.real] * later(s, t)) for s, t in PAIRS],
    scope="module",
)


# How often a fit is repeated: every strategy on one task, every task by one strategy of each kind, the rest with the
# slow tests. What is drawn, and when, is decided by the strategy and not by the task.
AGAIN = ("tfidf", "knn", "linear_probe", "full")
repeated = pytest.mark.parametrize(
    ("strategy", "task"),
    [
        pytest.param(s, t, marks=[pytest.mark.real] * (later(s, t) or (t != "classify" and s not in (*AGAIN, *LIKE))))
        for s, t in PAIRS
    ],
    scope="module",
)


def settings_of(strategy: str) -> dict[str, Any]:
    if isinstance(EVERY[strategy], Bottleneck):
        return {
            "num_train_epochs": 2,
            "bottleneck": 8,
            **({"target_epochs": 2} if strategy in ("shot", "adda") else {}),
        }
    if isinstance(EVERY[strategy], Boosting):
        return {"most_rounds": 3}
    if strategy == "contrastive":
        return {"steps": 3, "learning_rate": 1e-3}
    few = {"members": 2} if strategy == "soup" else {}
    return {} if EVERY[strategy].frozen else {"num_train_epochs": 1, "learning_rate": 1e-3, **few}


def fit(strategy: str, task: str, backbone: Any, *, seed: int = 3, data: Data | None = None, kind: str = "") -> Any:
    rows, usual = tm.task_rows(task)
    rows, run = data or rows, replace(RUN, seed=seed)
    problem = tm.problem_of(task, rows, kind or usual, backbone, run)
    pairs = bool(rows.inputs) and isinstance(rows.inputs[0], tuple)
    target = replace(TARGET, inputs=tuple((x, "river") for x in TARGET.inputs)) if pairs else TARGET
    return named(strategy, settings_of(strategy))[1].fit(problem, Splits(rows, target=target), run)


@pytest.fixture(scope="module", autouse=True)
def _short_path() -> Iterator[None]:
    """Three strengths to choose from, not ten: what is promised does not depend on it, and the suite is quicker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("acclimate.strategies.probe.STRENGTHS", (0.1, 1.0, 10.0))
        yield


@pytest.fixture(scope="module")
def fitted(shared_bert: Any) -> Callable[[str, str], Any]:
    """fitted(strategy, task): one fit for all the tests of this file."""
    made: dict[tuple[str, str], Any] = {}

    def get(strategy: str, task: str) -> Any:
        if (strategy, task) not in made:
            made[strategy, task] = fit(strategy, task, shared_bert)
        return made[strategy, task]

    return get


@both
def test_outputs_have_the_shape_that_the_task_says(strategy: str, task: str, fitted: Any) -> None:
    predictor = fitted(strategy, task)
    outputs = predictor.outputs(NEW)
    assert np.isfinite(outputs).all()
    if task == "regress":
        assert outputs.shape == (len(NEW),)
    else:
        assert outputs.shape == (len(NEW), len(predictor.decoder.classes))
        assert ((outputs >= 0) & (outputs <= 1)).all()
    if task in ("classify", "ordinal"):
        assert outputs.sum(1) == pytest.approx(np.ones(len(NEW)), abs=1e-6)


@both
def test_answers_are_in_the_users_own_type_and_agree_with_the_outputs(strategy: str, task: str, fitted: Any) -> None:
    predictor = fitted(strategy, task)
    labels = tm.task_rows(task)[0].labels or ()
    outputs = predictor.outputs(NEW)
    decided = predictor.task.decide(outputs, predictor.decoder)
    answers = predictor.task.answers(decided, predictor.decoder)
    assert {type(a) for a in answers} == {type(labels[0])}
    if task == "classify":  # F1
        assert answers == [predictor.decoder.classes[i] for i in outputs.argmax(1)]
        assert predictor.decoder.classes == ("bad", "good", "neutral")
    if task == "multilabel":
        assert {c for a in answers for c in a} <= {"a", "b", "c"}
    assert len(predictor.task.confidence(outputs, decided)) == len(NEW)


@both
def test_a_saved_model_says_the_same(strategy: str, task: str, fitted: Any, tmp_path: Path) -> None:
    predictor = fitted(strategy, task)
    predictor.save(tmp_path / "m")
    again = model.load(tmp_path / "m")
    assert np.array_equal(again.logits(NEW), predictor.logits(NEW))
    assert again.decoder == predictor.decoder
    assert again.trained == predictor.trained
    assert (again.strategy, again.settings) == (predictor.strategy, predictor.settings)
    names = {p.suffix or p.name for p in (tmp_path / "m").rglob("*") if p.is_file()}
    assert names <= {".safetensors", ".json", ".txt"}  # nothing that runs code when it is read


@both
def test_the_saved_settings_are_the_constructor(strategy: str, task: str, fitted: Any) -> None:
    predictor = fitted(strategy, task)
    saved = json.loads(json.dumps(predictor.settings))
    name, same = named(strategy, saved)
    asked = named(strategy, settings_of(strategy))[1]
    chosen = {k: v for k, v in saved.items() if getattr(asked, k) != v}  # what the fit chose itself
    assert predictor.strategy == name == strategy
    assert same == replace(asked, **chosen)  # type: ignore[type-var]
    assert set(chosen) <= {"k", "strength", "rounds", "leaves"}
    assert all(getattr(asked, k) is None for k in chosen)


@both
def test_one_row_alone_gets_what_it_gets_among_others(strategy: str, task: str, fitted: Any) -> None:
    predictor = fitted(strategy, task)
    together = predictor.logits(NEW)
    alone = np.concatenate([predictor.logits([x]) for x in NEW])
    assert alone == pytest.approx(together, abs=1e-4 if task == "regress" else 1e-5)
    assert predictor.logits(NEW[::-1])[::-1] == pytest.approx(together, abs=1e-5)


@both
def test_no_row_at_all(strategy: str, task: str, fitted: Any) -> None:
    predictor = fitted(strategy, task)
    outputs = predictor.outputs([])
    assert len(outputs) == 0
    assert predictor.task.answers(predictor.task.decide(outputs, predictor.decoder), predictor.decoder) == []


@repeated
def test_a_fit_is_repeatable_and_leaves_everything_as_it_was(
    strategy: str, task: str, shared_bert: Any, fitted: Any
) -> None:
    first = fitted(strategy, task)
    before = tm.state(shared_bert)
    torch.manual_seed(123)  # another state than at the first fit
    np.random.seed(123)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    threads = torch.get_num_threads()
    second = fit(strategy, task, shared_bert)
    assert np.array_equal(second.logits(NEW), first.logits(NEW))
    assert second.settings == first.settings
    assert [{**h} for h in second.history] == [{**h} for h in first.history]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    assert tm.same_state(shared_bert, before)
    if EVERY[strategy].frozen:
        assert second.backbone is (shared_bert if EVERY[strategy].needs_backbone else None)
    else:
        assert second.backbone is not shared_bert


@pytest.mark.parametrize("strategy", [s for s in EVERY if not EVERY[s].frozen])
def test_another_seed_is_another_run(strategy: str, shared_bert: Any, fitted: Any) -> None:
    other = fit(strategy, "classify", shared_bert, seed=4)
    assert not np.array_equal(other.logits(NEW), fitted(strategy, "classify").logits(NEW))


@pytest.mark.parametrize("strategy", [s for s in EVERY if EVERY[s].frozen and EVERY[s].needs_backbone])
def test_frozen_models_survive_a_user_who_calls_train(strategy: str, fitted: Any) -> None:
    """F5: features are the same, and nothing has moved."""
    predictor = fitted(strategy, "classify")
    assert predictor.trained == tuple(n for n in predictor.trained if n.startswith("head."))
    before, logits = tm.state(predictor.backbone), predictor.logits(NEW)
    predictor.backbone.train()
    batch = predictor.backbone.collate(predictor.backbone.encode(NEW))
    for _ in range(2):
        predictor.backbone(batch)
    assert not any(m.training for m in predictor.backbone.model.modules())
    assert tm.same_state(predictor.backbone, before)
    assert np.array_equal(predictor.logits(NEW), logits)


@pytest.mark.parametrize("strategy", ["majority", "tfidf", "knn", "linear_probe", "full"])
def test_the_kind_of_label_makes_no_difference(strategy: str, shared_bert: Any) -> None:
    """F2: 1, 2, 5 as whole numbers, text and real numbers: the same model row for row."""
    found = []
    for kind, make in (("int", int), ("str", str), ("float", float)):
        data = tm.rows(30, labels=[make(v) for v in (1, 2, 5)])
        predictor = fit(strategy, "classify", shared_bert, data=data, kind=kind)
        decided = predictor.task.decide(predictor.outputs(NEW), predictor.decoder)
        answers = predictor.task.answers(decided, predictor.decoder)
        assert {type(a) for a in answers} == {make}
        found.append((predictor.logits(NEW), [float(a) for a in answers]))
    for logits, answers in found[1:]:
        assert np.array_equal(logits, found[0][0])
        assert answers == found[0][1]


@pytest.mark.parametrize("strategy", ["tfidf", "centroid", "hybrid", "partial"])
def test_true_and_false_come_back_as_such(strategy: str, shared_bert: Any, tmp_path: Path) -> None:
    predictor = fit(strategy, "classify", shared_bert, data=tm.rows(24, labels=(True, False)), kind="bool")
    predictor.save(tmp_path / "m")
    again = model.load(tmp_path / "m")
    answers = again.task.answers(again.task.decide(again.outputs(NEW), again.decoder), again.decoder)
    assert {type(a) for a in answers} == {bool}
    assert again.decoder.classes == (False, True)


@pytest.mark.parametrize("kind", ["roberta", "albert", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("strategy", ["linear_probe", "full", "lora"])
def test_other_architectures_are_saved_and_loaded_too(
    kind: str, strategy: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    predictor = fit(strategy, "classify", backbones.load(str(folder_of(kind))))
    predictor.save(tmp_path / "m")
    assert np.array_equal(model.load(tmp_path / "m").logits(NEW), predictor.logits(NEW))


@pytest.mark.real  # slow
def test_pairs_of_texts(shared_bert: Any, tmp_path: Path) -> None:
    single, _ = tm.task_rows("classify", 24)
    pairs = tuple((str(a), f"river {i}") for i, a in enumerate(single.inputs))
    new = [("good table", "river"), ("river", "good table")]
    for strategy in EVERY:
        predictor = fit(strategy, "classify", shared_bert, data=replace(single, inputs=pairs))
        predictor.save(tmp_path / strategy)
        assert np.array_equal(model.load(tmp_path / strategy).logits(new), predictor.logits(new))


SCRIPT = """
import json, socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("the network was asked for")

socket.socket.connect = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
from acclimate import model

print(json.dumps({folder: model.load(folder).logits(json.loads(sys.argv[1])).tolist() for folder in sys.argv[2:]}))
"""


@pytest.mark.real
def test_a_new_process_without_a_network_says_the_same(fitted: Any, tmp_path: Path) -> None:
    names = ["linear_probe", "knn", "hybrid", "lora", "full", "tfidf", "majority"]
    for name in names:
        fitted(name, "classify").save(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(NEW), *(str(tmp_path / name) for name in names)],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in names:
        assert json.loads(done.stdout)[str(tmp_path / name)] == fitted(name, "classify").logits(NEW).tolist()
