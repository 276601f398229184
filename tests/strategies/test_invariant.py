"""Penalties between labelled domains: each against a slow loop, and what training with them promises."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny_models as tm
from acclimate import model, ranks
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Splits, named
from acclimate.strategies.invariant import Batch, by_domain, coral, irm, vrex
from acclimate.tasks import TASKS

RUN = Run(seed=3)
NAMES = ("irm", "vrex", "source_coral")
SHORT = {"num_train_epochs": 2, "bottleneck": 8, "batch_size": 4}
NEW = ["good table day 501", "awful river", "kind cold stone paper window 17", "x"]
CODES = (0, 1, 0, 3, 1, 1, 0, 3, 3, 0)  # domain 2 has no row in this batch
every = pytest.mark.parametrize("name", NAMES)


def data(n: int = 36) -> Data:
    rows = tm.rows(n)
    return replace(rows, domains=tuple(("north", "south", "west")[(i * i) % 3 if i < 20 else i % 3] for i in range(n)))


def batch(logits: Tensor, codes: tuple[int, ...] = CODES, weights: Tensor | None = None) -> Batch:
    n, truth = len(codes), torch.tensor([(7 * i) % 3 for i in range(len(codes))])
    features = torch.stack([logits.sum(1), logits[:, 0] ** 2], 1)
    given = torch.ones(n).to(logits) if weights is None else weights
    return Batch(TASKS["classify"], features, logits, truth, given, torch.tensor(codes), 4)


def drawn(n: int = len(CODES)) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(n, 3))).requires_grad_(), torch.from_numpy(rng.random(n) + 0.2)


def risk(logits: Tensor, b: Batch, d: int, w: float | Tensor = 1.0) -> Tensor:
    """R_d at the last step w, row by row."""
    total, mass = torch.zeros((), dtype=torch.float64), 0.0
    for z, y, weight, code in zip(logits, b.truth, b.weights, b.domain, strict=True):
        if int(code) == d:
            up = [torch.exp(w * v) for v in z]
            total, mass = total - weight * torch.log(up[int(y)] / sum(up)), mass + float(weight)
    return total / mass


def slopes(logits: Tensor, b: Batch, d: int) -> tuple[list[Tensor], list[float]]:
    """∂ℓ(w·z)/∂w at w = 1 of each row of the domain, Σ_k p_k z_k − z_y, and its share."""
    found, weights = [], []
    for z, y, weight, code in zip(logits, b.truth, b.weights, b.domain, strict=True):
        if int(code) == d:
            up = [torch.exp(v) for v in z]
            found.append(sum(u / sum(up) * v for u, v in zip(up, z, strict=True)) - z[int(y)])
            weights.append(float(weight))
    return found, [w / sum(weights) for w in weights]


def same_with_gradient(found: Tensor, expected: Tensor, at: Tensor) -> None:
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    ours, theirs = (torch.autograd.grad(v, at, retain_graph=True)[0] for v in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert theirs.abs().max() > 1e-6


def test_irm_is_the_squared_slope_over_pairs_of_different_rows() -> None:
    z, weights = drawn()
    b = batch(z, weights=weights)
    domains = []
    for d in (0, 1, 3):
        g, w = slopes(z, b, d)
        pairs = [(w[i] * w[j], g[i] * g[j]) for i in range(len(g)) for j in range(len(g)) if i != j]
        domains.append(sum(a * v for a, v in pairs) / sum(a for a, _ in pairs))
    same_with_gradient(irm(b), sum(domains) / 3, z)


def test_irm_of_rows_given_very_often_is_the_papers_square() -> None:
    """‖∇_w R(w·z)‖² at w = 1, by differences of the risk."""
    z, _ = drawn()
    often = z.detach().repeat(300, 1)
    b = replace_domain(batch(often, CODES * 300), torch.tensor([(7 * i) % 3 for i in range(10)]).repeat(300))
    once = batch(z.detach())
    h = 1e-5
    expected = [((risk(z, once, d, 1 + h) - risk(z, once, d, 1 - h)) / (2 * h)) ** 2 for d in (0, 1, 3)]
    assert irm(b).item() == pytest.approx(float(sum(expected).detach()) / 3, rel=5e-3)  # type: ignore[union-attr]


def replace_domain(b: Batch, truth: Tensor) -> Batch:
    return b._replace(truth=truth)


def test_irm_is_right_in_the_mean_whatever_the_batch() -> None:
    """A square of a small batch's own slope is too large: by its variance."""
    rng = np.random.default_rng(1)
    z = torch.from_numpy(rng.normal(size=(4000, 3)))
    truth = torch.from_numpy(rng.integers(0, 3, 4000))
    codes = torch.zeros(4000, dtype=torch.long)
    whole = Batch(TASKS["classify"], z, z, truth, torch.ones(4000).double(), codes, 1)
    parts = [
        Batch(TASKS["classify"], z[i : i + 4], z[i : i + 4], truth[i : i + 4], torch.ones(4).double(), codes[:4], 1)
        for i in range(0, 4000, 4)
    ]
    values = torch.stack([irm(part) for part in parts]).detach()
    assert abs(values.mean() - irm(whole).detach()) < 3 * values.std() / 1000**0.5
    assert values.min() < 0


def test_irm_is_0_where_a_domain_has_one_row() -> None:
    z, _ = drawn(3)
    value = irm(batch(z, (0, 1, 2)))
    assert value == 0
    assert not torch.autograd.grad(value, z)[0].any()


def test_vrex_is_the_variance_of_the_risks() -> None:
    """Divided by their number, not by one less: two domains differ by (R − R')²/4."""
    z, weights = drawn()
    b = batch(z, weights=weights)
    risks = [risk(z, b, d) for d in (0, 1, 3)]
    middle = sum(risks) / 3
    same_with_gradient(vrex(b), sum((r - middle) ** 2 for r in risks) / 3, z)
    assert vrex(batch(z, (0,) * 10)) == 0


