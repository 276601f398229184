"""Gradient boosting on plain features, such as a table's columns: what they give without transfer; on features of a
pretrained network; and in front of it what domain adaptation can do without a gradient."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from acclimate.data.kinds import kind_of
from acclimate.data.rows import Data
from acclimate.errors import UserError, plural, unknown
from acclimate.model import Predictor
from acclimate.plain import Plain, fit_plain
from acclimate.plain.fingerprints import FingerprintFeatures
from acclimate.run import Run
from acclimate.shallow.base import SOURCE, Adapter
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.mapped import WEIGHTS, linear_of, map_of, settings_of, weights_of
from acclimate.strategies.probe import inner
from acclimate.tasks.base import Floats, Task
from acclimate.tasks.trees import TreesHead
from acclimate.train.boost import Growth, Rows, boosted

LEAVES = (3, 16)  # few rows want small trees, many rows with columns that act together larger ones
FRONT = ("standardise", "coral", "linear_ot")  # maps that leave the columns of the target what they are
Read: TypeAlias = Callable[[Data], Floats]  # features (n, d) of rows
_TRIED, _FEWEST = 5, 10  # rounds that are timed where there is a limit, and that are made in any case
_OF_TIME = 0.1  # of the time left that one fit may take: there are folds of folds, and others to judge
CELLS, ROUNDS = 2_000_000, 100  # of fingerprints: cells that trees read, and rounds
_FEW = 50  # rounds where nothing can be held out to choose by


@dataclass(frozen=True)
class Boosting:
    """Gradient boosting: s ← s + η·tree, each tree fitted to the loss's slope and curvature; rounds chosen on folds.

    min_s Σ w_i ℓ(s(f_i), y_i), s = b + Σ_t η·tree_t(f). Friedman 2001 (Annals of Statistics 29), on histograms as in
    Ke et al. 2017 (LightGBM, NeurIPS), by scikit-learn; missing cells go to the side of a split that serves them best.
    The number of rounds, and of leaves where it is not given, has the least loss on inner folds or the rows to choose
    by. `by` adapts it to target rows without labels: weights of source rows (density_ratio, kmm, kliep,
    nearest_neighbour) or a map of the features (standardise, coral, linear_ot), `acclimate.shallow`. With `features`
    the trees read those of the frozen network, the first principal axes of them; of a table its columns as they are,
    and the axes of its text. Of molecules nothing is chosen, and for classes the trees ask which bits of a fingerprint
    are there; for values they read them divided by the row's length, which says something of a molecule's size.

    Use when: rows of a table, always: it is what a network has to beat there, as of molecules. Prefer `linear_probe`
    below about 100 rows, and where the target lies outside of the source's range: trees stay flat there.
    """

    by: str = "none"  # none | standardise | coral | linear_ot | density_ratio | kmm | kliep | nearest_neighbour
    features: bool = False  # of the pretrained network, in the place of plain ones
    axes: int = 32  # of these features that trees read, where there are more
    learning_rate: float = 0.1  # η
    rounds: int | None = None  # None: chosen, of fingerprints 100
    most_rounds: int = 150  # to choose from
    leaves: int | None = None  # of a tree; None: chosen, of fingerprints 16
    least: int | None = None  # rows in a leaf; None: a tenth of the rows, from 2 to 10, of fingerprints one
    penalty: float = 1.0  # on the squares of a leaf's value
    share: float | None = None  # of the features that a split may choose from; None: 0.3, of fingerprints 0.05
    inner_folds: int = 4
    # Columns that trees read: of more, those that go best with the labels, each by itself. None: 500, of fingerprints
    # as many as make 2,000,000 cells, and 500 at least.
    most_columns: int | None = None
    needs_backbone: bool = field(default=False, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs_backbone", self.features)
        if self.by not in ("none", *FRONT, *WEIGHTS):
            raise unknown("by", self.by, ("none", *FRONT, *WEIGHTS))
        for name in ("learning_rate", "rounds", "most_rounds", "leaves", "least", "share", "most_columns", "axes"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)!r} must be above 0")
        if self.share is not None and self.share > 1:
            raise UserError(f"share={self.share!r} must be at most 1")
        for name, least in (("penalty", 0), ("inner_folds", 2)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)!r} must be {least} or more")
        if self.leaves is not None and self.leaves < 2:
            raise UserError(f"leaves={self.leaves!r} must be 2 or more")

    @property
    def adapts(self) -> bool:
        """Whether target rows are read."""
        return self.by != "none"

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Choose rounds and leaves on rows left out, then boost on all training rows."""
        read, plain, axes = self._reader(problem, splits)
        bits = plain is not None and plain.kind == FingerprintFeatures.kind
        fitted = self._for(bits, len(splits.train))._fitted(problem, splits, run, read, plain, axes, bits)
        chosen = {name: fitted.settings[name] for name in ("leaves", "rounds")}  # what only stood for None stays None
        return replace(fitted, settings=settings_of(self) | chosen)

    def _for(self, bits: bool, rows: int) -> Boosting:
        """With what stands for None. Bits of which each says little want large, many and various trees, whatever the
        number of rows: choosing on folds was no better on molecules, and took up to four times as long."""
        few = max(2, min(10, rows // 10))
        return replace(
            self,
            leaves=16 if self.leaves is None and bits else self.leaves,
            most_rounds=min(self.most_rounds, ROUNDS) if bits else self.most_rounds,
            share=self.share or (0.05 if bits else 0.3),
            least=self.least or (1 if bits else few),
            most_columns=self.most_columns or (max(500, CELLS // max(1, rows)) if bits else 500),
        )

    def _fitted(
        self, problem: Problem, splits: Splits, run: Run, read: Read, plain: Plain | None, axes: _Axes | None,
        bits: bool,
    ) -> Predictor:  # fmt: skip
        notes: list[str] = []
        moves: _Moves | None = None
        if self.by in WEIGHTS:
            splits, note = self._weighted(splits, read)
            notes.append(note)
        elif self.adapts:
            target = unlabelled(splits, f"boosting by {self.by}")
            moves = _Moves.of(self.by, read(splits.train), read(target))
        train = _rows(problem, splits.train, read, moves)
        if bits and self.leaves is not None:
            leaves, rounds = self.leaves, self.rounds or self._affordable(train, problem.task, 1, run)
        else:
            leaves, rounds = self._chosen(problem, splits, train, read, moves, run)
        ensemble = boosted(train, problem.task, self._growth(leaves, rounds, run.seed))
        head = ensemble.head(train.features.shape[1], problem.task.width(problem.decoder), train.features)
        if moves is not None:
            head = moves.before(head, axes)
        elif axes is not None:
            head = head.with_move(np.zeros(axes.matrix.shape[1]), axes.matrix, axes.offset, keeps_missing=False)
        settings = {**settings_of(self), "leaves": leaves, "rounds": rounds}
        notes.append(f"boosting: {plural(rounds, 'round')} of trees with {plural(leaves, 'leaf', 'leaves')}")
        if (width := train.features.shape[1]) > self.most_columns:
            notes.append(
                f"of {width:,} features trees read the {self.most_columns:,} that go best with the labels, each by "
                "itself (--set most_columns)"
            )
            run.progress.say_once(f"boosting: {notes[-1]}")
        name = "adapted_boosting" if self.adapts else "feature_boosting" if self.features else "boosting"
        backbone = problem.backbone if self.features else None
        return Predictor(
            problem.task, problem.decoder, head, backbone, plain, name, settings, notes=tuple(notes),
        )  # fmt: skip

    def _reader(self, problem: Problem, splits: Splits) -> tuple[Read, Plain | None, _Axes | None]:
        """What gives the features of rows, before any map; plain features and axes, where those are read by them."""
        if self.features:
            backbone, store = problem.network()
            axes = _Axes.of(store.get(splits.to_read), backbone.cells, self.axes)
            return (lambda data: axes.of_features(store.get(data.inputs))), None, axes
        kind = kind_of(splits.train)
        plain = fit_plain(kind.name, splits.to_read, self.most_columns or 500)
        if plain is None or not plain.width:
            raise UserError(f"no {kind.noun} holds anything that boosting could learn from")
        # How many bits a molecule has says something of its size, which values may go with.
        bits = plain.kind == FingerprintFeatures.kind and problem.task.name != "regress"
        return partial(_bits if bits else _features, plain), plain, None

    def _weighted(self, splits: Splits, read: Read) -> tuple[Splits, str]:
        """Source rows that count by how much they look like the target; what is missing counts as a feature there."""
        target = unlabelled(splits, f"boosting by {self.by}")
        ours, theirs = _complete(read(splits.train), read(target))
        weights, note = weights_of(self.by, ours, theirs)
        given = splits.train.weights
        train = replace(splits.train, weights=weights if given is None else given * weights)
        return replace(splits, train=train), note

    def _chosen(
        self, problem: Problem, splits: Splits, train: Rows, read: Read, moves: _Moves | None, run: Run
    ) -> tuple[int, int]:
        """Leaves and rounds: those given, and of the others those with the least loss on rows left out."""
        if self.leaves is not None and self.rounds is not None:
            return self.leaves, self.rounds
        task, outputs, chosen_by = problem.task, problem.task.width(problem.decoder), problem.held_out(splits)
        if chosen_by is not None:
            parts = [(train, _rows(problem, chosen_by, read, moves))]
        else:
            pairs = inner(splits.train, problem.task.name, self.inner_folds, run.seed)
            parts = [(train.take(a), train.take(b)) for a, b in pairs]
        sizes = LEAVES if self.leaves is None else (self.leaves,)
        most = self._affordable(train, task, len(sizes) * len(parts) + 1, run)
        best = (np.inf, sizes[0], self.rounds or min(_FEW, most))
        for leaves in sizes if most > _FEWEST else ():
            growth = self._growth(leaves, self.rounds or most, run.seed)
            losses = [boosted(a, task, growth).losses(b, task, outputs) for a, b in parts]
            if losses:
                total = np.sum(losses, axis=0)
                at = len(total) - 1 if self.rounds is not None else int(np.argmin(total))
                best = min(best, (float(total[at]), leaves, at + 1))
        return best[1], best[2]

    def _affordable(self, train: Rows, task: Task, fits: int, run: Run) -> int:
        """Rounds to choose from: `most_rounds`, or fewer where so many fits would take too much of the time left."""
        if run.deadline is None:
            return self.most_rounds
        name = f"boosting-{self.by}-{'features' if self.features else 'plain'}/rounds"
        most = int(run.once(name, lambda: self._timed(train, task, fits, run)))
        if most < 0.9 * self.most_rounds:
            run.progress.say_once(
                f"boosting: for the time limit at most {plural(most, 'round')} in the place of {self.most_rounds}"
            )
        return most

    def _timed(self, train: Rows, task: Task, fits: int, run: Run) -> int:
        start = time.monotonic()
        boosted(train, task, self._growth(self.leaves or max(LEAVES), _TRIED, run.seed))
        a_round = (time.monotonic() - start) / _TRIED
        return int(np.clip(_OF_TIME * run.left() / (a_round * fits), _FEWEST, self.most_rounds))

    def _growth(self, leaves: int, rounds: int, seed: int) -> Growth:
        assert self.least is not None and self.share is not None and self.most_columns is not None
        return Growth(rounds, leaves, self.learning_rate, self.least, self.penalty, self.share, seed, self.most_columns)


def _features(plain: Plain, data: Data) -> Floats:
    """In the precision that a saved model reads them in."""
    return np.asarray(plain.transform(data.inputs).toarray(), np.float32).astype(np.float64)


def _bits(plain: Plain, data: Data) -> Floats:
    """What is there as the least that it can be in a row of length one: trees then ask only whether it is there, and
    the saved ones as well, of rows as they are."""
    return np.asarray(np.minimum(_features(plain, data), plain.width**-0.5))


def _rows(problem: Problem, data: Data, read: Read, moves: _Moves | None) -> Rows:
    features = read(data)
    targets = problem.targets(data)
    return Rows(features if moves is None else moves.source(features), targets, problem.weights(data, targets))


@dataclass(frozen=True)
class _Axes:
    """The first features as they are, and of the others their places along the principal axes of the training rows."""

    matrix: Floats  # (m, d)
    offset: Floats  # (m,)

    @staticmethod
    def of(features: Any, cells: int, most: int) -> _Axes:
        """From training features (n, d), of which the first `cells` stay."""
        rest = np.asarray(features[:, cells:], np.float64)
        mean = rest.mean(0)
        axes = np.eye(rest.shape[1])
        if rest.shape[1] > most:
            values, vectors = np.linalg.eigh((rest - mean).T @ (rest - mean))
            axes = vectors.T[np.argsort(-values, kind="stable")[: min(most, len(rest))]]
        matrix = np.zeros((cells + len(axes), features.shape[1]))
        matrix[:cells, :cells], matrix[cells:, cells:] = np.eye(cells), axes
        return _Axes(matrix, np.concatenate([np.zeros(cells), -axes @ mean]))

    def of_features(self, features: Any) -> Floats:
        """(n, d) to (n, m)."""
        return np.asarray(features, np.float64) @ self.matrix.T + self.offset


@dataclass(frozen=True)
class _Moves:
    """A map of the features of both domains, with what is missing filled; by `standardise` it stays missing."""

    by: str
    adapter: Adapter
    fill: Floats  # (d,)

    @staticmethod
    def of(by: str, source: Any, target: Any) -> _Moves:
        fill = _medians(np.concatenate([source, target]).astype(np.float64))
        adapter = map_of(by, _filled(source, fill), _filled(target, fill))
        assert adapter is not None
        return _Moves(by, adapter, fill)

    def source(self, features: Floats) -> Floats:
        """Source rows as trees are to learn them."""
        moved = self.adapter.transform(_filled(features, self.fill), domain=SOURCE)
        return np.where(np.isnan(features), np.nan, moved) if self.by == "standardise" else moved

    def before(self, head: TreesHead, axes: _Axes | None) -> TreesHead:
        """The head with the target's part of the map in front of it, after the axes where there are some."""
        matrix, offset = linear_of(self.adapter, len(self.fill))
        if axes is None:
            return head.with_move(self.fill, matrix, offset, keeps_missing=self.by == "standardise")
        both, there = np.asarray(matrix) @ axes.matrix, np.asarray(matrix) @ axes.offset + np.asarray(offset)
        return head.with_move(np.zeros(both.shape[1]), both, there, keeps_missing=False)  # features have no gaps


def _complete(ours: Any, theirs: Any) -> tuple[Floats, Floats]:
    """Both domains with medians in the place of what is missing, and a column for each that misses something."""
    both = np.concatenate([ours, theirs]).astype(np.float64)
    missing = np.isnan(both)
    some = missing.any(0) & ~missing.all(0)
    wide = np.column_stack([_filled(both, _medians(both)), missing[:, some]])
    return wide[: len(ours)], wide[len(ours) :]


def _medians(rows: Floats) -> Floats:
    """Of each column, (d,); 0 where nothing is there."""
    empty = np.isnan(rows).all(0)
    return np.asarray(np.nanmedian(np.where(empty, 0.0, rows), axis=0))


def _filled(features: Any, fill: Floats) -> Floats:
    return np.where(np.isnan(features), fill, features.astype(np.float64))
