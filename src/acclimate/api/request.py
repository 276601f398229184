"""What one fit was asked, and what came out of it before the number was taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acclimate.api.finish import Choice, Judged
from acclimate.api.prepare import Gate
from acclimate.data.rows import Columns
from acclimate.model import Predictor
from acclimate.run import Run


@dataclass(frozen=True)
class Request:
    """What the user asked of one fit, after names were checked."""

    train: Any
    model: str
    strategy: str
    columns: Columns
    gate: Gate
    choice: Choice
    folder: Path
    run: Run
    overwrite: bool = False
    task: str | None = None
    valid: Any = None
    test: Any = None
    target: Any = None  # rows from where the model will be used; labels in it are not read
    target_labels: Any = None  # a few labelled rows from there, to learn from
    metric: str | None = None
    class_weight: object = None
    class_order: tuple[Any, ...] | None = None
    label_weight: Mapping[str, float] = field(default_factory=dict)  # of several label columns, in the one loss
    single_task: bool | None = None  # whether each is also trained alone, to compare; None: where that is soon done
    candidates: tuple[str, ...] = ()  # what `auto` compares
    prompt: str | None = None  # a language model that is asked for the class of each judged row, to compare
    settings: Mapping[str, Any] = field(default_factory=dict)
    auto_weight: bool = False  # choose λ without labels
    reading: Mapping[str, Any] = field(default_factory=dict)  # pooling, pairs, max_length, truncation, precision ...
    asked: Mapping[str, Any] = field(default_factory=dict)  # as given, for run.json
    arguments: Mapping[str, Any] = field(default_factory=dict)  # every argument, to go on with the run later
    resume: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)  # of the files, by role
    content: Mapping[str, str] = field(default_factory=dict)  # a key of the cells of every source, by role

    def sources(self) -> dict[str, Any]:
        """What was given, by role."""
        given = {"train": self.train, "valid": self.valid, "test": self.test, "target": self.target}
        return {**given, "target_labels": self.target_labels}


@dataclass(frozen=True)
class Fitted:
    """The outcome of choosing and fitting, before the number is taken."""

    predictor: Predictor
    judged: Judged
    baselines: dict[str, tuple[Predictor, Judged]]
    candidates: list[dict[str, Any]]
    decisions: tuple[str, ...]
    thresholds: dict[str, Any]
    how_chosen: str
    verdict: str = ""  # on adapting to target rows, in a line or two
    files: Mapping[str, str] = field(default_factory=dict)  # further files of the run, name -> text
    next_steps: tuple[dict[str, str], ...] = ()  # that come before the usual ones
    cut: tuple[str, ...] = ()  # what the time limit left out, for the sentence that everyone reads
    adapted: bool = False  # whether it read the target rows
    alone: Judged | None = None  # of several label columns: each trained by itself, on the rows of the number
    kinds: Mapping[str, Judged] = field(default_factory=dict)  # each kind of column of a table by itself, on these rows
    costs: list[dict[str, Any]] = field(default_factory=list)  # seconds and bytes of every part, foreseen and taken
