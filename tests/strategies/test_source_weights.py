"""Source rows weighed for a target that holds only some of the source's classes (case A10)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from acclimate.align import View
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, adapt, named
from acclimate.strategies.adapt import Adapt
from acclimate.strategies.domains import Domains
from acclimate.strategies.source_weights import Iwan, Pada, class_weights, row_weights
from acclimate.tasks import TASKS
from acclimate.tasks.heads import BottleneckHead
from feature_rows import feature_problem

K = 10
TASK = TASKS["classify"]
HERE = (0, 1, 2, 3)  # the classes that a partial target holds


def points(n: int, classes: tuple[int, ...], seed: int) -> Data:
    """One Gaussian a class, its mean 3.5 out along an axis of its own."""
    rng = np.random.default_rng(seed)
    labels = np.resize(classes, n)
    x = rng.normal(size=(n, K))
    x[np.arange(n), labels] += 3.5
    return Data(tuple(map(tuple, x.round(4).tolist())), tuple(labels.tolist()), clusters=np.arange(n))


problem = partial(feature_problem, K, K)  # rows of numbers that are their own features


SOURCE, PARTIAL, WHOLE = points(400, tuple(range(K)), 0), points(200, HERE, 1), points(200, tuple(range(K)), 2)


def fit(name: str, target: Data, **settings: Any) -> tuple[Any, Any]:
    """The fitted model, and its logits of the target."""
    made = problem()
    strategy = named(name, {"num_train_epochs": 12, "learning_rate": 2e-3, **settings})[1]
    found = strategy.fit(made, Splits(SOURCE, target=target), Run(seed=1))
    return found, found.logits(target.inputs, Run(), made.store)


def right(logits: Any, target: Data) -> float:
    return float((logits.argmax(1) == np.array(target.labels)).mean())


def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What weighed the source rows of every fit from now on."""
    found: list[Any] = []
    before = adapt.weighing

    def weighing(*given: Any) -> Any:
        found.append(before(*given))
        return found[-1]

    monkeypatch.setattr(adapt, "weighing", weighing)
    return found


