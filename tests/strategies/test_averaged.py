"""Weights in the middle: the ends bit for bit, what is chosen, one ordinary model out of it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import model as bundles
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import Splits, named
from acclimate.strategies.averaged import ALPHAS, Soup, WiseFt, between, greedy, mean
from acclimate.strategies.inputs import Inputs
from acclimate.strategies.probe import Probe
from acclimate.strategies.tune import Tune
from acclimate.tasks.base import Network
from acclimate.train.memory import Fitting
from stopping import killed_at

RUN = Run(seed=3)
DATA, VALID = tm.rows(16), tm.rows(20)  # the rows to choose by hold the others, so that tuning lowers their loss
WISE = WiseFt(num_train_epochs=2, batch_size=4, learning_rate=3e-4)
SOUP = Soup(members=2, num_train_epochs=2, batch_size=4, learning_rate=3e-4)
LP_FT = Tune(start="probe", num_train_epochs=2, batch_size=4, learning_rate=3e-4)


def fit(strategy: Any, backbone: Any, run: Run = RUN, valid: Any = VALID, data: Any = DATA, **more: Any) -> Predictor:
    found: Predictor = strategy.fit(
        tm.problem_of("classify", data, "str", backbone, run, **more), Splits(data, valid), run
    )
    return found


def test_rates_go_up_and_down(shared_bert: Any) -> None:
    problem = tm.problem_of("classify", DATA, "str", shared_bert, RUN)
    rates = [Soup(learning_rate=1.0, spread=4.0).member(number, problem).learning_rate for number in range(4)]
    assert rates == [1.0, 4.0, 0.25, 1.0]


def equal(one: Predictor, other: Predictor) -> bool:
    assert other.backbone is not None
    return tm.same_state(one.backbone, tm.state(other.backbone)) and tm.same_state(one.head, tm.state(other.head))


def loss(found: Predictor, valid: Any = VALID) -> float:
    """Of the rows to choose by."""
    problem = tm.problem_of("classify", DATA, "str", found.backbone, RUN)
    assert found.backbone is not None
    network = Network(found.backbone, found.head)
    return Inputs(problem, valid, found.backbone, RUN).mean_loss(network, Fitting(network, RUN.progress))


@pytest.mark.parametrize("moves", ["all", "lora"])
def test_the_ends_are_the_probe_and_the_tuning_bit_for_bit(moves: str, shared_bert: Any) -> None:
    before = tm.state(shared_bert)
    start, end = (fit(replace(WISE, moves=moves, alpha=alpha), shared_bert) for alpha in (0.0, 1.0))
    assert equal(end, fit(replace(LP_FT, moves=moves), shared_bert, valid=None))
    assert not equal(end, start)
    assert tm.same_state(start.backbone, before)
    assert tm.same_state(start.head, tm.state(fit(Probe(), shared_bert, valid=None).head))
    assert tm.same_state(shared_bert, before)
    assert (start.adapter, end.adapter_config) == (None, None)  # they are not of these weights


def test_between_the_ends_every_weight_is() -> None:
    start, end = ({"w": torch.tensor(v), "n": torch.tensor(c)} for v, c in (([1.0, -2.0], 3), ([2.0, 4.0], 9)))
    found = between(start, end, 0.3)
    assert found["w"].tolist() == pytest.approx([0.7 * 1 + 0.3 * 2, 0.7 * -2 + 0.3 * 4])
    assert int(found["n"]) == 9  # a counter
    third = {"w": torch.tensor([6.0, 1.0]), "n": torch.tensor(1)}
    assert mean([start, end, third])["w"].tolist() == [3.0, 1.0]
    assert int(mean([start, end, third])["n"]) == 3


def test_alpha_has_the_least_loss_on_the_rows_to_choose_by(shared_bert: Any) -> None:
    wise = replace(WISE, learning_rate=6e-4)
    found = fit(wise, shared_bert)
    start, end = (fit(replace(wise, alpha=alpha), shared_bert) for alpha in (0.0, 1.0))
    assert start.backbone is not None and end.backbone is not None
    losses = []
    for alpha in ALPHAS:
        middle = Network(start.backbone.clone(), copy.deepcopy(start.head))
        for ours, theirs in zip(middle.parameters(), [*end.backbone.parameters(), *end.head.parameters()], strict=True):
            ours.data = ours.data + alpha * (theirs.data - ours.data)
        losses.append(loss(replace(start, backbone=middle.backbone, head=middle.head)))
    best = int(np.argmin(losses))
    assert 0 < best < 10  # neither end, or nothing is shown
    assert found.notes[-1].startswith(f"α = {ALPHAS[best]:g} (loss on rows to choose by: probe {losses[0]:.4f}")
    assert equal(found, fit(replace(wise, alpha=ALPHAS[best]), shared_bert))
    half = fit(wise, shared_bert, valid=None)
    assert half.notes[-1] == "α = 0.5: no rows to choose it by"
    assert equal(half, fit(replace(wise, alpha=0.5), shared_bert, valid=None))


def test_a_soup_of_one_is_the_tuning_itself_and_of_all_is_their_mean(shared_bert: Any) -> None:
    assert equal(fit(replace(SOUP, members=1), shared_bert), fit(LP_FT, shared_bert))
    found = fit(SOUP, shared_bert, valid=None)
    assert found.notes[-1] == "all 2 tunings averaged: no rows to choose by"
    seeds = [3, int(np.random.SeedSequence([3, 1]).generate_state(1)[0])]
    members = [
        fit(replace(LP_FT, learning_rate=rate), shared_bert, replace(RUN, seed=seed), None)
        for rate, seed in zip((3e-4, 6e-4), seeds, strict=True)
    ]
    for name, value in found.head.state_dict().items():
        expected = sum(m.head.state_dict()[name].double() for m in members) / 2
        assert torch.equal(value, expected.float())
    for name, value in dict(found.backbone.named_parameters()).items():  # type: ignore[union-attr]
        expected = sum(dict(m.backbone.named_parameters())[name].double() for m in members) / 2  # type: ignore[union-attr]
        assert torch.equal(value, expected.float())


class _Table:
    """Losses of means, known beforehand."""

    def __init__(self, values: dict[tuple[int, ...], float]) -> None:
        self.values = values

    def loss(self, state: dict[str, torch.Tensor]) -> float:
        members = tuple(sorted({1: 0, 2: 1, 4: 2}[bit] for bit in (1, 2, 4) if round(float(state["w"][bit])) > 0))
        return self.values[members]


def test_greedy_adds_in_order_what_does_not_raise_the_loss() -> None:
    states = [{"w": torch.eye(5)[bit] * 9} for bit in (1, 2, 4)]
    values = {(0,): 0.5, (1,): 0.3, (2,): 0.4, (1, 2): 0.35, (0, 1): 0.3}
    chosen, note = greedy(_Table(values), states)  # type: ignore[arg-type]
    assert chosen == [1, 0]  # 2 comes second and raises it; 0 leaves it as it is
    assert note == "2 of 3 tunings averaged (loss on rows to choose by 0.3000, of the best alone 0.3000)"


def test_the_soup_is_never_worse_than_its_best_on_the_rows_to_choose_by(shared_bert: Any) -> None:
    found = fit(SOUP, shared_bert)
    alone = [fit(replace(LP_FT, learning_rate=3e-4), shared_bert)]
    assert loss(found) <= min(map(loss, alone)) + 1e-12
    assert f"loss on rows to choose by {loss(found):.4f}" in found.notes[-1]


@pytest.mark.parametrize("strategy", [WISE, SOUP])
def test_weights_count_and_seeds_differ(strategy: Any, shared_bert: Any) -> None:
    found = fit(strategy, shared_bert)
    assert not equal(found, fit(strategy, shared_bert, replace(RUN, seed=4)))
    heavy = replace(DATA, weights=np.linspace(0.1, 2.0, len(DATA)))
    assert not equal(found, fit(strategy, shared_bert, data=heavy))
    valid = replace(VALID, weights=np.r_[np.ones(2), np.full(len(VALID) - 2, 1e-9)])
    assert fit(strategy, shared_bert, valid=valid).notes[-1] != found.notes[-1]


@pytest.mark.parametrize(("strategy", "stop"), [(WISE, 6), (SOUP, 12)])
def test_a_killed_run_goes_on_bit_for_bit(strategy: Any, stop: int, shared_bert: Any, tmp_path: Path) -> None:
    whole, run = fit(strategy, shared_bert), replace(RUN, state=tmp_path, checkpoint_every=0.0)
    killed_at(stop, lambda: fit(strategy, shared_bert, run))
    resumed = fit(strategy, shared_bert, run)
    assert equal(resumed, whole)
    assert (resumed.history, resumed.notes) == (whole.history, whole.notes)
    again = bundles.load(resumed.save(tmp_path / "model"))
    assert np.array_equal(again.logits(VALID.inputs), whole.logits(VALID.inputs))


def test_statistics_of_batches_are_averaged_too() -> None:
    backbone, data = tm.TinyCnn(), tm.pictures(16)
    start, end, half = (fit(replace(WISE, alpha=a), backbone, valid=None, data=data) for a in (0.0, 1.0, 0.5))
    name = "stages.0.1.running_mean"
    ends = [dict(f.backbone.named_buffers())[name] for f in (start, end)]  # type: ignore[union-attr]
    assert not torch.equal(*ends)
    assert torch.allclose(dict(half.backbone.named_buffers())[name], (ends[0] + ends[1]) / 2)  # type: ignore[union-attr]


def test_time_that_is_up_ends_the_soup_after_the_first(shared_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "left", lambda self: 0.0)
    assert fit(SOUP, shared_bert).notes[-1].startswith("1 of 1 tunings averaged")


def test_what_makes_no_sense_is_refused() -> None:
    for name, settings, match in (
        ("wise_ft", {"alpha": 1.5}, "alpha=1.5 must be from 0"),
        ("soup", {"members": 0}, "members=0 must be 1 or more"),
        ("soup", {"spread": 0.5}, "spread=0.5 must be 1 or more"),
        ("soup", {"num_train_epochs": 0}, "num_train_epochs=0"),
        ("wise_ft", {"moves": "some"}, "moves='some'"),
    ):
        with pytest.raises(UserError, match=match):
            named(name, settings)
