"""In-context learning of tables: a pretrained network reads the labelled rows, and nothing is fitted."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.errors import UserError, plural
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.tasks.in_context import InContextHead

MOST = 10_000  # rows of context; of more, some at random


@dataclass(frozen=True)
class InContext:
    """p(y | f) = softmax g(f, {(f_i, y_i)}), g a TabICL whose weights lie in a file; θ does not move.

    Qu et al. 2025 (arXiv:2502.05564). Needs the package tabicl (BSD-3-Clause) and a file of weights, as its authors
    publish it, whose licence is its own. One pass over the columns as numbers, without the ensemble of shuffled columns
    that its own wrapper makes.

    Use when: rows of a table, classes, some thousand rows at most, and such weights at hand. Prefer `boosting` without.
    """

    weights: str = ""  # the file of weights, a .ckpt of tabicl
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Lay the training rows beside the network."""
        if problem.task.name != "classify" or splits.train.kind != "table":
            raise UserError(
                f"in_context tells classes of rows of a table, and here are {splits.train.kind} and {problem.task.name}"
            )
        at = np.random.default_rng(run.seed).permutation(len(splits.train))[:MOST]
        train = splits.train.take(np.sort(at))
        features = problem.network()[1].get(train.inputs)
        present, codes = np.unique(problem.targets(train).astype(int), return_inverse=True)
        config, state = _weights(self.weights)
        most = int(config.get("max_classes", 10))
        if len(present) > most:
            raise UserError(f"the network in {self.weights} tells {most} classes apart, and there are {len(present)}")
        width = problem.task.width(problem.decoder)
        head = InContextHead(features.shape[1], width, len(train), len(present), config)
        try:
            head.network.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(
                f"{self.weights} does not hold the weights of a TabICL of its own config: {error}"
            ) from error
        head.context.copy_(torch.from_numpy(features))
        head.codes.copy_(torch.from_numpy(codes))
        head.present.copy_(torch.from_numpy(present))
        notes = [f"in_context: {plural(len(train), 'row')} are the context of {Path(self.weights).name}"]
        if train.weights is not None or problem.class_weight is not None:
            notes.append("in_context: weights of rows and of classes do not count")
        return Predictor(
            problem.task, problem.decoder, head, problem.backbone, None, "in_context", {"weights": self.weights},
            notes=tuple(notes),
        )  # fmt: skip


def _weights(path: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Config and weights of a file, read without running anything in it."""
    if not path:
        raise UserError(
            "in_context needs a file of TabICL's weights: --set weights=FILE (none can be fetched from here)"
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        return dict(found["config"]), dict(found["state_dict"])
    except (OSError, pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{path} cannot be read as weights of TabICL: {first}; give the .ckpt file itself") from error
