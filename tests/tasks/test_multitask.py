"""The balanced loss against slow loops; targets, decisions and decoders column by column; heads side by side."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from acclimate.data.label_columns import Cells
from acclimate.errors import UserError
from acclimate.tasks import Decoder, Multitask
from acclimate.tasks.heads import HEADS, Heads

ROWS = tuple(
    Cells(row)
    for row in (("a", 1, 2.0), ("b", None, 4.0), ("a", 3, None), (None, 2, 9.0), ("a", 1, None), ("b", 2, 1.0))
)
NAMES, TASKS = ("topic", "stars", "score"), ("classify", "ordinal", "regress")


def made(weights: list[float] | None = None, **wanted: float) -> tuple[Multitask, Decoder]:
    return Multitask.of(NAMES, TASKS, ROWS, None if weights is None else np.array(weights), wanted)


def slow(logits: torch.Tensor, task: Multitask, decoder: Decoder, v: list[float]) -> list[float]:
    """Σ_c v_c/(r_c L⁰_c) ℓ_c of every row, as the docstring says it."""
    shares = {"topic": [3 / 5, 2 / 5], "stars": [2 / 5, 2 / 5, 1 / 5]}
    known = {"topic": 5, "stars": 5, "score": 4}
    values = [row[2] for row in ROWS if row[2] is not None]
    mean, spread = np.mean(values), np.std(values)
    out = []
    for i, row in enumerate(ROWS):
        total = 0.0
        for j, name in enumerate(NAMES):
            if row[j] is None:
                continue
            z = logits[i, task.parts[j].logits].double()
            if name == "topic":
                loss = -float(torch.log_softmax(z, 0)["ab".index(row[j])])
            elif name == "stars":
                loss = -float(z[int(row[j]) - 1])  # an ordinal head gives log-probabilities
            else:
                loss = (float(z[0]) - (row[j] - mean) / spread) ** 2
            base = 1.0 if name == "score" else -sum(p * math.log(p) for p in shares[name])
            total += v[j] / (known[name] / 6 * base) * loss
        out.append(total)
    return out


def test_the_loss_is_what_the_docstring_says() -> None:
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    task, decoder = made()
    targets = torch.as_tensor(task.targets(ROWS, decoder), dtype=torch.float32)
    expected = slow(logits, task, decoder, [1 / 3] * 3)
    assert task.losses(logits, targets).tolist() == pytest.approx(expected, rel=1e-5)
    heavy, decoder = made(stars=2.0)
    expected = slow(logits, task, decoder, [0.25, 0.5, 0.25])
    assert heavy.losses(logits, targets).tolist() == pytest.approx(expected, rel=1e-5)


def test_who_looks_at_nothing_has_a_loss_of_one() -> None:
    task, decoder = made()
    best = torch.tensor([math.log(0.6), math.log(0.4), math.log(0.4), math.log(0.4), math.log(0.2), 0.0])
    targets = torch.as_tensor(task.targets(ROWS, decoder), dtype=torch.float64)
    assert float(task.losses(best.double().expand(6, -1), targets).mean()) == pytest.approx(1.0)


def test_an_unknown_cell_has_no_gradient() -> None:
    task, decoder = made()
    logits = torch.zeros(6, 6, requires_grad=True)
    task.losses(logits, torch.as_tensor(task.targets(ROWS, decoder))).sum().backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert logits.grad[1, task.parts[1].logits].tolist() == [0.0, 0.0, 0.0]
    assert logits.grad[3, task.parts[0].logits].tolist() == [0.0, 0.0]
    assert float(logits.grad[2, 5]) == 0.0 and float(logits.grad[0, 5]) != 0.0


def test_a_class_never_seen_is_not_learned_from_and_counts_as_wrong() -> None:
    task, decoder = made()
    new = [Cells(("c", 1, None)), Cells(("a", None, 2.0))]
    assert np.isnan(task.targets(new, decoder)[0, 0])
    truth = task.truth(new, decoder)
    assert truth[0, 0] == -1 and np.isnan(truth[0, 2]) and truth[1, 2] == 2.0
    outputs = task.outputs(np.zeros((2, 6)), decoder)
    found = task.columns(truth, outputs, task.decide(outputs, decoder))
    assert [column.rows.tolist() for column in found] == [[0, 1], [0], [1]]
    assert found[0].answers.truth.tolist() == [-1, 0]


def test_answers_come_in_the_types_of_their_columns() -> None:
    task, decoder = made()
    logits = np.array([[0.0, 5.0, -9.0, -9.0, -0.1, 1.0]])
    outputs = task.outputs(logits, decoder)
    assert outputs[0, :2].sum() == pytest.approx(1.0) and outputs[0, 2:5].sum() == pytest.approx(1.0)
    answer = task.answers(task.decide(outputs, decoder), decoder)[0]
    assert answer == {"topic": "b", "stars": 3, "score": pytest.approx(4.0 + np.std([2, 4, 9, 1]))}
    assert task.confidence(outputs, task.decide(outputs, decoder))[0] == pytest.approx(outputs[0, 1] * outputs[0, 4])
    assert [part.metric for part in task.parts] == ["accuracy", "quadratic_kappa", "rmse"]


def test_a_decoder_and_heads_come_back_from_json() -> None:
    task, decoder = made()
    again = Decoder.from_json(json.loads(json.dumps(decoder.to_json())))
    assert again == decoder
    assert [(p.name, p.task, p.logits, p.metric) for p in Multitask.read(again).parts] == [
        (p.name, p.task, p.logits, p.metric) for p in task.parts
    ]
    head = task.head(4, decoder)
    assert isinstance(head, Heads) and [p.kind for p in head.parts] == ["linear", "ordinal", "linear"]
    twin = HEADS["several"](**json.loads(json.dumps(head.shape)))
    with torch.no_grad():
        for p in head.parameters():
            p.uniform_(-1, 1)
    twin.load_state_dict(head.state_dict())
    x = torch.randn(3, 4)
    assert torch.equal(twin(x), head(x)) and twin(x).shape == (3, 6)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"star": 1.0}, "unknown label column in label_weight 'star'; did you mean 'stars'"),
        ({"stars": 0.0}, "label_weight stars=0.0 must be a number above 0"),
    ],
)
def test_weights_that_cannot_be(wanted: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        made(**wanted)


def test_a_column_with_one_answer_is_named() -> None:
    with pytest.raises(UserError, match=r"single class .* \(label column 'x'\)"):
        Multitask.of(("x", "y"), ("classify", "regress"), [Cells(("a", 1.0)), Cells(("a", 2.0))])
    with pytest.raises(UserError, match=r"single class .* \(label column 'x'\); .* is empty; .* \(label column 'y'\)"):
        Multitask.of(("x", "y"), ("classify", "classify"), [Cells(("a", None)), Cells(("a", None))])
    with pytest.raises(UserError, match="label column 'x': all its rows that count have one answer"):
        rows = [Cells(("a", 1.0)), Cells(("b", 2.0))]
        Multitask.of(("x", "y"), ("classify", "regress"), rows, np.array([1.0, 0.0]))
