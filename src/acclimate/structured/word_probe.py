"""The head of tagging fitted at once: a logistic regression on the frozen hidden states of words."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from acclimate.backbones.base import budgeted
from acclimate.data.rows import Data
from acclimate.errors import plural
from acclimate.features import TOKENS_A_BATCH, to_device
from acclimate.metrics.intervals import FloatArray, IntArray
from acclimate.run import Run
from acclimate.strategies.probe import STRENGTHS
from acclimate.structured.base import labels_of
from acclimate.structured.tag_network import TagNetwork
from acclimate.tasks import TASKS
from acclimate.tasks.heads import LinearHead
from acclimate.threads import few
from acclimate.train.links import link_of
from acclimate.train.solve import Axes, Rows, Scaling, minimise, path, without_unseen

MOST = 150_000  # words that are learned from; more change little, and take 8 bytes a feature each
FEW = 20_000  # words up to which C is chosen by folds, too: the few sentences held out would choose by chance
FOLDS = 5


def fit_head(network: TagNetwork, train: Data, valid: Data | None, run: Run) -> tuple[TagNetwork, str]:
    """min_W (1/n) Σ over words of cross-entropy + ‖W‖²/(2Cn) on standardised hidden states, C from a path by the words
    of `valid`, with few words by those of five folds of sentences, too; L-BFGS, as for rows (train/solve.py)."""
    features, codes, owner = words_read(network, train, run)
    at = np.sort(np.random.default_rng(run.seed).permutation(len(codes))[:MOST])
    said = "" if len(at) == len(codes) else f"; {len(at):,} of {len(codes):,} words were learned from"
    features, codes, owner = features[at], codes[at], owner[at]
    learn = np.ones(len(codes), bool)
    if valid is not None and len(valid):
        more, theirs, _ = words_read(network, valid, run)
        known = theirs >= 0
        features, codes = np.concatenate([features, more[known]]), np.concatenate([codes, theirs[known]])
        learn = np.concatenate([learn, np.zeros(int(known.sum()), bool)])
    scaling, width = Scaling.of(features[learn]), len(network.tags)
    head = LinearHead(features.shape[1], width).double()
    rows = Rows(scaling.apply(features), None, learn.astype(np.float64))
    link, axes, strength = link_of(TASKS["classify"], codes, width), Axes.of(rows), 1.0
    with few(4.0 * len(rows) * features.shape[1] * width + 1.0):
        fit_on, judge_on = _masks(learn, owner, codes, run.seed)
        if judge_on.any():
            strength = STRENGTHS[int(np.argmin(path(head, rows, link, STRENGTHS, fit_on, judge_on, axes)))]
        minimise(head, rows, link, strength, axes)
    scaling.fold_into(head)
    found = copy.copy(network)
    found._modules = {**network._modules, "head": copy.deepcopy(network.head)}
    linear = found.head[-1]  # type: ignore[index]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.copy_(head.weight.float())
        linear.bias.copy_(head.bias.float())
    return found.eval(), f"linear_probe: C = {strength:g} on {plural(int(learn.sum()), 'word')}{said}"


def _masks(learn: NDArray[np.bool_], owner: IntArray, codes: IntArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """Which words (n, P) each fit of the path learns from and is judged on; the last one learns from all to learn from.
    `owner` is the sentence of each word to learn from; no fit is judged on a tag that it never saw."""
    n = len(learn)
    fit_on, judge_on = [], []
    if len(owner) <= FEW and len(np.unique(owner)) >= 2 * FOLDS:
        sentences, at = np.unique(owner, return_inverse=True)
        fold = (np.random.default_rng(seed).permutation(len(sentences)) % FOLDS)[at.reshape(-1)]
        for k in range(FOLDS):
            out = np.zeros(n, bool)
            out[: len(owner)] = fold == k
            fit_on.append(learn & ~out)
            judge_on.append(out)
    fit_on.append(learn)
    judge_on.append(~learn)
    fits = np.stack(fit_on, 1).astype(np.float64)
    return fits, without_unseen(codes, fits, np.stack(judge_on, 1).astype(np.float64))


def words_read(network: TagNetwork, data: Data, run: Run) -> tuple[FloatArray, IntArray, IntArray]:
    """Hidden states (m, d) of all words of all rows, their codes (m,), −1 where a tag is not known, and their rows."""
    encoded = network.encode(data.inputs, labels_of(data))
    backbone = network.backbone.to(run.device).eval()
    states: list[FloatArray] = []
    codes: list[IntArray] = []
    owner: list[IntArray] = []
    with torch.inference_mode(), run.progress.steps("words", len(encoded)) as advance:
        for at in budgeted([row.cost for row in encoded], TOKENS_A_BATCH, 256):
            batch = to_device(network.collate([encoded[i] for i in at]), run.device)
            states.append(network.states(batch).float().cpu().numpy())
            codes.append(batch["tags"].cpu().numpy())
            owner.append(np.asarray(at)[batch["of_row"].cpu().numpy()])
            advance(len(at))
    backbone.cpu()
    found = np.concatenate(codes)
    return np.concatenate(states), np.where(found < 0, -1, found), np.concatenate(owner)
