"""Few rows a class: the encoder is moved until rows of one class lie together, then a probe is fitted on it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate.backbones.base import Backbone
from acclimate.data.rows import Data, IntArray
from acclimate.errors import UserError, unknown
from acclimate.features import Store, extract
from acclimate.model import Predictor
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies.alignment import check_alone
from acclimate.strategies.base import Problem, Splits
from acclimate.strategies.inputs import Inputs
from acclimate.strategies.moving import Moving, alone, begun, descend, released
from acclimate.strategies.probe import Probe
from acclimate.strategies.tune import Tune
from acclimate.tasks.base import Network
from acclimate.train.loop import History

_TRIED = 5  # steps that tell how long one takes, after a first one that warms up
_READ = 32  # rows that are read to tell how long one takes


@dataclass(frozen=True)
class Contrast(Moving):
    """The encoder moves until rows of one class lie together; then `linear_probe` is fitted on what it gives.

    L = E_i[E_{j: y_j = y_i}(cos_ij − 1)² + E_{j: y_j ≠ y_i} cos_ij²] over the rows of a batch, cos_ij the cosine of
    their features: SetFit's loss of pairs (Tunstall et al. 2022, arXiv:2209.11055, section 3), of all pairs in a batch
    at the price of its rows. `loss`="supcon": the supervised contrastive loss with temperature τ instead (Khosla et al.
    2020, arXiv:2004.11362, equation 2). Every batch has about as many rows of each class (of `batch_size`/2 classes in
    turn, where there are more); which rows is drawn, pairs are never listed: memory grows with the rows, not with their
    square. L(θ) = L_source(θ) in two steps, first the backbone's θ, then the head's.

    Use when: 8 to some hundred texts a class; of pictures and sounds it was level with `linear_probe`, or lost. Prefer
    `linear_probe` with fewer rows, or in haste; prefer `full`, `lp_ft` or `lora` from about a thousand rows a class.
    """

    # Chosen on sentences of yelp and amazon (UCI 331) with 8 rows a class; with 64, on one draw of yelp.
    moves: str = "blocks"  # blocks: all of them, and what follows; | all | top:K | lora
    learning_rate: float = 1e-4
    loss: str = "cosine"  # cosine | supcon
    temperature: float = 0.3  # τ of supcon
    steps: int | None = None  # None: 10 to 100, as the root of the rows
    strength: float | None = None  # C of the probe; None: chosen

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)
        if self.batch_size < 2:
            raise UserError(f"batch_size={self.batch_size!r} must be 2 or more: rows of a batch are compared")
        if not self.temperature > 0:
            raise UserError(f"temperature={self.temperature!r} must be above 0")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"steps={self.steps!r} must be 1 or more")
        if self.moves == "surgical":
            raise UserError(
                "moves='surgical' reads the gradient of a fitted head, and contrastive has none yet; give top:K"
            )
        Probe(strength=self.strength)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Move a copy of the backbone, then fit the probe on what it gives."""
        _check(problem)
        base = problem.network()[0]
        head = problem.task.head(base.width, problem.decoder)
        with alone(run):
            tune, network, moved = begun(self.on(base), problem, head, splits.train, run)
            network.head.requires_grad_(False)
            history, notes = self._train(network, tune, problem, splits.train, run)
        names, *adapter = released(network, tune, splits.train, run)
        encoder = replace(problem, backbone=network.backbone, store=Store(network.backbone, replace(run, cache=None)))
        probe = Probe(strength=self.strength).fit(encoder, splits, run)
        network.backbone.cpu()
        settings = {**self.settings(), "strength": probe.settings["strength"]}
        return Predictor(
            problem.task, problem.decoder, probe.head, network.backbone, None, "contrastive", settings,
            (*names, *probe.trained), tuple(history), (*moved, *notes, *probe.notes), *adapter,
        )  # fmt: skip

    def takes(self, problem: Problem, data: Data, run: Run) -> tuple[float, float]:
        """Seconds of one fit on these rows and of reading one row afterwards, from a few real steps on a copy."""
        _check(problem)
        run = replace(run, progress=Progress(quiet=True), state=None)
        steps, base = self.steps or usual_steps(len(data)), problem.network()[0]
        drawn = draw(problem.targets(data).astype(int), self.batch_size, min(_TRIED, steps), run.seed)
        few = data.take(np.unique(np.concatenate(drawn)))
        took = [0.0]
        with alone(run):
            for tried in (1, _TRIED):
                start = time.monotonic()
                head = problem.task.head(base.width, problem.decoder)
                tune, network, _ = begun(self.on(base), problem, head, few, run)
                network.head.requires_grad_(False)
                replace(self, steps=tried)._train(network, tune, problem, few, run)
                took.append(time.monotonic() - start)
            start = time.monotonic()
            extract(network.backbone, few.inputs[:_READ], run)
            a_row = (time.monotonic() - start) / len(few.inputs[:_READ])
        return took[-1] / _TRIED * steps + a_row * len(data), a_row

    def tune(self, start: str = "zero", epochs: int | None = None) -> Tune:
        """Where "blocks" is not yet known to be a number of them, everything."""
        shown = replace(self, moves="all") if self.moves == "blocks" else self
        return Moving.tune(shown, start, epochs)

    def on(self, base: Backbone) -> Tune:
        """What moves in this backbone: of a text model word vectors stay, which few rows could hardly teach anything
        and which are half of the weights; where blocks are shared or single there is no telling, and all moves."""
        if self.moves != "blocks":
            return self.tune()
        return replace(self.tune(), moves=f"top:{len(base.blocks)}" if base.blocks else "all")

    def _train(self, network: Network, tune: Tune, problem: Problem, data: Data, run: Run) -> tuple[History, list[str]]:
        codes = problem.targets(data).astype(int)
        steps = self.steps or usual_steps(len(data))
        drawn = draw(codes, self.batch_size, steps, run.seed)
        few, places = np.unique(np.concatenate(drawn), return_inverse=True)  # only rows that have a turn are encoded
        rows = Inputs(problem, data.take(few), network.backbone, run)
        ends = np.cumsum([len(batch) for batch in drawn])[:-1]
        batches = [part.tolist() for part in np.split(places, ends)]
        weights = torch.ones(len(few)) if data.weights is None else torch.as_tensor(data.weights[few]).float()
        weights = weights / weights.mean()

        def loss_of(at: list[int]) -> Tensor:
            features = rows.output(network, at).features.float()
            with torch.autocast(torch.device(run.device).type, enabled=False):
                unit = F.normalize(features, dim=1)
                losses = LOSSES[self.loss](unit, rows.targets[at].to(unit.device), self.temperature)
                return (weights[at].to(unit.device) * losses).mean()

        what = "" if run.state is None else f"{self} {tune.identity(problem, data)}"
        return descend(
            tune, network, rows, loss_of, lambda epoch: batches, 1, None, run, "contrastive", what, "contrastive"
        )


