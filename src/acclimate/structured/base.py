"""What a task with structured answers (tags, texts, boxes, masks ...) tells the one flow that fits and judges it.

`Data.labels` holds the answers, one a row: a tuple of tags, a text, a tuple of boxes. A `Structured` task reads rows,
attaches a head to a backbone (or takes the model whole where the head lives in it), and measures answers. Everything
else, splitting, tuning, choosing, the RUN folder and the report, is common to all of them.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded
from acclimate.data.account import Audit
from acclimate.data.rows import Columns, Data, Table
from acclimate.errors import UserError
from acclimate.metrics.intervals import Weighted
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.answering import answers_to

State = dict[str, Any]  # what is fitted besides weights, as plain JSON: tag names, the prompt, the vocabulary


@dataclass(frozen=True)
class Asked:
    """How rows are to be read."""

    columns: Columns
    private: bool = False
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class New:
    """Rows to answer: one entry a row of the table. An input is None where there is nothing to read, and `problems`
    says why."""

    table: Table
    inputs: tuple[Any | None, ...]
    problems: tuple[str, ...]  # empty where there is an input


def labels_of(data: Data) -> tuple[Any, ...]:
    """The answers of labelled rows."""
    assert data.labels is not None
    return data.labels


@dataclass(frozen=True)
class Measure:
    """A metric of answers to rows: a function of many sets of row weights at once, which is what intervals need."""

    at: Weighted
    greater_is_better: bool = True
    scale: str = "unit"  # "unit" [0, 1], "signed" [-1, 1], "positive" [0, ∞) or "real"
    rows: int | None = None  # how many of the rows say anything of it, where not all do


class Baseline(Protocol):
    """What answers without transfer, learned from the same rows."""

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """One answer an input, in order."""


class StructuredNetwork(nn.Module, ABC):
    """A backbone and what makes answers of its output. `forward(batch)` gives the loss of every row, (n,)."""

    backbone: Backbone
    head: nn.Module  # what moves at the head's rate; an empty module where the head lives in the backbone
    loss_chooses: bool = True  # whether the epoch with the least loss on rows held out is kept, else the last one
    replays: bool = True  # whether the output of frozen blocks may be kept and replayed
    called: str = "model"  # in messages
    compared: str = ""  # names a loss that compares the rows of a batch
    augments: bool = False  # whether `collate` can change rows at random (strength > 0)

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @abstractmethod
    def encode(self, inputs: Sequence[Any], labels: Sequence[Any] | None) -> list[Encoded]:
        """Rows after preprocessing, with their answers where they are to be learned from; else without."""

    @abstractmethod
    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Tensors of one batch; with those of the answers where `encode` was given them."""

    def changed(self, rows: Sequence[Encoded], generator: torch.Generator, strength: float) -> list[Encoded]:
        """The rows changed at random so that their answers stay right (`augments`)."""
        raise UserError(f"{self.backbone.origin.name!r} has no random changes for this task; leave augment out")

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """The loss of every row, (n,)."""

    @abstractmethod
    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """One answer a row, in the form of `Data.labels`. Called in eval mode, without gradients."""

    def replayed(self, depth: int) -> bool:
        """Whether the output of the first `depth` blocks may be kept and replayed."""
        return self.replays

    def kept(self, inputs: Sequence[Any], labels: Sequence[Any], run: Run) -> list[Encoded] | None:
        """The rows with the features of a backbone of which nothing moves, where features are all that is read of it;
        else nothing, and `encode` makes them."""
        return None

    def cut(self, encoded: Sequence[Encoded]) -> str:
        """A sentence on what of the rows did not fit; empty where all did."""
        return ""

    def refused(self, given: Any) -> str:
        """Why this network cannot answer this input, in words; empty where it can."""
        return ""

    def refused_answer(self, answer: Any) -> str:
        """Why this network cannot learn this answer, in words; empty where it can."""
        return ""

    def clone(self) -> Self:
        """A copy whose weights may be trained without touching this one's."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.backbone, other.head = self.backbone.clone(), copy.deepcopy(self.head)
        return other

    def save(self, folder: Path) -> None:
        """Weights and preprocessing into an empty folder: `backbone/`, and `head.safetensors` where there is a head."""
        from safetensors.torch import save_file

        (folder / "backbone").mkdir()
        self.backbone.save(folder / "backbone")
        state = {name: value.contiguous() for name, value in self.head.state_dict().items()}
        if state:
            save_file(state, folder / "head.safetensors")

    def load_head(self, folder: Path) -> Self:
        """The head's weights as `save` wrote them."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if self.head.state_dict():
            try:
                self.head.load_state_dict(load_file(folder / "head.safetensors"))
            except (OSError, RuntimeError, SafetensorError) as error:
                raise UserError(f"{folder}: head.safetensors does not fit acclimate.json: {error}") from error
        return self


