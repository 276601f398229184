"""ADDA and OSBP: whom each part of a loss moves, what is called unknown, and where that is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import acclimate
import tiny_models as tm
from acclimate import model
from acclimate.align.adversarial import Dann
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.strategies.adapt import Adapt
from acclimate.strategies.bottleneck import forked
from acclimate.strategies.domains import Domains
from acclimate.strategies.opposed import Adda, Opposed, Osbp, halfway
from acclimate.tasks import TASKS
from acclimate.tasks.heads import BottleneckHead
from acclimate.train.pairs import Pairs, even
from feature_rows import feature_problem

D, K, TASK = 4, 3, TASKS["classify"]
problem = partial(feature_problem, D, K)
SMALL: dict[str, Any] = {"bottleneck": 8, "batch_size": 7, "num_train_epochs": 3}


def points(n: int, seed: int, move: float = 0.0, classes: int = K) -> Data:
    """One Gaussian a class along an axis of its own, all moved along the last axis; class 3 lies far along that."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    x = 0.5 * rng.normal(size=(n, D))
    x[np.arange(n), labels] += 3.0
    x[:, -1] += move
    return Data(tuple(map(tuple, x.round(4).tolist())), tuple(labels.tolist()), clusters=np.arange(n))


SOURCE, TARGET = points(21, 0), points(14, 1, move=1.0)


# ---- ADDA


def opposed() -> Opposed:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = Opposed(BottleneckHead(D, K, 5), Dann(hidden=6).attach(5, 0)).double()  # type: ignore[arg-type]
        for parameter in found.parameters():
            torch.nn.init.normal_(parameter)
    found.head.last.requires_grad_(False)
    return found


def test_adda_is_two_losses_each_of_which_moves_its_own_weights() -> None:
    """The critic by plain labels, the bottleneck by labels turned round: two backward passes by hand."""
    fast, rng = opposed(), np.random.default_rng(1)
    slow = copy.deepcopy(fast)
    fixed, target = torch.from_numpy(rng.normal(size=(6, 5))), torch.from_numpy(rng.normal(size=(4, D)))
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.1, 1.4], dtype=torch.float64)
    fast.both(fixed, weights, target).backward()
    critic, share = slow.critic.critic, weights / weights.sum()
    with torch.no_grad():
        hidden = slow.head.hidden(target)
    tells = sum(-w * torch.log(torch.sigmoid(critic(h))) / 2 for w, h in zip(share, fixed, strict=True))
    tells = tells + sum(-torch.log(1 - torch.sigmoid(critic(h))) / 8 for h in hidden)
    for p, gradient in zip(critic.parameters(), torch.autograd.grad(tells.sum(), critic.parameters()), strict=True):
        p.grad = gradient
    misled = sum(-torch.log(torch.sigmoid(critic(slow.head.hidden(row[None])))) / 4 for row in target)
    first = [*slow.head.inner.parameters(), *slow.head.norm.parameters()]
    for p, gradient in zip(first, torch.autograd.grad(misled.sum(), first), strict=True):
        p.grad = gradient
    for (name, ours), theirs in zip(fast.named_parameters(), slow.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None) == name.startswith("head.last"), name
        if ours.grad is not None and theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_a_whole_training_of_adda_is_that_of_two_optimisers() -> None:
    adda = Adda(**SMALL, hidden=6, target_epochs=2, weight_decay=0.0, max_grad_norm=0.0, target_rate=0.01)
    run, known = Run(seed=3), Domains.of(problem(), Splits(SOURCE, target=TARGET), "source", TARGET)
    head = BottleneckHead(D, K, 8)
    torch.nn.init.normal_(head.last.weight)
    expected, before = copy.deepcopy(head), copy.deepcopy(head)
    with forked(run):
        adda.adapt(head, known, run)
    with forked(run):
        critic: Any = Dann(hidden=6).attach(8, 0)
    source, target = (torch.tensor(v, dtype=torch.float32) for v in (known.source, known.target))
    fixed = expected.hidden(source).detach()
    mine = torch.optim.Adam([*expected.inner.parameters(), *expected.norm.parameters()], lr=0.01)
    its = torch.optim.Adam(critic.parameters(), lr=0.01)
    pairs = Pairs(*(even(len(v), 7, run.seed, i) for i, v in enumerate((source, target))), 2)
    batches = [batch for epoch in range(2) for batch in pairs.epoch(epoch)]
    for number, batch in enumerate(batches):
        ours, theirs = fixed[pairs.source(batch)], expected.hidden(target[pairs.target(batch)])
        tells = F.softplus(-critic.critic(ours)).mean() / 2 + F.softplus(critic.critic(theirs.detach())).mean() / 2
        steps = [
            torch.autograd.grad(F.softplus(-critic.critic(theirs)).mean(), mine.param_groups[0]["params"]),
            torch.autograd.grad(tells, list(critic.parameters())),
        ]
        for optimizer, gradients in zip((mine, its), steps, strict=True):
            for p, gradient in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
                p.grad = gradient
            optimizer.param_groups[0]["lr"] = 0.01 * adda.schedule(21).factor(number, len(batches))
            optimizer.step()
    for name, value in head.state_dict().items():
        assert value.numpy() == pytest.approx(expected.state_dict()[name].numpy(), abs=2e-5), name
    assert torch.equal(head.last.weight, before.last.weight)
    assert not torch.allclose(head.inner.weight, before.inner.weight, atol=1e-3)


