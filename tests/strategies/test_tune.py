"""What moves, how fast and for how long."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import backbones
from acclimate.errors import UserError
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies import Splits, named
from acclimate.strategies.inputs import Inputs
from acclimate.strategies.probe import Probe
from acclimate.strategies.tune import Tune
from acclimate.train import loop
from acclimate.train.memory import Fitting

RUN = Run()


def fit(
    tune: Any, backbone: Any, data: Any, valid: Any = None, run: Run = RUN, task: str = "classify", **more: Any
) -> Any:
    kind = {"classify": "str", "ordinal": "int", "multilabel": "list", "regress": "float"}[task]
    return tune.fit(tm.problem_of(task, data, kind, backbone, run, **more), Splits(data, valid), run)


def moved(before: dict[str, torch.Tensor], backbone: Any) -> set[str]:
    after = tm.state(backbone)
    assert after.keys() == before.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_moves_the_last_k_blocks_and_what_follows(kind: str, k: int, folder_of: Callable[[str], Any]) -> None:
    backbone = backbones.load(str(folder_of(kind)))
    before = tm.state(backbone)
    # Two steps: the first has a zero head, through which no gradient reaches the backbone.
    fitted = fit(Tune(moves=f"top:{k}", num_train_epochs=2), backbone, tm.rows(16))
    assert tm.same_state(backbone, before)
    top = {id(p) for block in backbone.blocks[-k:] for p in block.parameters()}
    top |= {id(p) for p in backbone.stem_and_top()[1]}
    expected = {name for name, p in backbone.named_parameters() if id(p) in top}
    dead = {"self.key.bias", "attention.key.bias", "k_lin.bias"}  # softmax is blind to them: their gradient is rounding
    changed = moved(before, fitted.backbone)
    assert changed <= expected
    assert {n for n in expected - changed if not any(n.endswith(d) for d in dead)} == set()
    assert fitted.trained == (*(f"backbone.{n}" for n, p in backbone.named_parameters() if id(p) in top),
                              "head.weight", "head.bias")  # fmt: skip


def test_gpt2_keeps_its_embeddings_but_moves_its_last_norm(folder_of: Callable[[str], Any]) -> None:
    backbone = backbones.load(str(folder_of("gpt2")))
    fitted = fit(Tune(moves="top:1", num_train_epochs=1), backbone, tm.rows(16))
    names = [n for n in fitted.trained if ".h." not in n]
    assert names == ["backbone.model.ln_f.weight", "backbone.model.ln_f.bias", "head.weight", "head.bias"]


def test_all_moves_everything(shared_bert: Any) -> None:
    fitted = fit(Tune(num_train_epochs=1), shared_bert, tm.rows(16))
    names = {f"backbone.{n}" for n, _ in shared_bert.named_parameters()} | {"head.weight", "head.bias"}
    assert set(fitted.trained) == names
    total = sum(p.numel() for p in shared_bert.parameters())
    assert fitted.notes[:1] == (f"{total:,} of {total:,} backbone parameters moved (all)",)
    assert [note.split(":")[0] for note in fitted.notes[1:]] == ["features of 16 training rows before and after tuning"]
    assert not any(p.requires_grad for p in fitted.backbone.parameters())
    assert not fitted.backbone.training and not fitted.head.training


def test_blocks_that_are_shared_cannot_be_tuned_alone(folder_of: Callable[[str], Any]) -> None:
    backbone = backbones.load(str(folder_of("albert")))
    with pytest.raises(UserError, match=r"'albert' has no separate blocks .* use linear_probe, lora or full"):
        fit(Tune(moves="top:1"), backbone, tm.rows(16))
    assert len(fit(Tune(num_train_epochs=1), backbone, tm.rows(16)).trained) > 2


def test_more_blocks_than_there_are(shared_bert: Any) -> None:
    with pytest.raises(UserError, match=r"moves='top:4': 'tiny-bert' has 3 blocks; give 1 to 3"):
        fit(Tune(moves="top:4"), shared_bert, tm.rows(16))


def test_the_steps_taken_are_those_of_the_settings(shared_bert: Any) -> None:
    fitted = fit(Tune(num_train_epochs=2, batch_size=4, gradient_accumulation_steps=3), shared_bert, tm.rows(16))
    assert [h["step"] for h in fitted.history] == [2, 4]  # four batches: three, then one
    assert [h["valid_loss"] for h in fitted.history] == [None, None]
    with_valid = fit(Tune(num_train_epochs=2), shared_bert, tm.rows(16), tm.rows(8, seed=1))
    assert [h["epoch"] for h in with_valid.history] == [0, 1, 2]
    assert with_valid.history[0]["valid_loss"] == pytest.approx(np.log(2), abs=1e-5)  # a zero head


def test_accumulation_equals_a_larger_batch(shared_bert: Any) -> None:
    data = replace(tm.rows(16), weights=np.linspace(0.5, 1.5, 16))
    shared = {"num_train_epochs": 2, "dropout": 0.0, "max_grad_norm": 0.0, "optimizer": "adam", "weight_decay": 0.0}
    _, one = named("full", {**shared, "batch_size": 16})
    _, four = named("full", {**shared, "batch_size": 4, "gradient_accumulation_steps": 4})
    a, b = fit(one, shared_bert, data), fit(four, shared_bert, data)
    assert a.history[-1]["step"] == b.history[-1]["step"] == 2
    assert a.logits(data.inputs) == pytest.approx(b.logits(data.inputs), abs=1e-4)


def test_the_epoch_with_the_least_loss_on_rows_held_out_is_kept(shared_bert: Any) -> None:
    data = tm.rows(24)
    wrong = replace(data, labels=tuple("good" if y == "bad" else "bad" for y in data.labels or ()))
    fitted = fit(Tune(num_train_epochs=3, learning_rate=1e-3), shared_bert, data, wrong)
    assert [h["valid_loss"] for h in fitted.history][1:] > [fitted.history[0]["valid_loss"]]
    assert np.array_equal(fitted.logits(data.inputs), np.zeros((24, 2)))  # untrained is best here
    assert tm.same_state(fitted.backbone, tm.state(shared_bert))


@pytest.mark.parametrize("moves", ["all", "lora", "top:1"])
def test_lp_ft_starts_where_the_probe_ends(moves: str, shared_bert: Any) -> None:
    data = tm.rows(24)
    probe = fit(Probe(), shared_bert, data)
    tiny_steps = Tune(moves=moves, start="probe", learning_rate=1e-12, num_train_epochs=1, dropout=0.0)
    fitted = fit(tiny_steps, shared_bert, data)
    assert fitted.logits(data.inputs) == pytest.approx(probe.logits(data.inputs), abs=1e-4)


def test_lp_ft_with_rows_to_choose_by_is_never_worse_there_than_its_probe(shared_bert: Any) -> None:
    data, valid = tm.rows(24), tm.rows(12, seed=5)
    fitted = fit(Tune(start="probe", num_train_epochs=2, learning_rate=1e-3), shared_bert, data, valid)
    losses = [h["valid_loss"] for h in fitted.history]
    codes = (np.array(valid.labels) == "good").astype(int)
    z = fitted.logits(valid.inputs)
    loss = float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(12), codes]))
    assert loss == pytest.approx(min(losses), abs=1e-5)


@pytest.mark.parametrize("task", ["classify", "ordinal", "multilabel", "regress"])
def test_tuning_learns_every_task(task: str, shared_bert: Any) -> None:
    data, _ = tm.task_rows(task, 36)
    tune = Tune(num_train_epochs=15, learning_rate=3e-3, head_learning_rate=3e-2, dropout=0.0)
    history = fit(tune, shared_bert, data, task=task).history
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]


def test_a_class_that_only_the_validation_rows_hold_is_passed_over(shared_bert: Any) -> None:
    valid = tm.rows(12, labels=("good", "strange", "bad"), seed=3)
    known = valid.take([i for i, y in enumerate(valid.labels or ()) if y != "strange"])
    a = fit(Tune(num_train_epochs=1), shared_bert, tm.rows(16), valid)
    b = fit(Tune(num_train_epochs=1), shared_bert, tm.rows(16), known)
    assert a.history == b.history


def test_the_time_limit_is_kept(shared_bert: Any) -> None:
    start = time.monotonic()
    fitted = fit(Tune(num_train_epochs=10_000), shared_bert, tm.rows(16), run=Run(deadline=start + 0.3))
    assert fitted.history[-1]["step"] < 10_000  # of 10,000 epochs of a step each
    assert fitted.history[-1]["note"].startswith("time limit reached after step ")
    assert np.isfinite(fitted.logits(["good day"])).all()


def test_a_rate_far_too_high_says_so_and_gives_no_model(shared_bert: Any) -> None:
    before = tm.state(shared_bert)
    with pytest.raises(UserError, match=r"NaN or infinite at step \d+ of \d+ \(learning rates [0-9.]+e\+29"):
        fit(Tune(learning_rate=1e30, max_grad_norm=0, lr_scheduler_type="constant"), shared_bert, tm.rows(24))
    assert tm.same_state(shared_bert, before)


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert", "gpt2", "llama"])
def test_dropout_can_be_switched_off_everywhere(kind: str, folder_of: Callable[[str], Any]) -> None:
    from acclimate.strategies.moves import set_dropout

    backbone = backbones.load(str(folder_of(kind))).clone().requires_grad_(True)
    set_dropout(backbone, 0.5)
    batch = backbone.collate(backbone.encode(["good day bad river stone", "cold mean table"]))
    backbone.train()
    assert not torch.equal(backbone(batch), backbone(batch))
    set_dropout(backbone, 0.0)
    assert torch.equal(backbone(batch), backbone(batch))


def test_biases_and_norms_have_no_decay_and_the_head_a_rate_of_its_own(shared_bert: Any) -> None:
    from acclimate.tasks import TASKS

    task = TASKS["classify"]
    network = task.attach(shared_bert.clone().requires_grad_(True), task.decoder(("a", "b"), "str"))
    tune = Tune(learning_rate=1e-5, head_learning_rate=1e-2, weight_decay=0.1)
    groups = tune.optimizer_of(network).param_groups
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(1e-5, 0.1), (1e-5, 0.0), (1e-2, 0.1), (1e-2, 0.0)]
    assert {p.ndim for p in groups[1]["params"]} == {1}
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    probed = replace(tune, start="probe").optimizer_of(network)
    assert {g["lr"] for g in probed.param_groups} == {1e-5}
    assert type(replace(tune, optimizer="adam").optimizer_of(network)) is torch.optim.Adam


def test_out_of_memory_changes_neither_training_nor_judging(
    shared_bert: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = replace(tm.rows(24), weights=np.linspace(0.5, 1.5, 24))
    tune = Tune(num_train_epochs=2, dropout=0.0, batch_size=8, mixed_precision="no")  # no trial of numbers between
    whole = fit(tune, shared_bert, data, tm.rows(20, seed=1))
    judged, sizes = Inputs._judged, []

    def small(self: Any, network: Any, at: list[int], beside: Any) -> Any:
        sizes.append(len(at))
        if len(at) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return judged(self, network, at, beside)

    monkeypatch.setattr(Inputs, "_judged", small)
    run = Run(progress=Progress(quiet=False))
    fitted = fit(tune, shared_bert, data, tm.rows(20, seed=1), run=run)
    for a, b in zip(whole.history, fitted.history, strict=True):
        for name in ("train_loss", "valid_loss"):
            assert (a[name] is None and b[name] is None) or a[name] == pytest.approx(b[name], abs=1e-5)
    assert [h.get("rows_at_once") for h in fitted.history] == [None, 2, 2]
    assert sizes[:4] == [20, 10, 5, 3]  # rows held out are judged first
    assert max(sizes[10:]) <= 8
    said = [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if line.startswith("out of")]
    assert said == [f"out of memory with {n} rows at once" for n in (20, 10, 5, 8, 4)]


def test_rows_held_out_are_judged_in_constant_memory(shared_bert: Any) -> None:
    """No batch's logits are alive when those of the next one are made."""
    data = tm.rows(200)
    problem = tm.problem_of("classify", data, "str", shared_bert, RUN)
    network = problem.task.attach(shared_bert, problem.decoder)
    alive: list[Any] = []

    def watch(module: Any, inputs: Any, output: Any) -> None:
        assert [ref for ref in alive if ref() is not None] == []
        alive.append(weakref.ref(output.logits))

    hook = network.register_forward_hook(watch)
    rows = Inputs(problem, data, shared_bert, RUN)
    mean = rows.mean_loss(network, Fitting(network, RUN.progress))
    hook.remove()
    assert len(alive) == 4
    with torch.inference_mode():
        assert mean == pytest.approx(float(rows.losses(network, list(range(200))).mean()), abs=1e-6)


