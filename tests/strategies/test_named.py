"""A strategy by name: constructor, settings as text, saved settings and repr are one dataclass."""

from __future__ import annotations

import dataclasses

import pytest

from acclimate.errors import UserError
from acclimate.strategies import ALIASES, BASELINES, STRATEGIES, named
from acclimate.strategies.moving import Moving
from acclimate.strategies.neighbours import Knn
from acclimate.strategies.probe import Probe
from acclimate.strategies.tune import Tune

EVERY = {**BASELINES, **STRATEGIES}


@pytest.mark.parametrize("name", sorted(EVERY))
def test_repr_is_the_constructor(name: str) -> None:
    strategy = EVERY[name]
    assert eval(repr(strategy), {c.__name__: c for c in map(type, EVERY.values())}) == strategy


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_strategy_stores_settings_alone(name: str) -> None:
    strategy = EVERY[name]
    assert dataclasses.is_dataclass(strategy)
    with pytest.raises(dataclasses.FrozenInstanceError):
        strategy.needs_backbone = False  # type: ignore[misc]
    fields = {f.name for f in dataclasses.fields(strategy)}
    assert set(vars(strategy)) <= fields
    assert strategy.needs_backbone == (name not in BASELINES)
    assert strategy.frozen == (not isinstance(strategy, (Tune, Moving)))


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_field_can_be_set_by_name(name: str) -> None:
    strategy = EVERY[name]
    fields = [f.name for f in dataclasses.fields(strategy) if f.init]  # type: ignore[arg-type]
    same = {field: getattr(strategy, field) for field in fields}
    assert named(name, same) == (name, strategy)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_an_unknown_setting_lists_what_there_is(name: str) -> None:
    fields = [f.name for f in dataclasses.fields(EVERY[name]) if f.init]  # type: ignore[arg-type]
    with pytest.raises(UserError) as error:
        named(name, {"learning_rat": 1.0})
    assert f"unknown setting of {name} 'learning_rat'" in str(error.value)
    assert all(field in str(error.value) for field in fields)
    if "learning_rate" in fields:
        assert "did you mean 'learning_rate'?" in str(error.value)


def test_names_are_read_kindly() -> None:
    assert named(" LP-FT ")[0] == "lp_ft"
    assert named("freeze")[0] == "linear_probe"
    assert {named(alias)[0] for alias in ALIASES} <= EVERY.keys()
    with pytest.raises(UserError, match="unknown strategy 'lora2'; did you mean 'lora'"):
        named("lora2")


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        (
            "full",
            {"learning_rate": "fast"},
            "setting 'learning_rate' of full takes float or None, not 'fast' (default None)",
        ),
        ("full", {"num_train_epochs": 2.5}, "takes int or None, not 2.5"),
        ("full", {"batch_size": True}, "takes int, not True"),
        ("full", {"batch_size": None}, "takes int, not None"),
        ("hybrid", {"words": 1}, "takes bool, not 1"),
        ("lora", {"lora_targets": 3}, "takes str, not 3"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name: str, settings: dict[str, object], text: str) -> None:
    with pytest.raises(UserError) as error:
        named(name, settings)
    assert text in str(error.value)


