"""Adaptation of a moving backbone by its own answers on target rows that were changed at random."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate.align import ALIGNMENTS, View
from acclimate.align.base import entropies, log_probabilities
from acclimate.backbones.base import Batch
from acclimate.data.rows import Data
from acclimate.errors import UserError, unknown
from acclimate.keys import key_of
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.alignment import check_alone, check_weight
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.learner import Learner, Rows, Turns, centroid_labels, infomax, settle
from acclimate.strategies.moves import top
from acclimate.strategies.tune import Tune
from acclimate.tasks.base import Network
from acclimate.train.loop import History, Schedule, train

_RAMP = 1 / 3  # of the steps, until λ has its full value


@dataclass(frozen=True)
class Consistency:
    """First L_source + λ·L_target, then (`then`="shot") L_target alone with the last layer held; target labels unseen.

    Source rows: cross-entropy of strongly changed inputs. L_target = align(source, target) + E[1(max q > τ)·CE(z', ŷ)],
    where q are the probabilities of a weakly changed target row, ŷ their largest, z' the logits of the same row
    strongly changed (FixMatch, Sohn et al. 2020, arXiv:2001.07685, equations 3 and 4); `align` is Mcc by default, and λ
    rises from 0 to `weight` over the first third. With `teacher`="ema" q come from the weights' moving average, which
    is also what is kept (mean teacher, Tarvainen and Valpola 2017, arXiv:1703.01780). Then, with the head held,
    E[H(q)] − H(E[q]) + β·CE(z, ŷ_c) + the same consistency, ŷ_c of the nearest centroid, once an epoch (SHOT, Liang et
    al. 2020, arXiv:2002.08546, equations 3 to 7). Of `restarts` with seeds of their own the one whose answers on the
    target have the highest mutual information H(E[q]) − E[H(q)] is kept: no label is needed to choose.

    Use when: the backbone knows changes of its inputs that leave their class as it is (pictures, sounds), and class
    shares are about even on the target. Prefer `self_train` on frozen features where it does not; set `then`="none"
    where the shares are skewed, since SHOT pulls them towards even.
    """

    moves: str = "all"  # all | top:K
    align: str = "mcc"  # any of `acclimate.align`, or none
    weight: float = 1.0  # λ
    confidence: float = 0.95  # τ
    weak: float = 0.4  # strength of the weak change; the strong one has `strong`
    strong: float = 1.0
    teacher: str = "self"  # self | ema
    decay: float = 0.99  # of the moving average
    then: str = "shot"  # shot | none
    beta: float = 0.3  # β
    restarts: int = 1
    steps: int = 800
    target_steps: int = 300
    batch_size: int = 64
    learning_rate: float = 2e-3  # for random weights; pretrained ones want 1e-4 or less
    target_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.moves != "all" and not top(self.moves):
            raise UserError(f"moves={self.moves!r} is not understood; give all or top:K with K a whole number from 1")
        choices = {"align": ("none", *ALIGNMENTS), "teacher": ("self", "ema"), "then": ("shot", "none")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        for name in ("restarts", "steps", "target_steps", "batch_size", "learning_rate", "target_learning_rate"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)!r} must be above 0")
        check_weight(self.weight, "constant")
        for name in ("beta", "weight_decay", "weak", "strong"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name}={getattr(self, name)!r} must be 0 or more")
        for name in ("confidence", "decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r} must be at least 0 and below 1")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train every restart, and keep the one whose answers on the target are the surest and the most even."""
        target = unlabelled(splits, "consistency")
        if problem.task.name != "classify":
            raise UserError(f"consistency compares classes of target rows, and the task is {problem.task.name}")
        check_alone("consistency")
        best: _Restart | None = None
        values: list[float] = []
        for number in range(self.restarts):
            if values and run.left() <= 0:
                break
            seed = int(np.random.SeedSequence([run.seed, number]).generate_state(1)[0])
            with torch.random.fork_rng(devices=[] if run.device == "cpu" else None):
                one = self._restart(problem, splits.train, target, replace(run.at(f"restart-{number}"), seed=seed))
            values.append(one.value)
            if best is None or one.value > best.value:
                best = one
        assert best is not None
        network = best.network.requires_grad_(False).cpu().eval()
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        chosen = f"restart {values.index(best.value) + 1} of {len(values)} is kept, " if len(values) > 1 else ""
        notes = (best.moved, f"{chosen}mutual information of target rows and answers {best.value:.4f}")
        return Predictor(
            problem.task, problem.decoder, network.head, network.backbone, None, "consistency", settings,
            best.names, tuple(best.history), notes,
        )  # fmt: skip

    def _restart(self, problem: Problem, source: Data, target: Data, run: Run) -> _Restart:
        head = problem.task.attach(problem.network()[0], problem.decoder).head
        network, moved = Tune(moves=self.moves).started(problem, head, run)
        network.backbone.reset(run.seed)
        names = tuple(n for n, p in network.named_parameters() if p.requires_grad)
        rows = Rows.of(problem, source, target, network.backbone)
        what = "" if run.state is None else _what(self, problem, source, target)
        history = self._together(network, rows, problem, run, what)
        if self.then == "shot":
            history += self._alone(network, rows, run, what)
        return _Restart(network, infomax(network, rows, run.device), history, names, moved)

    def _together(self, network: Network, rows: Rows, problem: Problem, run: Run, what: str) -> History:
        """L_source + λ·L_target, in place."""
        classes = problem.task.width(problem.decoder)
        align = None if self.align == "none" else ALIGNMENTS[self.align]().attach(network.backbone.width, classes)
        learner = Learner(network, align, self.teacher == "ema", self.decay, 0).to(run.device)
        turns = Turns.drawn(len(rows.source), len(rows.target), self.batch_size, self.steps, run.seed)

        def loss_of(at: list[int]) -> Tensor:
            generator, progress = turns.generator(at), turns.progress(at)
            learner.follow(turns.step(at))
            ours = [turns.source[i] for i in at]
            labels, weights = rows.labels[ours].to(run.device), rows.weights[ours].to(run.device)
            near = network(rows.batch(rows.source, ours, generator, self.strong, run.device))
            loss = (weights * problem.task.losses(near.logits.float(), labels)).mean()
            scale = self.weight * min(1.0, progress / _RAMP)
            if not self.weight:
                return loss
            theirs = [turns.target[i] for i in at]
            weak = rows.batch(rows.target, theirs, generator, self.weak, run.device)
            far = network(weak)
            strong = rows.batch(rows.target, theirs, generator, self.strong, run.device)
            there = self._agreement(learner, weak, far.logits, network(strong).logits)
            if align is not None:
                views = View(near.features, near.logits, labels, weights), View(far.features, far.logits)
                there = there + align(*views, progress)
            return loss + scale * there

        return self._run(learner, turns, loss_of, self.learning_rate, rows, run.at("together"), what)

    def _alone(self, network: Network, rows: Rows, run: Run, what: str) -> History:
        """L_target of SHOT, in place; the head does not move."""
        network.head.requires_grad_(False)
        learner = Learner(network, None, self.teacher == "ema", self.decay, len(rows.target)).to(run.device)
        turns = Turns.passes(len(rows.target), self.batch_size, self.target_steps, run.seed)

        def loss_of(at: list[int]) -> Tensor:
            generator = turns.generator(at)
            learner.follow(turns.step(at))
            theirs = [turns.target[i] for i in at]
            weak = rows.batch(rows.target, theirs, generator, self.weak, run.device)
            logits = network(weak).logits
            strong = rows.batch(rows.target, theirs, generator, self.strong, run.device)
            log_p = log_probabilities(logits)
            mean = log_p.exp().mean(0)
            spread = (mean * mean.clamp(min=torch.finfo(mean.dtype).tiny).log()).sum()
            guessed = F.cross_entropy(logits.float(), learner.labels[theirs])
            agreed = self._agreement(learner, weak, logits, network(strong).logits)
            return entropies(log_p).mean() + spread + self.beta * guessed + agreed

        def guess(epoch: int) -> None:
            learner.guess(epoch, lambda: centroid_labels(network, rows, run.device))

        history = self._run(learner, turns, loss_of, self.target_learning_rate, rows, run.at("alone"), what, guess)
        network.head.requires_grad_(True)
        return history

    def _agreement(self, learner: Learner, weak: Batch, near: Tensor, far: Tensor) -> Tensor:
        """E[1(max q > τ)·CE(z', ŷ)], over all rows of the batch."""
        with torch.no_grad():
            sure, labels = torch.softmax(learner.taught(weak, near).float(), 1).max(1)
        return (F.cross_entropy(far.float(), labels, reduction="none") * (sure > self.confidence)).mean()

    def _run(
        self, learner: Learner, turns: Turns, loss_of: Callable[[list[int]], Tensor], rate: float, rows: Rows,
        run: Run, what: str, before: Callable[[int], None] | None = None,
    ) -> History:  # fmt: skip
        """The loop, then the teacher's weights where there is one, and statistics of the target as it is."""

        def batches(epoch: int) -> list[list[int]]:
            if before is not None:
                before(epoch)
            return turns.epoch(epoch)

        moving = [p for p in learner.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(moving, lr=rate, weight_decay=self.weight_decay)
        schedule = Schedule(turns.epochs, 0.1, "cosine")
        history = train(learner, optimizer, schedule, batches, loss_of, None, run, "consistency", what)
        learner.finish()
        settle(learner.network, rows, run.device)
        return history


class _Restart(NamedTuple):
    network: Network
    value: float  # what is chosen by
    history: History
    names: tuple[str, ...]
    moved: str


def _what(strategy: Consistency, problem: Problem, source: Data, target: Data) -> str:
    """Names what is trained, so that only a checkpoint of the same is gone on from."""
    base = problem.network()[0]
    digest = hashlib.sha256()
    for data in (source, target):
        for value in data.inputs:
            digest.update(key_of(value, base.modality))
        digest.update(repr((data.labels, None if data.weights is None else data.weights.tolist())).encode())
    about: list[Any] = [strategy, problem.decoder.to_json(), problem.class_weight, base.origin, base.settings()]
    return " ".join(map(str, [*about, digest.hexdigest()]))
