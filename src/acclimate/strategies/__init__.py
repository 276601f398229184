"""The ways of transferring, by name. A new one is a file with its class, named in this dict."""

from __future__ import annotations

import dataclasses
from typing import Any

from acclimate.errors import UserError, unknown
from acclimate.strategies.base import Constant, Problem, Splits, Strategy
from acclimate.strategies.consistency import Consistency
from acclimate.strategies.mapped import Mapped, SelfTrain
from acclimate.strategies.neighbours import Centroid, Knn
from acclimate.strategies.probe import Probe
from acclimate.strategies.ridge import RidgeProbe
from acclimate.strategies.tune import Tune

BASELINES: dict[str, Strategy] = {  # without transfer: always run, always shown
    "majority": Constant(),
    "tfidf": Probe(features=False, words=True),
}
STRATEGIES: dict[str, Strategy] = {  # from cheap to dear
    "centroid": Centroid(),
    "knn": Knn(),
    "ridge": RidgeProbe(),
    "linear_probe": Probe(),
    "hybrid": Probe(words=True),
    "partial": Tune(moves="top:2", start="probe", learning_rate=1e-4),
    "lora": Tune(moves="lora", start="probe", learning_rate=5e-4),
    "full": Tune(),
    "lp_ft": Tune(start="probe"),
}
ADAPTATIONS: dict[str, Strategy] = {  # to unlabelled rows of the target; from cheap to dear
    "standardise": Mapped(),
    "coral": Mapped("coral"),
    "linear_ot": Mapped("linear_ot"),
    "subspace": Mapped("subspace"),
    "entropic_ot": Mapped("entropic_ot"),
    "density_ratio": Mapped("density_ratio"),
    "kmm": Mapped("kmm"),
    "self_train": SelfTrain(),
    "consistency": Consistency(),
}
ALIASES = {
    "freeze": "linear_probe", "probe": "linear_probe", "feature_extraction": "linear_probe", "lp": "linear_probe",
    "fine_tune": "full", "finetune": "full", "no_freeze": "full", "peft": "lora", "mean": "majority",
    "constant": "majority", "nearest_centroid": "centroid", "tf_idf": "tfidf", "ridge_probe": "ridge", "lpft": "lp_ft",
}  # fmt: skip

SETTING_ALIASES = {  # what other libraries call them
    "rank": "lora_rank", "r": "lora_rank", "alpha": "lora_alpha", "lr": "learning_rate", "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs", "per_device_train_batch_size": "batch_size", "target_modules": "lora_targets",
    "warmup_ratio": "warmup_steps", "warmup": "warmup_steps", "scheduler": "lr_scheduler_type", "n_neighbors": "k",
    "n_neighbours": "k", "c": "strength", "C": "strength", "grad_accumulation": "gradient_accumulation_steps",
}  # fmt: skip


def named(name: str, settings: dict[str, Any] | None = None) -> tuple[str, Strategy]:
    """The strategy of this name with some settings replaced; errors list what there is."""
    key = name.strip().lower().replace("-", "_")
    key = ALIASES.get(key, key)
    known = {**BASELINES, **STRATEGIES, **ADAPTATIONS}
    if key not in known:
        raise unknown("strategy", name, ["auto", *known])
    strategy: Any = known[key]
    fields = {f.name: f for f in dataclasses.fields(strategy) if f.init}
    given: dict[str, Any] = {}
    for asked, value in (settings or {}).items():
        setting = asked if asked in fields else SETTING_ALIASES.get(asked, asked)
        if setting in given:
            raise UserError(f"the setting {setting!r} is given twice, once as {asked!r}; keep one")
        given[setting] = value
        if setting not in fields:
            raise UserError(f"{unknown(f'setting of {key}', setting, fields)}")
        _check_type(key, setting, value, getattr(strategy, setting), str(fields[setting].type))
    return key, dataclasses.replace(strategy, **given)


def _check_type(strategy: str, name: str, value: Any, default: Any, annotation: str) -> None:
    """A text where a number belongs would fail far from here, so it is caught at once."""
    allowed: tuple[type, ...]
    if value is None and "None" in annotation:
        return
    if "bool" in annotation:
        allowed = (bool,)
    elif "float" in annotation:
        allowed = (int, float)
    elif "int" in annotation:
        allowed = (int,)
    else:
        allowed = (str,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise UserError(f"setting {name!r} of {strategy} takes {annotation}, not {value!r} (default {default!r})")


__all__ = ["ADAPTATIONS", "ALIASES", "BASELINES", "STRATEGIES", "Problem", "Splits", "Strategy", "named"]
