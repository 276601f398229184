"""Every head against its docstring's formula, written out as slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from acclimate.tasks.heads import (
    HEADS,
    BottleneckHead,
    CentroidHead,
    ConstantHead,
    KnnHead,
    LinearHead,
    OrdinalHead,
    neighbours,
)


def filled(head: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return head.requires_grad_(False)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("words", [0, 4])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_linear(words: int, as_sparse: bool) -> None:
    head = LinearHead(3, 2, words)
    filled(head)
    features = torch.randn(5, 3)
    x = torch.randn(5, 4) * (torch.rand(5, 4) > 0.5)
    got = head(features, (x.to_sparse() if as_sparse else x) if words else None)
    for i in range(5):
        for k in range(2):
            expected = float(head.bias[k]) + sum(float(features[i, j] * head.weight[k, j]) for j in range(3))
            if words:
                expected += sum(float(x[i, j] * head.word_weight[k, j]) for j in range(4))
            assert float(got[i, k]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_ordinal_is_proportional_odds(classes: int) -> None:
    head = OrdinalHead(4, classes)
    filled(head)
    features = torch.randn(7, 4)
    log_p = head(features)
    theta = head.thresholds().tolist()
    assert len(theta) == classes - 1
    assert theta == sorted(theta) and len(set(theta)) == len(theta)
    for i in range(7):
        s = sum(float(features[i, j] * head.weight[0, j]) for j in range(4))
        below = [0.0, *(sigmoid(t - s) for t in theta), 1.0]
        for k in range(classes):
            assert math.exp(float(log_p[i, k])) == pytest.approx(below[k + 1] - below[k], abs=1e-6)
    assert torch.allclose(log_p.exp().sum(1), torch.ones(7), atol=1e-6)


def test_ordinal_thresholds_stay_in_order_whatever_the_gaps() -> None:
    head = OrdinalHead(1, 5).requires_grad_(False)
    head.gaps.data.copy_(torch.tensor([-50.0, 3.0, -50.0]))
    theta = head.thresholds()
    assert bool((theta[1:] > theta[:-1]).all())
    log_p = head(torch.tensor([[0.0], [1.0]]))
    assert bool(torch.isfinite(log_p).all())
    assert torch.allclose(log_p.exp().sum(1), torch.ones(2), atol=1e-6)


def test_ordinal_far_out_has_finite_loss_and_gradient() -> None:
    head = OrdinalHead(1, 4)
    head.weight.data.fill_(1.0)
    log_p = head(torch.tensor([[200.0], [-200.0]]))
    (-log_p[0, 0] - log_p[1, 3]).backward()
    assert bool(torch.isfinite(log_p).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters() if p.grad is not None)


def test_ordinal_words_move_the_score() -> None:
    head = OrdinalHead(2, 3, 2)
    filled(head)
    features, words = torch.randn(3, 2), torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    twin = OrdinalHead(1, 3).requires_grad_(False)
    twin.first.data.copy_(head.first)
    twin.gaps.data.copy_(head.gaps)
    twin.weight.data.fill_(1.0)
    score = features @ head.weight.T + words @ head.word_weight.T
    assert torch.allclose(head(features, words.to_sparse()), twin(score), atol=1e-6)


def knn_loop(head: KnnHead, query: list[float], k: int, skip: int | None = None) -> list[float]:
    """One query's vote by plain arithmetic."""
    mode = head.shape["mode"]
    near = []
    for i in range(len(head.bank)):
        if i != skip:
            near.append((sum(q * float(b) for q, b in zip(query, head.bank[i], strict=True)), i))
    near = sorted(near, reverse=True)[:k]
    vote = [(math.exp((s - 1) / 0.1) * float(head.weight[i]), i) for s, i in near]
    total = sum(v for v, _ in vote)
    out = []
    for c in range(head.answers.shape[1]):
        mass = sum(v * float(head.answers[i, c]) for v, i in vote)
        if mode == "mean":
            out.append(mass / total)
        elif mode == "log":
            out.append(math.log((mass + 0.1 * total / head.answers.shape[1]) / (1.1 * total)))
        else:
            p = (mass + 0.05 * total) / (1.1 * total)
            out.append(math.log(p / (1 - p)))
    return out


@pytest.mark.parametrize("mode", ["log", "odds", "mean"])
def test_knn_vote(mode: str) -> None:
    head = KnnHead(3, 2, 9, 4, mode)
    head.center.copy_(torch.tensor([0.1, -0.2, 0.3]))
    head.bank.copy_(head.unit(torch.randn(9, 3)))
    head.weight.copy_(torch.rand(9) + 0.5)
    head.answers.copy_(torch.randn(9, 2) if mode == "mean" else torch.eye(2)[torch.arange(9) % 2])
    features = torch.randn(5, 3)
    got = head(features)
    for i in range(5):
        centred = [float(features[i, j] - head.center[j]) for j in range(3)]
        length = math.sqrt(sum(v * v for v in centred))
        expected = knn_loop(head, [v / length for v in centred], 4)
        assert got[i].tolist() == pytest.approx(expected, abs=1e-4)


