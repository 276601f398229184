"""Labelled source rows and unlabelled target rows as arrays that adaptation on frozen features works on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acclimate.data.rows import Data
from acclimate.data.split import hash_of
from acclimate.errors import unknown
from acclimate.keys import key_of
from acclimate.strategies.base import Problem, Splits
from acclimate.tasks.base import Floats
from acclimate.tasks.heads import BottleneckHead
from acclimate.train.solve import Scaling

STANDARDISE = ("source", "joint", "per_domain")
SHARES = ("even", "source")


@dataclass(frozen=True)
class Domains:
    """Both sides, standardised, in an order of their own: that of the rows as they came has no say in the result."""

    train: Data  # the source rows
    source: Floats  # (n, d) float64, mean 0 and spread 1 in every column, by `standardise`
    targets: Floats  # (n,) or (n, k): the source's labels as numbers
    weights: Floats  # (n,) of mean one
    target: Floats  # (m, d); no row where the target is not read
    mean: Floats  # (d,) what a raw row is standardised by when it is judged: the target's own, where it is read
    spread: Floats  # (d,)
    rows: str  # what tells these rows from others

    @staticmethod
    def of(problem: Problem, splits: Splits, standardise: str, target: Data | None) -> Domains:
        """Features once for all; without `target` nothing but the source is read."""
        backbone, store = problem.network()
        train = _ordered(splits.train, backbone.modality)
        raw = store.get(train.inputs).astype(np.float64)
        targets = problem.targets(train)
        found = [raw]
        if target is not None:
            target = _ordered(target, backbone.modality)
            found.append(store.get(target.inputs).astype(np.float64))
        if target is None or standardise == "source":
            scales = [_scale(raw)] * 2
        elif standardise == "joint":
            scales = [_scale(np.concatenate(found))] * 2
        else:
            scales = [_scale(part) for part in found]
        (mean, spread), other = scales[0], None if target is None else (found[1] - scales[1][0]) / scales[1][1]
        return Domains(
            train,
            (raw - mean) / spread,
            targets,
            problem.weights(train, targets),
            np.zeros((0, raw.shape[1])) if other is None else other,
            *scales[1],
            " ".join(hash_of(data) for data in (train, target) if data is not None),
        )

    def class_shares(self, kind: str, classes: int) -> Floats:
        """q, (K,): what share of the target each class is thought to have."""
        if kind == "even":
            return np.full(classes, 1 / classes)
        return np.asarray(np.bincount(self.targets, self.weights, classes) / self.weights.sum())

    def fold(self, head: BottleneckHead) -> None:
        """Make the head take raw rows."""
        head.fold(torch.from_numpy(self.mean), torch.from_numpy(self.spread))


def check_standardise(value: str) -> None:
    """Refuse what is no way of standardising."""
    if value not in STANDARDISE:
        raise unknown("standardise", value, STANDARDISE)


def check_shares(value: str) -> None:
    """Refuse what is no way of guessing class shares."""
    if value not in SHARES:
        raise unknown("class_shares", value, SHARES)


def _scale(features: Floats) -> tuple[Floats, Floats]:
    scaling = Scaling.of(features)
    return scaling.mean, scaling.spread / math.sqrt(max(1, features.shape[1]))


def _ordered(data: Data, modality: str) -> Data:
    """The rows by a hash of their content, then their label, so that another order of the same rows is the same fit."""
    labels = data.labels or ("",) * len(data)
    keys = [(key_of(x, modality), repr(y)) for x, y in zip(data.inputs, labels, strict=True)]
    return data.take(sorted(range(len(data)), key=lambda i: keys[i]))


def as_device(values: Floats, device: str) -> Tensor:
    """Codes as int64, all else as float32."""
    kind = torch.long if values.dtype.kind in "iu" else torch.float32
    return torch.as_tensor(values, dtype=kind, device=device)
