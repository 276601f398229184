"""How fast each layer moves, and from which step on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_models as tm
from acclimate import backbones
from acclimate.backbones.base import Origin
from acclimate.backbones.small import load_small
from acclimate.run import Run
from acclimate.strategies import Splits, named
from acclimate.strategies.rates import Unfreezing
from acclimate.strategies.tune import Tune
from acclimate.tasks import TASKS
from acclimate.train import loop

RUN = Run()


def fit(tune: Any, backbone: Any, data: Any, valid: Any = None, run: Run = RUN) -> Any:
    return tune.fit(tm.problem_of("classify", data, "str", backbone, run), Splits(data, valid), run)


def rates_of(tune: Tune, backbone: Any) -> dict[str, float]:
    """The learning rate of every parameter of the backbone, by its name."""
    task = TASKS["classify"]
    network = task.attach(backbone.clone().requires_grad_(True), task.decoder(("a", "b"), "str"))
    names = {id(p): n for n, p in network.backbone.named_parameters()}
    groups = tune.optimizer_of(network).param_groups
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    return {names[id(p)]: g["lr"] for g in groups for p in g["params"] if id(p) in names}


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2"])
def test_each_layer_is_slower_than_the_one_above(kind: str, folder_of: Callable[[str], Path]) -> None:
    """η·d^(L − l) in block l of L = 3, η·d^3 before the first, η after the last."""
    backbone = backbones.load(str(folder_of(kind)))
    found = rates_of(Tune(learning_rate=1e-3, layer_decay=0.5), backbone)
    place = {id(p): at for at, block in enumerate(backbone.blocks, 1) for p in block.parameters()}
    stem = {id(p) for p in backbone.stem_and_top()[0]}
    for name, parameter in backbone.named_parameters():
        at = place.get(id(parameter), 0 if id(parameter) in stem else 3)
        assert found[name] == pytest.approx(1e-3 * 0.5 ** (3 - at), rel=1e-12), name
    assert sorted(set(found.values())) == pytest.approx([1.25e-4, 2.5e-4, 5e-4, 1e-3])


def test_pictures_have_layers_too() -> None:
    backbone = load_small("small-cnn", Origin("small-cnn"))
    found = rates_of(Tune(learning_rate=1.0, layer_decay=0.1), backbone)
    assert {name.split(".")[1]: rate for name, rate in found.items()} == pytest.approx(
        {"0": 1e-3, "1": 1e-2, "2": 1e-1, "3": 1.0}
    )


def test_without_decay_the_groups_are_those_of_before(shared_bert: Any) -> None:
    task = TASKS["classify"]
    network = task.attach(shared_bert.clone().requires_grad_(True), task.decoder(("a", "b"), "str"))
    plain = Tune().optimizer_of(network).param_groups
    sizes = [p.ndim for p in network.backbone.parameters()]
    assert [len(g["params"]) for g in plain] == [sum(n > 1 for n in sizes), sum(n == 1 for n in sizes), 1, 1]


def test_with_one_step_of_plain_descent_the_layers_move_by_their_rates(shared_bert: Any) -> None:
    """Adam's first step is the rate times the sign of the gradient: the largest change of each layer is its rate."""
    tune = Tune(layer_decay=0.5, start="probe", learning_rate=1e-3, num_train_epochs=1, batch_size=16, dropout=0.0,
                optimizer="adam", weight_decay=0.0, warmup_steps=0, max_grad_norm=0,
                lr_scheduler_type="constant")  # fmt: skip
    fitted = fit(tune, shared_bert, tm.rows(16))
    for block, before, rate in zip(fitted.backbone.blocks, shared_bert.blocks, (2.5e-4, 5e-4, 1e-3), strict=True):
        moved = max(float((a - b).abs().max()) for a, b in zip(block.parameters(), before.parameters(), strict=True))
        assert moved == pytest.approx(rate, rel=1e-2)


def test_layers_open_from_the_top_over_their_share_of_the_steps(shared_bert: Any) -> None:
    backbone = shared_bert.clone().requires_grad_(True)
    opening = Unfreezing.over(backbone, 0.5, 40)
    assert [(step, at) for step, at, _ in opening.opens] == [(5, 3), (10, 2), (15, 1), (20, 0)]
    assert str(opening) == (
        "the head moved from step 1, block 3 from 6, block 2 from 11, block 1 from 16, the stem from 21 of 40"
    )
    assert {id(p) for _, _, part in opening.opens for p in part} == {id(p) for p in backbone.parameters()}
    backbone.train()
    for step, frozen in ((0, 3), (4, 3), (5, 2), (10, 1), (15, 0), (20, 0)):
        with opening.during(step):
            closed = [not any(p.requires_grad for p in block.parameters()) for block in backbone.blocks]
            assert closed == [True] * frozen + [False] * (3 - frozen)
            assert [block.training for block in backbone.blocks] == [not c for c in closed]
            embeds = backbone.model.embeddings.word_embeddings.weight
            assert embeds.requires_grad == (step >= 20)
        assert all(p.requires_grad for p in backbone.parameters())
        assert all(module.training for module in backbone.modules())


