"""The saved bundle of a structured task: weights, preprocessing, what was fitted besides; safetensors and JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from acclimate.errors import UserError
from acclimate.files import json_text, whole_folder
from acclimate.model import FORMAT, read_about
from acclimate.structured import TASKS, task_named
from acclimate.structured.base import State, Structured, StructuredNetwork

_FILE = "acclimate.json"


@dataclass(frozen=True)
class Learned:
    """What was learned: a network, what was fitted besides its weights, and how."""

    task: Structured
    state: State
    network: StructuredNetwork
    strategy: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    trained: tuple[str, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    def save(self, folder: str | Path) -> Path:
        """Write the bundle into a new folder, which appears whole or not at all."""
        target = Path(folder)
        with whole_folder(target) as temporary:
            self.network.save(temporary)
            text = json_text(self._about(), indent=1)
            (temporary / _FILE).write_text(text, encoding="utf-8")
        return target

    def _about(self) -> dict[str, Any]:
        backbone = self.network.backbone
        return {
            "format": FORMAT,
            "task": self.task.name,
            "task_settings": self.task.settings(),
            "state": self.state,
            "strategy": self.strategy,
            "settings": self.settings,
            "trained": self.trained,
            "base_model": dataclasses.asdict(backbone.origin),
            "modality": backbone.modality,
            "preprocessing": backbone.settings(),
        }


def is_structured(folder: Path) -> bool:
    """Whether this bundle is of a structured task."""
    return (folder / _FILE).is_file() and read_about(folder).get("task") in TASKS


def load(folder: Path) -> Learned:
    """Read a bundle. Needs no network, and runs on the CPU whatever it was trained on."""
    about = read_about(folder)
    try:
        task = dataclasses.replace(task_named(about["task"]), **about["task_settings"])
        state = dict(about["state"])
        strategy, settings, trained = str(about["strategy"]), dict(about["settings"]), tuple(about["trained"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / _FILE} is damaged ({error!r}); copy the bundle again or fit anew") from error
    with torch.random.fork_rng(devices=[]):
        network = task.network(str(folder / "backbone"), state, {})
    network.load_head(folder).eval().requires_grad_(False)
    return Learned(task, state, network, strategy, settings, trained)
