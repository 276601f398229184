"""What a strategy is given: the problem (what is to be answered, from what) and the rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from acclimate.backbones.base import Backbone
from acclimate.data.rows import Data, Input
from acclimate.errors import UserError
from acclimate.features import Store
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.tasks.base import Floats, Task, row_weights
from acclimate.tasks.decoder import Decoder

_to_tune: WeakKeyDictionary[Store, Store] = WeakKeyDictionary()  # of the backbone that is tuned, by that of the frozen


@dataclass(frozen=True)
class Problem:
    """The task, its classes, and the pretrained backbone. The same for every strategy that is compared."""

    task: Task
    decoder: Decoder
    backbone: Backbone | None = None
    store: Store | None = None  # cached features of that backbone
    class_weight: object = None  # None, "balanced", or one weight a class

    def network(self) -> tuple[Backbone, Store]:
        """The backbone and its feature store, or a clear error where the run has none."""
        if self.backbone is None or self.store is None:
            raise UserError("this strategy needs a pretrained model; give one with --model")
        return self.backbone, self.store

    def to_tune(self) -> Problem:
        """The same with the backbone as it is read where its weights move; all fits share its features."""
        base, store = self.network()
        if (backbone := base.to_tune()) is base:
            return self
        if store not in _to_tune:
            _to_tune[store] = Store(backbone, store.run)
        return replace(self, backbone=_to_tune[store].backbone, store=_to_tune[store])

    def targets(self, data: Data) -> Floats:
        """Training labels as numbers."""
        assert data.labels is not None
        return self.task.targets(data.labels, self.decoder)

    def held_out(self, splits: Splits) -> Data | None:
        """The rows to choose by, without those of a class that training never saw: no setting could get them right."""
        if splits.valid is None or self.task.name in ("regress", "multilabel", "multitask"):
            return splits.valid
        rows = np.flatnonzero(self.targets(splits.valid) >= 0)
        return splits.valid.take(rows) if len(rows) else None

    def weights(self, data: Data, targets: Floats) -> Floats:
        """Row weights of mean one."""
        return row_weights(targets, self.task.width(self.decoder), self.class_weight, data.weights)


@dataclass(frozen=True)
class Splits:
    """Rows to learn from, and rows to choose by. The rows that give the number are not here: no strategy sees them.

    `target`: rows from where the model will be used. Their labels are taken away, so that no strategy can read one.
    `target_labelled`: the few rows from there whose labels were given to be learned from. `read`: the inputs that plain
    features are made from, where these are more than those of `train`; nothing else is learned from them.
    """

    train: Data
    valid: Data | None = None
    target: Data | None = None
    target_labelled: Data | None = None
    read: tuple[Input, ...] | None = None

    def __post_init__(self) -> None:
        if self.target is not None:
            without = replace(self.target, labels=None, weights=None)
            object.__setattr__(self, "target", without)
        object.__setattr__(self, "train", _counted(self.train))
        for part in ("valid", "target_labelled"):
            data = getattr(self, part)
            object.__setattr__(self, part, None if data is None else _counted(data))

    @property
    def to_read(self) -> tuple[Input, ...]:
        """The inputs that plain features are made from."""
        return self.train.inputs if self.read is None else self.read


def unlabelled(splits: Splits, name: str) -> Data:
    """The target rows, or a clear error where there are none."""
    if splits.target is None or not len(splits.target):
        raise UserError(f"{name} adapts to rows from where the model will be used; give them with --target-data")
    return splits.target


def labelled(splits: Splits, name: str) -> Data:
    """The labelled target rows, or a clear error where there are none."""
    if splits.target_labelled is None or not len(splits.target_labelled):
        raise UserError(f"{name} learns from labelled rows of where the model will be used; give --target-labels")
    return splits.target_labelled


def with_labelled(splits: Splits, weight: float) -> Splits:
    """Labelled target rows among those to learn from, so often and so heavy that the sum is L_source + λ·L_labelled.

    Each L is the weighted mean loss of its rows. A row is copied round(min(λ, 1)·n_source/n_labelled) times, so that a
    step does not hang on one heavy row, and an epoch is twice as long at most; what the copies do not make up, their
    weight does. With λ = 0, or without such rows, nothing changes.
    """
    few, source = splits.target_labelled, splits.train
    if few is None or not len(few) or not weight:
        return replace(splits, target_labelled=None)
    copies = max(1, round(min(weight, 1.0) * len(source) / len(few)))
    ours = np.ones(len(source)) if source.weights is None else source.weights
    theirs = np.ones(len(few)) if few.weights is None else few.weights
    heavy = np.tile(theirs * (weight * ours.sum() / (theirs.sum() * copies)), copies)
    both = Data(
        (*source.inputs, *few.inputs * copies), (*(source.labels or ()), *(few.labels or ()) * copies),
        np.concatenate([ours, heavy]), source=source.source, kind=source.kind,
    )  # fmt: skip
    return replace(splits, train=both, target_labelled=None)


def _counted(data: Data) -> Data:
    """Without the rows of weight zero: they would still move means, folds and neighbourhoods."""
    if data.weights is None or (data.weights > 0).all():
        return data
    rows = np.flatnonzero(data.weights > 0)
    if not len(rows):
        raise UserError(f"every weight in {data.source} is zero, so no row counts; correct the weight column")
    return data.take(rows)


class Strategy(Protocol):
    """A frozen dataclass of settings. `needs_backbone` and `frozen` tell the planner what a fit costs."""

    @property
    def needs_backbone(self) -> bool:
        """False for what learns without a pretrained network."""

    @property
    def frozen(self) -> bool:
        """True where the backbone does not move, so that one pass over the data serves every fit."""

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Learn from `splits.train`, choosing settings by its own folds or by `splits.valid`."""


@dataclass(frozen=True)
class Constant:
    """Baseline: class shares (the majority class wins), or the mean. z_k = log((n_k + ½)/(n + K/2)).

    Use when: never alone. Every number is shown beside it.
    """

    needs_backbone: bool = field(default=False, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Count."""
        import torch

        from acclimate.tasks.heads import ConstantHead

        targets = problem.targets(splits.train)
        given = splits.train.weights
        weights = np.ones(len(targets)) if given is None else given  # shares as they are: class weights do not apply
        width = problem.task.width(problem.decoder)
        if problem.task.name == "regress":
            logits = np.array([np.average(targets, weights=weights)])
        elif problem.task.name == "multilabel":
            share = (weights @ np.nan_to_num(targets) + 0.5) / (weights @ ~np.isnan(targets) + 1)
            logits = np.log(share) - np.log1p(-share)
        else:
            counts = np.bincount(targets.astype(int), weights=weights, minlength=width)
            logits = np.log((counts + 0.5) / (counts.sum() + width / 2))
        head = ConstantHead(width)
        head.logits.copy_(torch.from_numpy(logits))
        return Predictor(problem.task, problem.decoder, head, strategy="majority")