def test_knn_leave_one_out_never_asks_the_row_itself() -> None:
    head = KnnHead(3, 2, 8, 3, "log")
    head.bank.copy_(head.unit(torch.randn(8, 3)))
    head.answers.copy_(torch.eye(2)[torch.arange(8) % 2])
    got = neighbours(head, head.bank, exclude_self=True, chunk=3)
    for i in range(8):
        assert got[i].tolist() == pytest.approx(knn_loop(head, head.bank[i].tolist(), 3, skip=i), abs=1e-4)


def test_knn_asks_no_more_rows_than_there_are() -> None:
    head = KnnHead(2, 2, 3, 40, "log")
    head.bank.copy_(head.unit(torch.randn(3, 2)))
    head.answers.copy_(torch.eye(2)[torch.tensor([0, 1, 1])])
    assert torch.allclose(head(torch.randn(4, 2)).exp().sum(1), torch.ones(4), atol=1e-6)


def test_centroid() -> None:
    head = CentroidHead(3, 2)
    head.center.copy_(torch.randn(3))
    head.centroids.copy_(torch.nn.functional.normalize(torch.randn(2, 3), dim=1))
    head.scale.copy_(torch.tensor(8.0))
    head.bias.copy_(torch.tensor([0.5, -0.5]))
    features = torch.randn(4, 3)
    got = head(features)
    for i in range(4):
        f = [float(features[i, j] - head.center[j]) for j in range(3)]
        length = math.sqrt(sum(v * v for v in f))
        for k in range(2):
            cosine = sum(v * float(head.centroids[k, j]) for j, v in enumerate(f)) / length
            assert float(got[i, k]) == pytest.approx(8 * cosine + float(head.bias[k]), abs=1e-5)


def test_constant_gives_every_row_the_same_also_no_row() -> None:
    head = ConstantHead(3)
    head.logits.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert head(torch.zeros(2, 0)).tolist() == [[1.0, 2.0, 3.0]] * 2
    assert head(torch.zeros(0, 0)).shape == (0, 3)


@pytest.mark.parametrize("kind", sorted(set(HEADS) - {"in_context"}))  # strategies/test_in_context.py: a package more
def test_a_head_is_rebuilt_from_its_kind_and_shape(kind: str) -> None:
    shapes: dict[str, dict[str, object]] = {
        "linear": {"width": 3, "outputs": 2, "words": 4}, "ordinal": {"width": 3, "outputs": 4, "words": 0},
        "knn": {"width": 3, "outputs": 2, "rows": 5, "k": 2, "mode": "odds"}, "centroid": {"width": 3, "outputs": 2},
        "constant": {"outputs": 2},
        "bottleneck": {"width": 3, "outputs": 4, "hidden": 5, "last": "ordinal", "dropout": 0.1},
        "trees": {
            "width": 3, "outputs": 2, "nodes": 5, "trees": 2, "scores": 1, "present": 2, "depth": 2, "mode": "classes",
            "moved": True, "keeps_missing": False, "reads": 2,
        },
        "several": {"heads": [{"kind": "linear", "shape": {"width": 3, "outputs": 2}},
                              {"kind": "constant", "shape": {"outputs": 1}}]},
    }  # fmt: skip
    head = HEADS[kind](**shapes[kind])  # type: ignore[arg-type]
    assert head.kind == kind
    again = HEADS[kind](**head.shape)  # type: ignore[arg-type]
    again.load_state_dict(head.state_dict())
    assert again.shape == head.shape == shapes[kind]


@pytest.mark.parametrize("kind", ["linear", "ordinal"])
def test_a_fresh_head_says_the_same_of_every_row(kind: str) -> None:
    head = HEADS[kind](width=3, outputs=3)  # type: ignore[call-arg]
    out = head(torch.randn(4, 3)).detach().numpy()
    assert np.ptp(out, axis=0).max() == 0


@pytest.mark.parametrize("last", ["linear", "ordinal"])
def test_bottleneck(last: str) -> None:
    head = BottleneckHead(3, 2, hidden=4, last=last)
    filled(head)
    features = torch.randn(5, 3)
    for i in range(5):
        z = [
            float(head.inner.bias[j]) + sum(float(features[i, c] * head.inner.weight[j, c]) for c in range(3))
            for j in range(4)
        ]
        mean = sum(z) / 4
        spread = math.sqrt(sum((v - mean) ** 2 for v in z) / 4 + 1e-5)
        h = [max(0.0, float(head.norm.weight[j]) * (z[j] - mean) / spread + float(head.norm.bias[j])) for j in range(4)]
        assert head.hidden(features[i : i + 1])[0].tolist() == pytest.approx(h, abs=1e-5)
        assert torch.equal(head(features[i : i + 1]), head.last(head.hidden(features[i : i + 1])))
    assert head.last.kind == last


def test_a_folded_bottleneck_takes_raw_features() -> None:
    head = BottleneckHead(3, 2, hidden=4, dropout=0.5).eval()
    filled(head)
    features, mean, spread = torch.randn(5, 3) * 9 + 4, torch.tensor([4.0, -2.0, 0.1]), torch.tensor([9.0, 0.01, 1.0])
    expected = head((features - mean) / spread)
    head.fold(mean, spread)
    torch.testing.assert_close(head(features), expected, atol=1e-4, rtol=1e-4)
    again = HEADS["bottleneck"](**head.shape).eval()  # type: ignore[arg-type]
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(features), head(features))
