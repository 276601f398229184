"""Tagging: a tag for every word, such as the entities of a text or its parts of speech."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.text import TextBackbone
from acclimate.data.account import Audit
from acclimate.data.findings import finding, rows_text
from acclimate.data.rows import Data
from acclimate.data.tagged import Sentence, is_entities, sentences, spans_of, words_of
from acclimate.errors import UserError
from acclimate.files import json_text
from acclimate.metrics.base import divide
from acclimate.metrics.intervals import IntArray
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.answering import answers_to
from acclimate.structured.base import Asked, Baseline, Measure, New, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.gate import accounted
from acclimate.structured.tag_baselines import Dictionary, WordCrf, crf_there
from acclimate.structured.tag_network import OTHER, TagNetwork
from acclimate.structured.word_probe import fit_head

LOWERED = tuple(k / 4 for k in range(17))  # nats: to 4


@dataclass(frozen=True)
class Tag(Structured):
    """A tag for every word: entities (B-, I-, O; F1 of whole entities) or one class a word (accuracy).

    Use when the answer lies inside the text. Rows: CoNLL files, JSONL or Parquet with `tokens` and `tags`, texts with
    `spans`, or a table with a word a row.
    """

    name: ClassVar[str] = "tag"
    noun: ClassVar[str] = "sentence"
    metric: ClassVar[str] = "entity_f1"
    model: ClassVar[str] = "minilm"
    # Batches of 8, since a sentence has many words and few sentences need the steps. From a fresh head with few
    # sentences the weights first learn "O" alone, so that most ways start from the probe.
    strategies: ClassVar[Mapping[str, Tune | None]] = {
        "linear_probe": None,
        "partial": Tune(moves="top:3", start="probe", learning_rate=1e-4, batch_size=8),
        "bitfit": Tune(moves="bias", start="probe", learning_rate=1e-3, batch_size=8),
        "lora": Tune(moves="lora", start="probe", learning_rate=5e-4, batch_size=8),
        "full": Tune(learning_rate=1e-4, batch_size=8),
        "lp_ft": Tune(start="probe", learning_rate=1e-4, batch_size=8),
        "gradual": Tune(unfreeze=0.5, learning_rate=1e-4, batch_size=8),
    }
    parts: ClassVar[tuple[str, ...]] = ("group",)
    readings: ClassVar[tuple[str, ...]] = ("max_length", "precision")
    candidates: ClassVar[tuple[str, ...]] = ("linear_probe", "lora", "lp_ft")
    averaged: int = 4  # blocks, from the last one down, whose hidden states are averaged
    form: bool = True  # whether capitals and digits are read beside them

    def __post_init__(self) -> None:
        if self.averaged < 1:
            raise UserError(f"averaged={self.averaged!r} is a number of blocks from the last one down: give 1 or more")

    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """Sentences with tags; those without, or with tags out of step, are counted with their lines."""
        found, table = sentences(source, asked.columns, grouped=role == "train")
        reasons = [s.reason or ("no_tags" if s.tags is None else None) for s in found]
        kept = [s for s, reason in zip(found, reasons, strict=True) if reason is None]
        data = Data(
            inputs=tuple(s.given for s in kept),
            labels=tuple(s.tags or () for s in kept),
            lines=tuple(s.line for s in kept),
            groups=tuple(str(s.group) for s in kept) if any(s.group for s in kept) else None,
            source=table.source,
            kind="text",
        )
        findings = _findings(kept, state)
        entities = Counter(kind for s in kept for _, _, kind in spans_of(s.tags or ()))
        counts = (
            entities
            if is_entities([t for s in kept for t in s.tags or ()])
            else Counter(t for s in kept for t in s.tags or ())
        )
        return data, accounted(self, table, role, reasons, findings, dict(counts.most_common()))

    def read_new(self, source: Any, asked: Asked) -> New:
        """Sentences to tag; tags in the source are not read."""
        found, table = sentences(source, asked.columns)
        return New(table, tuple(s.given for s in found), tuple("" if s.given else "no words to tag" for s in found))

    def given(self, inputs: Any) -> list[Any] | None:
        """A text, a list of texts, or a list of lists of words."""
        if isinstance(inputs, (list, tuple)) and inputs and not isinstance(inputs[0], Mapping):
            return [x if isinstance(x, str) else tuple(map(str, x)) for x in inputs]
        return [] if isinstance(inputs, (list, tuple)) and not inputs else None

    def learn(self, train: Data) -> State:
        """The tags, "O" first, and the mean number of words a row."""
        tags = sorted({t for row in labels_of(train) for t in row}, key=lambda t: (t != OTHER, t))
        if len(tags) < 2:
            raise UserError(f"every word has the tag {tags[0]!r}: there is nothing to learn" if tags else "no tags")
        if is_entities(tags):
            begun = {t[2:] for t in tags if t.startswith("B-")}
            tags += sorted(f"I-{kind}" for kind in begun if f"I-{kind}" not in tags)
        words = [len(row) for row in labels_of(train)]
        reads = {"averaged": self.averaged, "form": self.form}
        return {"tags": tags, "words_a_row": float(np.mean(words)), **reads}

    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """The text backbone with a linear layer on its tokens."""
        from acclimate.backbones import load

        backbone = load(model, **{k: reading[k] for k in self.readings if reading.get(k) is not None})
        if not isinstance(backbone, TextBackbone):
            raise UserError(f"tagging needs a text model, and {model!r} reads {backbone.modality}")
        return TagNetwork(
            backbone, state["tags"], state["words_a_row"], state.get("other_less", 0.0),
            averaged=state.get("averaged", 1), form=state.get("form", False),
        )  # fmt: skip

    def probe(
        self, network: StructuredNetwork, train: Data, valid: Data | None, run: Run
    ) -> tuple[StructuredNetwork, str]:
        """A logistic regression on the hidden states of words (src/acclimate/structured/word_probe.py)."""
        assert isinstance(network, TagNetwork)
        return fit_head(network, train, valid, run)

    def finished(
        self, network: StructuredNetwork, state: State, valid: Data | None, run: Run
    ) -> tuple[StructuredNetwork, State]:
        """How much the log-probability of "O" is lowered, so that entities have the best F1 on rows not learned from:
        where entities are rare the most probable tag of nearly every word is "O"."""
        assert isinstance(network, TagNetwork)
        if valid is None or not len(valid) or not is_entities(state["tags"]):
            return network, state
        truth = labels_of(valid)
        quiet = replace(run, progress=Progress())

        def read(rows: list[Encoded], batch: Batch) -> list[Any]:
            return list(zip(rows, network.scores(rows, batch), strict=True))

        counts = np.zeros((len(LOWERED), 3), int)  # of entities: found, there, said
        for tags, (row, scores) in zip(truth, answers_to(network, valid.inputs, quiet, read=read), strict=True):
            there = set(spans_of(tags))
            for at, less in enumerate(LOWERED):
                said = set(spans_of(network.decoded(row, scores, less)))
                counts[at] += len(said & there), len(there), len(said)
        network.other_less = LOWERED[best_lowering(counts)]
        return network, {**state, "other_less": network.other_less}

    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """Each word's usual tag; and a conditional random field on the form of words, where it is installed."""
        found: dict[str, Callable[[], Baseline]] = {"dictionary": partial(Dictionary, train)}
        if crf_there():
            found["crf"] = partial(WordCrf, train, run.seed)
        return found

    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """Precision, recall and F1 of entities (right: the same words and the same type), summed over rows; the share
        of words with the right tag."""
        right = np.array(
            [sum(t == a for t, a in zip(x, y, strict=True)) for x, y in zip(truth, answers, strict=True)], float
        )
        words = np.array([len(x) for x in truth], float)
        accuracy = Measure(lambda w: divide(w @ right, w @ words))
        if not is_entities(state["tags"]):
            return {"word_accuracy": accuracy}
        pairs = [(set(spans_of(x)), set(spans_of(y))) for x, y in zip(truth, answers, strict=True)]
        return {**_of_spans(pairs, "entity_"), "word_accuracy": accuracy}

    def per_class(
        self, truth: Sequence[Any], answers: Sequence[Any], state: State
    ) -> dict[str, dict[str, tuple[Measure, int]]]:
        """The same for each type of entity."""
        if not is_entities(state["tags"]):
            return {}
        pairs = [(set(spans_of(x)), set(spans_of(y))) for x, y in zip(truth, answers, strict=True)]
        found = {}
        for kind in sorted({k for one in pairs for side in one for _, _, k in side}):
            mine = [({s for s in x if s[2] == kind}, {s for s in y if s[2] == kind}) for x, y in pairs]
            cases = sum(len(x) for x, _ in mine)
            found[kind] = {name: (measure, cases) for name, measure in _of_spans(mine, "").items()}
        return found

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """Types that were never seen in training."""
        new = sorted({t for row in truth for t in row} - set(state["tags"]))
        return (f"tags never seen in training, counted as missed: {', '.join(new)}",) if new else ()

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """Words with a wrong tag."""
        return [float(sum(t != a for t, a in zip(x, y, strict=True))) for x, y in zip(truth, answers, strict=True)]

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """The words, whatever their case."""
        return [" ".join(word for word, _, _ in words_of(x)).casefold() for x in inputs]

    def strata(self, data: Data) -> tuple[str, ...]:
        """The rarest type in the row, so that it stands on both sides."""
        counts = Counter(kind for row in labels_of(data) for kind in {k for _, _, k in spans_of(row)})
        return tuple(
            min({k for _, _, k in spans_of(row)}, key=lambda k: (counts[k], k), default="") for row in labels_of(data)
        )

    def columns(self, inputs: Sequence[Any], answers: Sequence[Any]) -> dict[str, list[Any]]:
        """Tags joined by spaces; and entities as JSON with their places in the text, where the tags are of entities."""
        tags = [None if one is None else " ".join(one) for one in answers]
        if not is_entities([t for one in answers for t in one or ()]):
            return {"tags": tags}
        cells: list[str | None] = []
        for given, said in zip(inputs, answers, strict=True):
            if given is None or said is None:
                cells.append(None)
                continue
            words = words_of(given)
            text = given if isinstance(given, str) else " ".join(given)
            found = [
                {
                    "start": words[a][1],
                    "end": words[b - 1][2],
                    "label": kind,
                    "text": text[words[a][1] : words[b - 1][2]],
                }
                for a, b, kind in spans_of(said)
            ]
            cells.append(json_text(found))
        return {"tags": tags, "entities": cells}

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """The text, and the entities (or the words whose tags differ)."""
        found = []
        for given, x, y in zip(inputs, truth, answers, strict=True):
            words = [w for w, _, _ in words_of(given)]
            text = given if isinstance(given, str) else " ".join(given)
            found.append({"input": text, "truth": _told(words, x, y), "predicted": _told(words, y, x)})
        return found


