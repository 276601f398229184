"""Moving encoders with an alignment: source and target batches together, one objective."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import model as bundles
from acclimate import ranks
from acclimate.align import ALIGNMENTS, View
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies import STRATEGIES, Splits, named
from acclimate.strategies.alignment import weight_at
from acclimate.strategies.foresee import foresee
from acclimate.strategies.inputs import Both, Inputs
from acclimate.strategies.tune import Tune
from acclimate.train import loop
from acclimate.train.pairs import Pairs

RUN = Run(seed=3)
SOURCE = replace(tm.rows(18), weights=np.linspace(0.5, 1.5, 18))
TARGET = replace(tm.rows(11, seed=5), labels=None)
SHORT = {"num_train_epochs": 2, "batch_size": 4, "learning_rate": 1e-3}
MOVING = [name for name, strategy in STRATEGIES.items() if isinstance(strategy, Tune)]


def fit(
    tune: Any,
    backbone: Any,
    target: Data | None = TARGET,
    run: Run = RUN,
    valid: Data | None = None,
    source: Data = SOURCE,
) -> Any:
    return tune.fit(tm.problem_of("classify", source, "str", backbone, run), Splits(source, valid, target), run)


def weights_of(fitted: Any) -> dict[str, torch.Tensor]:
    return {**tm.state(fitted.backbone), **{f"head.{k}": v for k, v in tm.state(fitted.head).items()}}


def equal(a: Any, b: Any) -> bool:
    ours, theirs = weights_of(a), weights_of(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(  # `lora` goes the same way as `dora`
    "name", [pytest.param(name, marks=[pytest.mark.real] * (name == "dora")) for name in MOVING]
)
def test_without_weight_or_alignment_it_is_what_it_was(name: str, shared_bert: Any) -> None:
    """To the bit, target or none; and with a weight it is something else, of the same shape."""
    plain = fit(named(name, SHORT)[1], shared_bert, target=None)
    for settings in ({}, {"align": "dann", "weight": 0.0}, {"weight": 7.0}):
        assert equal(fit(named(name, {**SHORT, **settings})[1], shared_bert), plain)
    aligned = fit(named(name, {**SHORT, "align": "mcc"})[1], shared_bert)
    assert not equal(aligned, plain)
    assert weights_of(aligned).keys() == weights_of(plain).keys()
    assert aligned.trained == plain.trained


def test_the_rows_of_a_plain_run_are_judged_in_the_order_of_an_aligned_one(shared_bert: Any) -> None:
    """An alignment that weighs next to nothing leaves the source side where it was."""
    settings = {**SHORT, "dropout": 0.0, "max_grad_norm": 0.0}
    plain = fit(Tune(**settings), shared_bert, target=None)
    nearly = fit(Tune(**settings, align="mcc", weight=1e-12), shared_bert)
    assert nearly.logits(TARGET.inputs) == pytest.approx(plain.logits(TARGET.inputs), abs=1e-4)


@pytest.mark.parametrize("align", ["mcc:temperature=2", "dann:hidden=8", "deepjdot:feature_weight=0.1", "coral"])
@pytest.mark.parametrize("schedule", ["constant", "rise"])
def test_a_step_is_the_slow_one(align: str, schedule: str, shared_bert: Any) -> None:
    """Each domain forwarded by itself, each row alone, without packing; the gradient of every weight."""
    torch.manual_seed(0)
    problem = tm.problem_of("classify", SOURCE, "str", shared_bert, RUN)
    tune = Tune(align=align, weight=0.7, weight_schedule=schedule, dropout=0.0)
    head = problem.task.attach(shared_bert, problem.decoder).head
    torch.nn.init.normal_(head.weight)
    network, _ = tune.started(problem, head, RUN)
    network.train()
    rows = Inputs(problem, SOURCE, network.backbone, RUN)
    both = tune.both(problem, rows, SOURCE, TARGET)
    pairs = Pairs(lambda _: [[1, 5, 7], [2, 3]], lambda _: [[4, 4, 10, 0]], epochs=2)
    slots = pairs.epoch(1)[0]
    moving = [*network.parameters(), *(both.loss.parameters() if isinstance(both.loss, torch.nn.Module) else [])]
    found = torch.autograd.grad(both.loss_of(network, pairs, slots), moving, allow_unused=True)

    def row_by_row(inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        out = [network(network.backbone.collate(network.backbone.encode([x]))) for x in inputs]
        return torch.cat([o.features for o in out]), torch.cat([o.logits for o in out])

    (fs, zs), (ft, zt) = (
        row_by_row([d.inputs[i] for i in at]) for d, at in ((SOURCE, [1, 5, 7]), (TARGET, [4, 10, 0]))
    )
    truth = torch.tensor([problem.decoder.classes.index(SOURCE.labels[i]) for i in (1, 5, 7)])  # type: ignore[index]
    w = torch.tensor(SOURCE.weights[[1, 5, 7]], dtype=torch.float32)  # type: ignore[index]
    supervised = sum(float(w[i]) * -torch.log_softmax(zs[i], 0)[truth[i]] for i in range(3)) / 3
    aligned = both.loss(View(fs, zs, truth, w), View(ft, zt), 0.5)
    strength = 0.7 if schedule == "constant" else 0.7 * (2 / (1 + np.exp(-5.0)) - 1)
    expected = torch.autograd.grad(supervised + strength * aligned, moving, allow_unused=True)
    some = 0
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-3)
            some += bool(other.abs().max() > 1e-3)
    assert some > 5


def test_mcc_and_dann_by_hand() -> None:
    """The two losses of the slow step above, as loops of their own (their oracles stand in tests/align)."""
    zt = torch.tensor([[1.0, 0.0], [0.2, 0.9], [2.0, -1.0]])
    view = View(torch.zeros(3, 2), zt)
    p = torch.softmax(zt / 2.5, 1)
    h = [1 + float(torch.exp((row * row.log()).sum())) for row in p]
    c = [[sum(h[i] * float(p[i, j] * p[i, k]) for i in range(3)) for k in range(2)] for j in range(2)]
    confusion = sum(c[j][k] / sum(c[j]) for j in range(2) for k in range(2) if j != k) / 2
    loss = ALIGNMENTS["mcc"]().attach(2, 2)
    assert float(loss(view, view, 0.0)) == pytest.approx(confusion, abs=1e-6)
    critic: Any = ALIGNMENTS["dann"]().attach(2, 2)
    f = torch.randn(3, 2)
    says = critic.critic(f)[:, 0].detach()
    wrong = sum(float(torch.nn.functional.softplus(s) + torch.nn.functional.softplus(-s)) for s in says) / 6
    assert critic(View(f, zt), View(f, zt), 0.3).item() == pytest.approx(wrong, abs=1e-6)


def test_an_adversary_learns_at_the_rate_of_a_new_head(shared_bert: Any) -> None:
    """Also where the head starts from a probe."""
    problem = tm.problem_of("classify", SOURCE, "str", shared_bert, RUN)
    tune = Tune(align="dann", start="probe", learning_rate=1e-5, head_learning_rate=1e-2)
    network, _ = tune.started(problem, problem.task.attach(shared_bert, problem.decoder).head, RUN)
    loss: Any = ALIGNMENTS["dann"]().attach(shared_bert.width, 2)
    rates = {id(p): group["lr"] for group in tune.optimizer_of(network, loss).param_groups for p in group["params"]}
    assert {rates[id(p)] for p in network.parameters()} == {1e-5}
    assert {rates[id(p)] for p in loss.parameters()} == {1e-2}


def test_lambda_rises() -> None:
    assert [weight_at(2.0, "rise", p) for p in (0.0, 1.0)] == pytest.approx([0.0, 2 * 0.99991], abs=1e-4)
    assert weight_at(2.0, "constant", 0.0) == 2.0


@pytest.mark.parametrize(
    ("name", "align"), [("lora", "dann"), ("partial", "cdan"), ("full", "mcc"), ("lp_ft", "sliced_wasserstein")]
)
def test_a_killed_run_goes_on_to_the_same_bits(name: str, align: str, shared_bert: Any, tmp_path: Any) -> None:
    """Also the adversary's weights and moments are kept; and nothing of it is in the model that comes out."""
    tune = named(name, {**SHORT, "align": align, "gradient_accumulation_steps": 2, "cache_frozen": "auto"})[1]
    whole = fit(tune, shared_bert)
    run = replace(RUN, state=tmp_path, checkpoint_every=0.0)
    with pytest.MonkeyPatch.context() as patch:
        step, count = loop._step, [0]

        def stop(*args: Any) -> Any:
            count[0] += 1
            if count[0] == 5:
                raise RuntimeError("killed")
            return step(*args)

        patch.setattr(loop, "_step", stop)
        with pytest.raises(RuntimeError, match="killed"):
            fit(tune, shared_bert, run=run)
    kept = list(tmp_path.rglob("weights.safetensors"))
    assert kept
    from safetensors.torch import load_file

    assert any(k.startswith("loss.") for k in load_file(kept[0])) == (align != "mcc")
    resumed = fit(tune, shared_bert, run=run)
    assert resumed.history == whole.history
    assert equal(resumed, whole)
    saved = whole.save(tmp_path / "model")
    assert not any("critic" in n or "loss" in n for n in whole.trained)
    assert np.array_equal(bundles.load(saved).logits(TARGET.inputs), whole.logits(TARGET.inputs))


