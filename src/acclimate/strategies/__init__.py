"""The ways of transferring, by name. A new one is a file with its class, named in this dict."""

from __future__ import annotations

import dataclasses
from typing import Any

from acclimate.errors import UserError, unknown
from acclimate.strategies.base import Constant, Problem, Splits, Strategy
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
ALIASES = {
    "freeze": "linear_probe", "probe": "linear_probe", "feature_extraction": "linear_probe", "lp": "linear_probe",
    "fine_tune": "full", "finetune": "full", "no_freeze": "full", "peft": "lora", "mean": "majority",
    "constant": "majority", "nearest_centroid": "centroid", "tf_idf": "tfidf", "ridge_probe": "ridge", "lpft": "lp_ft",
}  # fmt: skip


def named(name: str, settings: dict[str, Any] | None = None) -> tuple[str, Strategy]:
    """The strategy of this name with some settings replaced; errors list what there is."""
    key = name.strip().lower().replace("-", "_")
    key = ALIASES.get(key, key)
    known = {**BASELINES, **STRATEGIES}
    if key not in known:
        raise unknown("strategy", name, ["auto", *known])
    strategy: Any = known[key]
    fields = {f.name: f for f in dataclasses.fields(strategy) if f.init}
    for setting, value in (settings or {}).items():
        if setting not in fields:
            raise UserError(f"{unknown(f'setting of {key}', setting, fields)}")
        _check_type(key, setting, value, getattr(strategy, setting), str(fields[setting].type))
    return key, dataclasses.replace(strategy, **(settings or {}))


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


__all__ = ["ALIASES", "BASELINES", "STRATEGIES", "Problem", "Splits", "Strategy", "named"]
