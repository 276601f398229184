"""Domain adaptation on frozen features without a gradient: source rows are moved, or weighted, towards the target."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from acclimate.data.rows import Data
from acclimate.errors import UserError, unknown
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.shallow import SHALLOW, Adapter, Reweighter
from acclimate.shallow.base import SOURCE, TARGET
from acclimate.strategies.alignment import check_weight
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.probe import Probe
from acclimate.tasks.base import Floats
from acclimate.tasks.heads import Head, LinearHead, OrdinalHead

# Those that leave the target's features as they are or change them linearly: a linear head can then take them in.
MAPS = ("none", "standardise", "coral", "linear_ot", "subspace", "gfk", "entropic_ot")
MATCHED = ("standardise", "coral", "linear_ot", "entropic_ot")  # those that give both domains the same spread
WEIGHTS = ("density_ratio", "kmm", "kliep", "nearest_neighbour")


@dataclass(frozen=True)
class Mapped:
    """A probe on source features that were moved onto the target's, or weighted to look like them.

    min_W Σ_i w_i ℓ(W T_s(f_i), y_i) + ‖W‖²/(2C), used on T_t(f) = A f + b, which is folded into W. T and w come from
    the features of both domains alone (`acclimate.shallow`, where each map's formula and source stand). Where T
    matches spreads, moved features are standardised by those of both domains: a column that hardly varies in the source
    cannot be given the target's spread, and by the source's alone it would be blown up in the target.

    Use when: both domains hold about the same share of each class, and seconds are all the time there is. Prefer
    `self_train` for more; prefer `linear_probe` where class shares may differ: moving the features then moves classes.
    """

    by: str = "standardise"  # standardise | coral | linear_ot | subspace | gfk | entropic_ot | density_ratio | ...
    strength: float | None = None  # C; None: chosen on folds of the source
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.by not in (*MAPS[1:], *WEIGHTS):
            raise unknown("by", self.by, (*MAPS[1:], *WEIGHTS))

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Move or weight, then fit a probe."""
        target = unlabelled(splits, self.by)
        probe, store = Probe(strength=self.strength), problem.network()[1]
        theirs = store.get(target.inputs)
        if self.by in WEIGHTS:
            weights, note = weights_of(self.by, store.get(splits.train.inputs), theirs)
            given = splits.train.weights
            train = replace(splits.train, weights=weights if given is None else given * weights)
            fitted = probe.fit(problem, replace(splits, train=train), run)
            return replace(fitted, strategy=self.by, settings=settings_of(self), notes=(*fitted.notes, note))
        move = map_of(self.by, store.get(splits.train.inputs), theirs)
        there = _moved(move, theirs, TARGET) if self.by in MATCHED else None
        fitted = probe.fitted(problem, splits, run, lambda raw: _moved(move, raw, SOURCE), there)
        take_in(move, fitted.head, theirs.shape[1])
        return replace(fitted, strategy=self.by, settings=settings_of(self))


@dataclass(frozen=True)
class SelfTrain:
    """Class-balanced self-training: the model's surest answers on target rows become labels, more of them every round.

    min_W L_source(W) + λ L_target(W), L_target the mean loss of rows with pseudo-labels: of class k the ⌈q m π_k⌉
    target rows with the highest p_k, q from 1/R to 1 · `share` over R rounds, π the source's class shares. Zou et al.
    2018 (arXiv:1810.07911), with quotas in place of thresholds; features first standardised within each domain.

    Use when: class shares are alike in both domains; it gained most of all methods without gradients on such pairs.
    Prefer `linear_probe` where they may differ: the quotas then force wrong labels.
    """

    by: str = "standardise"  # none | standardise | coral | linear_ot | subspace | gfk | entropic_ot, before round 1
    rounds: int = 5
    share: float = 1.0  # of the target rows that have a pseudo-label in the last round
    weight: float = 1.0  # λ
    strength: float | None = None
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.by not in MAPS:
            raise unknown("by", self.by, MAPS)
        if self.rounds < 1:
            raise UserError(f"rounds={self.rounds!r} must be 1 or more")
        if not 0 < self.share <= 1:
            raise UserError(f"share={self.share!r} must be above 0 and at most 1")
        check_weight(self.weight, "constant")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Fit on the source, then on source and pseudo-labels, round by round."""
        if problem.task.name != "classify":
            raise UserError(f"self_train labels target rows with classes, and the task is {problem.task.name}")
        target, store = unlabelled(splits, "self_train"), problem.network()[1]
        ours, theirs = store.get(splits.train.inputs), store.get(target.inputs)
        move = map_of(self.by, ours, theirs)
        fitted = self._fitted(problem, splits, move, 0, self.strength, run)
        strength = float(fitted.settings["strength"])  # chosen once, where labels are true
        shares = _class_shares(problem, splits.train)
        for number in range(1, self.rounds + 1 if self.weight else 1):
            logits = _on(fitted.head, theirs, move)
            wanted = pseudo_labels(logits, shares, self.share * number / self.rounds)
            both = _with_pseudo(problem, splits.train, target, wanted, self.weight)
            fitted = self._fitted(problem, replace(splits, train=both), move, len(splits.train), strength, run)
        take_in(move, fitted.head, theirs.shape[1])
        return replace(fitted, strategy="self_train", settings=settings_of(self) | {"strength": strength})

    def _fitted(
        self, problem: Problem, splits: Splits, move: Adapter | None, ours: int, strength: float | None, run: Run
    ) -> Predictor:
        """A probe on moved features; training rows from number `ours` on (if not 0) are the target's."""
        assert splits.target is not None
        theirs = problem.network()[1].get(splits.target.inputs)
        there = _moved(move, theirs, TARGET) if self.by in MATCHED else None

        def change(raw: Any) -> Any:
            sides = np.zeros(len(raw), int)
            if ours:
                sides[ours : len(splits.train)] = TARGET
            return _moved(move, raw, sides)

        return Probe(strength=strength).fitted(problem, splits, run, change, there)


def pseudo_labels(logits: Floats, shares: Floats, quota: float) -> dict[int, int]:
    """Target row -> class: for each class the ⌈quota · m · share⌉ rows with the highest probability, the surest first.

    A row wanted by two classes goes to the one that is surer.

    >>> pseudo_labels(np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]]), np.array([0.5, 0.5]), 0.6)
    {0: 0, 2: 1}
    """
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    found: dict[int, int] = {}
    for k, share in enumerate(shares):
        count = int(np.ceil(quota * len(p) * share - 1e-9))
        for row in np.argsort(-p[:, k], kind="stable")[:count].tolist():
            if row not in found or p[row, k] > p[row, found[row]]:
                found[row] = k
    return dict(sorted(found.items()))


def map_of(name: str, source: Any, target: Any) -> Adapter | None:
    """The fitted map; nothing for "none"."""
    if name == "none":
        return None
    made: Any = SHALLOW[name]()
    domain = np.repeat([SOURCE, TARGET], [len(source), len(target)])
    found: Adapter = made.fit(np.concatenate([source, target]), domain=domain)
    return found


def take_in(move: Adapter | None, head: Head, width: int) -> None:
    """Rewrite a linear head on moved features so that it takes the target's raw ones: W ← W A, b ← b + W b_A."""
    if move is None:
        return
    assert isinstance(head, (LinearHead, OrdinalHead))
    matrix, offset = linear_of(move, width)
    with torch.no_grad():
        weight = head.weight.double()
        shift = weight @ torch.from_numpy(offset)
        head.weight = torch.nn.Parameter((weight @ torch.from_numpy(matrix)).to(head.weight.dtype))
        if isinstance(head, OrdinalHead):
            head.first.sub_(shift)
        else:
            head.bias.add_(shift)
    head.shape["width"] = width


def linear_of(move: Adapter, width: int) -> tuple[Floats, Floats]:
    """A (k, d) and a (k,) of a map's target side f ↦ A f + a."""
    offset = move.transform(np.zeros((1, width)), domain=TARGET)
    columns = move.transform(np.eye(width), domain=TARGET) - offset  # (d, k): row i is what feature i alone adds
    return columns.T, offset[0]


def _moved(move: Adapter | None, raw: Any, side: Any) -> Any:
    return raw if move is None else move.transform(raw, domain=side)


def _on(head: Head, features: Any, move: Adapter | None) -> Floats:
    """Logits of target rows of a head on moved features."""
    rows = _moved(move, features, TARGET)
    with torch.inference_mode():
        return np.asarray(head(torch.from_numpy(np.asarray(rows, np.float32))).double().numpy())


def weights_of(name: str, source: Any, target: Any) -> tuple[Floats, str]:
    """What each source row counts, (n,), and a sentence on what they are worth together."""
    made: Any = SHALLOW[name]()
    domain = np.repeat([SOURCE, TARGET], [len(source), len(target)])
    found: Reweighter = made.fit(np.concatenate([source, target]), domain=domain)
    note = f"{name}: the weighted source rows are worth {found.effective_rows_:.0f} of {len(source):,} rows"
    return np.asarray(found.weights_[: len(source)]), note


def _class_shares(problem: Problem, data: Data) -> Floats:
    codes = problem.targets(data).astype(int)
    weights = np.ones(len(codes)) if data.weights is None else data.weights
    counts = np.bincount(codes, weights, problem.task.width(problem.decoder))
    return np.asarray(counts / counts.sum())


def _with_pseudo(problem: Problem, source: Data, target: Data, wanted: dict[int, int], weight: float) -> Data:
    """Source rows and labelled target rows, weighted so that their losses are L_source + λ L_target."""
    rows = target.take(list(wanted))
    ours = np.ones(len(source)) if source.weights is None else source.weights
    theirs = np.full(len(rows), weight * ours.sum() / max(1, len(rows)))
    labels = tuple(problem.decoder.classes[k] for k in wanted.values())
    return Data(
        (*source.inputs, *rows.inputs), (*(source.labels or ()), *labels), np.concatenate([ours, theirs]),
        source=source.source, kind=source.kind,
    )  # fmt: skip


def settings_of(strategy: Any) -> dict[str, Any]:
    """What a strategy was made with, as plain JSON."""
    return {field.name: getattr(strategy, field.name) for field in dataclasses.fields(strategy) if field.init}
