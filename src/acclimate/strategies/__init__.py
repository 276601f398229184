"""The ways of transferring, by name. A new one is a file with its class, named in this dict."""

from __future__ import annotations

import dataclasses
from typing import Any

from acclimate.align import ALIGNMENTS
from acclimate.data.kinds import kind_of
from acclimate.data.kinds.table import holds_text
from acclimate.data.rows import Columns, Data
from acclimate.errors import UserError, unknown
from acclimate.settings import check_type
from acclimate.strategies.adapt import Adapt
from acclimate.strategies.averaged import Soup, WiseFt
from acclimate.strategies.base import Constant, Problem, Splits, Strategy
from acclimate.strategies.boosting import Boosting
from acclimate.strategies.consistency import Consistency
from acclimate.strategies.contrast import Contrast
from acclimate.strategies.discrepancy import Mcd
from acclimate.strategies.distil import Distil
from acclimate.strategies.fewlabels import FEW_LABELS, LastLayer
from acclimate.strategies.forest import Forest
from acclimate.strategies.in_context import InContext
from acclimate.strategies.invariant import Invariant
from acclimate.strategies.mapped import Mapped, SelfTrain
from acclimate.strategies.neighbours import Centroid, Knn
from acclimate.strategies.opposed import Adda, Osbp
from acclimate.strategies.probe import Probe
from acclimate.strategies.ridge import RidgeProbe
from acclimate.strategies.sourcefree import Shot
from acclimate.strategies.sources import GroupDro, SourceMixture
from acclimate.strategies.tune import Tune

BASELINES: dict[str, Strategy] = {  # without transfer: always run, always shown
    "majority": Constant(),
    "tfidf": Probe(features=False, plain=True),  # of texts, and of free text in a table
    "pixels": Probe(features=False, plain=True),  # of pictures
    "spectra": Probe(features=False, plain=True),  # of sounds
    "statistics": Probe(features=False, plain=True),  # of series
    "boosting": Boosting(),  # of rows of a table, and of molecules
    "forest": Forest(),  # of molecules, beside their fingerprints
    "fingerprints": Probe(features=False, plain=True),  # of molecules
}
STRATEGIES: dict[str, Strategy] = {  # from cheap to dear
    "centroid": Centroid(),
    "knn": Knn(),
    "ridge": RidgeProbe(),
    "linear_probe": Probe(),
    "hybrid": Probe(plain=True),
    "feature_boosting": Boosting(features=True),
    "in_context": InContext(),
    "partial": Tune(moves="top:2", start="probe", learning_rate=1e-4),
    "surgical": Tune(moves="surgical", start="probe", learning_rate=1e-4),
    "bitfit": Tune(moves="bias", start="probe", learning_rate=1e-3),
    "norm_only": Tune(moves="norm", start="probe", learning_rate=1e-3),
    "lora": Tune(moves="lora", start="probe", learning_rate=5e-4),
    "dora": Tune(moves="peft:dora", start="probe", learning_rate=5e-4),
    "ia3": Tune(moves="peft:ia3", start="probe", learning_rate=5e-3),
    "gradual": Tune(unfreeze=0.5),
    "full": Tune(),
    "lp_ft": Tune(start="probe"),
    "contrastive": Contrast(),
    "wise_ft": WiseFt(),
    "distil": Distil(),
    "soup": Soup(),
}
ADAPTATIONS: dict[str, Strategy] = {  # to unlabelled rows of the target; from cheap to dear
    "standardise": Mapped(),
    "coral": Mapped("coral"),
    "linear_ot": Mapped("linear_ot"),
    "subspace": Mapped("subspace"),
    "gfk": Mapped("gfk"),
    "entropic_ot": Mapped("entropic_ot"),
    "density_ratio": Mapped("density_ratio"),
    "kmm": Mapped("kmm"),
    "kliep": Mapped("kliep"),
    "adapted_boosting": Boosting("density_ratio"),
    "self_train": SelfTrain(),
    "mcc": Adapt(weight=2.0),
    "infomax": Adapt(align="infomax"),
    "bnm": Adapt(align="bnm"),
    "dann": Adapt(align="dann"),
    "cdan": Adapt(align="cdan", weight=2.0),
    "pada": Adapt(align="dann", source_weights="pada"),
    "iwan": Adapt(align="dann", source_weights="iwan"),
    "mdd": Adapt(align="mdd", weight=0.3),
    "mcd": Mcd(feature_steps=1),
    "mmd": Adapt(align="mmd", weight=3.0),
    "jan": Adapt(align="jan", weight=3.0),
    "afn": Adapt(align="afn", weight=0.001),
    "deep_coral": Adapt(align="coral", weight=30.0),
    "deepjdot": Adapt(align="deepjdot", weight=0.3),
    "sliced_wasserstein": Adapt(align="sliced_wasserstein"),
    "wasserstein": Adapt(align="wasserstein", weight=0.03),
    "cmd": Adapt(align="cmd", weight=0.3),
    "cdd": Adapt(align="cdd", weight=0.1),
    "adda": Adda(),
    "osbp": Osbp(),
    "shot": Shot(standardise="per_domain", class_shares="source"),
    "consistency": Consistency(),
}
OVER_DOMAINS: dict[str, Strategy] = {  # read which domain each row is from
    "group_dro": GroupDro(),
    "source_mixture": SourceMixture(),  # and the target
    "irm": Invariant(),
    "vrex": Invariant(penalty="vrex"),
    "source_coral": Invariant(penalty="coral"),
}
EVERY: dict[str, Strategy] = {**BASELINES, **STRATEGIES, **ADAPTATIONS, **OVER_DOMAINS, **FEW_LABELS}
ALIASES = {
    "freeze": "linear_probe", "probe": "linear_probe", "feature_extraction": "linear_probe", "lp": "linear_probe",
    "fine_tune": "full", "finetune": "full", "no_freeze": "full", "peft": "lora", "mean": "majority",
    "constant": "majority", "nearest_centroid": "centroid", "tf_idf": "tfidf", "ridge_probe": "ridge", "lpft": "lp_ft",
    "setfit": "contrastive", "supcon": "contrastive", "distill": "distil", "distillation": "distil",
    "wiseft": "wise_ft", "model_soup": "soup", "greedy_soup": "soup",
}  # fmt: skip