def best_lowering(counts: IntArray) -> int:
    """Which of `LOWERED` to take by its entities found, there and said (k, 3) on m = `there` entities of rows held out.

    argmax F1(less) − (less − c)²/m: a few entities cannot tell offsets apart, so that these have to speak against what
    theory expects, c = log((2 − F)/F), by which a word is in an entity from probability F/2 on: that gives the best F1
    where probabilities are right and F is that F1 (Lipton et al. 2014, arXiv:1402.1892). F counts one entity more that
    is found and one that is not.
    """
    hits, there, said = counts.T
    reached = float(((2 * hits + 1) / (there + said + 2)).max())
    expected = min(math.log((2 - reached) / reached), LOWERED[-1])
    curve = 2 * hits / np.maximum(there + said, 1)
    return int(np.argmax(curve - (np.array(LOWERED) - expected) ** 2 / np.maximum(there, 1)))


def _told(words: Sequence[str], tags: Sequence[str], other: Sequence[str]) -> str:
    if is_entities([*tags, *other]):
        return "; ".join(f"{' '.join(words[a:b])} ({kind})" for a, b, kind in spans_of(tags)) or "none"
    return "; ".join(f"{w} ({t})" for w, t, o in zip(words, tags, other, strict=True) if t != o) or "none"


def _of_spans(pairs: Sequence[tuple[set[Any], set[Any]]], prefix: str) -> dict[str, Measure]:
    hits = np.array([len(x & y) for x, y in pairs], float)
    there = np.array([len(x) for x, _ in pairs], float)
    said = np.array([len(y) for _, y in pairs], float)
    rows = int(((there > 0) | (said > 0)).sum())
    return {
        f"{prefix}f1": Measure(lambda w: divide(2 * (w @ hits), w @ (there + said)), rows=rows),
        f"{prefix}precision": Measure(lambda w: divide(w @ hits, w @ said), rows=int((said > 0).sum())),
        f"{prefix}recall": Measure(lambda w: divide(w @ hits, w @ there), rows=int((there > 0).sum())),
    }


