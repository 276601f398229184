"""A student learns from a saved teacher: the formula, whose rows, in whose order of classes, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import backbones
from acclimate import model as bundles
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import Splits, adapts, named
from acclimate.strategies.distil import Distil, Taught, in_order
from acclimate.strategies.inputs import Inputs
from acclimate.strategies.probe import Probe
from acclimate.strategies.tune import Tune
from stopping import killed_at

RUN = Run(seed=3)
LABELS = ("neutral", "bad", "good")
DATA, VALID, TARGET = (tm.rows(n, labels=LABELS, seed=seed) for n, seed in ((18, 0), (12, 1), (12, 2)))


@pytest.fixture(scope="module")
def teacher(folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A probe on another backbone that saw more rows."""
    data = tm.rows(60, labels=LABELS, seed=5)
    problem = tm.problem_of("classify", data, "str", backbones.load(str(folder_of("distilbert"))), RUN)
    return str(Probe().fit(problem, Splits(data), RUN).save(tmp_path_factory.mktemp("teacher") / "model"))


def fit(backbone: Any, run: Run = RUN, data: Data = DATA, valid: Data | None = None, **settings: Any) -> Predictor:
    strategy = named("distil", {"num_train_epochs": 2, "batch_size": 5, "learning_rate": 1e-3, **settings})[1]
    problem = tm.problem_of("classify", data, "str", backbone, run)
    return strategy.fit(problem, Splits(data, valid, TARGET), run)


def equal(one: Predictor, other: Predictor) -> bool:
    assert other.backbone is not None
    return tm.same_state(one.backbone, tm.state(other.backbone)) and tm.same_state(one.head, tm.state(other.head))


def test_the_loss_is_its_formula_row_by_row(shared_bert: Any) -> None:
    problem = tm.problem_of("classify", DATA, "str", shared_bert, RUN)
    rng = np.random.default_rng(0)
    said, z = (torch.tensor(rng.normal(0, 2, (18, 3)), dtype=torch.float32) for _ in range(2))
    known, weights = (torch.tensor(v, dtype=torch.float32) for v in (rng.integers(0, 2, 18), rng.random(18)))
    taught = Taught(Inputs(problem, DATA, shared_bert, RUN), said, known, weights)
    at, share, temperature = [4, 0, 17, 3, 9], 0.3, 2.5
    found = taught.losses(z[at], at, share, temperature)
    for row, i in zip(found.tolist(), at, strict=True):
        t, s = ([math.exp(v / temperature) for v in one[i].tolist()] for one in (said, z))
        p, q = [v / sum(t) for v in t], [v / sum(s) for v in s]
        apart = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        up = [math.exp(v) for v in z[i].tolist()]
        wrong = -math.log(up[int(taught.inputs.targets[i])] / sum(up))
        expected = float(weights[i]) * ((1 - share) * float(known[i]) * wrong + share * temperature**2 * apart)
        assert row == pytest.approx(expected, abs=1e-5)


def test_without_the_teachers_share_it_is_tuning(shared_bert: Any, teacher: str) -> None:
    before = tm.state(shared_bert)
    found = fit(shared_bert, valid=VALID, teacher=teacher, share=0.0)
    tune = Tune(start="probe", num_train_epochs=2, batch_size=5, learning_rate=1e-3)
    problem = tm.problem_of("classify", DATA, "str", shared_bert, RUN)
    expected = tune.fit(problem, Splits(DATA, VALID), RUN)
    assert [h["step"] for h in found.history] == [h["step"] for h in expected.history]
    assert np.allclose(found.logits(VALID.inputs), expected.logits(VALID.inputs), atol=1e-5)
    assert tm.same_state(shared_bert, before)


def test_the_teacher_alone_is_followed_and_no_label_is_read_then(shared_bert: Any, teacher: str) -> None:
    settings = {"teacher": teacher, "share": 1.0, "start": "zero", "dropout": 0.0}
    shuffled = replace(DATA, labels=tuple(np.random.default_rng(0).permutation(np.array(DATA.labels)).tolist()))
    assert equal(fit(shared_bert, **settings), fit(shared_bert, data=shuffled, **settings))
    found = fit(shared_bert, **{**settings, "num_train_epochs": 25})
    said = in_order(bundles.load(teacher), tm.problem_of("classify", DATA, "str", None, RUN),
                    bundles.load(teacher).logits(DATA.inputs))  # fmt: skip
    assert (found.logits(DATA.inputs).argmax(1) == said.argmax(1)).mean() > 0.9
    assert found.notes[1] == f"the teacher is linear_probe in {teacher}"


