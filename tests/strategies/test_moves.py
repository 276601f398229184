"""Which weights of a backbone move: by kind, by place, and by what the gradient of some rows says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import backbones, model
from acclimate.backbones.base import Origin
from acclimate.backbones.small import load_small
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Splits, moves, named
from acclimate.strategies.tune import Tune

RUN = Run()
NORMS = {"bert": 7, "distilbert": 7, "gpt2": 7, "llama": 7, "albert": 3}  # LayerNorms, or what the model has for them


def fit(tune: Any, backbone: Any, data: Data, run: Run = RUN) -> Any:
    return tune.fit(tm.problem_of("classify", data, "str", backbone, run), Splits(data), run)


def changed(before: dict[str, torch.Tensor], backbone: Any) -> set[str]:
    after = tm.state(backbone)
    assert after.keys() == before.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def released(backbone: Any, what: str) -> set[str]:
    copy = backbone.clone()
    moves.release(copy, what)
    return {name for name, p in copy.named_parameters() if p.requires_grad}


def small_pictures(n: int = 16) -> Data:
    rng = np.random.default_rng(0)
    pictures = [(rng.random((8, 8)) * (0.3 if i % 2 else 1.0)).tolist() for i in range(n)]
    return Data(tuple(pictures), tuple("dark" if i % 2 else "light" for i in range(n)), clusters=np.arange(n))


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "albert"])
def test_bias_names_every_bias_and_nothing_else(kind: str, folder_of: Callable[[str], Path]) -> None:
    backbone = backbones.load(str(folder_of(kind)))
    assert released(backbone, "bias") == {n for n, _ in backbone.named_parameters() if n.endswith("bias")}


@pytest.mark.parametrize("kind", NORMS)
def test_norm_names_every_norm_and_nothing_else(kind: str, folder_of: Callable[[str], Path]) -> None:
    backbone = backbones.load(str(folder_of(kind)))
    found = released(backbone, "norm")
    assert {n for n in found if "norm" not in n.lower() and ".ln_" not in n} == set()
    assert len({n.rsplit(".", 1)[0] for n in found}) == NORMS[kind]


def test_a_backbone_without_biases_or_norms_says_so(folder_of: Callable[[str], Path]) -> None:
    llama = backbones.load(str(folder_of("llama")))
    with pytest.raises(UserError, match=r"'.*' has no biases to move; use norm_only or lora"):
        fit(Tune(moves="bias"), llama, tm.rows(16))
    bare = tm.TinyCnn()
    bare.stages[0][1] = bare.stages[1][1] = torch.nn.Identity()
    with pytest.raises(UserError, match="'tiny-cnn' has no norms with weights to move; use bitfit or lora"):
        moves.release(bare, "norm")


@pytest.mark.parametrize("name", ["bitfit", "norm_only"])
def test_of_text_only_what_is_named_moves(name: str, shared_bert: Any) -> None:
    before = tm.state(shared_bert)
    _, tune = named(name, {"num_train_epochs": 2, "learning_rate": 1e-2})
    fitted = fit(tune, shared_bert, tm.rows(16))
    assert tm.same_state(shared_bert, before)
    expected = released(shared_bert, tune.moves)  # type: ignore[attr-defined]
    dead = {n for n in expected if n.endswith("key.bias") or "pooler" in n}  # their gradient is rounding, or nothing
    assert expected - dead <= changed(before, fitted.backbone) <= expected
    assert fitted.strategy == name
    assert fitted.trained == (*(f"backbone.{n}" for n, _ in shared_bert.named_parameters() if n in expected),
                              "head.weight", "head.bias")  # fmt: skip


@pytest.mark.parametrize("name", ["bitfit", "norm_only"])
def test_of_pictures_only_what_is_named_moves(name: str, tmp_path: Path) -> None:
    """Statistics of BatchNorm go on with its weights; where its bias alone moves they stay."""
    backbone, data = load_small("small-cnn:8", Origin("small-cnn:8")), small_pictures()
    before = tm.state(backbone)
    _, tune = named(name, {"num_train_epochs": 2})
    fitted = fit(tune, backbone, data)
    assert tm.same_state(backbone, before)
    found = changed(before, fitted.backbone)
    statistics = {n for n in before if n.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    biases = {n for n in before if n.endswith("bias")}
    weights = {n.replace("bias", "weight") for n in biases}
    assert len(biases) == 4
    assert found == (biases if name == "bitfit" else biases | weights | statistics)
    fitted.save(tmp_path / "m")
    assert np.array_equal(model.load(tmp_path / "m").logits(data.inputs), fitted.logits(data.inputs))


@pytest.mark.parametrize("what", ["first", "middle", "top"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_parts_of_the_blocks(what: str, k: int, shared_bert: Any) -> None:
    start = {"first": 0, "middle": (3 - k) // 2, "top": 3 - k}[what]
    inside = {id(p) for block in shared_bert.blocks[start : start + k] for p in block.parameters()}
    stem, after = ({id(p) for p in part} for part in shared_bert.stem_and_top())
    inside |= {"first": stem, "middle": set(), "top": after}[what]
    assert released(shared_bert, f"{what}:{k}") == {n for n, p in shared_bert.named_parameters() if id(p) in inside}


@pytest.mark.parametrize("what", ["first:1", "middle:1"])
def test_a_part_is_tuned_and_the_rest_stays_bit_for_bit(what: str, shared_bert: Any) -> None:
    before = tm.state(shared_bert)
    fitted = fit(Tune(moves=what, start="probe", num_train_epochs=2, learning_rate=1e-3), shared_bert, tm.rows(16))
    found = changed(before, fitted.backbone)
    assert found and found <= released(shared_bert, what)
    assert fitted.strategy == "partial"
    assert any("output of the 1 frozen block is" in note for note in fitted.notes) == (what == "middle:1")


def test_more_blocks_than_there_are_and_none_at_all(shared_bert: Any, folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="moves='middle:4': 'tiny-bert' has 3 blocks; give 1 to 3"):
        fit(Tune(moves="middle:4"), shared_bert, tm.rows(16))
    albert = backbones.load(str(folder_of("albert")))
    for tune in (Tune(moves="first:1"), Tune(moves="surgical", start="probe"), Tune(unfreeze=0.5)):
        with pytest.raises(UserError, match=r"'albert' has no separate blocks .*; use linear_probe, lora or full"):
            fit(tune, albert, tm.rows(16))
    with pytest.raises(UserError, match="its layers cannot have rates of their own"):
        fit(Tune(layer_decay=0.9), albert, tm.rows(16))


def test_the_relative_gradient_norm_is_that_of_slow_loops(bert: Any) -> None:
    """RGN(b) = sqrt(Σ g²)/sqrt(Σ θ²) over the weights of a block, of the mean loss of all rows."""
    rows = tm.rows(12)
    problem = tm.problem_of("classify", rows, "str", bert, RUN)
    network = problem.task.attach(bert, problem.decoder)
    torch.manual_seed(0)
    torch.nn.init.normal_(network.head.weight)
    encoded, targets = bert.encode(rows.inputs), torch.as_tensor(problem.targets(rows))

    def loss(at: list[int]) -> torch.Tensor:
        logits = network(bert.collate([encoded[i] for i in at])).logits
        return torch.nn.functional.cross_entropy(logits, targets[at])

    best, said = moves.by_gradient(network, [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9, 10, 11]], loss)
    bert.requires_grad_(True).eval()
    loss(list(range(12))).backward()
    ratios = []
    for block in bert.blocks:
        g = w = 0.0
        for p in block.parameters():
            for a, b in zip(p.grad.double().flatten().tolist(), p.double().flatten().tolist(), strict=True):
                g, w = g + a * a, w + b * b
        ratios.append(g**0.5 / w**0.5)
    expected = dict(zip(("first:1", "middle:1", "top:1"), ratios, strict=True))
    assert best == max(expected, key=expected.__getitem__)
    listed = ", ".join(f"{part} {ratio:.2e}" for part, ratio in expected.items())
    assert said == f"{best} was chosen: relative gradient norms on 12 training rows are {listed}"


def test_surgical_moves_the_part_that_it_names(shared_bert: Any) -> None:
    _, tune = named("surgical", {"num_train_epochs": 2, "learning_rate": 1e-3})
    data, before = tm.rows(16), tm.state(shared_bert)
    fitted = fit(tune, shared_bert, data)
    part = next(note for note in fitted.notes if "was chosen" in note).split()[0]
    found = changed(before, fitted.backbone)
    assert found and found <= released(shared_bert, part)
    assert fitted.settings["moves"] == "surgical"
    same = fit(Tune(moves=part, start="probe", num_train_epochs=2, learning_rate=1e-3), shared_bert, data)
    assert tm.same_state(same.backbone, tm.state(fitted.backbone))


def test_thirds_of_few_blocks(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    assert moves.thirds(backbones.load(str(folder_of("bert")))) == ["first:1", "middle:1", "top:1"]
    assert moves.thirds(backbones.load(str(tm.write("bert", tmp_path / "two", layers=2)))) == ["first:1", "top:1"]
    assert moves.thirds(load_small("small-cnn", Origin("small-cnn"))) == ["first:2", "middle:2", "top:2"]


@pytest.mark.parametrize("name", ["bitfit", "norm_only", "surgical", "gradual"])
def test_a_network_of_timm_is_tuned_saved_and_loaded(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="image backbones need the `image` extra")
    from acclimate.backbones.image import ImageBackbone
    from acclimate.backbones.image_pixels import ImageSettings

    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False, num_classes=0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # timm's own start has branches that are multiplied by zero
            torch.nn.init.ones_(module.weight)
    settings = ImageSettings(size=32, crop=1.0, mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="nearest")
    backbone = ImageBackbone(network.eval().requires_grad_(False), "resnet10t", settings, Origin("tiny-timm"))
    rng = np.random.default_rng(0)
    pictures = tuple(rng.integers(0, 100 + 155 * (i % 2), (32, 32, 3), dtype=np.uint8) for i in range(12))
    data = Data(pictures, tuple("dark" if i % 2 else "light" for i in range(12)), clusters=np.arange(12))
    before = tm.state(backbone)
    _, tune = named(name, {"num_train_epochs": 2, "learning_rate": 1e-2, "unfreeze": 0.5 if name == "gradual" else 0.0})
    fitted = fit(tune, backbone, data)
    assert tm.same_state(backbone, before)
    found = {n.removeprefix("backbone.") for n in fitted.trained if n.startswith("backbone.")}
    moved = {n for n in changed(before, fitted.backbone) if "running_" not in n and "num_batches" not in n}
    assert moved and moved <= found
    if name in ("bitfit", "norm_only"):
        assert {before[n].ndim for n in found} == {1}
        assert moved == found
        assert changed(before, fitted.backbone) == moved or name == "norm_only"
    fitted.save(tmp_path / "m")
    assert np.array_equal(model.load(tmp_path / "m").logits(pictures), fitted.logits(pictures))
