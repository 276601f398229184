"""Generation: a text that answers a text, such as a translation, a summary, a correction or a reply."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from acclimate.backbones.decoding import Decoding
from acclimate.backbones.prompts import Prompt, drawn
from acclimate.backbones.writer import Writer
from acclimate.data.account import Audit
from acclimate.data.exchanges import Exchange, as_turns, exchanges, text_of
from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.rows import Data
from acclimate.errors import UserError, unknown
from acclimate.metrics.base import divide
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.base import Asked, Baseline, Measure, New, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.gate import accounted
from acclimate.structured.generate_baselines import Copy, Nearest
from acclimate.structured.generate_measures import bleu, bleu_counts, chrf, chrf_counts, mean_of, rouge_l
from acclimate.structured.generate_network import GenerateNetwork, Labels, Written

_ANSWERS = ("free", "labels")
_SCORES = ("sum", "mean")
_MOST_LABELS = 100


@dataclass(frozen=True)
class Generate(Structured):
    """A text for a text. With answers="labels" one of the training answers, so that a language model classifies.

    Use when the answer is a sentence or more. Rows: two columns of texts, JSONL of `messages`, or of `instruction`,
    `input` and `output`. A label among a few is told better, and far quicker, by --task classify.
    """

    template: str = ""  # of the prompt; holds {input}
    chat: bool = True  # whether the chat template of the model, where it has one, stands round it
    shots: int = 4  # examples in the prompt of few_shot
    draw_seed: int = 0  # of what is drawn: the examples, and words where temperature is above 0
    max_new_tokens: int = 128
    num_beams: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    answers: str = "free"  # or "labels"
    score: str = "sum"  # of labels: log p of the whole text, or "mean": of its tokens
    calibrated: bool = False  # of labels: less the score that an input without content gives

    name: ClassVar[str] = "generate"
    noun: ClassVar[str] = "input"
    metric: ClassVar[str] = "chrf"
    model: ClassVar[str] = "smollm2"
    strategies: ClassVar[Mapping[str, Tune | None]] = {
        "zero_shot": None,
        "few_shot": None,
        "partial": Tune(moves="top:2", learning_rate=2e-4, batch_size=8),
        "bitfit": Tune(moves="bias", learning_rate=1e-3, batch_size=8),
        "lora": Tune(moves="lora", learning_rate=1e-3, batch_size=8),
        "full": Tune(learning_rate=1e-4, batch_size=8),
    }
    readings: ClassVar[tuple[str, ...]] = ("max_length", "precision")
    candidates: ClassVar[tuple[str, ...]] = ("zero_shot", "few_shot", "lora")
    keeps_rows: ClassVar[tuple[str, ...]] = ("few_shot",)

    def __post_init__(self) -> None:
        for setting, known in (("answers", _ANSWERS), ("score", _SCORES)):
            if getattr(self, setting) not in known:
                raise unknown(setting, getattr(self, setting), known)
        if self.shots < 1:
            raise UserError(f"shots={self.shots!r} must be 1 or more; without examples it is the strategy zero_shot")
        self._decoding()
        self._prompt()

    def _decoding(self) -> Decoding:
        return Decoding(self.max_new_tokens, self.num_beams, self.temperature, self.top_p, self.draw_seed)

    def _prompt(self) -> Prompt:
        return Prompt(self.template, self.chat)

    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """Inputs with answers; rows without one or the other are counted with their lines."""
        found, table = exchanges(source, asked.columns, answered=True)
        kept = [one for one in found if one.reason is None]
        data = Data(
            inputs=tuple(one.asks for one in kept),
            labels=tuple(str(one.answer) for one in kept),
            lines=tuple(one.line for one in kept),
            source=table.source,
        )
        counts = Counter(labels_of(data)) if self.answers == "labels" else Counter[str]()
        findings = _findings(kept, set((state or {}).get("labels", ())))
        reasons = [one.reason for one in found]
        return data, accounted(self, table, role, reasons, findings, dict(counts.most_common(_MOST_LABELS)))

    def read_new(self, source: Any, asked: Asked) -> New:
        """Inputs to answer; answers in the source are not read."""
        found, table = exchanges(source, asked.columns, answered=False)
        return New(table, tuple(x.asks for x in found), tuple("" if x.asks else "nothing to answer" for x in found))

    def given(self, inputs: Any) -> list[Any] | None:
        """A text, a list of texts, or a list of dialogues: [[{"role": "user", "content": ...}], ...]."""
        if not isinstance(inputs, (list, tuple)) or any(isinstance(x, Mapping) for x in inputs):
            return None
        return [x if isinstance(x, str) else as_turns(x) for x in inputs]

    def learn(self, train: Data) -> State:
        """The mean length of answers with their ends, in characters; and the answers, where one is to be chosen."""
        answers = labels_of(train)
        state: State = {"characters": float(np.mean([len(y) + 1 for y in answers]))}
        if self.answers == "labels":
            state["labels"] = sorted(set(answers))
            if not 2 <= len(state["labels"]) <= _MOST_LABELS:
                raise UserError(
                    f"answers='labels' chooses among 2 to {_MOST_LABELS} texts, and there are {len(state['labels'])} "
                    "different answers; leave it out to have answers written"
                )
        return state

    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """The model with its own output layer."""
        from acclimate.backbones import load

        given = {k: reading[k] for k in self.readings if reading.get(k) is not None}
        backbone = load(model, writes=True, **given)
        assert isinstance(backbone, Writer)
        chosen = None
        if self.answers == "labels":
            chosen = Labels(tuple(state["labels"]), self.score == "mean", self.calibrated)
        return GenerateNetwork(backbone, self._prompt(), self._decoding(), float(state["characters"]), chosen)

    def untrained(self, strategy: str, network: StructuredNetwork, train: Data) -> StructuredNetwork:
        """With few_shot the network with some training rows in its prompt."""
        assert isinstance(network, GenerateNetwork)
        if strategy == "few_shot":
            network = network.clone()
            labels = labels_of(train)
            at = drawn(labels, self.shots, self.draw_seed, even=self.answers == "labels")
            network.examples = [(train.inputs[i], labels[i]) for i in at]
        return network

    def judged(self, network: StructuredNetwork, data: Data, run: Run, label: str = "judging") -> list[Any]:
        """The answers, with how likely the model finds the right ones."""
        assert isinstance(network, GenerateNetwork)
        return network.beside(super().judged(network, data, run, label), data.inputs, labels_of(data), run)

    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """The input itself, and the answer to the most similar training row."""
        found: dict[str, Callable[[], Baseline]] = {"nearest": partial(Nearest, train)}
        return found if self.answers == "labels" else {"copy": Copy, **found}

    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """chrF, BLEU and perplexity are of summed counts; exact matches and ROUGE-L are means of rows."""
        exact = np.array([t.split() == a.split() for t, a in zip(truth, answers, strict=True)], float)
        found = {"exact_match": Measure(partial(mean_of, exact))}
        if self.answers == "labels":
            return found
        letters, words, longest = chrf_counts(truth, answers), bleu_counts(truth, answers), rouge_l(truth, answers)
        told = all(isinstance(a, Written) for a in answers)
        log_p = np.array([a.log_p if told else np.nan for a in answers], float)
        tokens = np.array([a.tokens if told else np.nan for a in answers], float)
        return {
            "chrf": Measure(lambda w: chrf(w @ letters)),
            "bleu": Measure(lambda w: bleu(w @ words)),
            "rouge_l": Measure(partial(mean_of, longest)),
            **found,
            "perplexity": Measure(
                lambda w: np.exp(divide(-(w @ log_p), w @ tokens)), greater_is_better=False, scale="positive",
                rows=len(truth) if told else 0,
            ),
        }  # fmt: skip

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """Answers that are empty, and those that no model could give."""
        said = []
        empty = sum(not str(a).strip() for a in answers)
        if empty:
            said.append(f"{empty:,} of {len(answers):,} answers are empty")
        if self.answers == "labels" and (new := sorted(set(truth) - set(state["labels"]))):
            said.append(f"answers never seen in training, counted as missed: {', '.join(new)}")
        return tuple(said)

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """One minus the chrF of each row."""
        if self.answers == "labels":
            return super().errors(truth, answers)
        found = chrf(chrf_counts(truth, answers))
        return [float(1 - x) if x == x else 1.0 for x in found]

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """The words of the input, whatever their case."""
        return [" ".join(text_of(x).split()).casefold() for x in inputs]

    def strata(self, data: Data) -> tuple[str, ...]:
        """The answer, where it is one of a few."""
        return tuple(map(str, labels_of(data))) if self.answers == "labels" else super().strata(data)

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """The texts."""
        return super().shown([text_of(x) for x in inputs], truth, answers)


def _findings(kept: Sequence[Exchange], labels: set[str]) -> list[Finding]:
    """What is odd in rows that can be used."""
    found = []
    same = [one.line for one in kept if one.asks is not None and text_of(one.asks).strip() == one.answer]
    if same:
        message = f"the answer of {rows_text(len(same))} is the input itself"
        found.append(finding("copied", "info", message, len(same), same))
    answers: dict[str, set[str]] = defaultdict(set)
    for one in kept:
        answers[text_of(one.asks or "").casefold()].add(str(one.answer))
    several = [one.line for one in kept if len(answers[text_of(one.asks or "").casefold()]) > 1]
    if several:
        message = (
            f"{rows_text(len(several))} {verb(len(several), 'have')} an input that is answered otherwise elsewhere"
        )
        found.append(finding("several_answers", "warning", message, len(several), several))
    if labels and (new := [one.line for one in kept if one.answer not in labels]):
        message = f"the answer of {rows_text(len(new))} was never seen in training"
        found.append(finding("new_answer", "warning", message, len(new), new))
    return found
