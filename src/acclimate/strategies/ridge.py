"""Feature extraction by squared error: one decomposition of the features gives the head and every left-out error."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from acclimate.errors import UserError
from acclimate.metrics.calibration import fit_temperature
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.strategies.neighbours import as_answers
from acclimate.strategies.probe import Known, ridge_strength, tied
from acclimate.tasks.base import Floats
from acclimate.tasks.heads import Head, LinearHead, OrdinalHead
from acclimate.threads import few
from acclimate.train import ridge
from acclimate.train.links import link_of
from acclimate.train.solve import Rows, minimise


@dataclass(frozen=True)
class RidgeProbe:
    """A linear head by squared error on frozen features: min_W Σ w_i ‖W f_i − y_i‖² + ‖W‖²/(2C), in closed form.

    Hoerl & Kennard 1970; C by exact leave-one-out (Allen 1974), a row left out with its duplicates and its group.
    Classes are ±1, and one temperature, from the left-out scores, turns scores into probabilities; ordered classes are
    ranks, cut by proportional odds. L(θ) = L_source(θ) with only the head's θ moving.

    Use when: there are very many classes or rows, and the fit must cost one decomposition. Prefer `linear_probe` for
    the better probabilities; for regression the two are the same.
    """

    strength: float | None = None  # C; None: chosen by leave-one-out
    inner_folds: int = 4  # where rows have times or large groups, which cannot be left out one by one
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.strength is not None and not self.strength > 0:
            raise UserError(f"strength {self.strength!r} must be above 0; it is C in Σ error² + ‖W‖²/(2C)")
        if self.inner_folds < 2:
            raise UserError(f"inner_folds={self.inner_folds!r} must be 2 or more")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Decompose, choose C, and scale the scores."""
        known = Known.of(problem, splits, True, None)
        learn, features = len(splits.train), known.rows.features
        answers = _answers(problem, known.targets)
        with few(8.0 * features.size * features.shape[1]):
            fitted = ridge.Ridge.of(features[:learn], answers[:learn], known.rows.weights[:learn])
            strength = self.strength or ridge_strength(
                fitted, features, answers, known.judging, splits.train, problem.task.name, self.inner_folds, run.seed
            )
            weight, bias = fitted.head(strength)
            unit = tied(splits.train)
            left_out = fitted.targets - next(fitted.errors([strength], np.arange(learn) if unit is None else unit))
            head = _scaled(problem, weight, bias, left_out, known.targets[:learn], fitted.weights)
        known.scaling.fold_into(head)
        return Predictor(
            problem.task,
            problem.decoder,
            head.float(),
            problem.backbone,
            None,
            "ridge",
            {"strength": strength, "inner_folds": self.inner_folds},
            tuple(f"head.{n}" for n, _ in head.named_parameters()),
            notes=(f"ridge: C = {strength:g}",),
        )


def _answers(problem: Problem, targets: Floats) -> Floats:
    """What squared error is taken to: values, ranks of mean 0 and spread 1, or ±1 for every class, (n, k)."""
    if problem.task.name == "regress":
        return targets[:, None]
    if problem.task.name == "ordinal":
        return 2.0 * targets[:, None] / (len(problem.decoder.classes) - 1) - 1
    if np.isnan(targets).any():
        raise UserError(
            f"ridge needs every label cell, and {int(np.isnan(targets).sum()):,} are empty; use linear_probe, which "
            "leaves them out"
        )
    return 2.0 * as_answers(problem, targets).double().numpy() - 1


def _scaled(problem: Problem, weight: Floats, bias: Floats, left_out: Floats, truth: Floats, weights: Floats) -> Head:
    """A head whose scores are logits: scaled so that the left-out rows have the least loss."""
    task, width, outputs = problem.task, len(weight), problem.task.width(problem.decoder)
    if task.name == "ordinal":
        cut, link = OrdinalHead(1, outputs).double(), link_of(task, truth, outputs)
        minimise(cut, Rows(left_out, None, weights), link, 1e3)
        slope, _, free = link.read(cut)
        ordered = OrdinalHead(width, outputs).double()
        free[0] -= float(bias[0] * slope[0, 0])  # the first threshold carries the others with it
        link.write(ordered, weight * slope, np.zeros((0, 1)), free)
        return ordered
    heat = 1.0 if task.name == "regress" else fit_temperature(left_out, truth, weights)
    head = LinearHead(width, outputs).double()
    head.weight.data.copy_(torch.from_numpy(weight.T / heat))
    head.bias.data.copy_(torch.from_numpy(bias / heat))
    return head
