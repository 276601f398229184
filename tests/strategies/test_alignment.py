"""Settings of the objective: names, values, and what is refused."""

from __future__ import annotations

import pytest

from acclimate.align import ALIGNMENTS
from acclimate.errors import UserError
from acclimate.strategies.adapt import Adapt
from acclimate.strategies.alignment import check_align, parsed
from acclimate.strategies.discrepancy import Mcd
from acclimate.strategies.sourcefree import Shot


def test_an_alignment_is_given_with_its_settings() -> None:
    assert parsed("dann") == (ALIGNMENTS["dann"], {})
    assert parsed("dann:hidden=64,reversal=0.5")[1] == {"hidden": 64, "reversal": 0.5}
    assert parsed("cdan:entropy=false")[1] == {"entropy": False}


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
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(align: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_align(align)


def test_a_setting_may_take_several_kinds() -> None:
    for align in ("mmd:bandwidth=median", "mmd:bandwidth=2", "mmd:bandwidth=0.5"):
        check_align(align)