SETTING_ALIASES = {  # what other libraries call them
    "rank": "lora_rank", "r": "lora_rank", "alpha": "lora_alpha", "lr": "learning_rate", "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs", "per_device_train_batch_size": "batch_size", "target_modules": "lora_targets",
    "warmup_ratio": "warmup_steps", "warmup": "warmup_steps", "scheduler": "lr_scheduler_type", "n_neighbors": "k",
    "n_neighbours": "k", "c": "strength", "C": "strength", "grad_accumulation": "gradient_accumulation_steps",
    "lambda": "weight", "words": "plain", "max_steps": "steps",
}  # fmt: skip


def named(name: str, settings: dict[str, Any] | None = None) -> tuple[str, Strategy]:
    """The strategy of this name with some settings replaced; errors list what there is."""
    key = name.strip().lower().replace("-", "_")
    key = ALIASES.get(key, key)
    if key not in EVERY and not all(part in ALIGNMENTS for part in key.split("+")):
        raise unknown("strategy", name, ["auto", *EVERY])
    strategy: Any = EVERY[key] if key in EVERY else Adapt(align=key)  # an alignment, or a sum, that has no tried λ
    fields = {f.name: f for f in dataclasses.fields(strategy) if f.init}
    given: dict[str, Any] = {}
    for asked, value in (settings or {}).items():
        setting = asked if asked in fields else SETTING_ALIASES.get(asked, asked)
        if setting in given:
            raise UserError(f"the setting {setting!r} is given twice, once as {asked!r}; keep one")
        given[setting] = value
        if setting not in fields:
            if setting in Tune.__dataclass_fields__ and not isinstance(strategy, Tune):
                raise UserError(
                    f"{key} has no setting {setting!r}: that is of strategies which tune the network, such as full, "
                    "partial and lora"
                )
            known = ["lambda" if name == "weight" else name for name in fields]
            raise UserError(f"{unknown(f'setting of {key}', setting, known)}")
        called = "lambda" if setting == "weight" else setting
        check_type(key, called, value, getattr(strategy, setting), str(fields[setting].type))
    return key, dataclasses.replace(strategy, **given)


def takers(setting: str) -> tuple[str, ...]:
    """The strategies that have a setting of this name, from cheap to dear; none where nobody has.

    >>> takers("n_neighbors"), takers("nothing")
    (('knn',), ())
    """
    name = SETTING_ALIASES.get(setting, setting)
    every: dict[str, Any] = EVERY
    return tuple(key for key, one in every.items() if any(f.name == name and f.init for f in dataclasses.fields(one)))


def without_transfer(what: Columns | Data) -> dict[str, Strategy]:
    """The baselines for inputs of this kind; of a table that holds free text also what its words alone give."""
    kind = kind_of(what)
    names = ("majority", kind.baseline, *kind.also, *(["tfidf"] if holds_text(what) else []))
    return {name: BASELINES[name] for name in names}


def source_alone(problem: Problem) -> Strategy:
    """What learns from the source alone, to stand beside what adapts: a probe; of a network that is untrained all of
    it."""
    return STRATEGIES["full" if problem.backbone is not None and problem.backbone.untrained else "linear_probe"]


def opened(strategy: Strategy | None, problem: Problem) -> Problem:
    """The problem as this strategy answers it: with one class more where it knows unknown rows."""
    return strategy.opened(problem) if isinstance(strategy, Osbp) else problem


def tunes(strategy: Strategy) -> bool:
    """Whether a fit reads the backbone as `Problem.to_tune` has it."""
    return isinstance(strategy, (Tune, WiseFt, Soup))


def adapts(strategy: Strategy) -> bool:
    """Whether a fit reads the target rows."""
    if isinstance(strategy, Tune):
        return strategy.aligned or strategy.pretrains
    if isinstance(strategy, (Adapt, Mcd, Osbp)):
        return strategy.weight > 0
    if isinstance(strategy, Boosting):
        return strategy.adapts
    if isinstance(strategy, Distil):
        return strategy.rows == "both"
    if isinstance(strategy, LastLayer):
        return strategy.start == "self_train"
    return isinstance(strategy, (Adda, Consistency, Mapped, SelfTrain, Shot, SourceMixture))


__all__ = [
    "ADAPTATIONS",
    "ALIASES",
    "BASELINES",
    "EVERY",
    "FEW_LABELS",
    "OVER_DOMAINS",
    "STRATEGIES",
    "Problem",
    "Splits",
    "Strategy",
    "adapts",
    "named",
    "opened",
    "source_alone",
    "takers",
    "tunes",
    "without_transfer",
]
