"""What tuning will take, from a few real steps on a copy of the network: nothing of the run itself is touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from acclimate import ranks
from acclimate.backbones.base import Encoded
from acclimate.backbones.quantise import full_precision
from acclimate.data.rows import Data
from acclimate.features import extract
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies.alignment import Aligned
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.contrast import Contrast
from acclimate.strategies.inputs import Both, Inputs
from acclimate.strategies.moves import thirds
from acclimate.strategies.pretrain import foretell
from acclimate.strategies.tune import Tune
from acclimate.train.arithmetic import choose
from acclimate.train.batches import shuffled
from acclimate.train.memory import Fitting
from acclimate.train.prefix import SHARE_OF_MEMORY, frozen_depth, outputs, replaying
from acclimate.train.step import Rows, step
from acclimate.train.used_rows import named_rows
from acclimate.usage import Usage, available, held, watched

_SAMPLE = 2048  # rows whose tokens are counted
_AT = (0.5, 0.1, 0.9)  # of the steps in the order of their tokens; the one with most comes first and last
_BETWEEN = 1.1  # times the live bytes: what the allocator of a CPU leaves between them (measured, docs/measured.md)
_SHARE = 0.1  # of the time left that the steps may take
_PATIENCE = 5.0  # seconds after which no further step is timed
_SHAPES = 10  # new shapes of batch, to see what a CPU's library keeps for each


@dataclass(frozen=True)
class Foreseen:
    """Of one fit on all rows, and of judging one row afterwards."""

    seconds: float
    memory: int  # bytes beyond those in use
    a_row: float  # seconds

    @property
    def usage(self) -> Usage:
        """Of the fit alone."""
        return Usage(self.seconds, self.memory)


def foreseeable(strategy: object) -> bool:
    """Whether it can be foretold what a fit of this strategy takes."""
    return isinstance(strategy, Tune | Contrast)


def foresee(tune: Tune | Contrast, problem: Problem, splits: Splits, run: Run) -> Foreseen:
    """Predict one `tune.fit` on these rows from steps of typical and of the largest size (of `contrastive`, whose steps
    are drawn alike, from some of them).

    seconds = pretraining + copying + tokenising + choosing numbers + frozen blocks + epochs · Σ_steps (a + b · tokens)
    + evaluations, with a and b by least squares over the timed steps; bytes = the peak of those steps (weights,
    gradients, moments, activations), and what lies beside it in the real run: kept outputs of frozen blocks, tokens,
    the best weights so far, and in bf16 on a CPU what its library keeps for every new shape of batch.
    """
    forked = torch.random.fork_rng(devices=[] if run.device == "cpu" else None)
    with watched(run.device) as used, forked, full_precision():
        if isinstance(tune, Contrast):
            (seconds, a_row), beside = tune.takes(problem, splits.train, run), 0
        else:
            probe = _Probe(tune, problem.to_tune(), splits, replace(run, progress=Progress(quiet=True), state=None))
            seconds, beside = probe.seconds(), probe.beside()
            a_row = probe.a_row
            del probe
    share = _BETWEEN if run.device == "cpu" else 1.0
    return Foreseen(ranks.agreed(seconds), int(share * (used.memory + beside)), ranks.agreed(a_row))


class _Probe:
    """The measurements, each made once."""

    def __init__(self, tune: Tune, problem: Problem, splits: Splits, run: Run) -> None:
        if tune.moves == "surgical":  # which part is not known yet: the first one takes longest
            tune = replace(tune, moves=thirds(problem.network()[0])[0])
        self.tune, self.run = tune, run
        self.rows, self.epochs = len(splits.train), tune.epochs(len(splits.train))
        self.pretraining = foretell(tune.pretrain, problem, splits, run)
        started = time.monotonic()
        self.network, _ = tune.started(problem, problem.task.attach(problem.network()[0], problem.decoder).head, run)
        self.copying = time.monotonic() - started
        at = np.sort(np.random.default_rng(0).permutation(self.rows)[:_SAMPLE])
        sample, self.encoding = _timed(partial(Inputs, problem, splits.train.take(at), self.network.backbone, run))
        self.scale = self.rows / len(at)  # rows of the run for each row that is looked at
        self.tokens = float(sum(sample.costs)) * self.scale
        chosen = None if tune.aligned else problem.held_out(splits)
        self.judged = 0.0 if chosen is None else self.tokens / self.rows * len(chosen)  # tokens, at each evaluation
        self.held = int(self.scale * (1 + (0 if chosen is None else len(chosen) / self.rows)) * _bytes(sample.encoded))
        self.each, self.code = sample.costs, 0  # tokens of each row; bytes of code for the shapes of batches
        self.steps = self._steps(sample.costs)
        self.costs = [sum(sample.costs[i] for i in rows) for rows in self.steps]
        target = unlabelled(splits, "alignment") if tune.aligned else None
        self._train(problem, splits.train.take(at), sample.encoded, target)

    def _steps(self, costs: Sequence[int]) -> list[Rows]:
        """The rows of every step of an epoch."""
        many, batches = self.tune.gradient_accumulation_steps, shuffled(costs, self.tune.batch_size, self.run.seed, 0)
        return [list(chain(*batches[i : i + many])) for i in range(0, len(batches), many)]

    def _train(self, problem: Problem, data: Data, sample: Sequence[Encoded], target: Data | None) -> None:
        """Real steps: the largest twice, so that its activations meet moments, and some of usual size between."""
        order = np.argsort(self.costs, kind="stable")
        usual = [int(order[int(q * (len(order) - 1))]) for q in _AT[: max(1, len(order) * self.epochs // 20)]]
        wanted = [int(order[-1]), *usual, int(order[-1])]
        few = sorted({i for at in wanted for i in self.steps[at]})
        place = {row: i for i, row in enumerate(few)}
        source = data.take(few)
        rows = self.tune.rows_of(self.network, problem, source, self.run)
        both = None
        if target is not None:  # as many rows as of the source, by chance
            drawn = np.random.default_rng(0).choice(len(target), len(few), replace=len(target) < len(few))
            both = self.tune.both(problem, rows, source, target.take(drawn))
        prefix, _ = self.tune.prefix_of(self.network.backbone, rows, None, self.epochs, self.run)
        self.kept = 0.0 if prefix is None else prefix.values.nbytes / sum(rows.costs)  # bytes a token
        named = named_rows(self.network.backbone, [*sample, *rows.encoded], self.tune.moves_every_row, self.scale)
        with named:
            there = [(at, [[place[i] for i in part] for part in self._parts(self.steps[at])]) for at in wanted]
            judged = self._measured(rows, both, there)
        self.judging = judged / sum(rows.costs)
        self.below = 0.0 if prefix is None else self._below(rows)
        texts = data.take(few).inputs
        _, read = _timed(partial(extract, self.network.backbone, texts, self.run))
        self.a_row = read / len(texts)

    def _measured(self, rows: Inputs, both: Both | None, wanted: list[tuple[int, list[Rows]]]) -> float:
        """Take these steps, each given with its number in the epoch; the seconds that judging `rows` took."""
        trained = Aligned(self.network, None if both is None else both.loss).to(self.run.device)
        moving = [p for p in trained.parameters() if p.requires_grad]
        self.moving = sum(p.nbytes for p in moving)
        optimizer = self.tune.optimizer_of(self.network, trained.loss)
        fitting = Fitting(self.network, self.run.progress)
        self.points: list[tuple[float, float]] = []

        def loss_of(at: Rows) -> torch.Tensor:
            if both is not None:
                return both.at(self.network, at, at, 0.5)
            return rows.step_loss(self.network, at)

        with replaying(rows.prefix):  # its stubs hide in which layer a weight lies, which the optimiser asks
            steps, mixed = len(self.steps) * self.tune.gradient_accumulation_steps, self.tune.mixed_precision
            choosing = partial(choose, trained, loss_of, wanted[1][1], steps * self.epochs, mixed, self.run)
            (numbers, _), self.choosing = _timed(choosing)

            def loss_at_work(at: Rows) -> torch.Tensor:
                with numbers.at_work(self.run.device):
                    return loss_of(at)

            start = time.monotonic()
            with numbers.applied(trained):
                for number, (at, batches) in enumerate(wanted):
                    late = number > 1 and time.monotonic() - start > min(_PATIENCE, _SHARE * self.run.left())
                    if ranks.agreed(late) and (number < len(wanted) - 1 or self.run.deadline is not None):
                        continue  # the last one shows memory alone
                    trained.train()
                    took = self._step(moving, optimizer, batches, loss_at_work, fitting)
                    if number:  # the first use of a kernel is not taken for speed
                        self.points.append((self.costs[at], took))
                del optimizer
                if numbers.numbers != "fp32" and self.run.device == "cpu":
                    self.code = self._shapes_to_come() * self._kept_for_a_shape(rows.costs, loss_at_work, moving)
                with numbers.at_work(self.run.device):
                    return _timed(partial(rows.mean_loss, self.network, fitting))[1]

    def _kept_for_a_shape(
        self, costs: Sequence[int], loss_of: Callable[[Rows], torch.Tensor], moving: list[nn.Parameter]
    ) -> int:
        """Bytes that stay after a forward and backward pass of a shape that was not seen before, in the median.

        Products in bf16 keep code for every shape. Small batches show it as well as large ones.
        """
        seen: set[int] = set()
        after: list[int] = []
        start = time.monotonic()
        for i in range(len(costs)):
            rows = [(i + j) % len(costs) for j in range(1 + i % 3)]
            tokens = sum(costs[k] for k in rows)
            if tokens in seen:
                continue
            if len(after) > _SHAPES or time.monotonic() - start > min(_PATIENCE, _SHARE * self.run.left()):
                break
            seen.add(tokens)
            loss_of(rows).backward()  # type: ignore[no-untyped-call]
            for parameter in moving:
                parameter.grad = None
            after.append(held())
        return max(0, int(np.median(np.diff(after)))) if len(after) > 1 else 0

    def _shapes_to_come(self) -> int:
        """How many different numbers of tokens the batches of all epochs have."""
        every = (shuffled(self.each, self.tune.batch_size, self.run.seed, epoch) for epoch in range(self.epochs))
        tokens = {sum(self.each[i] for i in batch) for batches in every for batch in batches}
        return min(int(self.scale * len(tokens)), max(tokens) - min(tokens) + 1) if self.scale > 1 else len(tokens)

    def _parts(self, rows: Rows) -> list[Rows]:
        size = self.tune.batch_size
        return [rows[i : i + size] for i in range(0, len(rows), size)]

    def _step(
        self,
        moving: list[nn.Parameter],
        optimizer: Any,
        batches: list[Rows],
        loss_of: Callable[[Rows], torch.Tensor],
        fitting: Fitting,
    ) -> float:
        def one() -> None:
            loss, _ = step(moving, optimizer, batches, loss_of, self.tune.max_grad_norm, fitting)
            float(loss)  # waits for the device

        return _timed(one)[1]

    def _below(self, rows: Inputs) -> float:
        """Seconds a token of the frozen blocks."""
        backbone = self.network.backbone
        _, took = _timed(partial(outputs, backbone, frozen_depth(backbone), rows.encoded, self.run))
        return took / sum(rows.costs)

    def seconds(self) -> float:
        """Of one fit."""
        cost, took = np.array(self.points).T
        slope, base = _line(cost, took)
        training = self.epochs * self.scale * sum(base + slope * c for c in self.costs)
        judging = (self.epochs + 1) * self.judged * self.judging
        below = (self.tokens + self.judged) * self.below
        return float(
            self.pretraining + self.copying + self.encoding * self.scale + self.choosing + below + training + judging
        )

    def beside(self) -> int:
        """Bytes that the steps did not show: of all rows, and of the best weights so far."""
        kept = (self.tokens + self.judged) * self.kept
        if kept > SHARE_OF_MEMORY * available("cpu"):
            kept = 0.0  # it goes to disk
        on_host = self.held + int(kept) + self.code if self.run.device == "cpu" else 0
        return on_host + (self.moving if self.judged else 0)


def _line(cost: np.ndarray[Any, Any], took: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Slope and base of took ≈ base + slope · cost, neither below 0."""
    if len(set(cost.tolist())) > 1:
        slope, base = np.polyfit(cost, took, 1)
        if slope >= 0 and base >= 0:
            return float(slope), float(base)
    if len(set(cost.tolist())) > 1 and slope < 0:
        return 0.0, float(took.mean())
    return float(cost @ took / max(1e-12, cost @ cost)), 0.0


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.monotonic()
    found = work()
    return found, time.monotonic() - start


def _bytes(encoded: Sequence[Any]) -> int:
    """Of preprocessed inputs, as far as they are arrays; lists of token numbers take 8 bytes each."""
    total = 0
    for row in encoded:
        for part in row.parts:
            values = part.values() if isinstance(part, dict) else [part]
            total += sum(getattr(v, "nbytes", 8 * len(v) if hasattr(v, "__len__") else 0) for v in values)
    return total