def test_a_whole_number_serves_where_a_real_one_is_asked() -> None:
    assert named("full", {"learning_rate": 1, "dropout": 0})[1] == Tune(learning_rate=1, dropout=0)
    assert named("full", {"dropout": None})[1] == Tune()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Tune(moves="top:0"),
            "moves='top:0' is not understood; give all, head, bias, norm, surgical, lora, peft:METHOD",
        ),
        (lambda: Tune(moves="top:-1"), "is not understood"),
        (lambda: Tune(moves="half"), "is not understood"),
        (lambda: Tune(moves="first:x"), "is not understood"),
        (lambda: Tune(moves="middle:0"), "is not understood"),
        (lambda: Tune(moves="peft:"), "names no method; write peft:METHOD, such as peft:dora"),
        (lambda: Tune(moves="peft:prefix_tuning"), "puts learned tokens before each text"),
        (lambda: Tune(moves="peft:adalora"), "cannot be done: it takes rank from layers between steps"),
        (lambda: Tune(moves="surgical"), "which is zero; add start=probe"),
        (lambda: Tune(hold="lwf"), "hold='lwf' keeps the answers of the head that training begins with"),
        (lambda: Tune(hold="l2sp"), "unknown hold 'l2sp'; did you mean 'l2_sp'?"),
        (lambda: Tune(hold="l2_sp:-1"), "the weight of l2_sp must be 0 or more, such as l2_sp:0.01"),
        (lambda: Tune(hold="bss:0.1,j=2"), "unknown setting of bss 'j'"),
        (lambda: Tune(hold="bss:k=0"), "bss: k=0 must be 1 or more"),
        (lambda: Tune(hold="bss+bss:0.1"), "names one penalty twice"),
        (lambda: Tune(unfreeze=1.0), "unfreeze=1.0 must be at least 0 and below 1"),
        (lambda: Tune(layer_decay=0.0), "layer_decay=0.0 must be above 0 and at most 1"),
        (lambda: Tune(start="prob"), "unknown start 'prob'; did you mean 'probe'?"),
        (lambda: Tune(lr_scheduler_type="cosin"), "did you mean 'cosine'?"),
        (lambda: Tune(optimizer="sgd"), "unknown optimizer 'sgd'"),
        (lambda: Tune(lora_targets="linear"), "unknown lora_targets 'linear'"),
        (lambda: Tune(learning_rate=0.0), "learning_rate=0.0 must be above 0"),
        (lambda: Tune(learning_rate=float("nan")), "learning_rate=nan must be above 0"),
        (lambda: Tune(head_learning_rate=-1.0), "head_learning_rate=-1.0 must be above 0"),
        (lambda: Tune(batch_size=0), "batch_size=0 must be above 0"),
        (lambda: Tune(num_train_epochs=0), "num_train_epochs=0 must be 1 or more"),
        (lambda: Tune(warmup_steps=-0.1), "warmup_steps=-0.1 must be 0 or more"),
        (lambda: Tune(weight_decay=-1.0), "weight_decay=-1.0 must be 0 or more"),
        (lambda: Tune(dropout=1.0), "dropout=1.0 must be at least 0 and below 1"),
        (lambda: Tune(lora_dropout=-0.5), "lora_dropout=-0.5 must be at least 0 and below 1"),
        (lambda: Probe(features=False), "at least one must be on"),
        (lambda: Probe(strength=0.0), "strength 0.0 must be above 0"),
        (lambda: Probe(inner_folds=1), "inner_folds=1 must be 2 or more"),
        (lambda: Probe(max_words=0), "max_words=0 must be 1 or more"),
        (lambda: Knn(k=0), "k=0 must be 1 or more"),
    ],
)
def test_impossible_settings_are_refused_at_once(make: object, text: str) -> None:
    with pytest.raises(UserError) as error:
        make()  # type: ignore[operator]
    assert text in str(error.value)


def test_the_number_of_epochs_gives_about_three_hundred_steps() -> None:
    assert Tune(num_train_epochs=7).epochs(10_000) == 7
    assert Tune(batch_size=16).epochs(100) == 20  # 43 would be 300 steps
    assert Tune(batch_size=16).epochs(1000) == 5  # 63 steps an epoch
    assert Tune(batch_size=16).epochs(100_000) == 3
    assert Tune(batch_size=16, gradient_accumulation_steps=4).epochs(1000) == 19  # 16 steps an epoch


def test_settings_go_by_the_names_of_other_libraries_too() -> None:
    assert (
        named("lora", {"rank": 4, "lr": 1e-4, "epochs": 2})[1]
        == named("lora", {"lora_rank": 4, "learning_rate": 1e-4, "num_train_epochs": 2})[1]
    )
    with pytest.raises(UserError, match="given twice, once as 'rank'"):
        named("lora", {"lora_rank": 4, "rank": 8})


def test_a_setting_of_tuning_is_told_from_a_wrong_name() -> None:
    with pytest.raises(UserError, match=r"linear_probe has no setting 'augment': .* such as full, partial and lora"):
        named("linear_probe", {"augment": 0.5})
    with pytest.raises(UserError, match=r"unknown setting of linear_probe 'augmentt'"):
        named("linear_probe", {"augmentt": 0.5})
