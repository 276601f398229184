"""Tent: which numbers move and how far, batches of one row, the way back, and the guard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny_models as tm
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.tasks import TASKS, Decoder
from acclimate.tasks.heads import ConstantHead, LinearHead
from acclimate.testtime import Tent
from acclimate.testtime.guard import Guard
from acclimate.testtime.tent import AS_IT_WAS, LEARNING, STOPPED


class Points(tm.TinyCnn):
    """Vectors of six numbers through one layer and one norm."""

    def __init__(self, norm: str = "batch1d") -> None:
        super().__init__()
        self.kind = norm
        self.stages = nn.ModuleList([nn.Linear(6, 6)])
        self.norm: nn.Module = {
            "batch1d": nn.BatchNorm1d, "layer": nn.LayerNorm, "group": lambda n: nn.GroupNorm(2, n),
            "rms": nn.RMSNorm, "none": nn.Identity, "bare": lambda n: nn.LayerNorm(n, elementwise_affine=False),
        }[norm](6)  # fmt: skip

    def collate(self, rows: Any) -> dict[str, Tensor]:
        return {"x": torch.stack([row.parts[0] for row in rows])}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.norm(self.stages[0](batch["x"]))

    def clone(self) -> Points:
        other = Points(self.kind)
        other.load_state_dict(self.state_dict())
        return other


NORMS = ["batch1d", "layer", "group", "rms"]


def model_of(norm: str, seed: int = 0) -> Predictor:
    torch.manual_seed(seed)
    head = LinearHead(6, 2)
    with torch.no_grad():
        head.weight.normal_()
    backbone = Points(norm) if norm != "batch2d" else tm.TinyCnn()
    backbone.requires_grad_(False).eval()
    return Predictor(TASKS["classify"], Decoder("classify", ("a", "b")), head, backbone)


def rows(n: int, seed: int = 0) -> list[list[float]]:
    found: list[list[float]] = np.random.default_rng(seed).normal(size=(n, 6)).round(3).tolist()
    return found


def entropy(logits: np.ndarray) -> float:
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float(-(p * np.log(p)).sum(1).mean())


@pytest.mark.parametrize("norm", NORMS)
def test_one_batch_is_answered_before_it_is_learned_from_and_adam_takes_one_step(norm: str) -> None:
    """The first step of Adam is lr · g/(|g| + ε) in each number: restated with the gradient of plain autograd."""
    model, inputs = model_of(norm), rows(20)
    stream = Tent(learning_rate=0.01).attach(model)
    first = stream(inputs)
    other = model.backbone.clone().eval()
    if norm == "batch1d":
        other.norm.train()
    moving = list(other.norm.parameters())
    logits = other({"x": torch.tensor(inputs)}) @ model.head.weight.T + model.head.bias
    p = torch.softmax(logits, 1)
    torch.stack([-(row * row.log()).sum() for row in p]).mean().backward()
    assert np.allclose(first, logits.detach().numpy(), atol=1e-6)
    for parameter, was in zip(stream.network.norm.parameters(), moving, strict=True):
        expected = was - 0.01 * was.grad / (was.grad.abs() + 1e-8)
        assert torch.allclose(parameter, expected, atol=1e-5)
    before = tm.state(model.backbone)
    changed = {k for k, v in tm.state(stream.network).items() if not torch.equal(v, before[k])}
    assert changed - {"norm.num_batches_tracked"} == {f"norm.{n}" for n, _ in other.norm.named_parameters()}


@pytest.mark.parametrize("norm", [*NORMS, "batch2d"])
def test_learning_lowers_the_entropy_and_reset_brings_back_every_bit(norm: str) -> None:
    model = model_of(norm)
    inputs = rows(40) if norm != "batch2d" else list(tm.pictures(40).inputs)
    before = tm.state(model.backbone)
    stream = Tent(learning_rate=0.01, steps=5, guard=0).attach(model)
    assert tm.same_state(stream.network, before)
    first = stream(inputs)
    for _ in range(3):
        last = stream(inputs)
    assert entropy(last) < entropy(first) - 0.01
    assert not tm.same_state(stream.network, before)
    stream.reset()
    assert tm.same_state(stream.network, before)
    assert np.array_equal(stream(inputs), first)
    assert tm.same_state(model.backbone, before)


def test_a11_single_rows_and_three_passes_are_finite(bert: Any) -> None:
    for norm in (*NORMS, "bert"):
        model = model_of("layer") if norm == "bert" else model_of(norm)
        inputs: list[Any] = rows(9)
        if norm == "bert":
            head = LinearHead(bert.width, 2)
            with torch.no_grad():
                head.weight.normal_(std=0.1)
            model = Predictor(TASKS["classify"], Decoder("classify", ("a", "b")), head, bert)
            inputs = list(tm.rows(9).inputs)
        found = Tent(batch_size=1, passes=3, learning_rate=0.01).adapt(model, inputs)
        assert np.isfinite(found.logits).all()
        alone = norm == "batch1d"
        assert np.allclose(found.logits, found.plain, atol=1e-6) is alone
        assert bool(found.notes) is alone
        if alone:
            assert "one row has no statistics for BatchNorm: it was read with those of training" in found.notes[0]


def test_a_last_batch_of_one_row_is_read_with_the_statistics_of_training() -> None:
    model, inputs = model_of("batch1d"), rows(9)
    found = Tent(batch_size=8, learning_rate=0.0).adapt(model, inputs)
    assert np.allclose(found.logits[8], found.plain[8], atol=1e-6)
    assert not np.allclose(found.logits[:8], found.plain[:8], atol=1e-2)


def test_episodic_batches_do_not_learn_from_each_other() -> None:
    model, inputs = model_of("layer"), rows(30)
    settings = Tent(episodic=True, batch_size=10, learning_rate=0.01, steps=3)
    found = settings.adapt(model, inputs)
    alone = np.concatenate([settings.adapt(model, inputs[at : at + 10]).logits for at in (0, 10, 20)])
    assert np.array_equal(found.logits, alone)
    assert entropy(found.logits) < entropy(found.plain)


def test_learning_rate_zero_is_the_model() -> None:
    model, inputs = model_of("layer"), rows(70)
    found = Tent(learning_rate=0.0).adapt(model, inputs)
    assert np.allclose(found.logits, found.plain, atol=1e-6)
    assert found.changed(model) == 0


def test_after_a_collapse_the_rows_of_a_file_keep_the_plain_answers() -> None:
    model, inputs = model_of("layer"), rows(640)
    wild = Tent(learning_rate=0.2, batch_size=32, guard=0).adapt(model, inputs)
    shares = np.bincount(wild.logits[-256:].argmax(1), minlength=2) / 256
    assert shares.min() < 0.05, "the test needs a collapse"
    guarded = Tent(learning_rate=0.2, batch_size=32).adapt(model, inputs)
    assert any("answers ran into few classes" in note for note in guarded.notes)
    assert guarded.notes[-1] == "all rows have the answers of the model as it was"
    assert np.array_equal(guarded.logits, guarded.plain)


def test_after_a_collapse_a_stream_stops_and_then_gives_the_models_own_answers() -> None:
    model, inputs = model_of("layer"), rows(32)
    inputs += [[-x for x in row] for row in inputs]
    with torch.no_grad():
        model.backbone.stages[0].bias.zero_()  # what one row is called the other one of the pair is not
    stream = Tent().attach(model)
    stream(inputs)
    assert stream.stage == LEARNING
    with torch.no_grad():
        stream.network.norm.bias.copy_(20 * (model.head.weight[0] - model.head.weight[1]))
    stream(inputs)  # half of the rows looked back on are healthy still
    found = stream(inputs)
    assert stream.stage == STOPPED
    assert tm.same_state(stream.network, tm.state(model.backbone))  # the state before the rows looked back on
    assert np.allclose(found, model.logits(inputs), atol=1e-5)
    with torch.no_grad():
        stream.network.norm.bias.copy_(20 * (model.head.weight[0] - model.head.weight[1]))
    stream(inputs)
    assert np.array_equal(stream(inputs), model.logits(inputs))
    assert stream.stage == AS_IT_WAS
    assert [note.split(" went back ")[1] for note in stream.notes] == [
        "to the scales and shifts of 192 rows before",
        "to the model as it was",
    ]
    stream.reset()
    assert stream.stage == LEARNING


def test_numbers_that_are_not_finite_go_back_too() -> None:
    model, inputs = model_of("layer"), rows(8)
    stream = Tent().attach(model)
    with torch.no_grad():
        stream(inputs)
        stream.network.norm.weight.fill_(float("nan"))
    assert np.isfinite(stream(inputs)).all()
    assert "no longer finite" in stream.notes[0]


def test_the_guard_looks_at_the_last_256_rows_and_not_at_fewer_than_64() -> None:
    even, odd = np.full((63, 2), 0.5), np.tile([0.99, 0.01], (63, 1))
    guard = Guard(0.8)
    assert not guard.collapsed(odd, even)
    assert guard.collapsed(odd[:1], even[:1])
    guard = Guard(0.8)
    for _ in range(20):
        guard.collapsed(even, even)
    assert (guard.rows, guard.batches) == (315, 5)  # 256 of them would be lost without the first batch
    assert not Guard(0.8).collapsed(np.repeat(odd, 2, 0), np.repeat(odd, 2, 0))  # the source says the same


@pytest.mark.parametrize(("norm", "found"), [("none", "no normalisation layer"), ("bare", "1 LayerNorm")])
def test_networks_without_scales_and_shifts_are_refused(norm: str, found: str) -> None:
    with pytest.raises(UserError, match=rf"there are none in tiny-cnn \({found}\); use t3a or lame"):
        Tent().adapt(model_of(norm), rows(4))


def test_a_model_that_always_says_the_same_is_refused() -> None:
    model = Predictor(TASKS["classify"], Decoder("classify", ("a", "b")), ConstantHead(2), Points("layer"))
    with pytest.raises(UserError, match="gives every row the same"):
        Tent().adapt(model, rows(4))


def test_too_little_memory_says_which_setting_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("layer")
    stream = Tent().attach(model, Run())

    def full(self: Any, batch: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    plain = model.logits(rows(8))
    monkeypatch.setattr(Points, "forward", full)
    with pytest.raises(UserError, match="tent:batch_size=4"):
        stream(rows(8), plain)
