"""What every strategy that trains a bottleneck with an unlabelled target promises (cases A1 to A9)."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import model, ranks
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, Splits, named
from acclimate.strategies.adapt import Adapt
from acclimate.strategies.bottleneck import Bottleneck

RUN = Run(seed=3)
SOURCE = tm.rows(36, labels=("neutral", "bad", "good"))
TARGET = tm.rows(25, labels=("neutral", "bad", "good"), seed=5)
NEW = ["good table day 501", "awful river", "kind cold stone paper window 17", "x"]
SHORT = {"num_train_epochs": 2, "bottleneck": 8, "batch_size": 8}
TRAINED = [n for n, s in ADAPTATIONS.items() if isinstance(s, Bottleneck)]
AFTERWARDS = ("shot", "adda")  # learn from the source first
QUICK = ("mcc", "dann", "deep_coral", "shot", "mcd")  # one of a kind; the rest with the slow tests


def some(names: list[str]) -> list[Any]:
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.real) for n in names]


every = pytest.mark.parametrize("name", some(TRAINED))
trained = pytest.mark.parametrize("name", some([n for n, s in ADAPTATIONS.items() if isinstance(s, Adapt)]))


def strategy(name: str, **settings: Any) -> Any:
    short = {**SHORT, "target_epochs": 2} if name in AFTERWARDS else SHORT
    return named(name, {**short, **settings})[1]


def fit(
    name: str, backbone: Any, source: Data = SOURCE, target: Data | None = TARGET, run: Run = RUN, **settings: Any
) -> Any:
    problem = tm.problem_of("classify", source, "str", backbone, run)
    return strategy(name, **settings).fit(problem, Splits(source, target=target), run)


@pytest.fixture(scope="module")
def fitted(shared_bert: Any) -> Any:
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            made[name] = fit(name, shared_bert)
        return made[name]

    return get


@every
def test_labels_of_the_target_are_never_read(name: str, shared_bert: Any, fitted: Any) -> None:
    """A6: labelled, wrongly labelled, not labelled: the same predictions, bit for bit."""
    expected = fitted(name).logits(NEW)
    labels = TARGET.labels or ()
    for other in (labels[::-1], ("no such class",) * len(labels), None):
        found = fit(name, shared_bert, target=replace(TARGET, labels=other))
        assert np.array_equal(found.logits(NEW), expected)


def test_splits_take_labels_and_weights_off_the_target() -> None:
    splits = Splits(SOURCE, target=replace(TARGET, weights=np.ones(len(TARGET))))
    assert splits.target is not None
    assert (splits.target.labels, splits.target.weights) == (None, None)
    assert splits.train.labels == SOURCE.labels


@every
def test_the_target_makes_a_difference(name: str, shared_bert: Any, fitted: Any) -> None:
    other = fit(name, shared_bert, target=replace(TARGET, inputs=tuple(f"{x} river" for x in TARGET.inputs)))
    assert not np.array_equal(other.logits(NEW), fitted(name).logits(NEW))


@pytest.mark.parametrize("name", some([n for n in TRAINED if n not in (*AFTERWARDS, "osbp")]))
def test_without_weight_it_is_training_on_the_source_alone(name: str, shared_bert: Any, fitted: Any) -> None:
    """A4: bit for bit, whatever the alignment, with or without a target; and the weight does something."""
    alone = fit(name, shared_bert, target=None, weight=0.0)
    beside = fit(name, shared_bert, weight=0.0)
    assert np.array_equal(alone.logits(NEW), beside.logits(NEW))
    assert not np.array_equal(fitted(name).logits(NEW), alone.logits(NEW))
    assert np.array_equal(fit("mcc", shared_bert, target=None, weight=0.0).logits(NEW), alone.logits(NEW))


@every
def test_the_order_of_rows_makes_no_difference(name: str, shared_bert: Any, fitted: Any) -> None:
    """A8."""
    rng = np.random.default_rng(0)
    source, target = (data.take(rng.permutation(len(data))) for data in (SOURCE, TARGET))
    found = fit(name, shared_bert, source, target)
    expected = fitted(name).logits(NEW)
    assert found.logits(NEW) == pytest.approx(expected, abs=2e-3 * np.abs(expected).max())
    assert np.array_equal(found.logits(NEW).argmax(1), expected.argmax(1))


@every
def test_the_backbone_does_not_move_and_the_fit_is_repeatable(name: str, shared_bert: Any, fitted: Any) -> None:
    first = fitted(name)
    before = tm.state(shared_bert)
    torch.manual_seed(123)
    np.random.seed(123)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    again = fit(name, shared_bert)
    assert np.array_equal(again.logits(NEW), first.logits(NEW))
    assert tm.same_state(shared_bert, before)
    assert again.backbone is shared_bert
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]
    assert all(n.startswith("head.") for n in again.trained)


@every
def test_another_start_is_the_fit_of_another_seed(name: str, shared_bert: Any, fitted: Any) -> None:
    seed = int(np.random.SeedSequence([RUN.seed, 2]).generate_state(1)[0])
    found = fit(name, shared_bert, restart=2).logits(NEW)
    assert np.array_equal(found, fit(name, shared_bert, run=Run(seed=seed)).logits(NEW))
    assert not np.array_equal(found, fitted(name).logits(NEW))


@every
def test_a_saved_model_says_the_same_and_reads_raw_rows(name: str, fitted: Any, tmp_path: Path) -> None:
    predictor = fitted(name)
    predictor.save(tmp_path / "m")
    again = model.load(tmp_path / "m")
    assert np.array_equal(again.logits(NEW), predictor.logits(NEW))
    assert (again.strategy, again.settings, again.trained) == (name, predictor.settings, predictor.trained)
    rebuilt = named(again.strategy, json.loads(json.dumps(again.settings)))[1]
    assert rebuilt == strategy(name)
    alone = np.concatenate([again.logits([x]) for x in NEW])
    assert alone == pytest.approx(again.logits(NEW), abs=1e-4)


@every
@pytest.mark.parametrize(("n", "m"), [(33, 5), (9, 25), (17, 1)])
def test_any_two_numbers_of_rows(name: str, n: int, m: int, shared_bert: Any) -> None:
    """A3: also a last batch of one row, and a target of a single row."""
    found = fit(name, shared_bert, SOURCE.take(range(n)), TARGET.take(range(m)))
    assert np.isfinite(found.logits(NEW)).all()


@every
def test_without_a_target_it_says_so(name: str, shared_bert: Any) -> None:
    with pytest.raises(UserError, match=f"{name} adapts to rows .*--target-data"):
        fit(name, shared_bert, target=None)


@every
def test_rows_that_are_all_alike(name: str, shared_bert: Any) -> None:
    """A2: features without spread give finite numbers."""
    same = Data(("river",) * 12)
    found = fit(name, shared_bert, target=same)
    assert np.isfinite(found.logits(NEW)).all()


@trained
@pytest.mark.parametrize("task", ["regress", "multilabel", "ordinal"])
def test_other_tasks_are_served_or_refused_by_name(name: str, task: str, shared_bert: Any, tmp_path: Path) -> None:
    data, kind = tm.task_rows(task, 24)
    problem = tm.problem_of(task, data, kind, shared_bert, RUN)
    reads_classes = name not in ("deep_coral", "mmd", "afn", "sliced_wasserstein", "dann", "iwan", "wasserstein", "cmd")
    if reads_classes and task != "ordinal":
        with pytest.raises(UserError, match="use one that reads features alone"):
            strategy(name).fit(problem, Splits(data, target=TARGET), RUN)
        return
    found = strategy(name).fit(problem, Splits(data, target=TARGET), RUN)
    found.save(tmp_path / "m")
    assert np.array_equal(model.load(tmp_path / "m").outputs(NEW), found.outputs(NEW))


@pytest.mark.parametrize("name", ["shot", "mcd"])
@pytest.mark.parametrize("task", ["regress", "multilabel"])
def test_one_class_a_row_is_needed(name: str, task: str, shared_bert: Any) -> None:
    data, kind = tm.task_rows(task, 24)
    problem = tm.problem_of(task, data, kind, shared_bert, RUN)
    with pytest.raises(UserError, match=f"{name} gives each target row one class, and the task is {task}"):
        strategy(name).fit(problem, Splits(data, target=TARGET), RUN)


@every
def test_several_processes_are_refused(name: str, shared_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "world", lambda: 2)
    with pytest.raises(UserError, match="start it as one process"):
        fit(name, shared_bert)


@pytest.mark.parametrize("name", ["dann", "mcc", "shot", "mcd", "pada", "iwan", "wasserstein", "adda", "osbp"])
def test_a_killed_run_goes_on_to_the_same_bits(name: str, shared_bert: Any, fitted: Any, tmp_path: Path) -> None:
    """A checkpoint after every step; the newest two of each part are kept, and one of them is gone on from."""
    run = replace(RUN, state=tmp_path, checkpoint_every=0.0)
    assert np.array_equal(fit(name, shared_bert, run=run).logits(NEW), fitted(name).logits(NEW))
    last = tmp_path / "target" if name in AFTERWARDS else tmp_path
    kept = sorted(last.glob("[0-9]*-[0-9]*"))
    assert len(kept) == 2
    shutil.rmtree(kept[-1])  # killed one step earlier
    said: list[str] = []
    run.progress.say = said.append  # type: ignore[method-assign]
    assert np.array_equal(fit(name, shared_bert, run=run).logits(NEW), fitted(name).logits(NEW))
    assert any("going on from step" in s for s in said)