def _check(problem: Problem) -> None:
    if problem.task.name not in ("classify", "ordinal"):
        raise UserError(
            f"contrastive pulls rows of one class together, and for {problem.task.name} there is no one class a row; "
            "choose lp_ft or linear_probe"
        )
    check_alone("contrastive")


def usual_steps(rows: int) -> int:
    """How many steps, where nothing is said: they grow as the root of the rows.

    >>> [usual_steps(rows) for rows in (16, 128, 1_000_000)]
    [10, 28, 100]
    """
    return max(10, min(100, round(2.5 * math.sqrt(rows))))


def draw(codes: IntArray, size: int, steps: int, seed: int) -> list[IntArray]:
    """The rows of every batch."""
    classes, counts = np.unique(codes, return_counts=True)
    groups = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    rng = np.random.default_rng(seed)
    together = min(len(classes), max(2, size // 2))
    many = max(1, size // together)
    turns, queues = Shuffled(np.arange(len(classes)), rng), [Shuffled(group, rng) for group in groups]
    return [np.concatenate([queues[c].take(many) for c in turns.take(together)]) for _ in range(steps)]


class Shuffled:
    """Rows in random order, over and over; none comes twice in one `take`, and all come equally often."""

    def __init__(self, rows: IntArray, rng: np.random.Generator) -> None:
        self.rows, self.rng = rows, rng
        self.left = rows[:0]

    def take(self, n: int) -> IntArray:
        """The next n rows, or all where there are fewer."""
        n = min(n, len(self.rows))
        if len(self.left) < n:
            others = self.rng.permutation(np.setdiff1d(self.rows, self.left, assume_unique=True))
            now = n - len(self.left)
            later = self.rng.permutation(np.concatenate([others[now:], self.left]))
            self.left = np.concatenate([self.left, others[:now], later])
        found, self.left = self.left[:n], self.left[n:]
        return found


def supcon(unit: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """−(1/|P(i)|) Σ_{p∈P(i)} log(e^{z_i·z_p/τ} / Σ_{a≠i} e^{z_i·z_a/τ}), (n,)."""
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    same = (codes[:, None] == codes) & others
    z = (unit @ unit.T / temperature).masked_fill(~others, -torch.inf)
    log_p = z - z.logsumexp(1, keepdim=True)
    count = same.sum(1)
    return -log_p.masked_fill(~same, 0.0).sum(1) / count.clamp(min=1)


def cosine(unit: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """Mean over the others of the batch of (z_i·z_j − [y_i = y_j])², classes alike and unlike counted the same."""
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    same = codes[:, None] == codes
    wrong = (unit @ unit.T - same.float()).square()
    near, far = same & others, ~same
    return (wrong * near).sum(1) / near.sum(1).clamp(min=1) + (wrong * far).sum(1) / far.sum(1).clamp(min=1)


LOSSES = {"supcon": supcon, "cosine": cosine}
