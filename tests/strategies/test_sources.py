"""Several sources: the worst domain's loss at its least, shares of a mixture found again, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.strategies.probe import Probe
from acclimate.strategies.sources import GroupDro, SourceMixture, _losses, _weighted

RUN = Run()


def three(n: int = 60) -> Data:
    """Rows of three domains, in the last of which labels are turned round for some words."""
    data = tm.rows(n)
    names = ("north", "south", "west")
    domains = tuple(names[i % 3] for i in range(n))
    labels = tuple(
        data.labels[-1 - i] if domains[i] == "west" and i % 2 else data.labels[i]
        for i in range(n)  # type: ignore[index]
    )
    return replace(data, domains=domains, labels=labels)


@pytest.fixture
def given(shared_bert: Any) -> tuple[Problem, Data]:
    data = three()
    return tm.problem_of("classify", data, "str", shared_bert.clone().requires_grad_(False), RUN), data


def per_domain(problem: Problem, data: Data, fitted: Any) -> np.ndarray[Any, Any]:
    """By a slow loop."""
    loss: dict[str, list[float]] = {}
    logits = torch.from_numpy(fitted.logits(list(data.inputs))).double()
    for row, code, domain in zip(logits, problem.targets(data), data.domains or (), strict=True):
        loss.setdefault(domain, []).append(float(torch.nn.functional.cross_entropy(row, torch.tensor(int(code)))))
    return np.array([np.mean(loss[name]) for name in sorted(loss)])


def test_the_worst_domain_is_as_good_as_it_can_be(given: Any) -> None:
    """Danskin: at the optimum every domain with a share has the loss of the worst one, and no other is above it."""
    problem, data = given
    fitted = GroupDro(strength=1.0).fit(problem, Splits(data), RUN)
    plain = Probe(strength=1.0).fit(problem, Splits(data), RUN)
    ours, before = per_domain(problem, data, fitted), per_domain(problem, data, plain)
    assert ours.max() < before.max() - 0.005
    shares = [float(part.split()[-1]) for part in fitted.notes[0].split(";")[0].removeprefix("group_dro: ").split(",")]
    assert all(loss > ours.max() - 2e-3 for loss, share in zip(ours, shares, strict=True) if share > 0.01)
    assert "worst training loss" in fitted.notes[0] and fitted.strategy == "group_dro"


def test_the_dual_slope_is_the_loss_of_each_domain(given: Any) -> None:
    """The value that SLSQP climbs has the slope that it is told: by differences of exact fits."""
    problem, data = given
    codes = np.array([("north", "south", "west").index(d) for d in data.domains])
    features = torch.from_numpy(problem.network()[1].get(data.inputs))
    targets, ones = problem.targets(data), np.ones(len(data))
    from acclimate.train.solve import Scaling

    spread = torch.from_numpy(Scaling.of(features).spread)

    def value(q: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        fitted = Probe(strength=1.0).fit(problem, Splits(replace(data, weights=_weighted(ones, codes, q))), RUN)
        losses = _losses(problem, fitted, features, targets, ones, codes)
        size = float((fitted.head.weight.detach().double() * spread).square().sum())
        return float(q @ losses) + size / (2 * len(data)), losses

    q, step = np.array([0.3, 0.5, 0.2]), np.array([0.02, -0.02, 0.0])
    slope = (value(q + step)[0] - value(q - step)[0]) / 2
    assert slope == pytest.approx(float(step @ value(q)[1]), rel=1e-3)


def test_a_mixture_of_the_sources_is_found_again(given: Any) -> None:
    """Domains that words tell apart; the target holds the first and the third at 3 to 1 and nothing of the second."""
    problem, data = given
    marked = tuple(f"{d} {d} {d} {x}" for d, x in zip(data.domains, data.inputs, strict=True))
    data = replace(data, inputs=marked)
    here = [i for i, d in enumerate(data.domains) if d == "north"] + [
        i for i, d in enumerate(data.domains) if d == "west"
    ][:7]
    target = Data(tuple(f"{data.inputs[i]} sea" for i in here))
    fitted = SourceMixture().fit(problem, Splits(data, target=target), RUN)
    found = dict(part.split()[:2] for part in fitted.notes[0].split("looks like ")[1].split(" (95")[0].split("], "))
    assert float(found["north"]) == pytest.approx(20 / 27, abs=0.12)
    assert float(found["south"]) < 0.12


@pytest.mark.parametrize("name", ["group_dro", "source_mixture"])
def test_what_is_refused(name: str, given: Any) -> None:
    problem, data = given
    target = Data(("one text", "another text"))
    strategy = named(name)[1]
    with pytest.raises(UserError, match="--domain-column"):
        strategy.fit(problem, Splits(replace(data, domains=None), target=target), RUN)
    with pytest.raises(UserError, match="needs two or more"):
        strategy.fit(problem, Splits(replace(data, domains=("here",) * len(data)), target=target), RUN)


def test_regression_and_class_weights_are_solved_too(shared_bert: Any) -> None:
    data = replace(tm.rows(30), domains=("a", "b") * 15, labels=tuple(float(i % 7) + 3 * (i % 2) for i in range(30)))
    problem = tm.problem_of("regress", data, "float", shared_bert.clone().requires_grad_(False), RUN)
    worst = [
        float(
            np.array(
                _losses(
                    problem, f, torch.from_numpy(problem.network()[1].get(data.inputs)), problem.targets(data),
                    np.ones(30), np.array([0, 1] * 15),
                )
            ).max()
        )
        for f in (Probe(strength=1.0).fit(problem, Splits(data), RUN), GroupDro(1.0).fit(problem, Splits(data), RUN))
    ]  # fmt: skip
    assert worst[1] < worst[0]