def test_source_coral_is_the_mean_over_pairs_of_domains() -> None:
    z, _ = drawn()
    b = batch(z)
    found = []
    rows = [b.features[torch.tensor(CODES) == d] for d in (0, 1, 3)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        spread = [((x - x.mean(0)).T @ (x - x.mean(0))) / (len(x) - 1) for x in (rows[i], rows[j])]
        found.append((spread[0] - spread[1]).square().sum() / (4 * 2**2))
    same_with_gradient(coral(b), sum(found) / 3, z)


@pytest.mark.parametrize("penalty", [irm, vrex, coral])
def test_what_is_not_finite_shows(penalty: Any) -> None:
    z, _ = drawn()
    assert torch.isnan(penalty(batch(z * float("nan"))))


def test_each_batch_holds_each_domain_by_its_share() -> None:
    codes = np.array([0] * 40 + [1] * 10 + [2] * 7)
    rows_of = by_domain(codes, 12, seed=0)
    for turn in (0, 1):
        batches = rows_of(turn)
        assert sorted(i for b in batches for i in b) == list(range(57))
        assert max(map(len, batches)) - min(map(len, batches)) <= 1
        counts = np.array([np.bincount(codes[b], minlength=3) for b in batches])
        assert (np.abs(counts - np.array([8, 2, 1.4])) <= 1.4).all()
    assert rows_of(0) != rows_of(1) and rows_of(0) == by_domain(codes, 12, seed=0)(0)


def fit(
    name: str, backbone: Any, rows: Data, run: Run = RUN, task: str = "classify", kind: str = "str", **more: Any
) -> Any:
    problem = tm.problem_of(task, rows, kind, backbone, run)
    return named(name, {**SHORT, **more})[1].fit(problem, Splits(rows), run)


@pytest.fixture(scope="module")
def fitted(shared_bert: Any) -> Any:
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            made[name] = fit(name, shared_bert, data())
        return made[name]

    return get


@every
def test_a_fit_is_repeatable_and_saved_whole(name: str, shared_bert: Any, fitted: Any, tmp_path: Path) -> None:
    first, before = fitted(name), tm.state(shared_bert)
    torch.manual_seed(123)
    states = torch.get_rng_state()
    assert np.array_equal(fit(name, shared_bert, data()).logits(NEW), first.logits(NEW))
    assert torch.equal(torch.get_rng_state(), states) and tm.same_state(shared_bert, before)
    first.save(tmp_path / "m")
    again = model.load(tmp_path / "m")
    assert np.array_equal(again.logits(NEW), first.logits(NEW))
    assert named(again.strategy, json.loads(json.dumps(again.settings))) == (name, named(name, SHORT)[1])
    assert first.notes[0].startswith(f"{name}: training loss by domain north ")


@every
def test_the_penalty_and_the_domains_make_a_difference(name: str, shared_bert: Any, fitted: Any) -> None:
    """And without weight none: the domains are then in the batches alone."""
    plain = fit(name, shared_bert, data(), weight=0.0)
    assert not np.array_equal(fitted(name).logits(NEW), plain.logits(NEW))
    assert np.array_equal(fit("vrex", shared_bert, data(), weight=0.0).logits(NEW), plain.logits(NEW))


@every
def test_a_target_is_not_read(name: str, shared_bert: Any, fitted: Any) -> None:
    problem = tm.problem_of("classify", data(), "str", shared_bert, RUN)
    found = named(name, SHORT)[1].fit(problem, Splits(data(), target=tm.rows(9, seed=8)), RUN)
    assert np.array_equal(found.logits(NEW), fitted(name).logits(NEW))


@every
@pytest.mark.parametrize("task", ["regress", "multilabel", "ordinal"])
def test_other_tasks_are_served_or_refused(name: str, task: str, shared_bert: Any) -> None:
    rows, kind = tm.task_rows(task, 24)
    rows = replace(rows, domains=("a", "b") * 12)
    if (name, task) == ("irm", "ordinal"):
        with pytest.raises(UserError, match="use vrex or source_coral"):
            fit(name, shared_bert, rows, task=task, kind=kind)
        return
    assert np.isfinite(fit(name, shared_bert, rows, task=task, kind=kind).outputs(NEW)).all()


@every
def test_what_is_refused(name: str, shared_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--domain-column"):
        fit(name, shared_bert, replace(data(), domains=None))
    with pytest.raises(UserError, match="needs two or more"):
        fit(name, shared_bert, replace(data(), domains=("here",) * 36))
    with pytest.raises(UserError, match="unknown penalty 'irn'; did you mean 'irm'"):
        named(name, {"penalty": "irn"})
    monkeypatch.setattr(ranks, "world", lambda: 2)
    with pytest.raises(UserError, match="start it as one process"):
        fit(name, shared_bert, data())


@every
def test_a_killed_run_goes_on_to_the_same_bits(name: str, shared_bert: Any, fitted: Any, tmp_path: Path) -> None:
    run = replace(RUN, state=tmp_path, checkpoint_every=0.0)
    assert np.array_equal(fit(name, shared_bert, data(), run).logits(NEW), fitted(name).logits(NEW))
    kept = sorted(tmp_path.glob("[0-9]*-[0-9]*"))
    shutil.rmtree(kept[-1])
    assert np.array_equal(fit(name, shared_bert, data(), run).logits(NEW), fitted(name).logits(NEW))
    turned = replace(data(), domains=(data().domains or ())[::-1])  # other domains of the same rows are another run
    assert np.array_equal(fit(name, shared_bert, turned, run).logits(NEW), fit(name, shared_bert, turned).logits(NEW))