def test_what_is_closed_stays_bit_for_bit_until_it_opens(shared_bert: Any) -> None:
    """Eight steps, share .9: block 3 from step 3 on, block 2 from 5, block 1 from 7, the stem from 9, never."""
    before = [tm.state(block) for block in shared_bert.blocks]
    stem = shared_bert.model.embeddings.word_embeddings.weight.clone()
    seen: list[list[bool]] = []
    with pytest.MonkeyPatch.context() as patch:
        step = loop._step

        def watched(moving: Any, optimizer: Any, *rest: Any) -> Any:
            found = step(moving, optimizer, *rest)
            live = networks[-1]
            seen.append([tm.same_state(block, b) for block, b in zip(live.blocks, before, strict=True)])
            return found

        networks: list[Any] = []
        over = Unfreezing.over
        patch.setattr(Unfreezing, "over", lambda backbone, *a: (networks.append(backbone), over(backbone, *a))[1])
        patch.setattr(loop, "_step", watched)
        fitted = fit(Tune(unfreeze=0.9, num_train_epochs=2, batch_size=4, dropout=0.0), shared_bert, tm.rows(16))
    opened = [[not same for same in row] for row in seen]
    assert opened == [[False] * 3] * 2 + [[False, False, True]] * 2 + [[False, True, True]] * 2 + [[True] * 3] * 2
    assert torch.equal(fitted.backbone.model.embeddings.word_embeddings.weight, stem)
    assert fitted.strategy == "gradual"
    assert fitted.notes[-1].startswith("the head moved from step 1, block 3 from 3, block 2 from 5, block 1 from 7")


def test_statistics_of_closed_layers_stay_too() -> None:
    backbone = tm.TinyCnn().requires_grad_(True)
    opening = Unfreezing.over(backbone, 0.5, 8)
    images = torch.randn(4, 1, 8, 8)
    before = tm.state(backbone)
    backbone.train()
    with opening.during(0):
        backbone({"pixels": images})
    assert tm.same_state(backbone, before)
    with opening.during(2):
        backbone({"pixels": images})
    changed = {n for n, v in tm.state(backbone).items() if not torch.equal(v, before[n])}
    assert changed == {f"stages.1.1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}


def test_layers_have_their_rates_though_frozen_ones_are_replayed(shared_bert: Any) -> None:
    """Block 3 has the rate, block 2 half of it; stubs stand in the place of block 1."""
    tune = Tune(moves="top:2", layer_decay=0.5, start="probe", learning_rate=1e-3, num_train_epochs=2, batch_size=16,
                dropout=0.0, optimizer="adam", weight_decay=0.0, warmup_steps=0, max_grad_norm=0,
                lr_scheduler_type="constant")  # fmt: skip
    fitted = fit(tune, shared_bert, tm.rows(16))
    assert any("frozen block is kept" in note for note in fitted.notes)
    for block, before, rate in zip(fitted.backbone.blocks, shared_bert.blocks, (0.0, 5e-4, 1e-3), strict=True):
        moved = max(float((a - b).abs().max()) for a, b in zip(block.parameters(), before.parameters(), strict=True))
        assert moved == pytest.approx(2 * rate, rel=5e-2)


@pytest.mark.parametrize("moves", ["all", "top:2", "lora", "bias"])
def test_gradual_goes_on_bit_for_bit_whatever_moves(moves: str, shared_bert: Any, tmp_path: Path) -> None:
    """Killed before everything was open; with top:2 the frozen block below is kept and replayed."""
    data, valid = tm.rows(16), tm.rows(8, seed=1)
    _, tune = named("gradual", {"moves": moves, "num_train_epochs": 3, "batch_size": 4, "unfreeze": 0.8,
                                "learning_rate": 1e-3})  # fmt: skip
    whole = fit(tune, shared_bert, data, valid)
    assert any("frozen block is kept" in note for note in whole.notes) == (moves == "top:2")
    for stop in (2, 6):
        run = Run(state=tmp_path / str(stop), checkpoint_every=0.0)
        with pytest.MonkeyPatch.context() as patch:
            step, count = loop._step, [0]

            def killed(*args: Any, step: Any = step, count: Any = count, stop: int = stop) -> Any:
                count[0] += 1
                if count[0] == stop:
                    raise RuntimeError("killed")
                return step(*args)

            patch.setattr(loop, "_step", killed)
            with pytest.raises(RuntimeError, match="killed"):
                fit(tune, shared_bert, data, valid, run=run)
        resumed = fit(tune, shared_bert, data, valid, run=run)
        assert resumed.history == whole.history
        assert tm.same_state(resumed.backbone, tm.state(whole.backbone))
        assert tm.same_state(resumed.head, tm.state(whole.head))


def test_the_best_epoch_is_put_back_whole_though_blocks_opened_later(shared_bert: Any) -> None:
    """The labels held out are wrong, so that the start is best: what opened afterwards goes back to it."""
    data = tm.rows(24)
    wrong = Tune(unfreeze=0.5, num_train_epochs=3, learning_rate=1e-3)
    flipped = tm.rows(24)
    flipped = type(flipped)(flipped.inputs, tuple("good" if y == "bad" else "bad" for y in flipped.labels or ()))
    fitted = fit(wrong, shared_bert, data, flipped)
    assert tm.same_state(fitted.backbone, tm.state(shared_bert))
