"""The command that fits again, with what was asked of a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from acclimate.api.request import Request

COSTS = "costs.json"  # the file of a run that holds what its errors cost, as `--cost` reads it

_DATA = {"target_data": "TARGET.csv", "target_labels": "TARGET_LABELS.csv"}
_DATA |= {"valid_data": "VALID_DATA.csv", "test_data": "TEST_DATA.csv"}  # with what stands for one that was in memory
# Options that say what the data and the model are, and how answers are judged, with their defaults.
_USUAL: dict[str, Any] = {
    "model": None, "task": None, "text_column": None, "file_column": None,
    "modality": None, "group_column": None, "time_column": None, "id_column": None,
    "subgroup_column": None, "domain_column": None, "prompt": None, "rate": None, "horizon": None,
    "positive": None, "threshold": None, "specificity": None,
    "alert_budget": None, "prevalence": None, "class_weight": None, "class_order": None, "time_limit": None,
    "weight_column": None, "drop": None, "label_delimiter": None, "metric": None, "seed": 0,
    "max_length": None, "max_seconds": None, "image_size": None, "truncation": "head", "pooling": None,
    "precision": None, "on_bad": "skip", "pairs": None, "split": None, "feature_dtype": "fp32",
}  # fmt: skip
# Options that say how it is learned.
_LEARNING: dict[str, Any] = {
    "strategy": "auto", "candidates": None, "align": None, "lambda_": None, "pretrain": None, "hold": None,
    "learning_rate": None, "num_train_epochs": None, "batch_size": None,
}  # fmt: skip


def again(request: Request, labels: Sequence[str], change: Mapping[str, str | None]) -> str:
    """The command that fits with these arguments of `fit` changed (None: left out), and otherwise as asked before.

    With another strategy, or with labels of the target, what was asked of the former strategy is left out.
    """
    given = {**request.arguments, **change}
    parts = ["acclimate", "fit", _text(given.get("train_data"), "TRAIN.csv")]
    parts += [part for name in labels for part in ("--label", name)]
    anew = change.keys() & {"strategy", "target_labels"}
    learning = {name: usual for name, usual in _LEARNING.items() if name in change or not anew}
    for name, usual in (*dict.fromkeys(_DATA).items(), *_USUAL.items(), *learning.items()):
        value = given.get(name)
        if value is None or value == usual:
            continue
        if name in ("candidates", "class_order"):  # one option holds them all
            value = ",".join(value) if name == "candidates" else json.dumps(value, ensure_ascii=False)
        for one in value if isinstance(value, list) else [value]:
            parts += [f"--{name.strip('_').replace('_', '-')}", _text(one, _DATA.get(name, ""))]
    for name, kind in (given.get("column_kinds") or {}).items():
        parts += ["--column-kind", f"{name}={kind}"]
    for name, weight in (given.get("label_weight") or {}).items():
        parts += ["--label-weight", f"{name}={weight:g}"]
    if given.get("prompt") is not None:
        parts += ["--prompt", str(given["prompt"])]
    if given.get("single_task") is not None:
        parts.append("--single-task" if given["single_task"] else "--no-single-task")
    for name, value in ({} if anew else given.get("settings") or {}).items():
        parts += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    if given.get("cost") is not None:
        parts += ["--cost", str(request.folder / COSTS)]
    return " ".join(shlex.quote(part) for part in [*parts, *(["--private"] if request.gate.private else [])])


def _text(value: Any, instead: str) -> str:
    """A path or value as text; a placeholder for what came from memory."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else str(value)
    return instead if value is None or (text.startswith("<") and text.endswith(">")) else text
