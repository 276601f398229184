from __future__ import annotations

import json
from pathlib import Path

import pytest

DEFAULTS = {
    "label": None,
    "model": None,
    "strategy": "auto",
    "task": None,
    "valid_data": None,
    "test_data": None,
    "target_data": None,
    "target_labels": None,
    "align": None,
    "lambda_": None,
    "pretrain": None,
    "hold": None,
    "text_column": None,
    "file_column": None,
    "modality": None,
    "column_kinds": None,
    "group_column": None,
    "time_column": None,
    "id_column": None,
    "subgroup_column": None,
    "domain_column": None,
    "rate": None,
    "horizon": None,
    "weight_column": None,
    "drop": (),
    "metric": None,
    "time_limit": None,
    "output_dir": None,
    "overwrite": False,
    "seed": 0,
    "on_bad": "skip",
    "split": None,
    "truncation": "head",
    "max_length": None,
    "max_seconds": None,
    "image_size": None,
    "pooling": None,
    "pairs": None,
    "precision": None,
    "class_weight": None,
    "class_order": None,
    "label_weight": None,
    "single_task": None,
    "prompt": None,
    "label_delimiter": None,
    "learning_rate": None,
    "num_train_epochs": None,
    "batch_size": None,
    "positive": None,
    "threshold": None,
    "cost": None,
    "specificity": None,
    "alert_budget": None,
    "prevalence": None,
    "private": False,
    "quiet": False,
    "settings": {},
    "num_workers": 0,
    "resume": False,
    "checkpoint_every": 30.0,
    "feature_dtype": "fp32",
    "candidates": None,
}


def test_defaults_reach_the_api(cli, api) -> None:
    assert cli("fit", "train.csv").exit_code == 0
    assert api.calls == [("fit", ("train.csv",), DEFAULTS)]


def test_o_says_where_to_write_as_in_the_other_verbs(cli, api) -> None:
    assert cli("fit", "train.csv", "-o", "runs/one").exit_code == 0
    assert api.calls == [("fit", ("train.csv",), {**DEFAULTS, "output_dir": "runs/one"})]


def test_the_api_takes_what_the_command_line_gives() -> None:
    """Same names, same defaults; `settings` is empty here and None there."""
    import inspect

    from acclimate import api

    parameters = inspect.signature(api.fit).parameters.values()
    taken = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert {**taken, "settings": {}} == DEFAULTS


def test_a_class_order_with_commas_in_it_is_json(cli, api) -> None:
    cli("fit", "train.csv", "--class-order", '["low, or none", 2]')
    assert api.calls[0][2]["class_order"] == ("low, or none", "2")


def test_every_option_reaches_the_api(cli, api, tmp_path: Path) -> None:
    cost = tmp_path / "cost.json"
    cost.write_text('{"ill": {"well": 10}, "well": {"ill": 1}}', encoding="utf-8")
    given = {
        "--label": "y",
        "--model": "minilm-l3",
        "--strategy": "lp_ft",
        "--task": "ordinal",
        "--valid-data": "v.csv",
        "--test-data": "t.csv",
        "--target-data": "u.csv",
        "--align": "mcc:temperature=2",
        "--lambda": "rise:0.5",
        "--pretrain": "mlm:epochs=2,mask=0.2",
        "--hold": "l2_sp:0.1+bss",
        "--target-labels": "few.csv",
        "--group-column": "g",
        "--time-column": "when",
        "--id-column": "id",
        "--weight-column": "w",
        "--metric": "macro_f1",
        "--time-limit": "10m",
        "--output-dir": "RUN",
        "--seed": "7",
        "--on-bad": "fail",
        "--split": "random",
        "--file-column": "f",
        "--modality": "image",
        "--max-seconds": "5",
        "--image-size": "128",
        "--truncation": "chunk",
        "--max-length": "64",
        "--pooling": "cls",
        "--pairs": "joint",
        "--precision": "int8",
        "--class-weight": "balanced",
        "--class-order": "low, medium,high",
        "--label-weight": "stars=0.5",
        "--label-delimiter": ";",
        "--learning-rate": "1e-4",
        "--num-train-epochs": "2",
        "--batch-size": "16",
        "--positive": "ill",
        "--threshold": "0.3",
        "--cost": str(cost),
        "--specificity": "0.9",
        "--alert-budget": "0.05",
        "--prevalence": "0.01",
        "--num-workers": "2",
        "--checkpoint-every": "5",
        "--feature-dtype": "fp16",
        "--candidates": "knn, lora",
        "--domain-column": "site",
        "--rate": "50",
        "--horizon": "12",
        "--prompt": "smollm2",
    }
    flat = [part for pair in given.items() for part in pair]
    repeated = ["--text-column", "a", "--text-column", "b", "--subgroup-column", "sex", "--drop", "p", "--drop", "q"]
    result = cli(
        "fit",
        "x.csv",
        *flat,
        *repeated,
        "--column-kind",
        "age=number",
        "--set",
        "rank=8",
        "--set",
        "note=x",
        "--overwrite",
        "--no-single-task",
        "--private",
        "--quiet",
        "--resume",
    )
    assert result.exit_code == 0, result.stderr
    assert api.calls[0][2] == {
        "label": "y",
        "model": "minilm-l3",
        "strategy": "lp_ft",
        "task": "ordinal",
        "valid_data": "v.csv",
        "test_data": "t.csv",
        "target_data": "u.csv",
        "target_labels": "few.csv",
        "align": "mcc:temperature=2",
        "lambda_": "rise:0.5",
        "pretrain": "mlm:epochs=2,mask=0.2",
        "hold": "l2_sp:0.1+bss",
        "text_column": ("a", "b"),
        "file_column": "f",
        "modality": "image",
        "column_kinds": {"age": "number"},
        "max_seconds": 5.0,
        "image_size": 128,
        "group_column": "g",
        "time_column": "when",
        "id_column": "id",
        "subgroup_column": "sex",
        "domain_column": "site",
        "rate": 50.0,
        "horizon": 12,
        "weight_column": "w",
        "drop": ("p", "q"),
        "metric": "macro_f1",
        "time_limit": 600.0,
        "output_dir": "RUN",
        "overwrite": True,
        "seed": 7,
        "on_bad": "fail",
        "split": "random",
        "truncation": "chunk",
        "max_length": 64,
        "pooling": "cls",
        "pairs": "joint",
        "precision": "int8",
        "class_weight": "balanced",
        "class_order": ("low", "medium", "high"),
        "label_weight": {"stars": 0.5},
        "single_task": False,
        "prompt": "smollm2",
        "label_delimiter": ";",
        "learning_rate": 1e-4,
        "num_train_epochs": 2,
        "batch_size": 16,
        "positive": "ill",
        "threshold": 0.3,
        "cost": {"ill": {"well": 10.0}, "well": {"ill": 1.0}},
        "specificity": 0.9,
        "alert_budget": 0.05,
        "prevalence": 0.01,
        "private": True,
        "quiet": True,
        "settings": {"rank": 8, "note": "x"},
        "num_workers": 2,
        "resume": True,
        "checkpoint_every": 5.0,
        "feature_dtype": "fp16",
        "candidates": ["knn", "lora"],
    }


