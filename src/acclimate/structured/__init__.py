"""Tasks whose answer is more than a label or a number: tags, texts, boxes, masks. A new one is a file with its
`Structured`, named in this dict; modules are imported when a task is asked for, since some need extras."""

from __future__ import annotations

from importlib import import_module

from acclimate.errors import unknown
from acclimate.structured.base import Structured

__all__ = ["TASKS", "Structured", "task_named"]

TASKS = {  # name -> the module and class that do it
    "generate": ("acclimate.structured.generate", "Generate"),
    "detect": ("acclimate.structured.detect", "Detect"),
    "match": ("acclimate.structured.match", "Match"),
    "forecast": ("acclimate.structured.forecast", "Forecast"),
    "tag": ("acclimate.structured.tag", "Tag"),
    "segment": ("acclimate.structured.segment", "Segment"),
    "speak": ("acclimate.structured.speak", "Speak"),
    "transcribe": ("acclimate.structured.transcribe", "Transcribe"),
}


def task_named(name: str) -> Structured:
    """The task of this name with its usual settings."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    module, kind = TASKS[name]
    found: Structured = getattr(import_module(module), kind)()
    return found