@dataclass(frozen=True)
class Structured(ABC):
    """One kind of structured answer; its fields are the settings of the task (`--set name=value`)."""

    name: ClassVar[str]
    noun: ClassVar[str]  # of one row, in messages: "sentence"
    more: ClassVar[str] = "give more rows"  # what to do where they are too few
    metric: ClassVar[str]  # the one that decides
    model: ClassVar[str]  # the usual backbone
    strategies: ClassVar[Mapping[str, Tune | None]]  # what can be asked for, cheapest first; None: nothing is trained
    parts: ClassVar[tuple[str, ...]] = ()  # what columns may be beside inputs, answers and ids: "group", "time"
    readings: ClassVar[tuple[str, ...]] = ()  # how inputs are read that can be asked: "max_length", "seconds" ...
    instead: ClassVar[Mapping[str, str]] = {}  # of others: what the task has of its own in their place
    candidates: ClassVar[tuple[str, ...]]  # those that `auto` compares
    keeps_rows: ClassVar[tuple[str, ...]] = ()  # strategies whose bundle holds rows to learn from

    @abstractmethod
    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """The labelled rows that pass the gate, and the account of all. `state` is there where a model judges them."""

    @abstractmethod
    def read_new(self, source: Any, asked: Asked) -> New:
        """Rows to answer, one entry for each."""

    @abstractmethod
    def learn(self, train: Data) -> State:
        """What is fitted besides weights."""

    def refuse(self, reading: Mapping[str, Any]) -> None:
        """Refuse what was asked of how inputs are read and has no meaning here; "head" is the usual truncation."""
        for name, value in reading.items():
            usual = (None, "head") if name == "truncation" else (None,)
            if value not in usual and name not in self.readings:
                if name in self.instead:
                    raise UserError(f"--{name.replace('_', '-')} is not for task {self.name!r}: {self.instead[name]}")
                option = "--max-seconds" if name == "seconds" else "--" + name.replace("_", "-")
                taken = ", ".join(self.readings).replace("seconds", "max_seconds") or "none"
                raise UserError(f"{option} has no meaning for task {self.name!r} (of these options it takes: {taken})")

    @abstractmethod
    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """The backbone of this name, or in this folder, with a fresh head drawn from torch's generator.

        `reading`: max_length, precision ... as the user gave them, None where not; empty for a saved bundle.
        """

    @abstractmethod
    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """What does without transfer, by name, each made when it is called."""

    @abstractmethod
    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """Every metric of these answers."""

    def per_class(
        self, truth: Sequence[Any], answers: Sequence[Any], state: State
    ) -> dict[str, dict[str, tuple[Measure, int]]]:
        """Metrics of each class with the number of its cases, where the answers have classes."""
        return {}

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """What a reader of the scores should know."""
        return ()

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """How wrong each row's answer is; 0: right. The report shows the worst."""
        return [float(t != a) for t, a in zip(truth, answers, strict=True)]

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """Equal for one content: what has equal keys never stands on both sides of a split."""
        return [repr(one) for one in inputs]

    def strata(self, data: Data) -> tuple[str, ...]:
        """Something that both sides of a split should have alike, one a row."""
        return ("",) * len(data)

    def columns(self, inputs: Sequence[Any], answers: Sequence[Any]) -> dict[str, list[Any]]:
        """What predict writes beside the rows: column name -> one cell a row, a text, a number or None. Inputs and
        answers are None where there was nothing to read."""
        return {"prediction": [None if one is None else str(one) for one in answers]}

    def files(self, answers: Sequence[Any]) -> dict[str, bytes]:
        """Files that the cells of `columns` name, by their path beside the table; empty where answers are cells."""
        return {}

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """Rows as the report shows them: {"input", "truth", "predicted"}, and "picture" or "sound" as data URIs."""
        return [
            {"input": str(x), "truth": str(t), "predicted": str(a)}
            for x, t, a in zip(inputs, truth, answers, strict=True)
        ]

    def judged(self, network: StructuredNetwork, data: Data, run: Run, label: str = "judging") -> list[Any]:
        """What `measures` reads of labelled rows: answers to them, unless the task judges rows beside each other."""
        return answers_to(network, data.inputs, run, label)

    def judged_by(self, baseline: Baseline, data: Data) -> list[Any]:
        """The same of a baseline."""
        return baseline.answers(data.inputs)

    def told(self, network: StructuredNetwork, inputs: Sequence[Any], state: State, run: Run) -> list[Any]:
        """What predict says of new inputs."""
        return answers_to(network, inputs, run, "predicting")

    def untrained(self, strategy: str, network: StructuredNetwork, train: Data) -> StructuredNetwork:
        """The network of a strategy that trains nothing, such as a prompt with examples."""
        return network

    def probe(
        self, network: StructuredNetwork, train: Data, valid: Data | None, run: Run
    ) -> tuple[StructuredNetwork, str]:
        """The network with a head fitted at once on frozen features, and a sentence on it: strategy "linear_probe"
        where its settings are None, and what `start="probe"` begins with."""
        raise UserError(f"task {self.name!r} has no head that could be fitted at once; leave start out")

    def finished(
        self, network: StructuredNetwork, state: State, valid: Data | None, run: Run
    ) -> tuple[StructuredNetwork, State]:
        """The trained network and the state with what is fitted on rows it did not learn from, such as a threshold."""
        return network, state

    def refuses(self, strategy: str, network: StructuredNetwork) -> str:
        """Why this strategy cannot be had with this network, in one sentence; empty where it can. `auto` leaves it
        out."""
        return ""

    def network_of(self, strategy: str, network: StructuredNetwork, state: State) -> StructuredNetwork:
        """The network that this strategy trains, where it is another one on the same weights; a fresh head is drawn
        from torch's generator."""
        return network

    def settings(self) -> dict[str, Any]:
        """The fields as plain JSON, for the bundle."""
        return dataclasses.asdict(self)

    def given(self, inputs: Any) -> list[Any] | None:
        """Inputs that Python gives as they are, or None where they have to be read (a path, a frame ...)."""
        return (
            list(inputs) if isinstance(inputs, (list, tuple)) and not any(isinstance(x, dict) for x in inputs) else None
        )
