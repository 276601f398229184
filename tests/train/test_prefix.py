"""Frozen blocks whose output is kept: what comes out is what the whole pass gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate.backbones import load
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS
from acclimate.train import prefix
from acclimate.train.prefix import build, frozen_depth

TEXTS = ["red fish", "one fish two fish red fish blue fish", "", "a", "black fish blue fish old fish new fish", "two"]


def top(backbone: Any, k: int) -> Any:
    backbone.requires_grad_(False)
    for block in backbone.blocks[-k:]:
        block.requires_grad_(True)
    return backbone.eval()


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("truncation", ["head", "chunk"])
def test_replayed_features_are_those_of_the_whole_pass(
    kind: str, truncation: str, folder_of: Callable[[str], Path]
) -> None:
    backbone = top(load(str(folder_of(kind)), truncation=truncation, max_length=8), 1)
    encoded = backbone.encode(TEXTS)
    kept, note = build(backbone, encoded, "auto", Run())
    assert kept is not None, note
    assert kept.depth == frozen_depth(backbone) == len(backbone.blocks) - 1
    for rows in ([0, 1, 2, 3, 4, 5], [4], [5, 1, 0]):
        batch = backbone.collate([encoded[i] for i in rows])
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                full = backbone(batch)
                kept.offer(rows, batch, "cpu")
                with kept.replaying():
                    short = backbone(batch)
            assert torch.allclose(full, short, atol=1e-6)
    assert all(type(b).__name__ != "_Stub" for b in backbone.blocks)


def test_the_blocks_come_back_after_an_error(shared_bert: Any) -> None:
    backbone = top(shared_bert.clone(), 1)
    before = backbone.blocks
    kept, _ = build(backbone, backbone.encode(TEXTS), "auto", Run())
    assert kept is not None
    with pytest.raises(RuntimeError, match="stop"), kept.replaying():
        raise RuntimeError("stop")
    assert backbone.blocks == before


def test_depth_counts_from_the_bottom_on(shared_bert: Any) -> None:
    backbone = shared_bert.clone().requires_grad_(False)
    blocks = backbone.blocks
    assert frozen_depth(backbone) == len(blocks)
    blocks[0].requires_grad_(True)
    assert frozen_depth(backbone) == 0
    blocks[0].requires_grad_(False)
    backbone.stem_and_top()[0][0].requires_grad_(True)  # embeddings that move change everything above
    assert frozen_depth(backbone) == 0


def test_what_does_not_fit_is_not_kept(shared_bert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = top(shared_bert.clone(), 1)
    encoded = backbone.encode(TEXTS)
    monkeypatch.setattr(prefix, "SHARE_OF_MEMORY", 0)
    kept, note = build(backbone, encoded, "auto", Run(cache=tmp_path))
    assert kept is not None and isinstance(kept.values, np.memmap) and note.startswith("kept in a file")
    assert not any(tmp_path.iterdir())  # without a name: gone with the process
    monkeypatch.setattr(prefix.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    kept, note = build(backbone, encoded, "auto", Run(cache=tmp_path))
    assert kept is None and note.startswith("not kept: it takes 0.0 GB")


def test_a_model_that_reads_its_lower_blocks_elsewhere_is_refused(shared_bert: Any) -> None:
    """The features of this one add what the first block gave."""
    backbone = top(shared_bert.clone(), 1)
    seen: list[torch.Tensor] = []
    backbone.blocks[0].register_forward_hook(lambda _m, _i, out: seen.append(out))
    plain = type(backbone).forward

    class Skipping(type(backbone)):  # type: ignore[misc]
        def forward(self, batch: Any) -> torch.Tensor:
            seen.clear()
            out = plain(self, batch)
            return out + seen[0].abs().mean() if seen else out

    backbone.__class__ = Skipping
    kept, note = build(backbone, backbone.encode(TEXTS), "auto", Run())
    assert kept is None and "uses its lower blocks elsewhere too" in note


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_training_on_it_gives_the_weights_of_training_without(dropout: float, shared_bert: Any) -> None:
    data, labels = tm.task_rows("classify", 40)
    task = TASKS["classify"]
    base = shared_bert.clone().requires_grad_(False)
    problem = Problem(task, task.decoder(data.labels or (), "str"), base, Store(base, Run()))

    def weights(mode: str) -> tuple[torch.Tensor, tuple[str, ...]]:
        settings = {"cache_frozen": mode, "num_train_epochs": 3, "moves": "top:1", "dropout": dropout}
        splits = Splits(data.take(range(30)), data.take(range(30, 40)))
        fitted = named("partial", settings)[1].fit(problem, splits, Run())
        assert fitted.backbone is not None
        return torch.cat([p.flatten() for p in fitted.backbone.parameters()]), fitted.notes

    (kept, said), (anew, silent), (half, _) = weights("auto"), weights("off"), weights("fp16")
    assert torch.allclose(kept, anew, atol=1e-6) and (half - anew).abs().max() < 1e-3
    assert any("replayed every epoch" in note for note in said)
    assert not any("replayed" in note for note in silent)