def _findings(kept: Sequence[Sentence], state: State | None) -> list[Any]:
    found = []
    moved = [s.line for s in kept if s.widened]
    if moved:
        message = f"spans of {rows_text(len(moved))} begin or end inside a word; they count as the whole word"
        found.append(finding("span_in_word", "warning", message, len(moved), moved))
    marked = [t for s in kept for t in s.tags or ()]
    if is_entities(marked):
        odd = [s.line for s in kept if any(_continues_nothing(s.tags or (), i) for i in range(len(s.tags or ())))]
        if odd:
            message = (
                f"{rows_text(len(odd))} have an I- tag that continues no entity; it is read as the beginning of one"
            )
            found.append(finding("loose_tag", "info", message, len(odd), odd))
        empty = [s.line for s in kept if not spans_of(s.tags or ())]
        if empty:
            message = f"{rows_text(len(empty))} hold no entity"
            found.append(finding("no_entity", "info", message, len(empty), empty))
    if state is not None:
        new = [s.line for s in kept if set(s.tags or ()) - set(state["tags"])]
        if new:
            message = f"{rows_text(len(new))} have tags that were never seen in training"
            found.append(finding("new_tag", "warning", message, len(new), new))
    return found


def _continues_nothing(tags: Sequence[str], i: int) -> bool:
    if not tags[i].startswith("I-"):
        return False
    before = tags[i - 1] if i else OTHER
    return before not in (f"B-{tags[i][2:]}", tags[i])
