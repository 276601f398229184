"""Tent: scales and shifts of the normalisation layers move so that answers become sure."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from acclimate.align.base import entropies, log_probabilities
from acclimate.errors import UserError, plural
from acclimate.features import Store, to_device
from acclimate.model import Predictor
from acclimate.oom import out_of_memory
from acclimate.plain import sparse
from acclimate.run import Run
from acclimate.tasks.base import Floats
from acclimate.tasks.classify import softmax
from acclimate.tasks.heads import ConstantHead
from acclimate.testtime.base import Adapted, Adapter
from acclimate.testtime.guard import Guard
from acclimate.testtime.norms import affine, described, norms

LEARNING, STOPPED, AS_IT_WAS = range(3)  # the stages of a stream


@dataclass(frozen=True)
class Tent(Adapter):
    """A few numbers of the network learn, batch by batch, to make its answers on the target sure.

    Formula: a batch is answered, and then `steps` steps of Adam lower (1/n) Σ H(softmax(zᵢ)) over the scales and
    shifts of BatchNorm, LayerNorm, GroupNorm and RMSNorm; all else stays, and BatchNorm uses the means and variances
    of the batch. The last of `passes` over the rows gives the answers. With `episodic` each batch starts from the
    model as it was, takes its steps first and is answered after. The entropy is that of the logits as they are; the
    model's temperature is applied after.
    Guard: where, over the last 64 to 256 rows, the entropy of the mean of the probabilities falls under `guard` times
    that of the model as it was, or a number is not finite, learning ends, and that is said: a stream goes back to the
    scales and shifts from before those rows and, if they fail, too, to the model as it was; the rows of a file all
    keep the plain answers, since what collapsed late had mostly gone wrong early. Rows sorted by class can set it off
    without need.
    Source: Wang et al. (2021), Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR, arXiv:2006.10726.
    Use when: the target is a noisier or otherwise degraded source, class shares are alike, most answers are right
    and there are some hundred rows. It is online: another order of the rows gives other answers.
    Prefer lame if class shares differ or single batches hold one class only; prefer adabn if there is BatchNorm and
    nothing shall be learned.
    """

    learning_rate: float = 1e-3
    steps: int = 1
    passes: int = 1
    batch_size: int = 64
    episodic: bool = False
    guard: float = 0.8  # 0: none

    order_matters: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("steps", "passes", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; give a whole number from 1 on")
        if not (self.learning_rate >= 0 and math.isfinite(self.learning_rate)):
            raise UserError(f"learning_rate is {self.learning_rate}; give a number from 0 on, such as 1e-3")
        if not 0 <= self.guard < 1:
            raise UserError(f"guard is {self.guard}; give a share from 0 (none) to below 1, such as 0.8")

    def check(self, predictor: Predictor) -> None:
        """Refuse a network that has nothing to move, and a head that ignores it."""
        super().check(predictor)
        assert predictor.backbone is not None
        if predictor.backbone.fixed:
            raise UserError(f"tent moves weights of the network, and {predictor.backbone.fixed}; use t3a or lame")
        if not affine(predictor.backbone):
            raise UserError(
                "tent moves scales and shifts of BatchNorm, LayerNorm, GroupNorm or RMSNorm, and there are none in "
                f"{predictor.backbone.origin.name} ({described(predictor.backbone)}); use t3a or lame"
            )
        if isinstance(predictor.head, ConstantHead):
            raise UserError("tent learns from the answers, and this model gives every row the same; fit another one")

    def attach(self, predictor: Predictor, run: Run | None = None) -> Stream:
        """A model that learns from each batch it is given, for rows that come one batch after the other."""
        self.check(predictor)
        return Stream(self, predictor, run or Run())

    def _adapted(self, predictor: Predictor, inputs: Sequence[Any], run: Run, store: Store | None) -> Adapted:
        plain = predictor.logits(inputs, run, store)
        stream = Stream(self, predictor, run)
        out = np.empty_like(plain)
        batches = [slice(at, at + self.batch_size) for at in range(0, len(inputs), self.batch_size)]
        with run.progress.steps("tent", self.passes * len(inputs)) as advance:
            for _ in range(self.passes):
                for at in batches:
                    out[at] = stream(inputs[at], plain[at])
                    advance(len(inputs[at]))
        if stream.stage == LEARNING or self.episodic:
            return Adapted(out, plain, tuple(stream.notes))
        return Adapted(plain, plain, (*stream.notes, "all rows have the answers of the model as it was"))


class Stream:
    """A copy of a model that learns from what it is given; `reset` makes it the model again, bit for bit."""

    def __init__(self, settings: Tent, predictor: Predictor, run: Run) -> None:
        assert predictor.backbone is not None
        self.settings = settings
        self.notes: list[str] = []
        self._run, self._source = run, predictor
        self.network = predictor.backbone.clone().requires_grad_(False).eval().to(run.device)
        self._head = copy.deepcopy(predictor.head).requires_grad_(False).eval().to(run.device)
        self._batch_norms = [m for m in norms(self.network) if isinstance(m, _BatchNorm)]
        for norm in self._batch_norms:
            norm.momentum = 0.0  # what the model knows of the source stays, for batches of one row
        self._moving = affine(self.network)
        self._start = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.reset()

    def reset(self) -> None:
        """Forget everything learned."""
        self.network.load_state_dict(self._start)
        self._optimizer = torch.optim.Adam(self._moving, lr=self.settings.learning_rate)
        self._guard, self._states = Guard(self.settings.guard), deque[list[Tensor]]()
        self._rows = 0
        self.stage = LEARNING
        for parameter in self._moving:
            parameter.requires_grad_(True)

    def __call__(self, inputs: Sequence[Any], plain: Floats | None = None) -> Floats:
        """Logits (n, K) of one batch; then learn from it. `plain`: those of the model as it was, if they are known."""
        if plain is None:
            plain = self._source.logits(inputs, self._run)
        if self.settings.episodic:
            self.reset()
            for _ in range(self.settings.steps):
                self._learn(inputs, self._logits(inputs))
            return self._answered(inputs, plain)[0]
        answers, logits = self._answered(inputs, plain)
        for step in range(self.settings.steps if self.stage == LEARNING else 0):
            self._learn(inputs, self._logits(inputs) if step else logits)
        self._rows += len(inputs)
        return answers

    def _answered(self, inputs: Sequence[Any], plain: Floats) -> tuple[Floats, Tensor]:
        """The answers, as numbers and as they came; where they have collapsed, those of an earlier state."""
        if self.stage == AS_IT_WAS:
            return plain, torch.empty(0)
        logits = self._logits(inputs)
        answers: Floats = logits.detach().double().cpu().numpy()
        finite = bool(np.isfinite(answers).all())
        self._states.append([p.detach().clone() for p in self._moving])
        if finite and not self._guard.collapsed(softmax(answers), softmax(plain)):
            while len(self._states) > self._guard.batches:
                self._states.popleft()
            return answers, logits
        self._go_back("answers ran into few classes" if finite else "numbers were no longer finite")
        return self._answered(inputs, plain)

    def _go_back(self, why: str) -> None:
        """To the state from before the rows that are looked back on; if that fails, too, to the model as it was.

        Not to the last state that passed: answers of earlier, better ones are among those that let it pass.
        """
        where = "to the model as it was"
        if self.stage == LEARNING and not self.settings.episodic:
            where = f"to the scales and shifts of {self._guard.rows:,} rows before"
            with torch.no_grad():
                for parameter, good in zip(self._moving, self._states[0], strict=True):
                    parameter.copy_(good)
            self.stage = STOPPED
        else:
            self.stage = AS_IT_WAS
        for parameter in self._moving:
            parameter.requires_grad_(False)
        self._guard, self._states = Guard(self.settings.guard), deque()
        then = "that batch" if self.settings.episodic else "learning ended, and it"
        self._say(f"{why} after {plural(self._rows, 'row')} (guard {self.settings.guard:g}): {then} went back {where}")

    def _say(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _learn(self, inputs: Sequence[Any], logits: Tensor) -> None:
        if len(inputs) == 1 and self._batch_norms:
            self._say(
                "a batch of one row has no statistics for BatchNorm: it was read with those of training, and nothing "
                "was learned from it"
            )
            return
        self._optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            entropies(log_probabilities(logits)).mean().backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _logits(self, inputs: Sequence[Any]) -> Tensor:
        """Of one batch, read at once."""
        for norm in self._batch_norms:
            norm.training = len(inputs) > 1
        network, device = self.network, self._run.device
        words: Tensor | None = None
        if self._source.plain is not None:
            words = sparse(self._source.plain.transform(inputs), torch.float32).to(device)
        try:
            with torch.enable_grad():  # without it a picture network would read the batch in parts
                batch = to_device(network.collate(network.encode(inputs)), device)
                logits: Tensor = self._head(network(batch), words)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"there is not enough memory to learn from {plural(len(inputs), 'row')} at once; lower it with "
                f"tent:batch_size={max(1, len(inputs) // 2)}"
            ) from error
        return logits
