"""The rows of a task with structured answers: through the gate, and in three parts; and those of a run, read anew."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acclimate.api import runs
from acclimate.data.account import Audit, why_dropped
from acclimate.data.rows import Data
from acclimate.errors import UserError, plural
from acclimate.structured.base import Asked, Structured, labels_of
from acclimate.structured.gate import CHOOSE, JUDGE, clustered, held_out, leaks, repeats

TEST_SHARE, VALID_SHARE = 0.2, 0.15
FEWEST = 10  # rows in all below which nothing is fitted
FEWEST_TO_CHOOSE_BY = 8  # rows held out for the epoch and the choice; with fewer none are


@dataclass(frozen=True)
class Parts:
    """Rows that passed the gate, split."""

    train: Data
    valid: Data | None  # rows for the epoch and the choice between strategies
    test: Data
    audits: tuple[Audit, ...]
    how: str


def read_parts(task: Structured, sources: Mapping[str, Any], asked: Asked, on_bad: str, seed: int) -> Parts:
    """Rows through the gate, and the three parts: to learn from, to choose by, to judge on. `sources` by role."""
    data, audit = _gated(task, sources["train"], asked, "train", on_bad)
    if len(data) < FEWEST:
        raise UserError(
            f"{data.source}: {len(data)} of {plural(audit.read, task.noun)} can be learned from, and {FEWEST} are "
            f"needed{why_dropped(audit)}; {task.more}"
        )
    audits = [audit]
    if sources.get("test") is not None:
        test, report = _gated(task, sources["test"], asked, "test", on_bad)
        if not len(test):
            raise UserError(
                f"{test.source}: none of its {plural(report.read, 'row')} can be judged{why_dropped(report)}"
            )
        found = leaks(task.keys(data.inputs), task.keys(test.inputs), test, task.noun)
        audits.append(replace(report, findings=(*report.findings, *found)))
        train, how = data, f"The number is of the {plural(len(test), 'row')} of {test.source}"
    else:
        at, held = held_out(task, data, TEST_SHARE, seed, JUDGE)
        train, test = data.take(at), data.take(held)
        how = f"The number is of {len(test):,} rows held out at the start"
    valid: Data | None = None
    if sources.get("valid") is not None:
        valid, report = _gated(task, sources["valid"], asked, "valid", on_bad)
        if not len(valid):
            raise UserError(
                f"{valid.source}: none of its {plural(report.read, 'row')} can be used to choose "
                f"by{why_dropped(report)}"
            )
        audits.append(report)
    elif len(train) * VALID_SHARE >= FEWEST_TO_CHOOSE_BY:
        at, held = held_out(task, train, VALID_SHARE, seed + 1, CHOOSE)
        train, valid = train.take(at), train.take(held)
    return Parts(train, valid, test, tuple(audits), how)


def _gated(task: Structured, source: Any, asked: Asked, role: str, on_bad: str) -> tuple[Data, Audit]:
    data, audit = task.read(source, asked, role)
    if on_bad == "fail" and audit.dropped:
        raise UserError(
            f"{audit.source}: {plural(audit.read - audit.kept, 'row')} cannot be used{why_dropped(audit)} (on_bad fail)"
        )
    keys = task.keys(data.inputs)
    found = (*audit.findings, *repeats(keys, data, task.noun))
    return replace(data, clusters=clustered(keys) if len(data) else None), replace(audit, findings=found)


def content_of(task: Structured, data: Data) -> str:
    """A key of the inputs and answers of these rows."""
    digest = hashlib.sha256()
    for key, label in zip(task.keys(data.inputs), labels_of(data), strict=True):
        digest.update(f"{key}\x00{label!r}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def learned_from(run_dir: Path, task: Structured, asked: Asked) -> tuple[Data | None, str]:
    """The rows that a finished run learned from, read anew from where they were; or nothing, and why they cannot be
    had."""
    made = runs.about(run_dir)
    arguments, content = made.get("arguments", {}), made.get("content", {})
    given = {role: arguments.get(f"{role}_data") for role in ("train", "valid", "test")}
    for role, path in given.items():
        if str(path).startswith("<"):
            return None, f"its {role} data came from memory"
        if path is not None and not Path(path).exists():
            return None, f"its {role} data {path} is no longer there"
    if given["train"] is None:
        return None, "it does not say where its training data lies"
    try:
        train = read_parts(task, given, asked, str(arguments.get("on_bad", "skip")), int(made["seed"])).train
    except (UserError, OSError) as error:
        return None, f"its data cannot be read ({error})"
    if content_of(task, train) != content.get("train"):
        return None, f"its train data {given['train']} has changed since"
    return train, ""