def test_adda_begins_with_the_source_alone_and_says_what_its_critic_tells() -> None:
    made = problem()
    fitted = Adda(**SMALL, target_epochs=1, target_rate=1e-9).fit(made, Splits(SOURCE, target=TARGET), Run(seed=3))
    alone = Adapt(**SMALL, weight=0.0).fit(made, Splits(SOURCE), Run(seed=3))
    expected = alone.logits(SOURCE.inputs, Run(), made.store)
    assert fitted.logits(SOURCE.inputs, Run(), made.store) == pytest.approx(expected, abs=1e-5)
    assert "its critic tells the domain of" in fitted.notes[0]


@pytest.mark.parametrize(("name", "value"), [("target_rate", 0.0), ("target_epochs", 0), ("hidden", 0)])
def test_settings_of_adda_that_mean_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=name):
        Adda(**{name: value})


# ---- OSBP


@pytest.mark.parametrize("t", [0.5, 0.2])
def test_the_loss_of_osbp_is_its_formula(t: float) -> None:
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 4))).requires_grad_()
    expected = torch.zeros((), dtype=torch.float64)
    for row in z:
        up = [torch.exp(v) for v in row]
        p = up[-1] / sum(up)
        expected = expected - (t * torch.log(p) + (1 - t) * torch.log(1 - p)) / 6
    found = halfway(z, t)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(v, z)[0] for v in (found, expected)))


def test_it_is_finite_where_the_last_layer_is_certain() -> None:
    """log(1 − p) of p = 1 in floats is −∞."""
    z = torch.tensor([[0.0, 0.0, 800.0], [0.0, 0.0, -800.0]], requires_grad=True)
    value = halfway(z, 0.5)
    assert value.item() == pytest.approx(400, rel=1e-2)
    value.backward()
    assert z.grad is not None and torch.isfinite(z.grad).all() and z.grad[0, 2] > 0 > z.grad[1, 2]


def test_the_last_layer_goes_to_t_and_features_away_from_it() -> None:
    from acclimate.align.base import reverse_gradient

    last, hidden = torch.nn.Linear(2, 3), torch.randn(8, 2, requires_grad=True)
    first = halfway(last(reverse_gradient(hidden, 1.0)), 0.5)
    layer, features = torch.autograd.grad(first, [last.weight, hidden])
    with torch.no_grad():
        moved = halfway(F.linear(hidden, last.weight - 0.1 * layer, last.bias), 0.5)
        away = halfway(last(hidden - 0.1 * features), 0.5)
    assert moved < first < away


def test_rows_of_a_class_that_the_source_lacks_are_called_unknown() -> None:
    source, target = points(240, 0), points(240, 1, classes=4)
    osbp = Osbp(unknown=-1, bottleneck=32, num_train_epochs=40)
    made = problem()
    fitted = osbp.fit(made, Splits(source, target=target), Run(seed=0))
    assert fitted.decoder.classes == (0, 1, 2, -1)
    outputs = fitted.outputs(target.inputs, Run(), made.store)
    answers = fitted.task.answers(fitted.task.decide(outputs, fitted.decoder), fitted.decoder)
    truth = [-1 if y == 3 else y for y in target.labels or ()]
    assert np.mean([a == y for a, y in zip(answers, truth, strict=True)]) > 0.9
    assert np.mean([a == -1 for a, y in zip(answers, truth, strict=True) if y == -1]) > 0.9
    share = round(100 * answers.count(-1) / 240)
    assert f"osbp: {answers.count(-1)} of 240 target rows ({share} %) are called -1; no label" in fitted.notes[0]


