"""Kinds of answer. A new one is a file with its class, named in this dict; `Multitask` is made of several of them."""

from __future__ import annotations

from acclimate.tasks.base import Network, Output, Task
from acclimate.tasks.classify import Classify, Ordinal
from acclimate.tasks.decoder import Decoder
from acclimate.tasks.multilabel import MultiLabel
from acclimate.tasks.multitask import Multitask
from acclimate.tasks.regress import Regress

TASKS: dict[str, Task] = {
    "classify": Classify(),
    "ordinal": Ordinal(),
    "multilabel": MultiLabel(),
    "regress": Regress(),
}

__all__ = ["TASKS", "Classify", "Decoder", "MultiLabel", "Multitask", "Network", "Ordinal", "Output", "Regress", "Task"]