def test_rows_without_labels_are_learned_from_where_it_is_asked(shared_bert: Any, teacher: str) -> None:
    alone, both = (fit(shared_bert, teacher=teacher, rows=rows) for rows in ("train", "both"))
    assert (alone.history[-1]["step"], both.history[-1]["step"]) == (2 * 4, 2 * 6)
    chosen = fit(shared_bert, valid=VALID, teacher=teacher, rows="both")
    assert all(h["valid_loss"] is None for h in chosen.history)  # the last epoch is kept
    assert (adapts(named("distil")[1]), adapts(named("distil", {"rows": "both"})[1])) == (False, True)
    with pytest.raises(UserError, match="give them with --target-data"):
        Distil(teacher=teacher, rows="both").fit(
            tm.problem_of("classify", DATA, "str", shared_bert, RUN), Splits(DATA), RUN
        )


def test_classes_in_another_order_are_put_right(shared_bert: Any, teacher: str) -> None:
    loaded = bundles.load(teacher)
    turned = replace(loaded, decoder=replace(loaded.decoder, classes=("good", "neutral", "bad")))
    problem = tm.problem_of("classify", DATA, "str", shared_bert, RUN)
    assert problem.decoder.classes == ("bad", "good", "neutral")
    logits = np.array([[1.0, 2.0, 3.0]])
    assert in_order(turned, problem, logits).tolist() == [[3.0, 1.0, 2.0]]


def test_a_killed_run_goes_on_bit_for_bit_and_is_saved_whole(shared_bert: Any, teacher: str, tmp_path: Path) -> None:
    whole = fit(shared_bert, valid=VALID, teacher=teacher)
    run = replace(RUN, state=tmp_path / "state", checkpoint_every=0.0)
    killed_at(6, lambda: fit(shared_bert, run, valid=VALID, teacher=teacher))
    resumed = fit(shared_bert, run, valid=VALID, teacher=teacher)
    assert equal(resumed, whole)
    assert resumed.history == whole.history
    again = bundles.load(resumed.save(tmp_path / "model"))
    assert np.array_equal(again.logits(VALID.inputs), whole.logits(VALID.inputs))
    assert named("distil", again.settings)[1] == named("distil", whole.settings)[1]
    assert not equal(whole, fit(shared_bert, replace(RUN, seed=4), valid=VALID, teacher=teacher))


def test_weights_count(shared_bert: Any, teacher: str) -> None:
    heavy = replace(DATA, weights=np.linspace(0.1, 2.0, len(DATA)))
    assert not equal(fit(shared_bert, teacher=teacher), fit(shared_bert, data=heavy, teacher=teacher))


def test_what_cannot_teach_is_said(shared_bert: Any, teacher: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name its folder with --set teacher=FOLDER"):
        fit(shared_bert)
    with pytest.raises(UserError, match="there is no folder 'nowhere'"):
        fit(shared_bert, teacher="nowhere")
    with pytest.raises(UserError, match="is not a model saved by acclimate"):
        fit(shared_bert, teacher=str(tmp_path))
    with pytest.raises(UserError, match="'bad', 'good', 'neutral', and the rows ask classify with 'a', 'b'"):
        fit(shared_bert, data=tm.rows(18, labels=("a", "b")), teacher=teacher)
    numbers = Data(DATA.inputs, tuple(float(i) for i in range(len(DATA))))
    problem = tm.problem_of("regress", numbers, "float", shared_bert, RUN)
    with pytest.raises(UserError, match="the task is regress"):
        Distil(teacher=teacher).fit(problem, Splits(numbers), RUN)
    pictures = tm.pictures(8)
    problem = tm.problem_of("classify", pictures, "str", tm.TinyCnn(), RUN)
    problem = replace(problem, decoder=replace(problem.decoder, classes=("bad", "good", "neutral")))
    with pytest.raises(UserError, match="reads text, and the rows are image"):
        Distil(teacher=teacher).fit(problem, Splits(pictures), RUN)
    for settings, match in (
        ({"share": 1.5}, "share=1.5"),
        ({"temperature": 0}, "temperature=0"),
        ({"rows": "x"}, "rows"),
    ):
        with pytest.raises(UserError, match=match):
            named("distil", settings)
