"""Ties to the pretrained network in training: with whatever moves and aligns, to the same bits when gone on with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import hold, ranks
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Splits
from acclimate.strategies.inputs import Inputs
from acclimate.strategies.probe import first_head
from acclimate.strategies.tune import Tune
from acclimate.train import loop

RUN = Run()
TARGET = tm.rows(20, labels=("neutral",), seed=9)
NAMES = list(hold.HOLDS)


def fit(tune: Tune, backbone: Any, data: Any = None, run: Run = RUN, task: str = "classify", valid: Any = None) -> Any:
    rows = data or tm.task_rows(task, 16)[0]
    kind = {"classify": "str", "ordinal": "int", "multilabel": "list", "regress": "float"}[task]
    return tune.fit(tm.problem_of(task, rows, kind, backbone, run), Splits(rows, valid, TARGET), run)


def tuned(**settings: Any) -> Tune:
    return Tune(**{"start": "probe", "num_train_epochs": 2, "batch_size": 6, "learning_rate": 1e-3, **settings})


def drift(fitted: Any, backbone: Any) -> float:
    pairs = zip(fitted.backbone.parameters(), backbone.parameters(), strict=True)
    return float(sum((a - b).square().sum() for a, b in pairs).detach())


MOVES = ("all", "top:1", "first:1", "bias", "norm", "lora", "peft:ia3", "surgical")
SLOW = {(m, "coral") for m in ("top:1", "first:1", "bias", "norm")}  # as with "all", of fewer weights


@pytest.mark.parametrize(
    ("moves", "align"),
    [pytest.param(m, a, marks=[pytest.mark.real] * ((m, a) in SLOW)) for m in MOVES for a in ("none", "coral")],
)
def test_every_hold_goes_with_whatever_moves_and_aligns(moves: str, align: str, shared_bert: Any) -> None:
    """All at once, on batches of six, six and four rows."""
    plain = fit(tuned(moves=moves, align=align), shared_bert)
    held = fit(tuned(moves=moves, align=align, hold="+".join(NAMES)), shared_bert)
    assert np.isfinite(held.logits(["good day"])).all()
    assert held.history[-1]["train_loss"] != plain.history[-1]["train_loss"]
    assert held.trained == plain.trained


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("align", ["none", "dann"])
def test_without_weight_it_is_as_if_nothing_held_bit_for_bit(name: str, align: str, shared_bert: Any) -> None:
    plain, without = (fit(tuned(align=align, hold=h), shared_bert) for h in ("none", f"{name}:0"))
    assert tm.same_state(without.backbone, tm.state(plain.backbone))
    assert tm.same_state(without.head, tm.state(plain.head))
    assert without.history == plain.history


@pytest.mark.parametrize("name", ["l2_sp:10", "features:100"])
def test_a_heavy_hold_keeps_the_encoder_where_it_was(name: str, shared_bert: Any) -> None:
    settings = {"num_train_epochs": 6, "dropout": 0.0, "weight_decay": 0.0}
    plain, held = (fit(tuned(hold=h, **settings), shared_bert) for h in ("none", name))
    texts = list(tm.task_rows("classify", 16)[0].inputs)
    if name.startswith("l2"):
        assert drift(held, shared_bert) < 0.5 * drift(plain, shared_bert)
    else:
        before = tm.problem_of("classify", tm.rows(4), "str", shared_bert, RUN).network()[1].get(texts)
        gaps = []
        for fitted in (plain, held):
            now = tm.problem_of("classify", tm.rows(4), "str", fitted.backbone, RUN).network()[1].get(texts)
            gaps.append(float(np.square(now - before).sum()))
        assert gaps[1] < 0.5 * gaps[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_step_is_that_of_the_rows_and_the_penalty(name: str, shared_bert: Any) -> None:
    """mean_i w_i ℓ_i + weight · penalty, with the pretrained features of just these rows."""
    data = replace(tm.rows(12), weights=np.linspace(0.5, 1.5, 12))
    problem = tm.problem_of("classify", data, "str", shared_bert, RUN)
    tune = tuned(hold=f"{name}:0.3")
    network, _ = tune.started(problem, first_head(tune.start, problem, Splits(data), RUN), RUN)
    rows = Inputs(problem, data, network.backbone, RUN)
    rows.holding = tune.holding(network, problem, data)
    starts = {f"backbone.{n}": p.clone() for n, p in shared_bert.named_parameters()}
    head = {n: p.clone() for n, p in network.head.named_parameters()}
    torch.manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    network.eval()
    at = [7, 2, 9]
    value = float(rows.step_loss(network, at).detach())
    output = network(network.backbone.collate([rows.encoded[i] for i in at]))
    before = torch.from_numpy(problem.network()[1].get([data.inputs[i] for i in at]))
    old = type(network.head)(**network.head.shape)
    old.load_state_dict(head)
    pretrained = hold.Pretrained(starts, before, old(before), old)
    expected = rows.losses(network, at).mean() + 0.3 * hold.HOLDS[name]()(network, pretrained, output)
    assert value == pytest.approx(float(expected.detach()), rel=1e-5)


def test_with_l2_sp_the_backbone_is_not_pulled_to_zero_as_well(shared_bert: Any) -> None:
    problem = tm.problem_of("classify", tm.rows(8), "str", shared_bert, RUN)
    network = problem.task.attach(shared_bert.clone().requires_grad_(True), problem.decoder)
    decays = {
        name: [g["weight_decay"] for g in Tune(hold=name, weight_decay=0.1).optimizer_of(network).param_groups]
        for name in ("none", "bss", "l2_sp", "l2_sp:0")
    }
    assert decays["none"] == decays["bss"] == decays["l2_sp:0"] == [0.1, 0.0, 0.1, 0.0]
    assert decays["l2_sp"] == [0.0, 0.0, 0.1, 0.0]


@pytest.mark.parametrize("task", ["classify", "ordinal", "multilabel", "regress"])
def test_every_task_can_be_held(task: str, shared_bert: Any) -> None:
    assert np.isfinite(fit(tuned(hold="l2_sp+bss+features"), shared_bert, task=task).logits(["good day"])).all()
    if task in ("classify", "ordinal"):
        assert np.isfinite(fit(tuned(hold="lwf"), shared_bert, task=task).logits(["good day"])).all()
        return
    with pytest.raises(UserError, match=f"lwf compares the probabilities of classes, and the task is {task}; use feat"):
        fit(tuned(hold="lwf"), shared_bert, task=task)


def test_a_run_goes_on_bit_for_bit(shared_bert: Any, tmp_path: Any) -> None:
    data, valid = tm.rows(16), tm.rows(8, seed=1)
    tune = tuned(hold="l2_sp:0.1+bss+features+lwf", batch_size=4)
    whole = fit(tune, shared_bert, data, valid=valid)
    run = Run(state=tmp_path, checkpoint_every=0.0)
    with pytest.MonkeyPatch.context() as patch:
        step, count = loop._step, [0]

        def killed(*args: Any) -> Any:
            count[0] += 1
            if count[0] == 6:
                raise RuntimeError("killed")
            return step(*args)

        patch.setattr(loop, "_step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            fit(tune, shared_bert, data, run, valid=valid)
    resumed = fit(tune, shared_bert, data, run, valid=valid)
    assert resumed.history == whole.history
    assert tm.same_state(resumed.backbone, tm.state(whole.backbone))


def test_what_compares_the_rows_of_a_batch_is_one_process(shared_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Tune(hold="l2_sp+bss", align="coral")._compared == "coral+bss"
    assert Tune(hold="l2_sp")._compared == ""
    monkeypatch.setattr(ranks, "world", lambda: 2)
    with pytest.raises(UserError, match="hold='bss' compares the rows of a whole batch"):
        fit(tuned(hold="bss", start="zero"), shared_bert)
