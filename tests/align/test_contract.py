"""What every alignment promises, in one suite: a new one joins by being in ALIGNMENTS, and needs an oracle."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from acclimate.align import ALIGNMENTS, Alignment, View
from acclimate.align.adversarial import Adversarial, Cdan
from acclimate.align.base import reversal_strength
from acclimate.align.contrast import Cdd
from acclimate.align.moments import Cmd, Jan, Mmd
from acclimate.errors import UserError
from align_oracles import ORACLES

CASES: dict[str, Alignment] = {name: kind() for name, kind in ALIGNMENTS.items()} | {
    "mmd unbiased": Mmd(estimator="unbiased"),
    "mmd linear": Mmd(estimator="linear"),
    "mmd median": Mmd(bandwidth="median"),
    "mmd linear median": Mmd(estimator="linear", bandwidth="median"),
    "mmd one kernel": Mmd(kernels=1),
    "jan unbiased": Jan(estimator="unbiased", kernels=2),
    "jan linear": Jan(estimator="linear"),
    "cdan random map": Cdan(dense_up_to=0, random_width=12),
    "cdan equal weights": Cdan(entropy=False),
    "cmd given span": Cmd(moments=3, span=2.0),
}
every = pytest.mark.parametrize("name", CASES)

UNDEFINED_FOR_ONE_ROW = ["coral", "mmd unbiased", "mmd linear", "mmd linear median", "jan unbiased", "jan linear"]
DISTANCES = [  # exactly 0 for equal batches
    "coral", "mmd", "mmd median", "mmd one kernel", "jan", "sliced_wasserstein", "cmd", "cmd given span",
]  # fmt: skip
LABELLED = ["deepjdot", "cdd"]  # read the labels of source rows
COUNTS_ROWS = ["coral", "mmd unbiased", "mmd median", "jan unbiased", "bnm", "bsp"]  # rows given twice are more rows
SMOOTH: dict[str, Alignment] = (
    {
        name: CASES[name]
        for name in [
            "coral",
            "bnm",
            "entropy",
            "infomax",
            "hafn",
            "bsp",
            "deepjdot",
            "sliced_wasserstein",
            "cmd given span",
        ]
    }
    | {
        "cdd": Cdd(bandwidth=2.0),
    }
    | {
        f"{kind.__name__} {estimator}": kind(estimator=estimator, bandwidth=2.0)
        for kind in (Mmd, Jan)
        for estimator in ("biased", "unbiased", "linear")
    }
)


def view_of(n: int, d: int, classes: int, seed: int, dtype: torch.dtype = torch.float32, shift: float = 0.0) -> View:
    g = torch.Generator().manual_seed(seed)
    x = (torch.randn(n, d, generator=g, dtype=torch.float64) + shift).to(dtype).requires_grad_()
    z = (2 * torch.randn(n, classes, generator=g, dtype=torch.float64)).to(dtype).requires_grad_()
    return View(x, z, labels=torch.randint(classes, (n,), generator=g))


def views(
    n: int = 64, m: int = 40, d: int = 7, classes: int = 5, dtype: torch.dtype = torch.float32
) -> tuple[View, View]:
    return view_of(n, d, classes, 1, dtype), view_of(m, d, classes, 2, dtype, shift=0.7)


def attached(alignment: Alignment, source: View) -> Any:
    torch.manual_seed(5)
    loss = alignment.attach(source.features.shape[1], source.logits.shape[1])
    return loss.to(source.features.dtype) if isinstance(loss, nn.Module) else loss


def leaves(*given: View) -> list[Tensor]:
    return [tensor for view in given for tensor in (view.features, view.logits)]


def graded(loss: Any, source: View, target: View, progress: float = 0.5) -> tuple[Tensor, list[Tensor]]:
    """The value, and the gradients of source features, source logits, target features, target logits."""
    value = loss(source, target, progress)
    found = torch.autograd.grad(value, leaves(source, target), allow_unused=True)
    return value.detach(), [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves(source, target), found, strict=True)
    ]


def finite(value: Tensor, gradients: list[Tensor]) -> bool:
    return value.shape == () and bool(torch.isfinite(value)) and all(bool(torch.isfinite(g).all()) for g in gradients)


def rows_of(view: View, at: Any) -> View:
    part = [None if t is None else t.detach()[at] for t in (view.features, view.logits, view.labels, view.weights)]
    assert part[0] is not None and part[1] is not None
    return View(part[0].requires_grad_(), part[1].requires_grad_(), part[2], part[3])


def changed(
    view: View, features: Callable[[Tensor], Tensor] = torch.clone, logits: Callable[[Tensor], Tensor] = torch.clone
) -> View:
    x, z = (
        change(t.detach().clone()).requires_grad_() for change, t in ((features, view.features), (logits, view.logits))
    )
    return replace(view, features=x, logits=z)


def same(found: tuple[Tensor, list[Tensor]], expected: tuple[Tensor, list[Tensor]]) -> None:
    assert torch.equal(found[0], expected[0])
    assert all(torch.equal(a, b) for a, b in zip(found[1], expected[1], strict=True))


def near(found: tuple[Tensor, list[Tensor]], expected: tuple[Tensor, list[Tensor]], tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    for a, b in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---- what goes in


@every
def test_unequal_batches_give_a_finite_scalar_and_a_gradient(name: str) -> None:
    source, target = views()
    loss = attached(CASES[name], source)
    for pair in ((source, target), (target, source)):
        value, gradients = graded(loss, *pair)
        assert finite(value, gradients)
        assert value.dtype == torch.float32
        assert max(float(g.abs().max()) for g in gradients) > 0
        assert max(float(g.abs().max()) for g in gradients[2:]) > 0  # it moves the target


@every
@pytest.mark.parametrize("sizes", [(1, 1), (1, 40), (64, 1), (2, 3)])
def test_batches_of_one_row_are_defined(name: str, sizes: tuple[int, int]) -> None:
    source, target = views(*sizes)
    value, gradients = graded(attached(CASES[name], source), source, target)
    assert finite(value, gradients)
    if name in UNDEFINED_FOR_ONE_ROW and 1 in sizes:
        assert value == 0
        assert all(not g.any() for g in gradients)


@every
@pytest.mark.parametrize("constant", [0.0, 0.1, -3.3])
def test_constant_features_are_no_trouble(name: str, constant: float) -> None:
    source, target = (changed(v, lambda x: torch.full_like(x, constant), torch.zeros_like) for v in views())
    value, gradients = graded(attached(CASES[name], source), source, target)
    assert finite(value, gradients)
    if name in DISTANCES or name.startswith(("mmd", "jan")):
        assert value == 0
        assert all(not g.any() for g in gradients)


@every
def test_one_dead_domain_is_no_trouble(name: str) -> None:
    source, target = views()
    dead = changed(source, torch.zeros_like)
    loss = attached(CASES[name], source)
    assert finite(*graded(loss, dead, target))
    assert finite(*graded(loss, target, dead))


@every
@pytest.mark.parametrize("least", [-200.0, -1e4, -float("inf")])
def test_a_class_without_mass_is_no_trouble(name: str, least: float) -> None:
    def without(z: Tensor) -> Tensor:
        z[:, 1] = least
        return z

    source, target = (changed(v, logits=without) for v in views())
    source = replace(source, labels=torch.zeros(64, dtype=torch.long))
    assert finite(*graded(attached(CASES[name], source), source, target))


@every
def test_what_is_not_finite_shows(name: str) -> None:
    """The training loop stops at NaN and says so; a loss that hides it, or fails in a solver, would prevent that."""
    source, target = views()
    nan = float("nan")
    target = changed(target, lambda x: x * nan, lambda z: z * nan)
    assert torch.isnan(attached(CASES[name], source)(source, target, 0.5))


@every
def test_half_precision_is_computed_in_32_bits(name: str) -> None:
    source, target = views(dtype=torch.bfloat16)
    loss = attached(CASES[name], source)
    loss = loss.float() if isinstance(loss, nn.Module) else loss
    value, gradients = graded(loss, source, target)
    exact, _ = graded(loss, *(changed(v, torch.Tensor.float, torch.Tensor.float) for v in (source, target)))
    assert value.dtype == torch.float32 and finite(value, gradients)
    torch.testing.assert_close(value, exact, rtol=1e-5, atol=1e-6)


# ---- what it may depend on


@every
def test_the_order_of_the_rows_does_not_matter_unless_it_says_so(name: str) -> None:
    source, target = views(dtype=torch.float64)
    source = replace(source, weights=torch.rand(64) + 0.1)
    loss = attached(CASES[name], source)
    value, gradients = graded(loss, source, target)
    a, b = torch.randperm(64), torch.randperm(40)
    other, moved = graded(loss, rows_of(source, a), rows_of(target, b))
    if CASES[name].order_matters:
        assert (other - value).abs() > 1e-3
    else:
        near((other, moved), (value, [gradients[0][a], gradients[1][a], gradients[2][b], gradients[3][b]]))


def test_only_linear_time_estimators_look_at_the_order() -> None:
    declared = [name for name, kind in CASES.items() if kind.order_matters]
    assert declared == ["mmd linear", "mmd linear median", "jan linear"]


@every
def test_the_same_input_gives_the_same_value_and_gradient(name: str) -> None:
    """Also after other calls: nothing counts them, and nothing is drawn anew."""
    source, target = views()
    loss = attached(CASES[name], source)
    first = graded(loss, source, target, 0.3)
    graded(loss, target, source, 0.9)
    torch.manual_seed(99)
    same(graded(loss, source, target, 0.3), first)
    same(graded(attached(CASES[name], source), source, target, 0.3), first)  # attached under the same seed


@every
def test_target_labels_are_never_read(name: str) -> None:
    class Blind:
        def __init__(self, view: View) -> None:
            self.features, self.logits, self.weights, self.domains = view.features, view.logits, None, None

        @property
        def labels(self) -> Tensor:
            raise AssertionError("a target label was read")

    source, target = views()
    loss = attached(CASES[name], source)
    blind: Any = Blind(target)
    assert torch.equal(loss(source, blind, 0.5), loss(source, target, 0.5))


@every
def test_source_labels_are_read_by_those_that_say_so(name: str) -> None:
    source, target = views()
    loss = attached(CASES[name], source)
    bare = replace(source, labels=None)
    if name in LABELLED:
        with pytest.raises(UserError, match="needs the labels of the source rows"):
            loss(bare, target, 0.5)
    else:
        assert torch.equal(loss(bare, target, 0.5), loss(source, target, 0.5))


@every
def test_nothing_is_kept_on_the_settings(name: str) -> None:
    alignment = copy.deepcopy(CASES[name])
    source, target = views()
    before = (repr(alignment), dict(vars(alignment)))
    attached(alignment, source)(source, target, 0.5)
    assert (repr(alignment), dict(vars(alignment))) == before
    assert alignment == CASES[name]


@every
def test_a_state_dict_carries_all_that_was_drawn(name: str) -> None:
    source, target = views()
    loss = attached(CASES[name], source)
    if not isinstance(loss, nn.Module):
        assert loss is CASES[name]
        return
    torch.manual_seed(77)
    other: Any = CASES[name].attach(7, 5)
    assert not torch.equal(other(source, target, 0.5), loss(source, target, 0.5))
    other.load_state_dict(loss.state_dict())
    same(graded(other, source, target), graded(loss, source, target))


# ---- weights


@every
def test_weights_count_by_their_ratios(name: str) -> None:
    source, target = views(dtype=torch.float64)
    loss = attached(CASES[name], source)
    plain = graded(loss, source, target)
    threes = [replace(v, weights=torch.full((len(v.features),), 3.0)) for v in (source, target)]
    near(graded(loss, *threes), plain)


@every
def test_a_row_of_weight_0_is_absent(name: str) -> None:
    source, target = views(dtype=torch.float64)
    loss = attached(CASES[name], source)
    keep = (torch.arange(64) % 3 != 0, torch.arange(40) < 30)
    wild = [
        replace(changed(v, lambda x, k=k: torch.where(k[:, None], x, 50 + x), lambda z: z), weights=k.double())
        for v, k in zip((source, target), keep, strict=True)
    ]
    value, gradients = graded(loss, *wild)
    expected = graded(loss, rows_of(source, keep[0]), rows_of(target, keep[1]))
    if CASES[name].order_matters:
        assert finite(value, gradients)
        return
    left = [g[k] for g, k in zip(gradients, (keep[0], keep[0], keep[1], keep[1]), strict=True)]
    near((value, left), expected)
    assert all(not g[~k].any() for g, k in zip(gradients, (keep[0], keep[0], keep[1], keep[1]), strict=True))


@pytest.mark.parametrize("name", [n for n, kind in CASES.items() if n not in COUNTS_ROWS and not kind.order_matters])
def test_a_weight_of_2_is_a_row_given_twice(name: str) -> None:
    source, target = views(12, 9, dtype=torch.float64)
    loss = attached(CASES[name], source)
    times = (torch.tensor([1, 2, 3] * 4), torch.tensor([2, 1, 1] * 3))
    weighted = [replace(v, weights=t) for v, t in zip((source, target), times, strict=True)]
    repeated = [
        rows_of(v, torch.arange(len(t)).repeat_interleave(t)) for v, t in zip((source, target), times, strict=True)
    ]
    torch.testing.assert_close(loss(*weighted, 0.5), loss(*repeated, 0.5), rtol=1e-9, atol=1e-12)
    change = loss(*weighted, 0.5) - loss(source, target, 0.5)
    assert bool(change.abs() > 1e-6) == (name != "afn")  # whose value is constant


@every
def test_a_view_without_weight_is_no_trouble(name: str) -> None:
    source, target = views()
    loss = attached(CASES[name], source)
    nothing = [replace(v, weights=torch.zeros(len(v.features))) for v in (source, target)]
    for pair in ((nothing[0], target), (source, nothing[1]), (nothing[0], nothing[1])):
        value, gradients = graded(loss, *pair)
        assert finite(value, gradients)
        for view, moved in zip(pair, (gradients[:2], gradients[2:]), strict=True):
            assert view.weights is None or all(not g.any() for g in moved)
        if name in DISTANCES or CASES[name].order_matters:
            assert value == 0


# ---- what comes out


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("shape", [(1, 3), (64, 16), (301, 7), (129, 33)])
def test_equal_batches_are_at_distance_0(name: str, shape: tuple[int, int]) -> None:
    """A1: exactly, for any number of kernels; also far from the origin."""
    for shift in (0.0, 100.0):
        view = view_of(*shape, 5, 3, shift=shift)
        value, _ = graded(attached(CASES[name], view), view, changed(view))
        assert value == 0


@every
def test_the_value_and_the_gradient_are_those_of_the_formula(name: str) -> None:
    alignment = CASES[name]
    if isinstance(alignment, Adversarial):
        alignment = replace(alignment, hidden=4)
    for sizes, weighted in (((5, 4), False), ((4, 6), True)):
        source, target = views(*sizes, d=3, classes=3, dtype=torch.float64)
        if weighted:
            source, target = (replace(v, weights=torch.rand(len(v.features)) + 0.2) for v in (source, target))
        loss = attached(alignment, source)
        oracle = ORACLES[name.split()[0]]
        value, gradients = graded(lambda s, t, p, o=oracle, m=loss: o(alignment, m, s, t, p), source, target)
        if isinstance(alignment, Adversarial):
            strength = alignment.reversal * reversal_strength(0.5, alignment.steepness)
            gradients = [gradients[0] * -strength, gradients[1], gradients[2] * -strength, gradients[3]]
        near(graded(loss, source, target), (value, gradients), 1e-7)


def test_every_alignment_has_an_oracle() -> None:
    assert sorted(ORACLES) == sorted(ALIGNMENTS)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_gradient_is_that_of_the_value(name: str) -> None:
    source, target = views(5, 4, d=3, classes=3, dtype=torch.float64)
    loss = attached(SMOOTH[name], source)

    def value(*given: Tensor) -> Tensor:
        out: Tensor = loss(
            replace(source, features=given[0], logits=given[1]),
            replace(target, features=given[2], logits=given[3]),
            0.5,
        )
        return out + 0 * sum(g.sum() for g in given)

    assert torch.autograd.gradcheck(value, leaves(source, target), eps=1e-6, atol=1e-6)


@every
def test_no_tensor_is_larger_than_all_pairs_of_rows(name: str) -> None:
    """n x n x d is what the usual code holds, 4 million numbers here; linear-time estimators hold n x d."""

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(tensor, Tensor):
                    self.numbers = max(self.numbers, tensor.numel())
            return out

    source, target = views(200, 200, d=100, classes=3)
    loss = attached(CASES[name], source)
    with Largest() as largest:
        graded(loss, source, target)
    assert largest.numbers <= 400 * 400
    if CASES[name].order_matters:
        assert largest.numbers == 200 * 100


# ---- what a reader and the training loop see


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_the_docstring_lets_a_reader_choose(name: str) -> None:
    text = ALIGNMENTS[name].__doc__ or ""
    first = text.split("\n\n")[0]
    assert first.endswith(".") and "\n" not in first
    assert re.search(r"^ *Formula: ", text, re.MULTILINE)
    assert re.search(r"^ *Source: \w[^\n]*\((19|20)\d\d\)", text, re.MULTILINE)
    assert re.search(r"^ *Use when: ", text, re.MULTILINE)
    assert ">>>" in text
    preferred = re.findall(r"[Pp]refer (\w+)(?: or (\w+))? (?:if|alone|nearly)|[Pp]refer (any other)", text)
    others = {n for found in preferred for n in found if n} - {"any other", "unbiased"}
    assert preferred and others <= set(ALIGNMENTS) - {name}


@every
def test_a_task_without_classes_is_refused_where_predictions_are_compared(name: str) -> None:
    alignment = CASES[name]
    if alignment.needs_classes:
        with pytest.raises(UserError, match="needs 2 or more, but the task has 1 output; use one that reads features"):
            alignment.attach(7, 1)
    else:
        source, target = views(classes=1)
        assert finite(*graded(attached(alignment, source), source, target))


def test_the_names_that_need_no_classes_are_told() -> None:
    with pytest.raises(UserError) as caught:
        ALIGNMENTS["mcc"]().attach(3, 1)
    told = str(caught.value).rpartition(": ")[2].split(", ")
    assert set(told) <= {name for name, kind in ALIGNMENTS.items() if not kind.needs_classes}
