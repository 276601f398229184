"""Each adapter against its formula as slow loops, and what it must not depend on or change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate.errors import UserError
from acclimate.features import extract
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.tasks import TASKS, Decoder
from acclimate.tasks.heads import LinearHead
from acclimate.testtime import ADAPTERS, T3A, AdaBN, Lame, Tent, named
from acclimate.testtime.adabn import Moments
from acclimate.testtime.lame import _energy, affinity, agreed
from acclimate.testtime.t3a import templates


def linear(width: int, classes: int, seed: int = 0, bias: float = 0.5) -> LinearHead:
    generator = torch.Generator().manual_seed(seed)
    head = LinearHead(width, classes)
    with torch.no_grad():
        head.weight.copy_(torch.randn(classes, width, generator=generator))
        head.bias.copy_(bias * torch.randn(classes, generator=generator))
    return head


def predictor(backbone: object, classes: int = 2, temperature: float = 1.0, **more: object) -> Predictor:
    decoder = Decoder("classify", tuple("abcdef"[:classes]), temperature=temperature)
    return Predictor(TASKS["classify"], decoder, linear(backbone.width, classes), backbone, **more)  # type: ignore


# -- T3A ---------------------------------------------------------------------------------------------------------------


def slow_templates(rows, logits, weight, keep, batch_size):
    def unit(v):
        return v / math.sqrt(sum(x * x for x in v))

    def doubt(z):
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        return -sum(x * math.log(x) for x in p if x > 0)

    sets = [[(doubt(weight @ w), unit(w))] for w in weight]
    scale = sum(math.sqrt(sum(x * x for x in w)) for w in weight) / len(weight)
    out = []
    for start in range(0, len(rows), batch_size):
        batch = range(start, min(start + batch_size, len(rows)))
        for i in batch:
            sets[int(np.argmax(logits[i]))].append((doubt(logits[i]), unit(rows[i])))
        if keep is not None:
            sets = [sorted(s, key=lambda pair: pair[0])[:keep] for s in sets]
        centres = [unit(sum(v for _, v in s)) for s in sets]
        out += [[scale * sum(a * b for a, b in zip(rows[i], c, strict=True)) for c in centres] for i in batch]
    return np.array(out)


@pytest.mark.parametrize(("keep", "batch_size"), [(1, 4), (3, 7), (None, 5), (100, 64)])
def test_t3a_is_its_formula(keep: int | None, batch_size: int) -> None:
    rng = np.random.default_rng(0)
    rows, weight = rng.normal(size=(40, 6)), rng.normal(size=(3, 6))
    logits = rows @ weight.T
    expected = slow_templates(rows, logits, weight, keep, batch_size)
    assert np.allclose(templates(rows, logits, weight, keep, batch_size), expected, atol=1e-12)


def test_t3a_starts_as_the_head_where_class_vectors_are_of_one_length() -> None:
    """keep=1 and vectors surer than any row: nothing enters the sets, and the logits are the head's, bias included."""
    backbone = tm.TinyCnn().eval()
    model = predictor(backbone)
    with torch.no_grad():
        w = model.head.weight[0].clone()
        model.head.weight.copy_(torch.stack([w, -w]) * 50 / w.norm())
        model.head.bias.copy_(-(model.head.weight @ torch.full((6,), 0.3)))
    found = T3A(keep=1).adapt(model, list(tm.pictures(30).inputs))
    apart = [z - z.mean(1, keepdims=True) for z in (found.logits, found.plain)]
    assert np.allclose(apart[0], apart[1], atol=1e-4)
    assert found.changed(model) == 0
    assert abs(found.plain).max() > 1


def test_t3a_refuses_heads_without_class_vectors() -> None:
    from acclimate.tasks.heads import CentroidHead

    model = Predictor(
        TASKS["classify"], Decoder("classify", ("a", "b")), CentroidHead(6, 2), tm.TinyCnn(), strategy="centroid"
    )
    with pytest.raises(UserError, match=r"linear head's class vectors.*\(centroid, centroid\) is not linear; use lame"):
        T3A().adapt(model, list(tm.pictures(4).inputs))


# -- LAME --------------------------------------------------------------------------------------------------------------


def slow_affinity(features, k):
    n = len(features)
    unit = [f / np.linalg.norm(f) for f in features]
    a = np.zeros((n, n))
    for i in range(n):
        others = sorted((j for j in range(n) if j != i), key=lambda j: (-float(unit[i] @ unit[j]), j))
        for j in others[:k]:
            a[i, j] = 1
    return (a + a.T) / 2


def test_lame_links_nearest_neighbours_and_holds_few_numbers() -> None:
    rows = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)
    found = affinity(rows, 4)
    assert np.array_equal(found.toarray(), slow_affinity(rows.astype(np.float64), 4))
    assert found.nnz <= 2 * 60 * 4


def test_lame_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)
    whole = affinity(rows, 4).toarray()
    monkeypatch.setattr("acclimate.testtime.lame.CELLS", 60 * 7)
    assert np.array_equal(affinity(rows, 4).toarray(), whole)