@pytest.mark.parametrize("align", ["mcc", "dann"])
def test_the_prefix_serves_both_domains(align: str, shared_bert: Any) -> None:
    settings = {**SHORT, "align": align, "dropout": 0.0}
    with_prefix, without = (
        fit(named("partial", {**settings, "cache_frozen": how})[1], shared_bert) for how in ("auto", "off")
    )
    assert any("frozen block is kept" in note for note in with_prefix.notes)
    assert with_prefix.logits(TARGET.inputs) == pytest.approx(without.logits(TARGET.inputs), abs=1e-3)


def test_target_labels_are_never_read_and_the_target_makes_a_difference(shared_bert: Any) -> None:
    tune = Tune(**SHORT, align="mcc")
    found = fit(tune, shared_bert)
    assert equal(fit(tune, shared_bert, target=replace(TARGET, labels=("no such class",) * len(TARGET))), found)
    assert not equal(fit(tune, shared_bert, target=replace(TARGET, inputs=("river",) * len(TARGET))), found)


def test_the_last_epoch_is_kept_and_that_is_said(shared_bert: Any) -> None:
    tune = Tune(**SHORT, align="mcc")
    found = fit(tune, shared_bert, valid=tm.rows(8, seed=1))
    assert any(note.startswith("the last epoch was kept") for note in found.notes)
    assert equal(found, fit(tune, shared_bert))
    assert [h["valid_loss"] for h in found.history] == [None, None]


