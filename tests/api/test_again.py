"""The command that fits again holds what was asked before, so that it can be typed as it stands."""

from __future__ import annotations

import inspect
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import acclimate
from acclimate.api import Request, state
from acclimate.api.again import again
from acclimate.api.finish import Choice
from acclimate.api.prepare import Gate
from acclimate.cli.main import app
from acclimate.data.rows import Columns
from acclimate.run import Run

PLAIN = {
    "model": "m", "task": "classify", "text_column": ["a", "b"], "file_column": "photo path", "modality": "image",
    "group_column": "g", "time_column": "t", "id_column": "i", "subgroup_column": ["s"], "domain_column": "d",
    "weight_column": "w", "drop": ["x", "y z"], "metric": "accuracy", "time_limit": "10m", "seed": 3, "on_bad": "fail",
    "split": "random", "truncation": "chunk", "max_length": 64, "max_seconds": 2.5, "image_size": 128,
    "pooling": "cls", "pairs": "joint", "precision": "int8", "label_delimiter": ";", "positive": "yes",
    "threshold": 0.25, "specificity": 0.9, "alert_budget": 0.1, "prevalence": 0.2, "feature_dtype": "fp16",
    "valid_data": "v.csv", "test_data": "t.csv", "target_data": "there.csv", "target_labels": "few.csv",
    "rate": 50.0, "horizon": 12, "prompt": "smollm2",
}  # fmt: skip
LEARNING = {
    "strategy": "full", "align": "mmd", "lambda_": 0.5, "pretrain": "mlm", "hold": "l2_sp:0.01", "learning_rate": 1e-4,
    "num_train_epochs": 3.0, "batch_size": 16,
}  # fmt: skip


def request(private: bool = False, **arguments: Any) -> Request:
    kept = {name: state.same_form(name, value) for name, value in arguments.items()}
    gate = Gate(private=private)
    return Request("x.csv", "", "auto", Columns(), gate, Choice(), Path("runs/x"), Run(), arguments=kept)


def parsed(command: str) -> dict[str, Any]:
    """What the command line would pass on."""
    words = shlex.split(command)
    assert words[:2] == ["acclimate", "fit"]
    fit = get_command(app).commands["fit"]  # type: ignore[attr-defined]
    return dict(fit.make_context("fit", words[2:]).params)


def test_every_argument_is_kept_and_understood() -> None:
    given = request(
        train_data="my rows.csv", column_kinds={"c p": "category"}, settings={"rank": 8, "moves": "top:2"},
        class_weight={"yes": 3.0, "no": 1.0}, class_order=["low, all", "high"], cost={"a": {"b": 2}},
        candidates=["knn", "lora"], private=True, label_weight={"y": 0.5}, single_task=False, **PLAIN, **LEARNING,
    )  # fmt: skip
    found = parsed(again(replace(given, gate=Gate(private=True)), ("y", "z"), {}))
    assert found.pop("train") == "my rows.csv" and found.pop("label") == ["y", "z"]
    for name, value in {**PLAIN, **LEARNING}.items():
        usual = [value] if name in ("text_column", "subgroup_column", "drop") and isinstance(value, str) else value
        wanted = str(value) if name in ("lambda_",) else "600" if name == "time_limit" else usual
        assert found.pop(name) == wanted, name
    assert found.pop("column_kind") == ["c p=category"] and found.pop("setting") == ["rank=8", "moves=top:2"]
    assert found.pop("label_weight") == ["y=0.5"] and found.pop("single_task") is False
    assert found.pop("cost") == "runs/x/costs.json" and found.pop("private") is True
    assert found.pop("candidates") == "knn,lora" and found.pop("class_order") == '["low, all", "high"]'
    assert found.pop("class_weight") == '{"yes": 3.0, "no": 1.0}'
    how = {"output_dir", "overwrite", "resume", "quiet", "num_workers", "checkpoint_every", "processes", "train_data"}
    assert set(found) == how  # nothing else can be asked for


def test_no_argument_of_fit_is_forgotten() -> None:
    names = {p for p in inspect.signature(acclimate.fit).parameters if p not in state.HOW}
    special = {"train_data", "label", "column_kinds", "settings", "cost", "private", "class_weight", "class_order"}
    assert names - special - {"candidates", "label_weight", "single_task"} == {*PLAIN, *LEARNING}


def test_what_is_changed_replaces_what_was_asked() -> None:
    given = request(train_data="x.csv", settings={"rank": 8}, **{**LEARNING, **PLAIN})
    assert parsed(again(given, ("y",), {"truncation": "head-tail"}))["truncation"] == "head-tail"
    other = parsed(again(given, ("y",), {"strategy": "tfidf", "target_labels": None}))
    assert other["strategy"] == "tfidf" and not any(other[name] for name in ("align", "setting", "target_labels"))
    labelled = parsed(again(given, ("y",), {"target_labels": "label_these.csv"}))
    assert (labelled["strategy"], labelled["target_labels"]) == ("auto", "label_these.csv")
    assert again(request(train_data={"text": []}, test_data=[1]), ("y",), {}) == (
        "acclimate fit TRAIN.csv --label y --test-data TEST_DATA.csv"
    )


@pytest.mark.parametrize("private", [False, True])
def test_the_report_tells_such_a_command(private: bool, fit: Any, train: Path, tmp_path: Path) -> None:
    model = fit(
        train, label="label", output_dir=tmp_path / "run", text_column="text", on_bad="fail", private=private,
        cost={"bad": {"good": 2}, "good": {"bad": 1}}, strategy="linear_probe", max_length=8,
    )  # fmt: skip
    command = next(s["command"] for s in model.report_data.next_steps if "--truncation chunk" in s["command"])
    found = parsed(command)
    assert (found["text_column"], found["on_bad"], found["max_length"]) == (["text"], "fail", 8)
    assert found["private"] is private and found["strategy"] == "linear_probe"
    assert json.loads(Path(found["cost"]).read_text()) == {"bad": {"good": 2}, "good": {"bad": 1}}