def test_a_checkpoint_is_gone_on_from_only_with_the_same_rows_and_settings(shared_bert: Any, tmp_path: Any) -> None:
    data, tune = tm.rows(16), Tune(num_train_epochs=2, batch_size=4)
    run = Run(state=tmp_path, checkpoint_every=0.0)

    def steps_of(tune: Tune, rows: Any, seed: int = 0) -> int:
        """How many steps were still to be done."""
        done: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            step = loop._step
            patch.setattr(loop, "_step", lambda *args: (done.append(1), step(*args))[1])
            fit(tune, shared_bert, rows, run=replace(run, seed=seed))
        return len(done)

    assert steps_of(tune, data) == 8
    assert steps_of(tune, data) == 0
    for changed, rows, seed in (
        (tune, replace(data, inputs=("other", *data.inputs[1:])), 0),
        (tune, replace(data, weights=np.linspace(0.5, 1.5, 16)), 0),
        (tune, data, 1),
        (replace(tune, weight_decay=0.02), data, 0),
        (replace(tune, dropout=0.3), data, 0),
    ):
        assert steps_of(changed, rows, seed) == 8


@pytest.mark.parametrize("moves", ["lora", "top:1"])
def test_every_kind_of_tuning_goes_on_bit_for_bit(moves: str, shared_bert: Any, tmp_path: Any) -> None:
    data, valid = tm.rows(16), tm.rows(8, seed=1)
    tune = Tune(moves=moves, start="probe", num_train_epochs=2, batch_size=4, gradient_accumulation_steps=2)
    whole = fit(tune, shared_bert, data, valid)
    run = Run(state=tmp_path, checkpoint_every=0.0)
    with pytest.MonkeyPatch.context() as patch:
        step, count = loop._step, [0]

        def stop(*args: Any) -> Any:
            count[0] += 1
            if count[0] == 4:
                raise RuntimeError("killed")
            return step(*args)

        patch.setattr(loop, "_step", stop)
        with pytest.raises(RuntimeError, match="killed"):
            fit(tune, shared_bert, data, valid, run=run)
    resumed = fit(tune, shared_bert, data, valid, run=run)
    assert resumed.history == whole.history
    assert tm.same_state(resumed.backbone, tm.state(whole.backbone))
    assert tm.same_state(resumed.head, tm.state(whole.head))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_precision_of_the_finished_model_is_not_that_of_training(precision: str, folder_of: Any) -> None:
    """The same weights bit for bit: `mixed_precision` alone says in which numbers they learn."""
    data = tm.rows(24)
    found = []
    for name in ("fp32", precision):
        backbone = backbones.load(str(folder_of("bert")), precision=name).requires_grad_(False)
        problem = tm.problem_of("classify", data, "str", backbone, RUN)
        tune = Tune(num_train_epochs=2, mixed_precision="no", dropout=0.0)
        found.append(tune.fit(problem, Splits(data), RUN))
    assert tm.same_state(found[0].backbone, tm.state(found[1].backbone))
    texts = list(data.inputs)
    assert not np.array_equal(found[0].logits(texts), found[1].logits(texts))
