"""A network is a backbone with a head on it; what is frozen stays still (F5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate.run import Run
from acclimate.strategies import STRATEGIES, Splits, named
from acclimate.tasks import TASKS

LEFT_OUT = ("hybrid", "in_context")  # no words here; a package and weights more
FROZEN = sorted(name for name, strategy in STRATEGIES.items() if strategy.frozen and name not in LEFT_OUT)


def test_attach_puts_a_zero_head_on_the_very_backbone(shared_bert: Any) -> None:
    data, kind = tm.task_rows("classify", 9)
    task = TASKS["classify"]
    network = task.attach(shared_bert, task.decoder(data.labels or (), kind))
    out = network(shared_bert.collate(shared_bert.encode(data.inputs)))
    assert network.backbone is shared_bert
    assert out.features.shape == (9, shared_bert.width)
    assert torch.equal(out.logits, torch.zeros(9, 3))


def test_frozen_means_frozen_also_after_train_was_called() -> None:
    backbone = tm.TinyCnn()
    backbone.requires_grad_(False)
    network = TASKS["classify"].attach(backbone, TASKS["classify"].decoder(("a", "b"), "str"))
    before = tm.state(backbone)
    batch = backbone.collate(backbone.encode(tm.pictures(8, shift=5.0).inputs))
    for call in (network.train, backbone.train):
        call()
        assert not any(m.training for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
        for _ in range(3):
            network(batch)
    assert network.head.training
    assert tm.same_state(backbone, before)
    alone = backbone(backbone.collate(backbone.encode(tm.pictures(1, shift=5.0).inputs)))
    assert torch.allclose(network(batch).features[:1], alone, atol=1e-6)  # no batch-mate has a say


def test_unfrozen_batch_norm_does_move() -> None:
    backbone = tm.TinyCnn()
    before = tm.state(backbone)
    backbone.train()
    backbone(backbone.collate(backbone.encode(tm.pictures(8, shift=5.0).inputs)))
    assert not tm.same_state(backbone, before)


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_strategies_leave_batch_norm_alone(name: str) -> None:
    backbone = tm.TinyCnn().eval()
    before = tm.state(backbone)
    data = replace(tm.pictures(24, shift=5.0), clusters=np.arange(24))
    problem = tm.problem_of("classify", data, "str", backbone, Run())
    STRATEGIES[name].fit(problem, Splits(data), Run())
    assert tm.same_state(backbone, before)


def test_tuning_the_top_block_moves_its_statistics_and_no_others() -> None:
    backbone = tm.TinyCnn().eval()
    before = tm.state(backbone)
    data = tm.pictures(24, shift=5.0)
    problem = tm.problem_of("classify", data, "str", backbone, Run())
    _, partial = named("partial", {"moves": "top:1", "num_train_epochs": 3})
    fitted = partial.fit(problem, Splits(data), Run())
    assert tm.same_state(backbone, before)  # the one that was given
    assert fitted.backbone is not None
    after = tm.state(fitted.backbone)
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved == {n for n in before if n.startswith("stages.1")}


def test_statistics_without_weights_stay_still_beside_frozen_parts() -> None:
    class Mixed(tm.TinyCnn):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(4, affine=False)

        def forward(self, batch: Any) -> torch.Tensor:
            x = self.norm(self.stages[0](batch["pixels"]))
            return self.stages[1](x).mean((2, 3))

    backbone = Mixed()
    backbone.requires_grad_(False)
    backbone.stages[1].requires_grad_(True)
    backbone.train()
    backbone(backbone.collate(backbone.encode(tm.pictures(8, shift=5.0).inputs)))
    assert torch.equal(backbone.norm.running_mean, torch.zeros(4))
    assert backbone.stages[1][1].num_batches_tracked == 1


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert", "gpt2", "llama"])
def test_a_frozen_text_model_has_no_dropout_in_training(kind: str, folder_of: Callable[[str], Any]) -> None:
    from acclimate import backbones

    backbone = backbones.load(str(folder_of(kind))).requires_grad_(False)
    backbone.train()
    batch = backbone.collate(backbone.encode(["good day", "bad river stone"]))
    assert torch.equal(backbone(batch), backbone(batch))
