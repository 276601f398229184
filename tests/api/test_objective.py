"""`align` and `lambda_`: what they become, what is refused, and one run of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import acclimate
import tiny_models as tm
from acclimate import ranks
from acclimate.api.objective import asked, parse_weight
from acclimate.errors import UserError
from acclimate.strategies import ADAPTATIONS, STRATEGIES, adapts, named

TARGET: dict[str, Any] = {"text": ["river"]}


def table(n: int, more: str = "", seed: int = 0) -> dict[str, list[Any]]:
    data = tm.rows(n, seed=seed)
    return {"text": [f"{text} {more}".strip() for text in data.inputs], "label": list(data.labels or ())}


@pytest.mark.parametrize(
    ("strategy", "align", "lambda_", "name", "settings"),
    [
        ("auto", "mcc", None, "mcc", {"align": "mcc"}),
        ("auto", "coral", "rise", "deep_coral", {"align": "coral", "weight_schedule": "rise"}),
        ("auto", "entropy", 0.5, "entropy", {"align": "entropy", "weight": 0.5}),
        ("mcc", "mcc:temperature=2", None, "mcc", {"align": "mcc:temperature=2"}),
        ("lora", "dann", "rise:2", "lora", {"align": "dann", "weight": 2.0, "weight_schedule": "rise"}),
        ("lp-ft", "jan", 3, "lp_ft", {"align": "jan", "weight": 3.0}),
        ("self_train", None, "0.5", "self_train", {"weight": 0.5}),
        ("dann", None, "0", "dann", {"weight": 0.0}),
        ("mcd", None, "rise:2", "mcd", {"weight": 2.0, "weight_schedule": "rise"}),
        ("mcd", None, "0", "mcd", {"weight": 0.0}),
        ("full", None, None, "full", {}),
    ],
)
def test_what_is_asked_becomes_a_strategy_and_settings(
    strategy: str, align: str | None, lambda_: Any, name: str, settings: dict[str, Any]
) -> None:
    found, given = asked(strategy, {}, align, lambda_, TARGET)
    assert named(found)[0] == name
    assert given == settings
    made = named(found, given)[1]
    assert adapts(made) == (name != "full" and settings.get("weight") != 0.0)
    defaults = ADAPTATIONS.get(name) or STRATEGIES.get(name)
    if defaults is not None and "weight" not in settings:
        assert getattr(made, "weight", None) == getattr(defaults, "weight", None)  # λ that was tried stays


@pytest.mark.parametrize(
    ("strategy", "lambda_", "settings"),
    [("lora", "2", {"weight": 2.0}), ("full", 0.5, {"weight": 0.5}), ("pooled", "0.5", {"lam": 0.5})],
)
def test_lambda_weighs_labelled_target_rows_too(strategy: str, lambda_: Any, settings: dict[str, Any]) -> None:
    assert asked(strategy, {}, None, lambda_, None, "few.csv") == (strategy, settings)
    named(strategy, settings)
    with pytest.raises(UserError, match="no training progress to rise with"):
        asked(strategy, {}, None, "rise:2", None, "few.csv")


@pytest.mark.parametrize(
    ("strategy", "settings", "align", "lambda_", "said"),
    [
        ("auto", {}, "mc", None, "unknown alignment 'mc'; did you mean 'mcc'"),
        ("auto", {}, "mcc:temp=2", None, "unknown setting of mcc"),
        ("auto", {}, None, 1.0, "--lambda 1.0 weighs L_target .* strategy 'auto' has none"),
        ("lora", {}, None, "rise", "strategy 'lora' has none; add --align"),
        ("shot", {}, None, "1", "strategy 'shot' has none"),
        ("coral", {}, None, "1", "strategy 'coral' has none"),
        ("self_train", {}, None, "rise", "'self_train' has no training progress to rise with; give a number"),
        ("self_train", {}, "mcc", None, "strategy 'self_train' does not train with --align mcc"),
        ("linear_probe", {}, "dann", None, "choose one of partial, surgical, .*, lora, .*, full, lp_ft"),
        ("mcd", {}, "mcc", None, "strategy 'mcd' does not train with --align mcc"),
        ("dann", {}, "mcc", None, "strategy 'dann' does not train with --align mcc"),
        ("lora", {"align": "mcc"}, "dann", None, "'align' is given twice, by --align and as 'mcc'"),
        ("lora", {"weight": 2}, "dann", 1, "'weight' is given twice, by --lambda and as 2"),
        *[
            ("lora", {}, "mcc", value, f"--lambda {value}: give a number from 0 on")
            for value in ("nan", float("nan"), -1, "-0.5", "inf", "fall", "rise:x", "rise:-1", "rise:", True)
        ],
    ],
)
def test_what_means_nothing_is_refused(
    strategy: str, settings: dict[str, Any], align: str | None, lambda_: Any, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        asked(strategy, settings, align, lambda_, TARGET)


def test_without_target_rows_it_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UserError, match="--align mcc brings .* give the latter with --target-data"):
        acclimate.fit(table(20), label="label", align="mcc")
    with pytest.raises(UserError, match="candidates are what strategy 'auto' compares"):
        acclimate.fit(table(20), label="label", target_data=table(9), align="mcc", candidates=["knn"])


@pytest.mark.parametrize("strategy", ["full", "partial", "lora", "lp_ft"])
def test_what_pretrains_becomes_a_setting(strategy: str) -> None:
    name, given = asked(strategy, {"batch_size": 4}, "mcc", 2, TARGET, None, "mlm:epochs=2")
    assert given == {"batch_size": 4, "align": "mcc", "weight": 2.0, "pretrain": "mlm:epochs=2"}
    assert adapts(named(name, {"pretrain": "mlm"})[1])


@pytest.mark.parametrize(
    ("strategy", "settings", "target", "said"),
    [
        (
            "auto",
            {},
            TARGET,
            "--pretrain mlm comes before tuning, .* choose --strategy partial, .* full, lp_ft",
        ),
        ("linear_probe", {}, TARGET, "strategy 'linear_probe' does not tune"),
        ("mcc", {}, TARGET, "strategy 'mcc' does not tune"),
        ("full", {}, None, "--pretrain mlm reads the texts .* give them with --target-data"),
        ("full", {"pretrain": "mlm"}, TARGET, "'pretrain' is given twice, by --pretrain and as 'mlm'"),
    ],
)
def test_pretraining_that_means_nothing_is_refused(
    strategy: str, settings: dict[str, Any], target: Any, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        asked(strategy, settings, None, None, target, None, "mlm")
    with pytest.raises(UserError, match="unknown pretraining 'clm'"):
        asked(strategy, settings, None, None, target, None, "clm")


def test_what_holds_becomes_a_setting() -> None:
    assert asked("bitfit", {}, "mcc", 2, TARGET, None, None, "l2_sp:0.1") == (
        "bitfit",
        {"align": "mcc", "weight": 2.0, "hold": "l2_sp:0.1"},
    )
    assert asked("full", {}, None, None, None, hold="bss") == ("full", {"hold": "bss"})
    for strategy, settings, hold, said in (
        (
            "auto",
            {},
            "l2_sp",
            "--hold l2_sp ties .* strategy 'auto' does not tune; choose --strategy partial",
        ),
        ("linear_probe", {}, "l2_sp", "strategy 'linear_probe' does not tune"),
        ("full", {}, "l2", "unknown hold 'l2'; known: .none, l2_sp"),
        ("full", {"hold": "bss"}, "l2_sp", "'hold' is given twice, by --hold and as 'bss'"),
    ):
        with pytest.raises(UserError, match=said):
            asked(strategy, settings, None, None, None, hold=hold)


@pytest.mark.parametrize(
    "more",
    [{"align": "mcc"}, {"align": "mcc", "strategy": "lora"}, {"strategy": "shot"}]
    + [{"pretrain": "mlm", "strategy": "lora"}],
)
def test_several_processes_are_refused_before_a_model_is_loaded(
    more: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ranks, "world", lambda: 2)
    monkeypatch.setattr(ranks, "by_first", lambda work: work())
    monkeypatch.setattr(ranks, "leave", lambda: None)
    with pytest.raises(UserError, match="start it as one process, without --processes"):
        acclimate.fit(table(20), label="label", target_data=table(9), output_dir=str(tmp_path / "run"), **more)


def test_numbers_and_rises() -> None:
    assert parse_weight("2e-1") == parse_weight(0.2) == {"weight": 0.2}
    assert parse_weight(" rise:0.5 ") == {"weight_schedule": "rise", "weight": 0.5}


@pytest.mark.parametrize(
    ("more", "strategy"),
    [({"align": "mcc"}, "mcc"), ({"align": "dann:hidden=8", "strategy": "lora", "lambda_": "rise"}, "lora")],
)
def test_a_run(more: dict[str, Any], strategy: str, folder_of: Any, tmp_path: Path) -> None:
    """From rows to a bundle that predicts; the report says that the target was used, and by what."""
    target = table(40, "river")
    model = acclimate.fit(
        table(60), label="label", model=str(folder_of("bert")), output_dir=str(tmp_path / "run"), quiet=True,
        target_data=target, test_data=table(30, "river", seed=2), num_train_epochs=2, **more,
    )  # fmt: skip
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["strategy"] == strategy
    assert any(f"{strategy} adapted to the 40 target rows" in d for d in report["decisions"])
    assert "source_only" in [b["key"] for b in report["baselines"]]
    again = acclimate.load(tmp_path / "run")
    assert (again.predict_proba(target["text"]) == model.predict_proba(target["text"])).all()
    asked_for = json.loads((tmp_path / "run" / "run.json").read_text())
    assert more["align"] in json.dumps(asked_for)
    if strategy == "lora":
        assert again.predictor.settings["weight_schedule"] == "rise"
        assert any("the last epoch was kept" in note for note in model.predictor.notes)