class TestPartialTarget:
    def test_source_rows_of_absent_classes_fade(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A10: ten classes in the source, four in the target."""
        found = kept(monkeypatch)
        labels = Domains.of(problem(), Splits(SOURCE, target=PARTIAL), "source", PARTIAL).targets
        for name, most in (("pada", 0.1), ("iwan", 0.3)):
            fitted, _ = fit(name, PARTIAL)
            rows = found[-1].rows.numpy()
            means = np.array([rows[labels == k].mean() for k in range(K)])
            absent, present = means[len(HERE) :], means[: len(HERE)]
            assert absent.max() < most and present.min() > 6 * absent.max(), (name, means)
            assert f"{name}: the weighted source rows are worth" in fitted.notes[1]

    def test_pada_answers_better_than_the_plain_run(self) -> None:
        plain, pada = (right(fit(name, PARTIAL)[1], PARTIAL) for name in ("dann", "pada"))
        assert pada > plain + 0.02

    def test_the_plain_run_is_flagged(self) -> None:
        """A10: the note says what was seen, and what to try."""
        _, note = fit("dann", PARTIAL)[0].notes
        assert "classes are near 0 in the target" in note
        assert "may hold only some of the source's classes" in note
        assert "try the strategy pada" in note

    def test_a_target_with_every_class_is_not_flagged(self) -> None:
        assert len(fit("dann", WHOLE)[0].notes) == 1

    def test_a_few_rows_are_not_evidence(self) -> None:
        """20 rows of 10 classes: two of each were to be expected, and none of some is no surprise."""
        assert len(fit("dann", PARTIAL.take(range(20)))[0].notes) == 1


class TestFormulas:
    def test_class_weights_as_a_slow_loop(self) -> None:
        logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
        mean = [0.0] * 3
        for row in logits.tolist():
            total = sum(math.exp(z) for z in row)
            for k in range(3):
                mean[k] += math.exp(row[k]) / total / 7
        assert class_weights(logits).tolist() == pytest.approx([m / max(mean) for m in mean], abs=1e-6)

    def test_row_weights_as_a_slow_loop(self) -> None:
        says = [-2.0, 0.5, 3.0, 40.0]
        chance = [1 - 1 / (1 + math.exp(-d)) for d in says]
        wanted = [c / (sum(chance) / 4) for c in chance]
        assert row_weights(torch.tensor(says)).tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-12)
        assert row_weights(torch.full((3,), 1e4)).tolist() == [1.0, 1.0, 1.0]  # all sure: nothing to tell by

    def test_even_weights_are_ones(self) -> None:
        assert class_weights(torch.zeros(5, 4)).tolist() == [1.0] * 4
        assert row_weights(torch.full((5,), 0.3)).tolist() == [1.0] * 5

    def test_weights_enter_both_losses_from_the_second_epoch_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """L_source = E_s[w·γ_y·ℓ] by a slow loop, γ by the head as it is; the alignment sees w·γ_y. Nothing moves."""
        seen: list[tuple[View, View]] = []

        def watching(source: View, target: View, progress: float) -> Tensor:
            seen.append((source, target))
            return source.features.sum() * 0.0

        def begun(self: Adapt, made: Problem, known: Any) -> BottleneckHead:
            head = bare(self, made, known)
            nn.init.normal_(head.last.weight)  # an untrained head finds all classes alike
            return head

        bare = Adapt.new_head
        monkeypatch.setattr(Adapt, "new_head", begun)
        monkeypatch.setattr(adapt, "attached", lambda *given: watching)
        found = kept(monkeypatch)
        source = replace(points(40, tuple(range(K)), 3), weights=np.linspace(0.5, 1.5, 40))
        strategy = Adapt(source_weights="pada", num_train_epochs=2, batch_size=40, learning_rate=1e-30)
        fitted = strategy.fit(problem(), Splits(source, target=PARTIAL.take(range(40))), Run(seed=0))
        (first, target), (second, _) = seen
        gamma = class_weights(target.logits.detach())
        assert torch.equal(found[0].rows, gamma[found[0].labels])
        labels, logits = second.labels, second.logits.detach()
        assert labels is not None and first.weights is not None and second.weights is not None
        assert gamma[labels].min() < 0.9
        loss, plain = 0.0, torch.zeros(40)
        for i in range(40):
            at = [j for j in range(40) if torch.equal(first.features[j], second.features[i])]
            plain[i] = first.weights[at[0]]
            p = math.exp(logits[i, labels[i]]) / sum(math.exp(z) for z in logits[i].tolist())
            loss += float(plain[i]) * float(gamma[labels[i]]) * -math.log(p) / 40
        assert second.weights == pytest.approx(plain * gamma[labels])
        assert fitted.history[-1]["train_loss"] == pytest.approx(loss, abs=1e-6)

    def test_the_critic_of_iwan_sends_no_gradient_to_the_features(self) -> None:
        torch.manual_seed(0)
        weighs = Iwan(6, 4)
        x, y = (torch.randn(6, 4, requires_grad=True) for _ in range(2))
        loss = weighs.loss(View(x, x), View(y, y), 0.5)
        loss.backward()  # type: ignore[no-untyped-call]
        says = [weighs.first.critic(v)[:, 0].tolist() for v in (x, y)]
        wanted = [-math.log(1 / (1 + math.exp(-d))) for d in says[0]]
        wanted += [-math.log(1 - 1 / (1 + math.exp(-d))) for d in says[1]]
        assert loss.item() == pytest.approx(sum(wanted) / 12, abs=1e-6)
        assert x.grad is None and y.grad is None
        assert all(p.grad is not None for p in weighs.parameters())


@pytest.mark.parametrize("name", ["pada", "iwan"])
def test_with_even_weights_it_is_dann_bit_for_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients are not clipped here: their norm includes that of iwan's critic."""
    for kind in (Pada, Iwan):
        monkeypatch.setattr(kind, "found", lambda self, *given: torch.ones_like(self.rows))
    short = {"num_train_epochs": 3, "max_grad_norm": 0.0}
    assert np.array_equal(fit(name, PARTIAL, **short)[1], fit("dann", PARTIAL, **short)[1])


def test_weights_are_renewed_without_dropout_and_training_goes_on() -> None:
    torch.manual_seed(0)
    head = BottleneckHead(K, K, 8, dropout=0.5)
    weighs = Pada(torch.arange(K))
    x = torch.randn(30, K)
    weighs.renew(head.train(), x, x)
    assert head.training and all(part.training for part in head.modules())
    assert torch.equal(weighs.rows, class_weights(head.eval()(x)))
    assert "rows" in dict(nn.Module.named_buffers(weighs))  # what a checkpoint keeps


def test_what_is_asked_wrongly_is_said() -> None:
    with pytest.raises(UserError, match="unknown source_weights 'padda'; did you mean 'pada'"):
        Adapt(source_weights="padda")