def texts(task: str, backbone: Any, **settings: Any) -> Any:
    rows, kind = tm.task_rows(task, 24)
    made = tm.problem_of(task, rows, kind, backbone, Run(seed=3))
    short = {"num_train_epochs": 2, "bottleneck": 8}
    return named("osbp", {**short, **settings})[1].fit(made, Splits(rows, target=tm.rows(9, seed=8)), Run(seed=3))


def test_unknown_is_the_last_column_and_is_saved(shared_bert: Any, tmp_path: Path) -> None:
    found = texts("classify", shared_bert)
    assert found.decoder.classes == ("bad", "good", "neutral", "unknown")
    assert found.outputs(["one", "two"]).sum(1) == pytest.approx(1)
    found.save(tmp_path / "m")
    again = model.load(tmp_path / "m")
    assert np.array_equal(again.outputs(["a river"]), found.outputs(["a river"]))
    assert again.decoder == found.decoder
    assert named(again.strategy, json.loads(json.dumps(again.settings)))[0] == "osbp"
    alone = texts("classify", shared_bert, weight=0.0)
    assert not alone.notes and not np.array_equal(alone.outputs(["a river"]), found.outputs(["a river"]))


@pytest.mark.parametrize("task", ["ordinal", "regress", "multilabel"])
def test_other_tasks_are_refused(task: str, shared_bert: Any) -> None:
    with pytest.raises(UserError, match=f"the task is {task}; use predict --abstain-below"):
        texts(task, shared_bert)


def opened(labels: tuple[Any, ...], name: Any = "unknown") -> Problem:
    made = replace(problem(), decoder=TASK.decoder(labels, "str"))
    return Osbp(unknown=name).opened(made)


def test_a_name_that_labels_have_or_could_not_have_is_refused() -> None:
    assert opened(("a", "b")).decoder.classes == ("a", "b", "unknown")
    with pytest.raises(UserError, match="type int, and osbp would call unknown rows 'unknown'"):
        opened((0, 1))
    with pytest.raises(UserError, match="type bool"):
        opened((True, False), 2)
    with pytest.raises(UserError, match="training rows are labelled 'b'"):
        opened(("a", "b", "c"), "b")
    source = replace(SOURCE, labels=tuple("abc"[y] for y in SOURCE.labels or ()))
    made = replace(problem(), decoder=TASK.decoder(source.labels, "str"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="training rows are labelled 'c'"):
        Osbp(**SMALL, unknown="c").fit(made, Splits(source, target=TARGET), Run())


@pytest.mark.parametrize("value", [0.0, 1.0, -0.2])
def test_a_threshold_that_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(UserError, match=f"threshold={value}"):
        Osbp(threshold=value)


@pytest.mark.real  # slow
def test_from_a_file_test_rows_may_be_unknown(folder_of: Any, tmp_path: Path) -> None:
    rows = tm.rows(40)
    source = {"text": list(rows.inputs), "label": list(rows.labels or ())}
    other = tm.rows(12, seed=5)
    labels = ["unknown" if i % 3 == 0 else y for i, y in enumerate(other.labels or ())]
    test = {"text": list(other.inputs), "label": labels}
    found = acclimate.fit(
        source, label="label", target_data={"text": [f"{x} sea" for x in tm.rows(20, seed=7).inputs]}, test_data=test,
        strategy="osbp", settings={"num_train_epochs": 2}, model=str(folder_of("bert")),
        output_dir=str(tmp_path / "run"), quiet=True,
    )  # fmt: skip
    assert found.classes_ == ("bad", "good", "unknown")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(report["scores"]["per_class"]) == {"bad", "good", "unknown"}
    assert report["scores"]["metrics"]["accuracy"]["n"] == 12
    assert not any("never saw" in d or "unseen" in d for d in report["decisions"])