@pytest.mark.parametrize("m", [1, 3, 40])
def test_any_number_of_target_rows(m: int, shared_bert: Any) -> None:
    found = fit(Tune(**SHORT, align="mmd"), shared_bert, target=tm.rows(m, seed=5))
    assert np.isfinite(found.logits(TARGET.inputs)).all()


def test_out_of_memory_says_that_the_alignment_changes(
    shared_bert: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Both.at

    def small(self: Any, network: Any, here: list[int], *more: Any) -> torch.Tensor:
        if len(here) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, network, here, *more)

    monkeypatch.setattr(Both, "at", small)
    found = fit(Tune(**SHORT, align="mcc"), shared_bert, run=Run(progress=Progress(quiet=False)))
    assert found.history[-1]["rows_at_once"] == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("out of memory")]
    assert len(said) == 1 and "mcc now compares so many rows at a time, which changes it" in said[0]


def test_several_processes_are_refused(shared_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "world", lambda: 2)
    with pytest.raises(UserError, match="mcc compares the rows of a whole batch.*one process"):
        fit(Tune(**SHORT, align="mcc"), shared_bert)


def test_without_a_target_it_says_so(shared_bert: Any) -> None:
    with pytest.raises(UserError, match="lora with dann adapts to rows .* give them with --target-data"):
        fit(named("lora", {"align": "dann"})[1], shared_bert, target=None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"align": "mc"}, "did you mean 'mcc'"),
        ({"align": "mcc:warmth=2"}, "setting of mcc"),
        ({"weight": float("nan")}, "λ in L_source"),
        ({"weight": -1.0}, "λ in L_source"),
        ({"weight_schedule": "fall"}, "weight_schedule"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Tune(**settings)


def test_what_it_takes_is_foretold_with_the_target(shared_bert: Any) -> None:
    """Twice the rows go through the network; nothing is left changed."""
    data = tm.rows(64)
    problem = tm.problem_of("classify", data, "str", shared_bert, RUN)
    splits, before = Splits(data, target=tm.rows(30, seed=2)), tm.state(shared_bert)
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        output = Inputs.output
        patch.setattr(Inputs, "output", lambda s, n, at: (seen.append(len(at)), output(s, n, at))[1])
        found = foresee(Tune(batch_size=8, align="dann", num_train_epochs=2), problem, splits, RUN)
    assert set(seen) == {16}
    assert found.seconds > 0 and found.memory > 0
    assert tm.same_state(shared_bert, before)


def test_batch_norms_that_move_see_one_domain_at_a_time() -> None:
    """One forward of both would mix their means."""
    seen: list[int] = []

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3)

    rows: Any = type("Rows", (), {"encoded": [], "backbone": None, "device": "cpu"})()
    rows.backbone = type("Backbone", (), {"encode": staticmethod(lambda inputs: [])})()

    def output(network: Any, at: list[int]) -> Any:
        from acclimate.tasks.base import Output

        seen.append(len(at))
        return Output(torch.zeros(len(at), 3), torch.zeros(len(at), 2))

    rows.output = output
    both = Both(rows, Data(()), ALIGNMENTS["mcc"]().attach(3, 2), lambda p: 1.0)
    net: Any = Net()
    both._outputs(net.train(), [0, 1], [0, 1])
    both._outputs(net.eval(), [0, 1], [0, 1])
    assert seen == [2, 2, 4]