def test_resume_needs_no_file(cli, api) -> None:
    assert cli("fit", "--resume", "--output-dir", "RUN").exit_code == 0
    assert api.calls == [("fit", (None,), {**DEFAULTS, "resume": True, "output_dir": "RUN"})]


def test_names_of_other_tools_are_understood(cli, api) -> None:
    result = cli(
        *("train", "--train_file", "x.csv", "--target", "y", "--text_column_name", "t", "--model_name_or_path", "m"),
        *("--lr", "1e-3", "--epochs", "4", "--per_device_train_batch_size", "8", "--max_seq_length", "32"),
        *("--eval_metric", "acc", "--problem-type", "classify", "--max-time", "1h", "--random-state", "3"),
        *("--path", "out", "--tuning-data", "v.csv"),
    )
    assert result.exit_code == 0, result.stderr
    _, args, settings = api.calls[0]
    assert args == ("x.csv",)
    changed = {name: value for name, value in settings.items() if value != DEFAULTS[name]}
    assert changed == {
        "label": "y",
        "text_column": "t",
        "model": "m",
        "learning_rate": 1e-3,
        "num_train_epochs": 4,
        "batch_size": 8,
        "max_length": 32,
        "metric": "acc",
        "task": "classify",
        "time_limit": 3600.0,
        "seed": 3,
        "output_dir": "out",
        "valid_data": "v.csv",
    }


def test_it_ends_with_the_verdict_the_scores_the_report_and_the_next_command(cli, api) -> None:
    lines = [line.strip() for line in cli("fit", "train.csv").stdout.splitlines() if line.strip()]
    run = api.model.run_dir
    assert lines[0] == "It is better than guessing."
    assert any("0.800 [0.700, 0.880]" in line for line in lines)
    assert lines[-3:] == [f"report  {run}/report.html", "next    predict", f"acclimate predict {run} NEW.csv"]


@pytest.mark.parametrize(
    ("text", "weights"), [("balanced", "balanced"), ('{"spam": 3, "ham": 0.5}', {"spam": 3.0, "ham": 0.5})]
)
def test_class_weights_are_a_word_or_json(cli, api, text: str, weights: object) -> None:
    cli("fit", "train.csv", "--class-weight", text)
    assert api.calls[0][2]["class_weight"] == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "no file is given; name it as TRAIN"),
        (["fit", "a.csv", "--time-limit", "soon"], "cannot read 'soon' as a length of time"),
        (["fit", "a.csv", "--set", "rank"], "cannot read the setting 'rank'; write key=value"),
        (["fit", "a.csv", "--class-weight", "{spam: 3}"], "cannot read the class weights '{spam: 3}' as JSON"),
        (["fit", "a.csv", "--class-order", "[low"], "cannot read the class order '[low' as JSON"),
        (["fit", "a.csv", "--cost", "nowhere.json"], "there is no cost file 'nowhere.json'"),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(cli, api, arguments: list[str], message: str) -> None:
    result = cli(*arguments)
    assert (result.exit_code, api.calls) == (2, [])
    assert result.stderr.startswith(f"error: {message}")


@pytest.mark.parametrize(
    "text", ["[1, 2]", "{}", '{"ill": 3}', '{"ill": {"well": "ten"}}', '{"ill": {"well": true}}', "{ill"]
)
def test_a_cost_file_that_holds_no_costs_is_refused(cli, api, tmp_path: Path, text: str) -> None:
    cost = tmp_path / "cost.json"
    cost.write_text(text, encoding="utf-8")
    result = cli("fit", "train.csv", "--cost", cost)
    assert (result.exit_code, api.calls) == (2, [])
    assert json.dumps({"ill": {"healthy": 10}, "healthy": {"ill": 1}}) in result.stderr
