"""The rows that a finished run learned from and was judged on, read anew from where they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from acclimate.api import runs, state
from acclimate.api.inspecting import columns_of
from acclimate.api.prepare import Gate, Prepared, gather, prepare
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.progress import Progress
from acclimate.run import Run

_ROLES = {"train": "train_data", "valid": "valid_data", "test": "test_data"}


def rebuilt(run_dir: Path, columns: Columns, progress: Progress) -> tuple[Prepared | None, str]:
    """The run's own rows, split as they were; or nothing, and why they cannot be had."""
    made = runs.about(run_dir)
    arguments, content = made.get("arguments", {}), made.get("content", {})
    if any(arguments.get(name) is not None for name in ("target_data", "target_labels", "domain_column")):
        return None, "it learned from rows of several domains"
    given: dict[str, Any] = {}
    for role, name in _ROLES.items():
        path = arguments.get(name)
        if path is None:
            continue
        if str(path).startswith("<"):
            return None, f"its {role} data came from memory"
        if not Path(path).exists():
            return None, f"its {role} data {path} is no longer there"
        given[role] = path
    gate = Gate(
        str(arguments.get("on_bad", "skip")), arguments.get("label_delimiter"), bool(arguments.get("private")),
        arguments.get("split"),
    )  # fmt: skip
    try:
        sources = gather(columns=_asked(arguments), task=arguments.get("task"), gate=gate, **given)
        now = state.content_of(sources.tables, sources.guessed.columns.files)
        for role, key in now.items():
            if content.get(role) != key:
                return None, f"its {role} data {given[role]} has changed since"
        found = prepare(sources, None, gate, Run(seed=int(made["seed"]), progress=progress))
    except (UserError, OSError) as error:
        return None, f"its data cannot be read ({error})"
    return replace(found, columns=columns), ""


def _asked(arguments: dict[str, Any]) -> Columns:
    """The columns as they were named then."""
    return columns_of(
        label=arguments.get("label"),
        text=arguments.get("text_column"),
        group=arguments.get("group_column"),
        time=arguments.get("time_column"),
        id=arguments.get("id_column"),
        subgroup=arguments.get("subgroup_column"),
        weight=arguments.get("weight_column"),
        drop=tuple(arguments.get("drop") or ()),
        file=arguments.get("file_column"),
        modality=arguments.get("modality"),
        kinds=arguments.get("column_kinds"),
    )