def test_lame_takes_the_earlier_of_equal_neighbours() -> None:
    rows = np.ones((5, 2), np.float32)
    expected = np.zeros((5, 5))
    for i, j in ((0, 1), (1, 0), (2, 0), (3, 0), (4, 0)):
        expected[i, j] = 1
    assert np.array_equal(affinity(rows, 1).toarray(), (expected + expected.T) / 2)


def slow_energy(z, q, w, strength):
    total = 0.0
    for i in range(len(z)):
        total += sum(z[i, k] * math.log(z[i, k] / q[i, k]) for k in range(z.shape[1]) if z[i, k] > 0)
        for j in range(len(z)):
            total -= strength / 2 * w[i, j] * float(z[i] @ z[j])
    return total


@pytest.mark.parametrize("strength", [1.0, 8.0])
def test_lame_never_raises_its_objective_and_ends_where_it_is_still(strength: float) -> None:
    rng = np.random.default_rng(2)
    log_q = np.log(rng.dirichlet([0.6] * 3, 50))
    w = affinity(rng.normal(size=(50, 4)).astype(np.float32), 5)
    log_z, energies = agreed(log_q, w, strength, 2000)
    z, q = np.exp(log_z), np.exp(log_q)
    assert np.allclose(z.sum(1), 1)
    assert energies[0] == pytest.approx(slow_energy(q, q, w.toarray(), strength))
    assert energies[-1] == pytest.approx(slow_energy(z, q, w.toarray(), strength))
    assert all(b <= a for a, b in zip(energies, energies[1:], strict=False))
    pull = q * np.exp(strength * (w @ z))
    assert np.allclose(z, pull / pull.sum(1, keepdims=True), atol=1e-3)  # a fixed point of the step in the docstring


def test_lame_needs_its_damping_where_neighbours_oscillate() -> None:
    """Two rows that are each other's only neighbour and lean to different classes: the plain step swaps them (W has the
    eigenvalue −1) and would raise the objective."""
    log_q = np.log(np.array([[0.7, 0.3], [0.4, 0.6]]))
    w = affinity(np.array([[1.0, 0.0], [1.0, 0.1]], np.float32), 1)
    log_z, energies = agreed(log_q, w, 20.0, 1000)
    assert energies[-1] < energies[0] - 5
    assert all(b <= a for a, b in zip(energies, energies[1:], strict=False))
    swap = log_q + 20.0 * (w @ np.exp(log_q))
    swap -= np.log(np.exp(swap).sum(1, keepdims=True))
    assert _energy(swap, log_q, 20.0 * (w @ np.exp(swap))) > energies[0]


def test_lame_first_step_is_the_papers() -> None:
    log_q = np.log(np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]]))
    w = affinity(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2]], np.float32), 2)
    log_z, _ = agreed(log_q, w, 1.0, 1)
    q = np.exp(log_q)
    for i in range(3):
        raw = [q[i, k] * math.exp(sum(q[j, k] for j in range(3) if j != i)) for k in range(2)]
        assert np.exp(log_z[i]) == pytest.approx(np.array(raw) / sum(raw))


def test_lame_takes_probabilities_after_the_temperature() -> None:
    backbone = tm.TinyCnn().eval()
    model = predictor(backbone, temperature=3.0)
    inputs = list(tm.pictures(20).inputs)
    found = Lame().adapt(model, inputs)
    log_q = np.log(model.task.outputs(found.plain, model.decoder))
    features = extract(backbone, inputs, Run())
    z = np.exp(agreed(log_q, affinity(features, 5), 1.0, 100)[0])
    assert np.allclose(model.task.outputs(found.logits, model.decoder), z, atol=1e-4)


def test_lame_of_one_row_is_the_model() -> None:
    model = predictor(tm.TinyCnn().eval())
    found = Lame().adapt(model, list(tm.pictures(1).inputs))
    outputs = [model.task.outputs(z, model.decoder) for z in (found.logits, found.plain)]
    assert np.allclose(outputs[0], outputs[1])


# -- AdaBN -------------------------------------------------------------------------------------------------------------


