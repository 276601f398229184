"""A few real steps tell what a run will take, and leave no trace in it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate.backbones.text import TextBackbone
from acclimate.data.rows import Data
from acclimate.run import Run
from acclimate.strategies import STRATEGIES, Problem, Splits
from acclimate.strategies import foresee as module
from acclimate.strategies.foresee import Foreseen, foresee
from acclimate.strategies.tune import Tune


def tune(name: str, **settings: Any) -> Tune:
    strategy = STRATEGIES[name]
    assert isinstance(strategy, Tune)
    return replace(strategy, **settings)


def problem_of(data: Data, bert: TextBackbone) -> Problem:
    return tm.problem_of("classify", data, "str", bert, Run())


@pytest.fixture
def data() -> Data:
    return tm.rows(50)


@pytest.mark.parametrize("name", ["full", "partial", "lora", "lp_ft"])
def test_the_weights_at_the_end_are_those_of_a_run_without(name: str, data: Data, bert: TextBackbone) -> None:
    """Also the generator's state, the pretrained weights, and the model that comes out: to the bit."""
    strategy, splits = (
        tune(name, num_train_epochs=2, batch_size=8),
        Splits(data.take(range(40)), data.take(range(40, 50))),
    )
    problem = problem_of(data, bert)
    found = []
    for probed in (False, True):
        torch.manual_seed(3)
        before = tm.state(bert)
        if probed:
            foresee(strategy, problem, splits, Run(seed=5))
        assert tm.same_state(bert, before) and not any(p.requires_grad for p in bert.parameters())
        fitted = strategy.fit(problem, splits, Run(seed=5))
        assert fitted.backbone is not None
        found.append((tm.state(fitted.backbone), tm.state(fitted.head), torch.get_rng_state()))
    for a, b in zip(found[0][:2], found[1][:2], strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert torch.equal(found[0][2], found[1][2])


def test_the_largest_step_is_taken_twice_and_usual_ones_between(
    data: Data, bert: TextBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time its activations meet the optimiser's moments."""
    longer = tuple(f"{'red ' * (i % 20)}{text}" for i, text in enumerate(data.inputs))
    data = replace(data, inputs=longer).take(range(48))
    tokens: list[int] = []
    original = module.step

    def spy(moving: Any, optimizer: Any, batches: Any, loss_of: Any, clip: float, fitting: Any) -> Any:
        assert (len(optimizer.state) > 0) == bool(tokens)
        tokens.append(sum(map(len, batches)))
        return original(moving, optimizer, batches, loss_of, clip, fitting)

    monkeypatch.setattr(module, "step", spy)
    probe_costs: list[list[int]] = []
    whole = module._Probe._train

    def keep(self: Any, *args: Any) -> None:
        whole(self, *args)
        probe_costs.append(self.costs)
        assert [c for c, _ in self.points][-1] == max(self.costs)
        assert min(c for c, _ in self.points) < max(self.costs)

    monkeypatch.setattr(module._Probe, "_train", keep)
    foresee(tune("full", batch_size=4, gradient_accumulation_steps=2), problem_of(data, bert), Splits(data), Run())
    assert tokens == [8] * 5  # rows: the largest, the median, a small one, a large one, the largest
    assert len(probe_costs[0]) == 6  # 48 rows in steps of 8


def test_seconds_are_a_line_through_the_steps() -> None:
    def line(cost: list[float], took: list[float]) -> tuple[float, float]:
        return module._line(np.array(cost), np.array(took))

    assert line([10, 20, 30], [1.0, 1.5, 2.0]) == pytest.approx((0.05, 0.5))
    assert line([10, 20], [1.0, 3.0]) == pytest.approx((0.14, 0.0))  # through 0 rather than below it
    assert line([10, 20, 30], [3.0, 2.0, 1.0]) == (0.0, 2.0)
    assert line([10, 10], [1.0, 3.0]) == pytest.approx((0.2, 0.0))


def test_seconds_add_up(data: Data, bert: TextBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece of work takes a second here: copying, tokenising, every step, one evaluation, one reading."""
    monkeypatch.setattr(module, "_timed", lambda work: (work(), 1.0))
    clock = iter(range(10_000))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    monkeypatch.setattr(module, "_PATIENCE", 1e9)
    few = {"num_train_epochs": 3, "batch_size": 8}
    probe = module._Probe(tune("full", **few), problem_of(data, bert), Splits(data), Run())
    assert probe.copying == 1 and probe.encoding == 1
    assert probe.seconds() == pytest.approx(1 + 1 + 3 * 7, rel=0.2)  # 7 steps an epoch; the last one is smaller
    assert probe.a_row == 1 / 16  # rows of the largest step and of one of usual size


def test_memory_counts_what_the_steps_did_not_hold(data: Data, bert: TextBackbone) -> None:
    problem, run = problem_of(data, bert), Run()
    tokens = sum(row.cost for row in bert.encode(data.inputs))
    strategy = tune("partial", moves="top:1", num_train_epochs=2)
    alone = module._Probe(strategy, problem, Splits(data), run)
    assert alone.beside() == alone.held + tokens * 32 * 4  # the output of two blocks of width 32, all rows
    half = module._Probe(replace(strategy, cache_frozen="fp16"), problem, Splits(data), run)
    assert half.beside() == half.held + tokens * 32 * 2
    chosen = module._Probe(replace(strategy, cache_frozen="off"), problem, Splits(data, data.take(range(10))), run)
    moving = sum(p.nbytes for p in chosen.network.parameters() if p.requires_grad)
    assert chosen.beside() == chosen.held + moving  # the best weights so far
    assert chosen.held == pytest.approx(alone.held * 1.2, abs=2)


@pytest.mark.parametrize(("numbers", "each"), [("no", 0), ("bf16", 3_000_000)])
def test_what_a_cpu_keeps_for_every_shape_of_batch_is_counted(
    numbers: str, each: int, bert: TextBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is said to grow by 3 MB with every pass, and once by 50, as it does when a kernel is first used."""
    data = tm.rows(40)
    longer = tuple(f"{'red ' * (i % 9)}{text}" for i, text in enumerate(data.inputs))
    data = replace(data, inputs=longer)
    grown = iter([0, *(50_000_000 + 3_000_000 * i for i in range(100))])
    monkeypatch.setattr(module, "held", lambda: next(grown))
    monkeypatch.setattr(module, "_PATIENCE", 1e9)
    strategy = tune("full", num_train_epochs=2, batch_size=8, mixed_precision=numbers)
    probe = module._Probe(strategy, problem_of(data, bert), Splits(data), Run(seed=3))
    costs = [row.cost for row in bert.encode(data.inputs)]
    shapes = {sum(costs[i] for i in batch) for e in range(2) for batch in module.shuffled(costs, 8, 3, e)}
    assert 2 <= len(shapes) <= 10
    assert probe.code == each * len(shapes) and probe.beside() == probe.held + probe.code
    assert not any(p.grad is not None for p in probe.network.parameters() if p.requires_grad) or numbers == "no"


def test_more_rows_of_the_same_kind_take_in_proportion(bert: TextBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a sample is looked at."""
    monkeypatch.setattr(module, "_timed", lambda work: (work(), 1.0))
    monkeypatch.setattr(module, "_SAMPLE", 40)
    strategy = tune("full", num_train_epochs=1, batch_size=10)
    seconds = []
    for n in (40, 400):
        data = tm.rows(n)
        seen: list[int] = []
        original = module.Inputs

        def spy(problem: Any, part: Any, *rest: Any, seen: Any = seen, original: Any = original) -> Any:
            seen.append(len(part))
            return original(problem, part, *rest)

        monkeypatch.setattr(module, "Inputs", spy)
        seconds.append(module._Probe(strategy, problem_of(data, bert), Splits(data), Run()))
        monkeypatch.setattr(module, "Inputs", original)
        assert max(seen) == 40
    assert seconds[1].scale == 10 and seconds[1].tokens == pytest.approx(10 * seconds[0].tokens, rel=0.2)


def test_one_fit_as_plain_numbers(data: Data, bert: TextBackbone) -> None:
    found = foresee(tune("lora", num_train_epochs=1), problem_of(data, bert), Splits(data), Run())
    assert isinstance(found, Foreseen)
    assert found.seconds > 0 and found.memory > 0 and found.a_row > 0
    assert (found.usage.seconds, found.usage.memory) == (found.seconds, found.memory)
