"""Settings of the objective: names, values, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from acclimate.align import ALIGNMENTS, View
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.strategies import Splits, named
from acclimate.strategies.adapt import Adapt, own_name
from acclimate.strategies.alignment import Sum, attached, check_align, terms
from acclimate.strategies.discrepancy import Mcd
from acclimate.strategies.sourcefree import Shot
from feature_rows import feature_problem


def test_an_alignment_is_given_with_its_settings() -> None:
    assert terms("dann") == [(1.0, ALIGNMENTS["dann"], {})]
    assert terms("dann:hidden=64,reversal=0.5")[0][2] == {"hidden": 64, "reversal": 0.5}
    assert terms("cdan:entropy=false")[0][2] == {"entropy": False}


def test_a_sum_has_factors_and_settings_of_its_own() -> None:
    found = terms("mcc:temperature=1e+1 + 0.5*mmd:kernels=3+2*coral")
    assert [(factor, kind) for factor, kind, _ in found] == [
        (1.0, ALIGNMENTS["mcc"]), (0.5, ALIGNMENTS["mmd"]), (2.0, ALIGNMENTS["coral"]),
    ]  # fmt: skip
    assert [settings for _, _, settings in found] == [{"temperature": 10.0}, {"kernels": 3}, {}]
    assert own_name("coral") == "deep_coral" and own_name("coral+0.1*dann:hidden=8") == "coral+dann"
    assert named("mcc+coral")[1] == Adapt(align="mcc+coral")


def test_a_sum_is_the_sum_of_its_losses_and_keeps_their_weights() -> None:
    torch.manual_seed(0)
    view = [View(torch.randn(12, 5), torch.randn(12, 3), labels) for labels in (torch.arange(12) % 3, None)]
    problem = SimpleNamespace(task=SimpleNamespace(name="classify", width=lambda _: 3), decoder=None)

    def loss(align: str) -> Any:
        torch.manual_seed(1)
        return attached(align, 5, problem, lambda: 1.0)  # type: ignore[arg-type]

    parts = [loss(align)(*view, 0.3) for align in ("dann:hidden=4", "mcc", "coral")]
    both = loss("dann:hidden=4+0.5*mcc+3*coral")
    assert isinstance(both, Sum)
    assert both(*view, 0.3).item() == pytest.approx((parts[0] + 0.5 * parts[1] + 3 * parts[2]).item(), rel=1e-6)
    assert both.state_dict().keys() == {f"weighed.0.{name}" for name in loss("dann:hidden=4").state_dict()}
    assert not isinstance(loss("mcc"), Sum) and isinstance(loss("2*mcc"), Sum)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (Adapt, {"align": "corral"}, "unknown alignment 'corral'; did you mean 'coral'"),
        (Adapt, {"align": "mcc:temprature=2"}, "did you mean 'temperature'"),
        (Adapt, {"align": "mcc:temperature=0"}, "temperature is 0"),
        (Adapt, {"align": "mcc:temperature=warm"}, "temperature"),
        (Adapt, {"weight": -1.0}, "λ in L_source"),
        (Adapt, {"weight_schedule": "fall"}, "weight_schedule"),
        (Adapt, {"standardise": "none"}, "standardise"),
        (Adapt, {"bottleneck": 0}, "1 or more"),
        (Adapt, {"learning_rate": 0.0}, "above 0"),
        (Adapt, {"dropout": 1.0}, "below 1"),
        (Adapt, {"num_train_epochs": 0}, "1 or more"),
        (Adapt, {"weight_decay": -0.1}, "0 or more"),
        (Shot, {"beta": -0.1}, "0 or more"),
        (Shot, {"class_shares": "known"}, "class_shares"),
        (Shot, {"target_rate": 0.0}, "above 0"),
        (Shot, {"target_epochs": 0}, "1 or more"),
        (Mcd, {"weight": -1.0}, "λ in L_source"),
        (Mcd, {"weight_schedule": "fall"}, "weight_schedule"),
        (Mcd, {"feature_steps": 0}, "1 or more"),
        (Mcd, {"balance": -0.1}, "0 or more"),
    ],
)
def test_settings_without_a_meaning_are_refused(kind: type, settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        kind(**settings)


@pytest.mark.parametrize(
    ("align", "says"),
    [
        ("dann:hidden=abc", "setting 'hidden' of dann takes int, not 'abc'"),
        ("mcc:temperature=inf", "setting 'temperature' of mcc takes float, not 'inf'"),
        ("mmd:kernels=true", "setting 'kernels' of mmd takes int, not True"),
        ("mcc+corral", "unknown alignment 'corral'; did you mean 'coral'"),
        ("mcc+", "a part of the alignment 'mcc\\+' is empty"),
        ("mcc+half*coral", "'half' in the alignment 'mcc\\+half\\*coral' is no factor above 0"),
        ("0*mcc", "is no factor above 0"),
        ("mcc+0.1coral", "'0.1coral' in the alignment 'mcc\\+0.1coral': write 0.1\\*coral"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(align: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_align(align)


def test_a_setting_may_take_several_kinds() -> None:
    for align in ("mmd:bandwidth=median", "mmd:bandwidth=2", "mmd:bandwidth=0.5"):
        check_align(align)


def test_the_largest_directions_are_held_down_beside_an_adversary() -> None:
    """BSP by the sum syntax: a heavier penalty leaves the target's features with a smaller largest singular value, and
    what the critic can tell is said of the sum, too."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 6)), rng.normal(size=(50, 6)) + 1
    source = Data(tuple(map(tuple, x.tolist())), tuple((x[:, 0] > 0).astype(int).tolist()))
    target, made = Data(tuple(map(tuple, y.tolist()))), feature_problem(6, 2)
    largest = []
    for factor in ("0.0001", "1"):
        adapt = Adapt(align=f"cdan+{factor}*bsp", weight=2.0, num_train_epochs=20, bottleneck=16, learning_rate=0.02)
        fitted = adapt.fit(made, Splits(source, target=target), Run(seed=0))
        assert fitted.notes[0].startswith(f"cdan+{factor}*bsp: its critic tells the domain of ")
        assert fitted.strategy == "cdan+bsp"
        hidden = fitted.head.hidden(torch.tensor(y, dtype=torch.float32))  # type: ignore[union-attr, operator]
        largest.append(float(torch.linalg.svdvals(hidden.detach())[0]))
    assert largest[1] < 0.8 * largest[0]
