"""How far tuning took features away from the pretrained ones."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch

from acclimate.backbones.base import Backbone
from acclimate.data.rows import Data
from acclimate.features import extract
from acclimate.run import Run
from acclimate.strategies.base import Problem
from acclimate.tasks.base import Floats, Network
from acclimate.tasks.heads import Head

_ROWS = 200  # enough to tell .9 from .95
_FEWEST = 32  # where training was short
_PART = 24  # of so many rows that training read one is read again: some 3 % of its time
_JUDGED = 500  # source rows held out


def linear_cka(x: Floats, y: Floats) -> float:
    """‖Ȳᵀ X̄‖²/(‖X̄ᵀ X̄‖·‖Ȳᵀ Ȳ‖), Frobenius norms of centred features: 1 where one is the other turned or scaled.

    Kornblith et al. 2019 (arXiv:1905.00414), section 3. NaN where either does not vary. With fewer rows than features
    it is nearer to 1 than with many.

    >>> x = np.array([[0.0, 0], [1, 0], [0, 1]])
    >>> round(linear_cka(x, x @ np.array([[0.0, -2], [2, 0]])), 6)
    1.0
    """
    x, y = (np.asarray(part, np.float64) - np.asarray(part, np.float64).mean(0) for part in (x, y))
    ours, theirs = x @ x.T, y @ y.T  # n × n: n is small, and d may be thousands
    scale = np.linalg.norm(ours) * np.linalg.norm(theirs)
    return float((ours * theirs).sum() / scale) if scale > 0 else float("nan")


def mean_cosine(x: Floats, y: Floats) -> float:
    """E_i[cos(x_i, y_i)]; a row that is zero in either has 0.

    >>> mean_cosine(np.array([[1.0, 0], [0, 1]]), np.array([[2.0, 0], [1, 0]]))
    0.5
    """
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    products = np.asarray((x * y).sum(1), np.float64)
    return float(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).mean())


def forgetting(problem: Problem, tuned: Backbone, data: Data, epochs: int, run: Run) -> str:
    """One sentence; none where the time is up, rows are too few, or nothing was pretrained."""
    if len(data) < 3 or run.left() <= 0 or not problem.network()[0].pretrained:
        return ""
    most = min(_ROWS, max(_FEWEST, epochs * len(data) // _PART))
    at = np.sort(np.random.default_rng(run.seed).permutation(len(data))[:most])
    rows = [data.inputs[i] for i in at]
    before = np.asarray(problem.network()[1].get(rows), np.float64)
    after = np.asarray(extract(tuned, rows, run, nullcontext(_unseen)), np.float64)
    return (
        f"features of {len(rows):,} training rows before and after tuning: linear CKA {linear_cka(before, after):.3f}, "
        f"mean cosine {mean_cosine(before, after):.3f} (1: nothing of the pretrained encoder was forgotten)"
    )


def source_kept(problem: Problem, first: Head, tuned: Network, held_out: Data, run: Run) -> str:
    """One sentence: how the source is answered now, where the model is made for a target, and how it was by the head
    `first` on the frozen encoder."""
    if problem.task.name not in ("classify", "ordinal") or not len(held_out) or run.left() <= 0:
        return ""
    data = held_out.take(range(min(len(held_out), _JUDGED)))
    truth = problem.targets(data)
    before = problem.network()[1].get(data.inputs)
    after = extract(tuned.backbone, data.inputs, run, nullcontext(_unseen))
    right = []
    for head, features in ((first, before), (tuned.head, after)):
        with torch.inference_mode():
            logits = head(torch.from_numpy(features).to(next(head.parameters()).device)).double().cpu().numpy()
        decided = problem.task.decide(problem.task.outputs(logits, problem.decoder), problem.decoder)
        right.append(float(np.mean(decided == truth)))
    return (
        f"of {len(data):,} source rows held out the probe on the frozen encoder answered {right[0]:.3f} rightly, and "
        f"the tuned model answers {right[1]:.3f}"
    )


def _unseen(done: int) -> None:
    """Progress of what takes little time."""