def test_moments_are_those_of_all_values() -> None:
    values = torch.randn(37, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 5 + 1000
    moments = Moments()
    for at in (0, 1, 9, 30):
        moments.add(values[at : {0: 1, 1: 9, 9: 30, 30: 37}[at]])
    whole = values.double().transpose(0, 1).flatten(1)
    assert moments.count == 37 * 20
    assert torch.allclose(moments.mean, whole.mean(1), rtol=1e-13)
    assert torch.allclose(moments.squares / moments.count, whole.var(1, unbiased=False), rtol=1e-11)


def trained_cnn(shift: float = 0.0) -> tm.TinyCnn:
    torch.manual_seed(3)
    backbone = tm.TinyCnn()
    backbone.train()
    for seed in range(5):
        backbone(backbone.collate(backbone.encode(tm.pictures(20, shift, seed=seed).inputs)))
    return backbone.eval()  # type: ignore[return-value]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_adabn_answers_as_one_batch_of_all_rows_would(batch_size: int) -> None:
    backbone = trained_cnn()
    model = predictor(backbone)
    inputs = list(tm.pictures(50, shift=4.0, seed=9).inputs)
    before = tm.state(backbone)
    found = AdaBN(batch_size=batch_size).adapt(model, inputs)
    assert tm.same_state(backbone, before)
    other = backbone.clone().eval()
    for stage in other.stages:
        stage[1].train()  # BatchNorm alone: no dropout
    with torch.no_grad():
        expected = model.head(other(other.collate(other.encode(inputs)))).double().numpy()
    assert np.allclose(found.logits, expected, atol=1e-5)
    assert not np.allclose(found.logits, found.plain, atol=0.05)


def test_adabn_says_what_a_network_without_batchnorm_has(bert) -> None:
    with pytest.raises(UserError, match=r"BatchNorm, and tiny-bert has 7 LayerNorm: .*use lame or t3a, or tent"):
        AdaBN().adapt(predictor(bert), ["good day"])


def test_adabn_needs_more_than_one_value_a_channel() -> None:
    class Flat(tm.TinyCnn):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(6)

        def forward(self, batch):
            return self.norm(super().forward(batch))

        def clone(self):
            other = Flat()
            other.load_state_dict(self.state_dict())
            return other

    with pytest.raises(UserError, match="two rows or more"):
        AdaBN().adapt(predictor(Flat().eval()), list(tm.pictures(1).inputs))


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_the_model_is_left_bit_equal_and_the_answers_fit(name: str) -> None:
    backbone = trained_cnn()
    model = predictor(backbone, classes=3)
    inputs = list(tm.pictures(30, shift=2.0).inputs)
    before, head, plain = tm.state(backbone), tm.state(model.head), model.logits(inputs)
    found = ADAPTERS[name].adapt(model, inputs)
    assert tm.same_state(backbone, before)
    assert tm.same_state(model.head, head)
    assert not any(p.grad is not None for p in [*backbone.parameters(), *model.head.parameters()])
    assert np.array_equal(model.logits(inputs), plain)
    assert found.logits.shape == (30, 3)
    assert np.isfinite(found.logits).all()
    assert np.allclose(found.plain, plain, atol=1e-5)
    again = ADAPTERS[name].adapt(model, inputs)
    assert np.array_equal(again.logits, found.logits)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_the_order_of_rows_matters_where_that_is_said_alone(name: str) -> None:
    model = predictor(trained_cnn())
    inputs = [*tm.pictures(90, shift=2.0).inputs, *tm.pictures(5, shift=2.0).inputs]  # some occur twice
    order = np.random.default_rng(0).permutation(95)
    adapter = Tent(guard=0) if name == "tent" else ADAPTERS[name]
    one, two = adapter.adapt(model, inputs), adapter.adapt(model, [inputs[i] for i in order])
    same = np.array_equal(one.logits[order], two.logits)
    assert same is not adapter.order_matters


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_each_says_when_to_use_it(name: str) -> None:
    text = type(ADAPTERS[name]).__doc__ or ""
    assert [part for part in ("Formula:", "Source:", "Use when:", "Prefer ") if part not in text] == []
    assert ("another order" in text) is ADAPTERS[name].order_matters


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_what_cannot_be_adapted_is_refused(name: str) -> None:
    model = predictor(trained_cnn())
    with pytest.raises(UserError, match=f"^{name} adapts to the rows it is given, and there is none"):
        ADAPTERS[name].adapt(model, [])
    other = Predictor(TASKS["regress"], Decoder("regress"), linear(6, 1), tm.TinyCnn())
    with pytest.raises(UserError, match=f"^{name} .* this model's task is regress"):
        ADAPTERS[name].adapt(other, list(tm.pictures(4).inputs))
    words = Predictor(TASKS["classify"], Decoder("classify", ("a", "b")), linear(0, 2), None, strategy="tfidf")
    with pytest.raises(UserError, match=r"needs the features of a pretrained network.*\(tfidf\)"):
        ADAPTERS[name].adapt(words, ["x"])


def test_settings_are_read_from_text() -> None:
    assert named("lame:neighbours=3,strength=0.5") == Lame(3, 0.5)
    assert named("t3a:keep=null") == T3A(keep=None)
    for text, message in (
        ("tnt", "unknown adapter 'tnt'; did you mean 'tent'"),
        ("lame:k=3", "unknown setting of lame 'k'"),
        ("lame:neighbours=0", "neighbours is 0"),
        ("tent:steps=many", "setting 'steps' of tent takes int, not 'many'"),
        ("tent:guard=1", "guard is 1"),
        ("tent:", "no setting follows the colon"),
    ):
        with pytest.raises(UserError, match=message.replace("(", r"\(")):
            named(text)
