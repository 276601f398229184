"""A small network learns what a larger one, tuned before, says of every row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate import model
from acclimate.data.rows import Data
from acclimate.errors import UserError, unknown
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.inputs import Inputs
from acclimate.strategies.moving import Moving, alone, begun, descend, released
from acclimate.strategies.probe import first_head
from acclimate.strategies.tune import Tune
from acclimate.tasks.base import Floats, Network
from acclimate.train.batches import shuffled
from acclimate.train.loop import History

_ROWS = ("train", "both")


@dataclass(frozen=True)
class Distil(Moving):
    """Labels and a teacher's answers: mean over rows of (1 − a)·CE(z, y) + a·T²·KL(softmax(t/T) ‖ softmax(z/T)).

    t are the logits of the `teacher`, a model that acclimate saved (a RUN folder or a bundle) of the same classes; z
    those of the network that moves, --model; a is `share`, T `temperature`. With `rows`="both" the target's rows, which
    have no labels, are learned from too, by the second term alone; the last epoch is then kept, else that of the least
    loss on the rows to choose by, where there are some.
    Hinton et al. 2015 (arXiv:1503.02531), section 2. In L_source + λ·L_target the teacher's term is L_target.

    Use when: a larger model is good enough and too slow, and above all with many rows that nobody has labelled.
    Prefer `full` or `lp_ft` where the teacher is hardly better than they are.
    """

    teacher: str = ""  # a RUN folder of `acclimate fit`, or one that model.save wrote
    share: float = 0.5  # a
    temperature: float = 2.0  # T
    rows: str = "train"  # train | both: also --target-data
    start: str = "probe"  # probe | zero: where the head begins
    num_train_epochs: int | None = None  # None: about 300 steps, 3 to 20 epochs

    def __post_init__(self) -> None:
        self.tune(self.start, self.num_train_epochs)
        if not 0 <= self.share <= 1:
            raise UserError(f"share={self.share!r} must be from 0 (labels alone) to 1 (the teacher alone)")
        if not self.temperature > 0:
            raise UserError(f"temperature={self.temperature!r} must be above 0")
        if self.rows not in _ROWS:
            raise unknown("rows", self.rows, _ROWS)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Ask the teacher once about every row, then train a copy of the backbone."""
        teacher = _teacher(self.teacher, problem)
        target = unlabelled(splits, "distil with rows=both") if self.rows == "both" else None
        head = first_head(self.start, problem, splits, run)
        with alone(run):
            tune, network, moved = begun(self.tune(self.start, self.num_train_epochs), problem, head, splits.train, run)
            rows = Taught.of(problem, splits.train, target, teacher, network, run)
            history, notes = self._train(tune, network, rows, problem, splits, run)
        names, *adapter = released(network, tune, splits.train, run)
        return Predictor(
            problem.task, problem.decoder, network.head, network.backbone, None, "distil", self.settings(), names,
            tuple(history), (*moved, f"the teacher is {teacher.strategy} in {self.teacher}", *notes), *adapter,
        )  # fmt: skip

    def _train(
        self, tune: Tune, network: Network, rows: Taught, problem: Problem, splits: Splits, run: Run
    ) -> tuple[History, list[str]]:
        chosen_by = problem.held_out(splits) if self.rows == "train" else None
        valid = None if chosen_by is None else Inputs(problem, chosen_by, network.backbone, run)
        read = splits.target if self.rows == "both" else None
        what = (
            ""
            if run.state is None
            else f"{self} {rows.digest()} {tune.identity(problem, splits.train, chosen_by, read)}"
        )
        batches = partial(shuffled, rows.inputs.costs, self.batch_size, run.seed)
        epochs = tune.epochs(len(rows.known))

        def loss_of(at: list[int]) -> Tensor:
            logits = rows.inputs.output(network, at).logits.float()
            return rows.losses(logits, at, self.share, self.temperature).mean()

        return descend(tune, network, rows.inputs, loss_of, batches, epochs, valid, run, "distil", what)


@dataclass(frozen=True)
class Taught:
    """Labelled rows, then those without labels, with what the teacher says of each."""

    inputs: Inputs
    said: Tensor  # (n, K) logits of the teacher
    known: Tensor  # (n,) 1 where there is a label, else 0
    weights: Tensor  # (n,)

    @staticmethod
    def of(
        problem: Problem, source: Data, target: Data | None, teacher: Predictor, network: Network, run: Run
    ) -> Taught:
        """Encode the rows, and ask the teacher."""
        n, more = len(source), () if target is None else target.inputs
        inputs = (*source.inputs, *more)
        said = in_order(teacher, problem, teacher.logits(inputs, run))
        labels = (*(source.labels or ()), *(problem.decoder.classes[i] for i in said[n:].argmax(1)))  # not learned from
        weights = np.concatenate([problem.weights(source, problem.targets(source)), np.ones(len(more))])
        rows = Inputs(problem, Data(inputs, labels, source=source.source, kind=source.kind), network.backbone, run)
        known = np.concatenate([np.ones(n), np.zeros(len(more))])
        return Taught(rows, *(torch.as_tensor(part, dtype=torch.float32) for part in (said, known, weights)))

    def losses(self, logits: Tensor, at: list[int], share: float, temperature: float) -> Tensor:
        """Of these rows, (n,)."""
        said, known, weights = (part[at].to(logits.device) for part in (self.said, self.known, self.weights))
        wrong = self.inputs.task.losses(logits, self.inputs.targets[at].to(logits.device))
        theirs, ours = (torch.log_softmax(z / temperature, 1) for z in (said, logits))
        apart = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
        return weights * ((1 - share) * known * wrong + share * temperature**2 * apart)

    def digest(self) -> str:
        """Names what the teacher said."""
        return hashlib.sha256(self.said.numpy().tobytes()).hexdigest()


def in_order(teacher: Predictor, problem: Problem, logits: Floats) -> Floats:
    """The teacher's logits in the order of the problem's classes."""
    return logits[:, [teacher.decoder.classes.index(c) for c in problem.decoder.classes]]


def _teacher(folder: str, problem: Problem) -> Predictor:
    """The saved model, or why it cannot teach."""
    if problem.task.name not in ("classify", "ordinal"):
        raise UserError(f"distil compares the shares of classes, and the task is {problem.task.name}; choose lp_ft")
    if not folder:
        raise UserError("distil learns from a saved model; name its folder with --set teacher=FOLDER")
    place = Path(folder)
    if not place.is_dir():
        raise UserError(f"there is no folder {folder!r} to take the teacher from; give a RUN folder or a saved model")
    teacher = model.load(place / "model" if (place / "model").is_dir() else place)
    theirs, ours = teacher.decoder.classes, problem.decoder.classes
    if teacher.task.name != problem.task.name or set(theirs) != set(ours):
        raise UserError(
            f"the teacher in {folder} answers {teacher.task.name} with {', '.join(map(repr, theirs[:6]))}, and the "
            f"rows ask {problem.task.name} with {', '.join(map(repr, ours[:6]))}; it must know the same classes"
        )
    base, other = problem.network()[0].modality, teacher.backbone
    if other is not None and other.modality != base:
        raise UserError(f"the teacher in {folder} reads {other.modality}, and the rows are {base}")
    return teacher
